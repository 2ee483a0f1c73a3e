"""What the cache keeps for nobody: weights and artefacts of cards that are gone, drafts of processes that were killed.

A folder's time of change is when it was last used: ``models.weights.fetch`` and ``models.artefact.read`` set it.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from models.artefact import card_sha256, recorded, source
from models.weights import ModelHome, expected_sha256
from swathe.card import ModelCard
from swathe.errors import CardError, WeightsError

_DRAFT = timedelta(days=1)
"""Without a change, after which a draft has nobody any more who is at work on it."""


def remove_unused(home: ModelHome, cards: Iterable[ModelCard], unused: timedelta) -> list[Path]:
    """Remove folders of the cache that none of these cards names and nobody has used for so long; which they were.

    What was carried into the mirror by hand stays, and so do pins. A folder that cannot be removed is left for the next
    time.
    """
    now = datetime.now(UTC)
    stale = [folder for folder in _unnamed(home, list(cards)) if _age(folder, now) > unused]
    stale += [draft for draft in _drafts(home) if _age(draft, now) > _DRAFT]
    for folder in stale:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder for folder in stale if not folder.exists()]


def _digests(card: ModelCard, home: ModelHome) -> Iterator[str]:
    """Of the weights that a card names, as far as they come from the cache. A broken pin keeps nothing alive."""
    with suppress(CardError, WeightsError):
        if card.adapter != "formula" and (digest := expected_sha256(source(card), home)):
            yield digest


def _unnamed(home: ModelHome, cards: list[ModelCard]) -> Iterator[Path]:
    """Weights of no card, and artefacts that were made neither from a card's weights nor for the card as it is."""
    weights = {digest for card in cards for digest in _digests(card, home)}
    yield from (folder for folder in _inside(home.cache / "weights") if folder.name not in weights)
    whole = {card_sha256(card) for card in cards}
    for folder in _inside(home.artefacts):
        record = recorded(folder)
        if record is None or (record.weights_sha256 not in weights and record.card_sha256 not in whole):
            yield folder


def _inside(top: Path) -> list[Path]:
    return [path for path in top.iterdir() if path.is_dir() and path.name[0] != "."] if top.is_dir() else []


def _drafts(home: ModelHome) -> list[Path]:
    return [*(home.cache / "weights").glob(".part-*"), *home.artefacts.glob(".draft-*")]


def _age(folder: Path, now: datetime) -> timedelta:
    """Zero for what is gone by now. A draft's file grows without its folder's noticing."""
    try:
        newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:
        return timedelta(0)
    return now - datetime.fromtimestamp(newest, UTC)
