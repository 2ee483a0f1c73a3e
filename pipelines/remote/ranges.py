"""Spans of bytes: near ones become one request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Span = tuple[int, int]
"""[start, stop)."""
TINY = 2 << 10
"""A gap up to here costs less than the headers of a second request."""
GAP = 64 << 10
"""A gap up to here is fetched too, while all gaps of a request stay below ``WASTE`` of what was asked for."""
WASTE = 0.08
MOST = 4 << 20
"""Bytes of one request, where it has several spans: beyond, two that run side by side are faster."""


@dataclass(frozen=True, slots=True)
class Group:
    """One request."""

    start: int
    stop: int
    members: tuple[int, ...]
    """Positions of the spans that it brings, in the list that was given."""


def merge(spans: Sequence[Span], gap: int = GAP, most: int = MOST) -> list[Group]:
    """Requests that bring all spans, by rising start; every span lies in one of them, empty ones in none.

    Spans may come in any order, overlap and repeat. Raises ValueError for a span that ends before it begins.
    """
    if any(not 0 <= start <= stop for start, stop in spans):
        raise ValueError("a span of bytes ends before it begins")
    order = sorted((n for n, (start, stop) in enumerate(spans) if start < stop), key=lambda n: spans[n])
    groups: list[Group] = []
    first = last = useful = 0
    members: list[int] = []
    for n in order:
        start, stop = spans[n]
        hole = max(0, start - last)
        more = max(0, stop - max(start, last))
        wasted = last - first - useful + hole
        near = hole <= min(TINY, gap) or (hole <= gap and wasted <= WASTE * (useful + more))
        inside = stop <= last
        if members and (inside or (near and max(last, stop) - first <= most)):
            members.append(n)
            last, useful = max(last, stop), useful + more
            continue
        if members:
            groups.append(Group(first, last, tuple(members)))
        first, last, useful, members = start, stop, stop - start, [n]
    return [*groups, Group(first, last, tuple(members))] if members else groups


def pieces(groups: Sequence[Group], bodies: Sequence[bytes], spans: Sequence[Span]) -> dict[int, bytes]:
    """What each request brought, cut into the spans; shorter where the file ends before."""
    found = {}
    for group, body in zip(groups, bodies, strict=True):
        for n in group.members:
            start, stop = spans[n]
            alone = (start, stop) == (group.start, group.stop)
            found[n] = body if alone else body[start - group.start : stop - group.start]
    return found
