"""Whole runs: every driver, every cut and every resumed run give the same products."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio
from rasterio.windows import from_bounds
from rio_cogeo.cogeo import cog_validate

from cluster.resources import layout
from models.load import load
from pipelines.begin import begin, look
from pipelines.imagery.gdal import Access
from pipelines.ledger import Ledger, Receipt, read_receipt
from pipelines.process import process
from pipelines.ray_data import RayData
from pipelines.receipt import outdated
from pipelines.runner import Loop
from pipelines.worker import Order
from swathe.errors import Interrupted, OutputError
from swathe.recipe import Recipe
from swathe.state import State

SAME = ("result.tif", "score.tif", "features.parquet", "features.geojson")
ROOT = Path(__file__).resolve().parent.parent.parent


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def assert_same_bytes(one, other, names=SAME):
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@pytest.fixture(scope="module")
def looped(go, tmp_path_factory):
    """The oracle: the plain loop, in chunks of 512."""
    out = tmp_path_factory.mktemp("loop")
    outcome, _ = go(out, chunk=512)
    assert outcome.state is State.DONE
    return out


def test_leaves_every_product(looped, scene):
    names = {p.name for p in looped.iterdir()}
    assert names >= {*SAME, "item.json", "preview.png", "report.json"}
    for name in ("result.tif", "score.tif"):
        valid, errors, warnings = cog_validate(looped / name, strict=True)
        assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(looped / "result.tif") as result, rasterio.open(scene) as source:
        assert (result.crs, result.transform, result.shape) == (source.crs, source.transform, source.shape)
        assert result.nodata == 255
        assert result.overviews(1)
        missing = source.read(1) == source.nodata
        assert np.array_equal(result.read(1) == 255, missing)


def test_report_says_what_was_done(looped):
    facts = json.loads((looped / "report.json").read_text())
    assert facts["status"] == "done"
    assert facts["chunks"] | {"shape": 0} == {
        "total": 4, "done": 4, "empty": 0, "nodata": 0, "failed": 0, "shape": 0
    }  # fmt: skip
    valid = (read(looped / "result.tif") != 255).mean()
    assert facts["pixels"]["valid_fraction"] == pytest.approx(valid, abs=1e-6)
    assert facts["model"]["runtimes"][0]["engine"] in ("openvino", "onnxruntime")
    assert facts["model"]["runtimes"][0]["precision"] == "fp32"
    assert facts["failed"] == []
    assert facts["imagery"]["dates"][0]["bands"][0]["scale"] == 1e-4


def test_the_imagery_lies_beside_in_colours(looped, scene):
    with rasterio.open(looped / "quicklook.tif") as file, rasterio.open(scene) as source:
        assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
        assert (file.count, file.dtypes[0], file.nodata) == (3, "uint8", 0)
        colours, missing = file.read(), source.read(1) == source.nodata
    assert (colours[:, missing] == 0).all()
    assert (colours[:, ~missing] > 0).all()
    assert cog_validate(looped / "quicklook.tif", strict=True)[0]
    asset = json.loads((looped / "item.json").read_text())["assets"]["quicklook"]
    assert asset["roles"] == ["visual", "overview"]


def test_report_and_item_tell_the_content_of_what_was_read(looped, scene):
    digest = hashlib.sha256(scene.read_bytes()).hexdigest()
    facts = json.loads((looped / "report.json").read_text())
    assert facts["imagery"]["files"] == [{"file": str(scene), "sha256": digest}]
    item = json.loads((looped / "item.json").read_text())
    (source,) = [link for link in item["links"] if link["rel"] == "derived_from"]
    assert source["file:checksum"] == f"1220{digest}"


def test_features_add_up_to_the_raster(looped):
    table = pq.read_table(looped / "features.parquet").to_pydict()
    result = read(looped / "result.tif")[0]
    for value in (1, 2):
        drawn = sum(n for n, c in zip(table["pixels"], table["class"], strict=True) if c == value)
        small = (result == value).sum() - drawn
        assert 0 <= small < 0.06 * (result == value).sum()  # regions under four pixels are left out


@pytest.mark.ray
def test_ray_data_equals_the_loop(go, looped, tmp_path, warm_ray, card):
    outcome, watch = go(tmp_path, RayData(layout(card.resources, warm_ray.nodes)), chunk=512)
    assert outcome.state is State.DONE
    assert_same_bytes(looped, tmp_path)
    assert watch.done[-1] == (700 * 900, 700 * 900)
    workers = {r.worker for r in receipts_of(tmp_path)}
    assert 1 <= len(workers) <= 2


def receipts_of(out) -> list[Receipt]:
    return [r for r in map(read_receipt, (out / ".swathe" / "parts").glob("*.json")) if r]


@pytest.mark.parametrize("chunk", [100, 1000])
def test_cuts_change_no_class(go, looped, tmp_path, chunk):
    go(tmp_path, chunk=chunk)
    assert np.array_equal(read(looped / "result.tif"), read(tmp_path / "result.tif"))
    difference = read(looped / "score.tif").astype(int) - read(tmp_path / "score.tif")
    assert np.abs(difference).max() <= 1  # one step of 1/254 where rounding meets 1e-7


def scored(card, scene, home, sensors, chunk, batch):
    """Blended scores of the whole scene before they are stored: (K, h, w) floats, NaN where there is none."""
    other = card.model_copy(update={"resources": card.resources.model_copy(update={"batch": batch})})
    recipe = Recipe(card.id, (str(scene),), chunk=chunk)
    plan = begin(recipe, other, look(recipe, other, sensors), actors=1)
    order = Order(plan.work, scene.parent, home, access=Access())
    predict, found = load(other, home, threads=1), np.full((other.output.depth, *plan.work.shape), np.nan)
    with closing(order.reader()) as reader:
        for piece in plan.chunks:
            for block in process(piece, plan.work, reader.read, predict, lambda window: None):
                rows = slice(block.row, block.row + block.data.shape[1])
                cols = slice(block.col, block.col + block.data.shape[2])
                found[:, rows, cols] = np.where(block.mask, block.data, np.nan)
    return found


@pytest.fixture(scope="module")
def scores(card, scene, home, sensors):
    return partial(scored, card, scene, home, sensors)


@pytest.fixture(scope="module")
def whole_scores(scores, card):
    return scores(512, card.resources.batch)


@pytest.mark.parametrize(("chunk", "batch"), [(100, 4), pytest.param(512, 1, marks=pytest.mark.slow), (1000, 7)])
def test_scores_move_by_a_millionth_at_most(scores, whole_scores, chunk, batch):
    assert np.isfinite(whole_scores).any()
    np.testing.assert_allclose(scores(chunk, batch), whole_scores, rtol=0, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize("batch", [1, 7])
def test_batches_change_no_class(go, looped, tmp_path, card, batch):
    other = card.model_copy(update={"resources": card.resources.model_copy(update={"batch": batch})})
    go(tmp_path, card=other, chunk=512)
    assert np.array_equal(read(looped / "result.tif"), read(tmp_path / "result.tif"))


def test_an_area_gets_the_pixels_of_the_whole(go, looped, tmp_path):
    outcome, _ = go(tmp_path, aoi="15.03,41.51,15.07,41.54")
    assert outcome.state is State.DONE
    with rasterio.open(tmp_path / "result.tif") as crop, rasterio.open(looped / "result.tif") as whole:
        assert crop.shape < whole.shape
        there = whole.read(1, window=from_bounds(*crop.bounds, whole.transform))
        here = crop.read(1)
        inside = here != 255
        assert inside.mean() > 0.8
        assert np.array_equal(here[inside], there[inside])


def test_resumes_with_the_missing_chunks_and_ends_in_the_same_bytes(go, looped, tmp_path):
    class Weak(Loop):
        """Stops after two chunks, as Ctrl-C would."""

        def map(self, hire, order, chunks):
            for number, answer in enumerate(super().map(hire, order, chunks)):
                if number == 2:
                    raise KeyboardInterrupt
                yield answer

    with pytest.raises(Interrupted, match=r"(2|3) chunks"):
        go(tmp_path, Weak(), chunk=512)
    assert not (tmp_path / "result.tif").exists()
    outcome, watch = go(tmp_path, chunk=512)
    assert outcome.resumed >= 2
    assert sum(e.kind == "chunk" for e in watch.events) == 4 - outcome.resumed
    assert_same_bytes(looped, tmp_path)


class Failing(Loop):
    """Ends a run at its first chunk, with whatever it is given."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def map(self, hire, order, chunks):
        raise self.error


