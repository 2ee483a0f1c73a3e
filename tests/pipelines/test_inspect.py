"""From what was typed to imagery: dates, names, radiometry, grids; and every refusal by its code."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.enums import ColorInterp
from rasterio.transform import Affine, from_origin

from pipelines.imagery.gdal import Access, Retry
from pipelines.imagery.header import read_headers
from pipelines.imagery.inputs import InputSpec
from pipelines.imagery.inspect import Declared, inspect, parse_input
from pipelines.imagery.limits import Limits
from pipelines.imagery.sensors import load_sensors
from pipelines.remote.network import Network
from swathe.card import Input
from swathe.errors import ImageryError, InputError
from swathe.imagery import shown
from swathe.recipe import Radiometry
from tests.pipelines.fault_server import Always, FaultServer, First, NoRange, Redirect, Status
from tests.pipelines.tiffs import pixels, write_claim, write_tif

SENSORS = load_sensors(Path(__file__).resolve().parents[2] / "configs" / "sensors")
SIX = ("blue", "green", "red", "nir08", "swir16", "swir22")
QUICK = Access(Retry(attempts=2, base_s=0.01, timeout_s=5))
LOOPBACK = Network(allow_private=True)


def look(inputs, want=("red",), sensor=None, *, times=1, alternatives=None, network=LOOPBACK, **said):
    texts = [inputs] if isinstance(inputs, (str, Path)) else inputs
    wanted = Input(bands=want, times=times, alternatives=alternatives or {})
    profiles = tuple(SENSORS[s] for s in sensor.split(",")) if sensor else ()
    typed, declared = [parse_input(str(t)) for t in texts], Declared(profiles, Radiometry(**said), SENSORS)
    return inspect(typed, wanted, declared, QUICK, network=network)


def refused(*args, **kwargs):
    with pytest.raises(InputError) as caught:
        look(*args, **kwargs)
    problem = caught.value.problem
    assert problem.hint
    assert "\n" not in problem.line()
    return problem


def places(imagery, date=0):
    return [(b.name, Path(b.href).name, b.index) for b in imagery.dates[date].bands]


# --- what was typed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "when", "href"),
    [
        ("a.tif", None, "a.tif"),
        ("2024-05-01=a.tif", "2024-05-01", "a.tif"),
        ("2024-05-01T10:11:12Z=a.tif", "2024-05-01T10:11:12Z", "a.tif"),
        ("2024-05-01T10:11=a=b.tif", "2024-05-01T10:11", "a=b.tif"),
        ("https://h/a.tif?sig=1&se=2024-05-01=x", None, "https://h/a.tif?sig=1&se=2024-05-01=x"),
        ("2024-05-01=https://h/a.tif?sig=1==", "2024-05-01", "https://h/a.tif?sig=1=="),
        ("tile=3.tif", None, "tile=3.tif"),
        ("20240501=a.tif", None, "20240501=a.tif"),
    ],
)
def test_only_a_date_before_the_equals_sign_counts(text, when, href):
    assert parse_input(text) == InputSpec(when, href)


@pytest.mark.parametrize("text", ["2024-02-30=a.tif", "2024-05-01T25:00=a.tif"])
def test_a_date_that_does_not_exist(text):
    with pytest.raises(InputError) as caught:
        parse_input(text)
    assert caught.value.problem.code == "input.date"


@pytest.mark.parametrize(
    ("href", "code"),
    [
        ("", "imagery.virtual"),
        ("/vsizip/a.zip/b.tif", "imagery.virtual"),
        ("/vsicurl/http://h/a.tif", "imagery.virtual"),
        ("a.vrt", "imagery.virtual"),
        ("http://h/a.VRT?x=1", "imagery.virtual"),
        ("vrt://a.tif?bands=1", "imagery.scheme"),
        ("zip+https://h/a.zip!b.tif", "imagery.scheme"),
        ("ftp://h/a.tif", "imagery.scheme"),
        ("file:///a.tif", "imagery.scheme"),
        ("nowhere.tif", "imagery.missing"),
        ("GTIFF_DIR:1:a.tif", "imagery.missing"),
        ("https://h/a.tar", "imagery.address"),
        ("https://h/scenes/", "imagery.address"),
        ("s3://bucket", "imagery.address"),
        ("https://me:secret@h/a.tif", "url.userinfo"),
        ("http://127.1/a.tif", "url.host"),
        ("http://169.254.169.254/latest.tif", "url.private"),
    ],
)
def test_addresses_that_lead_elsewhere_or_nowhere(href, code):
    assert refused(href).code == code


def test_nothing_given():
    assert refused([]).code == "input.none"


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "a.tif")
    assert refused(tmp_path / "a.tif").code == "imagery.unreadable"


def test_an_empty_folder(tmp_path):
    (tmp_path / "readme.md").write_text("hello")
    assert refused(tmp_path).code == "imagery.missing"


# --- names of bands -------------------------------------------------------------------------------------------------


def test_by_place_with_a_profile(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(6, 8, 9), nodata=-1)
    imagery = look(file, ("swir22", "blue"), "prithvi-6")
    assert places(imagery) == [("swir22", "a.tif", 6), ("blue", "a.tif", 1)]
    assert (imagery.crs, imagery.shape, imagery.unit, imagery.sensor) == (
        "EPSG:32632",
        (8, 9),
        "reflectance",
        "prithvi-6",
    )
    band = imagery.dates[0].bands[0]
    assert (band.dtype, band.scale, band.offset, band.nodata) == ("int16", 1e-4, 0, -1)
    assert imagery.transform == (10, 0, 500_000, 0, -10, 5_000_000)


def test_a_wrong_number_of_bands_is_refused_not_shifted(tmp_path):
    problem = refused(write_tif(tmp_path / "a.tif", pixels(7, 8, 9)), SIX, "prithvi-6")
    assert problem.code == "band.count"
    assert "7 bands" in problem.detail


def test_descriptions_count_before_places(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(3, 8, 9), descriptions=("B12", "B04 (665 nm)", "B8A"))
    imagery = look(file, ("red", "nir08", "swir22"), "sentinel-2-l2a")
    assert places(imagery) == [("red", "a.tif", 2), ("nir08", "a.tif", 3), ("swir22", "a.tif", 1)]


def test_a_missing_band_is_named_and_what_was_found(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(2, 8, 9), descriptions=("B03", "B04"))
    problem = refused(file, ("red", "nir"), "sentinel-2-l2a")
    assert problem.code == "band.missing"
    assert "nir" in problem.detail
    assert "green, red" in problem.detail


def test_a_stand_in_is_used_where_the_card_allows_it_and_said(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(2, 8, 9), descriptions=("B04", "B8A"))
    imagery = look(file, ("red", "nir"), "sentinel-2-l2a", alternatives={"nir": ("nir08",)})
    assert places(imagery) == [("red", "a.tif", 1), ("nir08", "a.tif", 2)]
    assert imagery.notes == ("nir08 stands in for nir",)


def test_the_true_band_counts_before_its_stand_in(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(2, 8, 9), descriptions=("B8A", "B08"))
    assert places(look(file, ("nir",), "sentinel-2-l2a", alternatives={"nir": ("nir08",)})) == [("nir", "a.tif", 2)]


def test_a_stand_in_is_the_same_on_all_dates(tmp_path):
    one = write_tif(tmp_path / "1.tif", pixels(2, 8, 9), descriptions=("B08", "B8A"))
    two = write_tif(tmp_path / "2.tif", pixels(1, 8, 9), descriptions=("B8A",))
    imagery = look([one, two], ("nir",), "sentinel-2-l2a", times=2, alternatives={"nir": ("nir08",)})
    assert places(imagery, 0) == [("nir08", "1.tif", 2)]
    assert places(imagery, 1) == [("nir08", "2.tif", 1)]
    assert refused([one, two], ("nir",), "sentinel-2-l2a", times=2).code == "band.missing"


def test_one_file_per_band_by_name_in_any_order(tmp_path):
    for name in ("T32_B04_10m", "T32_B03_10m", "T32_TCI_10m"):
        write_tif(tmp_path / f"{name}.tif", pixels(1, 8, 9))
    files = sorted(tmp_path.iterdir())
    expected = [("red", "T32_B04_10m.tif", 1), ("green", "T32_B03_10m.tif", 1)]
    assert places(look(files, ("red", "green"), "sentinel-2-l2a")) == expected
    assert places(look(tmp_path, ("red", "green"), "sentinel-2-l2a")) == expected


def test_in_a_folder_only_the_files_that_are_wanted_are_opened(tmp_path):
    write_tif(tmp_path / "B04.tif", pixels(1, 8, 9))
    (tmp_path / "B11.tif").write_bytes(b"")
    assert places(look(tmp_path, ("red",), "sentinel-2-l2a")) == [("red", "B04.tif", 1)]
    assert refused(tmp_path, ("red", "swir16"), "sentinel-2-l2a").code == "imagery.unreadable"


def test_a_sensors_word_counts_before_a_common_one_in_a_file_name(tmp_path):
    file = write_tif(tmp_path / "red_sea_B03.tif", pixels(1, 8, 9))
    assert places(look(file, ("green",), "sentinel-2-l2a")) == [("green", "red_sea_B03.tif", 1)]


def test_the_same_band_twice(tmp_path):
    for name in ("B04_10m", "B04_20m"):
        write_tif(tmp_path / f"{name}.tif", pixels(1, 8, 9))
    problem = refused(tmp_path, ("red",), "sentinel-2-l2a")
    assert problem.code == "band.twice"
    assert "B04_10m.tif" in problem.detail
    assert "B04_20m.tif" in problem.detail


def test_several_files_with_several_bands_each(tmp_path):
    one = write_tif(tmp_path / "v.tif", pixels(2, 8, 9), descriptions=("B03", "B04"))
    two = write_tif(tmp_path / "s.tif", pixels(2, 8, 9), descriptions=("B11", "B12"))
    assert places(look([one, two], ("swir22", "red"), "sentinel-2-l2a")) == [
        ("swir22", "s.tif", 2),
        ("red", "v.tif", 2),
    ]


def test_bands_by_the_command_line(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(4, 8, 9))
    imagery = look(file, ("nir", "red"), bands=("red", "-", "-", "nir"), scale=0.01, offset=1.0, nodata=7)
    assert places(imagery) == [("nir", "a.tif", 4), ("red", "a.tif", 1)]
    band = imagery.dates[0].bands[0]
    assert (band.scale, band.offset, band.nodata, imagery.sensor) == (0.01, 1.0, 7, "bands")


def test_the_command_line_may_leave_trailing_bands_out_but_not_name_too_many(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(3, 8, 9))
    assert places(look(file, ("green",), bands=("red", "green"), scale=1)) == [("green", "a.tif", 2)]
    assert refused(file, ("green",), bands=("red", "green", "blue", "nir"), scale=1).code == "band.count"


def test_order_by_the_command_line_radiometry_by_the_sensor(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(2, 8, 9))
    band = look(file, ("red",), "sentinel-2-l2a", bands=("nir", "red")).dates[0].bands[0]
    assert (band.index, band.scale, band.offset) == (2, 1e-4, -0.1)


def test_one_file_per_name(tmp_path):
    files = [write_tif(tmp_path / f"{n}.tif", pixels(1, 8, 9)) for n in ("x", "y")]
    assert places(look(files, ("green", "red"), bands=("red", "green"), scale=1)) == [
        ("green", "y.tif", 1), ("red", "x.tif", 1),
    ]  # fmt: skip
    assert refused(tmp_path, ("green", "red"), bands=("red", "green"), scale=1).code == "band.unnamed"
    assert refused(files, ("green", "red"), bands=("red", "green", "nir"), scale=1).code == "band.unnamed"


def test_file_names_that_hold_the_names_given(tmp_path):
    files = [write_tif(tmp_path / f"scene_{n}.tif", pixels(1, 8, 9)) for n in ("green", "red")]
    assert places(look(files, ("green",), bands=("red", "green"), scale=1)) == [("green", "scene_green.tif", 1)]


def test_an_order_that_contradicts_the_descriptions_is_refused(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(3, 8, 9), descriptions=("B02", "B03", "B04"))
    assert refused(file, ("red",), bands=("red", "green", "blue"), scale=1).code == "band.order"
    assert places(look(file, ("red",), bands=("blue", "green", "red"), scale=1)) == [("red", "a.tif", 3)]


@pytest.mark.parametrize(("names", "code"), [(("rot",), "band.unknown"), (("red", "red"), "band.twice")])
def test_names_that_cannot_be(tmp_path, names, code):
    assert refused(write_tif(tmp_path / "a.tif", pixels(2, 8, 9)), bands=names, scale=1).code == code


def test_without_a_word_names_come_from_descriptions_when_all_sensors_agree(tmp_path):
    tags = {"scales": (1e-4,) * 3, "offsets": (-0.1,) * 3}
    common = write_tif(tmp_path / "a.tif", pixels(3, 8, 9), descriptions=("red", "nir", "extra"), **tags)
    assert places(look(common, ("nir",))) == [("nir", "a.tif", 2)]
    own = write_tif(tmp_path / "b.tif", pixels(3, 8, 9), descriptions=("B8A", "B11", "B12"), **tags)
    assert places(look(own, ("swir16",))) == [("swir16", "b.tif", 2)]
    ambiguous = write_tif(tmp_path / "c.tif", pixels(3, 8, 9), descriptions=("B3", "B4", "B5"), **tags)
    problem = refused(ambiguous, ("red",))
    assert problem.code == "band.unnamed"
    assert "landsat-c2-l2" in problem.hint
    assert "sentinel-2-l2a" in problem.hint


def test_without_any_names_the_profiles_that_fit_are_listed(tmp_path):
    problem = refused(write_tif(tmp_path / "a.tif", pixels(6, 8, 9)), SIX)
    assert problem.code == "band.unnamed"
    assert "prithvi-6" in problem.hint


def test_an_alpha_band_is_a_mask_not_a_band(tmp_path):
    colours = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
    file = write_tif(tmp_path / "a.tif", pixels(4, 8, 9, "uint8"), colorinterp=colours)
    three = ("red", "green", "blue")
    for said in ({"sensor": "rgb8"}, {"bands": three, "scale": 1}, {"bands": (*three, "-"), "scale": 1}):
        band = look(file, ("blue",), **said).dates[0].bands[0]
        assert (band.index, band.mask_index) == (3, 4)


def test_the_second_band_of_a_sentinel_hub_file_is_its_mask(tmp_path):
    one = write_tif(tmp_path / "B04.tif", pixels(2, 8, 9, "uint16"))
    two = write_tif(tmp_path / "B03.tif", pixels(1, 8, 9, "uint16"))
    imagery = look([one, two], ("red", "green"), "sentinel-2-sentinelhub")
    assert [(b.index, b.mask_index) for b in imagery.dates[0].bands] == [(1, 2), (1, None)]


# --- radiometry -----------------------------------------------------------------------------------------------------


def test_integers_without_radiometry_are_refused_with_what_would_fit(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(6, 8, 9))
    problem = refused(file, SIX, bands=SIX)
    assert problem.code == "band.radiometry"
    assert "--scale" in problem.hint
    assert "prithvi-6" in problem.hint


def test_tags_of_the_file_are_used_where_nothing_else_is_said(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(2, 8, 9), scales=(1e-4, 2e-4), offsets=(-0.1, 0.5))
    bands = look(file, ("green", "red"), bands=("red", "green")).dates[0].bands
    assert [(b.scale, b.offset) for b in bands] == [(2e-4, 0.5), (1e-4, -0.1)]


def test_a_profile_overrules_tags_and_says_so(tmp_path):
    file = write_tif(tmp_path / "B04.tif", pixels(1, 8, 9), scales=(1e-4,), offsets=(0,))
    imagery = look(file, ("red",), "sentinel-2-l2a")
    assert imagery.dates[0].bands[0].offset == -0.1
    assert "is tagged with scale 0.0001 and offset 0" in imagery.notes[0]


def test_floating_point_reflectance_is_taken_as_it_is_unless_it_cannot_be(tmp_path):
    good = write_tif(tmp_path / "a.tif", pixels(1, 8, 9, "float32") / 30_000)
    band = look(good, ("red",), bands=("red",)).dates[0].bands[0]
    assert (band.scale, band.offset) == (1, 0)
    scaled = write_tif(tmp_path / "b.tif", pixels(1, 8, 9, "float32"))
    assert refused(scaled, ("red",), bands=("red",)).code == "band.radiometry"
    assert refused(good, ("vv",), bands=("vv",)).code == "band.radiometry"


def test_offset_alone_says_too_little(tmp_path):
    file = write_tif(tmp_path / "a.tif", pixels(1, 8, 9))
    assert refused(file, ("red",), bands=("red",), offset=1.0).code == "band.radiometry"


def test_an_unlikely_profile_is_told(tmp_path):
    file = write_tif(tmp_path / "B04.tif", np.full((1, 8, 9), 200, "uint8"))
    assert "is it the right one?" in look(file, ("red",), "sentinel-2-l2a").notes[0]


@pytest.mark.parametrize(
    ("tag", "said", "sensor", "expected"),
    [
        (None, None, "sentinel-2-l2a", 0),
        (5, None, "sentinel-2-l2a", 5),
        (5, 7, "sentinel-2-l2a", 7),
        (None, None, None, None),
    ],
)
def test_nodata_the_command_line_then_the_tag_then_the_profile(tmp_path, tag, said, sensor, expected):
    file = write_tif(tmp_path / "B04.tif", pixels(1, 8, 9), nodata=tag)
    given = {"nodata": said} if sensor else {"nodata": said, "bands": ("red",), "scale": 1.0}
    assert look(file, ("red",), sensor, **given).dates[0].bands[0].nodata == expected


# --- dates ----------------------------------------------------------------------------------------------------------


def test_dates_are_sorted_and_undated_inputs_keep_their_order(tmp_path):
    files = [write_tif(tmp_path / f"{n}.tif", pixels(1, 8, 9)) for n in "abc"]
    said = {"bands": ("red",), "scale": 1}
    imagery = look(
        [f"2024-03-01={files[0]}", f"2023-12-31T23:00Z={files[1]}", f"2024-01-01={files[2]}"], times=3, **said
    )
    assert [(d.when, Path(d.bands[0].href).name) for d in imagery.dates] == [
        ("2023-12-31T23:00Z", "b.tif"), ("2024-01-01", "c.tif"), ("2024-03-01", "a.tif"),
    ]  # fmt: skip
    imagery = look([files[2], files[0]], times=2, **said)
    assert [Path(d.bands[0].href).name for d in imagery.dates] == ["c.tif", "a.tif"]


def test_several_files_of_one_date(tmp_path):
    for when in ("1", "2"):
        for band in ("B03", "B04"):
            write_tif(tmp_path / when / f"{band}.tif", pixels(1, 8, 9))
    inputs = [f"2024-0{w}-01={tmp_path / w / b}.tif" for b in ("B03", "B04") for w in ("2", "1")]
    imagery = look(inputs, ("red", "green"), "sentinel-2-l2a", times=2)
    assert [Path(b.href).parent.name for d in imagery.dates for b in d.bands] == ["1", "1", "2", "2"]


def test_dates_that_are_not_as_many_as_the_model_wants(tmp_path):
    file = write_tif(tmp_path / "B04.tif", pixels(1, 8, 9))
    one, two = f"2024-01-01={file}", f"2024-02-01={file}"
    assert refused([one, two], sensor="sentinel-2-l2a").code == "input.dates"
    assert refused([one], sensor="sentinel-2-l2a", times=2).code == "input.dates"
    assert refused([one, file], sensor="sentinel-2-l2a", times=2).code == "input.dates"
    assert refused([file] * 3, sensor="sentinel-2-l2a", times=2).code == "input.dates"


def test_a_profile_per_date(tmp_path):
    file = write_tif(tmp_path / "B04.tif", pixels(1, 8, 9))
    inputs = [f"2023-01-01={file}", f"2021-01-01={file}"]
    imagery = look(inputs, sensor="sentinel-2-l2a-pre-0400,sentinel-2-l2a", times=2)
    assert [(d.when, d.bands[0].offset) for d in imagery.dates] == [("2021-01-01", 0), ("2023-01-01", -0.1)]
    assert imagery.sensor == "sentinel-2-l2a-pre-0400,sentinel-2-l2a"
    assert refused(file, sensor="sentinel-2-l2a-pre-0400,sentinel-2-l2a").code == "sensor.count"


# --- grids ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"crs": "EPSG:32633"}, "EPSG:32632 and EPSG:32633"),
        ({"transform": from_origin(500_005, 5_000_000, 10, 10)}, "0.5 pixels apart"),
        ({"transform": from_origin(500_000, 5_000_000, 20, 20)}, "pixels apart"),
    ],
)
def test_files_of_different_grids_are_both_named(tmp_path, change, why):
    one = write_tif(tmp_path / "B04.tif", pixels(1, 8, 9))
    two = write_tif(tmp_path / "B03.tif", pixels(1, 8, 9), **change)
    problem = refused([one, two], ("red", "green"), "sentinel-2-l2a")
    assert problem.code == "grid.mixed"
    assert str(one) in problem.detail
    assert str(two) in problem.detail
    assert why in problem.detail


def test_different_sizes_are_different_grids(tmp_path):
    one = write_tif(tmp_path / "B04.tif", pixels(1, 8, 9))
    two = write_tif(tmp_path / "B03.tif", pixels(1, 8, 10))
    assert refused([one, two], ("red", "green"), "sentinel-2-l2a").code == "grid.mixed"
    assert refused([one, two], ("red",), "sentinel-2-l2a", times=2).code == "band.missing"


def test_rounding_does_not_make_another_grid(tmp_path):
    one = write_tif(tmp_path / "B04.tif", pixels(1, 8, 9))
    two = write_tif(tmp_path / "B03.tif", pixels(1, 8, 9), transform=from_origin(500_000 + 1e-9, 5_000_000, 10, 10))
    assert look([one, two], ("red", "green"), "sentinel-2-l2a").shape == (8, 9)


def test_a_file_that_is_not_used_may_lie_on_another_grid(tmp_path):
    one = write_tif(tmp_path / "B04.tif", pixels(1, 8, 9))
    two = write_tif(tmp_path / "B11.tif", pixels(1, 4, 5))
    assert look([one, two], ("red",), "sentinel-2-l2a").shape == (8, 9)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"crs": None}, "grid.no_crs"),
        ({"crs": None, "transform": Affine.identity()}, "grid.no_crs"),
        ({"transform": Affine(10, 0, 5e5, 0, 10, 5e6)}, "grid.south_up"),
        ({"transform": Affine(-10, 0, 5e5, 0, -10, 5e6)}, "grid.mirrored"),
        ({"transform": Affine(10, 1, 5e5, 0, -10, 5e6)}, "grid.rotated"),
        ({"transform": Affine(0, 10, 5e5, 10, 0, 5e6)}, "grid.rotated"),
        ({"crs": 'LOCAL_CS["site",UNIT["metre",1]]'}, "grid.local_crs"),
    ],
)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_grids_that_are_refused(tmp_path, options, code):
    file = write_tif(tmp_path / "B04.tif", pixels(1, 8, 9), **options)
    problem = refused(file, sensor="sentinel-2-l2a")
    assert problem.code == code
    assert "gdal" in problem.hint


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_numbers_are_refused(tmp_path, dtype):
    file = write_tif(tmp_path / "B04.tif", pixels(1, 8, 9).astype(dtype))
    assert refused(file, sensor="sentinel-2-l2a").code == "imagery.complex"


# --- damage ---------------------------------------------------------------------------------------------------------


def test_files_that_are_no_images(tmp_path):
    good = write_tif(tmp_path / "good.tif", pixels(1, 600, 600), compress="deflate", tiled=True,
                     blockxsize=256, blockysize=256).read_bytes()  # fmt: skip
    for name, content in {
        "empty": b"", "text": b"<html>404</html>", "xml": b"<VRTDataset></VRTDataset>",
        "magic": b"II*\0", "noise": bytes(range(256)),
        "headless": good[:200], "truncated": good[: len(good) // 2], "almost": good[:-100],
    }.items():  # fmt: skip
        file = tmp_path / f"{name}.tif"
        file.write_bytes(content)
        problem = refused(file, bands=("red",), scale=1)
        assert problem.code == "imagery.unreadable", name
        assert str(file) in problem.detail


def test_a_virtual_file_under_another_name_is_not_followed(tmp_path):
    """GDAL would open it by content and read the file that it points at."""
    target = write_tif(tmp_path / "secret.tif", pixels(1, 8, 9))
    trojan = tmp_path / "B04.tif"
    trojan.write_text(
        '<VRTDataset rasterXSize="9" rasterYSize="8"><VRTRasterBand dataType="Int16" band="1"><SimpleSource>'
        f"<SourceFilename>{target}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    )
    with rasterio.open(trojan) as file:
        assert file.driver == "VRT"
    assert refused(trojan, sensor="sentinel-2-l2a").code == "imagery.unreadable"


def test_a_file_that_may_not_be_read(tmp_path):
    file = write_tif(tmp_path / "B04.tif", pixels(1, 8, 9))
    file.chmod(0)
    if os.access(file, os.R_OK):
        pytest.skip("this user may read everything")
    assert refused(file, sensor="sentinel-2-l2a").code == "imagery.forbidden"


def test_nothing_is_written_to_the_terminal(tmp_path, capfd):
    file = tmp_path / "B04.tif"
    file.write_bytes(write_tif(tmp_path / "good.tif", pixels(1, 300, 300), compress="deflate").read_bytes()[:20_000])
    refused(file, sensor="sentinel-2-l2a")
    assert capfd.readouterr() == ("", "")


# --- fingerprint ----------------------------------------------------------------------------------------------------


def test_the_fingerprint_changes_with_the_file_and_only_then(tmp_path):
    file = write_tif(tmp_path / "B04.tif", pixels(1, 8, 9))
    first = look(file, sensor="sentinel-2-l2a").fingerprint
    assert look(file, sensor="sentinel-2-l2a").fingerprint == first
    os.utime(file, ns=(1, 1))
    touched = look(file, sensor="sentinel-2-l2a").fingerprint
    write_tif(file, pixels(1, 8, 9) + 1)
    os.utime(file, ns=(1, 1))
    assert len({first, touched}) == 2
    other = write_tif(tmp_path / "C_B04.tif", pixels(1, 8, 9))
    assert look(other, sensor="sentinel-2-l2a").fingerprint not in (first, touched)


def test_names_are_absolute_because_workers_have_other_folders(tmp_path, monkeypatch):
    write_tif(tmp_path / "B04.tif", pixels(1, 8, 9))
    monkeypatch.chdir(tmp_path)
    assert look("B04.tif", sensor="sentinel-2-l2a").dates[0].bands[0].href == str(tmp_path / "B04.tif")


# --- over the network -----------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    write_tif(tmp_path / "B04.tif", pixels(1, 600, 700), tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    with FaultServer(tmp_path) as running:
        yield running


def test_a_url_is_like_a_file(server, tmp_path):
    url = server.url("B04.tif")
    remote, local = look(url, sensor="sentinel-2-l2a"), look(tmp_path / "B04.tif", sensor="sentinel-2-l2a")
    assert (remote.crs, remote.transform, remote.shape, remote.block) == (
        local.crs,
        local.transform,
        local.shape,
        local.block,
    )
    assert remote.dates[0].bands[0].href == url


def test_the_fingerprint_of_a_url_knows_its_etag_but_not_its_signature(server):
    first = look(server.url("B04.tif") + "?sig=abc", sensor="sentinel-2-l2a").fingerprint
    assert look(server.url("B04.tif") + "?sig=xyz", sensor="sentinel-2-l2a").fingerprint == first
    server.etag_suffix = "replaced"
    assert look(server.url("B04.tif"), sensor="sentinel-2-l2a").fingerprint != first


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Status(404), "imagery.missing"),
        (Status(403), "imagery.forbidden"),
        (Status(401), "imagery.forbidden"),
        (Status(503), "imagery.unreachable"),
    ],
)
def test_servers_that_do_not_give_the_file(server, fault, code):
    server.faults = Always(fault)
    problem = refused(server.url("B04.tif") + "?sig=secret", sensor="sentinel-2-l2a")
    assert problem.code == code
    assert "secret" not in problem.line()


def test_a_server_that_is_not_there():
    assert refused("http://127.0.0.1:9/B04.tif", sensor="sentinel-2-l2a").code == "imagery.unreachable"


def test_a_page_instead_of_an_image(server, tmp_path):
    (tmp_path / "login.tif").write_text("<!DOCTYPE html><title>Please log in</title>")
    problem = refused(server.url("login.tif"), bands=("red",), scale=1)
    assert problem.code == "imagery.unreadable"
    assert "<!DOCTYPE" in problem.detail
    assert refused(server.url("none.tif"), bands=("red",), scale=1).code == "imagery.missing"


def test_a_server_that_sends_whole_files_only(server, tmp_path):
    """Bearable for a small file, refused for others."""
    server.faults = Always(NoRange())
    assert look(server.url("B04.tif"), sensor="sentinel-2-l2a").shape == (600, 700)
    noise = np.random.default_rng(1).integers(0, 30_000, (1, 900, 900)).astype("int16")
    write_tif(tmp_path / "B08.tif", noise)
    assert refused(server.url("B08.tif"), ("nir",), "sentinel-2-l2a").code == "imagery.no_ranges"


def test_addresses_of_ones_own_network_are_opened_by_a_setting(server):
    problem = refused(server.url("B04.tif"), sensor="sentinel-2-l2a", network=None)
    assert (problem.code, problem.field) == ("url.private", "--input")
    assert "SWATHE_ALLOW_PRIVATE_URLS" in problem.hint
    assert server.requests == []


def test_an_image_larger_than_is_read_is_refused_when_it_is_looked_at(server, tmp_path):
    small = Network(allow_private=True, limits=Limits(side=699))
    problem = refused(server.url("B04.tif"), sensor="sentinel-2-l2a", network=small)
    assert problem.code == "imagery.limits"
    assert "600 x 700 pixels" in problem.detail
    assert "SWATHE_MAX_IMAGE_SIDE" in problem.hint
    assert look(tmp_path / "B04.tif", sensor="sentinel-2-l2a", network=small).shape == (600, 700)
    fitting = Network(allow_private=True, limits=Limits(side=700))
    assert look(server.url("B04.tif"), sensor="sentinel-2-l2a", network=fitting).shape == (600, 700)


def test_a_redirect_is_checked_as_any_address(server):
    server.faults = Always(Redirect("http://169.254.169.254/latest/meta-data?token=secret"))
    problem = refused(server.url("B04.tif"), sensor="sentinel-2-l2a")
    assert problem.code == "url.private"
    assert "secret" not in problem.line()
    server.faults = lambda r: Redirect(server.url("B04.tif")) if r.name == "old.tif" else None
    assert look(server.url("old.tif"), bands=("red",), scale=1).shape == (600, 700)


def test_a_server_that_asks_for_patience_gets_it(server):
    server.faults = First(Status(429, "1"), count=1)
    started = time.monotonic()
    assert look(server.url("B04.tif"), sensor="sentinel-2-l2a").shape == (600, 700)
    assert 1 <= time.monotonic() - started < 5


def test_an_archive_without_its_name_is_told_from_damage(server, tmp_path):
    for name, code in (("download.tif", "imagery.unreadable"), ("download", "archive.unreadable")):
        (tmp_path / name).write_bytes(b"PK\3\4" + bytes(100))
        problem = refused(server.url(name), bands=("red",), scale=1)
        assert problem.code == code
        assert "zip" in problem.hint


def test_s3_addresses_are_read_like_any_other(server):
    """The server speaks enough of S3 for anonymous reading: GET /bucket/key."""
    stored = Network(s3_endpoint=f"http://127.0.0.1:{server.port}", s3_anonymous=True)
    (server.folder / "bucket").mkdir()
    (server.folder / "B04.tif").rename(server.folder / "bucket" / "B04.tif")
    imagery = look("s3://bucket/B04.tif", sensor="sentinel-2-l2a", network=stored)
    assert imagery.shape == (600, 700)
    ((href, stamp),) = imagery.stamps
    assert href == "s3://bucket/B04.tif"
    assert stamp.startswith(f"{(server.folder / 'bucket' / 'B04.tif').stat().st_size} ")
    with pytest.raises(ImageryError) as caught:
        look("s3://bucket/none.tif", sensor="sentinel-2-l2a", network=stored)
    assert caught.value.problem.code == "imagery.missing"


def test_secrets_do_not_show():
    assert shown("https://me:pass@host/a/b.tif?X-Amz-Signature=1#x") == "https://host/a/b.tif"
    assert shown("/data/a?b.tif") == "/data/a?b.tif"


# --- the guide ------------------------------------------------------------------------------------------------------


def test_the_guide_lists_every_code_and_every_profile():
    root = Path(__file__).resolve().parents[2]
    guide = (root / "docs" / "imagery.md").read_text()
    names = ("inputs", "peek", "header", "match", "radiometry", "inspect", "sensors", "area", "read")
    text = "".join((root / "pipelines" / "imagery" / f"{n}.py").read_text() for n in names)
    area = (root / "swathe" / "aoi.py").read_text() + (root / "pipelines" / "imagery" / "area.py").read_text()
    codes = set(re.findall(r'code="([a-z_]+\.[a-z_]+)"', text))
    codes |= {f"grid.{c}" for c in re.findall(r'_grid\(\s*"([a-z_]+)"', text)}
    codes |= {f"area.{c}" for c in re.findall(r'_error\(\s*"([a-z_]+)"', area)}
    codes |= {f"imagery.{c}" for c in re.findall(r'_problem\("([a-z_]+)"', text)}
    codes |= {f"imagery.{c}" for c in re.findall(r'"read\.[a-z]+": "([a-z_]+)"', text)}
    remote = "".join(path.read_text() for path in (root / "pipelines" / "remote").glob("*.py"))
    codes |= set(re.findall(r'code="((?:url|imagery)\.[a-z_]+)"', remote)) - {"url.local", "imagery.limits"}
    codes |= {f"url.{c}" for c in re.findall(r'_refuse\("([a-z_]+)"', remote)}
    assert len(codes) > 35
    assert [c for c in sorted(codes) if f"`{c}`" not in guide] == []
    assert [i for i in SENSORS if f"`{i}`" not in guide] == []


# --- for the eye ----------------------------------------------------------------------------------------------------


def test_colours_are_found_beside_what_the_model_looks_at(tmp_path):
    six = write_tif(tmp_path / "six.tif", pixels(6, 40, 50), descriptions=SIX)
    imagery = look(six, ("green", "nir08"), scale=1.0)
    assert places(imagery) == [("green", "six.tif", 2), ("nir08", "six.tif", 4)]
    assert [(b.name, b.index) for b in imagery.picture] == [("red", 3), ("green", 2), ("blue", 1)]
    two = write_tif(tmp_path / "two.tif", pixels(2, 40, 50), descriptions=("green", "nir08"))
    assert look(two, ("green", "nir08"), scale=1.0).picture == ()


def test_colours_of_another_grid_are_no_picture(tmp_path):
    files = [write_tif(tmp_path / f"x_{name}.tif", pixels(1, 40, 50)) for name in ("green", "blue")]
    files.append(write_tif(tmp_path / "x_red.tif", pixels(1, 39, 50)))
    assert look(files, ("green",), scale=1.0).picture == ()


# --- blocks that are larger than their file ---------------------------------------------------------------------------


def test_bands_that_are_decoded_together_count_together(tmp_path):
    """Each band of the tile is below the bound of a look; decoding one decodes all."""
    path = write_claim(tmp_path / "one.tif", bands=24, side=2048)
    assert path.stat().st_size < 47_000
    (header,) = read_headers([str(path)], Access(), limits=Limits())
    assert (header.block, header.by_pixel) == ((2048, 2048), True)
    assert np.isnan(header.levels).all()
    with pytest.raises(ImageryError) as caught:  # control: a tile that a look may decode shows its damage
        read_headers([str(write_claim(tmp_path / "small.tif", bands=8, side=2048))], Access())
    assert caught.value.problem.code == "imagery.unreadable"


def test_tiles_of_strangers_are_bounded_before_one_is_decoded(tmp_path):
    path = write_claim(tmp_path / "tiles.tif", bands=24, side=1024, width=4096)
    limits = Limits(block_mb=16)
    with pytest.raises(ImageryError) as caught:
        read_headers([str(path)], Access(), limits=limits)
    assert caught.value.problem.code == "imagery.limits"
    with pytest.raises(ImageryError) as caught:  # control: without them it is decoded, and cannot be
        read_headers([str(path)], Access())
    assert caught.value.problem.code == "imagery.unreadable"
