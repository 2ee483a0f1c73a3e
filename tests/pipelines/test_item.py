"""The STAC Item: validated against the core schemas that pystac carries and the extensions' own, all offline."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import replace
from datetime import UTC, datetime

import jsonschema
import numpy as np
import pystac
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from pipelines.products.cog import assemble
from pipelines.products.features import Drawing, write_features
from pipelines.products.ground import ground_of
from pipelines.products.item import (
    ItemFacts,
    ModelFacts,
    Source,
    bbox_of,
    checksum,
    footprint,
    make_item,
    slug,
    write_item,
)
from pipelines.products.layer import Kind, LayerSpec, RasterSpec, Resampling
from pipelines.products.preview import Wording, write_preview
from pipelines.products.regions import Frame
from pipelines.products.shapes import ShapeRules, finished, trace
from swathe.card import ClassLabel
from swathe.errors import OutputError
from swathe.window import Window

CLASSES = (
    ClassLabel(value=0, name="No water", colour="#d8c090", background=True),
    ClassLabel(value=1, name="Flooded forêt", colour="#2060c0"),
)
RESULT = RasterSpec("result", "uint8", 255, ("class",), Resampling.MODE)
SCORE = RasterSpec("score", "uint8", 255, ("score",), Resampling.AVERAGE, 1 / 254)
LAYER = LayerSpec(Kind.CLASSES, "Flood map", CLASSES, RESULT, SCORE)
MODEL = ModelFacts(
    "prithvi", "Prithvi", "ab" * 32, "Apache-2.0", "IBM", {"model": "https://e.org/m", "paper": "https://e.org/p"}
)
GRID = GeoBox((60, 80), Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32633")
MADE = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
SEEN = datetime(2024, 5, 1, 10, 30, tzinfo=UTC)
FACTS = ItemFacts(
    "flood-1", "Flood map", GRID, LAYER, MODEL, MADE, SEEN, description="A flood.",
    sources=(Source("/data/B02.tif", "B02", "image/tiff"), Source("https://e.org/item.json")),
    software={"swathe": "0.1.0", "gdal": "3.10"}, lineage="Prithvi over Sentinel-2", counts={0: 30, 1: 10},
    properties={"swathe:valid_fraction": 0.98},
)  # fmt: skip


def result_in(folder, layer=LAYER, grid=GRID):
    image = np.zeros((layer.result.count, *grid.shape), layer.result.dtype)
    image[:, 10:20, 10:30] = 1
    for raster in layer.rasters:
        profile = {"driver": "GTiff", "height": grid.shape[0], "width": grid.shape[1], "count": raster.count}
        with rasterio.open(folder / "part", "w", dtype=raster.dtype, transform=grid.transform, **profile) as file:
            file.write(image)
        assemble([(folder / "part", Window(0, 0, *grid.shape))], grid, layer, raster, folder / f"{raster.name}.tif")
    (folder / "part").unlink()
    if layer.kind is Kind.CLASSES:
        found = trace(image[0], None, Window(0, 0, *grid.shape), Frame(grid.shape), layer, ShapeRules())
        write_features([found.closed], Drawing(layer, grid, ground_of(grid), SEEN), folder)
    write_preview(folder / "result.tif", layer, grid, folder / "preview.png", Wording("t"))
    return folder


def read(folder):
    return json.loads((folder / "item.json").read_text(encoding="utf-8"))


def schemas(real_data):
    """Schema of each extension by its URL. Of the classification extension only version 1.1 is at hand, whose rules
    for classes are those of version 2, but for the name that version 2 demands (tested apart)."""
    folder, found = real_data / "stac_schemas", {}
    if not folder.is_dir():
        pytest.skip(f"no schemas of STAC extensions at {folder}")
    for path in folder.glob("*.json"):
        schema = json.loads(path.read_text())
        found[schema.get("$id", "").rstrip("#")] = schema
    old = "https://stac-extensions.github.io/classification/v1.1.0/schema.json"
    text = json.dumps(found[old]).replace("classification/v1.1.0", "classification/v2.0.0")
    found[old.replace("v1.1.0", "v2.0.0")] = json.loads(text)
    return found


def validate(item, known):
    """All of it; returns which extensions were checked."""
    from pystac.validation.stac_validator import JsonSchemaSTACValidator

    JsonSchemaSTACValidator().validate_core(item, pystac.STACObjectType.ITEM, "1.1.0")
    for url in item["stac_extensions"]:
        jsonschema.Draft7Validator(known[url]).validate(item)
    return {url.split("/")[3] for url in item["stac_extensions"]}


def test_an_item_is_valid_with_all_its_extensions(tmp_path, real_data):
    write_item(FACTS, result_in(tmp_path))
    checked = validate(read(tmp_path), schemas(real_data))
    assert checked == {"projection", "processing", "file", "raster", "classification", "table"}


def test_validation_would_notice(tmp_path, real_data):
    write_item(FACTS, result_in(tmp_path))
    known, item = schemas(real_data), read(tmp_path)
    item["assets"]["data"]["classification:classes"][0]["color_hint"] = "#2060c0"
    with pytest.raises(jsonschema.ValidationError):
        validate(item, known)
    item = read(tmp_path)
    item["properties"]["proj:shape"] = "large"
    with pytest.raises(jsonschema.ValidationError):
        validate(item, known)


def test_pystac_reads_it_back_with_files_that_are_there(tmp_path):
    write_item(FACTS, result_in(tmp_path))
    item = pystac.Item.from_file(str(tmp_path / "item.json"))
    assert (item.id, item.datetime, item.properties["proj:code"]) == ("flood-1", SEEN, "EPSG:32633")
    assert item.properties["proj:transform"] == [10, 0, 500000, 0, -10, 5000000]
    assert item.properties["proj:shape"] == [60, 80]
    assert item.properties["proj:bbox"] == [500000, 4999400, 500800, 5000000]
    for key, asset in item.assets.items():
        assert asset.href.startswith("./")
        if key != "report":
            content = (tmp_path / asset.href).read_bytes()
            assert asset.extra_fields["file:size"] == len(content)
            assert asset.extra_fields["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
    assert set(item.assets) == {
        "data", "score", "features", "features-geojson", "preview", "class-names", "style-qgis", "report",
    }  # fmt: skip
    assert "file:checksum" not in item.assets["report"].extra_fields
    assert item.assets["data"].media_type == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert item.assets["features"].extra_fields["table:row_count"] == 1


def test_classes_carry_colour_name_and_share(tmp_path):
    write_item(FACTS, result_in(tmp_path))
    classes = read(tmp_path)["assets"]["data"]["classification:classes"]
    assert classes == [
        {"value": 0, "name": "no-water", "title": "No water", "description": "No water", "color_hint": "D8C090",
         "count": 30, "percentage": 75.0},
        {"value": 1, "name": "flooded-foret", "title": "Flooded forêt", "description": "Flooded forêt",
         "color_hint": "2060C0", "count": 10, "percentage": 25.0},
        {"value": 255, "name": "nodata", "description": "no data", "nodata": True},
    ]  # fmt: skip
    from pystac.extensions.classification import Classification

    item = pystac.Item.from_file(str(tmp_path / "item.json"))
    item.assets["data"].extra_fields["classification:classes"]
    assert [Classification(c).name for c in classes] == ["no-water", "flooded-foret", "nodata"]


def test_rasters_say_type_nodata_scale_and_statistics(tmp_path):
    write_item(FACTS, result_in(tmp_path))
    assets = read(tmp_path)["assets"]
    assert (assets["data"]["data_type"], assets["data"]["nodata"]) == ("uint8", 255)
    assert assets["data"]["raster:spatial_resolution"] == pytest.approx(10, rel=1e-3)
    assert assets["score"]["raster:scale"] == 1 / 254
    statistics = assets["data"]["bands"][0]["statistics"]
    assert (statistics["minimum"], statistics["maximum"]) == (0, 1)
    assert statistics["mean"] == pytest.approx(200 / 4800)


@pytest.mark.parametrize("bands", [1, 30])
def test_numbers_and_vectors_have_no_classes(tmp_path, real_data, bands):
    spec = RasterSpec("result", "float32", math.nan, tuple(f"e{i}" for i in range(bands)), Resampling.AVERAGE, unit="m")
    layer = LayerSpec(Kind.VALUES if bands == 1 else Kind.EMBEDDING, "t", (), spec)
    write_item(replace(FACTS, layer=layer, counts={}), result_in(tmp_path, layer))
    item = read(tmp_path)
    assert validate(item, schemas(real_data)) == {"projection", "processing", "file", "raster"}
    data = item["assets"]["data"]
    assert (data["nodata"], data["data_type"], data["unit"], len(data["bands"])) == ("nan", "float32", "m", bands)
    assert "features" not in item["assets"]


def test_provenance_is_told(tmp_path):
    item = make_item(FACTS, tmp_path)
    links = [(link.rel, link.href, link.title) for link in item.links]
    assert links == [
        ("derived_from", "/data/B02.tif", "B02"), ("derived_from", "https://e.org/item.json", None),
        ("model", "https://e.org/m", "Prithvi: model"), ("related", "https://e.org/p", "Prithvi: paper"),
    ]  # fmt: skip
    assert item.properties["processing:software"] == {"swathe": "0.1.0", "gdal": "3.10"}
    assert item.properties["processing:lineage"] == "Prithvi over Sentinel-2"
    assert item.properties["processing:datetime"] == item.properties["created"] == "2026-02-03T04:05:06Z"
    assert item.properties["swathe:model"]["sha256"] == "ab" * 32
    assert item.properties["swathe:valid_fraction"] == 0.98


def test_times(tmp_path, real_data):
    known = schemas(real_data)
    result_in(tmp_path)
    write_item(replace(FACTS, start=None), tmp_path)
    unknown = read(tmp_path)
    assert unknown["properties"]["datetime"] == "2026-02-03T04:05:06Z"
    assert "not known" in unknown["properties"]["swathe:datetime_is"]
    validate(unknown, known)
    later = datetime(2024, 6, 1, tzinfo=UTC)
    write_item(replace(FACTS, end=later), tmp_path)
    several = read(tmp_path)
    assert several["properties"]["datetime"] is None
    assert several["properties"]["start_datetime"] == "2024-05-01T10:30:00Z"
    assert several["properties"]["end_datetime"] == "2024-06-01T00:00:00Z"
    validate(several, known)


@pytest.mark.parametrize(
    ("crs", "step", "corner"),
    [("EPSG:32633", 10, (5e5, 5e6)), ("EPSG:4326", 0.01, (13, 60)), ("EPSG:3413", 1000, (1e6, -1e6)),
     ("EPSG:3857", 30, (2e6, 7e6))],
)  # fmt: skip
def test_the_footprint_covers_all_pixels_and_little_else(crs, step, corner):
    from pyproj import Transformer

    grid = GeoBox((300, 200), Affine(step, 0, corner[0], 0, -step, corner[1]), crs)
    polygon = shapely.geometry.shape(footprint(grid))
    assert polygon.is_valid
    assert shapely.is_ccw(polygon.exterior)
    rows, cols = np.mgrid[0.5:300:13, 0.5:200:13]
    there = Transformer.from_crs(crs, 4326, always_xy=True)
    lon, lat = there.transform(corner[0] + step * cols.ravel(), corner[1] - step * rows.ravel())
    assert shapely.contains_xy(polygon.buffer(1e-5), lon, lat).all()
    outside = there.transform([corner[0] - 5 * step, corner[0] + 205 * step], [corner[1] - 150 * step] * 2)
    assert not shapely.contains_xy(polygon, *outside).any()


@pytest.mark.parametrize(
    ("crs", "pole", "corner"),
    [("EPSG:3413", 90, (-4e4, 7e4)), ("EPSG:3031", -90, (-9e4, 3e4)), ("EPSG:32661", 90, (1.93e6, 2.06e6)),
     ("EPSG:32761", -90, (1.95e6, 2.05e6))],
)  # fmt: skip
def test_the_footprint_of_a_grid_with_a_pole_reaches_up_to_it(crs, pole, corner):
    from pyproj import Transformer

    grid = GeoBox((100, 100), Affine(1000, 0, corner[0], 0, -1000, corner[1]), crs)
    outline = footprint(grid)
    polygon = shapely.geometry.shape(outline)
    assert polygon.is_valid
    assert shapely.is_ccw(polygon.exterior)
    assert bbox_of(outline)[::2] == [-180, 180]
    assert pole in bbox_of(outline)
    there = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    for margin, within in ((-2, False), (2, True)):  # a ring of places around the grid, and one inside it
        cols, rows = (v.ravel() for v in np.mgrid[margin : 100 - margin : 30j, margin : 100 - margin : 30j])
        rim = (cols == cols.min()) | (cols == cols.max()) | (rows == rows.min()) | (rows == rows.max())
        lon, lat = there.transform(corner[0] + 1000 * cols[rim], corner[1] - 1000 * rows[rim])
        assert (shapely.contains_xy(polygon, lon, lat) == within).all()
    assert shapely.contains_xy(polygon, np.linspace(-179, 179, 9), np.full(9, pole * 0.9999)).all()


def test_a_footprint_over_the_antimeridian_is_two_parts_and_its_box_runs_eastwards(tmp_path, real_data):
    grid = GeoBox((60, 60), Affine(1000, 0, 7.7e5, 0, -1000, 2e6), "EPSG:32660")
    write_item(replace(FACTS, grid=grid), result_in(tmp_path, grid=grid))
    item = read(tmp_path)
    validate(item, schemas(real_data))
    west, south, east, north = item["bbox"]
    assert item["geometry"]["type"] == "MultiPolygon"
    assert 179 < west < 180
    assert -180 < east < -179
    assert south < north


WORLD = 40_075_016.685578488 / 256


@pytest.mark.parametrize(
    ("grid", "bbox", "beside"),
    [
        (GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326"), (-180, 180), []),
        (GeoBox((180, 340), Affine(1, 0, -170, 0, -1, 90), "EPSG:4326"), (-170, 170), [-175, 175]),
        (GeoBox((180, 360), Affine(1, 0, 0, 0, -1, 90), "EPSG:4326"), (-180, 180), []),
        (GeoBox((180, 340), Affine(1, 0, 10, 0, -1, 90), "EPSG:4326"), (10, -10), [-5, 5]),
        (GeoBox((180, 355), Affine(1, 0, -5, 0, -1, 90), "EPSG:4326"), (-5, -10), [-8, -6]),
        (GeoBox((180, 200), Affine(1, 0, -30, 0, -1, 90), "EPSG:4326"), (-30, 170), [-32, 172]),
        (GeoBox((181, 360), Affine(1, 0, -180.5, 0, -1, 90.5), "EPSG:4326"), (-180, 180), []),
        (
            GeoBox((60, 50), Affine(WORLD, 0, 103 * WORLD, 0, -WORLD, 30 * WORLD), "EPSG:3857"),
            (180 - 25 * 360 / 256, -180 + 25 * 360 / 256),
            [-100, 0, 100],
        ),
        (GeoBox((180, 20), Affine(1, 0, 185, 0, -1, 90), "EPSG:4326"), (-175, -155), [-176, -154]),
        (GeoBox((256, 256), Affine(WORLD, 0, -128 * WORLD, 0, -WORLD, 128 * WORLD), "EPSG:3857"), (-180, 180), []),
        (GeoBox((90, 200), Affine(1e5, 0, -1e7, 0, -1e5, 4.5e6), "EPSG:6933"), (-103.64, 103.64), [-105, 105]),
    ],
)
def test_the_footprint_of_a_map_of_the_world_is_the_map(grid, bbox, beside):
    outline = footprint(grid)
    shape = shapely.geometry.shape(outline)
    assert shape.is_valid
    found = bbox_of(outline)
    assert found[::2] == pytest.approx(bbox, abs=0.01)
    assert -90 <= found[1] < found[3] <= 90
    width = (bbox[1] - bbox[0]) % 360 or 360
    within = bbox[0] + np.linspace(0.01, width - 0.01, 50)
    lon = (within + 180) % 360 - 180
    assert shapely.contains_xy(shape, lon, np.linspace(-35, 35, 50)).all()
    assert not shapely.contains_xy(shape, beside, np.zeros(len(beside))).any()


def test_an_item_of_the_whole_world(tmp_path, real_data):
    grid = GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326")
    write_item(replace(FACTS, grid=grid), result_in(tmp_path, grid=grid))
    item = read(tmp_path)
    validate(item, schemas(real_data))
    assert item["bbox"] == [-180, -90, 180, 90]
    assert item["geometry"]["type"] == "Polygon"


def test_a_crs_without_a_code_is_written_out(tmp_path, real_data):
    wkt = 'PROJCS["mine",GEOGCS["WGS 84",DATUM["WGS_1984",SPHEROID["WGS 84",6378137,298.257223563]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],PROJECTION["Lambert_Azimuthal_Equal_Area"],PARAMETER["latitude_of_center",51],PARAMETER["longitude_of_center",11],UNIT["metre",1]]'  # noqa: E501
    grid = GeoBox((60, 80), Affine(10, 0, 0, 0, -10, 0), wkt)
    write_item(replace(FACTS, grid=grid), result_in(tmp_path, grid=grid))
    item = read(tmp_path)
    validate(item, schemas(real_data))
    assert item["properties"]["proj:code"] is None
    assert "Lambert" in item["properties"]["proj:wkt2"]


def test_checksums_are_multihashes(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"swathe")
    assert checksum(path) == "1220" + hashlib.sha256(b"swathe").hexdigest()


def test_slugs_are_names_for_machines():
    assert [slug(n) for n in ("Winter Wheat", "Developed / Barren", "水", "a_b-c")] == [
        "winter-wheat", "developed-barren", "class", "a_b-c",
    ]  # fmt: skip


def test_a_missing_folder_is_told_by_name(tmp_path):
    with pytest.raises(OutputError):
        write_item(FACTS, tmp_path / "nowhere")


def test_small_regions_are_left_out_of_finished_shapes():
    image = np.zeros((9, 9), np.uint8)
    image[0, 0] = image[4:7, 4:7] = 1
    found = trace(image, None, Window(0, 0, 9, 9), Frame((9, 9)), LAYER, ShapeRules(min_px=2))
    assert found.closed.facts.pixels.tolist() == [9]
    assert len(finished(found.open, ShapeRules())) == 0
