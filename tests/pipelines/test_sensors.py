"""Profiles: complete, sourced, and loud about mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.imagery.sensors import choose, load_sensors, read_sensor
from swathe.errors import BandError, InputError

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "sensors"
GOOD = "id: x-1\ntitle: X\nscale: 0.5\noffset: 1\nbands:\n  - {name: red, tokens: [B4]}\n"


@pytest.fixture(scope="module")
def profiles():
    return load_sensors(FOLDER)


def test_every_profile_says_where_its_numbers_are_documented(profiles):
    assert len(profiles) >= 16
    assert [p.id for p in profiles.values() if len(p.source) < 15] == []


@pytest.mark.parametrize(
    ("sensor", "band", "stored", "physical"),
    [
        ("sentinel-2-l2a", "red", 3000, 0.2),
        ("sentinel-2-l2a-pre-0400", "red", 3000, 0.3),
        ("sentinel-2-l1c", "cirrus", 1020, 0.002),
        ("sentinel-2-l1c-pre-0400", "red", 3000, 0.3),
        ("sentinel-2-sentinelhub", "nir", 65535, 1.0),
        ("hls-s30", "nir08", 2500, 0.25),
        ("hls-l30", "nir08", 2500, 0.25),
        ("landsat-c2-l2", "nir08", 20000, 0.35),
        ("landsat-c2-l2-tm", "nir08", 20000, 0.35),
        ("landsat-sr-legacy", "swir22", 1000, 0.1),
        ("sen1floods11-s2", "swir16", 1000, 0.1),
        ("prithvi-6", "nir08", 1000, 0.1),
        ("burn-california", "swir22", 1000, 0.1),
        ("rgb8", "red", 255, 1.0),
    ],
)
def test_stored_numbers_become_the_documented_ones(profiles, sensor, band, stored, physical):
    profile = profiles[sensor]
    entry = profile.band(band)
    scale = profile.scale if entry.scale is None else entry.scale
    offset = profile.offset if entry.offset is None else entry.offset
    assert stored * scale + offset == pytest.approx(physical, abs=1e-9)


def test_surface_temperature_has_its_own_scale(profiles):
    band = profiles["landsat-c2-l2"].band("lwir11")
    assert 44_000 * band.scale + band.offset == pytest.approx(299.39, abs=0.01)
    assert band.unit == "kelvin"


def test_level_2_has_twelve_bands_and_level_1_thirteen(profiles):
    assert len(profiles["sentinel-2-l2a"].bands) == 12
    assert [len(profiles[i].bands) for i in ("sentinel-2-l1c", "sen1floods11-s2")] == [13, 13]
    assert profiles["sentinel-2-l1c"].places["nir08"] == 9


def test_a_band_may_lie_at_another_place_than_in_the_list(profiles):
    assert profiles["burn-california"].places == {"nir": 4, "swir22": 5}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (GOOD.replace("x-1", "y-1"), "not the file's name"),
        (GOOD + "scale: 2\n", "given twice"),
        (GOOD.replace("scale: 0.5\n", ""), "scale: Field required"),
        (GOOD.replace("offset", "ofset"), "offset: Field required"),
        (GOOD + "colour: red\n", "colour: Extra inputs"),
        (GOOD.replace("red", "rot"), "unknown band 'rot'"),
        (GOOD + "  - {name: red}\n", "named twice"),
        (GOOD + "  - {name: nir, tokens: [b4]}\n", "belongs to another band"),
        (GOOD + "  - {name: nir, tokens: [RED]}\n", "belongs to another band"),
        (GOOD + "  - {name: nir, tokens: [B-8]}\n", "can never match"),
        (GOOD + "  - {name: nir, at: 1}\n", "same place"),
        (GOOD.replace("0.5", "0"), "makes every pixel the same"),
        ("id: x-1\ntitle: X\nscale: 1\noffset: 0\nbands: []\n", "no bands"),
        ("- 1\n", "profile: Input should be"),
        ("a: [\n", "sensor profile"),
    ],
)
def test_a_mistake_names_the_file_and_what_is_wrong(tmp_path, text, complaint):
    file = tmp_path / "x-1.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        read_sensor(file)
    assert complaint in caught.value.detail
    assert str(file) in caught.value.detail
    assert caught.value.problem.code == "sensor.invalid"


def test_a_good_profile_is_read(tmp_path):
    file = tmp_path / "x-1.yaml"
    file.write_text(GOOD)
    assert read_sensor(file).scale == 0.5


def test_the_same_id_twice_is_refused(tmp_path):
    (tmp_path / "x-1.yaml").write_text(GOOD)
    (tmp_path / "x-1.yml").write_text(GOOD)
    with pytest.raises(InputError, match="taken by another file"):
        load_sensors(tmp_path)


def test_a_missing_folder_is_said(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        load_sensors(tmp_path / "none")


def test_choosing_by_name(profiles):
    assert choose(profiles, None) == ()
    assert [p.id for p in choose(profiles, "hls-s30, hls-l30")] == ["hls-s30", "hls-l30"]
    with pytest.raises(BandError) as caught:
        choose(profiles, "sentinel2")
    assert caught.value.problem.code == "sensor.unknown"
    assert "sentinel-2-l2a" in caught.value.hint
