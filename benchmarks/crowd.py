"""Many users of a service at once: predictions of mixed sizes and jobs, a key each, within the shipped limits.

Used by ``benchmarks.service``. One user alone and all of them together take turns, in shuffled rounds; a turn ends when
all that was accepted in it has ended, so that none is measured on another's leavings.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx2

from benchmarks.rounds import Spread, shuffled

JOB_EVERY = 8
"""Every so-manieth request of a user is a job; the others are predictions."""
_PATIENCE_S = 300.0
_OK, _ACCEPTED = 200, 202
_LATER = (429, 503)


@dataclass(frozen=True)
class Mix:
    """What users ask for in turn."""

    chips: Sequence[bytes]
    """Images of several sizes, for predictions."""
    scene: Path
    """An image of this machine, for jobs."""
    models: Sequence[str]

    def predictions(self, turn: int) -> tuple[str, bytes]:
        """Model and image of a turn: all pairs come up."""
        return self.models[turn % len(self.models)], self.chips[(turn // len(self.models)) % len(self.chips)]

    def job(self, turn: int) -> dict[str, Any]:
        """The wish of a turn."""
        return {"model": self.models[turn // JOB_EVERY % len(self.models)], "inputs": [str(self.scene)]}


@dataclass
class Tally:
    """What became of the requests of one turn."""

    predictions: list[float] = field(default_factory=list)
    """Seconds of each."""
    jobs: list[float] = field(default_factory=list)
    """Seconds of each, from the request to its end."""
    refused: list[int] = field(default_factory=list)
    """Status of each, with ``Retry-After``."""
    wrong: list[str] = field(default_factory=list)
    """Anything else."""
    answered: list[int] = field(default_factory=list)
    """Number of the user of each answer."""
    seconds: float = 0.0

    @property
    def answers(self) -> int:
        """Predictions and jobs together."""
        return len(self.predictions) + len(self.jobs)

    @property
    def per_second(self) -> float:
        """Of both."""
        return self.answers / self.seconds


class User:
    """Asks one thing after the other until the time is up."""

    def __init__(self, number: int, url: str, key: str, mix: Mix, tally: Tally) -> None:
        """``tally`` is shared: threads append to its lists, which needs no lock."""
        self._number, self._mix, self._tally = number, mix, tally
        self._client = httpx2.Client(base_url=url, headers={"X-API-Key": key}, timeout=_PATIENCE_S)

    def ask(self, until: float) -> None:
        """Requests until then; what was accepted is waited for."""
        turn = self._number
        with self._client:
            while time.monotonic() < until:
                started = time.perf_counter()
                kept = self._job(turn) if turn % JOB_EVERY == 0 else self._prediction(turn)
                if kept is not None:
                    kept.append(time.perf_counter() - started)
                    self._tally.answered.append(self._number)
                turn += 1

    def _prediction(self, turn: int) -> list[float] | None:
        model, chip = self._mix.predictions(turn)
        answer = self._client.post(f"/api/predict?model={model}", content=chip, headers={"Content-Type": "image/tiff"})
        return self._tally.predictions if self._is(answer, _OK) else None

    def _job(self, turn: int) -> list[float] | None:
        answer = self._client.post("/api/jobs", json=self._mix.job(turn))
        if not self._is(answer, _ACCEPTED):
            return None
        job, until = answer.json(), time.monotonic() + _PATIENCE_S
        while job["state"] not in ("done", "incomplete", "failed", "cancelled") and time.monotonic() < until:
            time.sleep(0.1)
            job = self._client.get(f"/api/jobs/{job['id']}").json()
        if job["state"] != "done":
            self._tally.wrong.append(f"job {job['id']} is {job['state']}: {job.get('problem')}")
        return self._tally.jobs

    def _is(self, answer: httpx2.Response, status: int) -> bool:
        if answer.status_code == status:
            return True
        if answer.status_code in _LATER and "Retry-After" in answer.headers:
            self._tally.refused.append(answer.status_code)
            time.sleep(float(answer.headers["Retry-After"]))
        else:
            self._tally.wrong.append(f"{answer.status_code} {answer.text[:200]}")
        return False


def turn(url: str, keys: Sequence[str], mix: Mix, seconds: float) -> Tally:
    """All of these users at once, for so long."""
    tally, started = Tally(), time.monotonic()
    threads = [threading.Thread(target=User(n, url, key, mix, tally).ask, args=(started + seconds,))
               for n, key in enumerate(keys)]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.seconds = time.monotonic() - started
    return tally


def crowd(url: str, keys: Sequence[str], mix: Mix, seconds: float, rounds: int) -> dict[str, Any]:
    """All users for so many seconds, and one of them alone for half as many; their throughputs' ratio, by round."""
    turn(url, keys[:1], mix, 5.0)  # whatever is loaded at first use
    found: dict[str, list[Tally]] = {"alone": [], "together": []}
    for number in range(rounds):
        for name in shuffled(list(found), number):
            all_ = name == "together"
            found[name].append(turn(url, keys if all_ else keys[:1], mix, seconds if all_ else seconds / 2))
    ratios = [many.per_second / one.per_second for one, many in zip(found["alone"], found["together"], strict=True)]
    spread = Spread.of(ratios)
    return {"users": len(keys), "throughput": [round(v, 3) for v in (spread.middle, spread.low, spread.high)],
            "alone": told(found["alone"]), "together": told(found["together"])}  # fmt: skip


