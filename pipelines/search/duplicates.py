"""One acquisition that a catalogue holds several times, because it was processed again: the newest is kept."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from pipelines.search.items import timed
from pipelines.search.query import LeftOut
from pipelines.search.radiometry import Unclear, baseline_of
from swathe.when import read_moment

Json = Mapping[str, Any]
T = TypeVar("T")
_APART = timedelta(seconds=60)
"""Parts of a tile that come from two data strips are minutes apart; a second processing moves times by seconds."""
_DATATAKE = re.compile(r"G?(S2[A-Z])_(\d{8}T\d{6})")
_PRODUCT = re.compile(r"(S2[A-Z])_MSIL\d[A-Z]_(\d{8}T\d{6})_.*?_?T(\d{2}[A-Z]{3})_")
_STRIP = re.compile(r"_S(\d{8}T\d{6})")
_LANDSAT = re.compile(r"(L[COTEM]0\d)_L\d[A-Z]{2}_(\d{6})_(\d{8})_")
_TIER = {"T1": 2, "T2": 1, "RT": 0}
_OLDEST = datetime(1, 1, 1)  # noqa: DTZ001  without a zone, as only distances matter


@dataclass(frozen=True, slots=True)
class _Version(Generic[T]):
    """One of several processings."""

    item: Json
    made: T
    time: datetime
    rank: tuple[Any, ...]


def newest(items: Iterable[tuple[Json, T]]) -> tuple[list[tuple[Json, T]], list[LeftOut]]:
    """Items without those that another one replaces, and what was replaced by what.

    Each comes with what was made of it: one of which nothing can be made replaces none, and is not to be given.
    Sentinel-2: the same datatake, tile and data strip, by baseline and then by time of processing. Landsat: the same
    path, row and day, by tier and then by time. Anything else is its own acquisition.
    """
    kept: list[tuple[Json, T]] = []
    groups: dict[tuple[str, ...], list[_Version[T]]] = defaultdict(list)
    for item, made in items:
        key = acquisition_of(item)
        if key is None:
            kept.append((item, made))
        else:
            groups[key].append(_Version(item, made, _time(item), _rank(item)))
    left_out: list[LeftOut] = []
    for versions in groups.values():
        for same in _clusters(versions):
            best = max(same, key=lambda v: v.rank)
            kept.append((best.item, best.made))
            left_out += [
                LeftOut(str(v.item.get("id")), f"processed again since: {best.item.get('id')} is used")
                for v in same
                if v is not best
            ]
    return kept, left_out


def acquisition_of(item: Json) -> tuple[str, ...] | None:
    """What two processings of one acquisition have in common; None for products that are not known."""
    if not isinstance(item, Mapping):
        return None
    properties = item.get("properties") or {}
    take = _DATATAKE.match(str(properties.get("s2:datatake_id") or properties.get("eopf:datatake_id") or ""))
    tile = str(properties.get("s2:mgrs_tile") or properties.get("grid:code") or "").removeprefix("MGRS-").lstrip("T")
    if take and tile:
        return take[1], take[2], tile
    for text in (str(properties.get("s2:product_uri") or ""), str(item.get("id", ""))):
        if match := _PRODUCT.match(f"{text}_"):
            return match.groups()
        if match := _LANDSAT.match(f"{text}_"):
            return match.groups()
    return None


def _clusters(versions: list[_Version[T]]) -> list[list[_Version[T]]]:
    found: list[list[_Version[T]]] = []
    for version in sorted(versions, key=lambda v: v.time):
        if found and version.time - found[-1][-1].time < _APART:
            found[-1].append(version)
        else:
            found.append([version])
    return found


def _time(item: Json) -> datetime:
    """Of the data strip where the item names it, else of the item; without a zone, as only distances matter."""
    properties = item.get("properties") or {}
    strip = _STRIP.search(str(properties.get("s2:datastrip_id") or properties.get("eopf:datastrip_id") or ""))
    if strip:
        return datetime.strptime(strip[1], "%Y%m%dT%H%M%S")  # noqa: DTZ007  see above
    try:
        return timed(item).first.replace(tzinfo=None)
    except Unclear:
        return _OLDEST


def _rank(item: Json) -> tuple[Any, ...]:
    properties = item.get("properties") or {}
    tier = str(properties.get("landsat:collection_category") or str(item.get("id", ""))[-2:])
    return (
        baseline_of(item) or (0, 0), _TIER.get(tier, 0),
        *(_moment(properties.get(k)) for k in ("s2:generation_time", "processing:datetime", "updated", "created")),
        str(item.get("id")),
    )  # fmt: skip


def _moment(value: Any) -> datetime:
    try:
        return read_moment(str(value)).replace(tzinfo=None)
    except ValueError:
        return _OLDEST
