"""Registration and the cache: keys, fallbacks, parity, the other process and what it says when it fails."""

from __future__ import annotations

import fcntl
import json
import resource
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.artefact import Artefact, Verdict, candidates, find, key_of, read, store
from models.load import Ready, bring, device_of, ensure, load
from models.parity import compare, objection, read_tiles, trial_tiles
from models.register import REQUEST, Job, Request, choose
from models.runtimes import open_graph, setup_of
from models.trial import Trial, race, refer, try_engine
from models.weights import FetchedWeights, ModelHome
from swathe.card import Weights
from swathe.errors import CardError, ImageryError, InputError, Interrupted, ModelError, UnsafeModelError, WeightsError

needs_torch = pytest.mark.torch


@pytest.fixture(autouse=True)
def _short_timings(monkeypatch):
    monkeypatch.setattr("models.trial.TIMED_S", 0.02)


# Keys and the cache


def test_a_key_follows_what_shapes_the_network(card_of, home):
    card = card_of()
    key = key_of(card, home, "onnx", "cpu")
    assert key == key_of(card_of(), home, "onnx", "cpu")
    assert key != key_of(card, home, "pt2", "cpu")
    assert key != key_of(card, home, "onnx", "cuda")
    eats = {"bands": ["green", "red", "nir"], "times": 2, "chip": 32, "overlap": 8}
    changed = [
        {"weights": {"uri": "small.pt", "sha256": "1" * 64}},
        {"network": {"factory": "x"}},
        {"input": eats | {"chip": 64}},
        {"input": eats | {"times": 1}},
        {"input": eats | {"bands": ["red", "green", "nir"]}},
        {"resources": {"batch": 8}},
        {"runtime": {"precision": "bf16"}},
    ]
    keys = {key_of(card_of(**parts), home, "onnx", "cpu") for parts in changed}
    assert len(keys | {key}) == len(changed) + 1


def test_a_key_does_not_follow_words(card_of, home):
    eats = {"bands": ["green", "red", "nir"], "times": 2, "chip": 32, "overlap": 4, "mean": [1, 2, 3], "scale": 10000}
    same = [{"title": "else"}, {"licence": "MIT"}, {"input": eats}, {"resources": {"batch": 4, "cpu": 2}}]
    same.append({"runtime": {"engine": "openvino"}})
    assert {key_of(card_of(**parts), home, "onnx", "cpu") for parts in same} == {key_of(card_of(), home, "onnx", "cpu")}


def test_a_key_follows_the_files_that_the_card_names(card_of, home, tmp_path):
    origin = tmp_path / "small.yaml"
    card = card_of(origin, network={"config": "net.yaml"}, weights={"uri": "small.pt"})
    assert key_of(card, home, "onnx", "cpu") is None, "the weights are not known yet"
    (tmp_path / "small.pt").write_bytes(b"1")
    keys = [key_of(card, home, "onnx", "cpu")]
    for name, content in (("net.yaml", b"a"), ("net.yaml", b"b"), ("small.pt", b"2")):
        (tmp_path / name).write_bytes(content)
        keys.append(key_of(card, home, "onnx", "cpu"))
    assert None not in keys
    assert len(set(keys)) == 4


def kept(card, home, family, main="model.onnx", **verdicts):
    folder = home.cache / "draft"
    folder.mkdir(parents=True, exist_ok=True)
    if main:
        (folder / main).write_bytes(b"graph")
    record = Artefact(
        key=key_of(card, home, family, "cpu"), card=card.id, card_sha256="", weights_sha256="0" * 64, verified=True,
        family=family, precision="fp32", device="cpu", threads=1, main=main, verdicts=verdicts,
    )  # fmt: skip
    return store(record, folder, home)


YES, NO = Verdict(passed=True), Verdict(passed=False, reason="numbers differ")


