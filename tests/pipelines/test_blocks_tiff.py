"""TIFFs by their blocks, against rasterio: every way of storing pixels gives the same numbers."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterioWindow

from pipelines.blocks.cog import CogSource
from pipelines.blocks.gdal import GdalSource
from pipelines.blocks.open import Opener
from pipelines.imagery.gdal import Retry
from pipelines.imagery.limits import Limits
from pipelines.remote.fetch import Fetcher
from pipelines.remote.network import Network
from swathe.errors import BandError, GridError, InputError, ReadError, SwatheError
from swathe.scene import Asset, AssetGrid
from swathe.source import Auth
from swathe.window import Window
from tests.pipelines.fault_server import Always, FaultServer, Status, never
from tests.pipelines.tiffs import pixels, write_tif

TILED = {"tiled": True, "blockxsize": 128, "blockysize": 128}
WINDOWS = (
    Window(0, 0, 1, 1),
    Window(100, 120, 70, 90),  # four blocks and more
    Window(0, 0, 300, 410),  # everything
    Window(299, 409, 1, 1),  # the last pixel
    Window(250, 380, 50, 30),  # partial blocks
    Window(128, 128, 128, 128),  # exactly one
)


@pytest.fixture(scope="module")
def fetcher():
    fetcher = Fetcher(Network(allow_private=True, retry=Retry(attempts=3, base_s=0.02)))
    yield fetcher
    fetcher.close()


@pytest.fixture
def opener(fetcher):
    with Opener(fetcher, Auth(), threads=2) as opener:
        yield opener


def asset(path, **facts):
    return Asset("band", str(path), **facts)


def expected(path, indexes, window, **options):
    with rasterio.open(path, **options) as file:
        return file.read(list(indexes), window=RasterioWindow(window.col, window.row, window.width, window.height))


def assert_same(path, opener, windows=WINDOWS):
    """Every band, some bands, in any order; type, nodata and grid as well."""
    source = opener.open(asset(path))
    with rasterio.open(path) as file:
        assert source.count == file.count
        assert source.dtype == np.dtype(file.dtypes[0])
        assert source.grid == AssetGrid("EPSG:32632", tuple(file.transform)[:6], file.shape)
        assert source.block == file.block_shapes[0]
        np.testing.assert_equal(source.nodata, file.nodata)
    every = tuple(range(1, source.count + 1))
    for window in windows:
        for indexes in {every, every[-1:], every[::-1]}:
            got, want = source.read(indexes, window), expected(path, indexes, window)
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
    return source


STORED = [
    ("uint8", {"compress": "deflate", "predictor": 2, **TILED}),
    ("uint16", {"compress": "zstd", "predictor": 2, **TILED}),
    ("uint16", {"compress": "zstd", "predictor": 2, "interleave": "band", **TILED}),
    ("int16", {"compress": "lzw", "predictor": 2, "interleave": "band", **TILED}),
    ("int16", {"compress": "lzw", **TILED}),
    ("float32", {"compress": "deflate", "predictor": 3, **TILED}),
    ("float32", {"compress": "zstd", "predictor": 2, **TILED}),
    ("float64", {"compress": "zstd", "predictor": 3, "interleave": "band", **TILED}),
    ("int32", {"compress": "deflate", "predictor": 2, "endianness": "BIG", **TILED}),
    ("float32", {"compress": "zstd", "predictor": 3, "endianness": "BIG", **TILED}),
    ("uint16", {"endianness": "BIG", "bigtiff": "YES", **TILED}),
    ("uint16", {"bigtiff": "YES", "compress": "zstd", "interleave": "band", **TILED}),
    ("uint32", {"compress": "packbits", **TILED}),
    ("int8", {"compress": "lzma", **TILED}),
    ("uint64", {"compress": "deflate", **TILED}),
    ("float32", {"compress": "lerc_zstd", "max_z_error": 0, **TILED}),
    ("uint16", {"nbits": 15, **TILED}),
    ("uint8", {"compress": "webp", "webp_lossless": True, "photometric": "rgb", **TILED}),
    ("uint8", {"compress": "jpeg", "photometric": "ycbcr", **TILED}),
    ("uint8", {"compress": "jpeg", "interleave": "band", **TILED}),
    ("uint8", {"compress": "jpeg", "blockysize": 32}),
    ("uint16", {"compress": "deflate", "predictor": 2, "blockysize": 7}),
    ("float32", {"compress": "lzw", "predictor": 3, "blockysize": 64, "interleave": "band"}),
    ("int16", {}),
    *(("uint16", {"compress": "zstd", "tiled": True, "blockxsize": n, "blockysize": n}) for n in (64, 512, 1024)),
    ("uint16", {"compress": "zstd", "tiled": True, "blockxsize": 64, "blockysize": 256}),
]


def called(case):
    dtype, options = case
    return "-".join([dtype, *(f"{k}={v}" for k, v in options.items() if k != "tiled")])


@pytest.mark.parametrize("case", STORED, ids=called)
def test_any_way_of_storing_gives_rasterios_numbers(case, tmp_path, opener):
    dtype, options = case
    source = assert_same(write_tif(tmp_path / "a.tif", pixels(3, 300, 410, dtype), **options), opener)
    assert isinstance(source, CogSource)


@pytest.mark.parametrize(("dtype", "nodata"), [("int16", -9999), ("float32", float("nan")), ("uint8", 255)])
def test_blocks_that_were_never_written_are_nodata(dtype, nodata, tmp_path, opener):
    path = tmp_path / "sparse.tif"
    profile = {"driver": "GTiff", "count": 2, "height": 300, "width": 410, "dtype": dtype, "crs": "EPSG:32632"}
    grid = rasterio.transform.from_origin(500_000, 5_000_000, 10, 10)
    with rasterio.open(path, "w", **profile, **TILED, nodata=nodata, sparse_ok=True, transform=grid) as file:
        file.write(pixels(2, 128, 128, dtype), window=RasterioWindow(128, 0, 128, 128))
    source = assert_same(path, opener)
    # One block of one column, the rest costs nothing.
    assert 0 < source.bytes_of(Window(0, 0, 300, 410)) == source.bytes_of(Window(0, 128, 1, 1))
    assert source.bytes_of(Window(200, 0, 100, 100)) == 0


def test_sparse_without_nodata_is_zero(tmp_path, opener):
    path = write_tif(tmp_path / "a.tif", np.zeros((1, 300, 410), "uint8"), sparse_ok=True, **TILED)
    assert_same(path, opener)


def test_overviews_are_levels(tmp_path, opener):
    path = write_tif(tmp_path / "a.tif", pixels(2, 700, 900, "uint16"), compress="zstd", **TILED)
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2, 4], Resampling.average)
    source = opener.open(asset(path))
    assert [grid.shape for grid in source.overviews] == [(350, 450), (175, 225)]
    for level, grid in enumerate(source.overviews, 1):
        assert grid.transform == pytest.approx((10 * 2**level, 0, 500_000, 0, -10 * 2**level, 5_000_000))
        window = Window(50, 60, 120, 140)
        want = expected(path, (1, 2), window, overview_level=level - 1)
        np.testing.assert_array_equal(source.read((1, 2), window, level), want)
        with pytest.raises(InputError, match="does not lie inside"):
            source.read((1,), Window(0, 0, 701, 900), level)


def test_a_mask_of_the_file_says_what_is_valid(tmp_path, opener):
    path = write_tif(tmp_path / "a.tif", pixels(3, 300, 410, "uint8"), compress="deflate", **TILED)
    mask = np.add.outer(np.arange(300), np.arange(410)) % 7 > 2
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(mask)
        file.build_overviews([2], Resampling.nearest)
    source = opener.open(asset(path))
    window = Window(77, 99, 150, 201)
    np.testing.assert_array_equal(source.valid(window), mask[77:227, 99:300])
    with rasterio.open(path, overview_level=0) as file:
        np.testing.assert_array_equal(source.valid(Window(0, 0, 150, 205), 1), file.read_masks(1) != 0)
    assert_same(path, opener)


def test_alpha_says_what_is_valid(tmp_path, opener):
    data = pixels(4, 300, 410, "uint16")
    data[3, :50] = 0
    path = write_tif(tmp_path / "a.tif", data, photometric="rgb", alpha="yes", **TILED)
    source = opener.open(asset(path))
    np.testing.assert_array_equal(source.valid(Window(0, 0, 300, 410)), data[3] != 0)


def test_a_file_without_a_mask_says_so(tmp_path, opener):
    path = write_tif(tmp_path / "a.tif", pixels(1, 300, 410), nodata=-1, **TILED)
    assert opener.open(asset(path)).valid(Window(0, 0, 5, 5)) is None


def test_real_files(real_data, opener):
    """Everything there is that has a grid; two of the files hold what nobody may read."""
    found = sorted(p for end in ("tif", "tiff", "gtif") for p in real_data.rglob(f"*.{end}"))
    read, refused = 0, {}
    for path in found:
        try:
            source = opener.open(asset(path))
            rows, cols = source.grid.shape
            window = Window(rows // 3, cols // 3, min(300, rows - rows // 3), min(300, cols - cols // 3))
            got = source.read(tuple(range(1, source.count + 1)), window)
        except SwatheError as error:
            refused[path.name] = error.problem.code
            continue
        np.testing.assert_array_equal(got, expected(path, range(1, source.count + 1), window))
        with rasterio.open(path) as file:
            assert rasterio.CRS.from_user_input(source.grid.crs) == file.crs
            assert source.grid.transform == tuple(file.transform)[:6]
            np.testing.assert_equal(source.nodata, file.nodata)
        read += 1
    assert read >= 50
    odd = {name: code for name, code in refused.items() if code != "grid.no_crs"}
    assert odd == {
        "cog_gcps_ovr.tif": "grid.gcps",
        "gcps.tif": "grid.gcps",
        "inverted_lat.tif": "grid.south_up",
        "rotated.tif": "grid.rotated",
        "corrupt.tif": "read.corrupt",
    }


def test_the_mask_of_a_real_file(real_data, opener):
    path = real_data / "edge" / "cog_rgb_mask.tif"
    with rasterio.open(path) as file:
        want = file.read_masks(1) != 0
    got = opener.open(asset(path)).valid(Window(0, 0, *want.shape))
    assert not want.all()
    np.testing.assert_array_equal(got, want)


# --- formats that only GDAL reads -----------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_mb", [32, 0], ids=["whole", "paged"])
def test_jpeg_2000_goes_through_gdal(whole_mb, real_data, fetcher):
    path = real_data / "edge" / "s2_band.jp2"
    with Opener(fetcher, Auth(), limits=replace(Limits(), whole_mb=whole_mb)) as opener:
        source = opener.open(asset(path))
        assert isinstance(source, GdalSource)
        assert (source.grid.crs, source.dtype) == ("EPSG:32633", np.uint16)
        for window in (Window(0, 0, 243, 167), Window(100, 50, 60, 70)):
            np.testing.assert_array_equal(source.read((1,), window), expected(path, (1,), window))
        assert 0 < source.bytes_of(Window(0, 0, 100, 100)) < path.stat().st_size
        assert source.valid(Window(0, 0, 10, 10)) is None


def test_a_strip_too_large_to_hold_goes_through_gdal_page_by_page(tmp_path, fetcher):
    path = write_tif(tmp_path / "a.tif", pixels(2, 900, 1000, "uint16"), blockysize=900)
    with FaultServer(tmp_path) as server:
        with Opener(fetcher, Auth(), limits=replace(Limits(), block_mb=1, whole_mb=0)) as opener:
            source = opener.open(asset(server.url("a.tif")))
            assert isinstance(source, GdalSource)
            window = Window(400, 300, 20, 30)
            np.testing.assert_array_equal(source.read((2, 1), window), expected(path, (2, 1), window))
        fetched = sum(r.stop - r.start for r in server.requests)
    assert fetched < path.stat().st_size


def test_files_at_rest_wake_up(real_data, fetcher):
    with Opener(fetcher, Auth()) as opener:
        source = opener.open(asset(real_data / "edge" / "s2_band.jp2"))
        before = source.read((1,), Window(0, 0, 50, 50))
        source._file.rest()
        np.testing.assert_array_equal(source.read((1,), Window(0, 0, 50, 50)), before)


def test_a_picture_needs_the_catalogues_word_for_its_place(real_data, opener):
    path = next((real_data / "buildings_oam_chips" / "images").glob("*.png"))
    with pytest.raises(GridError) as caught:
        opener.open(asset(path))
    assert caught.value.problem.code == "grid.no_crs"
    grid = AssetGrid("EPSG:3857", (0.07, 0, 3_600_000, 0, -0.07, 40_000), (256, 256))
    source = opener.open(asset(path, grid=grid))
    assert source.grid == grid
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        want = expected(path, (1, 2, 3), Window(5, 6, 70, 80))
    np.testing.assert_array_equal(source.read((1, 2, 3), Window(5, 6, 70, 80)), want)


# --- what an asset adds ---------------------------------------------------------------------------------------------


def test_the_catalogue_is_held_against_the_file(tmp_path, opener):
    path = write_tif(tmp_path / "a.tif", pixels(1, 300, 410), nodata=-1, **TILED)
    own = opener.open(asset(path)).grid
    assert opener.open(asset(path, grid=own)).grid == own
    wkt = rasterio.CRS.from_epsg(32632).to_wkt()
    assert opener.open(asset(path, grid=replace(own, crs=wkt))).grid.crs == wkt
    for wrong in (
        replace(own, shape=(300, 411)),
        replace(own, crs="EPSG:32633"),
        replace(own, transform=(10, 0, 500_020, 0, -10, 5_000_000)),
        replace(own, transform=(20, 0, 500_000, 0, -20, 5_000_000)),
    ):
        with pytest.raises(GridError) as caught:
            opener.open(asset(path, grid=wrong))
        assert caught.value.problem.code == "grid.mismatch"


@pytest.mark.parametrize("off", [(5.0, -5.0), (-5.0, 5.0), (0.004, 0.0)])
@pytest.mark.parametrize("stored", [TILED, {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES"}])
def test_the_file_s_own_grid_counts_where_the_catalogue_s_is_a_little_off(off, stored, tmp_path, opener):
    """A catalogue that gives the centre of the first pixel, or rounds: what is read does not move by half a pixel."""
    path = write_tif(tmp_path / f"a.{'jp2' if 'driver' in stored else 'tif'}", pixels(1, 300, 410), **stored)
    own = opener.open(asset(path)).grid
    (a, b, c, d, e, f), (x, y) = own.transform, off
    told = replace(own, transform=(a, b, c + x, d, e, f + y))
    assert opener.open(asset(path, grid=told)).grid == own


@pytest.mark.parametrize(
    ("transform", "code"),
    [((10, 0, 500_000, 0, 10, 4_997_000), "grid.south_up"), ((10, 1, 500_000, 1, -10, 5_000_000), "grid.rotated")],
)
def test_no_catalogue_turns_a_file_round(transform, code, tmp_path, opener):
    """Its rows lie as the file says: north-up in the catalogue's words, they would be read upside down."""
    path = write_tif(tmp_path / "a.tif", pixels(1, 300, 410), transform=Affine(*transform), **TILED)
    with pytest.raises(GridError) as caught:
        opener.open(asset(path, grid=AssetGrid("EPSG:32632", (10, 0, 500_000, 0, -10, 5_000_000), (300, 410))))
    assert caught.value.problem.code == code


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_file_with_a_crs_and_no_transform_takes_the_catalogue_s(tmp_path, opener):
    path = write_tif(tmp_path / "a.tif", pixels(1, 300, 410), transform=Affine.identity(), **TILED)
    told = AssetGrid("EPSG:32632", (10, 0, 500_000, 0, -10, 5_000_000), (300, 410))
    assert opener.open(asset(path, grid=told)).grid == told


