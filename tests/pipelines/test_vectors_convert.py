"""What the program in the sandbox makes of shapes, run here: where they are and their numbers, or one fault."""

import sqlite3
import struct
import warnings
import zipfile
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from shapely.geometry import LineString, Point, box

from pipelines.sandbox.told import Fault
from pipelines.vectors import isolated
from pipelines.vectors.convert import converted
from tests.pipelines.vectors import SHAPES, package, packed, shapefile, table

MOST = replace(isolated.MOST, side=100)


@dataclass
class Image:
    """One that was made."""

    path: Path
    layer: str
    column: str


def made(path, most=MOST):
    """What became of a file."""
    folder = path.parent / f"{path.stem}-converted"
    folder.mkdir()
    with chdir(folder):
        return [Image(folder / one.file, one.layer, one.column) for one in converted(path, most)]


def refused(path, most=MOST):
    """The code of the fault, which the other side knows."""
    with pytest.raises(Fault) as caught:
        made(path, most)
    assert caught.value.code in isolated.VECTORS.faults
    return caught.value.code


def opened(image):
    with rasterio.open(image.path) as file:
        return file.read(1), file


# --- where shapes are -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [package, shapefile], ids=["package", "shapefile"])
def test_every_pixel_that_a_shape_touches_is_its_and_no_other(tmp_path, write):
    """The oracle: whether the squares of pixels meet the shapes, asked one by one; at their rims either is right."""
    shapes = [shape for shape in SHAPES if write is package or shape.geom_type.endswith("Polygon")]
    path = write(tmp_path / ("a.gpkg" if write is package else "a.zip"), shapes=shapes)
    (image,) = [one for one in made(path) if not one.column]
    found, file = opened(image)
    assert (file.crs.to_epsg(), file.nodata, file.dtypes[0]) == (4326, 0, "uint8")
    assert max(found.shape) == 100 + 2 * 5
    a, _, west, _, e, north = tuple(file.transform)[:6]
    pixels = np.array(
        [[box(west + a * c, north + e * (r + 1), west + a * (c + 1), north + e * r) for c in range(found.shape[1])]
         for r in range(found.shape[0])])  # fmt: skip
    everything = shapely.union_all([shape for shape in shapes if shape.geom_type != "Point"])
    touched = shapely.intersects(shapely.buffer(pixels, -1e-9 * a), everything)
    near = shapely.intersects(shapely.buffer(pixels, 1e-9 * a), everything)
    points = shapely.union_all([shape for shape in shapes if shape.geom_type == "Point"])
    around = shapely.distance(shapely.centroid(pixels), points) < 4 * a if not points.is_empty else np.zeros_like(near)
    beyond = shapely.distance(pixels, points) > 6 * a if not points.is_empty else np.ones_like(near)
    assert found[touched | around].all()
    assert not found[~near & beyond].any()


def test_the_grid_is_that_of_the_layer_and_holds_all_of_it(tmp_path):
    shapes = gpd.GeoSeries(SHAPES, crs="EPSG:4326").to_crs("EPSG:32631")
    (image,) = made(package(tmp_path / "a.gpkg", shapes=shapes, crs="EPSG:32631"))
    _, file = opened(image)
    west, south, east, north = shapes.total_bounds
    assert file.crs.to_epsg() == 32631
    assert file.bounds.left < west < east < file.bounds.right
    assert file.bounds.bottom < south < north < file.bounds.top
    assert abs(file.transform.a) == pytest.approx(max(east - west, north - south) / 100, rel=0.02)


def test_a_world_of_shapes_ends_where_the_world_does(tmp_path):
    (image,) = made(package(tmp_path / "a.gpkg", shapes=[box(-180, -90, 180, 90)]))
    found, file = opened(image)
    assert tuple(file.bounds) == (-180, -90, 180, 90)
    assert found.all()


def test_a_single_point_is_a_disc(tmp_path):
    (image,) = made(package(tmp_path / "a.gpkg", shapes=[Point(10, 50)]))
    found, file = opened(image)
    assert found.sum() == 69  # pixels within four and a half of the middle one
    row, col = file.index(10, 50)
    assert found[row, col] == 1


@pytest.mark.parametrize(("points", "shapes"), [
    ([(179.99, 10), (20, 60)], 2), ([(-180, 10), (20, 60)], 2), ([(0, 90), (20, 60)], 2), ([(0, -90), (180, -90)], 2),
])  # fmt: skip
def test_discs_at_the_end_of_the_world_end_there(tmp_path, points, shapes):
    (image,) = made(package(tmp_path / "a.gpkg", shapes=[Point(p) for p in points]))
    found, file = opened(image)
    rows, cols = np.nonzero(found)
    x, y = file.xy(rows, cols)
    steps = np.hypot((np.array(x)[:, None] - [p[0] for p in points]) / file.transform.a,
                     (np.array(y)[:, None] - [p[1] for p in points]) / file.transform.e)  # fmt: skip
    assert (steps.min(axis=1) < 5.5).all()
    assert len(set(steps.argmin(axis=1))) == shapes


