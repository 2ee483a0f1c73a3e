"""Rasters that are there already: pictures as they are on every kind of map, and what cannot be a layer."""

import io
import zipfile

import numpy as np
import pytest
import rasterio
from affine import Affine

from tests.pipelines.netcdfs import WRITERS, classic, cube, flat, lonlat, netcdf4
from tests.serve.dialects.geostudio.conftest import Studio, write_image
from tests.serve.dialects.geostudio.ready_made import colours, laid_with, needs_sandbox, push

SIDE = (96, 128)
MAP = {"SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetMap", "STYLES": "", "FORMAT": "image/png",
       "CRS": "EPSG:32633", "BBOX": "500000,5599040,501280,5600000", "WIDTH": 128, "HEIGHT": 96,
       "TRANSPARENT": "TRUE"}  # fmt: skip


def write_picture(path, alpha=None):
    """Red, green and blue of random squares, with or without alpha; the colours, (rows, cols, 3)."""
    rng = np.random.default_rng(8)
    data = rng.integers(0, 256, (3, 12, 16), "uint8").repeat(8, axis=1).repeat(8, axis=2)
    bands = data if alpha is None else np.concatenate([data, alpha[None]])
    with rasterio.open(path, "w", driver="GTiff", width=SIDE[1], height=SIDE[0], count=len(bands), dtype="uint8",
                       crs="EPSG:32633", transform=Affine(10, 0, 500_000, 0, -10, 5_600_000)) as file:  # fmt: skip
        file.write(bands)
    return np.moveaxis(data, 0, -1)


def laid(studio, url, pushes=("ortho",), **more):
    """A wish for a layer of what lies there, carried out: its record."""
    style = {"rgb": [{"channel": 1, "minValue": 0, "maxValue": 255, "label": "RedChannel"}]}
    push = {"workspace": "geofm", "file_suffix": "", "filepath_key": "original_input_image", "geoserver_style": style}
    named = [{**push, "layer_name": name, "display_name": name.title()} for name in pushes]
    made = studio.infer(url, model_display_name="add-layer-sandbox-model", fine_tuning_id="sandbox", temporal_domain=[],
                        geoserver_push=named, **more)  # fmt: skip
    studio.work()
    return studio.get(f"inference/{made['id']}")


@pytest.fixture(scope="module")
def ortho(house, tmp_path_factory):
    """Somebody, a picture with a transparent corner as a layer of theirs, and its colours (rows, cols, 4)."""
    studio, path = Studio(house, house.person()), tmp_path_factory.mktemp("ortho") / "ortho.tif"
    alpha = np.full(SIDE, 255, "uint8")
    alpha[:40, :48] = 0
    seen = write_picture(path, alpha)
    return studio, laid(studio, studio.share(path)), np.dstack([np.minimum(seen, 254), alpha])


def test_a_picture_is_shown_in_its_own_colours(ortho):
    studio, record, wanted = ortho
    assert record["status"] == "COMPLETED", record["inference_output"]
    layer = record["geoserver_layers"]["predicted_layers"][0]
    assert (layer["uri"], layer["display_name"]) == (f"geofm:{record['id']}-ortho", "Ortho")
    assert "<RasterSymbolizer></RasterSymbolizer>" in layer["sld_body"]
    seen = colours(studio.client.get("/api/layers/wms", params={**MAP, "LAYERS": layer["layer_id"]}))
    assert (seen[..., 3] == wanted[..., 3]).all()
    assert (seen[seen[..., 3] > 0] == wanted[wanted[..., 3] > 0]).all()
    led = studio.client.get("/geofm-geoserver/geoserver/geofm/wms", params={**MAP, "LAYERS": layer["uri"]})
    assert (colours(studio.client.get(led.headers["location"])) == seen).all()


