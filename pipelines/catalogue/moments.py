"""Times of items and of searches, as microseconds since 1970 in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from swathe.errors import InputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)
_RFC3339 = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}([.,]\d+)?([Zz]|[+-]\d{2}:\d{2})")
EARLIEST, LATEST = -(2**62), 2**62
"""Open ends of an interval."""


def micros(text: str) -> int:
    """Of an RFC 3339 time; finer digits are cut off. One without a zone is taken as UTC, as pystac does.

    Raises ValueError.
    """
    found = datetime.fromisoformat(text.upper())
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (found - _EPOCH) // _TICK


def instant_text(value: int) -> str:
    """RFC 3339 of microseconds."""
    return (_EPOCH + value * _TICK).isoformat().replace("+00:00", "Z")


def times_of(properties: dict[str, Any]) -> tuple[int | None, int, int]:
    """(instant, start, end) of an item: what a search for a time is compared with.

    ``start_datetime`` and ``end_datetime`` count where they are given, also beside a ``datetime``. Raises InputError.
    """
    try:
        instant, start, end = (
            None if properties.get(name) is None else micros(properties[name])
            for name in ("datetime", "start_datetime", "end_datetime")
        )
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise _refused(f"a time of the item cannot be read: {error}") from None
    start, end = (instant if start is None else start), (instant if end is None else end)
    if start is None or end is None:
        raise _refused("the item has neither a datetime nor a start_datetime and an end_datetime")
    if end < start:
        raise _refused("the item ends before it starts")
    return instant, start, end


def interval(text: str) -> tuple[int, int]:
    """First and last microsecond of ``datetime`` of a search: an instant, ``a/b``, ``../b``, ``a/..``.

    Raises InputError (``catalogue.datetime``).
    """
    ends = text.split("/")
    if len(ends) > 2:  # noqa: PLR2004  an interval has two
        raise _unclear(text, "an interval has one slash")
    known = [None if end in ("", "..") else _instant(end, text) for end in ends]
    if not any(end is not None for end in known):
        raise _unclear(text, "at least one end has to be given")
    first = EARLIEST if known[0] is None else known[0]
    last = LATEST if known[-1] is None else known[-1]
    if last < first:
        raise _unclear(text, "it ends before it starts")
    return first, last


def _instant(text: str, whole: str) -> int:
    if not _RFC3339.fullmatch(text):
        raise _unclear(whole, "it is no RFC 3339 time")
    try:
        return micros(text)
    except (ValueError, OverflowError) as error:
        raise _unclear(whole, str(error)) from None


def _refused(detail: str) -> InputError:
    return InputError(detail, code="catalogue.item", field="properties", hint="times look like 2024-07-25T10:00:00Z")


def _unclear(text: str, why: str) -> InputError:
    return InputError(
        f"the time {text[:80]!r} is not clear: {why}",
        code="catalogue.datetime",
        field="datetime",
        hint="give 2024-07-25T10:00:00Z, or an interval like 2024-07-01T00:00:00Z/..",
    )
