"""Which steps of a run are finished, and what they made: kept beside its receipts, so that none is repeated."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from swathe.step import Step

if TYPE_CHECKING:
    from pathlib import Path

    from pipelines.receipt import Receipt
    from pipelines.steps.treatment import Treatment
    from pipelines.store.place import Place

NAME = "steps.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """A finished step."""

    key: str
    """Of the step and of everything before it: of other pixels or after another step it would be another one."""
    step: Step
    """Its record."""
    raster: str
    """Name of the result's raster after it."""
    sizes: dict[str, int]
    """Name -> bytes of what it made, its log included."""

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"key": self.key, "step": self.step.as_dict(), "raster": self.raster, "sizes": self.sizes}

    @classmethod
    def of(cls, facts: dict[str, Any]) -> Kept:
        """From ``as_dict``."""
        return cls(facts["key"], Step.of(facts["step"]), facts["raster"], facts["sizes"])


class Memory:
    """Of one run; its file is one of those that its place brings and keeps."""

    def __init__(self, place: Place, folder: Path) -> None:
        """``folder``: the run's own, ``.swathe``."""
        self._place, self._path = place, folder / NAME
        self._kept = _read(self._path)

    def standing(self, key: str) -> Kept | None:
        """The finished step of this key, brought here, where all of what it made is whole."""
        kept = next((k for k in self._kept if k.key == key), None)
        return kept if kept is not None and self._place.bring_products(kept.sizes) else None

    def clear(self, files: Iterable[str]) -> None:
        """Remove these products of earlier attempts, here and wherever they were kept."""
        gone = tuple(files)
        for name in gone:
            (self._path.parent.parent / name).unlink(missing_ok=True)
        self._place.keep(*gone)

    def keep(self, kept: Kept) -> None:
        """What it made lasts from now on, and then that it is finished."""
        from pipelines.store.folder import write_whole

        self._place.keep(*kept.sizes)
        self._kept = [*(k for k in self._kept if k.step.name != kept.step.name), kept]
        write_whole(self._path, json.dumps([k.as_dict() for k in self._kept]).encode())
        self._place.keep(f"{self._path.parent.name}/{NAME}")


def _read(path: Path) -> list[Kept]:
    """Of a spoilt file nothing is right: then steps are repeated."""
    try:
        return [Kept.of(facts) for facts in json.loads(path.read_text())]
    except (OSError, ValueError, TypeError, KeyError):
        return []


def base_of(key: str, receipts: Iterable[Receipt]) -> str:
    """What the steps of a run begin with: its plan, and what became of every chunk; one that failed is tried anew."""
    fates = sorted((r.chunk, r.status, r.valid, r.lost, None if r.settled else r.seconds) for r in receipts)
    return hashlib.sha256(json.dumps([key, fates]).encode()).hexdigest()


def chained(before: str, treatment: Treatment) -> str:
    """The key of a step that comes after another one."""
    return hashlib.sha256(json.dumps([before, treatment.name, treatment.key]).encode()).hexdigest()


def wish_of(treatments: Sequence[Treatment]) -> str:
    """Of all steps that are asked for; empty where none is."""
    if not treatments:
        return ""
    return hashlib.sha256(json.dumps([[t.name, t.key] for t in treatments]).encode()).hexdigest()
