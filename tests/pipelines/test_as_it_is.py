"""Images that are handed on: numbers and pictures told apart, stretched, masked, and what is neither refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.enums import ColorInterp
from rasterio.transform import from_origin

from models.registry import load_cards
from pipelines.begin import begin, look
from pipelines.imagery.as_it_is import COLOURS
from pipelines.run import Request, run
from pipelines.runner import Loop
from swathe.card import ModelCard
from swathe.errors import BandError, InputError
from swathe.recipe import Radiometry, Recipe
from tests.pipelines.conftest import ROOT, Watch

CARD = load_cards((ROOT / "configs" / "models",))["image-as-it-is"]
R, G, B, A, NONE = ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha, ColorInterp.undefined


def write(path, data, colours=None, **options):
    """(bands, h, w) in UTM; ``colours``: what each band is."""
    bands, height, width = data.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, dtype=data.dtype, height=height, width=width, crs="EPSG:32633",
        transform=from_origin(500_000, 4_600_000, 10, 10), **options,
    ) as file:  # fmt: skip
        if colours:
            file.colorinterp = colours
        file.write(data)
    return path


def planned(path, chunk=None, **said):
    recipe = Recipe(CARD.id, (str(path),), radiometry=Radiometry(**said), chunk=chunk)
    return begin(recipe, CARD, look(recipe, CARD, {}), 1)


def handed_on(path, out, home, **said):
    """The result (bands, h, w), and the file's own description."""
    outcome = run(planned(path, **said), Request(out, home), Loop(), Watch())
    assert outcome.report["status"] == "done"
    with rasterio.open(out / "result.tif") as file:
        return file.read(), file.profile | {"colours": file.colorinterp, "overviews": file.overviews(1)}


@pytest.fixture
def bytes_():
    return np.random.default_rng(5).integers(0, 256, (3, 700, 600), dtype="uint8")


def test_a_picture_keeps_its_colours(tmp_path, home, bytes_):
    found, said = handed_on(write(tmp_path / "a.tif", bytes_), tmp_path / "out", home)
    assert (found == np.minimum(bytes_, 254)).all()  # white is told from nothing
    assert (said["dtype"], said["nodata"], said["colours"]) == ("uint8", 255, (R, G, B))
    assert said["overviews"] == [2]
    item = json.loads((tmp_path / "out" / "item.json").read_text())
    assert item["assets"]["data"]["roles"] == ["data", "visual"]
    assert [band["name"] for band in item["assets"]["data"]["bands"]] == ["red", "green", "blue"]
    assert not (tmp_path / "out" / "result.qml").exists()
    assert np.asarray(Image.open(tmp_path / "out" / "preview.png").convert("RGB")).std() > 10
    assert (tmp_path / "out" / "quicklook.tif").exists()


def test_overviews_are_means_of_what_is_there(tmp_path, home):
    data = np.full((3, 1100, 600), 40, "uint8")
    data[:, 1::2] = 60
    data[:, 200:400] = 0
    path = write(tmp_path / "a.tif", data, nodata=0)
    handed_on(path, tmp_path / "out", home)
    with rasterio.open(tmp_path / "out" / "result.tif", overview_level=0) as file:
        small = file.read()
    assert {tuple(c) for c in small.reshape(3, -1).T} == {(50, 50, 50), (255, 255, 255)}
    assert (small[:, 100:200] == 255).all()


@pytest.mark.parametrize("chunk", [512, 1024])
def test_a_cut_changes_nothing(tmp_path, home, bytes_, chunk):
    path = write(tmp_path / "a.tif", bytes_)
    found, _ = handed_on(path, tmp_path / "out", home, chunk=chunk)
    assert (found == np.minimum(bytes_, 254)).all()


def test_alpha_says_where_a_picture_is(tmp_path, home, bytes_):
    alpha = np.full((1, 700, 600), 255, "uint8")
    alpha[:, :100], alpha[:, 100:200] = 0, 1
    found, _ = handed_on(write(tmp_path / "a.tif", np.concatenate([bytes_, alpha])), tmp_path / "out", home)
    assert len(found) == 3
    assert (found[:, :100] == 255).all()
    assert (found[:, 100:] == np.minimum(bytes_[:, 100:], 254)).all()


def test_black_is_a_colour_unless_all_bands_are_black(tmp_path, home, bytes_):
    bytes_[0, :100], bytes_[:, 100:200] = 0, 0
    bytes_[1, :100] = np.maximum(bytes_[1, :100], 1)
    found, _ = handed_on(write(tmp_path / "a.tif", bytes_, nodata=0), tmp_path / "out", home)
    assert (found[:, 100:200] == 255).all()
    assert (found[:, :100] == np.minimum(bytes_[:, :100], 254)).all()


def test_colours_are_found_by_what_a_file_calls_them(tmp_path, home, bytes_):
    blue_first = write(tmp_path / "a.tif", bytes_[::-1], (B, G, R), photometric="MINISBLACK")
    found, _ = handed_on(blue_first, tmp_path / "one", home)
    assert (found == np.minimum(bytes_, 254)).all()
    infrared = np.concatenate([bytes_, bytes_[:1]])
    four = write(tmp_path / "b.tif", infrared, (R, G, B, NONE), photometric="RGB", alpha="NO")
    found, _ = handed_on(four, tmp_path / "two", home)
    assert (found == np.minimum(bytes_, 254)).all()


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_other_numbers_are_stretched_band_by_band(tmp_path, home, dtype):
    rng = np.random.default_rng(3)
    data = (rng.random((3, 128, 128)) * np.array([900, 3000, 60_000])[:, None, None]).astype(dtype)
    path = write(tmp_path / "a.tif", data, nodata=0)
    data[:, :9] = 0
    if dtype == "float32":
        data[1, 20] = np.nan
    path = write(path, data, nodata=0)
    found, _ = handed_on(path, tmp_path / "out", home)
    there = (data != 0).any(axis=0) & np.isfinite(data.astype("float64")).all(axis=0)
    for band, seen in zip(data, found, strict=True):
        values = band[np.isfinite(band) & (band != 0)].astype("float64")
        low, high = np.percentile(values, (2, 98))
        wanted = np.clip(np.rint((band - low) / (high - low) * 254), 0, 254)
        assert np.abs(seen.astype(int) - wanted)[there].max() <= 1
        assert (seen[~there] == 255).all()
    assert found[:, there].min() == 0
    assert found[:, there].max() == 254


