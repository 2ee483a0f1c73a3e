"""Masks by shapes of a GeoJSON: against GDAL's rasterize, shapely's buffer and geodesic distances on whole rasters."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from rasterio.features import rasterize

from pipelines.imagery.gdal import Retry
from pipelines.masking.geojson import ShapeLimits, read_geojson
from pipelines.masking.shapes import ShapesMask
from pipelines.masking.shapes_file import Reach, fetched
from pipelines.remote.network import Network
from swathe.errors import ImageryError, InputError, Interrupted, LimitError, ReadError
from swathe.masking import CODES, Mask, Masking, Shapes, code_labels
from swathe.window import Window
from tests.pipelines.remote_server import Reply, Server

UTM = GeoBox((300, 420), Affine(10, 0, 500_000, 0, -10, 5_600_000), "EPSG:32633")
GEOD = Geod(ellps="WGS84")
AREA = shapely.Polygon(
    [(500_503.3, 5_599_501.7), (502_907.9, 5_599_202.2), (502_501.1, 5_597_508.8), (501_502.9, 5_598_203.4)],
    [[(501_503.7, 5_598_901.3), (502_302.4, 5_598_907.6), (502_108.2, 5_598_301.9)]],
)
LINE = shapely.LineString([(499_001.7, 5_598_003.1), (503_007.3, 5_597_301.9), (505_002.2, 5_599_508.4)])
POINT = shapely.Point(500_555.5, 5_597_222.2)


def lonlat(geometry, crs="EPSG:32633"):
    """Its lines short, so that they are straight where the oracle draws them."""
    way = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)

    def moved(one):
        if one.geom_type == "MultiPolygon":
            return shapely.MultiPolygon([moved(part) for part in one.geoms])
        if one.geom_type == "Polygon":  # ring by ring: shapely repairs polygons that it puts corners into
            return shapely.Polygon(moved(one.exterior), [moved(ring) for ring in one.interiors])
        dense = one if one.geom_type == "Point" else shapely.segmentize(one, 50)
        return shapely.transform(dense, lambda xy: np.stack(way.transform(xy[:, 0], xy[:, 1]), axis=1))

    return moved(geometry)


def collection(*geometries, **more):
    features = [{"type": "Feature", "properties": {"n": n}, "geometry": json.loads(shapely.to_geojson(g))}
                for n, g in enumerate(geometries)]  # fmt: skip
    return {"type": "FeatureCollection", "features": features, **more}


def read(document, **limits):
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_geojson(data, ShapeLimits(**limits), "roads.geojson")


def drawn(document, grid, buffer_m=0.0, side=4096):
    """All of a grid, window by window."""
    mask = ShapesMask(read(document), buffer_m, grid, {})
    found = np.zeros(tuple(grid.shape), bool)
    for window in Window(0, 0, *grid.shape).split(side):
        found[window.within(Window(0, 0, *grid.shape))] = mask.at(window)[Mask.SHAPES]
    return found


def burnt(geometries, grid, *, touched=False):
    return rasterize([(g, 1) for g in geometries], out_shape=tuple(grid.shape), transform=grid.transform,
                     all_touched=touched).astype(bool)  # fmt: skip


def same(found, want, shapes, grid, metres=0.05):
    """But for pixels whose centres lie on an edge, or within so many metres of it."""
    x, y = centres(grid)
    edges = shapely.union_all([shapely.boundary(shape) for shape in shapes])
    off = shapely.distance(edges, shapely.points(x, y)) > metres
    return want.any() and np.array_equal(found[off], want[off])


def centres(grid):
    cols, rows = np.meshgrid(np.arange(grid.shape[1]) + 0.5, np.arange(grid.shape[0]) + 0.5)
    return grid.transform.c + grid.transform.a * cols, grid.transform.f + grid.transform.e * rows


def metres_from(grid, lon, lat):
    """(h, w) true metres from each pixel's centre to a place."""
    x, y = centres(grid)
    to = Transformer.from_crs(str(grid.crs), "OGC:CRS84", always_xy=True)
    lons, lats = to.transform(x.ravel(), y.ravel())
    there = np.full(x.size, lon), np.full(x.size, lat)
    return GEOD.inv(*there, lons, lats)[2].reshape(x.shape)


# --- what is masked -------------------------------------------------------------------------------------------------


def test_areas_by_the_centres_of_pixels_lines_and_points_by_touch():
    assert np.array_equal(drawn(collection(lonlat(AREA)), UTM), burnt([AREA], UTM))
    thin = burnt([LINE, POINT], UTM, touched=True)
    assert np.array_equal(drawn(collection(lonlat(LINE), lonlat(POINT)), UTM), thin)
    assert thin.sum() > 400
    together = drawn(collection(lonlat(AREA), lonlat(LINE), lonlat(POINT)), UTM)
    assert np.array_equal(together, burnt([AREA], UTM) | thin)


