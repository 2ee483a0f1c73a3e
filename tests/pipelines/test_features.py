"""Features as files: geopandas, pyproj and json read them as anybody would."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import geopandas
import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio.features
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import CRS, Geod, Transformer

from pipelines.products.corners import Outlines
from pipelines.products.features import write_features
from pipelines.products.geoparquet import Drawing
from pipelines.products.ground import ground_of, pixel_metres
from pipelines.products.layer import Kind, LayerSpec, RasterSpec, Resampling
from pipelines.products.lonlat import ToLonLat, geometries, outline
from pipelines.products.merge import merge, save
from pipelines.products.shapes import ShapeRules, trace
from pipelines.products.wkb import bounds, wkb
from swathe.card import ClassLabel
from swathe.errors import OutputError
from swathe.window import Window

CLASSES = (
    ClassLabel(value=0, name="land", colour="#d8c090", background=True),
    ClassLabel(value=1, name='say "water"', colour="#2060C0"),
    ClassLabel(value=2, name="forêt", colour="#208030"),
)
RESULT = RasterSpec("result", "uint8", 255, ("class",), Resampling.MODE)
SCORE = RasterSpec("score", "uint8", 255, ("score",), Resampling.AVERAGE, 1 / 254)
LAYER = LayerSpec(Kind.CLASSES, "Flood map", CLASSES, RESULT, SCORE)
WHEN = datetime(2024, 5, 1, 10, 30, tzinfo=UTC)
UTM = GeoBox((90, 120), Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32633")


def image_of(shape, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 2, 255], size=(shape[0] // 5 + 1, shape[1] // 5 + 1), p=[0.3, 0.3, 0.3, 0.1])
    image = np.kron(coarse, np.ones((5, 5))).astype(np.uint8)[: shape[0], : shape[1]].copy()
    image[rng.random(shape) < 0.05] = 1
    return image


def scores_of(shape):
    return (np.indices(shape).sum(axis=0) * 7 % 255).astype(np.uint8)


def write(image, grid, folder, *, cuts=1000, layer=LAYER, rules=ShapeRules(1), when=WHEN, threads=2, gpkg=False):  # noqa: B008
    ground, score, paths = ground_of(grid), scores_of(image.shape), []
    for row in range(0, image.shape[0], cuts):
        for col in range(0, image.shape[1], cuts):
            window = Window(row, col, min(cuts, image.shape[0] - row), min(cuts, image.shape[1] - col))
            rows, cols = window.within(Window(0, 0, *image.shape))
            paths.append(folder / f"{row}_{col}.npz")
            save(trace(image[rows, cols], score[rows, cols], window, ground.frame, layer, rules), paths[-1])
    spec = Drawing(layer, grid, ground, when, threads)
    return write_features(merge(paths, rules), spec, folder, gpkg=gpkg)


def test_what_geopandas_reads_is_what_gdal_traces(tmp_path):
    image = image_of(UTM.shape)
    written = write(image, UTM, tmp_path, cuts=50)
    table = geopandas.read_parquet(tmp_path / "features.parquet").set_index("id").sort_index()
    score, expected = scores_of(image.shape), {}
    for geometry, value in rasterio.features.shapes(image, mask=np.isin(image, [1, 2]), connectivity=4):
        polygon = shapely.geometry.shape(geometry)
        inside = rasterio.features.geometry_mask([polygon], image.shape, Affine.identity(), invert=True)
        placed = shapely.transform(polygon, lambda xy: xy * (10, -10) + (5e5, 5e6))
        expected[int(np.flatnonzero(inside)[0])] = (int(value), placed, inside)
    assert list(table.index) == sorted(expected)
    assert table.crs.to_epsg() == 32633
    for key, (value, polygon, inside) in expected.items():
        row = table.loc[key]
        assert (row["class"], row["name"]) == (value, CLASSES[value].name)
        assert shapely.normalize(row.geometry).equals_exact(shapely.normalize(polygon), 0)
        assert (row.pixels, row.area_m2) == (inside.sum(), inside.sum() * 100)
        assert row.mean_score == pytest.approx(score[inside].mean() / 254, abs=5e-5)
        assert row.datetime == WHEN
    assert written.count == len(expected)
    assert written.area_m2 == {v: float((image == v).sum() * 100) for v in (1, 2)}


def test_geojson_says_the_same_in_longitude_and_latitude(tmp_path):
    write(image_of(UTM.shape), UTM, tmp_path, cuts=64)
    table = geopandas.read_parquet(tmp_path / "features.parquet")
    collection = json.loads((tmp_path / "features.geojson").read_text(encoding="utf-8"))
    assert collection["type"] == "FeatureCollection"
    assert "crs" not in collection  # RFC 7946
    there = Transformer.from_crs(32633, 4326, always_xy=True)
    for feature, row in zip(collection["features"], table.itertuples(), strict=True):
        assert feature["id"] == row.id
        assert feature["properties"] == {
            "class": row._2, "name": row.name, "pixels": row.pixels, "area_m2": row.area_m2,
            "mean_score": row.mean_score, "datetime": "2024-05-01T10:30:00Z",
        }  # fmt: skip
        polygon = shapely.geometry.shape(feature["geometry"])
        assert shapely.is_ccw(polygon.exterior)
        assert not any(shapely.is_ccw(r) for r in polygon.interiors)
        expected = shapely.transform(row.geometry, lambda xy: np.stack(there.transform(*xy.T), axis=1))
        assert polygon.equals_exact(expected, 7.2e-8)  # half a step in both directions
    assert len(collection["features"]) == len(table)


def test_geoparquet_is_version_1_1_with_a_box_per_row(tmp_path):
    write(image_of(UTM.shape), UTM, tmp_path)
    file = pq.ParquetFile(tmp_path / "features.parquet")
    geo = json.loads(file.metadata.metadata[b"geo"])
    column = geo["columns"]["geometry"]
    assert (geo["version"], geo["primary_column"], column["encoding"]) == ("1.1.0", "geometry", "WKB")
    assert CRS.from_json_dict(column["crs"]).to_epsg() == 32633
    assert column["covering"]["bbox"]["xmin"] == ["bbox", "xmin"]
    table = geopandas.read_parquet(tmp_path / "features.parquet")
    boxes = file.read(["bbox"]).column("bbox").to_pylist()
    assert [tuple(b.values()) for b in boxes] == [tuple(r) for r in table.bounds.to_numpy().tolist()]
    assert column["bbox"] == table.total_bounds.tolist()
    some = geopandas.read_parquet(tmp_path / "features.parquet", bbox=(500000, 4999700, 500200, 5000000))
    assert 0 < len(some) < len(table)


def test_the_same_polygons_give_the_same_bytes_whatever_the_threads(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.products.features._POINTS", 200)
    contents = set()
    for threads in (1, 3):
        written = write(image_of(UTM.shape), UTM, tmp_path, cuts=40, threads=threads, gpkg=True)
        contents.add(tuple(p.read_bytes() for p in written.files))
    assert len(contents) == 1
    assert [p.name for p in written.files] == ["features.parquet", "features.geojson", "features.gpkg"]


def test_many_rows_make_several_row_groups_that_geopackage_keeps_together(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.products.geoparquet._ROWS", 20)
    written = write(image_of(UTM.shape), UTM, tmp_path, cuts=30, gpkg=True)
    assert pq.ParquetFile(written.files[0]).num_row_groups > 2
    table, package = geopandas.read_parquet(written.files[0]), geopandas.read_file(written.files[2])
    assert package.crs.to_epsg() == 32633
    assert shapely.equals_exact(package.geometry.to_numpy(), table.geometry.to_numpy(), 0).all()
    assert package["name"].tolist() == table["name"].tolist()
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.endswith(".npz")) == sorted(
        p.name for p in written.files
    )


def test_no_polygons_make_empty_files_that_can_be_read(tmp_path):
    written = write(np.zeros(UTM.shape, np.uint8), UTM, tmp_path, gpkg=True)
    table = geopandas.read_parquet(written.files[0])
    assert (len(table), table.crs.to_epsg(), list(table.columns)[:3]) == (0, 32633, ["id", "class", "name"])
    assert json.loads(written.files[1].read_text()) == {"type": "FeatureCollection", "features": []}
    assert len(geopandas.read_file(written.files[2])) == 0
    assert (written.count, written.area_m2) == (0, {})


def test_columns_that_are_not_known_are_left_out(tmp_path):
    bare = LayerSpec(Kind.CLASSES, "t", CLASSES, RESULT)
    write(image_of(UTM.shape), UTM, tmp_path, layer=bare, when=None)
    assert list(geopandas.read_parquet(tmp_path / "features.parquet").columns) == [
        "id", "class", "name", "pixels", "area_m2", "geometry",
    ]  # fmt: skip


def test_a_failure_leaves_the_older_files_as_they_were(tmp_path):
    def broken():
        yield from merge([], ShapeRules())
        raise OutputError("lost", code="output.part")

    (tmp_path / "features.parquet").write_bytes(b"old")
    spec = Drawing(LAYER, UTM, ground_of(UTM), WHEN)
    with pytest.raises(OutputError, match="lost"):
        write_features(broken(), spec, tmp_path)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("features.parquet", b"old")]


def test_a_folder_that_is_not_there_is_told_by_name(tmp_path):
    spec = Drawing(LAYER, UTM, ground_of(UTM), WHEN)
    with pytest.raises(OutputError):
        write_features(iter(()), spec, tmp_path / "nowhere")


# --- text and binary --------------------------------------------------------------------------------------------------

degrees = st.tuples(st.floats(-180, 180), st.floats(-90, 90))


@settings(deadline=None)
@given(points=st.lists(degrees, min_size=1, max_size=12), rings=st.integers(1, 3))
def test_any_coordinate_is_written_with_seven_decimals(points, rings):
    points = [(lon / 3, lat) for lon, lat in points]  # narrow enough not to look like crossing the antimeridian
    ring = np.array([*points, points[0]])
    one = np.tile(ring, (rings, 1))
    starts = np.arange(rings + 1) * len(ring)
    outlines = Outlines(np.zeros(one.shape, np.int32), starts, np.array([0, rings]))
    ((kind, text),) = geometries(one, outlines)
    assert kind == b"Polygon"
    found = json.loads(bytes(text))
    assert [len(r) for r in found] == [len(ring)] * rings
    assert np.abs(np.array(found[-1]) - ring).max() <= 5.01e-8
    assert all(len(n.split(".")[1]) == 7 for n in bytes(text).decode().replace("[", "").replace("]", "").split(","))


def test_binary_is_what_shapely_reads():
    image = image_of((40, 40), seed=3)
    from pipelines.products.regions import Frame
    from pipelines.products.simplify import polygons_of

    shapes = trace(image, None, Window(0, 0, 40, 40), Frame(image.shape), LAYER, ShapeRules(1)).closed
    points = shapes.outlines.points.astype(float)
    expected = polygons_of(shapes.outlines)
    assert shapely.equals_exact(shapely.from_wkb(wkb(points, shapes.outlines)), expected, 0).all()
    assert np.array_equal(bounds(points, shapes.outlines), shapely.bounds(expected))


@pytest.mark.parametrize(
    "grid",
    [
        GeoBox((60, 60), Affine(1000, 0, 8e5 - 3e4, 0, -1000, 2e6), "EPSG:32660"),  # the last UTM zone before 180 E
        GeoBox((60, 60), Affine(1000, 0, 20_037_508 - 3e4, 0, -1000, 3e4), "EPSG:3857"),
        GeoBox((60, 60), Affine(1000, 0, -20_037_508 - 3e4, 0, -1000, 3e4), "EPSG:3857"),
        GeoBox((60, 60), Affine(0.009, 0, 180 - 0.27, 0, -0.009, 0.27), "EPSG:4326"),
    ],
    ids=["UTM", "Mercator on to the east", "Mercator on to the west", "degrees"],
)
def test_polygons_over_the_antimeridian_are_cut_there(tmp_path, grid):
    image = np.zeros(grid.shape, np.uint8)
    image[5:50, 5:55] = 1
    image[20:30, 20:30] = 2
    image[40:44, 2:4] = 2
    write(image, grid, tmp_path)
    features = json.loads((tmp_path / "features.geojson").read_text())["features"]
    by_class = {}
    for feature in features:
        by_class.setdefault(feature["properties"]["class"], []).append(feature["geometry"])
    (whole,) = by_class[1]
    assert whole["type"] == "MultiPolygon"
    parts = shapely.get_parts(shapely.geometry.shape(whole))
    assert {p.bounds[0] >= 0 for p in parts} == {True, False}
    assert all(p.bounds[2] - p.bounds[0] < 10 for p in parts)
    assert all(shapely.is_ccw(p.exterior) and p.is_valid for p in parts)
    area = sum(abs(Geod(ellps="WGS84").geometry_area_perimeter(p)[0]) for p in parts)
    assert area == pytest.approx((45 * 50 - 100) * 1e6, rel=0.02)
    assert any(g["type"] == "Polygon" for g in by_class[2])


WHOLE, EQUAL = 20_037_508.342789244, 17_367_530.44516138
WIDE = {
    "all longitudes": GeoBox((36, 72), Affine(5, 0, -180, 0, -5, 90), "EPSG:4326"),
    "from 0 to 360": GeoBox((36, 72), Affine(5, 0, 0, 0, -5, 90), "EPSG:4326"),
    "a bit on": GeoBox((36, 72), Affine(5, 0, -181, 0, -5, 90), "EPSG:4326"),
    "most longitudes": GeoBox((36, 68), Affine(5, 0, -170, 0, -5, 90), "EPSG:4326"),
    "another datum": GeoBox((34, 72), Affine(5, 0, 3, 0, -5, 85), "EPSG:4314"),
    "Mercator": GeoBox((64, 64), Affine(WHOLE / 32, 0, -WHOLE, 0, -WHOLE / 32, WHOLE), "EPSG:3857"),
    "Mercator of the Pacific": GeoBox((48, 64), Affine(WHOLE / 32, 0, -WHOLE, 0, -WHOLE / 32, 1.5e7), "EPSG:3832"),
    "equal areas": GeoBox((19, 48), Affine(EQUAL / 24, 0, -EQUAL, 0, -EQUAL / 24, 7e6), "EPSG:6933"),
}
POLAR = {
    "the north": GeoBox((80, 80), Affine(50_000, 0, -1_990_000, 0, -50_000, 2e6), "EPSG:3413"),
    "the south": GeoBox((80, 80), Affine(50_000, 0, -1_990_000, 0, -50_000, 2e6), "EPSG:3031"),
}


def flat_world(shape):
    """Sea around land, some of it across the seam of the map; a belt around it all."""
    image = np.ones(shape, np.uint8)
    image[6:9] = 2
    image[12:16, -6:] = image[12:16, :4] = 0
    image[10:14, 20:45] = 0
    image[11:13, 25:30] = 2
    return image


def polar_world(shape):
    """A cap of ice with the pole in it, in a round sea; an island."""
    rows, cols = np.indices(shape)
    ragged = 0.5 + (rows + cols) % 2  # a long straight edge is bent in longitude and latitude
    away = np.hypot(rows - 39.5, cols - 39.3)
    image = np.select([away < 7 + ragged, away < 35 + ragged], [2, 1], 0).astype(np.uint8)
    image[np.hypot(rows - 60, cols - 30) < 4 + ragged] = 0
    return image


@pytest.mark.parametrize(
    ("grid", "world"),
    [*((g, flat_world) for g in WIDE.values()), *((g, polar_world) for g in POLAR.values())],
    ids=[*WIDE, *POLAR],
)
def test_every_pixel_lies_in_the_polygons_of_its_class_and_in_no_other(tmp_path, grid, world):
    image = world(grid.shape)
    write(image, grid, tmp_path)
    rows, cols = (v.ravel() for v in np.indices(grid.shape) + 0.5)
    a, _, c, _, e, f = grid.transform[:6]
    lon, lat = Transformer.from_crs(grid.crs.proj, "OGC:CRS84", always_xy=True).transform(c + a * cols, f + e * rows)
    lon = (lon + 180) % 360 - 180
    features = json.loads((tmp_path / "features.geojson").read_text())["features"]
    for value in (1, 2):
        mine = [shapely.geometry.shape(g["geometry"]) for g in features if g["properties"]["class"] == value]
        assert mine
        for shape in mine:
            west, south, east, north = shape.bounds
            assert shape.is_valid
            assert -180 <= west < east <= 180
            assert -90 <= south < north <= 90
            assert all(shapely.is_ccw(p.exterior) for p in shapely.get_parts(shape))
        held = np.logical_or.reduce([shapely.contains_xy(shape, lon, lat) for shape in mine])
        np.testing.assert_array_equal(held, image.ravel() == value)


def test_longitudes_beyond_180_come_back():
    grid = GeoBox((5, 10), Affine(1, 0, 185, 0, -1, 10), "EPSG:4326")
    points, ring = outline(grid)
    ((kind, text),) = geometries(ToLonLat(grid)(points, ring), ring)
    assert kind == b"Polygon"
    assert shapely.Polygon(json.loads(bytes(text))[0]).bounds == (-175, 5, -165, 10)


# --- square metres --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top", [85.0, 48.0, 0.5, -60.0])
def test_areas_on_a_geographic_grid_are_geodesic(tmp_path, top):
    grid = GeoBox((40, 30), Affine(0.05, 0, 20, 0, -0.05, top), "EPSG:4326")
    write(image_of(grid.shape), grid, tmp_path, cuts=16)
    table = geopandas.read_parquet(tmp_path / "features.parquet")
    for row in table.itertuples():
        # Parallels are no geodesics: cut them finely.
        fine = shapely.segmentize(row.geometry, 0.002)
        expected = abs(Geod(ellps="WGS84").geometry_area_perimeter(shapely.geometry.polygon.orient(fine))[0])
        assert row.area_m2 == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize(
    ("crs", "corner", "metres"),
    [
        ("EPSG:32633", (5e5, 5.3e6), 10), ("EPSG:3035", (4.3e6, 3e6), 10), ("EPSG:3857", (2e6, 7e6), 10),
        ("EPSG:2263", (9e5, 2e5), 0.3048006 * 10), ("EPSG:3413", (1e6, -1e6), 10),
    ],
)  # fmt: skip
def test_areas_on_a_projected_grid(tmp_path, crs, corner, metres):
    grid = GeoBox((100, 100), Affine(10, 0, corner[0], 0, -10, corner[1]), crs)
    image = np.full(grid.shape, 1, np.uint8)
    write(image, grid, tmp_path)
    (area,) = geopandas.read_parquet(tmp_path / "features.parquet").area_m2
    there = Transformer.from_crs(crs, 4326, always_xy=True)
    box = shapely.segmentize(shapely.box(*grid.boundingbox), 50)
    outline = shapely.transform(box, lambda xy: np.stack(there.transform(*xy.T), axis=1))
    truth = abs(Geod(ellps="WGS84").geometry_area_perimeter(outline)[0])
    assert area == pytest.approx(truth, rel=0.011)
    across, down = pixel_metres(grid)
    assert across * down * 10_000 == pytest.approx(truth, rel=0.011)
    if crs not in ("EPSG:3857", "EPSG:3413"):
        assert area == pytest.approx((metres * 100) ** 2, rel=1e-6)
    assert ("scale" in ground_of(grid).method) == (crs in ("EPSG:3857", "EPSG:3413"))