class Pressed:
    """A step at whose announcement, before the run goes on, Ctrl-C comes."""

    key = "1"

    @property
    def name(self):
        raise KeyboardInterrupt


class Quiet(Pressed):
    name = "mask"


def story(out):
    return [json.loads(line) for line in (out / ".swathe" / "events.jsonl").read_text().splitlines()]


def test_a_disk_that_is_still_full_is_told_as_such(go, tmp_path):
    """What keeps a resumed run from its first word is the problem, not that it had failed before."""
    with pytest.raises(OutputError):
        go(tmp_path, Failing(OutputError("no room", code="output.full")), chunk=512)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / ".swathe" / "events.jsonl").stat().st_size, before[1]))
    try:
        with pytest.raises(OutputError) as caught:
            go(tmp_path, chunk=512, treatments=(Quiet(),))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.problem.code == "output.full"
    assert go(tmp_path, chunk=512)[0].state is State.DONE


@pytest.mark.parametrize(("error", "state"), [(OutputError("no room", code="output.full"), "failed"),
                                              (KeyboardInterrupt(), "interrupted")])  # fmt: skip
def test_ctrl_c_before_a_run_goes_on_is_ctrl_c(go, tmp_path, error, state):
    with pytest.raises((OutputError, Interrupted)):
        go(tmp_path, Failing(error), chunk=512)
    with pytest.raises(Interrupted):
        go(tmp_path, chunk=512, treatments=(Pressed(),))
    assert story(tmp_path)[-1]["facts"]["state"] == state
    assert go(tmp_path, chunk=512)[0].state is State.DONE


