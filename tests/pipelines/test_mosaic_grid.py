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


WHOLE = 2 * np.pi * 6_378_137
ZONE_60 = scene("x", Place("EPSG:32660", 600_000, 5_900_000, 10, (10_980, 20_000)))


@pytest.mark.parametrize(
    ("crs", "west", "wide"),
    [
        ("EPSG:4326", 179.9, 0.2),
        ("EPSG:4807", (179.9 - 2.337229) / 0.9, 0.2 / 0.9),  # grads from Paris, which is elsewhere by metres
        ("EPSG:3857", 179.9 / 360 * WHOLE, 0.2 / 360 * WHOLE),
        ("EPSG:3395", 179.9 / 360 * WHOLE, 0.2 / 360 * WHOLE),
        ("EPSG:3832", 29.9 / 360 * WHOLE, 0.2 / 360 * WHOLE),
        ("EPSG:6933", 179.9 / 180 * 17_367_530.445, 0.2 / 180 * 17_367_530.445),
    ],
)
def test_on_a_plane_that_is_cut_at_180_eastings_run_on(crs, west, wide):
    area = output_grid([ZONE_60], AOI.parse("179.9,52.2,-179.9,52.6"), Wish(crs=crs)).area
    left, bottom, right, top = area.bounds
    assert (left, right - left) == (pytest.approx(west, rel=1e-5), pytest.approx(wide, rel=1e-3))
    assert area.geom_type == "Polygon"
    assert area.area == pytest.approx((right - left) * (top - bottom), rel=1e-3)


@pytest.mark.parametrize(("crs", "around"), [("EPSG:3832", -30), ("EPSG:4807", 2.337229 - 180), ("EPSG:3857", 180)])
def test_wherever_a_plane_is_cut(crs, around):
    """As wide as away from the cut, and begun in the west."""
    wish = Wish(crs=crs, res=0.001 if crs == "EPSG:4807" else 50.0)
    boxes = (f"{lon - 0.1},10,{lon + 0.1},10.2" for lon in (around, around - 20))
    here, away = (output_grid([ZONE_60], AOI.parse(box), wish) for box in boxes)
    assert here.area.bounds[0] > away.area.bounds[2]
    assert abs(here.shape[1] - away.shape[1]) <= 1
    assert here.shape[0] == away.shape[0]


def test_islands_on_both_sides_of_180_that_touch_it_nowhere():
    sides = shapely.MultiPolygon([shapely.box(178, -18, 178.5, -17.5), shapely.box(-179.5, -18, -179, -17.5)])
    for crs, unit in (("EPSG:4326", 1.0), ("EPSG:3857", WHOLE / 360)):
        area = output_grid([ZONE_60], AOI.of(sides), Wish(crs=crs)).area
        assert area.bounds[::2] == pytest.approx((178 * unit, 181 * unit))
        assert len(area.geoms) == 2
    with pytest.raises(AreaError) as told:
        output_grid([ZONE_60], AOI.of(sides), Wish(crs="EPSG:8857"))
    assert told.value.problem.code == "area.cut"


def test_an_area_that_180_does_not_make_narrower_stays_within_the_world():
    wide = shapely.MultiPolygon([shapely.box(-100, 10, -80, 12), shapely.box(80, 10, 100, 12)])
    for aoi, bounds in ((AOI.of(wide), (-100, 100)), (AOI.parse("-180,-60,180,60"), (-180, 180))):
        for crs, unit in (("EPSG:4326", 1.0), ("EPSG:3857", WHOLE / 360)):
            area = output_grid([ZONE_60], aoi, Wish(crs=crs, res=0.1 * unit)).area
            assert area.bounds[::2] == pytest.approx([v * unit for v in bounds])


def test_more_than_half_the_world_may_run_on():
    """From 20 degrees west over 180 to 90 degrees west."""
    area = output_grid([ZONE_60], AOI.parse("-20,10,270,12"), Wish(crs="EPSG:3857", res=1000.0)).area
    assert area.bounds[::2] == pytest.approx([v / 360 * WHOLE for v in (-20, 270)])
    assert area.geom_type == "Polygon"


@pytest.mark.parametrize("crs", ["EPSG:8857", "ESRI:54009", "ESRI:54030", "ESRI:54008"])
@pytest.mark.parametrize(
    ("aoi", "zone"), [("179.8,52.2,-179.9,52.6", "EPSG:32660"), ("179.99,-16.9,-175,-16.8", "EPSG:32701")]
)
def test_a_plane_on_which_nothing_can_run_on_is_refused(crs, aoi, zone):
    for res in (None, 1000.0):
        with pytest.raises(AreaError) as told:
            output_grid([ZONE_60], AOI.parse(aoi), Wish(crs=crs, res=res))
        assert (told.value.problem.code, told.value.problem.field) == ("area.cut", "--crs")
        assert "EPSG:3857" in told.value.hint
        assert zone in told.value.hint
    for beside in ("179.8,52.2,180,52.6", "-180,52.2,-179.8,52.6"):
        assert output_grid([ZONE_60], AOI.parse(beside), Wish(crs=crs)).area.geom_type == "Polygon"


@pytest.mark.parametrize(
    "crs", ["EPSG:32660", "EPSG:3035", "EPSG:3571", "EPSG:3994", "EPSG:2193", "EPSG:3460", "EPSG:3413", "EPSG:5041"]
)
def test_a_plane_that_is_not_cut_there_is_not_refused(crs):
    area = output_grid([ZONE_60], AOI.parse("179.9,52.2,-179.9,52.6"), Wish(crs=crs)).area
    assert area.geom_type == "Polygon"
    assert area.area == pytest.approx(area.convex_hull.area, rel=1e-3)


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