@pytest.mark.parametrize("metres", [25.0, 100.0, 640.0])
def test_a_buffer_is_shapely_s_in_the_grid_s_own_metres(metres):
    """UTM's metres are true to 0.04 % here: what differs lies on the buffer's very edge."""
    shapes = (AREA, LINE, POINT)
    found = drawn(collection(*map(lonlat, shapes)), UTM, metres)
    want = burnt([shapely.buffer(shape, metres, quad_segs=64) for shape in shapes], UTM)
    x, y = centres(UTM)
    off = np.abs(shapely.distance(shapely.union_all(shapes), shapely.points(x, y)) - metres)
    assert want.sum() > 500
    assert (found == want)[off > 0.01 * metres].all()
    assert (found != want).sum() <= 0.002 * want.sum()


def test_a_small_buffer_takes_nothing_away():
    document = collection(lonlat(AREA), lonlat(LINE), lonlat(POINT))
    without, little, more = (drawn(document, UTM, metres) for metres in (0, 0.5, 30))
    assert not (without & ~little).any()
    assert not (little & ~more).any()


@pytest.mark.parametrize(
    ("crs", "lat", "lon"),
    [("EPSG:4326", 0.0, 13.0), ("EPSG:4326", 70.0, 25.0), ("EPSG:4326", -84.0, -120.0), ("EPSG:4326", 60.0, 179.995),
     ("EPSG:3857", 70.0, 25.0), ("EPSG:3857", 60.0, -179.99), ("EPSG:3413", 89.5, 10.0), ("EPSG:3413", 90.0, 0.0),
     ("EPSG:32660", 66.0, 179.99), ("EPSG:3035", 45.0, 9.0)],
)  # fmt: skip
@pytest.mark.parametrize("side", [4096, 37])
def test_metres_are_true_wherever_and_in_whatever_crs(crs, lat, lon, side):
    """A point's surroundings are a circle on the ground: in degrees and Mercator, near a pole, across 180°."""
    metres = 2_500.0
    x, y = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(lon, lat)
    if crs == "EPSG:4326":
        res = (0.0004 / np.cos(np.radians(lat)), 0.0004)
    else:
        res = (40.0 / np.cos(np.radians(lat)),) * 2 if crs == "EPSG:3857" else (40.0, 40.0)
    grid = GeoBox((180, 200), Affine(res[0], 0, x - 90 * res[0], 0, -res[1], y + 100 * res[1]), crs)
    found = drawn({"type": "Point", "coordinates": [lon, lat]}, grid, metres, side)
    away = metres_from(grid, lon, lat)
    sure = np.abs(away - metres) > 0.002 * metres
    assert np.array_equal(found[sure], (away < metres)[sure])
    assert found.sum() > 5_000


@pytest.mark.parametrize("side", [4096, 64])
def test_shapes_beyond_180_lie_beside_a_raster_that_ends_there(side):
    """The same strait drawn in four ways, on rasters on either side of the line and across it."""
    across = shapely.box(179.9, 10.0, 180.1, 10.1)
    ways = [[across], [shapely.transform(across, lambda xy: xy - (360, 0))],
            [shapely.box(179.9, 10.0, 180, 10.1), shapely.box(-180, 10.0, -179.9, 10.1)]]  # fmt: skip
    for left in (179.8, -180.2, -180.0, 179.95):
        grid = GeoBox((150, 200), Affine(0.001, 0, left, 0, -0.001, 10.12), "EPSG:4326")
        x, y = centres(grid)
        inside = (np.abs((x - 180 + 180) % 360 - 180) < 0.1) & (y > 10.0) & (y < 10.1)
        metres = 500.0
        for way in ways:
            assert np.array_equal(drawn(collection(*way), grid, 0, side), inside), left
            wider = drawn(collection(*way), grid, metres, side)
            assert np.array_equal(wider, drawn(collection(*ways[0]), grid, metres)), left
            assert wider.sum() > inside.sum()
    mercator = GeoBox((150, 200), Affine(100, 0, -20_037_508.34 - 10_000, 0, -100, 1_125_000), "EPSG:3857")
    cells = [drawn(collection(*way), mercator, 0, side) for way in ways]
    assert cells[0].sum() > 5_000
    assert all(np.array_equal(cells[0], other) for other in cells[1:])


