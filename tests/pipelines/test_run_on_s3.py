"""Whole runs that live in object storage: inputs, parts, receipts and products on a real S3 server."""

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.ledger import Ledger
from pipelines.remote.network import Network
from pipelines.runner import Loop
from pipelines.store.blobs import StoreSettings, open_blobs
from pipelines.store.scratch import own_scratch, scratch
from swathe.errors import Interrupted, OutputError
from swathe.state import State
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server

ROOT = Path(__file__).resolve().parent.parent.parent
SAME = ("result.tif", "score.tif", "features.parquet", "features.geojson", "result.qml", "result.tif.aux.xml")


def settings_of(server, **changes):
    facts = {"endpoint": server.endpoint, "region": "us-east-1", "key": server.key, "secret": server.secret}
    return StoreSettings(**(facts | {"patience_s": 3} | changes))


@pytest.fixture
def stored(s3_server):
    return open_blobs(s3_server.prefix(), settings_of(s3_server))


@pytest.fixture(scope="module")
def looped(go, tmp_path_factory):
    """The oracle: the same run in a folder."""
    out = tmp_path_factory.mktemp("loop")
    go(out, chunk=512)
    return out


@pytest.fixture
def run_there(go):
    """A run whose driver has no more than a scratch folder, gone at its end."""

    def run_there(store, runner=None, **options):
        with scratch() as out:
            return go(out, runner, chunk=512, store=store, **options)

    return run_there


class Weak(Loop):
    """Stops after some chunks, as Ctrl-C would."""

    def __init__(self, chunks):
        super().__init__()
        self.chunks = chunks

    def map(self, hire, order, chunks):
        for number, answer in enumerate(super().map(hire, order, chunks)):
            if number == self.chunks:
                raise KeyboardInterrupt
            yield answer


def assert_same_bytes(folder, store, names=SAME):
    for name in names:
        assert store.get(name) == (folder / name).read_bytes(), name


def names_of(store, prefix=""):
    return {blob.name for blob in store.list(prefix)}


def test_leaves_the_bytes_of_a_run_in_a_folder(run_there, looped, stored):
    outcome, watch = run_there(stored)
    assert outcome.state is State.DONE
    assert names_of(stored) >= {*SAME, "item.json", "report.json", "preview.png", ".swathe/events.jsonl"}
    assert_same_bytes(looped, stored)
    ours, theirs = (
        json.loads(text)["assets"] for text in (stored.get("item.json"), (looped / "item.json").read_text())
    )
    assert {k: v.get("file:checksum") for k, v in ours.items() if k in ("data", "features")} == {
        k: v.get("file:checksum") for k, v in theirs.items() if k in ("data", "features")
    }
    assert {n for n in names_of(stored, ".swathe/parts") if not n.endswith(".json")} == set()
    assert ".swathe/lock" not in names_of(stored)
    assert watch.done[-1] == (700 * 900, 700 * 900)
    assert not [p for p in looped.iterdir() if p.name.startswith("s3")]


@pytest.mark.slow
def test_inputs_lie_there_too(run_there, looped, scene, stored, s3_server, monkeypatch):
    stored.put_file("in/scene.tif", scene)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    out = stored.below("out")
    network = Network(s3_endpoint=s3_server.endpoint)
    outcome, _ = run_there(out, inputs=(f"{stored.place}/in/scene.tif",), network=network)
    assert outcome.state is State.DONE
    assert_same_bytes(looped, out, ("result.tif", "score.tif"))


def test_resumes_there_with_the_missing_chunks(run_there, looped, stored):
    with pytest.raises(Interrupted, match=r"(2|3) chunks"):
        run_there(stored, Weak(2))
    left = names_of(stored)
    assert "result.tif" not in left
    assert sum(n.startswith(".swathe/parts/") and n.endswith(".result.tif") for n in left) >= 2
    outcome, watch = run_there(stored)
    assert outcome.resumed >= 2
    assert sum(e.kind == "chunk" for e in watch.events) == 4 - outcome.resumed
    assert_same_bytes(looped, stored)
    events = [json.loads(line) for line in stored.get(".swathe/events.jsonl").splitlines()]
    states = [e["facts"]["state"] for e in events if e["kind"] == "state"]
    assert states == ["planned", "preparing", "running", "interrupted", "preparing", "running", "finishing", "done"]


