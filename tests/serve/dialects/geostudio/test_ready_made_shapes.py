"""Shapes that are there already: layers of GeoPackages and Shapefiles, and the colours that their styles ask for."""

import io
import math
import zipfile

import geopandas as gpd
import numpy as np
import pytest
import rasterio
from shapely.geometry import LineString, box

from tests.pipelines.netcdfs import classic, flat
from tests.serve.dialects.geostudio.ready_made import colours, laid_with, needs_sandbox, push


def tile_over(bbox, zoom):
    """The web map tile over the middle of a box, by the usual formula."""
    lon, lat = (bbox[0] + bbox[2]) / 2, math.radians((bbox[1] + bbox[3]) / 2)
    down = (1 - math.asinh(math.tan(lat)) / math.pi) / 2
    return {"z": zoom, "x": int((lon + 180) / 360 * 2**zoom), "y": int(down * 2**zoom)}


def shapes(path, layer="roads", offset=0.0):
    """Two fields, one of them affected, and a road."""
    table = gpd.GeoDataFrame(
        {"affected": [0.0, 2.0, 1.0], "name": list("abc")}, crs="EPSG:32632",
        geometry=[box(600_000 + offset, 5_300_000, 600_400 + offset, 5_300_400),
                  box(600_600 + offset, 5_300_000, 601_000 + offset, 5_300_400),
                  LineString([(600_000 + offset, 5_300_600), (601_000 + offset, 5_300_600)])],
    )  # fmt: skip
    table.to_file(path, layer=layer, driver="GPKG")
    return path


def shape_of(studio, record, task=0):
    """The raster of a task as it is stored, how its numbers are found, and the names in its archive."""
    href = studio.get(f"tasks/{record['id']}-task_{task}/output")["url"]
    with zipfile.ZipFile(io.BytesIO(studio.house.client().get(href).content)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("_pred.tif"))
        with rasterio.MemoryFile(archive.read(name)) as memory, memory.open() as file:
            return file.read(1), file.index, archive.namelist()


@needs_sandbox
def test_shapes_are_a_layer_whose_style_has_their_colour(studio, tmp_path):
    style = {"polygon_style": {"fill": "#fffcfd", "fill_opacity": 0.5}}
    record = laid_with(studio, studio.share(shapes(tmp_path / "roads.gpkg")), push(geoserver_style=style))
    assert record["status"] == "COMPLETED", record["inference_output"]
    (layer,) = record["geoserver_layers"]["predicted_layers"]
    assert 'color="#fffcfd" opacity="0.5" quantity="1"' in layer["sld_body"]
    found, index, names = shape_of(studio, record)
    inside = [(600_200, 5_300_200), (600_800, 5_300_200), (600_500, 5_300_600)]
    assert [found[index(*p)] for p in inside] == [1, 1, 1]
    assert found[index(600_500, 5_300_200)] == 255  # nothing is there
    assert any(name.endswith(".gpkg") for name in names)
    told = studio.client.get(f"/api/layers/{layer['layer_id']}").json()
    tile = studio.client.get(studio.client.get(f"/api/layers/{told['id']}/tilejson.json").json()["tiles"][0].format(
        **tile_over(told["bbox"], 14)))  # fmt: skip
    assert {tuple(colour) for colour in colours(tile).reshape(-1, 4)} == {(217, 95, 2, 255), (0, 0, 0, 0)}


@needs_sandbox
def test_lines_are_still_there_when_the_map_shows_much_more(studio, tmp_path):
    table = gpd.GeoDataFrame(geometry=[LineString([(0, 0), (20, 13)]), LineString([(0, 13), (20, 0)])], crs="EPSG:4326")
    table.to_file(tmp_path / "lines.gpkg", driver="GPKG")
    record = laid_with(studio, studio.share(tmp_path / "lines.gpkg"), push(geoserver_style={}))
    assert record["status"] == "COMPLETED", record["inference_output"]
    layer = record["geoserver_layers"]["predicted_layers"][0]["layer_id"]
    asked = {"service": "WMS", "version": "1.3.0", "request": "GetMap", "layers": layer, "styles": "", "crs": "CRS:84",
             "bbox": "0,0,20,13", "width": 200, "height": 130, "format": "image/png",
             "transparent": "true"}  # fmt: skip
    picture = studio.client.get("/api/layers/wms", params=asked)
    seen = colours(picture)[..., 3] > 0
    assert seen.any(axis=0).all()  # no gap along either of them
    assert seen.mean() < 0.05


@needs_sandbox
def test_shapes_are_coloured_by_a_column(studio, tmp_path):
    stops = [{"value": 0.0, "output": "#b0d6ff"}, {"value": 2.0, "output": "#fc0808"}]
    style = {"line_style": {"stroke": {"property_name": "affected", "property_values": stops}, "stroke_width": 1}}
    record = laid_with(studio, studio.share(shapes(tmp_path / "roads.gpkg")), push(geoserver_style=style))
    assert record["status"] == "COMPLETED", record["inference_output"]
    (layer,) = record["geoserver_layers"]["predicted_layers"]
    assert 'type="ramp"' in layer["sld_body"]
    assert 'color="#fc0808" opacity="1" quantity="2"' in layer["sld_body"]
    found, index, _ = shape_of(studio, record)
    inside = [(600_200, 5_300_200), (600_800, 5_300_200), (600_500, 5_300_600)]
    assert [found[index(*p)] for p in inside] == [0, 2, 1]
    assert np.isnan(found[index(600_500, 5_300_200)])


