"""Codes of masks, by hand from the documents, and distances by counting."""

import numpy as np
import pytest

from pipelines.mosaic import masks
from pipelines.mosaic.masks import CLEAR, CLOUDY, DROPPED, NOTHING
from swathe.errors import ImageryError
from swathe.source import MaskRule, SourceMask

ALL = ("nodata", "defective", "cloud", "shadow", "cirrus", "snow", "water", "unclassified", "adjacent")
USUAL = SourceMask(rule=MaskRule.SCL).drop


def states(rule, codes, drop=USUAL, dtype=np.uint8):
    codes = np.array([codes], dtype)
    return masks.states(codes, np.ones(codes.shape, bool), SourceMask(rule=rule, drop=drop))[0].tolist()


def test_scl():
    """no data, defective, dark, shadow, vegetation, bare, water, unclassified, cloud medium, high, cirrus, snow."""
    usual = [NOTHING, DROPPED, CLEAR, CLOUDY, CLEAR, CLEAR, CLEAR, CLEAR, CLOUDY, CLOUDY, CLOUDY, CLEAR]
    assert states(MaskRule.SCL, range(12)) == usual
    everything = [NOTHING, DROPPED, CLEAR, CLOUDY, CLEAR, CLEAR, DROPPED, DROPPED, CLOUDY, CLOUDY, CLOUDY, DROPPED]
    assert states(MaskRule.SCL, range(12), ALL) == everything
    assert states(MaskRule.SCL, range(12), ()) == [NOTHING] + [CLEAR] * 11


@pytest.mark.parametrize(
    ("code", "usual", "everything"),
    [
        (0b00000000, CLEAR, CLEAR),
        (0b00000001, CLOUDY, CLOUDY),  # cirrus, reserved
        (0b00000010, CLOUDY, CLOUDY),  # cloud
        (0b00000100, CLEAR, CLOUDY),  # adjacent to cloud or shadow
        (0b00001000, CLOUDY, CLOUDY),  # shadow
        (0b00010000, CLEAR, DROPPED),  # snow, ice
        (0b00100000, CLEAR, DROPPED),  # water
        (0b11000000, CLEAR, CLEAR),  # much aerosol
        (0b11100010, CLOUDY, CLOUDY),  # water under cloud
        (255, NOTHING, NOTHING),
    ],
)
def test_fmask(code, usual, everything):
    assert states(MaskRule.FMASK, [code]) == [usual]
    assert states(MaskRule.FMASK, [code], ALL) == [everything]


@pytest.mark.parametrize(
    ("code", "usual", "everything"),
    [
        (0b0000_0000_0000_1000, CLEAR, CLEAR),  # land
        (0b0000_0000_0000_1011, CLEAR, CLEAR),  # not set, assumed clear
        (0b0000_0000_0000_1001, CLOUDY, CLOUDY),  # cloudy
        (0b0000_0000_0000_1010, CLOUDY, CLOUDY),  # mixed
        (0b0000_0000_0000_1100, CLOUDY, CLOUDY),  # shadow
        (0b0000_0001_0000_1000, CLEAR, CLEAR),  # little cirrus
        (0b0000_0011_0000_1000, CLOUDY, CLOUDY),  # much
        (0b0000_0000_1100_1000, CLEAR, CLEAR),  # much aerosol
        (0b0001_0000_0000_1000, CLEAR, DROPPED),  # snow
        (0b0010_0000_0000_1000, CLEAR, CLOUDY),  # adjacent to cloud
        (0b0000_0000_0001_1000, CLEAR, DROPPED),  # shallow inland water
        (65535, NOTHING, NOTHING),
    ],
)
def test_modis_state(code, usual, everything):
    assert states(MaskRule.MODIS_STATE, [code], dtype=np.uint16) == [usual]
    assert states(MaskRule.MODIS_STATE, [code], ALL, dtype=np.uint16) == [everything]


@pytest.mark.parametrize(
    ("code", "usual", "everything"),
    [
        # Values of the Landsat 8-9 Collection 2 Level 2 Science Product Guide, table 6-4.
        (1, NOTHING, NOTHING),  # fill
        (21824, CLEAR, CLEAR),  # clear, lows set
        (21826, CLEAR, CLOUDY),  # dilated cloud over land
        (21888, CLEAR, DROPPED),  # water, lows set
        (22080, CLEAR, CLEAR),  # mid confidence cloud: confidence alone does not set the cloud bit
        (22280, CLOUDY, CLOUDY),  # high confidence cloud
        (23888, CLOUDY, CLOUDY),  # high confidence cloud shadow
        (30048, CLEAR, DROPPED),  # high confidence snow
        (54596, CLOUDY, CLOUDY),  # high confidence cirrus
    ],
)
def test_qa_pixel(code, usual, everything):
    assert states(MaskRule.QA_PIXEL, [code], dtype=np.uint16) == [usual]
    assert states(MaskRule.QA_PIXEL, [code], ALL, dtype=np.uint16) == [everything]


def test_valid():
    assert states(MaskRule.VALID, [0, 1, 255]) == [CLOUDY, CLEAR, CLEAR]
    assert states(MaskRule.VALID, [0, 1], ("nodata",)) == [NOTHING, CLEAR]


def test_what_is_not_there_is_nothing():
    codes, valid = np.array([[4, 4]], np.uint8), np.array([[True, False]])
    assert masks.states(codes, valid, SourceMask(rule=MaskRule.SCL)).tolist() == [[CLEAR, NOTHING]]


def test_words_and_types_that_are_none_are_refused():
    with pytest.raises(ImageryError) as told:
        states(MaskRule.SCL, [1], ("clouds",))
    assert told.value.problem.code == "mask.word"
    assert "cloud" in told.value.hint
    with pytest.raises(ImageryError) as told:
        states(MaskRule.SCL, [1], dtype=np.float32)
    assert told.value.problem.code == "mask.type"


def test_a_real_fmask(real_data):
    """An HLS tile of Mexico: as many clear pixels as its bits say, counted one by one."""
    import rasterio

    (path,) = (real_data / "hls_fmask_fulltile").glob("*.tif")
    with rasterio.open(path) as file:
        codes = file.read(1)
    found = masks.states(codes, np.ones(codes.shape, bool), SourceMask(rule=MaskRule.FMASK))
    values, counts = np.unique(codes, return_counts=True)
    clear = sum(n for v, n in zip(values.tolist(), counts.tolist(), strict=True) if v != 255 and not v & 0b1011)
    assert (found == CLEAR).sum() == clear
    assert 0 < clear < codes.size


def test_distances_are_counted():
    found = np.full((9, 11), CLEAR, np.uint8)
    found[2, 3] = found[7, 9] = CLOUDY
    found[0, 0] = DROPPED
    got = masks.distance(found, (10.0, 20.0), 55.0)
    for r, c in np.ndindex(found.shape):
        wanted = min(np.hypot((r - a) * 10, (c - b) * 20) for a, b in ((2, 3), (7, 9)))
        assert got[r, c] == pytest.approx(min(wanted, 55))
    assert (masks.distance(np.full((3, 3), CLEAR, np.uint8), (10.0, 10.0), 7.0) == 7).all()