def test_what_is_stored_is_found_again(card_of, home):
    card = card_of()
    assert find(card, home) is None
    stored = kept(card, home, "onnx", openvino=YES, onnxruntime=YES)
    found = find(card, home)
    assert found.engine == "openvino"
    assert found.artefact == stored
    assert found.artefact.path.read_bytes() == b"graph"
    assert find(card_of(runtime={"engine": "onnxruntime"}), home).engine == "onnxruntime"
    assert sorted(p.name for p in home.artefacts.iterdir()) == [stored.key]


def test_storing_again_replaces(card_of, home):
    kept(card_of(), home, "onnx", openvino=NO, onnxruntime=YES)
    assert find(card_of(), home).engine == "onnxruntime"
    kept(card_of(), home, "onnx", openvino=YES, onnxruntime=YES)
    assert find(card_of(), home).engine == "openvino"


def test_a_damaged_artefact_is_none(card_of, home):
    stored = kept(card_of(), home, "onnx", openvino=YES)
    stored.path.write_bytes(b"half")
    assert find(card_of(), home) is None
    stored = kept(card_of(), home, "onnx", openvino=YES)
    (stored.folder / "artefact.json").write_text("{")
    assert find(card_of(), home) is None
    assert read(card_of(), home, "onnx", "cpu") is None


def test_a_refused_family_leads_down_the_chain(card_of, home):
    kept(card_of(), home, "onnx", main="", openvino=NO, onnxruntime=NO)
    assert find(card_of(), home) is None, "the next family has not been tried"
    kept(card_of(), home, "pt2", main="model.pt2", torchexport=YES)
    assert find(card_of(), home).engine == "torchexport"
    kept(card_of(), home, "pt2", main="", torchexport=NO)
    found = find(card_of(), home)
    assert (found.engine, found.artefact) == ("eager", None)


def test_an_engine_that_was_insisted_on_and_refused_is_an_error(card_of, home):
    kept(card_of(), home, "onnx", openvino=NO, onnxruntime=YES)
    with pytest.raises(ModelError, match="numbers differ") as caught:
        find(card_of(runtime={"engine": "openvino"}), home)
    assert caught.value.problem.code == "model.refused"
    assert caught.value.field == "runtime.engine"


def test_the_chain_fits_the_device_and_the_file(card_of):
    assert candidates(card_of(), "cpu") == ("openvino", "onnxruntime", "torchexport", "eager")
    assert candidates(card_of(), "cuda") == ("torchexport", "eager")
    own = {"adapter": "artefact", "weights": None, "network": {"file": "own.onnx"}}
    assert candidates(card_of(**own), "cpu") == ("openvino", "onnxruntime")
    with pytest.raises(CardError, match="torchscript cannot run"):
        candidates(card_of(**own, runtime={"engine": "torchscript"}), "cpu")


def test_a_file_is_named_once(card_of, home):
    for parts in ({"weights": None}, {"adapter": "artefact", "network": {"file": "own.onnx"}}):
        with pytest.raises(CardError, match="give one of"):
            find(card_of(**parts), home)


# Parity


def naive(reference, result):
    """Flips and the widest margin, pixel by pixel."""
    flips, widest = 0, 0.0
    for m, i, j in np.ndindex(reference.shape[0], *reference.shape[2:]):
        old, new = reference[m, :, i, j], result[m, :, i, j]
        if old.argmax() != new.argmax():
            flips += 1
            second, first = np.sort(old)[-2:]
            widest = max(widest, float(first - second))
    return flips, widest


def test_differences_are_those_of_a_plain_loop():
    random = np.random.default_rng(1)
    reference = random.random((3, 4, 9, 7), dtype=np.float32)
    result = reference + random.normal(0, 0.05, reference.shape).astype(np.float32)
    got = compare(reference, result, classes=True)
    flips, widest = naive(reference, result)
    assert (got.flips, got.widest_margin) == (flips, pytest.approx(widest))
    assert got.max_abs == pytest.approx(np.abs(result - reference).max())
    assert got.flips_ppm == pytest.approx(1e6 * flips / (3 * 9 * 7))
    assert compare(reference, reference, classes=True).flips == 0