def told(tallies: Sequence[Tally]) -> dict[str, Any]:
    """Turns of one kind as plain JSON values."""
    predictions = [took for tally in tallies for took in tally.predictions]
    jobs = [took for tally in tallies for took in tally.jobs]
    by_user = Counter(number for tally in tallies for number in tally.answered)
    refused = Counter(status for tally in tallies for status in tally.refused)
    return {
        "per_second": round(median(tally.per_second for tally in tallies), 3),
        "predictions": len(predictions), "prediction_s": _middle_and_tail(predictions),
        "jobs": len(jobs), "job_s": _middle_and_tail(jobs),
        "least_and_most_of_a_user": [min(by_user.values()), max(by_user.values())],
        "refused": dict(refused), "wrong": [text for tally in tallies for text in tally.wrong][:5],
    }  # fmt: skip


def _middle_and_tail(took: Sequence[float]) -> dict[str, float]:
    """p50 and p99, seconds."""
    if len(took) < 2:
        return {"p50": round(median(took), 3)} if took else {}
    return {"p50": round(median(took), 3), "p99": round(quantiles(took, n=100)[-1], 3)}


# --- listeners --------------------------------------------------------------------------------------------------------


def listeners(url: str, key: str, scene: Path, model: str, count: int) -> dict[str, Any]:
    """So many streams of one job through the proxy; when the first and the last of them heard of its end."""
    return asyncio.run(_listeners(url, key, {"model": model, "inputs": [str(scene)]}, count))


async def _listeners(url: str, key: str, wish: dict[str, Any], count: int) -> dict[str, Any]:
    limits = httpx2.Limits(max_connections=count + 10)
    async with httpx2.AsyncClient(base_url=url, headers={"X-API-Key": key}, timeout=_PATIENCE_S, limits=limits) as http:
        answer = await http.post("/api/jobs", json=wish)
        answer.raise_for_status()
        heard = await asyncio.gather(*(_heard(http, answer.json()["id"]) for _ in range(count)))
    numbers = {ids for _, ids in heard}
    ends = [at for at, _ in heard]
    return {"listeners": count, "same_events": len(numbers) == 1, "events": len(next(iter(numbers))),
            "from_first_to_last_s": round(max(ends) - min(ends), 3)}  # fmt: skip


async def _heard(http: httpx2.AsyncClient, job: str) -> tuple[float, tuple[str, ...]]:
    """When a stream ended, and the ids of its events."""
    async with http.stream("GET", f"/api/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as answer:
        answer.raise_for_status()
        ids = [line async for line in answer.aiter_lines() if line.startswith("id:")]
    return time.perf_counter(), tuple(ids)
