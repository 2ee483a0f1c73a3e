"""Files on the frame against rasterio and odc-stac, and against the field that the pixels were painted from."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.vrt import WarpedVRT
from rasterio.warp import Resampling

from pipelines.mosaic.frame import LONLAT, Frame, transformer
from pipelines.mosaic.reader import MosaicReader
from pipelines.mosaic.warp import View, covers, level_for, nesting, offset, places, read_onto
from swathe.scene import AssetGrid
from swathe.window import Window
from tests.pipelines.scenes import LocalOpener, Place, centres, field_at, make_scene, mosaic_of, painted, write

HERE, BESIDE = "EPSG:32632", "EPSG:32633"
WEST = Place(HERE, 719_500, 4_602_000, 10, (500, 450))


def view(path, how="nearest", nodata=None, indexes=(1,)):
    from swathe.scene import Asset

    source = LocalOpener().open(Asset("x", str(path), resampling=how))
    return View(source, indexes, how, source.nodata if nodata is None else nodata)


@pytest.fixture(scope="module")
def west(tmp_path_factory):
    """A file of zone 32 with a hole, on the border to zone 33."""
    folder = tmp_path_factory.mktemp("west")
    numbers = painted(WEST.crs, WEST.transform, WEST.shape)
    numbers[100:140, 200:260] = 0
    return write(folder / "west.tif", numbers, WEST.crs, WEST.transform, nodata=0, overviews=(2, 4))


FRAME = Frame(BESIDE, 10.0)
BLOCK = Window(-899 * 512, 42 * 512, 512, 512)
"""Zone 33, x 215040..220160, y 4602880..4597760: half of it lies over the file."""


def by_gdal(path, how, window=BLOCK, frame=FRAME, **options):
    with rasterio.open(path) as file, WarpedVRT(
        file, crs=frame.crs, transform=Affine(*frame.transform(window)), height=window.height, width=window.width,
        resampling=Resampling[how], **options,
    ) as vrt:  # fmt: skip
        return vrt.read(1)


def test_nearest_is_gdals(west):
    """Exactly, where GDAL computes every place instead of approximating them (its tolerance of 1/8 pixel)."""
    got, valid = read_onto(view(west), FRAME, BLOCK)
    wanted = by_gdal(west, "nearest", tolerance=1e-9)
    assert valid.any()
    assert not valid.all()
    np.testing.assert_array_equal(got[0], wanted)
    np.testing.assert_array_equal(valid, wanted != 0)


@pytest.mark.parametrize("how", ["bilinear", "cubic"])
def test_the_others_are_gdals_within_a_step(west, how):
    got, valid = read_onto(view(west, how), FRAME, BLOCK)
    wanted = by_gdal(west, how, tolerance=1e-9).astype(int)
    assert np.abs(got[0].astype(int) - wanted)[valid & (wanted != 0)].max() <= 1
    assert (valid & (wanted == 0)).mean() < 1e-4
    # What is valid is what the file says of the pixel that holds the centre: interpolation grows nothing.
    np.testing.assert_array_equal(valid, read_onto(view(west), FRAME, BLOCK)[1])


def test_the_other_zone_shows_the_same_field(west):
    """The reference is not another warp: it is the field at the centres of the other zone's pixels."""
    got, valid = read_onto(view(west, "cubic"), FRAME, BLOCK)
    wanted = field_at(*centres(BESIDE, FRAME.transform(BLOCK), (512, 512)))
    edge = valid & ~np.pad(
        valid[2:-2, 2:-2] & valid[4:, 2:-2] & valid[:-4, 2:-2] & valid[2:-2, 4:] & valid[2:-2, :-4], 2
    )
    assert np.abs(got[0] - wanted)[valid & ~edge].max() <= 1.5  # half a step stored, half made, and the approximation


def test_nodata_does_not_bleed(west):
    """Interpolated beside a hole of zeros, every number still lies between those of the file."""
    got, valid = read_onto(view(west, "bilinear"), FRAME, BLOCK)
    with rasterio.open(west) as file:
        numbers = file.read(1)
    assert got[0][valid].min() >= numbers[numbers > 0].min()


def test_any_part_of_a_block_is_that_of_the_whole(west):
    for how in ("nearest", "bilinear"):
        whole, valid = read_onto(view(west, how), FRAME, BLOCK)
        part = Window(BLOCK.row + 100, BLOCK.col + 300, 37, 80)
        got, seen = read_onto(view(west, how), FRAME, part)
        np.testing.assert_array_equal(got, whole[:, 100:137, 300:380])
        np.testing.assert_array_equal(seen, valid[100:137, 300:380])


