"""Layers of results over HTTP: the right pixels in the right colours, to whom they belong, and clear refusals."""

from __future__ import annotations

import io
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import morecantile
import numpy as np
import pyproj
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from PIL import Image
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from pipelines.products.picture import ramp
from swathe.card import ClassLabel
from swathe.job import JobState
from swathe.user import Role
from tests.serve.api.results import CLASSES, GRID, HEIGHT, MAP, made

WEB = morecantile.tms.get("WebMercatorQuad")
WMS = {"SERVICE": "WMS", "VERSION": "1.3.0", "REQUEST": "GetMap", "STYLES": "", "FORMAT": "image/png"}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return made(tmp_path_factory.mktemp("map"))


@pytest.fixture(scope="module")
def heights(tmp_path_factory):
    return made(tmp_path_factory.mktemp("heights"), HEIGHT)


@pytest.fixture(scope="module")
def ada(house):
    return house.person()


@pytest.fixture(scope="module")
def client(house, ada):
    return house.client(ada)


@pytest.fixture(scope="module")
def job(house, ada, result):
    return house.left(ada, result.files).id


@pytest.fixture(scope="module")
def layer(client, job):
    return client.get(f"/api/layers/{job}-result").json()


def colours(answer):
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGBA"))


def tile_over(x, y, zoom):
    """The tile over a point of the grid's CRS, with its pixels' middles in that CRS."""
    lon, lat = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True).transform(x, y)
    return WEB.tile(lon, lat, zoom)


def expected(values, grid, frame, size=(256, 256), crs="EPSG:3857", classes=CLASSES, *, whole=0.0):
    """RGBA by a plain loop's means: of each pixel of a frame the class of the pixel that its middle lies in.

    ``whole``: once round the world on a grid that runs on past its end.
    """
    left, bottom, right, top = frame
    cols = left + (np.arange(size[1]) + 0.5) * (right - left) / size[1]
    rows = top - (np.arange(size[0]) + 0.5) * (top - bottom) / size[0]
    xs, ys = np.meshgrid(cols, rows)
    there = pyproj.Transformer.from_crs(crs, grid.crs.to_wkt(), always_xy=True)
    across, up = there.transform(xs.ravel(), ys.ravel())
    across = grid.transform.c + (across - grid.transform.c) % whole if whole else across
    a = ~grid.transform
    col, row = np.floor(a.a * across + a.c).astype(int), np.floor(a.e * up + a.f).astype(int)
    inside = (col >= 0) & (row >= 0) & (col < grid.shape[1]) & (row < grid.shape[0])
    found = np.zeros((*size, 4), np.uint8).reshape(-1, 4)
    table = {c.value: (*bytes.fromhex(c.colour[1:]), 255) for c in classes}
    for i in np.flatnonzero(inside):
        found[i] = table.get(int(values[row[i], col[i]]), (0, 0, 0, 0))
    return found.reshape(*size, 4)


# --- pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zoom", [14, 16])
@pytest.mark.parametrize("ending", ["png", "webp"])
def test_a_tile_has_the_colour_of_the_pixel_under_each_of_its_own(client, job, result, zoom, ending):
    tile = tile_over(5e5 + 1500, 5_600_000 - 1200, zoom)
    seen = colours(client.get(f"/api/layers/{job}-result/tiles/{zoom}/{tile.x}/{tile.y}.{ending}"))
    wanted = expected(result.pixels["result.tif"][0], GRID, WEB.xy_bounds(tile))
    assert wanted[..., 3].any()
    wrong = (seen != wanted).any(axis=2).mean()
    assert wrong < 2e-4  # middles that lie on a pixel's edge, within a thousandth of it


