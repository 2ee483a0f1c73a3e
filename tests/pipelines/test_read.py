"""Windows against rasterio: real files as they come, and anywhere on and off synthetic ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rasterio.enums import ColorInterp

from pipelines.imagery.gdal import MIB, Access
from pipelines.imagery.inspect import Declared, inspect, parse_input
from pipelines.imagery.read import Reader, strip_cache_mb
from pipelines.imagery.sensors import load_sensors
from swathe.card import Input
from swathe.errors import ReadError
from swathe.recipe import Radiometry
from swathe.window import Window
from tests.pipelines.tiffs import pixels, write_tif

SENSORS = load_sensors(Path(__file__).resolve().parents[2] / "configs" / "sensors")
SIX = ("blue", "green", "red", "nir08", "swir16", "swir22")


def look(inputs, want, sensor=None, times=1, **said):
    texts = [inputs] if isinstance(inputs, (str, Path)) else inputs
    profiles = tuple(SENSORS[s] for s in sensor.split(",")) if sensor else ()
    declared = Declared(profiles, Radiometry(**said), SENSORS)
    return inspect([parse_input(str(t)) for t in texts], Input(bands=want, times=times), declared)


def read(imagery, window=None):
    with Reader(imagery) as reader:
        return reader.read(window or Window(0, 0, *imagery.shape))


def padded(data: np.ndarray, window: Window, fill=0) -> np.ndarray:
    """(…, rows, cols) cut by a plain loop over pixels that may not exist."""
    out = np.full((*data.shape[:-2], window.height, window.width), fill, data.dtype)
    for r in range(window.height):
        for c in range(window.width):
            row, col = window.row + r, window.col + c
            if 0 <= row < data.shape[-2] and 0 <= col < data.shape[-1]:
                out[..., r, c] = data[..., row, col]
    return out


# --- real files -----------------------------------------------------------------------------------------------------


def test_sentinel_hub_files_per_band(real_data):
    folder = real_data / "s2_l2a_aquileia"
    stack = read(look(folder, SIX, "sentinel-2-sentinelhub"))
    for i, token in enumerate(("B02", "B03", "B04", "B8A", "B11", "B12")):
        with rasterio.open(next(folder.glob(f"*_{token}_*"))) as file:
            np.testing.assert_array_equal(stack.data[0, i], file.read(1))
    np.testing.assert_array_equal(stack.mask[0], (stack.data[0] != 0).all(axis=0))
    assert 0.02 < 1 - stack.mask.mean() < 0.05
    assert stack.scale == pytest.approx(np.full(6, 1 / 65535), rel=1e-12)
    assert stack.data.dtype == np.uint16


def test_thirteen_bands_in_one_file(real_data):
    path = real_data / "flood_sen1floods11" / "Spain_7370579_S2Hand.tif"
    stack = read(look(path, SIX, "sen1floods11-s2"))
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(stack.data[0], file.read([2, 3, 4, 9, 12, 13]))
        expected = np.logical_and.reduce(file.read_masks([2, 3, 4, 9, 12, 13]) != 0)
    np.testing.assert_array_equal(stack.mask[0], expected)


def test_radar_with_nan_as_nodata(real_data):
    path = real_data / "flood_sen1floods11" / "Spain_7370579_S1Hand.tif"
    stack = read(look(path, ("vv", "vh"), "sentinel-1-rtc-db"))
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(stack.data[0], file.read())
        np.testing.assert_array_equal(stack.mask[0], np.isfinite(file.read()).all(axis=0))


def test_radar_with_a_number_as_nodata(real_data):
    path = real_data / "sar_s1_rtc_vv" / "cog_nodata_nan.tif"
    stack = read(look(path, ("vv",), "sentinel-1-rtc-linear"))
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(stack.mask[0], (file.read_masks(1) != 0) & np.isfinite(file.read(1)))
    assert 0.1 < stack.mask.mean() < 0.95


def test_a_landsat_stack_by_place(real_data):
    path = real_data / "l7_chiapas_labels" / "LE70220491999322EDC01_stack.gtif"
    stack = read(look(path, SIX, "landsat-sr-legacy"))
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(stack.data[0], file.read([1, 2, 3, 4, 5, 6]))
        np.testing.assert_array_equal(stack.mask[0], (file.read_masks([1, 2, 3, 4, 5, 6]) != 0).all(axis=0))


def test_two_dates_with_a_mask_band(real_data):
    folder = real_data / "change_australia_fire_s2_pair"
    dates = ("2018-12-01", "2019-01-05")
    imagery = look([f"{d}={folder / d}" for d in reversed(dates)], ("nir", "swir16"), "sentinel-2-sentinelhub", 2)
    stack = read(imagery)
    for t, when in enumerate(dates):
        masks = []
        for c, token in enumerate(("B08", "B11")):
            with rasterio.open(folder / when / f"{token}.tiff") as file:
                np.testing.assert_array_equal(stack.data[t, c], file.read(1))
                masks.append((file.read(2) != 0) & (file.read(1) != 0))
        np.testing.assert_array_equal(stack.mask[t], np.logical_and.reduce(masks))


def test_double_precision_stays(real_data):
    path = real_data / "burn_california_s2" / "post_fire" / "FRENCH_20240704.tif"
    stack = read(look(path, ("swir22", "nir"), "burn-california"))
    with rasterio.open(path) as file:
        np.testing.assert_array_equal(stack.data[0], file.read([5, 4]))
    assert stack.data.dtype == np.float64


# --- anywhere -------------------------------------------------------------------------------------------------------

ROWS, COLS = 61, 83


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """The same pixels in several layouts, with holes of nodata."""
    folder = tmp_path_factory.mktemp("scenes")
    data = pixels(4, ROWS, COLS)
    data[1, 10:20, 5:30] = -9
    data[3, 50:, :] = -9
    common = {"nodata": -9, "descriptions": ("blue", "green", "red", "nir")}
    tiles = {"tiled": True, "blockxsize": 16, "blockysize": 16}
    files = {
        "strips": write_tif(folder / "strips.tif", data, interleave="band", **common),
        "by_pixel": write_tif(folder / "by_pixel.tif", data, interleave="pixel", **tiles, compress="zstd", **common),
        "by_band": write_tif(folder / "by_band.tif", data, interleave="band", **tiles, compress="deflate", **common),
    }
    want = ("nir", "blue", "green")
    readers = {name: Reader(look(file, want, scale=1.0)) for name, file in files.items()}
    per_band = [write_tif(folder / "each" / f"{n}.tif", data[i : i + 1], nodata=-9)
                for i, n in enumerate(("blue", "green", "red", "nir"))]  # fmt: skip
    readers["per_band"] = Reader(look(per_band, want, scale=1.0))
    yield data[[3, 0, 1]], readers
    for reader in readers.values():
        reader.close()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layout=st.sampled_from(["strips", "by_pixel", "by_band", "per_band"]),
    row=st.integers(-40, ROWS + 40), col=st.integers(-40, COLS + 40),
    height=st.integers(1, 90), width=st.integers(1, 110),
)  # fmt: skip
def test_windows_anywhere_equal_a_padded_array(scenes, layout, row, col, height, width):
    data, readers = scenes
    window = Window(row, col, height, width)
    stack = readers[layout].read(window)
    np.testing.assert_array_equal(stack.data[0], padded(data, window))
    np.testing.assert_array_equal(stack.mask[0], padded((data != -9).all(axis=0), window, fill=False))


def test_one_pixel(tmp_path):
    stack = read(
        look(write_tif(tmp_path / "a.tif", pixels(1, 1, 1)), ("red",), bands=("red",), scale=1), Window(-1, -1, 3, 3)
    )
    assert stack.mask[0].tolist() == [[False] * 3, [False, True, False], [False] * 3]
    assert stack.data.sum() == pixels(1, 1, 1)[0, 0, 0]


def test_all_nodata(tmp_path):
    file = write_tif(tmp_path / "a.tif", np.zeros((1, 5, 6), "uint8"), nodata=0)
    assert not read(look(file, ("red",), bands=("red",), scale=1)).mask.any()


@pytest.mark.parametrize(("nodata", "valid"), [(None, 2), (np.nan, 2), (-1.5, 1), (1e300, 2)])
def test_nan_and_infinite_numbers_are_invalid_whatever_the_tag(tmp_path, nodata, valid):
    data = np.array([[[0.5, np.nan, np.inf], [-np.inf, -1.5, np.nan]]], "float32")
    file = write_tif(tmp_path / "a.tif", data, nodata=None if nodata in (None, 1e300) else nodata)
    imagery = look(file, ("red",), bands=("red",), scale=1, nodata=nodata)
    assert read(imagery).mask.sum() == valid


@pytest.mark.parametrize(("nodata", "valid"), [(-9999, 6), (70_000, 6), (2.5, 6), (3, 5)])
def test_a_nodata_number_that_the_type_cannot_hold_hides_nothing(tmp_path, nodata, valid):
    data = np.arange(6, dtype="uint16").reshape(1, 2, 3)
    file = write_tif(tmp_path / "a.tif", data)
    assert read(look(file, ("red",), bands=("red",), scale=1, nodata=nodata)).mask.sum() == valid


def test_a_mask_inside_the_file_and_one_beside_it(tmp_path):
    data, hole = pixels(2, 20, 30), np.full((20, 30), 255, "uint8")
    hole[3:9, 4:22] = 0
    for inside in ("YES", "NO"):
        file = write_tif(tmp_path / inside / "a.tif", data)
        with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=inside), rasterio.open(file, "r+") as dataset:
            dataset.write_mask(hole)
        stack = read(look(file, ("green", "red"), bands=("red", "green"), scale=1), Window(-2, -3, 25, 40))
        np.testing.assert_array_equal(stack.mask[0], padded(hole != 0, Window(-2, -3, 25, 40), fill=False))


def test_an_alpha_band(tmp_path):
    data = pixels(4, 20, 30, "uint16")
    data[3] = 0
    data[3, 5:10] = 1
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    stack = read(look(write_tif(tmp_path / "a.tif", data, colorinterp=colours), ("blue", "red"), "rgb8"))
    np.testing.assert_array_equal(stack.mask[0], data[3] != 0)
    np.testing.assert_array_equal(stack.data[0], data[[2, 0]])


def test_files_of_different_types_become_float32(tmp_path):
    one = write_tif(tmp_path / "red.tif", pixels(1, 9, 8, "uint16"), nodata=1)
    two = write_tif(tmp_path / "nir.tif", pixels(1, 9, 8, "float32") / 7, nodata=-1)
    stack = read(look([one, two], ("nir", "red"), scale=1))
    assert stack.data.dtype == np.float32
    np.testing.assert_array_equal(
        stack.data[0], np.concatenate([pixels(1, 9, 8, "float32") / 7, pixels(1, 9, 8, "float32")])
    )
    assert (~stack.mask).sum() == (pixels(1, 9, 8) == 1).sum()


def test_dates_of_different_radiometry_are_converted(tmp_path):
    """Sentinel-2's offset came in January 2022: a pair across that date needs both profiles."""
    old = write_tif(tmp_path / "o" / "B04.tif", np.full((1, 4, 5), 3000, "uint16"), nodata=0)
    new = write_tif(tmp_path / "n" / "B04.tif", np.full((1, 4, 5), 4000, "uint16"), nodata=0)
    inputs = [f"2021-06-01={old}", f"2023-06-01={new}"]
    stack = read(look(inputs, ("red",), "sentinel-2-l2a-pre-0400,sentinel-2-l2a", 2))
    np.testing.assert_allclose(stack.data, 0.3, rtol=1e-6)
    assert (stack.scale.tolist(), stack.offset.tolist()) == ([1.0], [0.0])
    assert stack.mask.all()


