"""Areas on grids: files of every kind, crops, and masks that do not depend on the window they are asked in."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import geopandas as gpd
import numpy as np
import pytest
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from pipelines.imagery.area import crop, inside, read_area
from swathe.aoi import AOI
from swathe.errors import AreaError
from swathe.imagery import Imagery
from swathe.window import Window

UTM = Affine(10, 0, 500_000, 0, -10, 5_000_000)


def imagery(shape=(300, 400), crs="EPSG:32632", transform=UTM):
    return Imagery((), crs, tuple(transform)[:6], shape, "x", "", (64, 64), "")


def to_lonlat(geometry, crs="EPSG:32632"):
    turn = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    return shapely.transform(geometry, lambda xy: np.column_stack(turn.transform(xy[:, 0], xy[:, 1])))


def by_centres(geometry, transform, window):
    """(h, w) the plain way: is the centre in the polygon?"""
    rows, cols = np.mgrid[window.row : window.bottom, window.col : window.right] + 0.5
    x, y = transform.a * cols + transform.c, transform.e * rows + transform.f
    return shapely.contains_xy(geometry, x, y)


def star(x, y, radius, corners=9):
    angles = np.linspace(0, 2 * math.pi, 2 * corners, endpoint=False) + 0.1
    reach = np.where(np.arange(2 * corners) % 2, radius, radius / 3)
    return shapely.Polygon(np.column_stack([x + reach * np.cos(angles), y + reach * np.sin(angles)]))


# --- crop -----------------------------------------------------------------------------------------------------------


def test_the_window_holds_exactly_the_pixels_whose_centres_lie_inside():
    ring = star(502_003, 4_998_501, 900)
    cut = crop(imagery(), AOI.of(to_lonlat(ring)))
    mask = inside(cut.geometry, UTM, cut.window)
    whole = by_centres(ring, UTM, Window(0, 0, 300, 400))
    found = np.zeros((300, 400), bool)
    found[cut.window.row : cut.window.bottom, cut.window.col : cut.window.right] = mask
    assert (found != whole).sum() <= 2
    assert cut.covered == pytest.approx(1, abs=1e-9)


def test_part_of_an_area_outside_is_left_out_and_said():
    box = shapely.box(499_000, 4_999_000, 501_000, 5_001_000)
    cut = crop(imagery(), AOI.of(to_lonlat(box)))
    assert (cut.window.row, cut.window.col) == (0, 0)
    assert cut.window.height == pytest.approx(100, abs=1)
    assert cut.window.width == pytest.approx(100, abs=1)
    assert cut.covered == pytest.approx(0.25, abs=0.01)


def test_an_area_around_the_image_is_the_image():
    cut = crop(imagery(), AOI.parse("5,40,15,50"))
    assert cut.window == Window(0, 0, 300, 400)
    assert inside(cut.geometry, UTM, cut.window) is None


def test_the_worlds_area_on_a_small_image():
    assert crop(imagery(), AOI.parse("-180,-90,180,90")).window == Window(0, 0, 300, 400)


@pytest.mark.parametrize(
    "box", ["20,45,21,46", "9.06,45.15,9.07,45.16", "-171,-45.2,-170.9,-45.1", "9,-45.15,9.01,-45.14"]
)
def test_outside(box):
    with pytest.raises(AreaError) as caught:
        crop(imagery(), AOI.parse(box))
    assert caught.value.problem.code == "area.outside"


def test_between_the_centres_of_pixels():
    lonlat = to_lonlat(shapely.box(500_056, 4_999_946, 500_059, 4_999_949))
    with pytest.raises(AreaError) as caught:
        crop(imagery(), AOI.of(lonlat))
    assert caught.value.problem.code == "area.too_small"
    around = to_lonlat(shapely.box(500_054, 4_999_944, 500_056, 4_999_946))
    assert crop(imagery(), AOI.of(around)).window == Window(5, 5, 1, 1)


def test_a_thin_diagonal_between_centres():
    """Its bounds hold centres, it does not."""
    line = shapely.LineString([(500_000, 4_999_999.9), (500_400, 4_999_600)]).buffer(0.01)
    shifted = shapely.transform(line, lambda xy: xy + np.array([5, 0]))
    with pytest.raises(AreaError) as caught:
        crop(imagery(), AOI.of(to_lonlat(shifted)))
    assert caught.value.problem.code == "area.too_small"


GEO = Affine(0.001, 0, 9, 0, -0.001, 46)


def test_on_a_lonlat_grid_edges_stay_where_they_are():
    cut = crop(imagery(crs="EPSG:4326", transform=GEO, shape=(1000, 1000)), AOI.parse("9.1,45.2,9.3,45.5"))
    assert cut.window == Window(500, 100, 300, 200)
    assert inside(cut.geometry, GEO, cut.window) is None


@pytest.mark.parametrize("west", [170.0, -190.0, 530.0 - 360])
def test_a_lonlat_grid_may_count_on_past_180(west):
    grid = Affine(0.1, 0, west, 0, -0.1, 5)
    cut = crop(imagery((100, 200), "EPSG:4326", grid), AOI.parse("179,-1,-179,1"))
    start = round((179 - west) % 360 / 0.1)
    assert cut.window == Window(40, start, 20, 20)
    assert cut.covered == pytest.approx(1)


def test_a_lonlat_grid_from_0_to_360():
    cut = crop(imagery((180, 360), "EPSG:4326", Affine(1, 0, 0, 0, -1, 90)), AOI.parse("-20,10,-10,20"))
    assert cut.window == Window(70, 340, 10, 10)


def test_another_datum_is_another_place():
    """NTF (Paris) counts longitude from Paris, in grads; Lambert zone II."""
    grid = Affine(100, 0, 600_000, 0, -100, 2_500_000)
    box = to_lonlat(shapely.box(602_000, 2_488_000, 605_000, 2_492_000), "EPSG:27572")
    cut = crop(imagery((200, 200), "EPSG:27572", grid), AOI.of(box))
    assert cut.window == Window(80, 20, 40, 30)


@settings(max_examples=60, deadline=None)
@given(st.floats(-178, 178), st.floats(-78, 78), st.floats(0.1, 0.4), st.integers(3, 12))
def test_any_polygon_in_its_own_utm_zone(lon, lat, size, corners):
    """Against centres taken back to longitude and latitude, where the polygon's edges are straight."""
    zone = int((lon + 180) // 6) + 1
    crs = f"EPSG:{(32600 if lat >= 0 else 32700) + zone}"
    turn = Transformer.from_crs("EPSG:4326", crs, always_xy=True)
    x, y = turn.transform(lon, lat)
    grid = Affine(200, 0, round(x) - 60_000, 0, -200, round(y) + 60_000)
    ring = star(lon, lat, size, corners)
    cut = crop(imagery((600, 600), crs, grid), AOI.of(ring))
    mask = inside(cut.geometry, grid, cut.window)
    rows, cols = np.mgrid[cut.window.row : cut.window.bottom, cut.window.col : cut.window.right] + 0.5
    back = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    lons, lats = back.transform(200 * cols + grid.c, -200 * rows + grid.f)
    lons = lon + (np.asarray(lons) - lon + 180) % 360 - 180
    expected = shapely.contains_xy(ring, lons, np.asarray(lats))
    assert mask is not None
    assert (mask != expected).sum() <= 2


# --- masks ----------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(
    st.floats(499_500, 504_500), st.floats(4_996_500, 5_000_500), st.floats(30, 2500), st.integers(3, 30),
    st.builds(Window, st.integers(-20, 320), st.integers(-20, 420), st.integers(1, 120), st.integers(1, 120)),
)  # fmt: skip
def test_a_mask_is_the_centres_rule_in_any_window(x, y, radius, corners, window):
    ring = star(x, y, radius, corners)
    mask = inside(ring, UTM, window)
    expected = by_centres(ring, UTM, window)
    found = np.ones_like(expected) if mask is None else mask
    assert (found != expected).sum() == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(4, 60), st.integers(4, 60), st.integers(0, 1000))