def test_equal_grids_are_copied_with_their_half_pixel(tmp_path):
    """Landsat: corners lie half a pixel off the multiples of 30 m."""
    place = Place("EPSG:32619", 483_285, -1_234_515, 30, (90, 80))
    numbers = painted(place.crs, place.transform, place.shape)
    path = write(tmp_path / "l.tif", numbers, place.crs, place.transform)
    frame = Frame("EPSG:32619", 30.0, (0.5, 0.5))
    row, col = offset(AssetGrid(place.crs, place.transform, place.shape), frame)
    got, valid = read_onto(view(path, "bilinear"), frame, Window(row - 3, col - 2, 50, 60))
    np.testing.assert_array_equal(got[0, 3:, 2:], numbers[:47, :58])
    assert not valid[:3].any()
    assert valid[3:, 2:].all()
    assert offset(AssetGrid(place.crs, place.transform, place.shape), Frame("EPSG:32619", 30.0)) is None


def test_a_mask_of_20_m_is_repeated_exactly(tmp_path):
    place = Place(x=500_020, y=4_599_980, res=20, shape=(60, 70))
    numbers = np.arange(60 * 70, dtype=np.uint16).reshape(60, 70)
    path = write(tmp_path / "scl.tif", numbers, place.crs, place.transform)
    frame = Frame(place.crs, 10.0)
    factor, row, col = nesting(AssetGrid(place.crs, place.transform, place.shape), frame)
    assert (factor, row, col) == (2, -459_998, 50_002)
    window = Window(row - 5, col - 3, 61, 99)
    got, valid = read_onto(view(path), frame, window)
    fine = np.pad(np.kron(numbers, np.ones((2, 2), np.uint16)), 5)[: window.height, 2 : 2 + window.width]
    np.testing.assert_array_equal(got[0], fine)
    np.testing.assert_array_equal(valid[5:, 3:], True)
    wanted = by_gdal(path, "nearest", window, frame)
    np.testing.assert_array_equal(got[0], wanted)


def test_a_coarse_frame_reads_an_overview(west):
    frame = Frame(HERE, 40.0)
    seen = view(west)
    assert level_for(seen.source, frame) == 2
    assert [p.level for p in places(seen, frame, Window(-115_050, 17_985, 50, 50))] == [2]
    assert level_for(seen.source, Frame(HERE, 39.0)) == 1
    assert level_for(seen.source, Frame(HERE, 10.0)) == 0
    assert level_for(seen.source, Frame("EPSG:4326", 41.0 / 111_320)) == 1  # at 41.5 N it is 31 m from west to east
    assert level_for(seen.source, Frame("EPSG:4326", 55.0 / 111_320)) == 2


@pytest.mark.parametrize("how", ["nearest", "bilinear"])
def test_what_mercator_stretches_is_not_read_from_an_overview(tmp_path, how):
    """At 60 N a pixel of 20 m is 10 m on the ground, which is what the file has."""
    place = Place("EPSG:32633", 500_000, 6_653_000, 10, (400, 400))
    numbers = np.random.default_rng(3).integers(1, 9000, place.shape, dtype=np.uint16)
    plain, seen = (
        view(write(tmp_path / f"{n}.tif", numbers, place.crs, place.transform, overviews=o), how)
        for n, o in (("plain", ()), ("seen", (2, 4)))
    )
    levels = [level_for(seen.source, Frame("EPSG:3857", res)) for res in (20.0, 39.0, 41.0, 79.0, 81.0)]
    assert levels == [0, 0, 1, 1, 2]
    frame, window = Frame("EPSG:3857", 20.0), Window(-420_100, 83_520, 300, 300)
    got, valid = read_onto(seen, frame, window)
    assert valid.all()
    np.testing.assert_array_equal(got, read_onto(plain, frame, window)[0])
    assert [p.level for p in places(seen, frame, window)] == [0]


def test_the_files_own_mask_counts(tmp_path):
    numbers = painted(WEST.crs, WEST.transform, WEST.shape, dtype="uint8")
    mask = np.full(WEST.shape, 255, np.uint8)
    mask[:, :80] = 0
    path = write(tmp_path / "m.tif", numbers, WEST.crs, WEST.transform, mask=mask)
    got, valid = read_onto(view(path), Frame(HERE, 10.0), Window(-460_200, 71_950, 500, 450))
    np.testing.assert_array_equal(valid, mask > 0)
    assert not got[0][mask == 0].any()
    _, valid = read_onto(view(path), FRAME, BLOCK)
    everything = read_onto(view(write(tmp_path / "a.tif", numbers, WEST.crs, WEST.transform)), FRAME, BLOCK)[1]
    assert 0 < valid.sum() < everything.sum() / 2


