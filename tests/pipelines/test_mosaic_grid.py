"""The output grid of an area over scenes."""

from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from pipelines.mosaic.frame import Frame, named
from pipelines.mosaic.grid import Wish, output_grid
from swathe.aoi import AOI
from swathe.errors import AreaError, GridError
from swathe.mosaic import Composite, Mosaic, Slot
from swathe.scene import Asset, AssetGrid, Scene
from swathe.window import Window
from tests.pipelines.scenes import Place, outline

TILE_32 = Place("EPSG:32632", 600_000, 4_700_040, 10, (10_980, 10_980))
TILE_33 = Place("EPSG:32633", 199_980, 4_700_040, 10, (10_980, 10_980))


def scene(name, place, *bands, when="2024-07-01T10:00:00Z"):
    grids = [place.coarser(f) for f in bands or (1,)]
    assets = tuple(
        Asset(f"b{n}", f"/{name}/{n}", grid=AssetGrid(p.crs, p.transform, p.shape)) for n, p in enumerate(grids)
    )
    return Scene(name, "", when, outline(place.crs, place.transform, place.shape), assets)


def test_sentinel_2_keeps_its_zone_its_finest_band_and_whole_tens():
    grid = output_grid([scene("a", TILE_33, 2, 1, 6)], AOI.parse("12.1,41.8,12.3,41.9"))
    assert grid.frame == Frame("EPSG:32633", 10.0)
    turn = Transformer.from_crs("OGC:CRS84", "EPSG:32633", always_xy=True)
    xy = np.array([turn.transform(x, y) for x in np.linspace(12.1, 12.3, 50) for y in (41.8, 41.9)])
    a, _, c, _, e, f = grid.transform
    rows, cols = grid.shape
    assert c <= xy[:, 0].min()
    assert c + a * cols >= xy[:, 0].max()
    assert f + e * rows <= xy[:, 1].min()
    assert f >= xy[:, 1].max()
    assert xy[:, 0].min() - c < 20
    assert (c % 10, f % 10) == (0, 0)
    assert grid.corner == (-f / 10, c / 10)
    assert grid.area.area == pytest.approx(grid.shape[0] * grid.shape[1] * 100, rel=0.1)


def test_landsat_keeps_its_half_pixel():
    place = Place("EPSG:32619", 483_285, -1_234_515, 30, (7_700, 7_600))
    grid = output_grid(
        [scene("l", place), scene("m", replace(place, x=place.x + 3_000))], AOI.parse("-69,-12,-68.9,-11.9")
    )
    assert grid.frame.phase == (0.5, 0.5)
    assert (grid.transform[2] - 483_285) % 30 == 0
    assert (grid.transform[5] + 1_234_515) % 30 == 0
    moved = scene("n", replace(place, x=place.x + 7))
    assert output_grid([scene("l", place), moved], AOI.parse("-69,-12,-68.9,-11.9")).frame.phase == (0.0, 0.0)


def test_across_two_zones_the_middle_decides_whatever_the_order():
    scenes = [scene("w", TILE_32), scene("e", TILE_33)]
    for area, crs in (("11.0,41.8,11.2,41.9", "EPSG:32632"), ("11.9,41.8,12.3,41.9", "EPSG:32633")):
        for order in (scenes, scenes[::-1]):
            grid = output_grid(order, AOI.parse(area))
            assert grid.frame.crs == crs


def test_what_is_asked_for_is_done():
    scenes, aoi = [scene("e", TILE_33)], AOI.parse("12.5,41.8,12.9,41.9")
    assert output_grid(scenes, aoi, Wish(res=20.0)).frame == Frame("EPSG:32633", 20.0)
    assert output_grid(scenes, aoi, Wish(crs="EPSG:3035")).frame == Frame("EPSG:3035", 10.0)
    degrees = output_grid(scenes, aoi, Wish(crs="EPSG:4326"))
    assert degrees.frame.res == pytest.approx(8.983152841195215e-05)
    assert degrees.area.bounds == pytest.approx((12.5, 41.8, 12.9, 41.9))
    snapped = output_grid(scenes, aoi, Wish(stride=16))
    assert [v % 16 for v in (*snapped.corner, *snapped.shape)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (Wish(crs="EPSG:99999999"), "grid.crs"),
        (Wish(res=0.0), "grid.res"),
        (Wish(res=float("nan")), "grid.res"),
        (Wish(limit=1000), "grid.too_large"),
        (Wish(res=1e-6), "grid.too_large"),
    ],
)
def test_nonsense_is_refused_with_a_hint(wish, code):
    with pytest.raises(GridError) as told:
        output_grid([scene("e", TILE_33)], AOI.parse("12.5,41.8,12.9,41.9"), wish)
    assert told.value.problem.code == code
    assert told.value.hint
    with pytest.raises(GridError, match="no scene"):
        output_grid([], AOI.parse("12.5,41.8,12.9,41.9"))


