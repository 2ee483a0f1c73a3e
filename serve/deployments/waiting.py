"""A database that is away while the service starts: waited for, as it comes back by itself.

Serve gives a deployment up whose constructor has failed a few times (three per replica), until somebody applies its
config again. How long a constructor takes is left to it: meanwhile its replica is ``STARTING``, nobody asks for its
health, and Serve says every half minute in its log that it is slow. Constructors have a thread of their own in the
replica, so that it goes on answering Ray. (The API's is up at once and waits behind :mod:`serve.deployments.opening`.)
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TypeVar

from swathe.errors import StoreError

PAUSE_S = 2.0
"""Between two tries."""
_SAY_S = 60.0
"""Between two lines about it."""
_PASSING = frozenset({"store.unavailable", "store.busy", "store.full"})
"""What may be over by itself; tables of a newer version stay newer."""
_log, _store_log = logging.getLogger("swathe.waiting"), logging.getLogger("serve.store.store")
Made = TypeVar("Made")


def passes(error: StoreError) -> bool:
    """Whether it may be over by itself."""
    return error.problem.code in _PASSING


def waited_for(step: Callable[[], Made], patience_s: float = math.inf, pause_s: float = PAUSE_S) -> Made:
    """What ``step`` gives, once the database lets it. Raises StoreError where waiting does not help, or is over."""
    begun, seldom = time.monotonic(), _Seldom()
    _store_log.addFilter(seldom)  # what the driver says at each try would fill a disk over a weekend
    try:
        while True:
            try:
                return step()
            except StoreError as error:
                waited = time.monotonic() - begun
                if not passes(error) or waited >= patience_s:
                    raise
                if seldom.due("waiting"):
                    _log.warning("waiting for the database, %.0f s until now: %s", waited, error.detail)
            time.sleep(pause_s)
    finally:
        _store_log.removeFilter(seldom)


class _Seldom(logging.Filter):
    """Lets a line of a level through, then none like it for a while."""

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        return self.due(record.levelname)

    def due(self, kind: str) -> bool:
        due = time.monotonic() - self._said.get(kind, -math.inf) > _SAY_S
        if due:
            self._said[kind] = time.monotonic()
        return due
