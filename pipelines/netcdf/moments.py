"""Times of CF: numbers since a moment, in calendars that are also ours."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pipelines.netcdf.variables import Variable

_SINCE = re.compile(
    r"([A-Za-z]+)\s+since\s+(\d{4})-(\d{1,2})-(\d{1,2})(?:[T\s]+(\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.\d*)?)?)?"
    r"\s*(Z|UTC|GMT|[+-]\d{1,2}(?::?\d{2})?)?\s*", re.IGNORECASE,
)  # fmt: skip
_SECONDS = {
    "millisecond": 1e-3, "msec": 1e-3, "ms": 1e-3, "second": 1.0, "sec": 1.0, "s": 1.0, "minute": 60.0, "min": 60.0,
    "hour": 3600.0, "hr": 3600.0, "h": 3600.0, "day": 86400.0, "d": 86400.0, "week": 604800.0,
}  # fmt: skip
"""Months and years are none of them: how long they are is not known."""
_CALENDARS = {"", "standard", "gregorian", "proleptic_gregorian"}
_GREGORIAN = 1583
"""The first whole year in which these calendars are one."""


def moments_of(variable: Variable) -> list[str]:
    """RFC 3339 in UTC, to the second; empty where a number is none of our calendar's moments: that is not guessed."""
    numbers = np.asarray(variable.read((slice(None),) * len(variable.dims)), dtype=np.float64).reshape(-1)
    scale = variable.attributes.get("scale_factor", 1.0), variable.attributes.get("add_offset", 0.0)
    since = _since(variable.text("units"), variable.text("calendar").lower())
    if since is None:
        return [""] * len(numbers)
    return [_told(*since, float(n) * float(scale[0]) + float(scale[1])) for n in numbers]


def _since(units: str, calendar: str) -> tuple[datetime, float] | None:
    """From when, and how many seconds one of them takes."""
    match = _SINCE.fullmatch(units)
    if match is None or calendar not in _CALENDARS:
        return None
    unit = match[1].lower()
    seconds = _SECONDS.get(unit) or _SECONDS.get(unit.removesuffix("s"))
    try:
        parts = [int(part or 0) for part in match.group(2, 3, 4, 5, 6, 7)]
        begin = datetime(*parts, tzinfo=_zone(match[8] or ""))  # type: ignore[arg-type]
    except ValueError:
        return None
    return (begin, seconds) if seconds else None


def _zone(text: str) -> timezone:
    if not text or text[0] not in "+-":
        return UTC
    digits = text[1:].replace(":", "").rjust(2, "0").ljust(4, "0")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:4]))
    return timezone(-offset if text[0] == "-" else offset)


def _told(begin: datetime, seconds: float, number: float) -> str:
    try:
        found = (begin + timedelta(seconds=round(number * seconds))).astimezone(UTC)
    except (OverflowError, ValueError):
        return ""
    return f"{found:%Y-%m-%dT%H:%M:%SZ}" if min(begin.year, found.year) >= _GREGORIAN else ""
