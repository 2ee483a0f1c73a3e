"""A job's log: one JSON line per fact on standard output, and the same line in the store, for its owner."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from serve.running.pen import Pen
    from serve.store.jobs import Hold


class Journal:
    """Every line names the job and the task, one attempt at it; lines about a chunk name that as well."""

    def __init__(self, hold: Hold, pen: Pen) -> None:
        """Nothing is written yet."""
        self._job, self._pen = hold.job, pen
        self._out = _lines().bind(job=hold.job, task=f"{hold.job}-{hold.epoch}")
        self._task = f"{hold.job}-{hold.epoch}"

    def info(self, message: str, **facts: Any) -> None:
        """How it goes."""
        self._out.info(message, **facts)
        self._keep("info", message, facts)

    def warning(self, message: str, **facts: Any) -> None:
        """What the owner should look at."""
        self._out.warning(message, **facts)
        self._keep("warning", message, facts)

    def error(self, message: str, **facts: Any) -> None:
        """What ended an attempt."""
        self._out.error(message, **facts)
        self._keep("error", message, facts)

    def inside(self, message: str, **facts: Any) -> None:
        """What is not for the owner: a traceback stays on this machine."""
        self._out.error(message, exc_info=True, **facts)

    def _keep(self, level: str, message: str, facts: dict[str, Any]) -> None:
        from serve.store import logs
        from serve.store.store import now

        line = logs.Line(now(), level, message, {"task": self._task, **_plain(facts)})
        self._pen.keep(lambda c: logs.add(c, self._job, [line]))


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(facts, default=str))


def _lines() -> Any:
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stdout),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(default=str),
        ],
    )
