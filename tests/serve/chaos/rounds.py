"""Rounds: jobs and predictions over HTTP, blows at seeded moments, and what must hold of every job and every answer.

A round is repeated by its own seed and ``--rounds 1``, as far as time is repeatable. The JSON file has every blow and
every outcome, and is written after each round.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from cluster import reach
from cluster import submit as submit_job
from serve.running.crews import task_name
from swathe.job import Where
from tests.serve.chaos.asker import Asker, predicted
from tests.serve.chaos.listener import Listener, submit
from tests.serve.chaos.stage import DATABASES, LATE, POOL, RAY, WEIGHTS, Stage
from tests.serve.running.world import right_story

_PATIENCE_S = 600
_LATE = 2
"""The job that is asked for after so many blows, while the service may be down."""


@dataclass
class Blow:
    """One thing that was done."""

    after_s: float
    kind: str
    hit: bool = False


@dataclass(frozen=True)
class Oracle:
    """What a service says that nobody disturbs."""

    bytes_of: dict[tuple[int, int], dict[str, str]]
    """Digests of a job's products, by the shape of its scene."""
    answer: bytes
    """The prediction of the chip."""


@dataclass
class Outcome:
    """Of one round."""

    seed: int
    database: str
    blows: list[Blow]
    jobs: list[dict] = field(default_factory=list)
    predictions: dict[str, int] = field(default_factory=dict)
    """Answered, dropped, or refused with a code -> how many of them."""
    seconds: float = 0.0
    ok: bool = False
    problem: str = ""


def drawn(seed: int) -> list[Blow]:
    """What is done in a round, and when."""
    rng, at, blows = random.Random(seed), 0.0, []
    for _ in range(rng.randint(1, 4)):
        at += rng.uniform(0.2, 6.0)
        blows.append(Blow(round(at, 2), rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]))
    return blows


def asked_for(blows: list[Blow], seed: int) -> tuple[tuple[int, int], ...]:
    """Two jobs before the first blow; a Ray job, which takes a minute, where it is to be hit, and every tenth time."""
    hit = any(blow.kind in LATE for blow in blows)
    return (POOL, RAY if hit or seed % 10 == 0 else POOL)


class Round:
    """One of them."""

    def __init__(self, stage: Stage, seed: int, oracle: Oracle) -> None:
        """Nothing has happened yet."""
        self.stage, self.seed, self.oracle = stage, seed, oracle
        self.listeners: dict[str, Listener] = {}
        self.shapes: dict[str, tuple[int, int]] = {}

    def play(self, database: str) -> Outcome:
        """All of it; trouble is told, and the next round follows."""
        outcome, began = Outcome(self.seed, database, drawn(self.seed)), time.monotonic()
        asker = Asker(self.stage.client, self.stage.chip, self.oracle.answer)
        try:
            for shape in asked_for(outcome.blows, self.seed):
                self._ask(shape)
            self._strike(outcome.blows, time.monotonic(), asker.struck)
            self._expect()
            asker.finish(_PATIENCE_S)
            outcome.ok = True
        except Exception as error:  # noqa: BLE001
            outcome.problem = f"{type(error).__name__}: {error}"[:4000]
        finally:
            asker.stop()
        outcome.jobs = [self._told(id_) for id_ in self.listeners]
        outcome.predictions = dict(sorted(asker.heard.items()))
        outcome.seconds = round(time.monotonic() - began, 1)
        return outcome

    def _strike(self, blows: list[Blow], began: float, struck: threading.Event) -> None:
        rng = random.Random(self.seed)
        for number, blow in enumerate(blows, 1):
            time.sleep(max(0.0, began + blow.after_s - time.monotonic()))
            struck.set()
            blow.hit = self.stage.strike(blow.kind, rng)
            if number == min(_LATE, len(blows)):
                self._ask(POOL)
        self.stage.settle()

    def _ask(self, shape: tuple[int, int]) -> None:
        wish = wish_for(self.stage, shape) | {"labels": {"round": self.seed, "number": len(self.listeners)}}
        with self.stage.client() as client:
            id_ = submit(client, wish, _PATIENCE_S)
        self.listeners[id_], self.shapes[id_] = Listener(self.stage.client, id_), shape

    def _expect(self) -> None:
        world = self.stage.world
        world.await_end(*self.listeners, patience=_PATIENCE_S, pause_s=0.5)
        for id_, listener in self.listeners.items():
            listener.finish(_PATIENCE_S)
            right_story(world, id_)
            assert listener.seqs == [event.seq for event in world.events(id_)], f"heard of {id_}: {listener.seqs}"
            assert world.digest(id_) == self.oracle.bytes_of[self.shapes[id_]], f"other bytes: {id_}"
        self._expect_once()

    def _expect_once(self) -> None:
        """Nobody asked for more than three."""
        from serve.store import jobs

        with self.stage.world.store.read() as c:
            found = jobs.listed(c, jobs.Filter(labels={"round": self.seed}), 10).items
        mine = [job.id for job in found]
        assert sorted(mine) == sorted(self.listeners), f"accepted: {mine}"

    def _told(self, id_: str) -> dict:
        job = self.stage.world.job(id_)
        return {"id": id_, "place": job.where.value, "state": job.state.value, "attempts": job.attempts,
                "events": job.last_seq, "connections": self.listeners[id_].connections}  # fmt: skip