def test_nan_and_the_edges_of_float32_are_no_data(tmp_path):
    numbers = np.linspace(0, 1, 80 * 80, dtype=np.float32).reshape(80, 80)
    numbers[3, 4], numbers[5, 6] = np.nan, np.float32(-3.4e38)
    path = write(tmp_path / "f.tif", numbers, "EPSG:3412", (25e3, 0, -1e6, 0, -25e3, 1e6), nodata=-3.4e38)
    _, valid = read_onto(view(path), Frame("EPSG:3412", 25e3), Window(-40, -40, 80, 80))
    assert np.argwhere(~valid).tolist() == [[3, 4], [5, 6]]


# --- where the world is cut -----------------------------------------------------------------------------------------


def test_across_the_antimeridian_in_utm(real_data):
    """A file of zone 60 that runs over 180: onto zone 1, and onto degrees that run on."""
    path = real_data / "edge" / "cog_dateline.tif"
    for frame, window in (
        (Frame("EPSG:32601", 100.0), Window(-57_500, 2_560, 512, 512)),
        (Frame("EPSG:4326", 0.001), Window(-52_000, 179_700, 512, 512)),
    ):
        assert covers(view(path).source.grid, frame, next(frame.blocks(window)))
        got, valid = read_onto(view(path), frame, window)
        assert valid.mean() > 0.5
        np.testing.assert_array_equal(got[0], by_proj(path, frame, window))


def by_proj(path, frame, window):
    """Nearest, each place computed by itself."""
    with rasterio.open(path) as file:
        x, y = centres(frame.crs, frame.transform(window), (window.height, window.width), file.crs)
        cols, rows = (np.floor(v).astype(int) for v in ~file.transform * (np.asarray(x), np.asarray(y)))
        inside = (rows >= 0) & (cols >= 0) & (rows < file.height) & (cols < file.width)
        return np.where(inside, file.read(1)[rows.clip(0, file.height - 1), cols.clip(0, file.width - 1)], 0)


def test_degrees_that_end_at_180_go_on_behind_it(tmp_path):
    """A file from -180 to 180 under a frame that runs on past 180, and under a UTM zone that lies across it."""
    place = Place("EPSG:4326", -180, 54, 0.01, (200, 36_000))
    numbers = np.floor(np.broadcast_to(np.abs(np.arange(36_000) + 0.5 - 18_000)[None], place.shape)).astype(np.uint16)
    path = write(tmp_path / "globe.tif", numbers, place.crs, place.transform)
    frame = Frame("EPSG:4326", 0.01)
    window = Window(-5_390, 17_950, 100, 120)
    got, valid = read_onto(view(path), frame, window)
    assert valid.all()
    np.testing.assert_array_equal(got[0, 0], [*range(17_950, 18_000), *range(17_999, 17_929, -1)])
    frame, window = Frame("EPSG:32601", 1000.0), Window(-5_900, 230, 60, 100)
    got, valid = read_onto(view(path), frame, window)
    lon, _ = centres(frame.crs, frame.transform(window), (60, 100))
    assert (lon > 179).any()
    assert (lon < -179).any()
    assert valid.all()
    assert np.abs(got[0] - np.floor(np.abs(np.asarray(lon)) * 100)).max() <= 1


HALF = np.pi * 6_378_137
MERCATOR = (2 * HALF / 36_000, 0, -HALF, 0, -2 * HALF / 36_000, -1_700_000)
"""Once round the world in web Mercator, from 15 to 23 degrees south."""


@pytest.fixture(scope="module")
def globe(tmp_path_factory):
    """Numbers fall to both sides of 180 degrees, by 1 a pixel, and with the rows."""
    away = np.minimum(np.arange(36_000), np.arange(36_000)[::-1])
    numbers = (20_000 - away[None] + 7 * np.arange(800)[:, None]).astype(np.uint16)
    return write(tmp_path_factory.mktemp("mercator") / "globe.tif", numbers, "EPSG:3857", MERCATOR)


