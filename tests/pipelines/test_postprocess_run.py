"""Masks and regular polygons as steps of whole runs."""

import json
from dataclasses import replace

import geopandas
import numpy as np
import pytest
import rasterio
from PIL import Image

from pipelines import searched
from pipelines.begin import begin, look
from pipelines.demo import catalogue
from pipelines.imagery.gdal import Access
from pipelines.imagery.sensors import load_sensors
from pipelines.masking.layers import load_layers
from pipelines.remote.network import Network
from pipelines.run import Request, run
from pipelines.runner import Loop
from pipelines.sandbox.isolation import isolation
from pipelines.search.sources import load_sources
from pipelines.steps.chosen import treatments_of
from swathe.masking import Mask, code_labels
from swathe.postprocess import Postprocess
from swathe.recipe import ProcessorWish, Recipe, Search
from swathe.state import State

WATER = tuple(bytes.fromhex(code_labels([Mask.WATER])[0].colour[1:]))
needs_sandbox = pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")


@pytest.fixture(scope="module")
def coast(tmp_path_factory):
    return catalogue.write(tmp_path_factory.mktemp("coast"), size=512, seed=5)


@pytest.fixture(scope="module")
def configs(pytestconfig):
    return pytestconfig.rootpath / "configs"


class Noted:
    def __init__(self):
        self.steps = []

    def event(self, event):
        if event.kind == "step":
            self.steps.append((event.facts["name"], event.facts["state"]))

    def progress(self, done, total):
        pass


@pytest.fixture(scope="module")
def go(configs, home):
    from models.registry import load_cards

    card = load_cards((configs / "models",))["water-mndwi"]

    def carry_out(out, recipe, wish, *, files=False):
        if files:
            imagery = look(recipe, card, load_sensors(configs / "sensors"), Access())
        else:
            archive = searched.Archive(load_sources([configs / "sources"]), Network())
            imagery = searched.look(recipe, card, archive)
        recipe = replace(recipe, postprocess=wish)
        steps = treatments_of(recipe, layers=load_layers([configs / "layers"]))
        noted = Noted()
        request = Request(out, home, network=Network(), treatments=steps)
        return run(begin(recipe, card, imagery, actors=1), request, Loop(), noted), noted

    return carry_out


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def test_a_searched_run_masks_and_regularises_and_says_with_what(go, coast, tmp_path):
    recipe = Recipe("water-mndwi", search=Search(str(coast.catalog), ("2024-08-20_2024-09-10",)), aoi=coast.aoi)
    wish = Postprocess.parse("clouds,water=scenes", regularise="smooth")
    outcome, noted = go(tmp_path, recipe, wish)
    assert outcome.state is State.DONE
    assert [s for s in noted.steps if s[1] == "finished"] == [("mask", "finished"), ("regularise", "finished")]
    plain, found = read(tmp_path / "result.tif"), read(tmp_path / "masked.tif")
    codes = np.isin(found, [997, 999])
    kept = ~codes & (found != -9999)
    assert codes.any()
    assert kept.any()
    assert np.array_equal(plain[kept], found[kept])
    assert (plain[found == -9999] == 255).all()
    report = json.loads((tmp_path / "report.json").read_text())
    step = report["steps"][0]
    by = {m["mask"]: m for m in step["detail"]["masks"]}
    assert by["clouds"]["from"]["rule"] == "scl"
    assert by["water"]["from"]["how"].startswith("in every clear observation")
    assert sum(m["pixels"] for m in by.values()) == codes.sum()
    assert report["published"] == "masked.tif"
    assert "scl masks" in (tmp_path / "mask.log").read_text()
    covered = (found == 997) & (plain != 255)
    with Image.open(tmp_path / "preview.png") as picture:
        shown = (np.asarray(picture.convert("RGB")) == WATER).all(axis=2)
    assert shown.sum() > 0.8 * covered.sum() > 100  # it is a small area: the picture has as many pixels, or more
    table = geopandas.read_parquet(tmp_path / "regularised.parquet")
    assert table["pixels"].sum() <= (kept & (found == 1)).sum()
    assets = json.loads((tmp_path / "item.json").read_text())["assets"]
    assert {"masked", "regularised", "mask-log"} <= set(assets)
    again, noted = go(tmp_path, recipe, wish)
    assert again.already


SWAP = """
import sys
import rasterio
if __name__ == "__main__":
    with rasterio.open(sys.argv[1]) as file:
        data, profile = file.read(), file.profile
    data[data == 999] = {value}
    with rasterio.open(sys.argv[2], "w", **profile) as file:
        file.write(data)
"""


@needs_sandbox
@pytest.mark.parametrize(("value", "classes"), [(1, "unchanged"), (7, None)])
def test_a_script_after_the_masks_leaves_classes_and_codes_what_they_are(go, coast, tmp_path, value, classes):
    script = tmp_path / "swap.py"
    script.write_text(SWAP.format(value=value))
    search = Search(str(coast.catalog), ("2024-08-20_2024-09-10",))
    recipe = Recipe("water-mndwi", search=search, aoi=coast.aoi, processor=ProcessorWish(str(script), {}, ""))
    outcome, _ = go(tmp_path / "out", recipe, Postprocess.parse("clouds"))
    assert outcome.state is State.DONE
    masked, processed = read(tmp_path / "out" / "masked.tif"), read(tmp_path / "out" / "processed.tif")
    assert (masked == 999).any()
    step = outcome.report["steps"][1]
    assert step["detail"]["raster"]["classes"] == classes
    if classes:
        assert processed.dtype == np.int16
        assert np.array_equal(processed, np.where(masked == 999, value, masked))
        named = json.loads((tmp_path / "out" / "item.json").read_text())["assets"]["processed"]
        assert [c["value"] for c in named["classification:classes"]] == [0, 1, 999, -9999]
    else:
        assert processed.dtype == np.float32
        assert np.isnan(processed[masked == -9999]).all()


def test_files_without_a_mask_fail_the_step_and_leave_the_result(go, coast, tmp_path):
    scene = min(p for p in coast.catalog.parent.rglob("*.tif") if "green" in p.name or "B03" in p.name)
    other = min(p for p in scene.parent.iterdir() if "swir16" in p.name or "B11" in p.name)
    with rasterio.open(scene) as file:
        profile, green = file.profile, file.read(1)
    with rasterio.open(other) as file:
        swir = np.kron(file.read(1), np.ones((2, 2), np.uint16))[: green.shape[0], : green.shape[1]]
    profile.update(driver="GTiff", count=2)
    for key in ("blockxsize", "blockysize", "tiled"):
        profile.pop(key, None)
    with rasterio.open(tmp_path / "both.tif", "w", **profile) as file:
        file.write(np.stack([green, swir]))
        file.descriptions = ("green", "swir16")
    from swathe.recipe import Radiometry

    recipe = Recipe("water-mndwi", (str(tmp_path / "both.tif"),),
                    radiometry=Radiometry(("green", "swir16"), 1e-4, -0.1))  # fmt: skip
    out = tmp_path / "out"
    outcome, noted = go(out, recipe, Postprocess.parse("clouds", regularise="buildings"), files=True)
    assert outcome.state is State.INCOMPLETE
    assert ("mask", "failed") in noted.steps
    assert ("regularise", "skipped") in noted.steps
    problem = outcome.report["steps"][0]["problem"]
    assert problem["code"] == "mask.unanswered"
    assert "--mask-file" in problem["hint"]
    assert (out / "result.tif").exists()
    assert not (out / "masked.tif").exists()