@pytest.mark.slow
@needs_sandbox
def test_a_zip_of_a_shapefile_is_one_beside_rasters_and_netcdf(studio, tmp_path):
    """As the notebook has it: one layer for each of several files of any kind."""
    gpd.GeoDataFrame({"n": [1]}, geometry=[box(10, 50, 10.1, 50.1)], crs="EPSG:4326").to_file(tmp_path / "outline.shp")
    with zipfile.ZipFile(tmp_path / "outline.zip", "w") as archive:
        for part in tmp_path.glob("outline.*"):
            if part.suffix != ".zip":
                archive.write(part, part.name)
    flat(classic, tmp_path / "flat.nc", np.ones((6, 8), "f4"))
    files = [tmp_path / "outline.zip", shapes(tmp_path / "roads.gpkg"), tmp_path / "flat.nc"]
    urls = [studio.share(path) for path in files]
    layers = [push(layer_name=name, display_name=name) for name in ("outline", "roads", "depth")]
    made = studio.infer("", model_display_name="add-layer-sandbox-model", temporal_domain=[], geoserver_push=layers,
                        spatial_domain={"urls": urls})  # fmt: skip
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED", record["inference_output"]
    there = record["geoserver_layers"]["predicted_layers"]
    assert [layer["uri"].rpartition("-")[2] for layer in there] == ["outline", "roads", "depth"]
    assert record["spatial_domain"]["urls"] == urls


@pytest.mark.slow
@needs_sandbox
def test_of_several_layers_of_shapes_each_push_names_its_own(studio, tmp_path):
    path = shapes(shapes(tmp_path / "both.gpkg"), "houses", offset=5000)
    url = studio.share(path)
    record = laid_with(studio, url, *(push(coverage_name=name, layer_name=name) for name in ("houses", "roads")))
    assert record["status"] == "COMPLETED", record["inference_output"]
    west = [layer["layer_id"] for layer in record["geoserver_layers"]["predicted_layers"]]
    boxes = [studio.client.get(f"/api/layers/{id_}").json()["bbox"] for id_ in west]
    assert boxes[0][0] > boxes[1][0]
    for given, words in (
        (push(), ("houses", "roads", "several")), (push(coverage_name="lakes"), ("lakes", "houses")),
        (push(coverage_name="roads", geoserver_style={"point_style": {"fill": {
            "property_name": "name", "property_values": [{"value": "a", "output": "#fff"}]}}}), ("name", "affected")),
    ):  # fmt: skip
        refused = studio.infer(url, 422, model_display_name="add-layer-sandbox-model", temporal_domain=[],
                               geoserver_push=[given])  # fmt: skip
        assert all(word in str(refused["detail"]) for word in words), refused


@needs_sandbox
def test_shapes_that_cannot_be_a_layer_are_refused_when_they_are_sent(studio, tmp_path):
    (tmp_path / "damaged.gpkg").write_bytes(b"SQLite format 3\0" + bytes(500))
    links = studio.get("file-share?object_name=damaged.gpkg")
    answer = studio.house.client().put(links["upload_url"], content=(tmp_path / "damaged.gpkg").read_bytes())
    assert (answer.status_code, "damaged.gpkg is no GeoPackage" in answer.text) == (422, True)


@pytest.mark.slow
@needs_sandbox
def test_large_numbers_of_a_column_stay_what_they_are(studio, tmp_path):
    """Milliseconds since 1970, as far as single precision tells them apart."""
    table = gpd.GeoDataFrame({"t": [1_700_000_000_000]}, geometry=[box(10, 50, 10.1, 50.1)], crs="EPSG:4326")
    table.to_file(tmp_path / "times.gpkg", driver="GPKG")
    style = {"polygon_style": {"fill": {"property_name": "t", "property_values": [{"value": 0, "output": "#000"}]}}}
    record = laid_with(studio, studio.share(tmp_path / "times.gpkg"), push(geoserver_style=style))
    assert record["status"] == "COMPLETED", record["inference_output"]
    found, index, _ = shape_of(studio, record)
    assert found[index(10.05, 50.05)] == np.float32(1_700_000_000_000)


@pytest.mark.slow
@needs_sandbox
def test_a_mask_of_another_format_says_how_to_convert_it(studio, tmp_path):
    url = studio.share(shapes(tmp_path / "roads.gpkg"))
    made = studio.infer(url, model_display_name="add-layer-sandbox-model", temporal_domain=[], geoserver_push=[push()],
                        post_processing={"mask_from_url": {"url": url}})  # fmt: skip
    studio.work()
    (error,) = studio.get(f"inference/{made['id']}")["inference_output"]["errors"]
    assert error["code"] == "1043"
    assert "ogr2ogr" in error["message"]