def probabilities(*first):
    return np.stack([np.array(first, np.float32), 1 - np.array(first, np.float32)])[None, :, None]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (0.0, ""),
        (9e-5, ""),
        (2e-4, "numbers differ"),
        (np.nan, "numbers differ"),
    ],
)
def test_numbers_may_differ_by_a_little(change, word):
    reference = probabilities(*np.linspace(0.6, 0.9, 100))
    assert word in (said := objection(compare(reference, reference + np.float32(change), classes=True), "fp32"))
    assert bool(said) == bool(word)


@pytest.mark.parametrize(
    ("margin", "flipped", "word"),
    [
        (5e-5, 1, ""),  # one tie in 200 000 pixels
        (5e-5, 3, "pixels per million"),
        (1.6e-4, 1, "apart"),
        (5e-6, 1000, ""),  # a network that has learned nothing yet
    ],
)
def test_a_few_ties_may_flip(margin, flipped, word):
    first = np.full(200_000, 0.9)
    first[:flipped] = 0.5 + margin / 2
    reference = probabilities(*first)
    result = reference.copy()
    result[0, :, 0, :flipped] = reference[0, ::-1, 0, :flipped] + np.float32([[0], [1e-6]])
    if margin > 1e-4:  # stay below the limit on numbers
        result[0, :, 0, :flipped] = np.float32([[0.49999], [0.50001]])
    said = objection(compare(reference, result, classes=True), "fp32")
    assert word in said
    assert bool(said) == bool(word)
    assert objection(compare(reference, result, classes=True), "bf16") == ""


def test_values_are_measured_by_the_largest():
    reference = np.float32([[[[1000.0, 2000.0]]]])
    assert compare(reference, reference + np.float32(0.1), classes=False).max_abs == pytest.approx(5e-5, rel=0.05)
    assert objection(compare(reference, reference + 1, classes=False), "fp32")


def test_trial_tiles_are_whole_batches_and_the_same_each_time():
    tiles = trial_tiles((3, 2, 3, 16, 16))
    assert tiles.shape == (18, 2, 3, 16, 16)
    np.testing.assert_array_equal(tiles, trial_tiles((3, 2, 3, 16, 16)))
    assert np.isfinite(tiles).all()
    real = np.full((2, 2, 3, 16, 16), 7, np.float32)
    assert trial_tiles((3, 2, 3, 16, 16), real).shape == (21, 2, 3, 16, 16)
    neighbours = [np.corrcoef(t[0, 0, :, 1:].ravel(), t[0, 0, :, :-1].ravel())[0, 1] for t in tiles[:2]]
    assert abs(neighbours[0]) < 0.3
    assert neighbours[1] > 0.8


def test_real_tiles_have_to_fit(tmp_path):
    path = tmp_path / "tiles.npz"
    np.savez(path, tiles=np.zeros((5, 2, 3, 8, 8)))
    assert read_tiles(path, (4, 2, 3, 8, 8)).dtype == np.float32
    for name, wanted in ((path, (4, 2, 3, 9, 9)), (tmp_path / "none.npz", (4, 2, 3, 8, 8))):
        with pytest.raises(ImageryError):
            read_tiles(name, wanted)
    path.write_bytes(b"x")
    with pytest.raises(ImageryError):
        read_tiles(path, (4, 2, 3, 8, 8))


def test_a_race_is_of_turns():
    import time

    def runner(seconds):
        def run(batch):
            time.sleep(seconds)
            return batch

        return run

    pace = race(runner(0.002), runner(0.006), np.zeros((2, 1), np.float32))
    assert pace.ratio == pytest.approx(3, rel=0.4)
    assert pace.ms == pytest.approx(1, rel=0.6)
    assert pace.reference_ms == pytest.approx(3, rel=0.6)


# Choosing an engine, with real exports