@pytest.mark.parametrize("crs", ["EPSG:32660", "EPSG:32601", "EPSG:4326"])
def test_mercator_goes_on_behind_180(crs, globe):
    """Not more is read of the file than lies under the window: not once round the world."""
    frame = Frame(crs, 0.009 if crs == "EPSG:4326" else 1000.0)
    x, y = transformer(LONLAT, crs).transform(179.99 if crs != "EPSG:32601" else -179.99, -17.5)
    row, col = (int(v) for v in frame.pixels(x, y))
    window = Window(row - 30, col - 50, 60, 100)
    source = Counted(view(globe))
    got, valid = read_onto(source.view, frame, window)
    assert valid.all()
    np.testing.assert_array_equal(got[0], by_proj(globe, frame, window))
    lon, _ = centres(frame.crs, frame.transform(window), (60, 100))
    assert (np.asarray(lon) % 360).min() < 179.9
    assert (np.asarray(lon) % 360).max() > 180.1
    assert source.pixels < 20_000
    assert sum(p.window.area for p in places(view(globe), frame, window)) < 20_000


@pytest.mark.parametrize("how", ["bilinear", "cubic"])
def test_mercator_that_is_finer_than_the_frame_goes_on_behind_180(how, globe):
    """GDAL averages. Numbers are linear on either side, so that a mean is the number of the place."""
    frame = Frame("EPSG:32660", 4000.0)
    row, col = (int(v) for v in frame.pixels(*transformer(LONLAT, frame.crs).transform(179.99, -17.5)))
    window = Window(row - 10, col - 20, 20, 40)
    source = Counted(view(globe, how))
    got, valid = read_onto(source.view, frame, window)
    assert valid.all()
    lon, lat = (np.asarray(v) for v in centres(frame.crs, frame.transform(window), (20, 40)))
    north = np.asarray(transformer(LONLAT, "EPSG:3857").transform(lon, lat)[1])
    wanted = 20_000 - (180 - np.abs(lon)) * 100 + 0.5 + 7 * ((MERCATOR[5] - north) / MERCATOR[0] - 0.5)
    beside = np.abs(180 - np.abs(lon)) > 0.05
    assert (lon > 0).any()
    assert (lon < 0).any()
    assert np.abs(got[0] - wanted)[beside].max() < 3
    assert np.abs(got[0] - wanted).max() < 12
    assert source.pixels < 6_000_000  # whole blocks of 2048 km: a thirtieth of the file


class Counted:
    """A view that counts the pixels that it gives."""

    def __init__(self, inner):
        self.pixels, read = 0, inner.source.read

        def counting(indexes, window, level=0):
            self.pixels += window.area
            return read(indexes, window, level)

        inner.source.read = counting
        self.view = inner


@pytest.mark.parametrize("middle", [-0.4, 0.0, 0.4])
@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:4326"])
def test_a_part_of_a_block_across_180_is_that_of_the_whole(crs, middle, globe, tmp_path):
    """Whichever side its own middle is on, and that of its block: on the line, and to either side of it."""
    path, target, across = globe, "EPSG:4326", (180 + middle, 180.0)
    if crs == "EPSG:4326":
        numbers = np.minimum(np.arange(36_000), np.arange(36_000)[::-1])[None].repeat(1000, 0).astype(np.uint16)
        path = write(tmp_path / "degrees.tif", numbers + 1, crs, (0.01, 0, -180, 0, -0.01, -13))
        target, east = "EPSG:32660", transformer(LONLAT, "EPSG:32660").transform(180, -17.5)[0]
        across = east + middle * 20_000, east
    whole = 35 if crs == "EPSG:3857" else 4
    frame = Frame(target, across[0] / ((whole + 0.5) * 512))
    row = int(frame.pixels(*transformer(LONLAT, target).transform(180, -17.5))[0])
    at = Window(row - 20, whole * 512, 40, 512)
    assert at.col < frame.pixels(across[1], 0)[1] < at.right
    everything, valid = read_onto(view(path), frame, at)
    assert valid.all()
    np.testing.assert_array_equal(everything[0], by_proj(path, frame, at))
    for first in (0, 100, 240, 260, 400, 500):
        got, seen = read_onto(view(path), frame, Window(at.row, at.col + first, at.height, 12))
        assert seen.all()
        np.testing.assert_array_equal(got, everything[:, :, first : first + 12])


