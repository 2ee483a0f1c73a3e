"""A job, followed to its end: by server-sent events while that works, by asking where it does not.

Each event comes once and in order, whatever happens to connections: what was seen is known by its number.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import httpx2

from swathe.client.link import Call, passing
from swathe.client.problems import error_of
from swathe.client.values import event_of, job_of
from swathe.errors import ServiceError, SwatheError
from swathe.job import ENDED, Job, JobState, Progress
from swathe.state import Event

if TYPE_CHECKING:
    from swathe.client.link import Link

SILENCE_S = 60.0
"""Without so much as a comment, after which a stream is taken for dead; the service sends one every 15 s."""
FRUITLESS = 3
"""Streams that brought nothing, after which the service is asked instead: something on the way holds them back."""
POLL_S = 5.0
"""Seconds between questions, at most; at first as ``Patience.first_s`` says."""


@dataclass(frozen=True, slots=True)
class News:
    """One thing heard of a job; either may be missing."""

    event: Event | None = None
    """That was not heard before."""
    job: Job | None = None
    """As it stands now."""


class Following:
    """One job and what has been heard of it. Iterate over it."""

    def __init__(self, link: Link, job: str, after: int = 0, silence_s: float = SILENCE_S) -> None:
        """``after``: number of the last event that is known already."""
        self._link = link
        self._path = f"/api/jobs/{job}"
        self._silence_s = silence_s
        self._heard = time.monotonic()
        self._fruitless = 0
        self._pause = link.patience.first_s
        self._job: Job | None = None
        self.after = after

    async def __aiter__(self) -> AsyncIterator[News]:
        """Until the job has ended and its last event was given.

        Raises what the service's problem says; ServiceError where it stays away (``Patience.outage_s``).
        """
        while True:
            before = self.after
            try:
                async for news in self._streamed() if self._fruitless < FRUITLESS else self._asked():
                    self._heard = time.monotonic()
                    yield news
                job = job_of(await self._link.told(Call("GET", self._path)))
                self._heard = time.monotonic()
            except (httpx2.TransportError, ServiceError) as error:
                self._endure(error)
            else:
                self._job = job = _later(self._job, job)
                yield News(job=job)
                if job.state in ENDED and self.after >= job.last_seq:
                    return
            await self._rest(fruitful=self.after > before)

    def _endure(self, error: Exception) -> None:
        """An outage is borne for a while: a service that restarts loses nothing."""
        final = isinstance(error, ServiceError) and error.problem.code == "service.answer"
        if final or time.monotonic() - self._heard > self._link.patience.outage_s:
            raise self._link.unreachable(error) if isinstance(error, httpx2.TransportError) else error

    async def _rest(self, *, fruitful: bool) -> None:
        self._pause = self._link.patience.first_s if fruitful else min(POLL_S, self._pause * 1.5)
        await asyncio.sleep(self._pause)

    async def _streamed(self) -> AsyncIterator[News]:
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", "Last-Event-ID": str(self.after)}
        call = Call("GET", f"{self._path}/events", headers=headers)
        async with self._link.opened(call, self._silence_s) as answer:
            if answer.is_error:
                await answer.aread()
                raise _passing_or_not(answer)
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                self._fruitless = FRUITLESS
                return
            self._fruitless += 1
            async for message in httpx2.EventSource(answer):
                if news := self._read(message):
                    self._fruitless = 0
                    yield news

    async def _asked(self) -> AsyncIterator[News]:
        while True:
            call = Call("GET", f"{self._path}/events", {"after": self.after})
            events = (await self._link.told(call) or {}).get("events", [])
            for document in events:
                if news := self._news(document):
                    yield news
            if not events:
                return

    def _read(self, message: httpx2.ServerSentEvent) -> News | None:
        """How the job stands, or an event, which has its number as id."""
        try:
            document = json.loads(message.data)
            if message.event == "job":
                self._job = _later(self._job, job_of(document["job"]))
            elif message.event == "progress":
                self._job = self._job and _later(self._job, _further(self._job, document))
            else:
                return self._news(document) if message.id == str(document["seq"]) else None
        except (ValueError, KeyError, TypeError):
            return None  # of a kind that a newer service sends
        return News(job=self._job)

    def _news(self, document: dict[str, Any]) -> News | None:
        event = event_of(document)
        if event.seq <= self.after:
            return None
        self.after = event.seq
        return News(event)


def _further(job: Job, document: dict[str, Any]) -> Job:
    facts = document["facts"]
    numbers = {entry.name: facts[entry.name] for entry in fields(Progress) if entry.name in facts}
    return replace(job, state=JobState(facts["state"]), progress=Progress(**numbers), last_seq=int(document["seq"]))


def _later(before: Job | None, now: Job) -> Job:
    """Whichever was looked at later: streams of several processes may lag, a job never seems to go back."""
    if before is None or now.last_seq > before.last_seq:
        return now
    onwards = before.progress.onwards(now.progress) == now.progress
    return now if onwards and now.last_seq == before.last_seq else before


def _passing_or_not(answer: httpx2.Response) -> SwatheError:
    """What passes is told as an outage, so that it is borne."""
    error = error_of(answer)
    return ServiceError(error.detail, hint=error.hint, code="service.busy") if passing(answer) else error