@pytest.mark.parametrize("zoom", [9, 11, 12, 13, 15])
def test_a_tile_is_what_rasterio_warps_from_the_same_overview(client, job, result, tmp_path, zoom):
    (tmp_path / "result.tif").write_bytes(result.files["result.tif"])
    tile = tile_over(5e5 + 1500, 5_600_000 - 1200, zoom)
    seen = colours(client.get(f"/api/layers/{job}-result/tiles/{zoom}/{tile.x}/{tile.y}.png"))
    box = WEB.xy_bounds(tile)
    step = (box.right - box.left) / 256
    place = Affine(step, 0, box.left, 0, -step, box.top)
    fine = step * math.cos(math.radians(50.5)) / 10  # pixels of the file
    with rasterio.open(tmp_path / "result.tif") as file:
        fitting = [level for level, factor in enumerate(file.overviews(1)) if factor <= fine * 1.01]
    options = {"overview_level": fitting[-1]} if fitting else {}
    with rasterio.open(tmp_path / "result.tif", **options) as file, WarpedVRT(
        file, crs="EPSG:3857", transform=place, width=256, height=256, resampling=Resampling.nearest, tolerance=1e-3
    ) as warped:  # fmt: skip
        values = warped.read(1)
    table = np.zeros((256, 4), np.uint8)
    for c in CLASSES:
        table[c.value] = (*bytes.fromhex(c.colour[1:]), 255)
    assert (seen == table[values]).all()
    assert seen[..., 3].any()


@pytest.mark.filterwarnings("ignore")
def test_another_tiler_draws_the_same(client, job, result, tmp_path):
    from rio_tiler.io import Reader

    (tmp_path / "result.tif").write_bytes(result.files["result.tif"])
    tile = tile_over(5e5 + 1500, 5_600_000 - 1200, 15)
    seen = colours(client.get(f"/api/layers/{job}-result/tiles/15/{tile.x}/{tile.y}.png"))
    with Reader(str(tmp_path / "result.tif")) as reader:
        other = reader.tile(tile.x, tile.y, 15, resampling_method="nearest", reproject_method="nearest")
    table = {c.value: (*bytes.fromhex(c.colour[1:]), 255) for c in CLASSES}
    wanted = np.array([table.get(int(v), (0, 0, 0, 0)) for v in other.array.filled(255)[0].ravel()]).reshape(
        256, 256, 4
    )
    assert (seen != wanted).any(axis=2).mean() < 2e-3  # its transform may be an eighth of a pixel off


def test_only_colours_of_the_card_are_seen_at_any_zoom(client, layer):
    known = {(*bytes.fromhex(c.colour[1:]), 255) for c in CLASSES} | {(0, 0, 0, 0)}
    west, south, east, north = layer["bbox"]
    for zoom in (0, 5, 8, 10, 12, 14, 18):
        tile = WEB.tile((west + east) / 2, (south + north) / 2, zoom)
        seen = colours(client.get(f"/api/layers/{layer['id']}/tiles/{zoom}/{tile.x}/{tile.y}.png"))
        assert {tuple(c) for c in seen.reshape(-1, 4)} <= known
        assert seen[..., 3].any() or zoom < 7


def test_neighbouring_tiles_make_one_picture(client, job):
    """Four tiles, and the map of the same ground by the WMS."""
    first = tile_over(5e5 + 4000, 5_600_000 - 3000, 14)
    rows = [[colours(client.get(f"/api/layers/{job}-result/tiles/14/{first.x + i}/{first.y + j}.png"))
             for i in (0, 1)] for j in (0, 1)]  # fmt: skip
    corner, end = WEB.xy_bounds(first), WEB.xy_bounds(morecantile.Tile(first.x + 1, first.y + 1, 14))
    asked = {**WMS, "LAYERS": f"{job}-result", "CRS": "EPSG:3857", "WIDTH": 512, "HEIGHT": 512, "TRANSPARENT": "TRUE",
             "BBOX": f"{corner.left},{end.bottom},{end.right},{corner.top}"}  # fmt: skip
    whole = colours(client.get("/api/layers/wms", params=asked))
    tiled = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    assert (whole != tiled).any(axis=2).mean() < 2e-4


def test_values_are_between_the_ends_of_a_ramp_and_holes_stay_holes(house, ada, client, heights):
    job = house.left(ada, heights.files).id
    layer = client.get(f"/api/layers/{job}-result").json()
    values = heights.pixels["result.tif"][0]
    low, high = layer["range"]
    assert low >= np.nanmin(values)
    assert high <= np.nanmax(values)
    assert (layer["look"], layer["unit"]) == ("values", "m")
    tile = tile_over(5e5 + 1200, 5_600_000 - 900, 15)
    seen = colours(client.get(f"/api/layers/{job}-result/tiles/15/{tile.x}/{tile.y}.png"))
    shades = {tuple(c) for c in ramp(255)}
    drawn = seen[seen[..., 3] == 255]
    assert 0 < len(drawn) < 256 * 256
    assert {tuple(c) for c in drawn[:, :3]} <= shades
    order = {tuple(c): i for i, c in enumerate(ramp(255))}
    row = [order[tuple(c)] for c in seen[200, :, :3][seen[200, :, 3] == 255]]
    assert row == sorted(row)  # a slope that rises to the east
    score = client.get("/api/layers", params={"job": job}).json()["layers"]
    assert [one["id"] for one in score] == [f"{job}-result"]