def test_windows_and_areas_give_the_same_pixels():
    """Chunked as whole; and a part of a raster as the whole of it."""
    rng = np.random.default_rng(5)
    shapes = [lonlat(shapely.LineString(rng.uniform((499_000, 5_596_000), (505_000, 5_601_000), (12, 2))))
              for _ in range(6)]  # fmt: skip
    shapes += [lonlat(shapely.buffer(POINT, 900)), lonlat(AREA)]
    whole = drawn(collection(*shapes), UTM, 35)
    assert 0.05 < whole.mean() < 0.95
    for side in (61, 256):
        assert np.array_equal(drawn(collection(*shapes), UTM, 35, side), whole)
    assert np.array_equal(drawn(collection(*shapes), UTM[33:201, 70:333], 35), whole[33:201, 70:333])


def test_a_land_around_the_window_is_all_of_it_and_none():
    """Outlines that pass far from the window, with a hole around it, and one that goes round the world."""
    world = shapely.box(-180, -90, 180, 90)
    assert drawn(collection(world), UTM, 0, 100).all()
    hole = shapely.Polygon(world.exterior, [shapely.box(10, 45, 20, 55).exterior])
    assert not drawn(collection(hole), UTM, 0, 100).any()
    polar = GeoBox((100, 100), Affine(10_000, 0, -500_000, 0, -10_000, 500_000), "EPSG:3031")
    cap = drawn(collection(shapely.box(-180, -90, 180, -88)), polar, 0, 32)
    away = metres_from(polar, 0, -90)
    edge = GEOD.inv(0, -90, 0, -88)[2]
    sure = np.abs(away - edge) > 1_000
    assert np.array_equal(cap[sure], (away < edge)[sure])
    assert 0 < cap.sum() < cap.size


def test_outlines_that_cross_themselves_are_what_a_repair_makes_of_them():
    bow = shapely.Polygon([(500_503.1, 5_599_501.7), (502_507.9, 5_597_502.2), (502_501.3, 5_599_508.8),
                           (500_502.9, 5_597_503.4)])  # fmt: skip
    assert not bow.is_valid
    assert same(drawn(collection(lonlat(bow)), UTM), burnt([shapely.make_valid(bow)], UTM), [bow], UTM)
    over = shapely.MultiPolygon([shapely.box(500_503, 5_598_001, 502_002, 5_599_507),
                                 shapely.box(501_003, 5_597_502, 503_001, 5_599_008)])  # fmt: skip
    assert not over.is_valid
    assert same(drawn(collection(lonlat(over)), UTM), burnt(over.geoms, UTM), over.geoms, UTM)


def test_what_lies_elsewhere_masks_nothing():
    assert not drawn(collection(shapely.box(100, 10, 101, 11), shapely.Point(0, 0)), UTM, 1000).any()


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_hostile_outlines_take_a_bounded_time():
    """A hundred thousand edges that all cross each other: nothing here looks for where they do."""
    rng = np.random.default_rng(1)
    corners = np.stack([rng.uniform(15.0, 15.06, 100_000), rng.uniform(50.52, 50.55, 100_000)], axis=1)
    document = {"type": "MultiPolygon", "coordinates": [[[*corners.tolist(), corners[0].tolist()]]]}
    assert drawn(document, UTM, 5).any()


# --- the file -------------------------------------------------------------------------------------------------------


def test_every_form_of_geojson():
    square = json.loads(shapely.to_geojson(lonlat(AREA)))
    want = burnt([AREA], UTM)
    feature = {"type": "Feature", "properties": None, "geometry": square}
    for document in (square, feature, {"type": "FeatureCollection", "features": [feature]},
                     {"type": "GeometryCollection", "geometries": [square]},
                     {"type": "Feature", "geometry": {"type": "GeometryCollection", "geometries": [square]}},
                     {"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": None}, feature]},
                     {"type": "MultiPolygon", "coordinates": [square["coordinates"]]}):  # fmt: skip
        assert np.array_equal(drawn(document, UTM), want)
    high = {"type": "Polygon", "coordinates": [[[x, y, 7.0] for x, y in ring] for ring in square["coordinates"]]}
    opened = {"type": "Polygon", "coordinates": [ring[:-1] for ring in square["coordinates"]]}
    for document in (high, opened, b"\xef\xbb\xbf \n" + json.dumps(square).encode()):
        assert np.array_equal(drawn(document, UTM), want)


