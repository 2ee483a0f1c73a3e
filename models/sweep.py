"""What the cache keeps for nobody: weights and artefacts of cards that are gone, drafts of processes that were killed.

A folder's time of change is when it was last used: ``models.weights.fetch`` and ``models.artefact.read`` set it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from models.artefact import CHAIN, DRAFT, FAMILY, candidates, key_of, source
from models.weights import PART, ModelHome, expected_sha256
from swathe.card import ModelCard, Weights
from swathe.errors import SwatheError

_DRAFT = timedelta(days=1)
"""Without a change, after which a draft has nobody any more who is at work on it."""
_FRESH = timedelta(hours=1)
"""After its last use, in which a folder is not removed for want of room: somebody may be about to read it again."""
_MB = 1_000_000
_FILES = ("config", "file")
"""Fields of a card's network block that may name a file at an address, which the cache keeps as it keeps weights."""


@dataclass(frozen=True, slots=True)
class Keep:
    """How much of what no card names is kept, for whoever uses it without one that is known here."""

    unused: timedelta | None
    """After the last use; None: however long ago that was."""
    mb: float | None
    """Megabytes of all together, those used last; None: any number."""


def remove_unused(home: ModelHome, cards: Iterable[ModelCard], keep: Keep) -> list[Path]:
    """Remove folders of the cache that none of these cards names, as far as they are not kept; which they were.

    What was carried into the mirror by hand stays, and so do pins. A folder that cannot be removed is left for the next
    time.
    """
    named = {folder for card in cards for folder in _named(card, home)}
    lying = [*_inside(home.cache / "weights"), *_inside(home.artefacts)]
    unnamed = sorted((folder for folder in lying if folder not in named), key=_age)
    drafts = [*(home.cache / "weights").glob(f"{PART}*"), *home.artefacts.glob(f"{DRAFT}*")]
    stale = [(folder, keep.unused) for folder in unnamed if keep.unused is not None]
    stale += [(folder, _FRESH) for folder in _beyond(unnamed, keep.mb)]
    stale += [(draft, _DRAFT) for draft in drafts]
    return [folder for folder, age in stale if _removed(folder, age)]


def _named(card: ModelCard, home: ModelHome) -> Iterator[Path]:
    """Folders that a card stands for on this machine, there or not. What is wrong with a card keeps nothing."""
    if card.adapter == "formula":
        return
    with suppress(SwatheError):
        files = [source(card), *(Weights(uri=uri) for name in _FILES if "://" in (uri := str(card.network.get(name))))]
        for file in files:
            with suppress(SwatheError):
                yield home.cache / "weights" / (expected_sha256(file, home) or "-")
        for device in CHAIN:
            with suppress(SwatheError):
                for engine in candidates(card, device):
                    if engine in FAMILY:
                        yield home.artefacts / (key_of(card, home, FAMILY[engine], device) or "-")


def _inside(top: Path) -> list[Path]:
    return [path for path in top.iterdir() if path.is_dir() and path.name[0] != "."] if top.is_dir() else []


def _beyond(folders: list[Path], mb: float | None) -> list[Path]:
    """Those that are too much; the first ones are kept."""
    if mb is None:
        return []
    left, beyond = mb * _MB, []
    for folder in folders:
        left -= _size(folder)
        if left < 0:
            beyond.append(folder)
    return beyond


def _size(folder: Path) -> int:
    with suppress(OSError):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return 0


def _age(folder: Path) -> timedelta:
    """Since the last use; zero for what is gone by now. A draft's file grows without its folder's noticing."""
    try:
        newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except OSError:
        return timedelta(0)
    return datetime.now(UTC) - datetime.fromtimestamp(newest, UTC)


def _removed(folder: Path, age: timedelta) -> bool:
    """Whether it is gone now. First out of everybody's sight as a whole: nobody finds the half of one."""
    if _age(folder) <= age:
        return False
    draft = PART if folder.parent.name == "weights" else DRAFT
    with suppress(OSError), tempfile.TemporaryDirectory(dir=folder.parent, prefix=draft) as aside:
        folder.rename(Path(aside) / folder.name)
    return not folder.exists()