CODES = {997: "#4a90d9", 999: "#b8b8b8"}


def masked_tile(client, job, x, y, zoom=15):
    tile = tile_over(x, y, zoom)
    return colours(client.get(f"/api/layers/{job}-masked/tiles/{zoom}/{tile.x}/{tile.y}.png")), tile


def test_masked_classes_have_their_colours_and_masks_theirs(house, ada, client, tmp_path):
    files = made(tmp_path, replace(MAP, score=None, observations=None), masks=True)
    job = house.left(ada, files.files).id
    layer = client.get(f"/api/layers/{job}-masked").json()
    assert layer["look"] == "classes"
    named = {c["value"]: (c["name"], c["colour"]) for c in layer["classes"]}
    assert named == {**{c.value: (c.name, c.colour) for c in CLASSES}, 997: ("permanent water", CODES[997]),
                     999: ("cloud", CODES[999])}  # fmt: skip
    seen, tile = masked_tile(client, job, 5e5 + 1500, 5_600_000 - 2600, 14)
    values = files.pixels["masked.tif"][0]
    table = [*CLASSES, *(ClassLabel(value=n, name="code", colour=CODES[c]) for n, c in ((201, 997), (203, 999)))]
    told = np.where(values == 997, 201, np.where(values == 999, 203, np.where(values < 0, 255, values)))
    wanted = expected(told, GRID, WEB.xy_bounds(tile), classes=table)
    assert (wanted == (*bytes.fromhex(CODES[997][1:]), 255)).all(axis=2).any()
    assert (seen != wanted).any(axis=2).mean() < 2e-4
    legend = {tuple(c[:3]) for c in colours(client.get(layer["links"]["legend"])).reshape(-1, 4)}
    assert {tuple(bytes.fromhex(colour[1:])) for colour in CODES.values()} <= legend
    to = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    lon, lat = to.transform(5e5 + 6005, 5_600_000 - 4505)
    point = client.get(f"/api/layers/{job}-masked/point", params={"lon": lon, "lat": lat}).json()
    assert (point["value"], point["name"]) == (999, "cloud")


def test_codes_among_numbers_have_their_colours_and_are_mixed_into_nothing(house, ada, client, tmp_path):
    files = made(tmp_path, HEIGHT, masks=True)
    job = house.left(ada, files.files).id
    layer = client.get(f"/api/layers/{job}-masked").json()
    assert (layer["look"], [c["value"] for c in layer["classes"]]) == ("values", [997, 999])
    assert layer["range"][1] < 2500
    codes = {tuple(bytes.fromhex(colour[1:])) for colour in CODES.values()}
    shades = {tuple(c) for c in ramp(253)}
    assert not codes & shades
    values = files.pixels["masked.tif"][0]
    for zoom in (13, 15):
        seen, tile = masked_tile(client, job, 5e5 + 2990, 5_600_000 - 2600, zoom)
        drawn = {tuple(c) for c in seen[seen[..., 3] == 255][:, :3]}
        assert drawn & shades
        assert drawn <= shades | codes
        assert tuple(bytes.fromhex(CODES[997][1:])) in drawn
    told = np.where(values == 997, 1, 0)  # water where the file has it, and nowhere else
    water = ClassLabel(value=1, name="water", colour=CODES[997])
    wanted = expected(told, GRID, WEB.xy_bounds(tile), classes=[water])
    wet = (seen == (*bytes.fromhex(CODES[997][1:]), 255)).all(axis=2)
    assert (wet != (wanted[..., 3] == 255)).mean() < 2e-4
    legend = {tuple(c[:3]) for c in colours(client.get(layer["links"]["legend"])).reshape(-1, 4)}
    assert codes <= legend