@pytest.fixture
def job_of(home, tmp_path):
    def make(card, **parts):
        said = []
        setup = setup_of(card, 1, sha256="0" * 64)
        job = Job(card, home, "cpu", FetchedWeights(tmp_path, "0" * 64, True), setup, said.append, **parts)
        return job, said

    return make


@needs_torch
@pytest.mark.slow
def test_openvino_is_chosen_and_the_record_says_why(card_of, network_of, home, job_of):
    real = np.ones((1, 2, 3, 32, 32), np.float32)
    job, said = job_of(card_of(), real=real)
    found = choose(job, network_of())
    assert found.engine == "openvino"
    assert find(card_of(), home) == found
    record = json.loads((found.artefact.folder / "artefact.json").read_text())
    assert record["weights_sha256"] == "0" * 64
    assert record["opset"] == 20
    assert {"torch", "onnx", "onnxscript", "terratorch"} <= record["versions"].keys()
    for engine in ("openvino", "onnxruntime"):
        verdict = record["verdicts"][engine]
        assert verdict["passed"]
        assert verdict["ms_per_tile"] > 0
        assert verdict["reference_ms_per_tile"] > 0
        assert verdict["times_faster"] > 0
        assert verdict["parity"]["batches"] == [1, 3, 4]
        assert (verdict["parity"]["tiles"], verdict["parity"]["real_tiles"]) == (20, 1)
        assert verdict["parity"]["max_abs_diff"] < 1e-5
    assert "comparing openvino with the original" in said


@needs_torch
@pytest.mark.slow
def test_a_wrong_export_is_refused(card_of, network_of, tmp_path):
    from models.export import export
    from models.runtimes.eager import wrap

    setup = setup_of(card_of())
    exported = export(network_of(seed=1), setup, tmp_path, "openvino")
    reference = refer("eager", wrap(network_of(seed=0), setup), trial_tiles(setup.input), True, 4)
    verdict = try_engine("openvino", Trial(tmp_path / exported.main, setup, True, reference))
    assert not verdict.passed
    assert "numbers differ" in verdict.reason
    assert verdict.parity.max_abs_diff > 1e-4
    assert verdict.ms_per_tile is None


@pytest.mark.slow
@needs_torch
def test_what_onnx_cannot_say_goes_to_an_exported_program(card_of, network_of, home, job_of):
    import torch

    def beyond_onnx(x):
        return x * torch.linalg.eigvalsh(x[:, :1, :4, :4] @ x[:, :1, :4, :4].mT).sum(-1)[..., None, None].clamp(1, 2)

    job, said = job_of(card_of())
    found = choose(job, network_of(inner=beyond_onnx))
    assert found.engine == "torchexport"
    assert found.artefact.verdicts["torchexport"].passed
    refused = read(card_of(), home, "onnx", "cpu")
    assert refused.main == ""
    assert "export" in refused.verdicts["openvino"].reason
    assert find(card_of(), home) == found
    assert any(line.startswith("onnxruntime is out") for line in said)


@needs_torch
def test_what_cannot_be_exported_runs_eager(card_of, network_of, home, job_of):
    def depends_on_its_numbers(x):
        return x + 1 if float(x.detach().double().sum()) > 0 else x.flip(-1)

    job, _ = job_of(card_of())
    assert choose(job, network_of(inner=depends_on_its_numbers)).engine == "eager"
    assert find(card_of(), home).engine == "eager"
    insisting = card_of(runtime={"engine": "torchexport"})
    with pytest.raises(ModelError) as caught:
        choose(replace(job, card=insisting), network_of(inner=depends_on_its_numbers))
    assert caught.value.problem.code == "model.refused"


@needs_torch
def test_a_baked_in_batch_is_exported_as_it_is(card_of, network_of, job_of):
    import torch

    def tile_by_tile(x):
        return torch.cat([x[i : i + 1] * (i + 1) for i in range(x.shape[0])])

    job, _ = job_of(card_of())
    found = choose(job, network_of(inner=tile_by_tile))
    assert found.engine == "openvino"
    assert not found.artefact.dynamic
    assert found.artefact.verdicts["openvino"].parity.batches == (4,)


