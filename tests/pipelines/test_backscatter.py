"""Radar in linear power and in decibels: by hand, on real scenes, through mosaics; and units that do not fit."""

import math

import numpy as np
import pytest
import rasterio
from numpy.testing import assert_array_equal

from pipelines import searched
from pipelines.imagery.backscatter import convert, converted
from pipelines.mosaic.reader import MosaicReader
from pipelines.remote.network import Network
from pipelines.saved_search import read as read_kept
from pipelines.saved_search import written
from swathe.card import Input, ModelCard
from swathe.errors import BandError
from swathe.mosaic import Composite
from swathe.raster import Stack
from swathe.recipe import Recipe, Search
from swathe.source import SourceCard
from swathe.unit import Conversion, settle
from swathe.window import Window
from tests.pipelines.scenes import LocalOpener, Place, make_scene, mosaic_of, write

TO_DB, TO_POWER = Conversion.TO_DB, Conversion.TO_POWER


def wants(unit, *bands):
    return Input(bands=bands or ("vv",), unit=unit)


def test_decibels_by_hand():
    power = np.array([[[1.0, 10.0, 0.1, 0.02, 0.0, -0.3, np.nan, np.inf]]])
    data, mask = converted(power, np.ones((1, 8), bool), TO_DB)
    assert_array_equal(mask[0], [True, True, True, True, False, False, False, False])
    np.testing.assert_allclose(data[0, 0], [0, 10, -10, -16.989700, 0, 0, 0, 0], atol=1e-6)


def test_power_by_hand():
    data, mask = converted(np.array([[[0.0, 10.0, -20.0, np.nan, 400.0]]]), np.ones((1, 5), bool), TO_POWER)
    assert_array_equal(mask[0], [True, True, True, False, False])  # 10^40 is no float32
    np.testing.assert_allclose(data[0, 0], [1, 10, 0.01, 0, 0], rtol=1e-6)


def test_a_pixel_needs_all_bands_and_stays_masked_where_it_was():
    power = np.array([[[1.0, 1.0, 1.0]], [[1.0, 0.0, 1.0]]])
    data, mask = converted(power, np.array([[True, True, False]]), TO_DB)
    assert_array_equal(mask, [[True, False, False]])
    assert not data[:, ~mask].any()


def test_scale_and_offset_come_first():
    # By hand: 25 * 0.04 + 9 = 10 -> 10 dB; 2275 * 0.04 + 9 = 100 -> 20 dB.
    data = np.array([[[[25, 2275]]]], np.uint16)
    given = Stack(data, np.ones((1, 1, 2), bool), np.array([0.04]), np.array([9.0]))
    found = convert(given, TO_DB)
    np.testing.assert_allclose(found.data, [[[[10, 20]]]], rtol=1e-6)
    assert_array_equal([found.scale, found.offset], [[1], [0]])


@pytest.mark.parametrize(
    ("eats", "comes", "wanted"),
    [
        (wants("dB"), "linear power", TO_DB),
        (wants("linear power"), "dB", TO_POWER),
        (wants("dB"), "dB", None),
        (wants(""), "linear power", None),
        (wants("", "red"), "reflectance", None),
        (wants("", "red"), "DN", None),
        (wants("", "lwir11"), "kelvin", None),
        (wants("reflectance", "red"), "reflectance", None),
        (wants("reflectance", "red"), "as tagged", None),
        (wants("reflectance", "red"), "reflectance, as tagged", None),
        (wants("reflectance", "red"), "", None),
        (wants("reflectance", "red"), "1", None),
    ],
)
def test_units_that_fit(eats, comes, wanted):
    assert settle(eats, comes) is wanted


@pytest.mark.parametrize(
    ("eats", "comes"),
    [
        (wants("", "red", "nir"), "dB"),
        (wants("reflectance", "red"), "DN"),
        (wants("reflectance", "red"), "brightness"),
        (wants("reflectance", "red"), "reflectance, DN"),
        (wants("reflectance", "red"), "W·m⁻²·sr⁻¹·µm⁻¹"),
        (wants("dB"), "DN"),
        (wants("dB"), ""),
        (wants("dB"), "reflectance"),
    ],
)
def test_units_that_do_not_fit_are_refused_by_name(eats, comes):
    with pytest.raises(BandError) as told:
        settle(eats, comes)
    assert told.value.problem.code == "band.unit"
    assert (comes or "unknown") in told.value.detail
    assert (eats.unit or "reflectance") in told.value.detail


