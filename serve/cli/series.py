"""``--each-date``: a map of each day of one search, one run after the other, and the collection that lists them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING

from serve.cli import show
from serve.cli.work import Way, execute, with_ray
from serve.planning import card_of, estimated, in_precision, look_each
from swathe.errors import (
    INCOMPLETE,
    OK,
    CardError,
    ClusterError,
    InputError,
    Interrupted,
    OutputError,
    SwatheError,
    UnknownModelError,
    UnsafeModelError,
    WeightsError,
)

if TYPE_CHECKING:
    from pipelines.estimate import Means
    from pipelines.products.collection import Entry, Listing
    from pipelines.run import Outcome
    from pipelines.series import Day, Series
    from pipelines.store.blobs import Blobs
    from serve.settings import Settings
    from swathe.card import ModelCard
    from swathe.recipe import Recipe

_OF_NO_DAY = (Interrupted, CardError, UnknownModelError, UnsafeModelError, WeightsError, ClusterError)
"""What stops one day would stop all others."""


def run(recipe: Recipe, settings: Settings, way: Way) -> int:
    """Run each day in a folder of its own, named by its date; gives the exit code.

    A day that fails does not stop the others. The same command keeps days that are done, tries the others again, and
    adds what has been found since, on the grid that the series began with. Raises what a run raises where it is of no
    one day, or where no day at all could be run; OutputError (``output.taken``).
    """
    from pipelines import series
    from pipelines.mosaic.frame import Frame
    from pipelines.store.blobs import open_blobs

    store, asked = open_blobs(way.out, settings.store), series.asked(recipe)
    settings.treatments(recipe)  # what every day's run would refuse is refused before anything is searched
    card = in_precision(card_of(recipe, settings), way.precision)
    kept = None if way.overwrite else _kept(store, asked)
    frame = None if kept is None else Frame.through(kept.grid.crs, kept.grid.transform)
    found = look_each(recipe, card, settings, frame)
    for text in found.notes:
        show.note(text, as_json=way.as_json)
    todo = _todo(found)
    book = _Book(store, _joined(series.listing_of(found, recipe, card), kept), as_json=way.as_json)
    with with_ray(settings, local=way.local):
        for day in todo:
            wish, there = series.recipe_of(recipe, found.grid, day), f"{str(way.out).rstrip('/')}/{day.when}"
            book.enter(day, partial(execute, wish, settings, replace(way, out=there), day.mosaic))
    book.refuse_nothing()
    entries = [book.listing.entries[day.when.isoformat()] for day in found.days]
    whole = all(entry.state in ("done", "left_out") for entry in entries)
    show.series(entries, str(way.out), whole=whole, as_json=way.as_json)
    return OK if whole else INCOMPLETE


def plan(recipe: Recipe, card: ModelCard, settings: Settings, means: Means, *, as_json: bool) -> None:
    """Say which days there are, and what running them would take. Raises as ``run`` does before it runs."""
    from pipelines import series
    from pipelines.begin import begin

    found = look_each(recipe, card, settings)
    plans = {}
    for day in found.days:
        if day.mosaic is not None:
            made = begin(series.recipe_of(recipe, found.grid, day), card, day.mosaic, means.workers)
            plans[day.when.isoformat()] = estimated(made, settings, means)
    listing = series.listing_of(found, recipe, card)
    if as_json:
        days = [asdict(entry) | {"plan": plans[name].as_dict() if name in plans else None}
                for name, entry in listing.entries.items()]  # fmt: skip
        facts = {"model": card.id, "grid": asdict(listing.grid), "days": days, "notes": found.notes}
        sys.stdout.write(json.dumps(facts, indent=1, default=str) + "\n")
    else:
        show.planned(listing, plans, found.notes)


def _todo(found: Series) -> list[Day]:
    """Days to be run. Raises InputError where there is none."""
    todo = [day for day in found.days if day.mosaic is not None]
    if not todo:
        told = "; ".join(f"{day.when}: {day.problem.detail}" for day in found.days[:3] if day.problem)
        raise InputError(f"of {len(found.days)} days none can be mapped: {told}", code="scenes.cloudy",
                         field="--dates", hint="widen --dates, or raise --max-cloud where it was given")  # fmt: skip
    return todo


def _kept(store: Blobs, asked: str) -> Listing | None:
    """The series that lies there. Raises OutputError where it is another one."""
    from pipelines.products.collection import NAME, Listing

    if store.look(NAME) is None:
        return None
    found = Listing.read(store.get(NAME))
    if found is None or found.asked != asked:
        raise OutputError(f"{store.place} holds the {NAME} of something else", code="output.taken", field="--out",
                          hint="choose another folder, or add --overwrite")  # fmt: skip
    return found


def _joined(fresh: Listing, kept: Listing | None) -> Listing:
    """With days of earlier calls: those of other dates, and those that have their map."""
    if kept is None:
        return fresh
    waiting = {day for day, entry in fresh.entries.items() if entry.state == "waiting"}
    still = {day: entry for day, entry in kept.entries.items()
             if day not in fresh.entries or (day in waiting and entry.state.mapped)}  # fmt: skip
    return replace(fresh, entries={**fresh.entries, **still})


class _Book:
    """The collection, written anew whenever a day has ended: whoever reads it meanwhile finds it whole."""

    def __init__(self, store: Blobs, listing: Listing, *, as_json: bool) -> None:
        self.listing = listing
        self._store, self._as_json = store, as_json
        self._errors: list[Exception] = []
        self._ended = 0
        self._write()

    def enter(self, day: Day, execute: Callable[[], Outcome]) -> None:
        """Have one day's run carried out, and write down what became of it."""
        entry = self.listing.entries[day.when.isoformat()]
        show.begun(entry, as_json=self._as_json)
        try:
            entry = _ended(entry, execute())
            self._ended += 1
        except _OF_NO_DAY:
            raise
        except Exception as error:  # noqa: BLE001  a day that fails does not stop the others
            self._errors.append(error)
            entry = _failed(entry, error)
        self.listing = replace(self.listing, entries={**self.listing.entries, entry.day: entry})
        self._write()
        show.ended(entry, as_json=self._as_json)

    def refuse_nothing(self) -> None:
        """Raises what kept the first day from being run, where none was."""
        if self._errors and not self._ended:
            raise self._errors[0]

    def _write(self) -> None:
        from pipelines.products.collection import NAME

        self._store.put(NAME, self.listing.document())


def _ended(entry: Entry, outcome: Outcome) -> Entry:
    from pipelines.products.collection import DayState
    from pipelines.report import BARREN

    facts = outcome.report
    why = next((text for text in facts.get("warnings", ()) if text.startswith(BARREN)), "")
    if outcome.state != "done":
        failed = facts["chunks"]["failed"]
        why = f"{failed} of {facts['chunks']['total']} chunks failed" if failed else "a step after the model failed"
    valid = facts["pixels"]["valid_fraction"]
    return replace(entry, state=DayState(outcome.state.value), valid_fraction=valid, why=why)


def _failed(entry: Entry, error: Exception) -> Entry:
    from pipelines.products.collection import DayState

    why = error.problem.line() if isinstance(error, SwatheError) else f"internal: {error!r}"
    return replace(entry, state=DayState.FAILED, valid_fraction=None, why=why)
