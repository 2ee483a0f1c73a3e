"""Nothing was found: what there is instead, as one clear problem."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pipelines.search.query import Found, Near, Query
from swathe.errors import ImageryError, SwatheError
from swathe.imagery import shown
from swathe.source import SourceCard
from swathe.when import Interval, read_moment

_STEPS = (16, 64, 366, 3660)
"""Days to both sides, looked through one after the other until there is something."""
_FEW = 300
_SHOWN = 3
_TICK = timedelta(microseconds=1)
Search = Callable[[Query], Sequence[Near]]
"""Acquisitions over the area, oldest first."""


def nearest(query: Query, search: Search, now: datetime) -> tuple[Near, ...]:
    """Cloudier ones of the same dates, where clouds were the reason; else the nearest before and after."""
    anyhow = replace(query, max_cloud=None, limit=_FEW)
    if query.max_cloud is not None and (cloudy := _tried(anyhow, search)):
        return tuple(sorted(cloudy, key=lambda n: 101.0 if n.cloud is None else n.cloud)[:_SHOWN])
    starts = [i.start for i in query.intervals]
    ends = [i.end for i in query.intervals]
    first = None if None in starts else min(s for s in starts if s)
    last = None if None in ends else max(e for e in ends if e)
    before = first and _first(anyhow, search, lambda days: Interval(first - timedelta(days), first - _TICK))
    after = (
        last
        and last < now
        and _first(anyhow, search, lambda days: Interval(last + _TICK, min(now, last + timedelta(days))))
    )
    return (*(before[-1:] if before else ()), *(after[:1] if after else ()))


def _first(query: Query, search: Search, stretch: Callable[[int], Interval]) -> Sequence[Near]:
    for days in _STEPS:
        if found := _tried(replace(query, intervals=(stretch(days),)), search):
            return found
    return ()


def _tried(query: Query, search: Search) -> Sequence[Near]:
    """Too many, or a service that fails now, is no reason to hide that nothing was found."""
    try:
        return search(query)
    except SwatheError:
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
    return ImageryError(detail, code="search.nothing", hint=_hint(query, found.nearest), field="--dates")


def _hint(query: Query, near: Sequence[Near]) -> str:
    if not near:
        return "there is none within ten years: check the area (longitude first), the collection and the dates"
    inside = [n for n in near if any(i.holds(read_moment(n.when)) for i in query.intervals)]
    if inside:
        return f"raise --max-cloud: there are {', '.join(map(str, inside))}"
    return f"the nearest are {' and '.join(map(str, near))}: give one of those dates"
