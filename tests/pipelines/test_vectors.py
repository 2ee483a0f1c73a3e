"""Vector files become rasters in the sandbox: where shapes are and what their numbers are, or one reason why not."""

import json
import sqlite3
import struct
import zipfile
from contextlib import suppress
from dataclasses import replace

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from shapely.geometry import LineString, MultiPolygon, Point, Polygon, box

from pipelines.imagery.archive import Limits
from pipelines.sandbox import conversion
from pipelines.sandbox.bounds import Bounds
from pipelines.sandbox.isolation import Isolation, isolation
from pipelines.vectors import isolated
from pipelines.vectors.isolated import MOST, images_of, is_vectors
from swathe.errors import GridError, ImageryError, LimitError

pytestmark = pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")
SMALL = replace(MOST, side=100)
SHAPES = [
    Polygon([(0, 0), (1, 0.1), (0.7, 2)], [[(0.3, 0.3), (0.6, 0.3), (0.6, 0.8)]]),
    LineString([(0, 0), (5, 4.3), (5, 1)]), Point(2.2, 1.7),
    MultiPolygon([box(3, 0.2, 4, 0.9), box(1.5, 3, 1.51, 3.01)]),
]  # fmt: skip


def table(shapes=SHAPES, crs="EPSG:4326", **columns):
    return gpd.GeoDataFrame(columns, geometry=list(shapes), crs=crs)


def package(path, layer="roads", **given):
    table(**given).to_file(path, layer=layer, driver="GPKG")
    return path