def test_a_crs_of_old_is_read_where_a_register_knows_it():
    want = burnt([AREA], UTM)
    for name in ("EPSG:32633", "urn:ogc:def:crs:EPSG::32633"):
        document = collection(AREA, crs={"type": "name", "properties": {"name": name}})
        assert same(drawn(document, UTM), want, [AREA], UTM)
    for name in ("urn:ogc:def:crs:OGC:1.3:CRS84", "EPSG:4326", "urn:ogc:def:crs:EPSG::4326"):
        document = collection(lonlat(AREA), crs={"type": "name", "properties": {"name": name}})
        assert np.array_equal(drawn(document, UTM), want)


POLYGON = '{"type": "Polygon", "coordinates": %s}'
BAD = {
    "json": [b"", b"[1, 2]", b'{"type": ', b"7", b'{"type": "Nonsense"}', b'{"features": []}',
             b'{"type": "FeatureCollection", "features": 5}', b'{"type": "FeatureCollection", "features": [7]}',
             b'{"type": "Point", "coordinates": ["1", "2"]}', b'{"type": "Point", "coordinates": [1]}',
             b'{"type": "Point", "coordinates": {"x": 1}}', b'{"type": "Point", "coordinates": [[1, 2]]}',
             b'{"type": "LineString", "coordinates": [[1, 2]]}',
             b'{"type": "Polygon", "coordinates": [[[1, 2], [2, 3]]]}',
             b'{"type": "Polygon", "coordinates": [[1, 2], [2, 3], [1, 2]]}',
             b'{"type": "Point", "coordinates": [true, false]}',
             b'{"type": "LineString", "coordinates": [[1, 2], [3, [4]]]}',
             b'{"type": "Point", "coordinates": [1' + b"0" * 40 + b", 2]}",
             b"[" * 3000, b'{"type": "GeometryCollection", "geometries": [' * 20 + b"]}" * 20],
    "format": [b"PK\x03\x04...", b"SQLite format 3\0", b"fgb\x03fgb\0", b"PAR1", b"\x00\x00\x27\x0a", b"<kml/>",
               b"<!DOCTYPE html>", b"\x1f\x8b\x08", b'{"type": "Topology", "arcs": []}'],
    "crs": [b'{"type": "Point", "coordinates": [1, 2], "crs": %s}' % said for said in (
        b'"EPSG:4326"', b'{"type": "link", "properties": {"href": "http://a.example"}}',
        b'{"properties": {"name": "+proj=utm +zone=33 +nadgrids=@/etc/passwd"}}',
        b'{"properties": {"name": "EPSG:999999"}}', b"[]", b"7", b'{"properties": 7}')],
    "place": [b'{"type": "Point", "coordinates": [500000, 5600000]}', b'{"type": "Point", "coordinates": [1, NaN]}',
              b'{"type": "Point", "coordinates": [Infinity, 2]}', b'{"type": "Point", "coordinates": [10, 95]}',
              b'{"type": "Point", "coordinates": [400, 5]}',
              b'{"type": "Point", "coordinates": [1e300, 2], "crs": {"properties": {"name": "EPSG:32633"}}}'],
    "antimeridian": [b'{"type": "LineString", "coordinates": [[179, 1], [-179, 1]]}'],
    "empty": [b'{"type": "FeatureCollection", "features": []}', b'{"type": "Feature", "geometry": null}',
              b'{"type": "Polygon", "coordinates": []}'],
}  # fmt: skip


@pytest.mark.parametrize(("code", "data"), [(code, data) for code, many in BAD.items() for data in many],
                         ids=lambda v: v if isinstance(v, str) else "")  # fmt: skip
def test_what_cannot_be_used_is_refused_by_name(code, data):
    with pytest.raises(ImageryError) as caught:
        read(data)
    problem = caught.value.problem
    assert problem.code == f"mask.shapes.{code}"
    assert problem.detail.startswith("roads.geojson")
    assert problem.hint
    assert "/etc/passwd" not in problem.detail


@pytest.mark.parametrize(
    ("document", "limits"),
    [
        (b" " * 2_000_000, {"mb": 1}),
        (b"[" + b"[]," * 100_000 + b"[]]", {"points": 1000}),
        (collection(shapely.LineString(np.random.default_rng(0).uniform(0, 1, (1001, 2)))), {"points": 1000}),
        (collection(shapely.MultiPoint(np.zeros((1001, 2)))), {"points": 1000}),
        (collection(shapely.LineString([(-180, 0), (180, 0)] * 400)), {"points": 1000}),
    ],
)
def test_what_is_too_much_is_refused_before_anything_is_made_of_it(document, limits):
    with pytest.raises(LimitError) as caught:
        read(document, **limits)
    assert caught.value.problem.code == "mask.shapes.limits"
    assert "SWATHE_MAX_SHAPES_" in caught.value.hint