def test_scores_and_observations_are_layers_of_their_own(client, job):
    found = {
        one["id"].removeprefix(job): one for one in client.get("/api/layers", params={"job": job}).json()["layers"]
    }
    assert list(found) == ["-result", "-score", "-observations-1", "-observations-2"]
    assert found["-score"]["range"] == [0.0, 1.0]
    assert found["-observations-2"]["band"] == 2
    assert found["-result"]["datetime"] == "2024-05-01T10:30:00Z"
    point = client.get(f"/api/layers/{job}-score/point", params={"lon": 15.05, "lat": 50.52}).json()
    assert point["value"] == pytest.approx(0.5)


def test_over_the_antimeridian_both_sides_are_drawn(house, ada, client, tmp_path):
    grid = GeoBox((300, 400), Affine(100, 0, 280_000, 0, -100, 6_000_000), "EPSG:32601")
    job = house.left(ada, made(tmp_path, replace(MAP, score=None, observations=None), grid).files).id
    layer = client.get(f"/api/layers/{job}-result").json()
    west, _, east, _ = layer["bbox"]
    if west < east:
        pytest.fail("the test's grid does not cross")
    bounds = client.get(layer["links"]["tilejson"]).json()["bounds"]
    assert (bounds[0], bounds[2]) == (-180, 180)
    lat = (layer["bbox"][1] + layer["bbox"][3]) / 2
    for lon in (179.99, -179.99):
        tile = WEB.tile(lon, lat, 10)
        assert colours(client.get(f"/api/layers/{job}-result/tiles/10/{tile.x}/{tile.y}.png"))[..., 3].any()
    far = WEB.tile(0.0, lat, 10)
    assert not colours(client.get(f"/api/layers/{job}-result/tiles/10/{far.x}/{far.y}.png")).any()


WORLD_M = 2 * math.pi * 6_378_137


@pytest.mark.parametrize(
    ("crs", "whole", "corner", "pixel"),
    [
        ("EPSG:3857", WORLD_M, (WORLD_M / 2 - 20_000, 7_200_000), 100),
        ("EPSG:3857", WORLD_M, (-WORLD_M / 2 - 20_000, 7_200_000), 100),
        ("EPSG:4326", 360, (179.8, 54.2), 0.001),
        ("EPSG:4326", 360, (-180.2, 54.2), 0.001),
        ("EPSG:3395", WORLD_M, (WORLD_M / 2 - 20_000, 7_160_000), 100),
        ("EPSG:32601", 0, (280_000, 6_010_000), 100),
    ],
)
def test_on_a_grid_that_runs_on_over_180_both_sides_are_drawn(house, tmp_path, crs, whole, corner, pixel):
    grid = GeoBox((300, 400), Affine(pixel, 0, corner[0], 0, -pixel, corner[1]), crs)
    owner = house.person()
    client = house.client(owner)
    result = made(tmp_path, replace(MAP, score=None, observations=None), grid)
    values, job = result.pixels["result.tif"][0], house.left(owner, result.files).id
    layer = client.get(f"/api/layers/{job}-result").json()
    west, south, east, north = layer["bbox"]
    assert west > 179
    assert east < -179
    lat = (south + north) / 2
    for lon in (179.99, -179.99, 0.0):
        tile = WEB.tile(lon, lat, 10)
        seen = colours(client.get(f"/api/layers/{job}-result/tiles/10/{tile.x}/{tile.y}.png"))
        wanted = expected(values, grid, WEB.xy_bounds(tile), whole=whole)
        assert wanted[..., 3].any() == (lon != 0)
        assert (seen != wanted).any(axis=2).mean() < 5e-3, lon
    for x in (0, 63):  # from afar, at both ends of the world
        tile = WEB.tile(180 if x else -180, lat, 6)
        assert tile.x == x
        drawn = np.flatnonzero(
            colours(client.get(f"/api/layers/{job}-result/tiles/6/{x}/{tile.y}.png"))[..., 3].any(axis=0)
        )
        assert 3 <= len(drawn) <= 20
        assert (255 if x else 0) in drawn
    found = client.get(layer["links"]["tilejson"]).json()
    assert found["bounds"] == pytest.approx([-180, south, 180, north])
    assert abs(found["center"][0]) == pytest.approx(180, abs=0.5)
    system = "{*}Layer/{*}Layer/{*}BoundingBox[@CRS='EPSG:3857']"
    told = ET.fromstring(client.get(f"/api/layers/wms?job={job}&REQUEST=GetCapabilities").content).find(f".//{system}")
    assert [float(told.get(side)) for side in ("minx", "maxx")] == pytest.approx([-WORLD_M / 2, WORLD_M / 2])
    for box in ((lat - 0.05, 179.95, lat + 0.05, 180), (lat - 0.05, -180, lat + 0.05, -179.95)):
        asked = WMS | {
            "LAYERS": f"{job}-result",
            "CRS": "EPSG:4326",
            "BBOX": ",".join(map(str, box)),
            "WIDTH": 100,
            "HEIGHT": 100,
            "TRANSPARENT": "TRUE",
        }
        seen = colours(client.get("/api/layers/wms", params=asked))
        wanted = expected(values, grid, (box[1], box[0], box[3], box[2]), (100, 100), "EPSG:4326", whole=whole)
        assert wanted[..., 3].all()
        assert (seen != wanted).any(axis=2).mean() < 5e-3, box
    for lon in (179.99, -179.99):
        found = client.get(f"/api/layers/{job}-result/point", params={"lon": lon, "lat": lat}).json()
        x, y = pyproj.Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
        col = (x - grid.transform.c) % whole if whole else x - grid.transform.c
        assert found["value"] == values[int((grid.transform.f - y) / pixel), int(col / pixel)]