def test_a_part_that_was_damaged_is_done_again(go, looped, tmp_path):
    class Weak(Loop):
        def map(self, hire, order, chunks):
            yield from super().map(hire, order, chunks)
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        go(tmp_path, Weak(), chunk=512)
    part = next((tmp_path / ".swathe" / "parts").glob("*00000c00001.result.tif"))
    part.write_bytes(part.read_bytes()[:-9])
    outcome, _ = go(tmp_path, chunk=512)
    assert outcome.resumed == 3
    assert_same_bytes(looped, tmp_path)


def test_done_is_done(go, looped):
    before = (looped / "result.tif").stat().st_mtime_ns
    outcome, _ = go(looped, chunk=512)
    assert outcome.already
    assert (looped / "result.tif").stat().st_mtime_ns == before


def test_a_folder_of_another_run_is_not_touched(go, looped, tmp_path):
    go(tmp_path, chunk=512)
    with pytest.raises(OutputError) as caught:
        go(tmp_path, aoi="15.03,41.51,15.07,41.54")
    assert caught.value.problem.code == "output.taken"
    assert_same_bytes(looped, tmp_path)
    outcome, _ = go(tmp_path, aoi="15.03,41.51,15.07,41.54", overwrite=True)
    assert outcome.state is State.DONE


