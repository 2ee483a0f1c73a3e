"""A series in time: the scenes of one search by solar day, each day by itself, all of them on one grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from pipelines.mosaic.clear import checked, refuse_cloudier
from pipelines.mosaic.frame import Frame
from pipelines.mosaic.grid import OutputGrid
from pipelines.mosaic.measure import Measured
from pipelines.mosaic.slots import Chosen, each_day
from pipelines.products.collection import DayState, Entry, Listing
from pipelines.searched import Archive, Sight, said, sighted, unmeasured
from swathe.card import ModelCard
from swathe.errors import InputError, Problem
from swathe.mosaic import Mosaic
from swathe.recipe import Recipe, Search
from swathe.scene import AssetGrid, Scene


@dataclass(frozen=True, slots=True)
class Day:
    """One solar day over the area."""

    when: date
    """By the sun at the middle of the area (``slots.solar_day``)."""
    scenes: tuple[Scene, ...]
    """In order of preference."""
    clear: float | None
    """Share of the area that is clear in any of them, 0..1; scenes without a mask are clear where they lie. None: none
    of their masks could be read."""
    cloud: float | None
    """Percent of what they show of the area that is under cloud; None: no mask tells."""
    mosaic: Mosaic | None = None
    """What a run of this day reads; None: there is none to be made."""
    problem: Problem | None = None
    """Why not."""


@dataclass(frozen=True, slots=True)
class Series:
    """What a search found, day by day."""

    grid: OutputGrid
    """Of all days alike."""
    days: tuple[Day, ...]
    """Oldest first."""
    notes: tuple[str, ...]
    """What the user should know of the search."""


def look(recipe: Recipe, card: ModelCard, archive: Archive, frame: Frame | None = None) -> Series:
    """Search once, and settle for each day what a run of it will read.

    ``max_cloud`` is meant of a day: of one that stays, all scenes are used. ``frame``: of days that are there already;
    without it, the grid is chosen from the scenes of all days. Raises as ``searched.look``, and InputError
    (``search.source``: files are named; ``when.each``: the model compares dates; ``when.undated``: the source has no
    dates).
    """
    _search(recipe, ())  # files have no days
    if card.input.times > 1:
        raise InputError(f"{card.id} compares {card.input.times} dates, so there is no map of a day by itself",
                         code="when.each", field="--each-date", hint="leave it out")  # fmt: skip
    with sighted(recipe, card, archive, cloudy=True) as sight:
        if sight.source.tiles:
            raise InputError(f"{sight.source.id} has pictures without dates", code="when.undated",
                             field="--each-date", hint="leave it out")  # fmt: skip
        grid = sight.grid(sight.found.scenes, frame)
        measured = sight.measured(grid)
        chosen = each_day(measured.scenes, sight.asked, measured.together)
        days = tuple(_day(sight, grid, measured, one) for one in chosen)
        return Series(grid, days, (*said(sight.found), *unmeasured(measured)))


def _day(sight: Sight, grid: OutputGrid, measured: Measured, chosen: Chosen) -> Day:
    (slot,) = chosen.slots
    cloud, known = measured.cloud(slot.scenes), any(scene.key in measured.seen for scene in slot.scenes)
    clear = measured.together(slot.scenes) if known else None
    day = Day(date.fromisoformat(slot.when), slot.scenes, clear, cloud)
    try:
        refuse_cloudier(cloud, sight.search.max_cloud)
        hardly = checked(chosen.slots, measured, tuple)
    except InputError as error:
        return replace(day, problem=error.problem)
    return replace(day, mosaic=sight.mosaic(grid, chosen, hardly))


def recipe_of(recipe: Recipe, grid: OutputGrid, day: Day) -> Recipe:
    """What a run of one day is asked for: that day, on the grid of all of them.

    The limit on cloud is not in it: it decides whether the day is run, and none of its pixels.
    """
    frame = grid.frame
    return replace(recipe, search=_search(recipe, (day.when.isoformat(),), crs=frame.crs, res=frame.res))


def asked(recipe: Recipe) -> str:
    """Hash of what all days have in common: with other dates it is the same series, shorter or longer."""
    return replace(recipe, search=_search(recipe, ())).asked


def listing_of(series: Series, recipe: Recipe, card: ModelCard) -> Listing:
    """As the collection lists it before any day was run."""
    grid = series.grid
    where = AssetGrid(grid.frame.crs, grid.transform, grid.shape)
    entries = {entry.day: entry for entry in map(_entry, series.days)}
    return Listing(card.id, f"{card.title}, day by day", asked(recipe), where, entries)


def _entry(day: Day) -> Entry:
    times = sorted(time for scene in day.scenes for time in scene.lasted or (scene.when,))
    state, why = (DayState.LEFT_OUT, day.problem.detail) if day.problem else (DayState.WAITING, "")
    return Entry(day.when.isoformat(), times[0], times[-1], tuple(scene.id for scene in day.scenes),
                 _rounded(day.clear, 4), _rounded(day.cloud, 2), state, why=why)  # fmt: skip


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def _search(recipe: Recipe, dates: tuple[str, ...], **more: object) -> Search:
    """What one day, or none, is searched with. Raises InputError where there is no search."""
    if recipe.search is None:
        raise InputError("--each-date says how to search, but not where", code="search.source", field="--source",
                         hint="add --source, or leave it out")  # fmt: skip
    return replace(recipe.search, dates=dates, max_cloud=None, **more)
