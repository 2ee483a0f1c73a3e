"""What an attempt writes into the store: in order, each once, and kept while the database is away."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from serve.structured import about
from swathe.errors import ConflictError, InputError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from serve.store.jobs import Hold
    from serve.store.store import Store

Step = Callable[["Connection"], object]
LOST = "job.lost"
"""Code of the error that a former holder's write meets."""
_AT_ONCE = 200
"""Steps of one transaction."""
_log = logging.getLogger("swathe.writes")


class WriteQueue:
    """Threads of one attempt may share it. A step must be fit to be tried again: what it writes carries a key."""

    def __init__(self, store: Store, hold: Hold, lost: Callable[[], None]) -> None:
        """``lost`` is called where the job turns out to be somebody else's by now; then nothing is written any more."""
        self._store, self._hold, self._lost = store, hold, lost
        self._waiting: deque[Step] = deque()
        self._lock = threading.RLock()

    def keep(self, step: Step) -> None:
        """To be written by the next ``flush``."""
        with self._lock:
            self._waiting.append(step)

    def flush(self) -> bool:
        """Write what waits; whether nothing does any more.

        What the database refuses for its value would be refused again: it is left out, and the rest is written.
        """
        at_once = _AT_ONCE
        with self._lock:
            while self._waiting:
                some = [self._waiting[n] for n in range(min(at_once, len(self._waiting)))]
                try:
                    self._together(some)
                except StoreError:
                    return False
                except InputError as error:
                    if len(some) > 1:
                        at_once = 1
                        continue
                    _log.error("left out: %s", error.problem.line(), exc_info=error,
                               extra=about(job=self._hold.job, task=self._hold.task))  # fmt: skip
                for _ in some:
                    self._waiting.popleft()
            return True

    def _together(self, steps: list[Step]) -> None:
        try:
            with self._store.begin() as c:
                for step in steps:
                    step(c)
        except ConflictError as error:
            if error.problem.code != LOST:
                raise
            self._lost()
