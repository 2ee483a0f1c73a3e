"""Nothing was found: what there is instead, as one clear problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pipelines.search.query import Found, Near, Query
from swathe.errors import ImageryError
from swathe.imagery import shown
from swathe.source import SourceCard
from swathe.when import Interval, read_moment

_STEPS = (4, 16, 64, 366, 3660)
"""Days to both sides, looked through one after the other until there is something."""
_FEW = 300
"""Items looked at per stretch; of more, those that the service gives first."""
_SHOWN = 3
_TICK = timedelta(microseconds=1)
_EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
"""Nothing looked at the Earth before."""
Search = Callable[[Query], Sequence[Near]]
"""Acquisitions over the area that can be used, oldest first."""


def nearest(query: Query, search: Search, now: datetime) -> tuple[Near, ...]:
    """Cloudier ones of the same dates, where clouds were the reason; else the nearest before and after."""
    anyhow = replace(query, max_cloud=None, limit=_FEW)
    if query.max_cloud is not None and (cloudy := [n for n in search(anyhow) if _above(n, query)]):
        return tuple(sorted(cloudy, key=lambda n: n.cloud or 0.0)[:_SHOWN])
    starts = [i.start for i in query.intervals]
    ends = [i.end for i in query.intervals]
    first = None if None in starts else min(s for s in starts if s)
    last = None if None in ends else max(e for e in ends if e)
    before = (
        first
        and first > _EARLIEST
        and _first(anyhow, search, lambda days: Interval(first - timedelta(days), first - _TICK))
    )
    after = (
        last
        and last < now
        and _first(anyhow, search, lambda days: Interval(last + _TICK, min(now, last + timedelta(days))))
    )
    return (*(before[-1:] if before else ()), *(after[:1] if after else ()))


def _above(near: Near, query: Query) -> bool:
    """Whether the limit on clouds keeps it out, as far as its catalogue tells."""
    return query.max_cloud is not None and near.cloud is not None and near.cloud > query.max_cloud


def _first(query: Query, search: Search, stretch: Callable[[int], Interval]) -> Sequence[Near]:
    for days in _STEPS:
        if found := search(replace(query, intervals=(stretch(days),))):
            return found
    return ()


def nothing(card: SourceCard, query: Query, found: Found) -> ImageryError:
    """The problem ``search.nothing``: what was asked for, and the nearest that there is."""
    dates = ", ".join(str(i) for i in query.intervals)
    limit = "" if query.max_cloud is None else f" with at most {query.max_cloud:g} % cloud"
    what = f"{shown(card.url)}{f' ({card.collection})' if card.collection else ''}"
    detail = f"no scene of {what} lies on the area on {dates}{limit}"
    if found.left_out:
        first = found.left_out[0]
        more = f", and {len(found.left_out) - 1} more" if len(found.left_out) > 1 else ""
        detail += f"; {first.id} was left out: {first.reason}{more}"
    return ImageryError(detail, code="search.nothing", hint=_hint(query, found), field="--dates")


def _hint(query: Query, found: Found) -> str:
    near = found.nearest
    if not near:
        why = found.notes[-1] if found.notes else "there is none that can be used within ten years"
        return f"{why}: check the area (longitude first), the collection and the dates"
    cloudy = [n for n in near if _above(n, query)]
    inside = [n for n in cloudy if any(i.holds(read_moment(n.when)) for i in query.intervals)]
    if inside:
        return f"raise --max-cloud: there are {', '.join(map(str, inside))}"
    higher = ", with a higher --max-cloud where that is below its clouds" if cloudy else ""
    return f"the nearest are {' and '.join(map(str, near))}: give one of those dates{higher}"