def test_grids_the_catalogue_does_not_tell_are_looked_at():
    known = scene("e", TILE_33, 2, 1)
    blank = replace(known, bands=tuple(replace(b, grid=None) for b in known.bands))
    aoi = AOI.parse("12.5,41.8,12.9,41.9")
    looked = output_grid([blank], aoi, look=lambda asset: next(b.grid for b in known.bands if b.name == asset.name))
    assert looked == output_grid([known], aoi)
    with pytest.raises(GridError) as told:
        output_grid([blank], aoi)
    assert told.value.problem.code == "grid.unknown"


def test_projected_scenes_go_before_degrees():
    degrees = scene("d", Place("EPSG:4326", 12, 43, 0.0001, (20_000, 20_000)))
    assert output_grid([degrees, scene("e", TILE_33)], AOI.parse("12.5,41.8,12.9,41.9")).frame.crs == "EPSG:32633"
    assert output_grid([degrees], AOI.parse("12.5,41.8,12.9,41.9")).frame == Frame("EPSG:4326", 0.0001)


def test_across_the_antimeridian_coordinates_run_on():
    place = Place("EPSG:32660", 600_000, 5_900_000, 10, (10_980, 20_000))
    grid = output_grid([scene("x", place)], AOI.parse("179.5,52.2,-179.5,52.6"))
    assert grid.shape[1] * 10 == pytest.approx(68_000, rel=0.05)
    assert grid.area.area == pytest.approx(grid.shape[0] * grid.shape[1] * 100, rel=0.1)
    degrees = scene("d", Place("EPSG:4326", 179, 53, 0.001, (1000, 2000)))
    grid = output_grid([degrees], AOI.parse("179.5,52.2,-179.5,52.6"))
    assert grid.area.bounds == pytest.approx((179.5, 52.2, 180.5, 52.6))
    assert grid.shape == (400, 1000)


def test_around_a_pole():
    place = Place("EPSG:3031", -2_000_000, 2_000_000, 500, (8000, 8000))
    with_pole = replace(scene("p", place), footprint=shapely.to_wkb(shapely.box(-180, -90, 180, -70)))
    grid = output_grid([with_pole], AOI.parse("-180,-90,180,-85"))
    side = Transformer.from_crs("OGC:CRS84", "EPSG:3031", always_xy=True).transform(90, -85)[0] * 2
    assert grid.shape[0] * 500 == pytest.approx(side, abs=1500)
    assert grid.area.area == pytest.approx(np.pi * (side / 2) ** 2, rel=1e-3)


def test_an_area_without_a_place_in_the_crs_is_refused():
    with pytest.raises(AreaError) as told:
        output_grid([scene("e", TILE_33)], AOI.parse("-76,-1,-74,1"), Wish(crs="EPSG:32633"))
    assert told.value.problem.code == "area.projection"


@given(st.integers(-40_000, 40_000), st.integers(-40_000, 40_000), st.sampled_from([10.0, 30.0, 463.3127165, 8.983e-5]))
def test_the_frame_is_the_same_from_any_corner(row, col, res):
    """To the last bit: else a pixel would be made from other places in another area."""
    frame = Frame("EPSG:32633", res, (0.5, 0.123456))
    corner = Window(row, col, 3, 4)
    facts = frame.transform(corner), corner
    mosaic = Mosaic((Slot("", ()),), (), Composite.NONE, frame.crs, facts[0], (3, 4), (row, col), "", "")
    assert Frame.of(mosaic) == frame


def test_metres_of_a_pixel():
    middle = Window(-460_000, 50_000, 512, 512)
    assert Frame("EPSG:32633", 10.0).ground_m(middle) == (10.0, 10.0)
    down, across = Frame("EPSG:4326", 0.001).ground_m(Window(-60_000, 0, 1, 1))
    assert (down, across) == (pytest.approx(111.4, rel=2e-3), pytest.approx(55.8, rel=2e-3))
    down, across = Frame("EPSG:3857", 10.0).ground_m(Window(-839_973, 0, 1, 1))  # 60 degrees north
    assert across == pytest.approx(5.0, rel=0.01)


def test_names_of_crs():
    assert named("epsg:32633") == "EPSG:32633"
    assert named(__import__("pyproj").CRS("EPSG:32633").to_wkt()) == "EPSG:32633"