def test_an_asset_may_overrule_nodata_but_not_invent_a_band(tmp_path, opener):
    path = write_tif(tmp_path / "a.tif", pixels(2, 300, 410), nodata=-1, **TILED)
    assert opener.open(asset(path, nodata=0)).nodata == 0
    assert opener.open(asset(path)).nodata == -1
    with pytest.raises(BandError, match="has 2 bands"):
        opener.open(asset(path, index=3))


def test_a_projection_of_its_own_is_read_as_gdal_reads_it(tmp_path, opener):
    crs = rasterio.CRS.from_proj4("+proj=laea +lat_0=10 +lon_0=20 +x_0=123 +y_0=456 +datum=WGS84 +units=m")
    path = write_tif(tmp_path / "a.tif", pixels(1, 64, 64), crs=crs)
    with rasterio.open(path) as file:
        assert rasterio.CRS.from_user_input(opener.open(asset(path)).grid.crs) == file.crs


# --- over a network -------------------------------------------------------------------------------------------------


def served(server, name, start=0):
    return sum(r.stop - r.start for r in server.requests[start:] if r.name == name)


@pytest.mark.parametrize("interleave", ["pixel", "band"])
def test_bytes_fetched_are_those_of_the_blocks(interleave, tmp_path, fetcher):
    rng = np.random.default_rng(1)
    data = rng.integers(0, 4000, (4, 1024, 1024)).astype("uint16")
    path = write_tif(tmp_path / "a.tif", data, compress="zstd", interleave=interleave, **TILED)
    with FaultServer(tmp_path) as server, Opener(fetcher, Auth()) as opener:
        source = opener.open(asset(server.url("a.tif"), index=2))
        header = served(server, "a.tif")
        assert header <= 1 << 16
        assert len(server.requests) == 1
        window = Window(200, 300, 300, 400)
        np.testing.assert_array_equal(source.read((2,), window), expected(path, (2,), window))
        taken, claimed = served(server, "a.tif", 1), source.bytes_of(window)
        assert claimed <= taken <= 1.15 * claimed
        with rasterio.open(path) as file:
            blocks = [(r, c) for r in range(1, 4) for c in range(2, 6)]
            sizes = [int(file.get_tag_item(f"BLOCK_SIZE_{c}_{r}", "TIFF", bidx=2)) for r, c in blocks]
        assert claimed == sum(sizes)
        before = len(server.requests)
        source.read((2,), window)
        assert len(server.requests) == before  # from memory