@needs_torch
def test_bf16_is_measured_against_fp32(card_of, network_of, tmp_path):
    import torch

    from models.export import export
    from models.runtimes.eager import in_precision, wrap

    setup = setup_of(card_of())
    # An exported program in which the precision is part of the graph; any CPU can emulate it.
    network = in_precision(network_of(), "bf16", "cpu")
    exported = export(network, setup, tmp_path, "torchexport")
    reference = refer("eager", wrap(network_of(), setup), trial_tiles(setup.input), True, 4)
    trial = Trial(tmp_path / exported.main, setup, exported.dynamic, reference)
    verdict = try_engine("torchexport", trial)
    assert verdict.parity.max_abs_diff > 1e-4
    assert not verdict.passed, "as fp32 it would not do"
    assert objection(compare(reference.results, reference.results + 0.01, True), "bf16") == ""
    assert "bf16 explains" in objection(compare(reference.results, 1 - reference.results, True), "bf16")
    assert objection(compare(reference.results, reference.results * np.nan, True), "bf16")
    with torch.inference_mode():
        assert network(torch.zeros(setup.input)).dtype == torch.float32


# The other process


def own(card_of, folder, **parts):
    """Card of a user's ONNX file beside it: a water index by hand, as logits."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(exist_ok=True)
    mix = np.random.default_rng(0).normal(size=(3, 6, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        "own",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3, 32, 32])],
        [numpy_helper.from_array(mix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, folder / "own.onnx")
    network = {"file": "own.onnx", "input_layout": "NCHW", "output": "logits"}
    said = {"adapter": "artefact", "weights": None, "network": network} | parts
    return card_of(folder / "small.yaml", **said), mix[:, :, 0, 0]


@pytest.mark.slow
def test_a_file_of_a_user_is_registered_once_and_runs(card_of, home, tmp_path):
    card, mix = own(card_of, tmp_path / "mine")
    said = []
    ready = ensure(card, home, say=said.append)
    assert (ready.engine, ready.device, ready.card.runtime.engine) == ("openvino", "cpu", "openvino")
    assert ready.artefact.verdicts["openvino"].parity.reference == "onnxruntime"
    assert "comparing openvino with the original" in said
    assert ensure(ready.card, home, say=pytest.fail).artefact == ready.artefact

    tiles = np.random.default_rng(1).normal(size=(4, 2, 3, 32, 32)).astype(np.float32)
    logits = np.einsum("kc,nchw->nkhw", mix, tiles.reshape(4, 6, 32, 32))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predict = load(ready.card, home, threads=1)
    np.testing.assert_allclose(predict(tiles), expected, atol=1e-6)
    assert predict.info.model_sha256 == ready.artefact.weights_sha256

    (tmp_path / "mine" / "own.onnx").write_bytes(b"trained again")
    with pytest.raises(WeightsError) as caught:
        ensure(card, home)
    assert caught.value.problem.code == "weights.changed"


DRIVER = """
import sys
from pathlib import Path
from models.load import REQUEST, ensure, load
request = REQUEST.validate_json(sys.stdin.read())
card = request.card.model_copy(update={"origin": request.origin})
ready = ensure(card, request.home)
load(ready.card, request.home, threads=1)
heavy = {"torch", "terratorch", "onnx", "ray", "rasterio", "pandas"} & sys.modules.keys()
print(ready.engine, sorted(heavy))
"""


@pytest.mark.slow
def test_the_driver_never_holds_torch(card_of, home, tmp_path):
    from models.load import REQUEST, Request

    card, _ = own(card_of, tmp_path / "mine")
    request = REQUEST.dump_json(Request(card, home, card.origin))
    done = subprocess.run([sys.executable, "-c", DRIVER], input=request, capture_output=True, check=True)
    assert done.stdout.decode().split("\n")[0] == "openvino []"


def test_a_registration_that_is_no_longer_wanted_ends(card_of, home, tmp_path):
    """Its process is stopped wherever it is, and takes away what it has begun."""
    (tmp_path / "small.pt").write_bytes(b"weights")
    card = card_of(tmp_path / "small.yaml", weights={"uri": "small.pt"})
    said, began = [], time.monotonic()

    def check():
        if said:
            raise Interrupted("stop")

    with pytest.raises(Interrupted):
        ensure(card, home, say=said.append, check=check)
    assert said[0] == "weights small.pt"
    assert time.monotonic() - began < 30
    assert [path.name for path in home.artefacts.iterdir() if not path.name.endswith(".lock")] == []


def test_a_cache_that_cannot_be_written_to_is_one_problem(card_of, home, tmp_path):
    """A file in the way stands for a disk that takes nothing."""
    card, _ = own(card_of, tmp_path / "mine")
    home.cache.mkdir()
    home.artefacts.write_text("in the way")
    with pytest.raises(WeightsError, match="models cannot be kept below") as caught:
        ensure(card, home)
    assert (caught.value.problem.code, "SWATHE_DATA_DIR" in caught.value.hint) == ("weights.cache", True)


def test_a_full_disk_under_a_registration_is_one_problem(card_of, home, tmp_path):
    """In a process of its own no file may grow beyond a few kB, which fails just as a full disk does."""
    card, _ = own(card_of, tmp_path / "mine")
    request = REQUEST.dump_json(Request(card, home, card.origin, "cpu", None))
    done = subprocess.run(
        [sys.executable, "-m", "models.register", card.id], input=request, capture_output=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200)),
    )  # fmt: skip
    said = json.loads(done.stdout.decode().splitlines()[-1])
    assert (said["event"], said["code"]) == ("problem", "weights.cache"), done.stderr.decode()[-500:]
    assert done.returncode == 2
    assert not list(home.artefacts.glob("*/*"))


@pytest.mark.slow
def test_weights_are_brought_where_they_are_needed_alone(card_of, home, tmp_path):
    """A model whose artefact is here starts without them, as on a machine without a network."""
    card, _ = own(card_of, tmp_path / "mine")
    far = card.model_copy(update={"network": {k: v for k, v in card.network.items() if k != "file"},
                                  "weights": Weights(uri="https://example.org/own.onnx", sha256="0" * 64)})  # fmt: skip
    with pytest.raises(WeightsError) as caught:
        bring(far, home)
    assert caught.value.problem.code == "weights.missing"
    said = []
    bring(card, home, say=said.append)
    assert said == ["weights own.onnx"]
    ensure(card, home)
    bring(card, home, say=said.append)
    assert len(said) == 1


def test_nobody_has_to_wait_for_what_another_registers(card_of, home, tmp_path):
    """A job that is cancelled while another one's export goes on ends at once."""
    card, _ = own(card_of, tmp_path / "mine")
    home.artefacts.mkdir(parents=True)
    asked, began = [], time.monotonic()

    def check():
        asked.append(time.monotonic())
        if asked[-1] - began > 1:
            raise Interrupted("stop")

    with (home.artefacts / f".{card.id}-cpu.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Interrupted):
            ensure(card, home, check=check)
    assert time.monotonic() - began < 10


@pytest.mark.slow
def test_two_who_come_at_once_register_once(card_of, home, tmp_path):
    card, _ = own(card_of, tmp_path / "mine")
    said, ready = [], []
    threads = [threading.Thread(target=lambda: ready.append(ensure(card, home, say=said.append))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.engine for r in ready] == ["openvino"] * 3
    assert said.count("looking at the file") == 1


def test_a_problem_there_is_the_same_problem_here(card_of, home, tmp_path):
    card, _ = own(card_of, tmp_path / "mine")
    claims = card.model_copy(update={"network": card.network | {"output": "probabilities"}})
    with pytest.raises(CardError) as caught:
        ensure(claims, home)
    assert caught.value.problem.field == "network.output"
    assert "logits" in caught.value.problem.hint
    (tmp_path / "mine" / "own.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="no ONNX file") as caught:
        ensure(card, replace(home, cache=tmp_path / "other"))
    assert caught.value.problem.code == "model.load"


def test_missing_weights_are_told_without_another_process(card_of, home, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    with pytest.raises(WeightsError, match="offline") as caught:
        ensure(card_of(weights={"uri": "hf://owner/repo/net.pt"}), home)
    assert caught.value.problem.code == "weights.missing"


def test_a_registration_that_breaks_is_one_error(card_of, home, tmp_path, monkeypatch):
    card, _ = own(card_of, tmp_path / "mine")
    script = tmp_path / "broken"
    script.write_text("#!/bin/sh\ncat > /dev/null\necho out of memory >&2\nkill -9 $$\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    with pytest.raises(ModelError, match="signal 9: out of memory") as caught:
        ensure(card, home)
    assert caught.value.problem.code == "model.register"


def test_bf16_is_refused_before_anything_is_done(card_of, home):
    import openvino

    if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this CPU has bf16")
    with pytest.raises(InputError) as caught:
        ensure(card_of(runtime={"precision": "bf16"}), home)
    assert caught.value.problem.code == "model.precision"


def test_a_graphics_card_is_only_asked_for_where_there_is_one(card_of):
    assert device_of(card_of(resources={"gpu": 0})) == "cpu"
    assert device_of(card_of(resources={"gpu": 1}, runtime={"engine": "openvino"})) == "cpu"
    if not Path("/dev/nvidiactl").exists():
        assert device_of(card_of(resources={"gpu": 1})) == "cpu"


def test_an_engine_that_is_not_installed_is_named(card_of, home, monkeypatch):
    stored = kept(card_of(), home, "onnx", openvino=YES)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ModelError, match="openvino needs openvino") as caught:
        open_graph("openvino", stored.path, setup_of(card_of()))
    assert caught.value.problem.code == "model.engine"


def test_a_pickle_is_refused_by_the_other_process(card_of, home, tmp_path):
    import pickle

    (tmp_path / "own.pt").write_bytes(pickle.dumps({"a": 1}))
    card = card_of(tmp_path / "small.yaml", adapter="artefact", weights=None, network={"file": "own.pt"})
    with pytest.raises(UnsafeModelError) as caught:
        ensure(card, home)
    assert caught.value.problem.code == "model.unsafe.pickle"


def test_formulas_need_nothing(home):
    from models.registry import default_folders, load_cards

    card = load_cards(default_folders())["water-mndwi"]
    assert ensure(card, home) == Ready(card, "formula", "cpu")
    assert load(card, home, threads=1).info.engine == "formula"


@pytest.mark.slow
@needs_torch
def test_a_terratorch_card_is_registered_and_gives_what_eager_gives(tmp_path):
    """The whole way: TerraTorch's Prithvi tiny with seeded weights, exported in the other process."""
    from models.registry import default_folders, load_cards
    from models.terratorch import write_random_checkpoint

    card = load_cards(default_folders())["prithvi-eo-v2-tiny-upernet"]
    card = card.model_copy(update={"resources": card.resources.model_copy(update={"batch": 2})})
    home = ModelHome(tmp_path / "cache", offline=True)
    home.by_hand.mkdir(parents=True)
    write_random_checkpoint(card, home.by_hand / card.weights.uri, seed=0)
    ready = ensure(card, home)
    assert ready.engine == "openvino"
    tiles = trial_tiles(setup_of(card).input)[:2]
    eager = load(card.model_copy(update={"runtime": card.runtime.model_copy(update={"engine": "eager"})}), home, 1)
    assert eager.info.engine == "eager"
    np.testing.assert_allclose(load(ready.card, home, 1)(tiles), eager(tiles), atol=1e-4)
