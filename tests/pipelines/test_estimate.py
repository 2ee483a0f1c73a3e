"""What a run will take, told before it runs."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox

from pipelines.estimate import SAMPLED, Means, _bytes, _fetch_mb, _step, _timed
from pipelines.pace import Pace, known, on_replica
from pipelines.planning import area_km2, depth, gsd_m
from swathe.aoi import AOI
from swathe.mosaic import Mosaic
from swathe.plan import Cost
from swathe.scene import Asset, Scene
from tests.pipelines.conftest import network_card
from tests.pipelines.scenes import LocalOpener, Place, make_scene, mosaic_of

COST = Cost(pixels=1_000_000, area_km2=1, tiles=100, repeated=0, read_mb=1, memory_mb=1)


@pytest.mark.parametrize(
    ("fetch_mb", "measured", "seconds", "said"),
    [
        (None, True, 10.0, "measured"),
        (100.0, True, 10.0, "measured"),  # 8 s at 100 Mbit/s: less than the model takes
        (1000.0, True, 80.0, "guess"),
        (1000.0, False, 80.0, "guess"),
    ],
)
def test_a_slow_link_decides_and_is_no_measurement(fetch_mb, measured, seconds, said):
    means = Means("loop", 1, 1, mbit_s=100.0)
    found = _timed(replace(COST, fetch_mb=fetch_mb), 10, Pace(0.1, measured), means, 0.0)
    assert found.seconds == pytest.approx(seconds + 1.0, abs=0.1)
    assert found.seconds_from == said


def test_a_coarser_grid_costs_the_bytes_of_its_overview(tmp_path):
    place = Place(shape=(512, 512))
    scene = make_scene(tmp_path, "a", place, overviews=(2, 4))
    box = shapely.box(place.x, place.y - 5120, place.x + 5120, place.y)
    fine, coarse = (
        _bytes(scene.bands[0], LocalOpener(), SimpleNamespace(area=box, imagery=mosaic_of([scene], p)))
        for p in (place, place.coarser(4))
    )
    assert (fine, coarse) == (512 * 512 * 2, 128 * 128 * 2)


@pytest.mark.parametrize("west", [179, -181])
def test_scenes_on_both_sides_of_180_lie_under_a_grid_of_degrees_that_goes_on(west):
    place = Place("EPSG:4326", west, 53, 0.01, (100, 200))
    sides = [shapely.box(179, 52, 180, 53), shapely.box(-180, 52, -179, 53)]
    scenes = [
        Scene(str(n), "", "2024-07-01T00:00:00Z", shapely.to_wkb(side), (Asset("red", "https://h/x.tif"),))
        for n, side in enumerate(sides)
    ]
    work = SimpleNamespace(area=shapely.box(west, 52, west + 2, 53))
    assert depth(mosaic_of(scenes, place), work) == pytest.approx(1)


@pytest.mark.parametrize("of_a_scene", range(1, 14))
def test_a_sample_meets_every_band_alike(of_a_scene):
    files = of_a_scene * 240
    seen = [n % of_a_scene for n in range(0, files, _step(files, of_a_scene))]
    assert len(seen) <= SAMPLED
    counts = [seen.count(band) for band in range(of_a_scene)]
    assert max(counts) - min(counts) <= 1


def test_bands_of_different_size_are_weighed(monkeypatch):
    """Six bands, the first ten times the size of the others: a step of six would meet it alone."""
    bands = tuple(Asset(name, f"https://h/{name}.tif") for name in "abcdef")
    scenes = tuple(Scene(str(n), "", "2024-07-01T00:00:00Z", b"", bands) for n in range(48))
    mosaic = object.__new__(Mosaic)
    monkeypatch.setattr(Mosaic, "scenes", scenes)
    monkeypatch.setattr("pipelines.estimate._bytes", lambda a, *_: 10_000_000 if a.name == "a" else 1_000_000)
    found = _fetch_mb(SimpleNamespace(imagery=mosaic), opener=object())
    assert found == pytest.approx(48 * 15, rel=0.1)


def test_a_card_that_leaves_the_engine_open_has_the_pace_of_its_runs(tmp_path):
    """Runs settle on an engine, and their pace is kept by it; whoever asks before a run has not settled yet."""
    card = network_card("net.onnx")
    assert card.runtime.engine == "auto"
    assert not known(card, tmp_path).measured
    kept = {
        f"{card.id} openvino fp32": {"tile_s": 0.5, "runs": 3},
        f"{card.id} eager fp32": {"tile_s": 9.0, "runs": 1},
        f"{card.id} openvino bf16": {"tile_s": 0.1, "runs": 9},
        "another openvino fp32": {"tile_s": 7.0, "runs": 9},
    }
    (tmp_path / "pace.json").write_text(json.dumps(kept))
    assert known(card, tmp_path) == Pace(0.5, measured=True)
    eager = card.model_copy(update={"runtime": card.runtime.model_copy(update={"engine": "eager"})})
    assert known(eager, tmp_path) == Pace(9.0, measured=True)
    torch = card.model_copy(update={"runtime": card.runtime.model_copy(update={"engine": "torchexport"})})
    assert not known(torch, tmp_path).measured


def test_a_replica_s_guess_is_one_of_its_threads_and_none_of_a_gpu(tmp_path):
    card = network_card("net.onnx")
    alone = on_replica(card, tmp_path, 1, "cpu")
    assert alone is not None
    assert on_replica(card, tmp_path, 4, "cpu") == Pace(alone.tile_s / 4, measured=False)
    assert on_replica(card, tmp_path, 4, "cuda") is None
    (tmp_path / "pace.json").write_text(json.dumps({f"{card.id} auto fp32": {"tile_s": 0.5, "runs": 3}}))
    assert on_replica(card, tmp_path, 4, "cuda") == Pace(0.5, measured=True)


EARTH_KM2 = 510_065_621.724
"""Surface of the ellipsoid WGS84."""


def degrees(west, east, south=-90, north=90):
    return GeoBox((north - south, east - west), Affine(1, 0, west, 0, -1, north), "EPSG:4326")


def flat(crs, left, top, res, shape):
    return GeoBox(shape, Affine(res, 0, left, 0, -res, top), crs)


@pytest.mark.parametrize(
    ("grid", "km2"),
    [
        (degrees(-180, 180), EARTH_KM2),
        (degrees(0, 360), EARTH_KM2),
        (degrees(-170, 170), EARTH_KM2 * 340 / 360),
        (degrees(175, 190), EARTH_KM2 * 15 / 360),
        (degrees(10, 240, 0, 90), EARTH_KM2 * 230 / 720),
        (degrees(7, 107, 45, 60), AOI.parse("7,45,107,60").area_km2),
        # On an equal-area projection the plane tells it: around the world, and around a pole.
        (flat("EPSG:6933", -1.73e7, 6e6, 1e5, (120, 346)), 34_600 * 12_000),
        (flat("EPSG:6931", -3e6, 2e6, 1e5, (50, 60)), 6000 * 5000),
        (flat("EPSG:6932", -3e6, 2e6, 1e5, (50, 60)), 6000 * 5000),
        # The scale of UTM is 0.9996 on its middle meridian.
        (flat("EPSG:32633", 4.9e5, 5e6, 10, (2000, 2000)), 400 / 0.9996**2),
        # Nobody knows where this is; it is no reason to take it for nothing.
        (flat('LOCAL_CS["a field",UNIT["metre",1]]', 0, 0, 10, (100, 200)), 2),
    ],
)  # fmt: skip
def test_an_area_is_that_of_the_ground_however_wide(grid, km2):
    assert area_km2(grid, None) == pytest.approx(km2, rel=2e-5)
    assert area_km2(grid, grid.extent.geom) == area_km2(grid, None)


def test_an_area_with_a_hole_across_the_antimeridian():
    grid = flat("EPSG:32660", 6e5, 1e6, 100, (2000, 4000))
    shape = shapely.box(6.1e5, 8.1e5, 9.9e5, 9.9e5).difference(shapely.box(8e5, 9e5, 9e5, 9.2e5))
    assert area_km2(grid, shape) == pytest.approx(380 * 180 - 100 * 20, rel=5e-3)
    assert area_km2(grid, shape) < 380 * 180 - 100 * 20  # far from its middle meridian, UTM shows things larger


@pytest.mark.parametrize(
    ("crs", "corner", "res", "metres"),
    [
        ("EPSG:32633", (5e5, 6.6e6), 10, 10),
        ("EPSG:3857", (1.67e6, 8.4e6), 20, 10),  # 60 degrees north
        ("EPSG:4326", (15, 60), 0.001, 111.2),
        ("EPSG:2263", (9e5, 2e5), 100, 30.48),  # feet
    ],
)
def test_a_pixel_is_as_large_as_it_is_on_the_ground(crs, corner, res, metres):
    imagery = SimpleNamespace(crs=crs, transform=(res, 0, corner[0], 0, -res, corner[1]), shape=(50, 60))
    assert gsd_m(imagery) == pytest.approx(metres, rel=3e-3)