def test_threads_that_want_the_same_block_fetch_it_once(tmp_path, fetcher):
    path = write_tif(tmp_path / "a.tif", pixels(1, 1024, 1024, "uint16"), compress="zstd", **TILED)
    want = expected(path, (1,), Window(0, 0, 500, 500))
    with FaultServer(tmp_path) as server, Opener(fetcher, Auth()) as opener:
        href, wrong, ready = server.url("a.tif"), [], threading.Barrier(8)

        def read():
            ready.wait()
            got = opener.open(asset(href)).read((1,), Window(0, 0, 500, 500))
            if not np.array_equal(got, want):
                wrong.append(got)

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert not wrong
        source = opener.open(asset(href))
        assert served(server, "a.tif", 1) <= 1.15 * source.bytes_of(Window(0, 0, 500, 500))
        assert sum(r.start == 0 for r in server.requests) == 1


def test_prefetched_blocks_are_there_when_they_are_read(tmp_path, fetcher):
    path = write_tif(tmp_path / "a.tif", pixels(1, 1024, 1024, "uint16"), compress="zstd", **TILED)
    window = Window(0, 0, 600, 600)
    with FaultServer(tmp_path) as server, Opener(fetcher, Auth()) as opener:
        source = opener.open(asset(server.url("a.tif")))
        source.prefetch(window)
        for _ in range(200):
            if not source._file.absent(source._file.levels[0], source._file.levels[0].cells(window, (1,))):
                break
            threading.Event().wait(0.02)
        np.testing.assert_array_equal(source.read((1,), window), expected(path, (1,), window))
        assert served(server, "a.tif", 1) <= 1.15 * source.bytes_of(window)