def test_tiles_of_a_picture_are_transparent_where_it_is_not(ortho):
    studio, record, wanted = ortho
    layer = record["geoserver_layers"]["predicted_layers"][0]
    told = studio.client.get(f"/api/layers/{layer['layer_id']}").json()
    assert (told["look"], told["classes"], told["range"]) == ("picture", [], None)
    tilejson = studio.client.get(told["links"]["tilejson"]).json()
    lon, lat, _ = tilejson["center"]
    import morecantile

    tile = morecantile.tms.get("WebMercatorQuad").tile(lon, lat, tilejson["maxzoom"])
    seen = colours(studio.client.get(tilejson["tiles"][0].format(z=tile.z, x=tile.x, y=tile.y)))
    drawn = seen[seen[..., 3] == 255][:, :3].astype(int)
    assert 0 < len(drawn) < seen[..., 3].size
    known = np.unique(wanted[wanted[..., 3] > 0][:, :3].reshape(-1, 3), axis=0).astype(int)
    nearest = np.abs(drawn[:, None] - known[None]).sum(axis=2).min(axis=1)
    assert (nearest == 0).mean() > 0.3  # squares of eight pixels, mixed at their borders only
    wmts = studio.client.get("/api/layers/wmts", params={
        "SERVICE": "WMTS", "REQUEST": "GetTile", "VERSION": "1.0.0", "LAYER": layer["layer_id"], "STYLE": "default",
        "TILEMATRIXSET": "WebMercatorQuad", "TILEMATRIX": tile.z, "TILEROW": tile.y, "TILECOL": tile.x,
        "FORMAT": "image/png"})  # fmt: skip
    assert (colours(wmts) == seen).all()


def test_a_picture_has_no_legend(ortho):
    studio, record, _ = ortho
    id_ = record["geoserver_layers"]["predicted_layers"][0]["layer_id"]
    told = studio.client.get(f"/api/layers/{id_}").json()
    assert "legend" not in told["links"]
    assert "legend" not in studio.client.get(told["links"]["tilejson"]).json()
    for service in ("wms", "wmts"):
        text = studio.client.get(f"/api/layers/{service}?job={told['job']}&REQUEST=GetCapabilities").text
        assert id_ in text
        assert "LegendURL" not in text


def test_a_picture_of_more_than_bytes_is_stretched(studio, tmp_path):
    write_image(tmp_path / "sixteen.tif", scale=0, names=("", "", ""))
    record = laid(studio, studio.share(tmp_path / "sixteen.tif"))
    assert record["status"] == "COMPLETED", record["inference_output"]
    layer = record["geoserver_layers"]["predicted_layers"][0]
    place = {"BBOX": "500000,5599360,500960,5600000", "WIDTH": 96, "HEIGHT": 64}
    seen = colours(studio.client.get("/api/layers/wms", params={**MAP, **place, "LAYERS": layer["layer_id"]}))
    assert (seen[..., 3] == 255).all()
    assert (seen[..., :3].min(), seen[..., :3].max()) == (0, 254)
    href = studio.get(f"tasks/{record['id']}-task_0/output")["url"]
    with zipfile.ZipFile(io.BytesIO(studio.house.client().get(href).content)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("_pred.tif"))
        with rasterio.MemoryFile(archive.read(name)).open() as file:
            assert [colour.name for colour in file.colorinterp] == ["red", "green", "blue"]


def test_what_is_no_layer_says_what_would_be(studio, tmp_path):
    many = write_image(tmp_path / "many.tif", scale=0, names=("",) * 5)
    record = laid(studio, studio.share(many))
    assert record["status"] == "FAILED"
    (error,) = record["inference_output"]["errors"]
    assert error["code"] == "1009"
    assert "5 bands" in error["message"]


def test_each_raster_of_a_zip_is_a_layer_of_its_day(studio, tmp_path):
    """As their notebook packs them: days in the names. One that is no layer leaves the others."""
    days = ("2024-04-27", "2024-05-09")
    with zipfile.ZipFile(tmp_path / "both-days.zip", "w") as archive:
        for n, day in enumerate(days):
            path = write_image(tmp_path / f"flood_{day}_depth.tif", scale=0, names=("",), seed=n)
            archive.write(path, f"depths/{path.name}")
        archive.write(write_image(tmp_path / "many.tif", scale=0, names=("",) * 5), "many.tif")
    record = laid(studio, studio.share(tmp_path / "both-days.zip"), pushes=("depth",))
    assert record["status"] == "COMPLETED_WITH_ERRORS"
    (error,) = record["inference_output"]["errors"]
    assert (error["task_id"], "5 bands" in error["message"]) == (f"{record['id']}-task_2", True)
    layers = record["geoserver_layers"]["predicted_layers"]
    assert [layer["uri"] for layer in layers] == [f"geofm:{record['id']}-task_{n}-depth" for n in (0, 1)]
    told = [studio.client.get(f"/api/layers/{layer['layer_id']}").json() for layer in layers]
    assert [one["datetime"][:10] for one in told] == list(days)
    steps = studio.get(f"inference/{record['id']}/tasks")["tasks"]
    assert [task["task_id"].rpartition("_")[2] for task in steps] == ["planning", "0", "1", "2"]
    href = studio.get(f"tasks/{record['id']}-task_1/output")["url"]
    with zipfile.ZipFile(io.BytesIO(studio.house.client().get(href).content)) as archive:
        assert any(n.startswith(f"{record['id']}-task_1_2024-05-09_flood-2024-05-09-depth") for n in archive.namelist())


