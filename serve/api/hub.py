"""Who follows jobs, and one look at the store for all of them.

However many listen, a process asks the store once per tick how far their jobs are, and fetches the new events of a
job once. A listener keeps nothing but its place in the sequence, so a slow one costs no memory, and one that comes
back with the number of its last event misses none.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anyio import to_thread

from serve.api.front import Front
from serve.store import events, pulse
from swathe.errors import BusyError, StoreError
from swathe.job import ENDED
from swathe.state import Event

if TYPE_CHECKING:
    from serve.store.pulse import Pulse
    from serve.store.store import Store

_KEPT = 256
"""Newest events of a job that are at hand for all its listeners; older ones are read again."""
_PAGE = 500
_PARTS = 4
"""So many users can fill a process with listeners together; one alone gets that part of it."""
_PAUSE_S = 1.0
"""Between two looks where one went wrong, as while the store is out of reach."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Topic:
    """One job that somebody follows."""

    pulse: Pulse | None = None
    gone: bool = False
    recent: deque[Event] = field(default_factory=lambda: deque(maxlen=_KEPT))
    news: asyncio.Event = field(default_factory=asyncio.Event)
    listeners: int = 0

    def tell(self, found: Pulse | None, fresh: list[Event]) -> None:
        """What a look has shown; wakes the listeners where it is new."""
        if found == self.pulse and found is not None:
            return
        self.pulse, self.gone = found, found is None
        self.recent.extend(fresh)
        self.news.set()
        self.news = asyncio.Event()

    @property
    def ended(self) -> bool:
        return self.gone or (self.pulse is not None and self.pulse.state in ENDED)


class Hub:
    """All listeners of one process, in its event loop."""

    def __init__(self, store: Store, front: Front) -> None:
        self._store, self._front = store, front
        self._topics: dict[str, _Topic] = {}
        self._listeners = 0
        self._of: Counter[str] = Counter()
        self._watch: asyncio.Task[None] | None = None

    @property
    def listeners(self) -> int:
        """The number of listeners."""
        return self._listeners

    def expect_room(self, user: str) -> None:
        """Raises BusyError (``busy.listeners``) where as many listen as may, of all or of this user."""
        own, most = self._of[user], self._front.listeners
        if self._listeners >= most or own >= max(1, most // _PARTS):
            raise BusyError(f"{self._listeners} clients follow jobs here already, {own} of them are yours",
                            code="busy.listeners", hint="ask for the job now and then instead")  # fmt: skip

    @contextmanager
    def beside(self, user: str) -> Iterator[None]:
        """A listener that looks for itself, counted like any other. Raises BusyError as ``expect_room``."""
        self.expect_room(user)
        self._listeners += 1
        self._of[user] += 1
        try:
            yield
        finally:
            self._listeners -= 1
            self._of[user] -= 1
            self._of += Counter()

    async def follow(
        self, job: str, after: int, user: str = "", known: Pulse | None = None
    ) -> AsyncIterator[Event | Pulse | None]:  # fmt: skip
        """Events after this number as they come, a pulse where progress has changed, None as a sign of life.

        ``known``: what the listener has been told already. Nothing is told that is older, and a pulse comes right
        before the event that it goes with, so that no state is told twice in the wrong order.
        Ends when the job has ended and its last event was given, or when it is gone.
        """
        seq, told = after, known
        with self._joined(job, user) as topic:
            while True:
                news, seen = topic.news, topic.pulse
                if topic.gone:
                    return
                if seen is not None:
                    async for event in self._between(job, topic, seq, seen.seq):
                        if event.seq == seen.seq and _tells(seen, told):
                            yield (told := seen)
                        yield event
                        seq = event.seq
                    if _tells(seen, told):
                        yield (told := seen)
                    if seen.state in ENDED:
                        return
                if not await _came(news, self._front.keep_alive_s):
                    yield None

    async def until_ended(self, job: str, seconds: float, user: str = "") -> bool:
        """Wait for a job's end, so long at most; whether it came."""
        with self._joined(job, user) as topic:
            loop = asyncio.get_running_loop()
            deadline = loop.time() + seconds
            while not topic.ended and loop.time() < deadline:
                await _came(topic.news, deadline - loop.time())
            return topic.ended

    async def _between(self, job: str, topic: _Topic, after: int, last: int) -> AsyncIterator[Event]:
        """Events ``after+1 .. last``, from memory where they are there."""
        while after < last:
            held = _unbroken(topic.recent, after, last)
            if not held:
                held = _unbroken(await to_thread.run_sync(self._read, job, after), after, last)
            if not held:  # it was removed meanwhile
                return
            for event in held:
                yield event
            after = held[-1].seq

    def _read(self, job: str, after: int) -> list[Event]:
        with self._store.read() as c:
            return events.of(c, job, after, _PAGE)

    # --- the watch ---

    @contextmanager
    def _joined(self, job: str, user: str) -> Iterator[_Topic]:
        topic = self._topics.setdefault(job, _Topic())
        topic.listeners += 1
        self._listeners += 1
        self._of[user] += 1
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._watching())
        try:
            yield topic
        finally:
            self._listeners -= 1
            self._of[user] -= 1
            self._of += Counter()  # those with nobody left go
            topic.listeners -= 1
            if not topic.listeners and self._topics.get(job) is topic:
                del self._topics[job]

    async def _watching(self) -> None:
        """As long as somebody listens."""
        while self._topics:
            pause = self._front.tick_s
            try:
                await self._look()
            except StoreError as error:
                _log.warning("listeners wait: %s", error.problem.line())
                pause = _PAUSE_S
            except Exception:  # noqa: BLE001  the next look may go well; without one, all would wait in silence
                _log.exception("the look at what is followed stumbled")
                pause = _PAUSE_S
            await asyncio.sleep(pause)

    async def _look(self) -> None:
        asked = {job: topic.pulse.seq if topic.pulse else None for job, topic in self._topics.items()}
        pulses, fresh = await to_thread.run_sync(self._seen, asked)
        for job in asked:
            if job in self._topics:
                self._topics[job].tell(pulses.get(job), fresh.get(job, []))

    def _seen(self, asked: Mapping[str, int | None]) -> tuple[dict[str, Pulse], dict[str, list[Event]]]:
        """How far all are, and new events of those that had some; what was before the first look is not asked for.

        Events that came between the two questions belong to the next look.
        """
        with self._store.read() as c:
            pulses = pulse.of(c, asked)
            fresh = {
                job: [event for event in events.of(c, job, before, _PAGE) if event.seq <= pulses[job].seq]
                for job, before in asked.items()
                if before is not None and job in pulses and pulses[job].seq > before
            }
        return pulses, fresh


def _unbroken(found: Iterable[Event], after: int, last: int) -> list[Event]:
    """Those of ``after+1 .. last`` that follow each other from the first one on; what comes after a gap is left."""
    run: list[Event] = []
    for event in found:
        if event.seq == after + len(run) + 1 and event.seq <= last:
            run.append(event)
    return run


def _tells(seen: Pulse, told: Pulse | None) -> bool:
    """Whether a pulse tells of progress that the listener has not heard of; an older one does not."""
    if told is None:
        return True
    if seen.seq != told.seq:
        return seen.seq > told.seq and seen.progress != told.progress
    return told.progress != seen.progress == told.progress.onwards(seen.progress)


async def _came(news: asyncio.Event, seconds: float) -> bool:
    try:
        await asyncio.wait_for(news.wait(), seconds)
    except TimeoutError:
        return False
    return True