# --- through mosaics ------------------------------------------------------------------------------------------------

PLACE = Place(shape=(60, 70))


def scenes_of(folder, *numbers):
    return [
        make_scene(folder, f"s{n}", PLACE, data=data[None], bands=("vv",), when=f"2024-07-0{9 - n}T10:00:00Z", nodata=0)
        for n, data in enumerate(numbers)
    ]


def read(mosaic, window=None):
    with MosaicReader(mosaic, LocalOpener()) as reader:
        window = window or Window(0, 0, *mosaic.shape)
        return reader.read(window), reader.label(window), reader.dtype


def test_a_mosaic_is_given_out_in_decibels(tmp_path):
    power = np.linspace(0.001, 2.0, 60 * 70, dtype=np.float32).reshape(60, 70)
    power[5, 6], power[7, 8] = -0.01, 0
    mosaic = mosaic_of(scenes_of(tmp_path, power), PLACE, unit="dB", conversion=TO_DB)
    stack, (index, _), dtype = read(mosaic)
    valid = power > 0
    assert dtype == stack.data.dtype == np.float32
    assert_array_equal(stack.mask[0], valid)
    assert_array_equal(index[0], valid.astype(np.uint16))
    np.testing.assert_allclose(stack.data[0, 0][valid], 10 * np.log10(power[valid].astype(float)), rtol=1e-6)
    assert_array_equal([stack.scale, stack.offset], [[1], [0]])


def test_composites_are_made_before_the_conversion(tmp_path):
    # By hand: the median of 0.1 and 0.3 is 0.2, -6.98970 dB; of their decibels it would be -7.61439.
    mosaic = mosaic_of(
        [scenes_of(tmp_path, *(np.full(PLACE.shape, v, np.float32) for v in (0.1, 0.3)))], PLACE,
        unit="dB", conversion=TO_DB, composite=Composite.MEDIAN,
    )  # fmt: skip
    stack, _, _ = read(mosaic)
    np.testing.assert_allclose(stack.data, -6.9897, atol=1e-4)


def test_a_conversion_is_part_of_what_decides_and_is_kept(tmp_path):
    plain = mosaic_of(scenes_of(tmp_path, np.ones(PLACE.shape, np.float32)), PLACE, unit="linear power")
    other = mosaic_of(scenes_of(tmp_path, np.ones(PLACE.shape, np.float32)), PLACE, unit="dB", conversion=TO_DB)
    assert plain.fingerprint != other.fingerprint
    kept = read_kept(written("asked", other), "asked")
    assert kept is not None
    assert kept.conversion is TO_DB
    assert kept.fingerprint == other.fingerprint


# --- real radar -----------------------------------------------------------------------------------------------------


def card_of(unit, bands=("vv",)):
    network = {"index": "NDVI"} if bands != ("vv",) else {}
    return ModelCard.model_validate({
        "id": "radar", "title": "radar", "task": "regression", "adapter": "formula", "network": network,
        "input": {"bands": bands, "unit": unit, "chip": 64, "overlap": 0}, "licence": "none", "citation": "none",
    })  # fmt: skip


def source_of(folder, unit, asset, **radiometry):
    return SourceCard.model_validate({
        "id": "radar", "title": "radar", "kind": "folder", "url": str(folder), "bands": {"vv": {"asset": asset}},
        "radiometry": {"rule": "fixed", "unit": unit, **radiometry}, "licence": "own", "documentation": "own",
    })  # fmt: skip


def look(card, source, aoi, dates=("2015-03",)):
    recipe = Recipe(card.id, search=Search(source.id, dates=dates), aoi=aoi)
    return searched.look(recipe, card, searched.Archive({source.id: source}, Network()))