def test_a_local_file_replaced_mid_run_is_refused(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(1, 40, 50))
    imagery = look(file, ("red",), bands=("red",), scale=1)
    with Reader(imagery) as reader:
        reader.read(Window(0, 0, 5, 5))
        write_tif(file, pixels(1, 41, 50))
        reader.close()
        with pytest.raises(ReadError) as caught:
            reader.read(Window(0, 0, 5, 5))
    assert caught.value.problem.code == "read.changed"


def test_a_damaged_block_is_lost_by_name_and_others_are_not(real_data):
    """corrupt.tif is damaged in the last of its four blocks."""
    path = real_data / "edge" / "corrupt.tif"
    from swathe.imagery import Acquisition, BandSource, Imagery

    band = BandSource("red", str(path), 1, "uint8", None, 1.0, 0.0)
    imagery = Imagery(
        (Acquisition(None, (band,)),), "EPSG:3857", (1, 0, 0, 0, -1, 0), (1024, 1024), "x", "", (512, 512), ""
    )
    with Reader(imagery, sleep=lambda _s: None) as reader, rasterio.open(path) as file:
        good = reader.read(Window(0, 0, 512, 1024))
        np.testing.assert_array_equal(good.data[0], file.read([1], window=((0, 512), (0, 1024))))
        with pytest.raises(ReadError) as caught:
            reader.read(Window(400, 0, 200, 1024))
    assert caught.value.problem.code == "read.lost"
    assert "corrupt.tif" in caught.value.detail
    assert "columns 512 to 1023" in caught.value.detail