@pytest.mark.parametrize(
    ("south", "west", "shape"), [(88, -180, (100, 18_000)), (89, 178, (50, 100)), (-90, -62, (50, 400))]
)
def test_degrees_are_read_around_a_pole(tmp_path, south, west, shape):
    """A file of degrees that ends at the pole, all around it or a few meridians wide, on a grid with the pole in it."""
    north = south + shape[0] * 0.02
    lon, lat = np.meshgrid(west + (np.arange(shape[1]) + 0.5) * 0.02, north - (np.arange(shape[0]) + 0.5) * 0.02)
    numbers = (np.floor((lon + 180) * 50) % 997 + np.floor(np.abs(lat) * 50) % 89 * 700 + 1).astype(np.uint16)
    path = write(tmp_path / "degrees.tif", numbers, "EPSG:4326", (0.02, 0, west, 0, -0.02, north), nodata=0)
    crs, window = "EPSG:32661" if south > 0 else "EPSG:32761", Window(-4_200, 3_800, 400, 400)
    frame = Frame(crs, 500.0, (0.13, 0.41))
    assert covers(view(path).source.grid, frame, window)
    got, valid = read_onto(view(path), frame, window)
    wanted = by_proj(path, frame, window)
    assert (wanted > 0).sum() > 100
    np.testing.assert_array_equal(got[0], wanted)
    np.testing.assert_array_equal(valid, wanted > 0)


def test_utm_60_and_1_meet(tmp_path):
    """Two scenes on either side of 180, joined in zone 1, against the field."""
    east = Place("EPSG:32660", 698_500, 5_800_000, 10, (400, 700))
    west = Place("EPSG:32601", 295_000, 5_800_000, 10, (400, 700))
    a, b = (make_scene(tmp_path, n, p, bands=("red",), resampling="cubic") for n, p in (("e", east), ("w", west)))
    target = Place("EPSG:32601", 294_000, 5_798_500, 10, (200, 300))
    with MosaicReader(mosaic_of([a, b], target), LocalOpener()) as reader:
        stack = reader.read(Window(0, 0, *target.shape))
    lon, lat = (np.asarray(v) for v in centres(target.crs, target.transform, target.shape))
    assert (lon < 0).any()
    seen = stack.mask[0]
    assert seen.mean() > 0.9
    # 2 x sin(900 x 180 degrees) is 0 on both sides: the field itself does not jump at 180.
    assert np.abs(stack.data[0, 0][seen] - field_at(lon, lat)[seen]).max() <= 12


# --- odc-stac -------------------------------------------------------------------------------------------------------


def item_of(scene):
    import pystac
    import shapely

    shape = shapely.from_wkb(scene.footprint)
    when = pystac.utils.str_to_datetime(scene.when)
    item = pystac.Item(scene.id, shapely.geometry.mapping(shape), list(shape.bounds), when, {"proj:code": scene.crs})
    for band in scene.bands:
        extra = {"proj:shape": list(band.grid.shape), "proj:transform": [*band.grid.transform, 0, 0, 1]}
        item.add_asset(band.name, pystac.Asset(band.href, media_type="image/tiff", roles=["data"], extra_fields=extra))
    return item


@pytest.mark.parametrize(("how", "steps"), [("nearest", 0), ("bilinear", 1)])
def test_odc_stac_reads_the_same(tmp_path, how, steps):
    """A scene of the grid's own zone, one of twice its resolution, and one of the next zone.

    Across zones odc-stac approximates places, so that a few nearest pixels in ten thousand are a neighbour's; ours are
    exact (test_nearest_is_gdals).
    """
    import odc.stac
    from odc.geo.geobox import GeoBox

    east = Place(BESIDE, 219_000, 4_602_000, 10, (450, 450))
    made = []
    for name, place in (("west", WEST), ("east", east), ("coarse", replace(east, res=20, shape=(225, 225)))):
        numbers = np.stack([painted(place.crs, place.transform, place.shape, b) for b in range(2)])
        numbers[:, 50:60, 30:90] = 0
        made.append(make_scene(tmp_path, name, place, data=numbers, nodata=0, resampling=how))
    target = Place(BESIDE, *(BLOCK.col * 10.0, -BLOCK.row * 10.0), 10, (512, 512))
    for scene in made:
        with MosaicReader(mosaic_of([scene], target), LocalOpener()) as reader:
            stack = reader.read(Window(0, 0, 512, 512))
        box = GeoBox((512, 512), Affine(*target.transform), BESIDE)
        found = odc.stac.load([item_of(scene)], bands=["red", "nir"], geobox=box, resampling=how, nodata=0)
        for n, name in enumerate(("red", "nir")):
            wanted = found[name].values[0].astype(int)
            both = stack.mask[0] & (wanted != 0)
            assert both.any()
            apart = np.abs(stack.data[0, n].astype(int) - wanted) > steps
            assert apart[both].mean() <= (1e-3 if scene.id == "west" and how == "nearest" else 0)
            assert (stack.mask[0] & (wanted == 0)).mean() <= (1e-4 if scene.id == "west" else 0)
            if how == "nearest" and scene.id != "west":
                np.testing.assert_array_equal(stack.mask[0], wanted != 0)