def test_real_linear_power_comes_as_decibels(real_data, tmp_path):
    with rasterio.open(real_data / "sar_s1_rtc_vv" / "cog_nodata_nan.tif") as file:
        power = file.read(1)
        place = Place(file.crs.to_string(), file.transform.c, file.transform.f, file.transform.a, file.shape)
    scene = make_scene(tmp_path, "s1", place, data=power[None], bands=("vv",), nodata=0)
    corner = -math.floor(place.y / place.res), math.floor(place.x / place.res)
    stack, _, _ = read(mosaic_of([scene], place, unit="dB", conversion=TO_DB, corner=corner))
    valid = np.isfinite(power) & (power > 0)
    assert 0.3 < valid.mean() < 0.99
    assert_array_equal(stack.mask[0], valid)
    np.testing.assert_array_equal(
        stack.data[0, 0][valid], (10 * np.log10(power[valid].astype(np.float64))).astype(np.float32)
    )
    assert -25 < np.median(stack.data[0, 0][valid]) < 0


def test_real_decibels_come_as_linear_power_and_back(real_data, tmp_path):
    name = "S1A__IW___A_20150309T173017_VV_grd_mli_geo_norm_db.tif"
    with rasterio.open(real_data / "sar_s1_rtc_vv" / name) as file:
        db, transform, crs = file.read(1), tuple(file.transform)[:6], file.crs.to_string()
    write(tmp_path / name, db, crs, transform, nodata=-99.0)
    source = source_of(tmp_path, "dB", "VV", nodata=-99.0)
    mosaic = look(card_of("linear power"), source, "4.50,43.58,4.54,43.60")
    assert (mosaic.unit, mosaic.conversion) == ("linear power", TO_POWER)
    assert any("dB was converted to linear power" in note for note in mosaic.notes)
    same = look(card_of("dB"), source, "4.50,43.58,4.54,43.60")
    assert (same.unit, same.conversion) == ("dB", None)
    power, *_ = read(mosaic)
    plain, *_ = read(same)
    assert power.mask.mean() > 0.5
    assert_array_equal(power.mask, plain.mask)
    np.testing.assert_allclose(
        power.data[power.mask[:, None]], 10 ** (plain.data[plain.mask[:, None]].astype(float) / 10), rtol=1e-5
    )
    assert_array_equal(convert(power, TO_DB).mask, power.mask)
    np.testing.assert_allclose(convert(power, TO_DB).data, np.where(plain.mask[:, None], plain.data, 0), atol=1e-4)


def test_a_model_of_reflectance_is_refused_before_anything_is_searched(tmp_path):
    source = SourceCard.model_validate({
        "id": "odd", "title": "odd", "kind": "folder", "url": str(tmp_path / "is-not-there"),
        "bands": {"red": {"asset": "R"}, "nir": {"asset": "N"}},
        "radiometry": {"rule": "fixed", "unit": "dB"}, "licence": "own", "documentation": "own",
    })  # fmt: skip
    with pytest.raises(BandError, match="wants reflectance, the imagery comes in dB"):
        look(card_of("", ("red", "nir")), source, "4.50,43.58,4.54,43.60")


def test_files_in_linear_power_reach_a_model_that_wants_decibels(tmp_path, sensors):
    """Through the same look and reader as a run; and what does not fit is refused by name."""
    from pipelines.begin import look
    from pipelines.imagery.gdal import Access
    from pipelines.imagery.readers import FileReader
    from swathe.card import Input
    from swathe.errors import BandError
    from swathe.recipe import Recipe
    from swathe.window import Window
    from tests.pipelines.tiffs import write_tif

    power = np.array([[[0.1, 1.0], [0.01, 0.0]]], np.float32)
    path = write_tif(tmp_path / "vv.tif", power, descriptions=("vv",))
    eats = Input(bands=("vv",), unit="dB")
    imagery = look_at(look, Recipe("m", (str(path),), "sentinel-1-rtc-linear"), eats, sensors)
    assert imagery.unit == "dB"
    assert any("converted to dB" in note for note in imagery.notes)
    reader = FileReader(imagery, Access(), None)
    stack = reader.read(Window(0, 0, 2, 2))
    reader.close()
    np.testing.assert_allclose(stack.data[0, 0], [[-10, 0], [-20, 0]], atol=1e-6)
    assert stack.mask[0].tolist() == [[True, True], [True, False]]
    with pytest.raises(BandError) as caught:
        look_at(look, Recipe("m", (str(path),), "sentinel-1-rtc-linear"), Input(bands=("vv",), unit="kelvin"), sensors)
    assert caught.value.problem.code == "band.unit"


def look_at(look, recipe, eats, sensors):
    from types import SimpleNamespace

    return look(recipe, SimpleNamespace(input=eats), sensors)
