"""Seeded kills: jobs on a real service without its API, while its processes are killed at random moments.

``python -m tests.serve.running.chaos --rounds 100 --seed 1 --out chaos.json``; one line per round, and a JSON file with
every kill and every outcome. A round is repeated by its own seed and ``--rounds 1``, as far as time is repeatable.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from cluster import head
from serve.settings import ROOT
from swathe.job import Where
from tests.pipelines.conftest import make_scene
from tests.serve.running.world import World, make_world, right_story

KINDS = ("dispatcher", "lead", "hand", "driver", "worker", "database", "head")
"""A process is killed, the database is locked for longer than anybody waits for it, or all of Ray is killed."""
WEIGHTS = (3, 3, 3, 3, 2, 1, 1)
_TITLES = {"lead": "ray::PoolLead", "hand": "ray::PoolHand", "worker": "ray::MapWorker"}
_DRIVER = "serve.running.attempt"
_LOCKED_S = 12.0
_SHAPE = (3072, 3072)
_PATIENCE_S = 420


@dataclass
class Blow:
    """One thing that was done."""

    after_s: float
    kind: str
    hit: bool = False


@dataclass
class Outcome:
    """Of one round."""

    seed: int
    blows: list[Blow]
    jobs: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    ok: bool = False
    problem: str = ""


class Stage:
    """A Ray, a dispatcher in a process of its own, and a world; what was killed is started again, as a keeper would."""

    def __init__(self, folder: Path, **limits) -> None:
        scene = make_scene(folder / "scenes" / "scene.tif", _SHAPE) if _made(folder / "scenes") else folder
        limits = {"lease_s": 3.0, "max_attempts": 30, "pool_workers": 2} | limits
        self.world: World = make_world(folder, scene, **limits)
        settings = self.world.settings
        self.environment = {
            "SWATHE_DATA_DIR": str(settings.data_dir), "SWATHE_SERVICE_CONFIG": str(settings.service_config),
            "SWATHE_LOCAL_ROOTS": str(scene.parent), "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        self._log = (folder / "dispatcher.log").open("ab")
        self.start()

    def start(self) -> None:
        """Whatever does not run."""
        spec = head.HeadSpec(self.world.settings.service_dir, cpus=3, gpus=0, environment=self.environment, lean=True)
        self.head = head.start(spec)
        if getattr(self, "dispatcher", None) is None or self.dispatcher.poll() is not None:
            self.dispatcher = subprocess.Popen(
                [sys.executable, "-m", __spec__.name if __spec__ else "tests.serve.running.chaos", "--dispatch"],
                env={**os.environ, **self.environment, "RAY_ADDRESS": ""}, cwd=ROOT, stdout=self._log,
                stderr=self._log,
            )  # fmt: skip

    def stop(self) -> None:
        """All of it."""
        self.dispatcher.kill()
        self.dispatcher.wait()
        head.stop(self.world.settings.service_dir)
        self._log.close()

    def strike(self, kind: str, rng: random.Random) -> bool:
        """Whether there was something to hit."""
        if kind == "database":
            threading.Thread(target=_lock, args=(self.world.store.path,)).start()
            return True
        if kind == "head":
            self._kill_all()
            return True
        victims = [self.dispatcher.pid] if kind == "dispatcher" else sorted(self._processes(kind))
        if victims:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(victims), signal.SIGKILL)
        if kind == "dispatcher":
            self.dispatcher.wait()
        return bool(victims)

    def _processes(self, kind: str) -> list[int]:
        found = []
        for process in self._family():
            with suppress(psutil.Error):
                words = process.cmdline()
                if kind == "driver":
                    hit = _DRIVER in words and words[0].endswith("python")
                else:
                    hit = bool(words) and words[0].startswith(_TITLES[kind])
                found += [process.pid] if hit else []
        return found

    def _family(self) -> list[psutil.Process]:
        with suppress(psutil.Error):
            return psutil.Process(self.head.pid).children(recursive=True)
        return []

    def _kill_all(self) -> None:
        for process in [*self._family(), psutil.Process(self.head.pid)]:
            with suppress(psutil.Error):
                process.kill()
        self.dispatcher.kill()
        self.dispatcher.wait()


def _made(folder: Path) -> bool:
    folder.mkdir(parents=True)
    return True


def _lock(path: Path) -> None:
    """Nobody else reads or writes meanwhile."""
    connection = sqlite3.connect(path, timeout=30)
    with suppress(sqlite3.Error):
        connection.execute("BEGIN EXCLUSIVE")
        time.sleep(_LOCKED_S)
    connection.close()


def drawn(seed: int) -> list[Blow]:
    """What is done in a round, and when."""
    rng, at, blows = random.Random(seed), 0.0, []
    for _ in range(rng.randint(1, 4)):
        at += rng.uniform(0.2, 6.0)
        blows.append(Blow(round(at, 2), rng.choices(KINDS, WEIGHTS)[0]))
    return blows


def play(stage: Stage, seed: int, oracle: dict[str, str]) -> Outcome:
    """One round: jobs for the pool and for Ray jobs, blows, and what became of the jobs."""
    outcome, rng, began = Outcome(seed, drawn(seed)), random.Random(seed), time.monotonic()
    world = stage.world
    ids = [world.submit(), world.submit(Where.CLUSTER), world.submit(Where.ONLINE)]
    try:
        for blow in outcome.blows:
            time.sleep(max(0.0, began + blow.after_s - time.monotonic()))
            blow.hit = stage.strike(blow.kind, rng)
            stage.start()
        world.await_end(*ids, patience=_PATIENCE_S)
        for id_ in ids:
            right_story(world, id_)
            assert world.digest(id_) == oracle, f"other bytes: {id_}"
        outcome.ok = True
    except Exception as error:  # noqa: BLE001  told, and the next round follows
        outcome.problem = f"{type(error).__name__}: {error}"[:4000]
    outcome.jobs = [_told(world, id_) for id_ in ids]
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def _told(world: World, id_: str) -> dict:
    job = world.job(id_)
    return {"id": id_, "place": job.where.value, "state": job.state.value, "attempts": job.attempts,
            "events": job.last_seq}  # fmt: skip


def chaos(rounds: int, seed: int, folder: Path) -> list[Outcome]:
    """All rounds on one stage; the first job of all is left alone, and says what the bytes are."""
    stage = Stage(folder)
    found = []
    try:
        first = stage.world.submit()
        stage.world.await_end(first, patience=_PATIENCE_S)
        oracle = stage.world.digest(first)
        for number in range(seed, seed + rounds):
            found.append(play(stage, number, oracle))
            _say(found[-1])
    finally:
        stage.stop()
    return found


def _say(outcome: Outcome) -> None:
    blows = " ".join(f"{b.kind}@{b.after_s}{'' if b.hit else '(missed)'}" for b in outcome.blows)
    tries = "+".join(str(job["attempts"]) for job in outcome.jobs)
    word = "right" if outcome.ok else f"WRONG {outcome.problem}"
    sys.stdout.write(f"{outcome.seed:4d}  {outcome.seconds:6.1f} s  attempts {tries}  {blows}  {word}\n")
    sys.stdout.flush()


def dispatch() -> None:
    """The process of a dispatcher."""
    import logging

    from cluster.local import ClusterSpec, connect
    from serve.running.service import dispatching
    from serve.settings import ServiceSettings

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = ServiceSettings.read()
    with connect(ClusterSpec(settings.service_dir, "auto")):
        dispatching(settings, settings.open_store())
        signal.pause()


def main() -> None:
    """See the module."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--dispatch", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.dispatch:
        dispatch()
        return
    folder = Path(tempfile.mkdtemp(prefix="swathe-chaos-"))
    found = chaos(given.rounds, given.seed, folder)
    if given.out:
        given.out.write_text(json.dumps([asdict(outcome) for outcome in found], indent=1))
    wrong = sum(not outcome.ok for outcome in found)
    sys.stdout.write(f"{len(found)} rounds, {wrong} wrong\n")
    if not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