# --- the wish -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"buffer_m": -1}, {"buffer_m": 100_001}, {"buffer_m": float("nan")}, {"code": 0},
                                   {"code": 255}, {"code": 997}, {"href": "  "}])  # fmt: skip
def test_what_cannot_be_meant(wrong):
    with pytest.raises(InputError) as caught:
        Shapes.of(**{"href": "a.geojson", **wrong})
    assert caught.value.problem.code == "mask.shapes"


def test_shapes_are_a_mask_more_and_the_last_one():
    shapes = Shapes.of("a.geojson", 30, 90)
    assert Masking.parse("", shapes=shapes).masks == ((Mask.SHAPES, ""),)
    asked = Masking.parse("clouds,ocean", 2, shapes=shapes)
    assert [mask for mask, _ in asked.masks] == [Mask.OCEAN, Mask.CLOUDS, Mask.SHAPES]
    assert asked.codes == {**CODES, Mask.SHAPES: 90}
    assert [(c.value, c.name) for c in code_labels([Mask.CLOUDS, Mask.SHAPES], asked.codes)] == [
        (999, "cloud"), (90, "masked shapes")
    ]  # fmt: skip
    for text, buffer in (("", 3), ("shapes", 0)):
        with pytest.raises(InputError):
            Masking.parse(text, buffer, shapes=shapes)


# --- fetching -------------------------------------------------------------------------------------------------------

QUICK = Network(allow_private=True, retry=Retry(attempts=2, base_s=0.01, timeout_s=5))


def nothing():
    """Nobody wants to stop it."""


def test_a_file_comes_through_the_one_door(tmp_path):
    document = json.dumps(collection(lonlat(AREA))).encode()
    with Server(lambda _: Reply(body=document)) as server:
        assert fetched(server.url("a.geojson?key=s3cret"), "a", Reach(QUICK), nothing) == document
        with pytest.raises(ImageryError) as caught:
            fetched(server.url("a.geojson?key=s3cret"), "a", Reach(replace(QUICK, allow_private=False)), nothing)
        assert caught.value.problem.code == "url.private"
        with pytest.raises(LimitError) as caught:
            fetched(server.url("a.geojson"), "a", Reach(QUICK, ShapeLimits(mb=0.0001)), nothing)
        assert caught.value.problem.code == "mask.shapes.limits"
    (tmp_path / "a.geojson").write_bytes(document)
    assert fetched(str(tmp_path / "a.geojson"), "a", Reach(), nothing) == document
    with pytest.raises(ImageryError) as caught:
        fetched(str(tmp_path / "none.geojson"), "a", Reach(), nothing)
    assert caught.value.problem.code == "imagery.missing"


@pytest.mark.parametrize(("status", "kind", "code"), [(404, ImageryError, "imagery.missing"),
                                                      (403, ImageryError, "imagery.forbidden"),
                                                      (503, ReadError, "read.lost")])  # fmt: skip
def test_what_stays_wrong_is_the_wish_s_fault_and_what_passes_is_not(status, kind, code):
    with Server(lambda _: Reply(status)) as server, pytest.raises(kind) as caught:
        fetched(server.url("a.geojson?key=s3cret"), "a", Reach(QUICK), nothing)
    assert caught.value.problem.code == code
    assert "s3cret" not in str(caught.value.problem.as_dict())


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "file:///etc/passwd"])
def test_no_redirect_leads_where_it_may_not(target):
    with (
        Server(lambda _: Reply(302, {"Location": target})) as server,
        pytest.raises((ImageryError, ReadError)) as caught,
    ):
        fetched(server.url("a.geojson"), "a", Reach(replace(QUICK, retry=Retry(attempts=1, timeout_s=1))), nothing)
    assert caught.value.problem.code.startswith(("url.", "read."))


def test_a_file_that_drips_stops_with_whoever_waits(monkeypatch):
    body = json.dumps(collection(lonlat(AREA))).encode() * 50

    def stop():
        raise Interrupted("stopped")

    with Server(lambda _: Reply(body=body, drip=(100, 0.05))) as server:
        started = time.perf_counter()
        with pytest.raises(Interrupted):
            fetched(server.url("a.geojson"), "a", Reach(QUICK), stop)
        monkeypatch.setattr("pipelines.masking.shapes_file.LONGEST_S", 0.5)
        with pytest.raises(ReadError, match="did not come within") as caught:
            fetched(server.url("a.geojson"), "a", Reach(QUICK), nothing)
        assert caught.value.problem.code == "read.lost"
        assert time.perf_counter() - started < 15
