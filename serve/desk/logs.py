"""A job's log as a text for people."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from serve.desk.content import Content, Text
from serve.store import logs

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from serve.store.logs import Line

MOST = 20_000
"""Lines of a text; of a longer log the newest."""


def log_name(job: str) -> str:
    """Name of the file that is a job's log."""
    return f"{job}.log"


def job_log(c: Connection, job: str, until: str | None = None) -> bytes:
    """One line each: time, level, message, facts. ``until``: RFC 3339; later ones are left out."""
    last = logs.last(c, job, until)
    first = max(0, last - MOST)
    lines = [_text(line) for line in logs.of(c, job, first, MOST) if line.seq <= last]
    before = [f"… {first:,} older lines"] if first else []
    return "".join(f"{line}\n" for line in (*before, *lines)).encode("utf-8", "replace")


def as_content(text: bytes, name: str) -> Content:
    """A text, to be sent."""
    return Content(name, len(text), Text(text), hashlib.sha256(text).hexdigest()[:32])


def _text(line: Line) -> str:
    facts = f" {json.dumps(line.facts, ensure_ascii=False, default=str)}" if line.facts else ""
    return f"{line.at} {line.level:<7} {' '.join(line.message.split())}{facts}"