def test_a_prefetch_that_would_not_fit_is_not_begun(tmp_path, fetcher):
    write_tif(tmp_path / "a.tif", pixels(1, 1024, 1024, "uint16"), compress="zstd", **TILED)
    with FaultServer(tmp_path) as server, Opener(fetcher, Auth(), cache_mb=2) as opener:
        source = opener.open(asset(server.url("a.tif")))
        source.prefetch(Window(0, 0, 1024, 1024))
        source.prefetch(Window(0, 0, 1, 1))
        opener.close()
        assert served(server, "a.tif", 1) < 50_000


def test_memory_of_decoded_blocks_is_bounded(tmp_path, fetcher):
    path = write_tif(tmp_path / "a.tif", pixels(1, 2048, 2048, "uint16"), compress="zstd", **TILED)
    with Opener(fetcher, Auth(), cache_mb=1) as opener:
        source = opener.open(asset(path))
        for row in range(0, 2048, 256):
            window = Window(row, 0, 256, 2048)
            np.testing.assert_array_equal(source.read((1,), window), expected(path, (1,), window))
            assert opener._shared.cache.size <= 1 << 20


def test_what_is_not_there_is_said_and_not_asked_for_again(tmp_path, opener):
    with FaultServer(tmp_path) as server:
        for _ in range(3):
            with pytest.raises(ReadError) as caught:
                opener.open(asset(server.url("nothing.tif")))
            assert caught.value.problem.code == "read.gone"
        assert len(server.requests) == 1


def test_a_server_that_was_down_is_asked_again(tmp_path, opener):
    path = write_tif(tmp_path / "a.tif", pixels(1, 300, 410), **TILED)
    with FaultServer(tmp_path, faults=Always(Status(503))) as server:
        with pytest.raises(ReadError) as caught:
            opener.open(asset(server.url("a.tif")))
        assert caught.value.problem.code == "read.lost"
        server.faults = never
        got = opener.open(asset(server.url("a.tif"))).read((1,), Window(0, 0, 300, 410))
    np.testing.assert_array_equal(got, expected(path, (1,), Window(0, 0, 300, 410)))