# --- what their numbers are -------------------------------------------------------------------------------------------


def test_numbers_are_images_of_their_own_and_texts_none(tmp_path):
    shapes = [box(0, 0, 2, 2), box(1, 1, 3, 3), box(4, 0, 5, 1), Point(0.5, 1)]
    path = package(
        tmp_path / "grid.gpkg", shapes=shapes, damage=[0.25, 7, None, -1], name=list("abcd"), count=[1, 2, 3, 4]
    )
    images = made(path)
    assert [(one.layer, one.column) for one in images] == [("roads", ""), ("roads", "damage"), ("roads", "count")]
    damage, file = opened(images[1])
    assert (file.dtypes[0], np.isnan(file.nodata)) == ("float32", True)

    def at(image, x, y):
        return image[file.index(x, y)]

    assert [at(damage, *p) for p in ((0.2, 0.2), (1.5, 1.5), (2.9, 2.9), (0.5, 1))] == [0.25, 7, 7, -1]
    assert np.isnan(at(damage, 4.5, 0.5))  # it says nothing
    assert np.isnan(at(damage, 3.5, 0.5))  # nothing is there
    count, _ = opened(images[2])
    assert at(count, 4.5, 0.5) == 3


def test_points_and_lines_lie_over_polygons_wherever_they_stand_in_the_file(tmp_path):
    shapes = [Point(1, 1), LineString([(0, 3), (4, 3)]), box(0, 0, 4, 4)]
    images = made(package(tmp_path / "a.gpkg", shapes=shapes, value=[1, 2, 3]))
    found, file = opened(images[1])
    assert [found[file.index(*p)] for p in ((1, 1), (2, 3), (3.5, 0.5))] == [1, 2, 3]


def test_each_layer_is_told_by_its_name(tmp_path):
    path = package(tmp_path / "two.gpkg", layer="roads")
    table([box(600_000, 5e6, 600_100, 5_000_200)], "EPSG:32632", height=[3.5]).to_file(
        path, layer="houses", driver="GPKG"
    )
    with sqlite3.connect(path) as base:  # a table without shapes
        base.execute("CREATE TABLE notes (text TEXT)")
    images = made(path)
    assert [(one.layer, one.column) for one in images] == [("roads", ""), ("houses", ""), ("houses", "height")]
    assert opened(images[1])[1].crs.to_epsg() == 32632


def test_many_shapes_are_drawn_batch_by_batch(tmp_path):
    rng = np.random.default_rng(4)
    at = rng.random((45_000, 2)) * 80
    path = package(tmp_path / "many.gpkg", shapes=shapely.box(*at.T, *(at + 0.01).T), value=np.arange(45_000.0))
    images = made(path)
    found, file = opened(images[1])
    rows, cols = rasterio.transform.rowcol(file.transform, at[:, 0] + 0.005, at[:, 1] + 0.005)
    last = dict(zip(zip(rows, cols, strict=True), range(45_000), strict=True))
    same = sum(found[place] == value for place, value in last.items())
    assert same > 0.9 * len(last)  # a box at the rim of a pixel lies in its neighbour, too


def test_a_shapefile_may_lie_in_a_folder_of_its_zip(tmp_path):
    shapes = [Point(3, 4), Point(5, 6)]
    image, numbers = made(shapefile(tmp_path / "sites.zip", folder="data/", shapes=shapes, size=[1.5, 2]))
    assert (image.layer, numbers.column) == ("sites", "size")


@pytest.mark.parametrize(
    "name", ["l7_chiapas_labels/training_data.shp", "s2_large_northcarolina/labels/rcr_landcover.shp"]
)
def test_polygons_that_people_drew_cover_as_much_as_they_do(real_data, tmp_path, name):
    """Between their own area and that with a pixel more all around."""
    source = real_data / name
    with zipfile.ZipFile(tmp_path / "real.zip", "w") as archive:
        for part in source.parent.glob(f"{source.stem}.*"):
            archive.write(part, part.name)
    image = made(tmp_path / "real.zip", replace(MOST, side=2000))[0]
    found, file = opened(image)
    there = gpd.read_file(source)
    width, height = file.transform.a, -file.transform.e
    assert file.crs == there.crs
    wide = there.buffer(1.5 * max(width, height)).union_all().area
    assert there.union_all().area < found.sum() * width * height < wide


@pytest.fixture
def arc(tmp_path):
    """A circular string from 0 0 over 1 1 to 2 0, in a layer that says it holds polygons."""
    path = package(tmp_path / "arc.gpkg", shapes=SHAPES[:1])
    corners = np.array([0, 0, 1, 1, 2, 0.0]).tobytes()
    blob = b"GP\0\1\xe6\x10\0\0" + struct.pack("<BII", 1, 8, 3) + corners
    with sqlite3.connect(path) as base:
        triggers = base.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        base.executescript("".join(f"DROP TRIGGER {name};" for (name,) in triggers))
        base.execute("UPDATE roads SET geom = ?", (blob,))
    return path