def chaos(rounds: int, seed: int, folder: Path, database: str = "sqlite",
          tell: Callable[[Outcome], None] = lambda _: None) -> list[Outcome]:  # fmt: skip
    """All rounds on one service; the first jobs and predictions are left alone, and say what the bytes are."""
    stage = Stage(folder, database)
    found = []
    try:
        oracle = Oracle({shape: _alone(stage, shape) for shape in (POOL, RAY)}, _answer(stage))
        for number in range(seed, seed + rounds):
            found.append(Round(stage, number, oracle).play(database))
            tell(found[-1])
    finally:
        stage.stop()
    return found


def wish_for(stage: Stage, shape: tuple[int, int]) -> dict[str, Any]:
    """Chunks enough that kills meet work which is half done."""
    return {"model": "water-ndwi", "inputs": [str(stage.scenes[shape])], "chunk": 512}


def _alone(stage: Stage, shape: tuple[int, int]) -> dict[str, str]:
    with stage.client() as client:
        id_ = submit(client, wish_for(stage, shape), _PATIENCE_S)
    stage.world.await_end(id_, patience=_PATIENCE_S)
    right_story(stage.world, id_)
    assert (stage.world.job(id_).where is Where.CLUSTER) == (shape == RAY)
    _expect_shown(stage, id_)
    return stage.world.digest(id_)


def _answer(stage: Stage) -> bytes:
    with stage.client() as client:
        first, second = (predicted(client, stage.chip) for _ in range(2))
    assert (first.status_code, second.content) == (200, first.content), first.text
    return first.content


def _expect_shown(stage: Stage, id_: str) -> None:
    """Ray's dashboard shows a job by its id: as a task of the pool, or as a Ray job with metadata and a log."""
    job, url = stage.world.job(id_), stage.up["dashboard"]
    if job.where is not Where.CLUSTER:
        assert _tasks(url, task_name(id_)), f"no task of {id_} is shown"
        return
    assert job.ray_job is not None
    _, shown = reach.get_json(f"{url}/api/jobs/{job.ray_job}")
    expected = {"program": "swathe", "job": id_, "user": job.owner, "model": job.model}
    assert shown["metadata"].items() >= expected.items(), shown["metadata"]
    assert {"title", "attempt"} <= set(shown["metadata"])
    log = submit_job.logs(job.ray_job, submit_job.Dashboard(url, here=True)).splitlines()
    facts = [json.loads(line) for line in log if line.startswith("{")]
    assert facts, log
    assert {fact["job"] for fact in facts} == {id_}


def _tasks(url: str, name: str, patience_s: float = 30.0) -> list[dict[str, Any]]:
    """Those of a name; workers report them once a second."""
    query = urlencode({"filter_keys": "name", "filter_predicates": "=", "filter_values": name})
    limit, found = time.monotonic() + patience_s, []
    while not found and time.monotonic() < limit:
        _, answer = reach.get_json(f"{url}/api/v0/tasks?{query}", timeout=30)
        found = (answer or {}).get("data", {}).get("result", {}).get("result", [])
        time.sleep(0.5)
    return found


def _say(outcome: Outcome) -> None:
    blows = " ".join(f"{b.kind}@{b.after_s}{'' if b.hit else '(missed)'}" for b in outcome.blows)
    tries = "+".join(str(job["attempts"]) for job in outcome.jobs)
    asked = " ".join(f"{word} {n}" for word, n in outcome.predictions.items())
    word = "right" if outcome.ok else f"WRONG {outcome.problem}"
    facts = f"{outcome.seed:4d}  {outcome.seconds:6.1f} s  attempts {tries}  {blows}"
    sys.stdout.write(f"{facts}  ({asked})  {word}\n")
    sys.stdout.flush()


def main() -> None:
    """See the module."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped
    parser = argparse.ArgumentParser(description="Seeded kills of a whole service.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=sorted(DATABASES), default="sqlite")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="swathe-chaos-"))
    found: list[Outcome] = []

    def tell(outcome: Outcome) -> None:
        found.append(outcome)
        _say(outcome)
        if given.out:
            given.out.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")

    chaos(given.rounds, given.seed, folder, given.database, tell)
    wrong = sum(not outcome.ok for outcome in found)
    sys.stdout.write(f"{len(found)} rounds, {wrong} wrong\n")
    if not wrong:
        shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(1 if wrong else 0)