# --- tiles as HTTP ----------------------------------------------------------------------------------------------------


def test_outside_of_the_data_a_tile_is_transparent_and_beyond_the_grid_there_is_none(client, layer):
    away = client.get(f"/api/layers/{layer['id']}/tiles/3/0/0.png")
    assert not colours(away).any()
    assert client.get(f"/api/layers/{layer['id']}/tiles/3/8/0.png").json()["code"] == "tile.unknown"
    for path in ("25/0/0.png", "-1/0/0.png", "a/0/0.png", "3/0/0.gif", "3/0/99999999999999999999.png"):
        answer = client.get(f"/api/layers/{layer['id']}/tiles/{path}")
        assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid"), path


def test_a_tile_is_kept_by_the_client(client, layer):
    where = f"/api/layers/{layer['id']}/tiles/3/4/2.png"
    first = client.get(where)
    assert first.headers["cache-control"] == "private, max-age=3600"
    again = client.get(where, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(where.replace("png", "webp")).headers["etag"] != first.headers["etag"]


def test_who_does_not_see_a_job_does_not_see_its_layers(house, layer, job):
    other, admin = house.client(house.person()), house.client(house.person(Role.ADMIN))
    for path in ("", "/tilejson.json", "/legend.png", "/tiles/3/4/2.png", "/point?lon=1&lat=1"):
        answer = other.get(f"/api/layers/{layer['id']}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "layer.unknown"), path
        assert admin.get(f"/api/layers/{layer['id']}{path}").status_code == 200
        assert house.client().get(f"/api/layers/{layer['id']}{path}").status_code == 401
    assert other.get("/api/layers", params={"job": job}).json()["code"] == "job.unknown"
    assert other.get("/api/layers").json()["layers"] == []
    assert layer["id"] not in other.get("/api/layers/wms?REQUEST=GetCapabilities").text
    refused = other.get("/api/layers/wms", params={**WMS, "LAYERS": layer["id"], "CRS": "EPSG:3857", "WIDTH": 9,
                                                   "HEIGHT": 9, "BBOX": "0,0,1,1"})  # fmt: skip
    assert 'code="LayerNotDefined"' in refused.text


@pytest.mark.parametrize("id_", ["nope", "j1-result", "..", "j-x-y-z", "a" * 140, "j1-result-0"])
def test_a_layer_that_is_none(client, id_):
    assert client.get(f"/api/layers/{id_}").status_code == 404


def test_jobs_without_results_have_no_layers(house, ada, client):
    running, failed = house.job(ada), house.job(ada, JobState.FAILED)
    odd = house.left(ada, {"result.tif": b"II*\0", "item.json": b'{"type": "Feature", "properties": {}}'})
    for one in (running, failed, odd):
        assert client.get("/api/layers", params={"job": one.id}).json()["layers"] == []


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_file_that_is_gone_or_damaged_is_told(house, ada, client, result):
    job = house.left(ada, result.files).id
    path = house.desk.settings.service_dir / "jobs" / job / "result.tif"
    tile = tile_over(5e5 + 8000, 5_600_000 - 6000, 14)
    where = f"/api/layers/{job}-result/tiles/14/{tile.x}/{tile.y}.png"
    whole = path.read_bytes()
    for kept in (len(whole) - 500, 600, 3):
        path.write_bytes(whole[:kept])
        damaged = client.get(where)
        assert (damaged.status_code, damaged.json()["code"]) == (502, "read.corrupt"), kept
        assert str(house.desk.settings.service_dir) not in damaged.text
    path.unlink()
    assert client.get(where).json()["code"] == "layer.gone"


def test_the_key_of_the_query_travels_in_the_addresses_and_no_other(house, ada, client, layer, job):
    stranger = house.client()
    for path in (f"/api/layers/{layer['id']}", f"/api/layers/{layer['id']}/tilejson.json",
                 f"/api/layers/wms?job={job}&REQUEST=GetCapabilities",
                 f"/api/layers/wmts?job={job}&REQUEST=GetCapabilities",
                 f"/api/layers/wmts/1.0.0/WMTSCapabilities.xml?job={job}"):  # fmt: skip
        assert "api_key" not in client.get(path).text
        mark = "&" if "?" in path else "?"
        told = stranger.get(f"{path}{mark}api_key={ada.key}").text
        assert f"api_key={ada.key}" in told
        assert re.findall(r"https?://svc\.test/[^\"<]*tiles/[^\"<]*", told) or "wms" in path
    tilejson = stranger.get(f"/api/layers/{layer['id']}/tilejson.json?api_key={ada.key}").json()
    tile = tilejson["tiles"][0].format(z=3, x=4, y=2)
    assert stranger.get(tile).status_code == 200


def test_addresses_are_those_of_the_proxy(house_of, result):
    house = house_of(front={"public_url": "https://maps.example.org/swathe"})
    owner = house.person()
    job = house.left(owner, result.files).id
    found = house.client(owner).get(f"/api/layers/{job}-result").json()["links"]
    assert {href.partition("/api/")[0] for href in found.values()} == {"https://maps.example.org/swathe"}


def test_tilejson_is_what_web_maps_want(client, layer):
    found = client.get(layer["links"]["tilejson"]).json()
    assert found["tilejson"] == "3.0.0"
    assert found["tiles"] == [layer["links"]["xyz"]]
    assert found["bounds"] == layer["bbox"]
    assert 0 <= found["minzoom"] <= found["maxzoom"] <= 24
    assert WEB.matrix(found["maxzoom"]).cellSize * math.cos(math.radians(50.5)) <= 11  # as fine as 10 m


def test_a_legend_shows_each_class_in_its_colour(client, layer):
    legend = colours(client.get(layer["links"]["legend"]))
    seen = {tuple(c[:3]) for c in legend.reshape(-1, 4)}
    assert {tuple(bytes.fromhex(c.colour[1:])) for c in CLASSES} <= seen


def test_a_point_is_read_with_its_class(client, layer, result):
    to = pyproj.Transformer.from_crs("EPSG:32633", "EPSG:4326", always_xy=True)
    values, rng = result.pixels["result.tif"][0], np.random.default_rng(1)
    names = {c.value: c.name for c in CLASSES}
    for row, col in [*rng.integers(0, (700, 900), (12, 2)).tolist(), [10, 10]]:
        lon, lat = to.transform(5e5 + col * 10 + 5, 5_600_000 - row * 10 - 5)
        found = client.get(f"/api/layers/{layer['id']}/point", params={"lon": lon, "lat": lat}).json()
        wanted = int(values[row, col])
        assert (found["value"], found["name"]) == ((None, "") if wanted == 255 else (wanted, names[wanted]))
    assert client.get(f"/api/layers/{layer['id']}/point?lon=0&lat=0").json()["value"] is None
    assert client.get(f"/api/layers/{layer['id']}/point?lon=nan&lat=0").status_code == 422


def test_the_item_links_to_its_maps(client, job, layer):
    links = {one["rel"]: one for one in reversed(client.get(f"/api/jobs/{job}/item").json()["links"])}
    assert links["xyz"]["href"] == layer["links"]["xyz"]
    assert links["wms"]["wms:layers"] == [layer["id"]]
    assert links["wmts"]["wmts:layer"] == layer["id"]


def test_tiles_have_a_rate_of_their_own(house_of, result):
    house = house_of(front={"tile_rate_per_minute": 2})
    owner = house.person()
    job = house.left(owner, result.files).id
    client = house.client(owner)
    answers = [client.get(f"/api/layers/{job}-result/tiles/3/4/2.png").status_code for _ in range(3)]
    assert answers == [200, 200, 429]
    assert client.get("/api/me").status_code == 200


# --- WMS --------------------------------------------------------------------------------------------------------------


def wms(client, **asked):
    return client.get("/api/layers/wms", params={**WMS, "TRANSPARENT": "TRUE", **asked})


@pytest.mark.parametrize(("version", "word"), [("1.1.1", "SRS"), ("1.3.0", "CRS")])
@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3857", "EPSG:4326"])
def test_a_map_is_right_in_both_versions_and_every_system(client, layer, result, version, word, crs):
    to = pyproj.Transformer.from_crs("EPSG:32633", crs, always_xy=True)
    left, bottom, right, top = to.transform_bounds(501_000, 5_596_000, 504_000, 5_599_500)
    box = (bottom, left, top, right) if (version, crs) == ("1.3.0", "EPSG:4326") else (left, bottom, right, top)
    answer = wms(client, VERSION=version, LAYERS=layer["id"], WIDTH=300, HEIGHT=260, BBOX=",".join(map(repr, box)),
                 **{word: crs})  # fmt: skip
    seen = colours(answer)
    wanted = expected(result.pixels["result.tif"][0], GRID, (left, bottom, right, top), (260, 300), crs)
    assert (seen != wanted).any(axis=2).mean() < 3e-3  # 11 m a pixel: nearly every edge is near some middle
    assert wanted[..., 3].mean() > 0.5


def test_layers_lie_on_each_other_and_on_the_ground_that_is_asked_for(client, job):
    box = {"CRS": "EPSG:32633", "WIDTH": 90, "HEIGHT": 70, "BBOX": "500000,5593000,509000,5600000"}
    both = colours(wms(client, LAYERS=f"{job}-result,{job}-score", **box))
    assert (both == colours(wms(client, LAYERS=f"{job}-score", **box))).all()
    ground = colours(wms(client, LAYERS=f"{job}-result", TRANSPARENT="FALSE", BGCOLOR="0x010203", **box))
    assert tuple(ground[2, 2]) == (1, 2, 3, 255)
    jpeg = client.get("/api/layers/wms", params={**WMS, "LAYERS": f"{job}-result", "FORMAT": "image/jpeg", **box})
    assert jpeg.headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"LAYERS": "nope"}, "LayerNotDefined"), ({"CRS": "EPSG:27700"}, "InvalidCRS"), ({"CRS": "x"}, "InvalidCRS"),
        ({"CRS": "EPSG:99999999"}, "InvalidCRS"), ({"CRS": "EPSG:" + "1" * 300}, "InvalidCRS"),
        ({"VERSION": "1.1.1", "SRS": "EPSG:27700"}, "InvalidSRS"), ({"FORMAT": "image/gif"}, "InvalidFormat"),
        ({"STYLES": "fancy"}, "StyleNotDefined"), ({"REQUEST": "GetCake"}, "OperationNotSupported"),
        ({"WIDTH": "100000"}, "InvalidParameterValue"), ({"HEIGHT": "0"}, "InvalidParameterValue"),
        ({"WIDTH": "²"}, "InvalidParameterValue"), ({"BBOX": "1,2,3"}, "InvalidParameterValue"),
        ({"BBOX": "nan,0,1,1"}, "InvalidParameterValue"), ({"BBOX": "5,5,5,5"}, "InvalidParameterValue"),
        ({"BBOX": "9,9,1,1"}, "InvalidParameterValue"), ({"BBOX": "0,0,1e300,1"}, "InvalidParameterValue"),
        ({"LAYERS": ",".join(["x"] * 17)}, "InvalidParameterValue"), ({"BGCOLOR": "red", "TRANSPARENT": "F"},
                                                                      "InvalidParameterValue"),
        ({"REQUEST": "GetFeatureInfo", "I": "900", "J": "1"}, "InvalidPoint"),
    ],
    ids=lambda v: str(v)[:30],
)  # fmt: skip
def test_maps_that_are_refused_in_the_services_own_words(client, layer, asked, code):
    given = {"LAYERS": layer["id"], "QUERY_LAYERS": layer["id"], "CRS": "EPSG:3857", "WIDTH": "50", "HEIGHT": "50",
             "BBOX": "1,1,9,9"}  # fmt: skip
    answer = wms(client, **{**given, **asked})
    root = ET.fromstring(answer.content)
    assert root.tag.endswith("ServiceExceptionReport")
    assert [found.get("code") for found in root] == [code]
    assert answer.headers["content-type"].startswith(
        "application/vnd.ogc.se_xml" if asked.get("VERSION") == "1.1.1" else "text/xml"
    )


