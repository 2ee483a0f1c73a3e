"""Every engine against eager PyTorch on real exports; what they refuse; files of users."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from models.adapted import expect_probabilities, file_setup, open_file
from models.foreign import copy_into
from models.parity import trial_tiles
from models.predictor import lanes_of
from models.runtimes import Setup, expect_result, open_graph, setup_of
from swathe.errors import CardError, ModelError, UnsafeModelError, WeightsError

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")]

ENGINES = ("openvino", "onnxruntime", "torchexport", "torchscript")


@pytest.fixture(scope="module")
def setup(card_of):
    return setup_of(card_of(), threads=1, sha256="abc")


@pytest.fixture(scope="module")
def tiles(setup):
    return trial_tiles(setup.input)[:4]


@pytest.fixture(scope="module")
def eager(network_of, setup):
    from models.runtimes.eager import wrap

    return wrap(network_of(), setup)


@pytest.fixture(scope="module")
def graphs(network_of, setup, tmp_path_factory):
    """Path of an export per engine."""
    from models.export import export

    paths = {}
    for engine in ("openvino", "torchexport", "torchscript"):
        folder = tmp_path_factory.mktemp(engine)
        paths[engine] = folder / export(network_of(), setup, folder, engine).main
    return paths | {"onnxruntime": paths["openvino"]}


@pytest.fixture(params=ENGINES)
def predict(request, graphs, setup):
    return open_graph(request.param, graphs[request.param], setup)


def test_an_engine_gives_what_eager_gives(predict, eager, tiles):
    expected = eager(tiles).copy()
    got = predict(tiles)
    assert got.shape == (4, 3, 32, 32)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-5)


def test_a_call_depends_on_its_own_tiles_alone(predict, tiles):
    first = predict(tiles).copy()
    other = predict(tiles[::-1].copy()).copy()
    np.testing.assert_array_equal(predict(tiles), first)
    np.testing.assert_array_equal(other[::-1], first)


def test_an_engine_says_truly_what_it_is(request, predict):
    info = predict.info
    assert request.node.callspec.params["predict"] == info.engine
    assert (info.precision, info.device, info.threads, info.model_sha256) == ("fp32", "cpu", 1, "abc")
    assert info.versions


def test_more_threads_are_taken_when_asked_for(graphs, setup):
    for engine in ENGINES:
        assert open_graph(engine, graphs[engine], replace(setup, threads=2)).info.threads == 2


def test_lanes_run_side_by_side_and_give_the_bits_of_one(graphs, setup, tiles):
    alone = open_graph("openvino", graphs["openvino"], setup)
    lanes = lanes_of(open_graph("openvino", graphs["openvino"], replace(setup, threads=2, lanes=2)))
    expected = [alone(batch).copy() for batch in (tiles, tiles[::-1].copy())]
    assert len(lanes) == 2
    with ThreadPoolExecutor(2) as pool:
        for _ in range(20):
            both = [pool.submit(lane, batch) for lane, batch in zip(lanes, (tiles, tiles[::-1].copy()), strict=True)]
            for got, want in zip(both, expected, strict=True):
                np.testing.assert_array_equal(got.result(), want)
    assert lanes_of(alone) == (alone,)


@pytest.mark.parametrize(
    "shape", [(3, 2, 3, 32, 32), (4, 2, 3, 32, 64), (4, 3, 2, 32, 32), (4, 6, 32, 32), (4, 1, 6, 32, 32)]
)
def test_a_wrong_shape_is_refused(predict, shape):
    with pytest.raises(ModelError) as caught:
        predict(np.zeros(shape, np.float32))
    assert caught.value.problem.code == "model.shape"


def test_a_wrong_type_is_refused(predict, tiles):
    with pytest.raises(ModelError, match="float64"):
        predict(tiles.astype(np.float64))


def test_a_tile_that_is_not_finite_is_named(predict, tiles):
    bad = tiles.copy()
    bad[2, 0, 1, 5, 5] = np.nan
    with pytest.raises(ModelError, match=r"tile \[2\]") as caught:
        predict(bad)
    assert caught.value.problem.code == "model.nan"
    assert np.isfinite(predict(tiles)).all()


def test_tiles_that_do_not_lie_in_one_piece_are_taken_too(predict, tiles):
    expected = predict(tiles).copy()
    np.testing.assert_array_equal(predict(np.asfortranarray(tiles)), expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_broken_file_is_one_error(engine, graphs, setup, tmp_path):
    broken = tmp_path / graphs[engine].name
    broken.write_bytes(graphs[engine].read_bytes()[:200])
    with pytest.raises((ModelError, UnsafeModelError)):
        open_graph(engine, broken, setup)


def test_a_result_that_the_card_did_not_announce_is_refused(graphs, setup):
    for engine in ENGINES:
        predict = open_graph(engine, graphs[engine], replace(setup, output=(4, 5, 32, 32)))
        with pytest.raises(ModelError, match="announces") as caught:
            predict(np.zeros(setup.input, np.float32))
        assert caught.value.problem.code == "model.shape"


def test_only_axes_of_one_may_come_and_go():
    values = np.ones((2, 3), np.float32)
    assert expect_result(values, Setup((), (2, 3, 1, 1))).shape == (2, 3, 1, 1)
    with pytest.raises(ModelError):
        expect_result(np.ones((2, 8, 8, 3), np.float32), Setup((), (2, 3, 8, 8)))


def test_bf16_is_had_or_refused_but_never_pretended(graphs, setup, tiles, eager):
    import openvino

    asked = replace(setup, precision="bf16")
    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        predict = open_graph("openvino", graphs["openvino"], asked)
        assert predict.info.precision == "bf16"
        assert 0 < np.abs(predict(tiles) - eager(tiles)).max() < 0.05
    else:
        with pytest.raises(ModelError) as caught:
            open_graph("openvino", graphs["openvino"], asked)
        assert caught.value.problem.code == "model.precision"
        assert "fp32" in caught.value.hint
    with pytest.raises(ModelError, match="fp32 only"):
        open_graph("onnxruntime", graphs["onnxruntime"], asked)


LEAN = """
import json, os, sys, threading
from pathlib import Path
import numpy as np
from models.runtimes import Setup, open_graph
engine, path = sys.argv[1:]
predict = open_graph(engine, Path(path), Setup((4, 2, 3, 32, 32), (4, 3, 32, 32), threads=2))
predict(np.zeros((4, 2, 3, 32, 32), np.float32))
tasks = [p.read_text() for p in Path("/proc/self/task").glob("*/status")]
allowed = {line.split()[1] for task in tasks for line in task.splitlines() if line.startswith("Cpus_allowed_list")}
print(json.dumps({"torch": "torch" in sys.modules, "allowed": sorted(allowed), "threads": len(tasks)}))
"""


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_worker_needs_no_torch_and_pins_nothing(engine, graphs):
    done = subprocess.run(
        [sys.executable, "-c", LEAN, engine, str(graphs[engine])], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    assert not said["torch"]
    assert len(said["allowed"]) == 1, "a thread is bound to fewer cores than the process"


@pytest.mark.slow
def test_aotinductor_gives_what_eager_gives_and_is_guarded(network_of, setup, tiles, eager, tmp_path):
    from models.export import export

    exported = export(network_of(), setup, tmp_path, "aotinductor")
    predict = open_graph("aotinductor", tmp_path / exported.main, setup)
    np.testing.assert_allclose(predict(tiles), eager(tiles), atol=1e-5)
    # The package itself would read past the end of three tiles and answer for four.
    with pytest.raises(ModelError) as caught:
        predict(tiles[:3].copy())
    assert caught.value.problem.code == "model.shape"


def test_large_weights_lie_beside_the_graph(network_of, setup, tiles, eager, tmp_path, monkeypatch):
    from models import export

    monkeypatch.setattr(export, "LARGEST_PROTOBUF", 0)
    exported = export.export(network_of(), setup, tmp_path, "openvino")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    for engine in ("openvino", "onnxruntime"):
        predict = open_graph(engine, tmp_path / exported.main, setup)
        np.testing.assert_allclose(predict(tiles), eager(tiles), atol=1e-5)


# Files of users


def user_card(card_of, file, **network):
    return card_of(adapter="artefact", weights=None, network={"file": str(file), **network})


def save_onnx(network, example, path, **options):
    import torch

    torch.onnx.export(network, (example,), path, dynamo=True, verbose=False, **options)
    return path


@pytest.mark.parametrize(("layout", "shape"), [("NCHW", (4, 6, 32, 32)), ("NTCHW", (4, 2, 3, 32, 32))])
def test_axes_and_logits_of_users_are_fitted(  # noqa: PLR0917  fixtures
    layout, shape, card_of, network_of, setup, tiles, eager, tmp_path
):
    import torch

    path = save_onnx(network_of(end="nothing"), torch.zeros(shape), tmp_path / "own.onnx")
    card = user_card(card_of, path, input_layout=layout, output="logits")
    for engine in ("openvino", "onnxruntime"):
        predict = open_file(card, engine, path, setup)
        assert predict.info.engine == engine
        np.testing.assert_allclose(predict(tiles), eager(tiles), atol=1e-5)


def test_channels_before_dates_are_fitted(card_of, network_of, setup, tiles, eager, tmp_path):
    import torch

    inner = network_of()

    class ChannelsFirst(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, cube):
            return self.inner(cube.transpose(1, 2))

    path = tmp_path / "own.ts"
    torch.jit.save(torch.jit.trace(ChannelsFirst(), torch.zeros(4, 3, 2, 32, 32)), path)
    predict = open_file(user_card(card_of, path, input_layout="NCTHW"), "torchscript", path, setup)
    np.testing.assert_allclose(predict(tiles), eager(tiles), atol=1e-5)
    with pytest.raises(ModelError):
        predict(tiles.swapaxes(1, 2).copy())


def test_one_channel_may_stand_for_two_classes(card_of, network_of, tiles, tmp_path):
    import torch

    from models.runtimes.eager import wrap

    network = network_of(end="nothing", channels=1)
    path = save_onnx(network, torch.zeros(4, 2, 3, 32, 32), tmp_path / "own.onnx")
    two = {"classes": [{"value": v, "name": str(v), "colour": "#000000"} for v in (0, 1)]}
    card = user_card(card_of, path, output="logits", binary=True).model_copy(
        update={"output": type(card_of().output).model_validate(two)}
    )
    asked = setup_of(card)
    logits = wrap(network, replace(asked, output=(4, 1, 32, 32)))(tiles)
    got = open_file(card, "openvino", path, asked)(tiles)
    np.testing.assert_allclose(got[:, 1], 1 / (1 + np.exp(-logits[:, 0].astype(np.float64))), atol=1e-6)
    np.testing.assert_allclose(got.sum(axis=1), 1, atol=1e-6)


def test_logits_are_not_taken_for_probabilities(network_of, setup, tiles):
    from models.runtimes.eager import wrap

    with pytest.raises(CardError, match="no probabilities") as caught:
        expect_probabilities(wrap(network_of(end="nothing"), setup)(tiles))
    assert "logits" in caught.value.hint
    expect_probabilities(wrap(network_of(), setup)(tiles))


@pytest.mark.parametrize(
    ("network", "error", "word"),
    [
        ({"file": "own.pt2"}, UnsafeModelError, "any code"),
        ({"file": "own.pkl", "kind": "onnx"}, UnsafeModelError, "any code"),
        ({"file": "own.bin"}, CardError, "neither"),
        ({"file": "own.onnx", "layout": "NCHW"}, CardError, "layout"),
        ({"file": "own.onnx", "output": "values"}, CardError, "probabilities or logits|segmentation"),
        ({"file": "own.onnx", "binary": True}, CardError, "two classes"),
    ],
)
def test_a_block_that_does_not_hold_together_is_refused(network, error, word, card_of, setup, tmp_path):
    from models.artefact import candidates

    card = card_of(adapter="artefact", weights=None, network=network)
    with pytest.raises(error, match=word):
        candidates(card, "cpu")


def test_a_graph_with_two_inputs_is_refused(card_of, setup, tmp_path):
    import onnx
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, setup.input) for n in ("a", "b", "c")]
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "two", ends[:2], ends[2:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "o.onnx")
    for engine in ("openvino", "onnxruntime"):
        with pytest.raises(ModelError, match="2 inputs"):
            open_graph(engine, tmp_path / "o.onnx", setup)


@pytest.fixture
def outside(graphs, tmp_path):
    """An ONNX file with external data, and a way to say where that lies."""
    import onnx

    folder = tmp_path / "own"
    folder.mkdir()
    model = onnx.load(graphs["openvino"])
    onnx.save(model, folder / "own.onnx", save_as_external_data=True, location="own.onnx.data", size_threshold=1024)

    def point(location):
        model = onnx.load(folder / "own.onnx", load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        onnx.save(model, folder / "own.onnx")
        return folder / "own.onnx"

    return point


def test_external_data_beside_the_file_is_taken_along(outside, setup, tiles, eager, tmp_path):
    target = tmp_path / "cache"
    target.mkdir()
    copy = copy_into(target, outside("own.onnx.data"), "onnx")
    assert sorted(p.name for p in target.iterdir()) == ["own.onnx", "own.onnx.data"]
    for engine in ("openvino", "onnxruntime"):
        np.testing.assert_allclose(open_graph(engine, copy, setup)(tiles), eager(tiles), atol=1e-5)


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "sub/own.onnx.data", "other.bin", "..", "./../secret"]
)
def test_external_data_elsewhere_is_refused(location, outside, tmp_path):
    (tmp_path / "secret").write_bytes(b"x" * 10_000)
    with pytest.raises(UnsafeModelError) as caught:
        copy_into(tmp_path, outside(location), "onnx")
    assert caught.value.problem.code == "model.unsafe.path"
    assert location in caught.value.detail


def test_external_data_that_is_a_link_is_refused(outside, tmp_path):
    path = outside("own.onnx.data")
    (path.parent / "own.onnx.data").unlink()
    (path.parent / "own.onnx.data").symlink_to("/etc/passwd")
    with pytest.raises(UnsafeModelError):
        copy_into(tmp_path, path, "onnx")


def test_external_data_that_is_missing_is_told(outside, tmp_path):
    path = outside("own.onnx.data")
    (path.parent / "own.onnx.data").unlink()
    with pytest.raises(WeightsError, match=r"own\.onnx\.data"):
        copy_into(tmp_path, path, "onnx")


def test_external_data_in_a_subgraph_is_seen(tmp_path):
    from onnx import TensorProto, helper

    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../secret")
    inner = helper.make_graph([helper.make_node("Constant", [], ["y"], value=tensor)], "inner", [], [])
    node = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    model = helper.make_model(helper.make_graph([node], "outer", [], []))
    (tmp_path / "own.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(UnsafeModelError, match="secret"):
        copy_into(tmp_path, tmp_path / "own.onnx", "onnx")


def test_what_is_no_onnx_is_told(tmp_path):
    (tmp_path / "own.onnx").write_bytes(b"\xff" * 100)
    (tmp_path / "cache").mkdir()
    with pytest.raises(ModelError, match="no ONNX"):
        copy_into(tmp_path / "cache", tmp_path / "own.onnx", "onnx")


class Evil:
    def __reduce__(self):
        return os.mkdir, (Evil.at,)


def pickles(tmp_path):
    import torch

    Evil.at = str(tmp_path / "pwned")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Evil()))
    torch.save(Evil(), tmp_path / "zipped.pt")
    torch.save({"w": torch.zeros(2)}, tmp_path / "weights.pt")
    (tmp_path / "text.pt").write_text("hello")
    return [tmp_path / f"{name}.pt" for name in ("raw", "zipped", "weights", "text")]


def test_pickles_are_not_loaded(setup, tmp_path):
    for path in pickles(tmp_path):
        with pytest.raises(UnsafeModelError) as caught:
            open_graph("torchscript", path, setup)
        assert caught.value.problem.code == "model.unsafe.pickle"
    assert not (tmp_path / "pwned").exists()


def test_scripts_that_reach_out_are_refused(setup, tmp_path):
    import torch

    class Reads(torch.nn.Module):
        def forward(self, tiles):
            return tiles + torch.from_file("/etc/passwd", shared=False, size=1, dtype=torch.float32)

    class Writes(torch.nn.Module):
        def forward(self, tiles):
            torch.save(tiles, "stolen")
            return tiles

    torch.jit.save(torch.jit.trace(Reads(), torch.zeros(1), check_trace=False), tmp_path / "reads.ts")
    torch.jit.save(torch.jit.script(Writes()), tmp_path / "writes.ts")
    for name in ("reads", "writes"):
        with pytest.raises(UnsafeModelError) as caught:
            open_graph("torchscript", tmp_path / f"{name}.ts", setup)
        assert caught.value.problem.code == "model.unsafe.script"
    assert not (tmp_path / "stolen").exists()


def test_the_file_sees_its_own_axes(card_of, setup):
    from models.adapted import block_of

    card = user_card(card_of, "own.onnx", input_layout="NCHW")
    assert file_setup(block_of(card), setup).input == (4, 6, 32, 32)
