"""Threads for work that takes its time, shared so that nobody can take them all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from swathe.errors import BusyError

T = TypeVar("T")
_PARTS = 4
"""So many users can fill a lane together; one alone gets that part of it."""


class Lane:
    """Of one process, in its event loop. Work waits for its user's turn first, then for a thread."""

    def __init__(self, at_once: int, queue: int) -> None:
        """``at_once``: pieces of work; ``queue``: those that wait."""
        self._at_once, self._queue = at_once, queue
        self._share = max(1, at_once // _PARTS)
        self._threads: CapacityLimiter | None = None
        self._taken = 0
        self._turns: dict[str, asyncio.Semaphore] = {}
        self._here: Counter[str] = Counter()

    async def run(self, user: str, work: Callable[[], T], *, waits: bool = True) -> T:
        """The result of ``work``. ``waits``: whether it may wait for a turn.

        Raises BusyError: ``busy.requests`` where too much waits already, of all or of this user; ``busy.turn`` for work
        that may not wait, where it would have to.
        """
        if waits:
            self._expect_room(user)
        else:
            self.expect_turn(user)
        self._here[user] += 1
        try:
            async with self._turns.setdefault(user, asyncio.Semaphore(self._share)):
                return await self._in_thread(work)
        finally:
            self._here[user] -= 1
            if not self._here[user]:
                del self._here[user], self._turns[user]

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._threads = self._threads or CapacityLimiter(self._at_once)
        self._taken += 1
        try:
            return await to_thread.run_sync(work, limiter=self._threads)
        finally:
            self._taken -= 1

    def _expect_room(self, user: str) -> None:
        own, part = self._here[user], self._share + max(1, self._queue // _PARTS)
        if own >= part or self._here.total() >= self._at_once + self._queue:
            raise BusyError(f"{self._here.total()} requests wait here, {own} of them are yours", code="busy.requests",
                            hint="come again in a moment")  # fmt: skip

    def expect_turn(self, user: str) -> None:
        """Raises BusyError (``busy.turn``) where work of this user would have to wait."""
        turn = self._turns.get(user)
        if self._taken >= self._at_once or (turn is not None and turn.locked()):
            raise BusyError(f"{self._taken} such requests are at work, {self._here[user]} are yours: no turn is free",
                            code="busy.turn", hint="come again when one of them has ended")  # fmt: skip
