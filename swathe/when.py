"""Dates as people type them: days, months, intervals, instants, open ends; several, with commas. Always UTC."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from swathe.errors import InputError

_DAY = r"\d{4}-\d{2}-\d{2}"
_INSTANT = re.compile(rf"({_DAY})[Tt ](\d{{2}}:\d{{2}}(?::\d{{2}}(?:\.\d+)?)?)([Zz]|[+-]\d{{2}}:?\d{{2}})?")
_MONTH = re.compile(r"(\d{4})-(\d{2})")
_YEAR = re.compile(r"\d{4}")
_TICK = timedelta(microseconds=1)
_FIELD = "--dates"
_HINT = (
    "write 2024-07-25, 2024-07, 2024-07-25_2024-07-27, 2024-07-25/2024-07-27, ../2024-01-01, 2024-01-01/.. or instants "
    "like 2024-07-25T10:00:00Z; several with commas"
)


@dataclass(frozen=True, slots=True)
class Interval:
    """A stretch of time, both ends included."""

    start: datetime | None
    """UTC; None: open."""
    end: datetime | None
    """UTC; None: open. A day ends one microsecond before the next."""

    def holds(self, first: datetime, last: datetime | None = None) -> bool:
        """Whether an acquisition, or one that lasted until ``last``, falls into it at all."""
        last = last or first
        return (self.start is None or last >= self.start) and (self.end is None or first <= self.end)

    def stac(self) -> str:
        """As STAC APIs take it: ``start/end`` in milliseconds, ``..`` for an open end.

        Ends are cut, not rounded, to milliseconds: no acquisition is timed more finely by its catalogue.
        """
        return f"{_stamp(self.start)}/{_stamp(self.end)}"

    def __str__(self) -> str:
        """For people: whole days without times."""
        if self.start and self.end and self.start.date() == self.end.date() and self._whole_days:
            return self.start.date().isoformat()
        ends = (_shown(self.start, whole=self._whole_days), _shown(self.end, whole=self._whole_days))
        return ends[0] if ends[0] == ends[1] else "/".join(ends)

    @property
    def _whole_days(self) -> bool:
        starts = self.start is None or self.start.time() == datetime.min.time()
        ends = self.end is None or self.end.time() == datetime.max.time()
        return starts and ends


def _stamp(moment: datetime | None) -> str:
    return ".." if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(moment: datetime | None, *, whole: bool) -> str:
    if moment is None:
        return ".."
    return moment.date().isoformat() if whole else moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def parse_dates(texts: str | Sequence[str], now: datetime) -> tuple[Interval, ...]:
    """From what was typed, oldest first, each part for itself: a method of several dates wants them apart.

    ``now`` is the present, against which the future is told. Raises InputError (``when.none``, ``.unreadable``,
    ``.reversed``, ``.future``).
    """
    given = [texts] if isinstance(texts, str) else list(texts)
    parts = [part.strip() for text in given for part in text.split(",") if part.strip()]
    if not parts:
        raise _error("none", "no date was given", _HINT)
    return _sorted({parse_interval(part, now) for part in parts})


def parse_interval(text: str, now: datetime) -> Interval:
    """One day, month, year, instant or interval. Raises InputError as ``parse_dates``."""
    ends = re.split(r"[/_]", text.strip())
    if len(ends) > 2:  # noqa: PLR2004  two ends
        raise _error("unreadable", f"{text!r} has more than two ends", _HINT)
    spans = [_span(end, text) for end in ends]
    start, end = spans[0][0], spans[-1][1]
    if start is None and end is None:
        raise _error("unreadable", f"{text!r} is open at both ends", "give one end at least, e.g. 2024-01-01/..")
    if start and end and start > end:
        raise _error("reversed", f"{text} ends before it begins", f"did you mean {ends[-1].strip()}/{ends[0].strip()}?")
    if start and start > now:
        raise _error(
            "future",
            f"{text} lies in the future; today is {now.date().isoformat()}",
            "satellites have no imagery of it yet: give a date up to today",
        )
    return Interval(start, end)


def _span(text: str, whole: str) -> tuple[datetime | None, datetime | None]:
    """First and last microsecond of a day, a month, a year or an instant; both None where it is open."""
    text = text.strip()
    if text in ("..", ""):
        return None, None
    try:
        return _of_instant(text) if _INSTANT.fullmatch(text) else _of_calendar(text)
    except OverflowError:
        raise _error("unreadable", f"{_part(text, whole)} lies at the edge of the calendar",
                     "leave that end open, e.g. 2024-01-01/..") from None  # fmt: skip
    except ValueError:
        raise _error("unreadable", f"{_part(text, whole)} is no date", _HINT) from None


def _part(text: str, whole: str) -> str:
    return repr(text) if text == whole else f"{text!r} in {whole!r}"


def _of_instant(text: str) -> tuple[datetime, datetime]:
    found = datetime.fromisoformat(text.replace("z", "Z").replace("t", "T"))
    moment = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    return moment, moment


def _of_calendar(text: str) -> tuple[datetime, datetime]:
    if month := _MONTH.fullmatch(text):
        year, number = int(month[1]), int(month[2])
        start = datetime(year, number, 1, tzinfo=UTC)
        after = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=UTC)
    elif _YEAR.fullmatch(text):
        start, after = datetime(int(text), 1, 1, tzinfo=UTC), datetime(int(text) + 1, 1, 1, tzinfo=UTC)
    elif re.fullmatch(_DAY, text):
        start = datetime.fromisoformat(text).replace(tzinfo=UTC)
        after = start + timedelta(days=1)
    else:
        raise ValueError(text)
    return start, after - _TICK


def joined(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    """Oldest first, and joined where they overlap, so that nothing is asked for twice."""
    kept: list[Interval] = []
    for one in _sorted(intervals):
        before = kept[-1] if kept else None
        if before and (before.end is None or one.start is None or one.start <= before.end):
            ends = (before.end, one.end)
            kept[-1] = Interval(before.start, None if None in ends else max(e for e in ends if e))
        else:
            kept.append(one)
    return tuple(kept)


def _sorted(intervals: Iterable[Interval]) -> tuple[Interval, ...]:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    return tuple(sorted(intervals, key=lambda i: (i.start or first, i.end or last)))


def read_moment(text: str) -> datetime:
    """An RFC 3339 instant of a catalogue, as UTC. Raises ValueError."""
    found = datetime.fromisoformat(text.strip().replace("z", "Z"))
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _error(code: str, detail: str, hint: str) -> InputError:
    return InputError(detail, code=f"when.{code}", hint=hint, field=_FIELD)
