"""Log lines of the service's processes: one JSON object each, in which what a line is about stands as fields.

Modules write to loggers of the standard library, ``_log.warning("the attempt died", extra=about(job=hold.job))``, and
know nothing of the form; each process of the service asks for it once, when it begins.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

from swathe.imagery import shown_in

OURS = ("serve", "swathe")
"""Loggers whose lines have this form; libraries keep theirs."""
_ABOUT = "about"
"""Attribute of a record. One for all fields, as the standard library refuses some names (``name``, ``message``)."""


def about(**facts: Any) -> dict[str, Any]:
    """``extra`` of a line: its fields, such as ``job``, ``task`` (one attempt at it), ``chunk``, ``batch``."""
    return {_ABOUT: facts}


def install(stream: TextIO | None = None) -> None:
    """From now on, lines of ours go to ``stream`` (standard output) in this form. Asked again, nothing changes.

    Of the process itself: in its replicas, Serve puts a logger of its own in the place of ``sys.stdout``.
    """
    for name in OURS:
        logger = logging.getLogger(name)
        if not any(isinstance(handler.formatter, Lines) for handler in logger.handlers):
            handler = logging.StreamHandler(stream or sys.__stdout__)
            handler.setFormatter(Lines())
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            logger.propagate = False  # or whoever listens at the root would write it again


class Lines(logging.Formatter):
    """``timestamp`` (UTC, RFC 3339), ``level``, ``logger``, ``message``, ``exception`` if there is one, the fields.

    Addresses in messages and traces stand there without their queries: libraries name them whole, signatures and all.
    """

    def format(self, record: logging.LogRecord) -> str:
        """What a line says of itself wins over what it is about."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = {
            **getattr(record, _ABOUT, {}), "timestamp": when, "level": record.levelname.lower(),
            "logger": record.name, "message": shown_in(record.getMessage()),
        }  # fmt: skip
        if record.exc_info:
            line["exception"] = shown_in(self.formatException(record.exc_info))
        try:
            return json.dumps(line, default=str, allow_nan=False)
        except (TypeError, ValueError):  # keys that are no texts, values that hold themselves, NaN
            return json.dumps({name: str(value) for name, value in line.items()})