def test_of_a_zip_and_a_raster_each_has_the_layer_of_its_address(studio, tmp_path):
    one = write_image(tmp_path / "one-raster.tif", scale=0, names=("",))
    with zipfile.ZipFile(tmp_path / "two-rasters.zip", "w") as archive:
        archive.write(one, "first.tif")
        archive.write(one, "second.tif")
    urls = [studio.share(tmp_path / "two-rasters.zip"), studio.share(one)]
    record = laid(studio, "", pushes=("packed", "single"), spatial_domain={"urls": urls})
    layers = record["geoserver_layers"]["predicted_layers"]
    assert [layer["uri"].partition("task_")[2] for layer in layers] == ["0-packed", "1-packed", "2-single"]
    assert record["spatial_domain"]["urls"] == urls


def test_a_layer_is_made_of_files_alone(studio):
    push = {"workspace": "geofm", "layer_name": "x", "display_name": "X", "file_suffix": "", "geoserver_style": "",
            "filepath_key": "original_input_image"}  # fmt: skip
    for where in ({"bbox": [[10, 49, 10.1, 49.1]]}, {"urls": ["https://a.example/x.tif"], "tiles": ["12/2200/1343"]}):
        refused = studio.infer("", 422, model_display_name="add-layer-sandbox-model", geoserver_push=[push],
                               spatial_domain=where, temporal_domain=["2024-07-25"])  # fmt: skip
        assert "urls" in refused["detail"]["msg"]


def test_a_cube_in_a_zip_is_refused_by_what_is_taken(studio, tmp_path):
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("cube.nc", b"CDF\1" + bytes(500))
    links = studio.get("file-share?object_name=packed.zip")
    answer = studio.house.client().put(links["upload_url"], content=(tmp_path / "packed.zip").read_bytes())
    assert answer.status_code == 422
    assert ".tif" in answer.text


# --- NetCDF -----------------------------------------------------------------------------------------------------------


def result(studio, record, task):
    """The raster of a task, top row first, as floating-point numbers."""
    href = studio.get(f"tasks/{record['id']}-task_{task}/output")["url"]
    with zipfile.ZipFile(io.BytesIO(studio.house.client().get(href).content)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("_pred.tif"))
        with rasterio.MemoryFile(archive.read(name)) as memory, memory.open() as file:
            return file.read(1), file.transform, file.crs.to_epsg()


@needs_sandbox
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_each_moment_of_netcdf_is_a_layer_with_exactly_its_numbers(studio, tmp_path, write):
    stored = cube(write, tmp_path / "cube.nc", steps=2, step=0.01, shape=(64, 80))
    record = laid_with(studio, studio.share(tmp_path / "cube.nc"), push(coverage_name="depth"))
    assert record["status"] == "COMPLETED", record["inference_output"]
    layers = record["geoserver_layers"]["predicted_layers"]
    assert [layer["uri"] for layer in layers] == [f"geofm:{record['id']}-task_{n}-depth" for n in (0, 1)]
    told = [studio.client.get(f"/api/layers/{layer['layer_id']}").json() for layer in layers]
    assert [one["datetime"][:10] for one in told] == ["2024-01-30", "2024-01-31"]
    for n in (0, 1):
        found, transform, epsg = result(studio, record, n)
        wanted = (stored[n, ::-1] * 0.01 + 12.5).astype("float32")
        wanted[stored[n, ::-1] == -999] = np.nan
        np.testing.assert_allclose(found, wanted, rtol=3e-7, atol=4e-6)  # unpacked in single precision
        assert (np.isnan(found) == np.isnan(wanted)).all()
        assert (tuple(transform)[:6], epsg) == ((0.01, 0, 9.995, 0, -0.01, 45.635), 4326)