@pytest.mark.slow
def test_a_part_that_was_lost_is_done_again(run_there, looped, stored):
    with pytest.raises(Interrupted):
        run_there(stored, Weak(3))
    kept = sorted(n for n in names_of(stored) if n.endswith(".result.tif"))
    stored.delete(kept[:1])
    stored.put(kept[1], b"not what the receipt says")
    outcome, _ = run_there(stored)
    assert outcome.resumed == len(kept) - 2
    assert_same_bytes(looped, stored)


def test_done_is_done(run_there, stored):
    run_there(stored)
    before = stored.look("result.tif").modified
    time.sleep(1.1)
    outcome, _ = run_there(stored)
    assert outcome.already
    assert outcome.report["status"] == "done"
    assert stored.look("result.tif").modified == before


@pytest.mark.slow
def test_another_run_there_is_not_touched(run_there, looped, stored):
    run_there(stored)
    with pytest.raises(OutputError) as caught:
        run_there(stored, aoi="15.03,41.51,15.07,41.54")
    assert caught.value.problem.code == "output.taken"
    assert stored.place in caught.value.detail
    assert_same_bytes(looped, stored)
    outcome, _ = run_there(stored, aoi="15.03,41.51,15.07,41.54", overwrite=True)
    assert outcome.state is State.DONE
    assert stored.get("result.tif") != (looped / "result.tif").read_bytes()


def test_a_result_of_somebody_else_is_not_overwritten(run_there, stored):
    stored.put("result.tif", b"precious")
    with pytest.raises(OutputError) as caught:
        run_there(stored)
    assert caught.value.problem.code == "output.taken"
    assert stored.get("result.tif") == b"precious"


def test_of_two_drivers_one_runs(run_there, looped, stored):
    ended, inside = {}, threading.Event()

    class Slow(Loop):
        def map(self, hire, order, chunks):
            inside.set()
            time.sleep(1)
            yield from super().map(hire, order, chunks)

    def first():
        ended["first"] = run_there(stored, Slow())[0].state

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(60)
    with pytest.raises(OutputError) as caught:
        run_there(stored)
    thread.join()
    assert caught.value.problem.code == "output.busy"
    assert ended == {"first": State.DONE}
    assert_same_bytes(looped, stored)