def packed(path, folder=""):
    """A Shapefile in a zip, as people send them."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for part in sorted(path.parent.glob(f"{path.stem}.*")):
            if part != path:
                archive.write(part, f"{folder}{part.name}")
    return path


def shapefile(path, folder="", **given):
    table(**given).to_file(path.with_suffix(".shp"))
    return packed(path, folder)


def made(path, **more):
    return images_of(path, path.parent / "converted", **{"most": SMALL, **more})


def refused(path, **more):
    """The problem; nothing is left beside the file."""
    before = sorted(path.parent.iterdir())
    with pytest.raises((ImageryError, LimitError)) as caught:
        made(path, **more)
    assert sorted(path.parent.iterdir()) == before
    problem = caught.value.problem
    assert problem.hint
    assert str(path.parent) not in problem.detail
    return problem


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


# --- what their numbers are -------------------------------------------------------------------------------------------


def test_numbers_are_images_of_their_own_and_texts_none(tmp_path):
    shapes = [box(0, 0, 2, 2), box(1, 1, 3, 3), box(4, 0, 5, 1), Point(0.5, 1)]
    path = package(
        tmp_path / "grid.gpkg", shapes=shapes, damage=[0.25, 7, None, -1], name=list("abcd"), count=[1, 2, 3, 4]
    )
    images = made(path)
    assert [(one.layer, one.column) for one in images] == [("roads", ""), ("roads", "damage"), ("roads", "count")]
    assert [one.path.name for one in images] == ["grid.tif", "grid_damage.tif", "grid_count.tif"]
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
    assert [one.path.name for one in images] == ["two_roads.tif", "two_houses.tif", "two_houses_height.tif"]
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
    assert same > 0.6 * len(last)  # a box at the rim of a pixel lies in its neighbour, too
    assert np.nanmax(found) > 44_900


def test_a_shapefile_may_lie_in_a_folder_of_its_zip(tmp_path):
    (image, numbers) = made(
        shapefile(tmp_path / "sites.zip", folder="data/", shapes=[Point(3, 4), Point(5, 6)], size=[1.5, 2])
    )
    assert (image.path.name, image.layer, numbers.column) == ("sites.tif", "sites", "size")


# --- what is one ------------------------------------------------------------------------------------------------------


def test_it_is_known_by_its_bytes_or_its_ending(tmp_path):
    path = package(tmp_path / "a.gpkg")
    named = tmp_path / "download"
    named.write_bytes(path.read_bytes())
    assert is_vectors(path)
    assert is_vectors(named)
    assert is_vectors(shapefile(tmp_path / "b.zip", shapes=SHAPES[:1]))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("a.tif", b"II*\0")
        archive.writestr("a.shp", b"")
    assert not is_vectors(tmp_path / "c.zip")
    with sqlite3.connect(tmp_path / "d.sqlite") as base:
        base.execute("CREATE TABLE notes (text TEXT)")
    assert not is_vectors(tmp_path / "d.sqlite")


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_damaged_files_are_refused(tmp_path):
    whole = package(tmp_path / "whole.gpkg", shapes=SHAPES * 500).read_bytes()
    rng = np.random.default_rng(9)
    for n in (101, len(whole) // 2):
        path = tmp_path / f"cut{n}.gpkg"
        path.write_bytes(whole[:n])
        assert refused(path).code in ("vectors.unreadable", "vectors.layers")
    broken = bytearray(whole)
    for at in rng.integers(4096, len(whole), 400):
        broken[at] = rng.integers(0, 256)
    (tmp_path / "broken.gpkg").write_bytes(broken)
    with suppress(ImageryError, LimitError):  # by chance it may still be one
        made(tmp_path / "broken.gpkg")


@pytest.mark.parametrize(("name", "data", "code"), [
    ("a.gpkg", b"SQLite format 3\0" + bytes(500), "unreadable"), ("a.gpkg", b"", "unreadable"),
    ("a.shp", b"\0\0\x27\x0a" + bytes(96), "alone"),
])  # fmt: skip
def test_what_is_none_is_refused_by_name(tmp_path, name, data, code):
    (tmp_path / name).write_bytes(data)
    problem = refused(tmp_path / name)
    assert (problem.code, name in problem.detail) == (f"vectors.{code}", True)


def test_shapes_without_a_place_are_refused(tmp_path):
    table([box(0, 0, 1, 1)], crs=None).to_file(tmp_path / "a.shp")
    assert refused(packed(tmp_path / "a.zip")).code == "vectors.no_crs"
    assert refused(package(tmp_path / "b.gpkg", shapes=[box(0, 0, 500, 1)])).code == "vectors.coordinates"
    assert refused(package(tmp_path / "c.gpkg", shapes=[box(0, 0, 1, 95)])).code == "vectors.coordinates"
    assert refused(package(tmp_path / "d.gpkg", shapes=[Point()])).code == "vectors.layers"
    assert refused(package(tmp_path / "e.gpkg", shapes=[Point(float("inf"), 0)])).code == "vectors.coordinates"
    assert issubclass(isolated.VECTORS.faults["no_crs"][0], GridError)


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


def test_more_than_is_taken_is_refused(tmp_path):
    path = package(tmp_path / "a.gpkg")
    assert refused(path, most=replace(SMALL, vertices=5)).code == "vectors.size"
    table().to_file(path, layer="second", driver="GPKG")
    assert refused(path, most=replace(SMALL, layers=1)).code == "vectors.size"
    assert refused(path, bounds=Bounds(seconds=0.05)).code == "vectors.time"
    assert refused(path, limits=Limits(side=40)).code == "image.size"


def test_an_archive_is_looked_at_before_anything_opens_it(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.shp", bytes(50_000_000))
    with pytest.raises(ImageryError) as caught:
        is_vectors(path)
    assert caught.value.refined == "archive.ratio"


def test_where_no_program_can_be_shut_in_none_is_run(tmp_path, monkeypatch):
    path = package(tmp_path / "a.gpkg")
    monkeypatch.setattr(conversion, "isolation", lambda: Isolation("none", None, "bubblewrap is not installed"))
    problem = refused(path)
    assert (problem.code, "gdal_rasterize" in problem.hint) == ("vectors.isolation", True)


@pytest.mark.parametrize("said", [
    {"file": "../../etc/passwd"}, {"layer": ["a"]}, {"column": 3}, {"alone": "yes"}, {"file": "2.tif"}, {"file": None},
])  # fmt: skip
def test_a_program_that_was_taken_over_gains_nothing(tmp_path, monkeypatch, said):
    image = {"file": "1.tif", "layer": "a", "column": "", "alone": True} | said
    run = (f"import json; open('1.tif', 'wb').write(b'x' * 99); "
           f"open('told.json', 'w').write({json.dumps(json.dumps({'images': [image]}))})")  # fmt: skip
    path = package(tmp_path / "a.gpkg")
    monkeypatch.setattr(isolated, "VECTORS", replace(isolated.VECTORS, run=run))
    assert refused(path).code == "vectors.unreadable"
