"""``swathe models`` through typer's own runner."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from models.weights import ModelHome
from serve.cli.models import app
from swathe.errors import CardError, OutputError, UnknownModelError

CARD = """\
id: mine
title: Mine [bold]and brackets
task: segmentation
adapter: artefact
network: {kind: onnx, input_layout: NCHW, output: logits}
weights: {uri: own.onnx}
input: {bands: [green, red, nir], chip: 32, overlap: 8}
output:
  classes:
    - {value: 0, name: land, colour: '#000000'}
    - {value: 1, name: water, colour: '#0000ff'}
licence: Apache-2.0
citation: nobody
"""


@dataclass(frozen=True)
class Settings:
    home: ModelHome
    card_folders: tuple[Path, ...]


@pytest.fixture
def settings(tmp_path):
    from models.registry import default_folders

    return Settings(ModelHome(tmp_path / "cache", offline=True), default_folders(tmp_path / "cards"))


@pytest.fixture
def swathe(settings):
    def run(*arguments):
        done = CliRunner().invoke(app, [str(a) for a in arguments], obj=settings, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return run


@pytest.fixture
def card(tmp_path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", c, 32, 32]) for n, c in (("x", 3), ("y", 2))]
    mix = numpy_helper.from_array(np.ones((2, 3, 1, 1), np.float32), "w")
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"])], "own", ends[:1], ends[1:], [mix])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "own.onnx"
    )
    path = tmp_path / "mine.yaml"
    path.write_text(CARD)
    return path


def test_the_models_are_listed_both_ways(swathe):
    listed = json.loads(swathe("--json"))
    assert json.loads(swathe("list", "--json")) == listed
    water = next(row for row in listed if row["id"] == "water-mndwi")
    assert water["bands"] == ["green", "swir16"]
    assert water["needs_weights"] is False
    assert swathe() == swathe("list")
    assert "water-mndwi" in swathe()


def test_a_card_is_shown(swathe):
    shown = json.loads(swathe("show", "water-mndwi", "--json"))
    assert shown["input"]["bands"] == ["green", "swir16"]
    assert shown["registered"] is None
    assert "green, swir16" in swathe("show", "water-mndwi")
    assert "to fetch" in swathe("show", "prithvi-eo-v2-300m-burnscars")


def test_an_unknown_model_is_told(swathe):
    with pytest.raises(UnknownModelError) as caught:
        swathe("show", "water-mdnwi")
    assert "water-mndwi" in caught.value.hint


@pytest.mark.slow
def test_a_card_is_added_registered_and_shown(swathe, card, settings, tmp_path):
    added = json.loads(swathe("add", card, "--json"))
    assert added["id"] == "mine"
    assert sorted(p.name for p in settings.card_folders[-1].iterdir()) == ["mine.yaml", "own.onnx"]
    assert settings.card_folders[-1] / "mine.yaml" in map(Path, added["files"])
    row = next(r for r in json.loads(swathe("--json")) if r["id"] == "mine")
    assert row["weights_path"] == str(settings.card_folders[-1] / "own.onnx")
    assert json.loads(swathe("show", "mine", "--json"))["registered"] is None

    done = json.loads(swathe("register", "mine", "--json"))
    assert (done["engine"], done["artefact"]["verdicts"]["openvino"]["passed"]) == ("openvino", True)
    shown = json.loads(swathe("show", "mine", "--json"))
    assert shown["registered"]["artefact"]["key"] == done["artefact"]["key"]
    text = swathe("show", "mine")
    assert "Mine [bold]and brackets" in text
    assert "onnxruntime" in text
    np.savez(tmp_path / "real.npz", tiles=np.ones((2, 1, 3, 32, 32)))
    assert "runs on openvino" in swathe("register", "mine", "--again", "--tiles", tmp_path / "real.npz")
    record = json.loads(swathe("show", "mine", "--json"))["registered"]["artefact"]
    assert record["verdicts"]["openvino"]["parity"]["real_tiles"] == 2


def test_nothing_is_added_twice_or_over_another(swathe, card, settings):
    swathe("add", card)
    with pytest.raises(CardError, match="already"):
        swathe("add", card)
    card.with_name("other.yaml").write_text(CARD.replace("id: mine", "id: other"))
    with pytest.raises(OutputError, match=r"own\.onnx exists"):
        swathe("add", card.with_name("other.yaml"))
    assert sorted(p.name for p in settings.card_folders[-1].iterdir()) == ["mine.yaml", "own.onnx"]


def test_a_bad_card_is_not_added(swathe, card, settings):
    card.write_text(CARD.replace("licence: Apache-2.0\n", ""))
    with pytest.raises(CardError, match="licence: is missing"):
        swathe("add", card)
    assert not settings.card_folders[-1].exists()


def test_a_folder_that_cannot_be_written_is_told(swathe, card, settings):
    settings.card_folders[-1].write_text("in the way")
    with pytest.raises(OutputError, match=r"exists|written|Not a directory"):
        swathe("add", card)
