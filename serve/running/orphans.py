"""Bytes that nobody needs any more: folders of jobs, uploads and scripts whose row is gone; deleted scripts; models.

Whoever removes a job removes its row first and its files then; who is killed in between leaves files that no quota
counts and nobody can remove.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from models.sweep import Keep, remove_unused
from pipelines.store.blobs import is_stored
from serve.desk.processors import Processors
from serve.planning import cards_of
from serve.store import ids, jobs, leases, processors, uploads
from serve.store.store import text_of
from serve.structured import about

if TYPE_CHECKING:
    from serve.settings import ServiceSettings
    from serve.store.store import Store

AGE = timedelta(days=1)
"""Without a change, after which such a folder goes: nobody can be at work in it any more."""
EVERY_S = 24 * 3600.0
"""Between two looks of all services that share a store: everything that lies there has to be listed."""
MODELS_S = 3600.0
"""The same for models: gigabytes may come with each."""
_LETTERS = {"jobs": "j", "uploads": "f", "processors": "r"}
"""Kinds of folders, and how ids of theirs begin."""
_ASK = {"jobs": jobs.known, "uploads": uploads.known, "processors": processors.known}
_AT_ONCE = 400
_log = logging.getLogger("swathe.orphans")


@dataclass(frozen=True, slots=True)
class _Folder:
    """One whose row is gone."""

    kind: str
    id: str
    changed: datetime
    names: tuple[str, ...] = ()
    """Of its objects, where it lies in object storage."""


def sweep_orphans(settings: ServiceSettings, store: Store) -> int:
    """Once a day, models once an hour, whoever of several comes first: how many were removed.

    Raises StoreError, OutputError, CardError.
    """
    count = remove_models(settings, store) if _first("models", MODELS_S, store) else 0
    return count + (remove_orphans(settings, store) if _first("orphans", EVERY_S, store) else 0)


def _first(name: str, seconds: float, store: Store) -> bool:
    with store.begin() as c:
        return leases.take(c, name, uuid.uuid4().hex, seconds) is not None


def remove_models(settings: ServiceSettings, store: Store) -> int:
    """Weights and exported networks of this machine that no card names and that are not kept; how many.

    Of cards that were replaced or removed: a member may have ten at a time, but any number one after another. Raises
    StoreError, CardError.
    """
    days, mb = settings.limits.unused_models_days, settings.limits.unused_models_mb
    keep = Keep(None if days is None else timedelta(days=days), mb)
    gone = remove_unused(settings.home, cards_of(settings, store).cards.values(), keep)
    for folder in gone:
        _log.info("of no model: %s removed", folder.relative_to(settings.home.cache))
    return len(gone)


def remove_orphans(settings: ServiceSettings, store: Store) -> int:
    """What no row knows and has not changed for a day; how many. Raises StoreError, OutputError.

    A script is deleted for a day before it goes: a job that named it before may be accepted a moment later.
    """
    before = datetime.now(UTC) - AGE
    count = Processors(settings, store).clear(text_of(before))
    for kind in _LETTERS:
        for folder in _unknown(kind, settings, store):
            if folder.changed < before:
                _log.info("known to nobody: removed", extra=about(**{folder.kind.removesuffix("s"): folder.id}))
                _remove(folder, settings)
                count += 1
    return count


def _unknown(kind: str, settings: ServiceSettings, store: Store) -> list[_Folder]:
    """A database that knows nothing of what lies there is another one: then nothing is taken for left over."""
    lying = _stored(kind, settings) if is_stored(settings.place) else _local(kind, settings)
    known = _known(kind, list(lying), store)
    if lying and not known:
        _log.warning("the database knows none of the %s %s that lie in %s: left as they are", len(lying), kind,
                     settings.place)  # fmt: skip
        return []
    return [
        folder or _Folder(kind, id_, _last_change(Path(settings.place) / kind / id_))
        for id_, folder in lying.items()
        if id_ not in known
    ]


def _known(kind: str, found: list[str], store: Store) -> set[str]:
    known: set[str] = set()
    for first in range(0, len(found), _AT_ONCE):
        with store.read() as c:
            known |= _ASK[kind](c, found[first : first + _AT_ONCE])
    return known


def _local(kind: str, settings: ServiceSettings) -> dict[str, _Folder | None]:
    """When they changed is looked at where it matters."""
    top = Path(settings.place) / kind
    return {path.name: None for path in _inside(top) if path.is_dir() and ids.fits(path.name, _LETTERS[kind])}


def _stored(kind: str, settings: ServiceSettings) -> dict[str, _Folder | None]:
    found: dict[str, _Folder | None] = {}
    blobs = sorted(settings.blobs(kind).list(), key=lambda blob: blob.name)
    for id_, some in itertools.groupby(blobs, lambda blob: blob.name.partition("/")[0]):
        if ids.fits(id_, _LETTERS[kind]):
            inside = list(some)
            changed = max(blob.modified for blob in inside)
            found[id_] = _Folder(kind, id_, changed, tuple(blob.name for blob in inside))
    return found


def _inside(top: Path) -> Iterator[Path]:
    return top.iterdir() if top.is_dir() else iter(())


def _last_change(folder: Path) -> datetime:
    """Now, where somebody else removes it at this moment."""
    try:
        newest = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
    except OSError:
        return datetime.now(UTC)
    return datetime.fromtimestamp(newest, UTC)


def _remove(folder: _Folder, settings: ServiceSettings) -> None:
    if folder.names:
        settings.blobs(folder.kind).delete(folder.names)
    else:
        shutil.rmtree(Path(settings.place) / folder.kind / folder.id, ignore_errors=True)