def test_a_stretch_is_found_without_the_whole_of_a_large_file(tmp_path):
    """And is the same at the next look: a resumed run is the same run."""
    data = np.broadcast_to(np.linspace(0, 9999, 3000, dtype="uint16"), (3, 3000, 3000))
    path = write(tmp_path / "a.tif", data, tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    first, second = planned(path), planned(path)
    assert first.key == second.key
    band = first.work.imagery.dates[0].bands[0]
    assert -band.offset / band.scale == pytest.approx(200, abs=150)  # of squares that reach both ends
    assert (254 - band.offset) / band.scale == pytest.approx(9800, abs=150)
    assert first.work.imagery.unit == COLOURS


def test_flat_and_empty_pictures_have_a_stretch(tmp_path, home):
    flat, _ = handed_on(write(tmp_path / "a.tif", np.full((3, 64, 64), 7, "uint16")), tmp_path / "one", home)
    assert (flat == 127).all()
    empty, _ = handed_on(write(tmp_path / "b.tif", np.zeros((3, 64, 64), "uint16"), nodata=0), tmp_path / "two", home)
    assert (empty == 255).all()


def test_one_band_is_numbers_as_they_are(tmp_path, home):
    data = np.linspace(-5, 5000, 64 * 64, dtype="float32").reshape(1, 64, 64)
    path = write(tmp_path / "a.tif", data)
    with rasterio.open(path, "r+") as file:
        file.scales = (0.1,)
    found, said = handed_on(path, tmp_path / "out", home)
    assert (found == data).all()
    assert (said["dtype"], said["count"]) == ("float32", 1)
    alpha = np.concatenate([np.full((1, 64, 64), 9, "uint8"), np.full((1, 64, 64), 255, "uint8")])
    alpha[1, :8] = 0
    grey = write(tmp_path / "b.tif", alpha, (ColorInterp.gray, A))
    found, _ = handed_on(grey, tmp_path / "grey", home)
    assert np.isnan(found[0, :8]).all()
    assert (found[0, 8:] == 9).all()


def test_what_a_user_says_of_numbers_counts(tmp_path):
    path = write(tmp_path / "a.tif", np.full((1, 64, 64), 9, "uint8"))
    (band,) = planned(path, scale=0.5, offset=2.0, nodata=7.0).work.imagery.dates[0].bands
    assert (band.scale, band.offset, band.nodata) == (0.5, 2.0, 7.0)
    (band,) = planned(path, bands=("index",), scale=3.0).work.imagery.dates[0].bands
    assert band.scale == 3.0


@pytest.mark.parametrize(("bands", "dtype"), [(2, "uint8"), (4, "uint16"), (5, "uint8"), (13, "uint16")])
def test_what_is_neither_is_refused(tmp_path, bands, dtype):
    path = write(tmp_path / "a.tif", np.ones((bands, 64, 64), dtype), photometric="MINISBLACK")
    with pytest.raises(BandError) as caught:
        planned(path)
    problem = caught.value.problem
    assert (problem.code, f"{bands} bands" in problem.detail) == ("band.count", True)
    assert "alpha" in problem.hint


def test_several_images_are_no_picture(tmp_path):
    for name in ("red", "green", "blue"):
        write(tmp_path / f"{name}.tif", np.ones((1, 64, 64), "uint8"))
    with pytest.raises(BandError) as caught:
        planned(tmp_path)
    assert "3 images" in caught.value.problem.detail


def test_a_damaged_picture_is_refused_with_its_name(tmp_path):
    path = write(tmp_path / "a.tif", np.ones((3, 600, 600), "uint16"), tiled=True, compress="deflate")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(InputError) as caught:
        planned(path)
    assert caught.value.problem.code == "imagery.unreadable"


def test_the_card_says_what_it_can_hand_on():
    document = CARD.model_dump(mode="json")
    for change in ({"input": {**document["input"], "bands": ["red", "green"]}},
                   {"input": {**document["input"], "times": 2}}, {"adapter": "artefact"},
                   {"output": {**document["output"], "picture": True}}):  # fmt: skip
        with pytest.raises(ValueError, match=r"as_it_is|three channels"):
            ModelCard.model_validate({**document, **change})


def test_a_picture_is_not_predicted_or_masked(tmp_path, home):
    from pipelines.masking.masked import expect_room
    from pipelines.online import Online, Question
    from pipelines.products.layer import layer_of

    path = write(tmp_path / "a.tif", np.ones((3, 64, 64), "uint8"))
    with pytest.raises(InputError) as caught:
        Online(CARD, home, {})(Question(Recipe(CARD.id, (str(path),))))
    assert caught.value.problem.code == "predict.picture"
    with pytest.raises(InputError) as caught:
        expect_room(layer_of(planned(path).work.card))
    assert caught.value.problem.code == "mask.embedding"