def test_curves_are_followed(arc):
    (image,) = made(arc)
    found, file = opened(image)
    assert [found[file.index(*p)] for p in ((1, 0.99), (1, 0.01), (1 - 0.5**0.5, 0.5**0.5))] == [1, 0, 1]


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_shapes_without_a_place_are_refused(tmp_path):
    with warnings.catch_warnings(action="ignore"):  # it is what is wanted
        table([box(0, 0, 1, 1)], crs=None).to_file(tmp_path / "a.shp")
    assert refused(packed(tmp_path / "a.zip")) == "no_crs"
    for name, shape, code in (
        ("b", box(0, 0, 500, 1), "coordinates"), ("c", box(0, 0, 1, 95), "coordinates"),
        ("d", Point(float("inf"), 0), "coordinates"), ("e", Point(), "layers"),
    ):  # fmt: skip
        assert refused(package(tmp_path / f"{name}.gpkg", shapes=[shape])) == code
    local = 'LOCAL_CS["here",UNIT["metre",1]]'
    assert refused(package(tmp_path / "f.gpkg", shapes=[box(0, 0, 1, 1)], crs=local)) == "crs"


@pytest.mark.parametrize(("crs", "shape"), [
    ("EPSG:32632", box(-5e7, 0, 5e7, 1e6)), ("EPSG:3035", box(-2e7, 0, 2e7, 1)), ("EPSG:4326", Point(1e9, 0)),
    ("EPSG:32632", Point(1e308, 0)), ("EPSG:4326", LineString([(0, 0), (float("nan"), 1), (2, 2)])),
])  # fmt: skip
def test_coordinates_that_are_no_place_are_refused(tmp_path, crs, shape):
    assert refused(package(tmp_path / "a.gpkg", shapes=[shape], crs=crs)) == "coordinates"


def test_more_than_is_taken_is_refused(tmp_path):
    path = package(tmp_path / "a.gpkg")
    assert refused(path, replace(MOST, vertices=5)) == "size"
    table().to_file(tmp_path / "b.gpkg", layer="first", driver="GPKG")
    table().to_file(tmp_path / "b.gpkg", layer="second", driver="GPKG")
    assert refused(tmp_path / "b.gpkg", replace(MOST, layers=1)) == "size"
    said = {f"c{n}": [n] * len(SHAPES) for n in range(4)}
    images = made(package(tmp_path / "d.gpkg", **said), replace(MOST, columns=2))
    assert [one.column for one in images] == ["", "c0", "c1"]


def test_a_layer_that_says_it_has_no_place_has_none(tmp_path):
    path = package(tmp_path / "a.gpkg", shapes=SHAPES[:1])
    with sqlite3.connect(path) as base:
        base.execute("UPDATE gpkg_contents SET srs_id = 0")
        base.execute("UPDATE gpkg_geometry_columns SET srs_id = 0")
    assert refused(path) == "no_crs"


def test_layers_that_cannot_be_drawn_leave_the_others(tmp_path):
    path = package(tmp_path / "a.gpkg")
    table([Point()]).to_file(path, layer="empty", driver="GPKG")
    table([box(0, 0, 500, 1)]).to_file(path, layer="wide", driver="GPKG")
    assert [image.layer for image in made(path)] == ["roads"]


def test_what_a_zip_holds_is_what_its_endings_say(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.shp", b'{"type": "FeatureCollection", "features": []}')
    assert refused(tmp_path / "a.zip") == "unreadable"


def test_layers_of_one_name_are_told_apart_by_where_they_lie(tmp_path):
    for folder, x in (("one", 10), ("two", 20)):
        (tmp_path / folder).mkdir()
        table([box(x, 50, x + 1, 51)]).to_file(tmp_path / folder / "outline.shp")
    with zipfile.ZipFile(tmp_path / "both.zip", "w") as archive:
        archive.writestr("folder.shp/", b"")
        for part in sorted(tmp_path.glob("*/outline.*")):
            archive.write(part, f"{part.parent.name}/{part.name}")
    images = [image for image in made(tmp_path / "both.zip") if not image.column]
    assert [image.layer for image in images] == ["one/outline", "two/outline"]
    assert [round(opened(image)[1].bounds.left) for image in images] == [10, 20]


def test_numbers_beyond_single_precision_say_nothing(tmp_path):
    images = made(package(tmp_path / "a.gpkg", shapes=[box(0, 0, 1, 1), box(2, 0, 3, 1)], n=[1e300, 1.7e12]))
    found, file = opened(images[1])
    assert np.isnan(found[file.index(0.5, 0.5)])
    assert found[file.index(2.5, 0.5)] == np.float32(1.7e12)


def test_tables_without_shapes_are_no_layers(tmp_path):
    path = tmp_path / "a.gpkg"
    gpd.GeoDataFrame({"n": [1]}, geometry=[None], crs="EPSG:4326").to_file(path, driver="GPKG")
    assert refused(path) == "layers"
