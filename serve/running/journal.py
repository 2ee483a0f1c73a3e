"""A job's log: one JSON line per fact in the log of the process, and the same line in the store, for its owner."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from serve.structured import about

if TYPE_CHECKING:
    from serve.running.write_queue import WriteQueue
    from serve.store.jobs import Hold

_log = logging.getLogger("swathe.jobs")


class Journal:
    """Every line names the job and the task, one attempt at it; lines about a chunk name that as well."""

    def __init__(self, hold: Hold, writes: WriteQueue) -> None:
        """Nothing is written yet."""
        self._hold, self._writes = hold, writes

    def info(self, message: str, **facts: Any) -> None:
        """How it goes."""
        self._write(logging.INFO, message, facts)

    def warning(self, message: str, **facts: Any) -> None:
        """What the owner should look at."""
        self._write(logging.WARNING, message, facts)

    def error(self, message: str, **facts: Any) -> None:
        """What ended an attempt."""
        self._write(logging.ERROR, message, facts)

    def inside(self, message: str, **facts: Any) -> None:
        """What is not for the owner: a traceback stays on this machine."""
        _log.error("%s", message, exc_info=True, extra=self._about(facts))

    def _write(self, level: int, message: str, facts: dict[str, Any]) -> None:
        from serve.store import logs
        from serve.store.store import now

        _log.log(level, "%s", message, extra=self._about(facts))
        kept = {"task": self._hold.task, **_plain(facts)}
        line = logs.Line(now(), logging.getLevelName(level).lower(), message, kept)
        self._writes.keep(lambda c: logs.add(c, self._hold.job, [line]))

    def _about(self, facts: dict[str, Any]) -> dict[str, Any]:
        return about(**{**facts, "job": self._hold.job, "task": self._hold.task})


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(facts, default=str))