def test_two_writers_do_not_meet(go, tmp_path):
    with Ledger(tmp_path).open(), pytest.raises(OutputError) as caught:
        go(tmp_path)
    assert caught.value.problem.code == "output.busy"


def test_a_poisonous_chunk_is_given_up_and_never_called_a_success(go, tmp_path):
    class Deadly(Loop):
        """Every chunk's first worker dies three times before anything is written."""

        def map(self, hire, order, chunks):
            for attempt in (1, 2, 3):
                (order.parts / f"{chunks[1].key}.attempt-{attempt}").touch()
            yield from super().map(hire, order, chunks)

    outcome, _ = go(tmp_path, Deadly(), chunk=512)
    assert outcome.state is State.INCOMPLETE
    assert outcome.report["chunks"]["failed"] == 1
    assert "chunk.poison" in outcome.report["failed"][0]["error"]
    result = read(tmp_path / "result.tif")[0]
    assert (result[:512, 512:] == 255).all()
    assert (result[512:] != 255).any()
    outcome, _ = go(tmp_path, chunk=512)  # tried again: the attempts were counted and cleared
    assert outcome.state is State.DONE


def test_kills_are_no_fault_of_the_chunk_that_was_under_way(go, tmp_path):
    """Three drivers died in the same chunk, and their workers with them: the fourth one does it."""

    class Cut(Loop):
        def map(self, hire, order, chunks):
            (order.parts / f"{chunks[-1].key}.attempt-{1 + self.cuts}").touch()
            yield from super().map(hire, order, chunks[:1])
            raise KeyboardInterrupt

    for Cut.cuts in range(4):
        with pytest.raises(Interrupted):
            go(tmp_path, Cut(), chunk=512)
    outcome, _ = go(tmp_path, chunk=512)
    assert outcome.state is State.DONE