def test_a_mask_does_not_depend_on_how_the_grid_is_cut(down, across, seed):
    """Corners on a half-pixel raster, so that edges run right through pixel centres."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 160, (8, 2)) * 5 + [500_000, 4_999_200]
    ring = shapely.MultiPoint(corners).convex_hull
    if ring.geom_type != "Polygon":
        return
    whole = Window(0, 0, 80, 80)
    full = inside(ring, UTM, whole)
    assert full is not None
    for top in range(0, 80, down):
        for left in range(0, 80, across):
            part = Window(top, left, min(down, 80 - top), min(across, 80 - left))
            mask = inside(ring, UTM, part)
            np.testing.assert_array_equal(full[part.within(whole)], True if mask is None else mask)


def test_many_corners_are_drawn_like_few():
    circle = shapely.Point(502_000, 4_998_500).buffer(1200, quad_segs=4000)
    assert shapely.get_num_coordinates(circle) > 10_000
    for window in (Window(0, 0, 300, 400), Window(140, 90, 20, 30), Window(30, 60, 100, 100)):
        mask = inside(circle, UTM, window)
        found = np.ones((window.height, window.width), bool) if mask is None else mask
        np.testing.assert_array_equal(found, by_centres(circle, UTM, window))


def test_no_area_is_everything_and_far_away_is_nothing():
    assert inside(None, UTM, Window(0, 0, 5, 5)) is None
    far = inside(shapely.box(0, 0, 1, 1), UTM, Window(0, 0, 5, 6))
    assert far is not None
    assert far.shape == (5, 6)
    assert not far.any()


# --- files ----------------------------------------------------------------------------------------------------------

RING = shapely.box(9.1, 45.2, 9.3, 45.5)


@pytest.mark.parametrize(
    ("name", "crs"),
    [
        *((name, "EPSG:4326") for name in ("a.gpkg", "a.shp", "a.fgb", "a.parquet", "a.geojson", "a.json")),
        *((name, "EPSG:32632") for name in ("b.gpkg", "b.shp", "b.fgb", "b.parquet")),
    ],
)
def test_vector_files_in_any_crs(tmp_path, name, crs):
    bent = RING if crs == "EPSG:4326" else shapely.segmentize(RING, 0.001)
    frame = gpd.GeoDataFrame(geometry=[bent], crs="EPSG:4326").to_crs(crs)
    path = tmp_path / name
    frame.to_parquet(path) if name.endswith("parquet") else frame.to_file(path)
    aoi = read_area(str(path))
    assert aoi.geometry.symmetric_difference(RING).area < 1e-9
    assert aoi.area_km2 == pytest.approx(AOI.of(RING).area_km2, rel=1e-6)


def test_a_layer_of_many_features_is_their_union(tmp_path):
    path = tmp_path / "a.gpkg"
    gpd.GeoDataFrame(geometry=[RING, shapely.box(9.2, 45.2, 9.4, 45.5), None], crs="EPSG:4326").to_file(path)
    assert read_area(str(path)).bounds == pytest.approx((9.1, 45.2, 9.4, 45.5))


def test_a_file_in_a_crs_across_the_antimeridian(tmp_path):
    """UTM zone 60 runs on past 180°: its polygon comes out cut, not around the world."""
    path = tmp_path / "a.gpkg"
    box = shapely.box(650_000, 5_600_000, 800_000, 5_700_000)
    gpd.GeoDataFrame(geometry=[box], crs="EPSG:32660").to_file(path)
    aoi = read_area(str(path))
    assert aoi.crosses
    assert aoi.area_km2 == pytest.approx(15_000, rel=0.01)


def test_text_passes_through():
    assert read_area("9.1,45.2,9.3,45.5") == AOI.of(RING)
    assert read_area(json.dumps(shapely.geometry.mapping(RING))).geometry.equals(RING)
    assert read_area(RING.wkt).geometry.equals(RING)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.gpkg", b"no database", "area.unreadable"),
        ("a.shp", b"<OGRVRTDataSource></OGRVRTDataSource>", "area.unreadable"),
        ("a.vrt", b"<OGRVRTDataSource></OGRVRTDataSource>", "area.unreadable"),
        ("a.gpkg", b"SQLite format 3\x00rubbish", "area.unreadable"),
        ("a.parquet", b"PAR1rubbish", "area.unreadable"),
        ("a.geojson", b"\xff\xfe\x00", "area.unreadable"),
        ("a.geojson", b"{}", "area.unreadable"),
        ("a.geojson", b'{"type":"Point","coordinates":[1,2]}', "area.not_polygon"),
        ("a.wkt", b"POLYGON EMPTY", "area.empty"),
    ],
)
def test_files_that_are_no_areas(tmp_path, name, content, code):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(AreaError) as caught:
        read_area(str(path))
    assert caught.value.problem.code == code
    assert "\n" not in caught.value.problem.line()


def test_layers_without_what_is_needed(tmp_path):
    lines = tmp_path / "lines.gpkg"
    gpd.GeoDataFrame(geometry=[shapely.LineString([(0, 0), (1, 1)])], crs="EPSG:4326").to_file(lines)
    nowhere = tmp_path / "nowhere.shp"
    gpd.GeoDataFrame(geometry=[RING]).to_file(nowhere)
    empty = tmp_path / "empty.gpkg"
    gpd.GeoDataFrame(geometry=[RING], crs="EPSG:4326").iloc[:0].to_file(empty)
    for path, code in ((lines, "area.not_polygon"), (nowhere, "area.no_crs"), (empty, "area.empty")):
        with pytest.raises(AreaError) as caught:
            read_area(str(path))
        assert caught.value.problem.code == code


def test_real_training_polygons(real_data):
    assert read_area(str(real_data / "l7_chiapas_labels" / "training_data.shp")).area_km2 == pytest.approx(
        0.631, abs=0.01
    )


def test_threads_may_ask_of_one_area_at_once():
    """In a process of its own: without the lock it ends by SIGSEGV, most of the time."""
    program = """
import math, threading
from affine import Affine
from shapely import Polygon
from pipelines.imagery.area import inside
from swathe.window import Window
start = threading.Barrier(4)
def ask(area):
    start.wait()
    for n in range(20):
        inside(area, Affine(1, 0, 0, 0, -1, 0), Window(n * 16, n * 16, 64, 64))
for turn in range(40):
    round_ = [(500 + 300 * math.cos(a / 3000 * math.tau), -500 + (300 + a % 7) * math.sin(a / 3000 * math.tau))
              for a in range(3000)]
    area = Polygon(round_)
    threads = [threading.Thread(target=ask, args=(area,)) for _ in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
