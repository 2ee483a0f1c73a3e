"""Whole runs for what models give beside one class per pixel: probabilities, embeddings, changes between two dates."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rasterio
from rio_cogeo import cog_validate

from models.load import ensure
from models.registry import load_cards
from swathe.card import Output
from swathe.recipe import ProductSettings
from swathe.state import State
from tests.pipelines.conftest import BANDS, make_scene, network_card
from tests.pipelines.tiffs import write_tif

ROOT = Path(__file__).resolve().parent.parent.parent
PATCH, LENGTH = 8, 5


def read(path):
    with rasterio.open(path) as file:
        return file.read(), SimpleNamespace(
            descriptions=file.descriptions, scales=file.scales, dtypes=file.dtypes, bounds=file.bounds, res=file.res
        )


def test_probabilities_are_those_that_class_and_score_are_chosen_from(go, tmp_path):
    outcome, _ = go(tmp_path, chunk=512, products=ProductSettings(probabilities=True))
    assert outcome.state is State.DONE
    each, file = read(tmp_path / "probabilities.tif")
    (result,), _ = read(tmp_path / "result.tif")
    (score,), _ = read(tmp_path / "score.tif")
    assert (file.descriptions, file.scales) == (("land", "water", "trees"), (1 / 254,) * 3)
    assert cog_validate(tmp_path / "probabilities.tif", strict=True)[0]
    there = result != 255
    assert there.any()
    assert not there.all()
    assert ((each == 255).all(axis=0) == ~there).all()
    sums = each[:, there].astype(int).sum(axis=0)
    assert (abs(sums - 254) <= 2).all()  # three numbers, each rounded
    assert (each[:, there].max(axis=0) == score[there]).all()
    chosen = np.take_along_axis(each[:, there], result[there][None].astype(int), axis=0)[0]
    assert (chosen == score[there]).all()
    assert "probabilities" in json.loads((tmp_path / "item.json").read_text())["assets"]


@pytest.fixture(scope="module")
def embedding(tmp_path_factory, home):
    """A network without neighbours: a vector for each patch of 8 x 8 pixels, a linear one; and its numbers."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(5).normal(0, 0.1, (LENGTH, len(BANDS), PATCH, PATCH)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["tiles", "w"], ["vectors"], strides=[PATCH, PATCH])], "patches",
        [helper.make_tensor_value_info("tiles", TensorProto.FLOAT, ["n", len(BANDS), 64, 64])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", LENGTH, 64 // PATCH, 64 // PATCH])],
        [numpy_helper.from_array(weights, "w")],
    )  # fmt: skip
    file = tmp_path_factory.mktemp("patches") / "patches.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), file)
    card = network_card(
        file, id="test-patches", task="embedding", output=Output(channels=LENGTH, stride=PATCH),
        network={"file": str(file), "kind": "onnx", "input_layout": "NCHW", "output": "values"},
    )  # fmt: skip
    return ensure(card, home).card, weights


def test_an_embedding_is_a_map_with_one_cell_per_patch(go, tmp_path, embedding):
    card, weights = embedding
    scene = make_scene(tmp_path / "whole.tif", (328, 400), holes=False)
    outcome, _ = go(tmp_path / "out", card=card, inputs=(str(scene),), chunk=128)
    assert outcome.state is State.DONE
    found, file = read(tmp_path / "out" / "result.tif")
    stored, source = read(scene)
    assert (found.shape, file.dtypes) == ((LENGTH, 41, 50), ("float32",) * LENGTH)
    assert file.bounds == source.bounds
    assert file.res == (80, 80)
    assert cog_validate(tmp_path / "out" / "result.tif", strict=True)[0]
    units = (stored * 1e-4 * card.input.scale - 3) / 2
    patches = units.reshape(len(BANDS), 41, PATCH, 50, PATCH)
    expected = np.einsum("kbij,brisj->krs", weights.astype(float), patches)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert not (tmp_path / "out" / "features.parquet").exists()
    item = json.loads((tmp_path / "out" / "item.json").read_text())
    assert item["properties"]["proj:shape"] == [41, 50]
    assert (tmp_path / "out" / "preview.png").stat().st_size > 1000


def test_two_dates_in_files_are_told_apart_by_their_dates(go, tmp_path):
    """Whichever is named first, and each with its own bands in its own order."""
    rng = np.random.default_rng(2)
    nir, swir = rng.integers(2000, 5000, (2, 2, 300, 280)).astype("int16")
    tags = {"scales": (1e-4,) * 2, "offsets": (0.0,) * 2}
    write_tif(tmp_path / "pre.tif", np.stack([nir[0], swir[0]]), descriptions=("nir08", "swir22"), **tags)
    write_tif(tmp_path / "post.tif", np.stack([swir[1], nir[1]]), descriptions=("swir22", "nir08"), **tags)
    card = load_cards([ROOT / "configs" / "models"])["burn-dnbr"]
    named = (f"2024-08-28={tmp_path / 'post.tif'}", f"2024-07-04={tmp_path / 'pre.tif'}")
    outcome, _ = go(tmp_path / "out", card=card, inputs=named)
    assert outcome.state is State.DONE
    (found,), _ = read(tmp_path / "out" / "result.tif")
    ratio = (nir.astype(float) - swir) / (nir.astype(float) + swir)
    loss = ratio[0] - ratio[1]
    sure = abs(loss - 0.27) > 1e-6
    assert (found == (loss > 0.27))[sure].all()
    assert 0.01 < (found == 1).mean() < 0.5
    times = json.loads((tmp_path / "out" / "item.json").read_text())["properties"]
    assert (times["start_datetime"][:10], times["end_datetime"][:10]) == ("2024-07-04", "2024-08-28")