def test_it_reads_again_after_it_was_closed(tmp_path):
    with Reader(look(write_tif(tmp_path / "a.tif", pixels(1, 8, 9)), ("red",), bands=("red",), scale=1)) as reader:
        first = reader.read(Window(0, 0, 8, 9)).data
        reader.close()
        np.testing.assert_array_equal(reader.read(Window(0, 0, 8, 9)).data, first)


# --- cache ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "bands", "expected"),
    [
        ({"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "pixel"}, ("red",), 3 * 256 * 1024 * 12),
        ({"tiled": True, "blockxsize": 256, "blockysize": 256, "interleave": "band"}, ("red",), 3 * 256 * 1024 * 2),
        ({"blockysize": 8, "interleave": "band"}, ("red",), 30 * 8 * 1000 * 2),
    ],
)
def test_the_cache_holds_a_strip_of_blocks(tmp_path, layout, bands, expected):
    file = write_tif(tmp_path / "a.tif", pixels(6, 1024, 1000), descriptions=("red", *"abcde"), **layout)
    imagery = look(file, bands, scale=1)
    assert strip_cache_mb(imagery, 4128) == -(-expected // MIB) + 8


def test_marching_down_decodes_no_block_twice(tmp_path):
    """With the cache as advised, overlapping strips cost the bytes of the file once; counted by the kernel."""
    file = write_tif(tmp_path / "a.tif", pixels(2, 2048, 1024), descriptions=("red", "nir"), tiled=True,
                     blockxsize=256, blockysize=256, interleave="pixel")  # fmt: skip
    imagery = look(file, ("red", "nir"), scale=1)
    with Reader(imagery, Access(cache_mb=strip_cache_mb(imagery, 1024))) as reader:
        before = _bytes_read()
        for row in range(0, 2048, 192):
            reader.read(Window(row, 0, 224, 1024))
        used = _bytes_read() - before
    assert used < 1.1 * file.stat().st_size


def _bytes_read() -> int:
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))