def test_what_is_under_a_point_of_a_map(client, job, result):
    box = {"REQUEST": "GetFeatureInfo", "CRS": "EPSG:32633", "WIDTH": 900, "HEIGHT": 700,
           "BBOX": "500000,5593000,509000,5600000", "QUERY_LAYERS": f"{job}-result,{job}-score",
           "LAYERS": f"{job}-result", "I": 500, "J": 300}  # fmt: skip
    found = json.loads(wms(client, INFO_FORMAT="application/json", **box).content)["layers"]
    assert found[0]["value"] == int(result.pixels["result.tif"][0, 300, 500])
    assert found[1]["value"] == pytest.approx(0.5)
    assert "no data" in wms(client, INFO_FORMAT="text/plain", **{**box, "I": 3, "J": 3}).text
    row, col = (int(n[0]) for n in np.nonzero(result.pixels["result.tif"][0] == 1))
    page = wms(client, INFO_FORMAT="text/html", **{**box, "I": col, "J": row}).text
    assert "forêt &amp; &lt;marsh&gt;" in page


# --- WMTS -------------------------------------------------------------------------------------------------------------


def test_a_wmts_tile_is_the_tile(client, layer):
    tile = tile_over(5e5 + 1500, 5_600_000 - 1200, 14)
    asked = {"Service": "WMTS", "Request": "GetTile", "Version": "1.0.0", "Layer": layer["id"], "Style": "default",
             "Format": "image/png", "TileMatrixSet": "WebMercatorQuad", "TileMatrix": 14, "TileRow": tile.y,
             "TileCol": tile.x}  # fmt: skip
    found = client.get("/api/layers/wmts", params=asked)
    assert found.content == client.get(f"/api/layers/{layer['id']}/tiles/14/{tile.x}/{tile.y}.png").content
    for wrong, code in (({"TileRow": 1 << 15}, "TileOutOfRange"), ({"Layer": "nope"}, "InvalidParameterValue"),
                        ({"TileMatrixSet": "x"}, "InvalidParameterValue"), ({"Request": "x"}, "OperationNotSupported"),
                        ({"TileRow": ""}, "MissingParameterValue")):  # fmt: skip
        answer = client.get("/api/layers/wmts", params={**asked, **wrong})
        assert (answer.status_code, ET.fromstring(answer.content)[0].get("exceptionCode")) == (400, code)


def test_the_matrices_of_the_wmts_are_those_of_the_standard(client, job):
    root = ET.fromstring(client.get(f"/api/layers/wmts/1.0.0/WMTSCapabilities.xml?job={job}").content)
    space = {"w": "http://www.opengis.net/wmts/1.0", "o": "http://www.opengis.net/ows/1.1"}
    found = root.findall(".//w:TileMatrixSet/w:TileMatrix", space)
    assert len(found) == 25
    for zoom, matrix in enumerate(found):
        assert matrix.findtext("o:Identifier", "", space) == str(zoom)
        assert float(matrix.findtext("w:ScaleDenominator", "", space)) == pytest.approx(559_082_264.0287178 / 2**zoom)
        assert matrix.findtext("w:MatrixWidth", "", space) == str(2**zoom)
