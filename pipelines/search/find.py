"""From a source, a place and a time to scenes: search, sort out, keep the newest processing, say what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import shapely
from shapely.geometry.base import BaseGeometry

from pipelines.search import duplicates, folder, stac, static
from pipelines.search.footprint import footprint_of
from pipelines.search.items import check, cloud_of, scene_of, timed
from pipelines.search.nearest import nearest, nothing
from pipelines.search.query import Documents, Found, LeftOut, Near, Query
from pipelines.search.radiometry import Unclear
from pipelines.search.tiles import scene_of_tiles
from swathe.aoi import AOI
from swathe.errors import BandError, InputError, SwatheError
from swathe.scene import Scene
from swathe.source import SourceCard, SourceKind
from swathe.when import joined

_DOUBT = 5.0
"""Points of a percentage by which a catalogue and a mask may differ about the same clouds."""
Json = Mapping[str, Any]
Read = Callable[[Query], Iterable[tuple[Json, str] | LeftOut]]
"""Items for a query, each with the address it was read from; and what could not be read."""


def find(card: SourceCard, query: Query, documents: Documents, now: datetime | None = None) -> Found:
    """Scenes of a source over a place in a time, oldest first.

    Items that cannot be used (an asset missing, numbers that nobody explains) are left out and told; so are those
    that were processed again. Raises BandError (a band that the source does not have), ImageryError
    (``search.nothing``, with the nearest dates in its hint), InputError and ReadError as the searches do.
    """
    found = look(card, query, documents, now or datetime.now(UTC))
    if not found.scenes:
        raise nothing(card, query, found)
    return found


def look(card: SourceCard, query: Query, documents: Documents, now: datetime) -> Found:
    """The same, but finding nothing is an answer: with what is nearest instead."""
    _check_bands(card, query)
    query = replace(query, intervals=joined(query.intervals))
    if card.kind is SourceKind.TILES:
        return Found((scene_of_tiles(card, query),))
    read = _reader(card, documents)
    left_out: list[LeftOut] = []
    matching = list(_matching(card, query, read, left_out))
    found, replaced = duplicates.newest(_usable(matching, card, query, left_out))
    scenes = [scene for _, scene in found]
    notes = _notes(card, query)
    if scenes:
        return Found(_sorted(scenes), (*left_out, *replaced), notes)
    try:
        near = nearest(query, lambda q: _near(card, q, read), now)
    except SwatheError as error:
        near, notes = (), (*notes, f"other dates could not be asked for ({error.detail})")
    return Found((), (*left_out, *replaced), notes, near)


def around(card: SourceCard, query: Query, documents: Documents, now: datetime) -> tuple[Near, ...]:
    """The nearest scenes before and after a query's dates, whatever their clouds; none where that cannot be asked."""
    if card.kind is SourceKind.TILES:
        return ()
    try:
        read = _reader(card, documents)
        return nearest(replace(query, max_cloud=None), lambda q: _near(card, q, read), now)
    except SwatheError:
        return ()


def _sorted(scenes: list[Scene]) -> tuple[Scene, ...]:
    return tuple(sorted(scenes, key=lambda s: (s.when, s.id)))


def _check_bands(card: SourceCard, query: Query) -> None:
    missing = [name for name in query.bands if name not in card.bands]
    if missing:
        raise BandError(
            f"the source {card.id} has no band {', '.join(missing)}",
            code="band.missing",
            hint=f"it has {', '.join(card.bands)}",
            field="--source",
        )


def _notes(card: SourceCard, query: Query) -> tuple[str, ...]:
    if query.max_cloud is not None and not (card.cloud_property or query.measured):
        return (f"{card.id} does not know how cloudy its scenes are: --max-cloud was ignored",)
    return ()


# --- items ------------------------------------------------------------------------------------------------------------


def _reader(card: SourceCard, documents: Documents) -> Read:
    """How a source is read for one query after another; a static catalogue is walked once."""
    if card.kind is SourceKind.FOLDER:
        return lambda query: folder.items_of(card, query.intervals)
    if card.kind is SourceKind.STATIC:
        walked = list(static.items_of(card, documents))
        return lambda _: walked
    return lambda query: ((item, card.url) for item in stac.items_of(card, query, documents))


def _matching(card: SourceCard, query: Query, read: Read, left_out: list[LeftOut]) -> Iterator[tuple[Json, str]]:
    """Items in place and time, and under the limit on clouds: services are not trusted to have filtered."""
    for one in read(query):
        if isinstance(one, LeftOut):
            left_out.append(one)
            continue
        try:
            fits = _fits(one[0], card, query)
        except Unclear as reason:
            left_out.append(LeftOut(_name(one[0]), str(reason)))
            continue
        if fits:
            yield one


def _fits(item: Json, card: SourceCard, query: Query) -> bool:
    check(item)
    outline, time = footprint_of(item), timed(item)
    if outline is None:
        raise Unclear("it has no usable geometry")
    if not any(i.holds(time.first, time.last) for i in query.intervals):
        return False
    if shapely.area(shapely.intersection(outline, query.aoi.geometry)) <= 0:
        return False
    return _clear_enough(item, outline, card, query)


def _clear_enough(item: Json, outline: BaseGeometry, card: SourceCard, query: Query) -> bool:
    if query.max_cloud is None or not card.cloud_property:
        return True
    cloud = cloud_of(item, card)
    if query.measured:
        return cloud is None or cloud <= _most(outline, query.aoi, query.max_cloud) + _DOUBT
    if cloud is None:
        raise Unclear(f"it does not say how cloudy it is ({card.cloud_property}), and --max-cloud was given")
    return cloud <= query.max_cloud


def _most(outline: BaseGeometry, aoi: AOI, limit: float) -> float:
    """Percent of a whole scene under cloud, so much that the area cannot be under the limit even if all else is."""
    inside = shapely.area(shapely.intersection(outline, aoi.geometry)) / shapely.area(outline)
    return 100.0 - float(inside) * (100.0 - limit)


def _usable(
    items: Iterable[tuple[Json, str]], card: SourceCard, query: Query, left_out: list[LeftOut]
) -> Iterator[tuple[Json, Scene]]:
    """Items with the scenes that they are. Before the newest of several is chosen: it may be the one that is none."""
    for item, where in items:
        try:
            yield item, scene_of(item, card, query.bands, where)
        except Unclear as reason:
            left_out.append(LeftOut(_name(item), str(reason)))


def _near(card: SourceCard, query: Query, read: Read) -> list[Near]:
    """What there is at another time that would be used, oldest first; where there is very much, some of it."""
    items, _ = duplicates.newest(_usable(_some(_matching(card, query, read, [])), card, query, []))
    return sorted((Near(timed(i).middle, cloud_of(i, card), _name(i)) for i, _ in items), key=lambda n: n.when)


def _some(items: Iterator[tuple[Json, str]]) -> Iterator[tuple[Json, str]]:
    try:
        yield from items
    except InputError as error:
        if error.refined != "search.too_many":
            raise


def _name(item: Any) -> str:
    return str(item.get("id")) if isinstance(item, Mapping) else "an item"


def covered(scene: Scene, query: Query) -> float:
    """Share of the area of interest within a scene's footprint (0..1), in degrees squared of the map."""
    outline = shapely.from_wkb(scene.footprint)
    return float(shapely.area(shapely.intersection(outline, query.aoi.geometry)) / query.aoi.geometry.area)
