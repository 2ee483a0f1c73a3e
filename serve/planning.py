"""From a recipe to a plan with an estimate: what the command line and the service share."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from swathe.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from models.registry import Registry
    from pipelines.estimate import Means
    from pipelines.mosaic.frame import Frame
    from pipelines.series import Series
    from serve.settings import Settings
    from serve.store.store import Store
    from swathe.card import ModelCard
    from swathe.imagery import Imagery
    from swathe.mosaic import Mosaic
    from swathe.plan import Plan
    from swathe.recipe import Recipe


def cards_of(settings: Settings, store: Store | None = None) -> Registry:
    """Every card: those of the folders, and of a service those that were added while it ran. Raises CardError."""
    found = cards_of_folders(settings.card_folders)
    return found if store is None else replace(found, cards={**added_cards(store), **found.cards})


def cards_of_folders(folders: tuple[Path, ...]) -> Registry:
    """The cards of files, read again when one of them has changed. Raises CardError."""
    return _read_cards(folders, tuple(_stamps(folder) for folder in folders))


def _stamps(folder: Path) -> tuple[tuple[str, int, int], ...]:
    if not folder.is_dir():
        return ()
    facts = ((entry.name, entry.stat()) for entry in os.scandir(folder))
    return tuple(sorted((name, fact.st_mtime_ns, fact.st_size) for name, fact in facts))


@lru_cache(maxsize=8)
def _read_cards(folders: tuple[Path, ...], stamps: tuple[tuple[tuple[str, int, int], ...], ...]) -> Registry:  # noqa: ARG001  what is kept is kept for them
    from models.registry import load_cards

    return load_cards(folders)


def added_cards(store: Store) -> dict[str, ModelCard]:
    """Cards that were added while the service ran, by id; what no longer holds together is left out."""
    from serve.store import models

    with store.read() as c:
        rows = models.listed(c)
    return {row.id: card for row in rows if row.card and (card := _sound(row.card)) is not None}


def _sound(document: dict[str, object]) -> ModelCard | None:
    """A newer swathe may refuse what an older one took; one such card must not hide all others."""
    from pydantic import ValidationError

    from swathe.card import ModelCard

    try:
        return ModelCard.model_validate(document)
    except ValidationError:
        return None


def card_of(recipe: Recipe, settings: Settings, store: Store | None = None) -> ModelCard:
    """The card that a recipe names. Raises UnknownModelError, CardError."""
    return cards_of(settings, store)[recipe.model]


def in_precision(card: ModelCard, precision: str | None) -> ModelCard:
    """The card with another precision than its own. Raises InputError."""
    if precision is None:
        return card
    if precision not in ("fp32", "bf16"):
        raise InputError(f"no precision {precision!r}", code="precision", field="--precision", hint="fp32 or bf16")
    return card.model_copy(update={"runtime": card.runtime.model_copy(update={"precision": precision})})


def look(recipe: Recipe, card: ModelCard, settings: Settings) -> Imagery | Mosaic:
    """Open the files or search the scenes. Raises InputError and its kin, ReadError."""
    if recipe.search is not None:
        from pipelines import searched

        return searched.look(recipe, card, searched.Archive(settings.sources, settings.network_of_strangers))
    from pipelines.begin import look as look_at_files

    network, unpacking = settings.network_for(recipe), settings.unpacking
    return look_at_files(recipe, card, settings.sensors, network=network, unpacking=unpacking)


def look_each(recipe: Recipe, card: ModelCard, settings: Settings, frame: Frame | None = None) -> Series:
    """Search the scenes of every day, on a frame that is known or is to be chosen. Raises as ``look``."""
    from pipelines import searched, series

    archive = searched.Archive(settings.sources, settings.network_of_strangers)
    return series.look(recipe, card, archive, frame)


def plan_of(recipe: Recipe, card: ModelCard, settings: Settings, means: Means) -> Plan:
    """Look, plan and estimate. Raises what ``look`` raises, AreaError."""
    from pipelines.begin import begin

    return estimated(begin(recipe, card, look(recipe, card, settings), means.workers), settings, means)


def estimated(made: Plan, settings: Settings, means: Means) -> Plan:
    """With bytes and seconds. Headers of searched files are read for it; they are needed anyway."""
    from pipelines.estimate import estimated as with_estimate
    from pipelines.pace import known
    from swathe.mosaic import Mosaic

    means = replace(means, mbit_s=settings.link_mbit_s)
    pace, imagery = known(made.work.card, settings.data_dir), made.work.imagery
    if not isinstance(imagery, Mosaic):
        return with_estimate(made, pace, means)
    from pipelines.searched import HEADERS_MB, fetching, opening

    auth, tiles = imagery.auth, imagery.tiles
    with fetching(settings.network_of_strangers) as door, opening(door, auth, tiles, HEADERS_MB) as opener:
        return with_estimate(made, pace, means, opener)