@pytest.mark.slow
def test_two_runs_of_one_process_do_not_mix(go, run_there, ndwi, write_scene, s3_server, tmp_path):
    """Their chunks have the same names."""
    own_scratch()  # of the process, as an earlier run would have left it
    scenes = [write_scene(tmp_path / f"{n}.tif", (700, 900), seed=n) for n in range(2)]
    stores = [open_blobs(s3_server.prefix(), settings_of(s3_server)) for _ in scenes]
    together = threading.Barrier(2)

    class Together(Loop):
        def map(self, hire, order, chunks):
            def hired(order):
                worker = hire(order)
                keep = worker.chunk_store.keep

                def kept(self, receipt, room):
                    together.wait(30)
                    keep(receipt, room)

                worker.chunk_store = type(
                    "ChunkStore", (), {"begin": worker.chunk_store.begin, "tell": worker.chunk_store.tell, "keep": kept}
                )()
                return worker

            yield from super().map(hired, order, chunks)

    threads = [
        threading.Thread(target=run_there, args=(store, Together()), kwargs={"card": ndwi, "inputs": (str(scene),)})
        for store, scene in zip(stores, scenes, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, (store, scene) in enumerate(zip(stores, scenes, strict=True)):
        whole = tmp_path / f"whole{number}"
        go(whole, card=ndwi, inputs=(str(scene),), chunk=512)
        assert_same_bytes(whole, store, ("result.tif", "features.parquet"))


@pytest.mark.slow
def test_who_was_taken_over_stops_and_publishes_nothing(run_there, stored):
    class Robbed(Loop):
        def map(self, hire, order, chunks):
            yield from super().map(hire, order, chunks)
            stored.put(".swathe/lock", json.dumps({
                "id": "thief", "host": "far", "machine": "far", "pid": 1, "started": 0, "sign": 0
            }).encode())  # fmt: skip

    import pipelines.store.lease as leases

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leases.Lease.__init__, "__defaults__", (0.4,))
        with pytest.raises(OutputError) as caught:
            run_there(stored, Robbed())
    assert caught.value.problem.code == "output.busy"
    assert not {"result.tif", "report.json", "item.json"} & names_of(stored)


@pytest.mark.slow
def test_a_poisonous_chunk_is_given_up_there_too(run_there, stored):
    class Deadly(Loop):
        def map(self, hire, order, chunks):
            for _ in range(3):
                order.chunk_store.begin(chunks[1].key)
            yield from super().map(hire, order, chunks)

    outcome, _ = run_there(stored, Deadly())
    assert outcome.state is State.INCOMPLETE
    assert "chunk.poison" in outcome.report["failed"][0]["error"]
    outcome, _ = run_there(stored)
    assert outcome.state is State.DONE


@pytest.mark.parametrize(("changes", "code"), [
    ({"bucket": "there-is-none"}, "output.bucket"), ({"secret": "wrong"}, "output.credentials"),
    ({"key": "swathe-reader", "secret": "swathe-reader-secret"}, "output.denied"),
    ({"endpoint": "http://127.0.0.1:1", "patience_s": 0.3}, "output.unreachable"),
])  # fmt: skip
def test_a_place_that_cannot_be_used_is_told_before_anything_runs(run_there, s3_server, changes, code):
    bucket = changes.pop("bucket", s3_server.bucket)

    class Never(Loop):
        def map(self, hire, order, chunks):
            raise AssertionError

    with pytest.raises(OutputError) as caught:
        run_there(open_blobs(f"s3://{bucket}/nowhere", settings_of(s3_server, **changes)), Never())
    assert caught.value.problem.code == code
    assert caught.value.hint


@pytest.mark.slow
def test_a_store_that_goes_away_stops_the_run_and_costs_no_chunk(run_there, looped, stored, s3_server):
    """Keys are changed half-way, which a worker notices when it wants to keep what it made."""

    class Locked(Loop):
        def map(self, hire, order, chunks):
            yield from super().map(hire, order, chunks[:2])
            away = replace(order.store, settings=settings_of(s3_server, secret="changed"))
            yield from super().map(hire, replace(order, store=away), chunks[2:])

    with pytest.raises(OutputError) as caught:
        run_there(stored, Locked())
    assert caught.value.problem.code == "output.credentials"
    outcome, _ = run_there(stored)
    assert outcome.resumed == 2
    assert_same_bytes(looped, stored)


PROGRAM = """
import sys
from pathlib import Path
from models.registry import load_cards
from models.weights import ModelHome
from pipelines.begin import begin, look
from pipelines.run import Request, run
from pipelines.runner import Loop
from pipelines.imagery.sensors import load_sensors
from pipelines.store.blobs import StoreSettings
from pipelines.store.place import working_folder
from swathe.recipe import Recipe

class Watch:
    def event(self, event):
        print(event.kind, event.facts.get("state", ""), event.facts.get("resumed", ""), flush=True)

    def progress(self, done, total):
        pass

scene, out, endpoint = sys.argv[1:4]
card = load_cards([Path("configs/models")])["water-ndwi"]
recipe = Recipe(card.id, (scene,), chunk=512)
plan = begin(recipe, card, look(recipe, card, load_sensors(Path("configs/sensors"))), 1)
with working_folder(out, StoreSettings(endpoint)) as (folder, store):
    run(plan, Request(folder, ModelHome(Path("/none"), offline=True), store=store), Loop(), Watch())
"""


def program(server, scene, out):
    return {
        "args": [sys.executable, "-c", PROGRAM, str(scene), str(out), server.endpoint], "cwd": ROOT,
        "env": os.environ | server.environment(), "stdout": subprocess.PIPE, "text": True,
    }  # fmt: skip


@pytest.mark.slow
def test_a_killed_program_resumes_there_to_the_same_bytes(go, ndwi, write_scene, s3_server, stored, tmp_path):
    scene = write_scene(tmp_path / "scene.tif", (2000, 2000))
    go(tmp_path / "whole", card=ndwi, inputs=(str(scene),), chunk=512)
    with subprocess.Popen(**program(s3_server, scene, stored.place)) as process:
        wait_for_receipts(stored, 3)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    left = names_of(stored)
    done = receipts_in(left)
    assert 3 <= done < 16
    assert not {"result.tif", "report.json", "item.json"} & left
    assert ".swathe/lock" in left  # it could not give it back
    again = subprocess.run(**program(s3_server, scene, stored.place), check=True)
    running = next(line.split() for line in again.stdout.splitlines() if line.startswith("state running"))
    assert int(running[2]) >= done
    assert_same_bytes(tmp_path / "whole", stored, ("result.tif", "features.parquet", "features.geojson"))


@pytest.fixture(scope="module")
def ndwi():
    from models.registry import load_cards

    return load_cards([ROOT / "configs" / "models"])["water-ndwi"]


WORKER = """
import json, pickle, sys
order, chunks = pickle.load(sys.stdin.buffer)
from pipelines.worker import ChunkWorker
worker = ChunkWorker(order)
print(json.dumps([worker(chunk) for chunk in chunks]))
"""


class Apart(Loop):
    """Workers in processes of their own that share no disk with the driver, nor with each other."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def map(self, hire, order, chunks):
        order = replace(order, parts=Path("/there/is/none"))
        for number, mine in enumerate((chunks[::2], chunks[1::2])):
            own = self.folder / f"worker{number}"
            own.mkdir(parents=True)
            ended = subprocess.run(
                [sys.executable, "-c", WORKER], input=pickle.dumps((order, mine)), stdout=subprocess.PIPE, cwd=ROOT,
                env=os.environ | {"TMPDIR": str(own)}, check=True,
            )  # fmt: skip
            assert not [p for p in own.rglob("*") if p.is_file()]  # nothing stays on a worker's disk
            yield from json.loads(ended.stdout)


@pytest.mark.slow
def test_workers_need_no_shared_disk(go, run_there, ndwi, stored, tmp_path):
    go(tmp_path / "whole", card=ndwi, chunk=512)
    outcome, _ = run_there(stored, Apart(tmp_path / "workers"), card=ndwi)
    assert outcome.state is State.DONE
    assert len({json.loads(stored.get(n))["worker"] for n in names_of(stored, ".swathe/parts")}) == 2
    assert_same_bytes(tmp_path / "whole", stored, ("result.tif", "features.parquet", "features.geojson"))


def receipts_in(names):
    return sum(n.startswith(".swathe/parts/") and n.endswith(".json") for n in names)


def wait_for_receipts(store, count, patience=60):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if receipts_in(names_of(store, ".swathe/parts")) >= count:
            return
        time.sleep(0.02)
    raise AssertionError(f"no {count} receipts in {patience} s")


def test_a_ledger_there_is_empty_before_a_run(stored, tmp_path):
    with Ledger(tmp_path, stored).open() as ledger:
        assert ledger.state is None
        assert ledger.kept() is None
        assert ledger.receipts() == {}


def test_what_is_typed_is_a_folder_or_a_store(tmp_path, s3_server, monkeypatch):
    from pipelines.store.place import working_folder

    monkeypatch.chdir(tmp_path)
    with working_folder("here", StoreSettings()) as (folder, store):
        assert (folder, store) == (tmp_path / "here", None)
    with working_folder("s3://bucket/a/b/", settings_of(s3_server)) as (folder, store):
        assert folder.is_dir()
        assert store.place == "s3://bucket/a/b"
    assert not folder.exists()
    with pytest.raises(OutputError), working_folder("ftp://a/b", StoreSettings()):
        pass