@needs_sandbox
def test_numbers_that_are_not_packed_are_the_same_to_the_bit(studio, tmp_path):
    numbers = np.random.default_rng(3).normal(0, 1e3, (40, 50)).astype("f4")
    flat(netcdf4, tmp_path / "flat.nc", numbers, grid=lonlat(shape=numbers.shape))
    record = laid_with(studio, studio.share(tmp_path / "flat.nc"), push())  # its only variable needs no name
    assert record["status"] == "COMPLETED", record["inference_output"]
    assert (result(studio, record, 0)[0] == numbers[::-1]).all()


@needs_sandbox
def test_a_world_with_points_at_its_poles_is_a_layer(studio, tmp_path):
    """As reanalyses have it: from 0 to 360, and the first and last row are half beyond the pole."""
    numbers = np.random.default_rng(3).normal(0, 1e3, (73, 144)).astype("f4")
    flat(netcdf4, tmp_path / "world.nc", numbers, grid=lonlat(0.0, -90.0, 2.5, numbers.shape))
    record = laid_with(studio, studio.share(tmp_path / "world.nc"), push())
    assert record["status"] == "COMPLETED", record["inference_output"]
    found, transform, _ = result(studio, record, 0)
    assert (found == np.roll(numbers[::-1], -72, axis=1)).all()
    assert tuple(transform)[:6] == (2.5, 0, -181.25, 0, -2.5, 91.25)
    layer = record["geoserver_layers"]["predicted_layers"][0]
    west, south, east, north = record["geoserver_layers"]["bbox_pred"][0]
    assert -180 <= west < east <= 180
    assert -90 <= south < north <= 90
    tilejson = studio.client.get(f"/api/layers/{layer['layer_id']}/tilejson.json").json()
    tile = studio.client.get(tilejson["tiles"][0].format(z=0, x=0, y=0))
    assert (colours(tile)[..., 3] == 255).mean() > 0.9


@pytest.fixture
def two(studio, tmp_path):
    """Two variables in one file: its address, and their numbers."""
    numbers = np.arange(48, dtype="f4").reshape(6, 8)
    flat(classic, tmp_path / "two.nc", numbers, more={"speed": (("lat", "lon"), numbers * 2, {})})
    return studio.share(tmp_path / "two.nc"), numbers


@needs_sandbox
def test_layers_name_their_variables(studio, two):
    url, numbers = two
    layers = [push(coverage_name=name, layer_name=name, display_name=name) for name in ("speed", "depth")]
    record = laid_with(studio, url, *layers)
    assert record["status"] == "COMPLETED", record["inference_output"]
    there = record["geoserver_layers"]["predicted_layers"]
    assert [layer["uri"].rpartition("-")[2] for layer in there] == ["speed", "depth"]
    assert record["spatial_domain"]["urls"] == [url]
    for n, factor in enumerate((2, 1)):
        assert (result(studio, record, n)[0] == numbers[::-1] * factor).all()


@needs_sandbox
def test_of_several_variables_one_has_to_be_named(studio, two):
    url, _ = two
    for given, words in (
        (push(), ("depth", "speed", "coverage_name")),
        (push(coverage_name="wind"), ("wind", "speed")),
    ):
        refused = studio.infer(url, 422, model_display_name="add-layer-sandbox-model", temporal_domain=[],
                               geoserver_push=[given])  # fmt: skip
        assert all(word in str(refused["detail"]) for word in words)
    several = [push(coverage_name=name) for name in ("depth", "speed", "depth")]
    refused = studio.infer("", 422, model_display_name="add-layer-sandbox-model", temporal_domain=[],
                           spatial_domain={"urls": [url, url]}, geoserver_push=several)  # fmt: skip
    assert "each url" in str(refused["detail"])


@needs_sandbox
def test_netcdf_that_cannot_be_a_layer_is_refused_when_it_is_sent(studio, tmp_path):
    (tmp_path / "damaged.nc").write_bytes(b"CDF\1" + bytes(20))
    links = studio.get("file-share?object_name=damaged.nc")
    answer = studio.house.client().put(links["upload_url"], content=(tmp_path / "damaged.nc").read_bytes())
    assert (answer.status_code, "damaged.nc" in answer.text) == (422, True)
