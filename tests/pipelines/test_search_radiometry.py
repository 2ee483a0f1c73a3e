"""What numbers mean: each rule against values computed by hand from the products' documents."""

import json
import math

import pytest

from pipelines.search.items import scene_of
from pipelines.search.radiometry import Unclear, advertised, baseline_of, described, meaning, number
from swathe.source import SourceBand, SourceCard
from tests.pipelines import recorded


def card(rule, **radiometry):
    return SourceCard.model_validate({
        "id": "some", "title": "x", "kind": "stac", "url": "https://x", "bands": {"red": {"asset": "red"}},
        "radiometry": {"rule": rule, **radiometry},
    })  # fmt: skip


def item(**properties):
    return {"id": "S2X", "properties": properties, "assets": {}}


def physical(dn, source, properties, asset=None, band=None):
    found = meaning(source, band or SourceBand(asset="red"), item(**properties), asset or {})
    return dn * found.scale + found.offset


ESA = {"provider": "as-processed"}
EARTH = {"provider": "earth-search"}
WRONGLY = {"raster:bands": [{"scale": 0.0001, "offset": -0.1}]}

# dn, rule, its options, what the item says, what its asset says, what a hand computes
BY_HAND = [
    # ESA, before baseline 04.00: 3412 / 10000
    (3412, "sentinel2", ESA, {"s2:processing_baseline": "02.12"}, None, 0.3412),
    (3412, "sentinel2", ESA, {"s2:processing_baseline": "03.01"}, None, 0.3412),
    # from 04.00 on: (3412 - 1000) / 10000
    (3412, "sentinel2", ESA, {"s2:processing_baseline": "04.00"}, None, 0.2412),
    (3412, "sentinel2", ESA, {"s2:processing_baseline": "05.10"}, None, 0.2412),
    # dark water below zero: (930 - 1000) / 10000
    (930, "sentinel2", ESA, {"processing:version": "05.11"}, None, -0.0070),
    # Collection 1: an acquisition of 2019 processed in 2023
    (3412, "sentinel2", ESA, {"s2:processing_baseline": "05.00", "datetime": "2019-01-01T00:00:00Z"}, WRONGLY, 0.2412),
    # the baseline from the product's name
    (3412, "sentinel2", ESA, {"s2:product_uri": "S2B_MSIL2A_20240725T100029_N0511_R122_T33UXP_X.SAFE"}, None, 0.2412),
    (3412, "sentinel2", ESA, {"s2:product_uri": "S2B_MSIL2A_20190629T212529_N0212_R043_T06VVN_X.SAFE"}, None, 0.3412),
    # Earth Search v1: before 04.00, whatever it advertises
    (3412, "sentinel2", EARTH, {"s2:processing_baseline": "02.14"}, WRONGLY, 0.3412),
    # Earth Search v1 took 1000 out, and goes on advertising -0.1: 2412 / 10000
    (2412, "sentinel2", EARTH, {"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True}, WRONGLY,
     0.2412),
    (2412, "sentinel2", EARTH, {"s2:processing_baseline": "04.00", "sentinel:boa_offset_applied": True}, None, 0.2412),
    # HLS, ten thousandths
    (1234, "fixed", {"scale": 0.0001, "offset": 0}, {}, None, 0.1234),
    # Landsat C2 SR: 18639 * 0.0000275 - 0.2 = 0.3125725
    (18639, "fixed", {"scale": 2.75e-05, "offset": -0.2}, {}, None, 0.3125725),
    # MODIS, ten thousandths
    (2501, "fixed", {"scale": 0.0001, "offset": 0}, {}, None, 0.2501),
    # what items say of themselves: 1.0 and 1.1, one offset only, silent with a card that speaks
    (100, "metadata", {}, {}, {"raster:bands": [{"scale": 0.5, "offset": 3}]}, 53.0),
    (100, "metadata", {}, {}, {"bands": [{"raster:scale": 0.5, "raster:offset": 3}]}, 53.0),
    (100, "metadata", {}, {}, {"raster:scale": 0.5, "raster:offset": 3, "bands": [{"name": "B1"}]}, 53.0),
    (100, "metadata", {}, {}, {"raster:bands": [{"scale": 0.5}]}, 50.0),
    (100, "metadata", {}, {"earthsearch:boa_offset_applied": True}, {"raster:bands": [{"scale": 0.5}]}, 50.0),
    (100, "metadata", {"scale": 0.25, "offset": 1}, {}, None, 26.0),
    (0.25, "metadata", {}, {}, {"raster:bands": [{"data_type": "float32", "unit": "1"}]}, 0.25),
]  # fmt: skip


@pytest.mark.parametrize(("dn", "rule", "options", "properties", "asset", "expected"), BY_HAND)
def test_by_hand(dn, rule, options, properties, asset, expected):
    assert physical(dn, card(rule, **options), properties, asset) == pytest.approx(expected, abs=1e-9)


def test_a_band_may_differ_from_its_card():
    """Landsat's surface temperature: 44177 * 0.00341802 + 149 = 299.99787 kelvin."""
    thermal = SourceBand(asset="lwir11", scale=0.00341802, offset=149.0)
    found = physical(44177, card("fixed", scale=2.75e-05, offset=-0.2), {}, band=thermal)
    assert found == pytest.approx(299.99786954, abs=1e-6)


@pytest.mark.parametrize(
    ("source", "properties", "asset", "why"),
    [
        (card("sentinel2", **ESA), {}, None, "processing baseline"),
        (card("sentinel2", **ESA), {"s2:processing_baseline": "new"}, None, "processing baseline"),
        (card("sentinel2", **ESA), {"s2:processing_baseline": "05.00"},
         {"raster:bands": [{"scale": 0.0001, "offset": 0}]}, "its catalogue says"),
        (card("sentinel2", **ESA), {"s2:processing_baseline": "02.00"}, WRONGLY, "its catalogue says"),
        (card("sentinel2", **ESA), {"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True},
         WRONGLY, "applied already"),
        (card("sentinel2", **EARTH), {"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": False},
         WRONGLY, "known to be wrong"),
        (card("sentinel2", **EARTH), {"s2:processing_baseline": "05.09"}, WRONGLY, "does not say"),
        (card("metadata"), {"earthsearch:boa_offset_applied": True}, WRONGLY, "applied already"),
        (card("metadata"), {"sentinel:boa_offset_applied": True}, WRONGLY, "applied already"),
        (card("metadata"), {}, None, "nothing says"),
        (card("metadata"), {}, {"raster:bands": [{"data_type": "float32"}]}, "nothing says"),
        (card("metadata", offset=1), {}, None, "nothing says"),
    ],
)  # fmt: skip
def test_what_nobody_says_is_not_guessed(source, properties, asset, why):
    with pytest.raises(Unclear, match=why):
        physical(1, source, properties, asset)


def test_radar_stays_linear_and_says_so(real_data):
    """RTC is linear power; decibels are another unit, not another scale. (The recorded item is of GRD, same keys.)"""
    source = recorded.shipped_cards()["pc-s1-rtc"]
    raw = json.loads((real_data / "stac/items_stactools/S1A_IW_GRDH_1SDV_20210809.json").read_text())
    scene = scene_of(raw, source, ("vv",), "https://x/items/a.json")
    assert (scene.bands[0].scale, scene.bands[0].offset) == (1.0, 0.0)
    assert source.radiometry.unit == "linear power"


@pytest.mark.parametrize(
    ("properties", "name", "expected"),
    [
        ({"s2:processing_baseline": "05.09"}, "", (5, 9)),
        ({"s2:processing_baseline": "4.00"}, "", (4, 0)),
        ({"processing:version": "05.11"}, "", (5, 11)),
        ({"s2:datatake_id": "GS2A_20231008T175231_043324_N05.09"}, "", (5, 9)),
        ({}, "S2A_MSIL2A_20231008T175231_N0509_R141_T13TDE_20231008T233154", (5, 9)),
        ({}, "S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531", None),
        ({"processing:version": "1.2.3"}, "", None),
        ({"s2:processing_baseline": None}, "", None),
    ],
)
def test_the_baseline_is_found_or_not_known(properties, name, expected):
    assert baseline_of({"id": name, "properties": properties}) == expected


def test_the_wrong_offset_of_earth_search_is_really_there(real_data):
    """The recorded item says that the offset was applied and advertises it all the same."""
    found = recorded.of_collection(real_data, "earth-search", "sentinel-2-l2a")[0]
    assert found["properties"]["earthsearch:boa_offset_applied"] is True
    assert advertised(found["assets"]["red"], 1) == (0.0001, -0.1)


def test_bands_are_described_by_either_version():
    old = {"raster:bands": [{"nodata": 0, "scale": 2}], "eo:bands": [{"common_name": "red"}]}
    new = {"bands": [{"raster:scale": 2, "nodata": 0, "eo:common_name": "red"}]}
    assert advertised(old, 1) == advertised(new, 1) == (2.0, 0.0)
    assert described(old, 1)["nodata"] == described(new, 1)["nodata"] == 0
    assert advertised(old, 2) is None


@pytest.mark.parametrize(("raw", "expected"), [(0, 0.0), ("nan", None), (True, None), ("x", None), (None, None)])
def test_numbers_of_json(raw, expected):
    found = number(raw)
    assert found == expected or (raw == "nan" and math.isnan(found))


def test_a_scene_says_its_rule(real_data):
    raw = recorded.of_collection(real_data, "earth-search", "sentinel-2-l2a")[0]
    scene = scene_of(raw, recorded.shipped_cards()["earth-search-s2-l2a"], ("red", "nir"), "https://x/i.json")
    assert scene.rule == "Sentinel-2 baseline 05.09, offset applied by Earth Search already: DN * 0.0001"
    assert {(b.scale, b.offset, b.nodata) for b in scene.bands} == {(0.0001, 0.0, 0.0)}