class Stopped(Loop):
    """Ctrl-C after so many chunks."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def map(self, hire, order, chunks):
        yield from super().map(hire, order, chunks[: self.after])
        raise KeyboardInterrupt


def age(out, key, version="2020.1.0"):
    """The chunk as an older library left it: another version in its receipt, other numbers in its file."""
    path = out / ".swathe" / "parts" / f"{key}.json"
    facts = json.loads(path.read_text())
    facts["runtime"]["versions"] = dict.fromkeys(facts["runtime"]["versions"], version)
    path.write_text(json.dumps(facts))
    part = path.with_name(f"{key}.result.tif")
    with rasterio.open(part, "r+") as file:
        file.write(np.zeros_like(file.read()))
    facts["files"][part.name] = part.stat().st_size
    path.write_text(json.dumps(facts))


def done_chunks(watch):
    return [event.facts["chunk"] for event in watch.events if event.kind == "chunk"]


def test_runtimes_are_not_mixed_within_one_raster(go, looped, tmp_path):
    with pytest.raises(Interrupted):
        go(tmp_path, Stopped(2), chunk=512)
    age(tmp_path, "r00000c00001")
    outcome, watch = go(tmp_path, chunk=512)
    assert done_chunks(watch) == ["r00001c00000", "r00001c00001", "r00000c00001"]
    assert [event.facts["chunks"] for event in watch.events if event.kind == "outdated"] == [1]
    assert len(outcome.report["model"]["runtimes"]) == 1
    assert_same_bytes(looped, tmp_path)


def test_a_run_that_is_stopped_on_the_way_to_one_runtime_gets_there(go, looped, tmp_path):
    with pytest.raises(Interrupted):
        go(tmp_path, Stopped(3), chunk=512)
    for key in ("r00000c00000", "r00000c00001", "r00001c00000"):
        age(tmp_path, key)
    with pytest.raises(Interrupted):
        go(tmp_path, Stopped(1), chunk=512)  # the last chunk with the newer library, and none of the old ones again
    outcome, watch = go(tmp_path, chunk=512)
    assert done_chunks(watch) == ["r00000c00000", "r00000c00001", "r00001c00000"]
    assert len(outcome.report["model"]["runtimes"]) == 1
    assert_same_bytes(looped, tmp_path)


def test_nodes_with_different_libraries_are_told(go, tmp_path):
    class Patchwork(Loop):
        def map(self, hire, order, chunks):
            for number, answer in enumerate(super().map(hire, order, chunks)):
                versions = answer["runtime"]["versions"]
                yield answer | {"runtime": answer["runtime"] | {"versions": versions if number else {"openvino": "1"}}}

    outcome, _ = go(tmp_path, Patchwork(), chunk=512)
    assert outcome.state is State.DONE
    assert any("2 runtimes took part" in text for text in outcome.report["warnings"])


@pytest.mark.parametrize("changed", [{"threads": 7}, {"device": "NVIDIA H200"}, {"versions": {"openvino": "1"}}])
def test_threads_and_the_kind_of_gpu_are_no_other_runtime(changed):
    ran = {"engine": "torchexport", "precision": "fp32", "device": "NVIDIA A100", "threads": 1, "versions": {"t": "1"}}
    kept = {"a": Receipt("a", "done", 1, tiles=1, runtime=ran, ended=1.0), "b": Receipt("b", "nodata", 1, ended=1.0)}
    fresh = {"c": Receipt("c", "done", 1, tiles=1, runtime=ran | changed, ended=2.0)}
    assert outdated(kept, kept | fresh) == ({"a"} if "versions" in changed else set())
    assert not outdated(kept, kept)


def test_other_weights_are_another_run(go, tmp_path):
    go(tmp_path, chunk=512, content="a")
    assert go(tmp_path, chunk=512, content="a")[0].already
    with pytest.raises(OutputError) as caught:
        go(tmp_path, chunk=512, content="b")
    assert caught.value.problem.code == "output.taken"
    outcome, _ = go(tmp_path, chunk=512, content="b", overwrite=True)
    assert (outcome.already, outcome.resumed) == (False, 0)


@pytest.mark.parametrize("name", ["result.tif", "report.json", "item.json", "features.parquet"])
def test_a_product_that_was_lost_is_made_again(go, looped, tmp_path, name):
    go(tmp_path, chunk=512)
    (tmp_path / name).unlink()
    outcome, _ = go(tmp_path, chunk=512)
    assert (outcome.state, outcome.already) == (State.DONE, False)
    assert_same_bytes(looped, tmp_path)


def test_what_is_overwritten_leaves_nothing_behind(go, tmp_path):
    from models.registry import load_cards

    go(tmp_path, chunk=512)
    ndvi = load_cards([ROOT / "configs" / "models"])["vegetation-ndvi"]
    go(tmp_path, card=ndvi, chunk=512, overwrite=True)
    item = json.loads((tmp_path / "item.json").read_text())
    names = {asset["href"].rpartition("/")[2] for asset in item["assets"].values()}
    assert not names & {"score.tif", "features.parquet", "features.geojson"}
    assert {p.name for p in tmp_path.iterdir() if p.is_file()} == names | {"item.json"}


def test_half_a_line_in_the_story_of_a_run_spoils_nothing(go, tmp_path):
    class Cut(Loop):
        def map(self, hire, order, chunks):
            yield from super().map(hire, order, chunks[:2])
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        go(tmp_path, Cut(), chunk=512)
    story = tmp_path / ".swathe" / "events.jsonl"
    with story.open("a") as file:
        file.write('{"seq": 99, "at": "20')
    outcome, _ = go(tmp_path, chunk=512)
    assert (outcome.state, outcome.resumed) == (State.DONE, 2)
    numbers = [json.loads(line)["seq"] for line in story.read_text().splitlines()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert go(tmp_path, chunk=512)[0].already


def test_a_threshold_of_the_whole_area_is_found_once(go, tmp_path):
    from models.registry import load_cards
    from pipelines.worker import Measurer

    hired = []

    class Noted(Loop):
        def map(self, hire, order, chunks):
            hired.append(hire)
            for n, answer in enumerate(super().map(hire, order, chunks)):
                yield answer
                if hire is not Measurer and not n and len(hired) == 2:
                    raise KeyboardInterrupt

    import pipelines.fit

    otsu = load_cards([ROOT / "configs" / "models"])["water-ndwi-otsu"]
    runner = Noted()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipelines.fit, "WORTH_A_POOL", 0)
        with pytest.raises(Interrupted):
            go(tmp_path, runner, card=otsu, chunk=512)
        outcome, _ = go(tmp_path, runner, card=otsu, chunk=512)
    assert outcome.state is State.DONE
    assert hired.count(Measurer) == 1
    whole, _ = go(tmp_path / "whole", card=otsu, chunk=512)
    assert outcome.report["model"]["fitted"] == whole.report["model"]["fitted"]


def test_states_only_go_forward(looped):
    with Ledger(looped).open() as ledger:
        states = [e.facts["state"] for e in ledger.events if e.kind == "state"]
        assert states == ["planned", "preparing", "running", "finishing", "done"]
        assert [e.seq for e in ledger.events] == list(range(1, len(ledger.events) + 1))
        with pytest.raises(RuntimeError):
            ledger.enter(State.RUNNING)


def test_a_regression(go, tmp_path, scene, sensors):
    from models.registry import load_cards

    ndvi = load_cards([ROOT / "configs" / "models"])["vegetation-ndvi"]
    outcome, _ = go(tmp_path, card=ndvi, chunk=512)
    assert outcome.state is State.DONE
    with rasterio.open(scene) as source:
        red, nir = source.read(3), source.read(4)
        missing = red == source.nodata
    expected = np.where(missing, np.nan, (nir.astype(float) - red) / (nir.astype(float) + red))
    found = read(tmp_path / "result.tif")[0]
    assert np.allclose(found, expected, atol=1e-6, equal_nan=True)
    assert not (tmp_path / "score.tif").exists()
    assert not (tmp_path / "features.parquet").exists()


def command(out, scene, *more):
    return [str(Path(sys.executable).with_name("swathe")), "run", "--model", "water-ndwi", "--input", str(scene),
            "--out", str(out), "--chunk", "512", *more]  # fmt: skip


@pytest.fixture(scope="module")
def large(tmp_path_factory, write_scene):
    return write_scene(tmp_path_factory.mktemp("large") / "large.tif", (3000, 3000))


def env(tmp_path):
    return os.environ | {"SWATHE_DATA_DIR": str(tmp_path / "data")}


@pytest.fixture(scope="module")
def killable(tmp_path_factory, write_scene, write_card):
    """A run of a network as a command, ``command(out)``, its environment, and what it leaves undisturbed."""
    folder = tmp_path_factory.mktemp("killable")
    model, image = write_card(folder / "cards"), write_scene(folder / "scene.tif", (1100, 1100))
    variables = env(folder) | {"SWATHE_MODELS_DIR": str(folder / "cards")}

    def command(out):
        return [str(Path(sys.executable).with_name("swathe")), "run", "--model", model, "--input", str(image),
                "--out", str(out), "--chunk", "512", "--local", "--json"]  # fmt: skip

    subprocess.run(command(folder / "whole"), env=variables, check=True, capture_output=True)
    return command, variables, folder / "whole"


def told(out, state):
    """Whether the run has entered this state."""
    path = out / ".swathe" / "events.jsonl"
    return path.exists() and any(f'"state": "{state}"' in line for line in path.read_text().splitlines())


MOMENTS = {
    "chunks": lambda out: len(receipts_of(out)) >= 3,
    "finishing": lambda out: told(out, "finishing"),
    "mosaic": lambda out: (out / "result.tif").exists(),
    "score": lambda out: (out / "score.tif").exists(),
    "polygons": lambda out: (out / "features.parquet").exists(),
}


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["chunks", "finishing", "mosaic", "score", "polygons"])
def test_a_killed_program_resumes(killable, tmp_path, moment):
    """Whenever it is killed, the same command ends in the same bytes: classes, scores, polygons."""
    command, variables, whole = killable
    out = tmp_path / "killed"
    with subprocess.Popen(
        command(out), env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:  # fmt: skip
        wait_until(lambda: MOMENTS[moment](out), moment)
        process.kill()
        process.wait(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert not told(out, "done")
    assert not (out / "item.json").exists()
    done = len(receipts_of(out))
    assert (3 <= done < 9) if moment == "chunks" else (done == 9)
    second = subprocess.run(command(out), env=variables, check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in second.stdout.splitlines()]
    running = next(line for line in lines if line.get("state") == "running")
    assert running["resumed"] >= done
    assert sum(line["event"] == "chunk" for line in lines) == 9 - running["resumed"]
    assert_same_bytes(whole, out)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_program_resumes(large, tmp_path, how):
    whole = tmp_path / "whole"
    subprocess.run(command(whole, large, "--local"), env=env(tmp_path), check=True, capture_output=True)
    out = tmp_path / "killed"
    resumable = command(out, large, "--local", "--json")
    # A shell that runs the tests in the background has them ignore SIGINT, and so would the program.
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(
        resumable, env=env(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **heard
    ) as process:
        wait_for_receipts(out, 3)
        process.send_signal(how)
        process.communicate(timeout=60)
    assert process.returncode == 130
    done = len(receipts_of(out))
    assert 3 <= done < 36
    assert not (out / "result.tif").exists()
    second = subprocess.run(resumable, env=env(tmp_path), check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in second.stdout.splitlines()]
    running = next(line for line in lines if line.get("state") == "running")
    assert running["resumed"] >= done
    assert_same_bytes(whole, out, ("result.tif", "features.parquet", "features.geojson"))


@pytest.mark.slow
def test_ctrl_c_on_ray_leaves_a_run_that_goes_on(large, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "stopped"
    subprocess.run(command(whole, large, "--local"), env=env(tmp_path), check=True, capture_output=True)
    on_ray = command(out, large, "--json")
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    with subprocess.Popen(
        on_ray, env=env(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **heard
    ) as process:
        wait_for_receipts(out, 2, patience=120)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
    assert process.returncode == 130
    assert not (out / "result.tif").exists()
    done = len(receipts_of(out))
    subprocess.run(on_ray, env=env(tmp_path), check=True, capture_output=True)
    with Ledger(out).open() as ledger:
        running = [e.facts["resumed"] for e in ledger.events if e.facts.get("state") == "running"]
    assert running[0] == 0
    assert running[1] >= done >= 2
    assert_same_bytes(whole, out, ("result.tif", "features.parquet", "features.geojson"))


def wait_for_receipts(out, count, patience=60):
    wait_until(lambda: len(receipts_of(out)) >= count, f"{count} receipts", patience)


def wait_until(condition, what, patience=60):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError(f"no {what} in {patience} s")


def test_a_kept_cut_survives_another_number_of_workers(go, tmp_path, looped):
    class Weak(Loop):
        def map(self, hire, order, chunks):
            for answer in super().map(hire, order, chunks):
                yield answer
                raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        go(tmp_path, Weak())
    many = Loop()
    many.actors = 8  # would cut smaller
    outcome, _ = go(tmp_path, many)
    assert outcome.state is State.DONE
    assert outcome.resumed >= 1
    assert np.array_equal(read(looped / "result.tif"), read(tmp_path / "result.tif"))


def test_receipts_survive_a_cut_line(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"chunk": "a", "sta')
    assert read_receipt(path) is None
    assert replace(Receipt("a", "done", 1), status="failed").settled is False
