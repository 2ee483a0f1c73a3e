"""Imagery that was searched for: scenes on one output grid, joined per date.

The other half of what a run can read; the first is :class:`swathe.imagery.Imagery`, files on one grid.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from swathe.composite import Composite
from swathe.imagery import shown
from swathe.scene import Affine6, Scene
from swathe.source import Auth, SourceMask, TileService
from swathe.unit import Conversion

BLOCK = 512
"""Side of the blocks of the output grid in which mosaics are made, counted from the grid's anchor: never from the
area drawn, so that a pixel is made from the same numbers whatever area it belongs to."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One date of the model's input."""

    when: str
    """A day or an interval, for people."""
    days: tuple[tuple[Scene, ...], ...]
    """Scenes by solar day, both in order of preference: the first that is clear at a pixel fills it (none, latest).
    Scenes of one day are one observation, however many tiles or zones of one pass overlap."""

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """All of them, in order of preference."""
        return tuple(scene for day in self.days for scene in day)


@dataclass(frozen=True)
class Mosaic:
    """Everything a run on searched imagery reads."""

    slots: tuple[Slot, ...]
    """Oldest first; as many as the model has dates."""
    bands: tuple[str, ...]
    """Common names, in the model's order."""
    composite: Composite
    """How scenes of a slot are joined."""
    crs: str
    """Of the output grid."""
    transform: Affine6
    """Of the output grid; north-up, square pixels."""
    shape: tuple[int, int]
    """(rows, cols) of the output grid."""
    corner: tuple[int, int]
    """(row, col) of the output grid's first pixel, counted from the anchor: the origin of the CRS at this resolution,
    shifted by the scenes' own phase where all share one (Landsat's pixel corners lie half a pixel off)."""
    unit: str
    """Physical unit of what is given out: reflectance, dB, …"""
    sensor: str
    """Id of the source."""
    mask: SourceMask | None = None
    """What is not ground."""
    auth: Auth = field(default=Auth())
    """How its files are read."""
    tiles: TileService | None = None
    """Where the imagery is a tile service."""
    max_loss: float = 0.0
    """Share of observations (pixel x scene) that may be lost before a chunk counts as failed."""
    conversion: Conversion | None = None
    """How the scenes' physical unit becomes ``unit``, after scenes were joined; None: it is theirs."""
    notes: tuple[str, ...] = ()
    """What the user should know."""

    @property
    def dates(self) -> tuple[Slot, ...]:
        """As ``Imagery.dates``: what has a ``when``."""
        return self.slots

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """All scenes, each once, oldest first."""
        found = {scene.key: scene for slot in self.slots for scene in slot.scenes}
        return tuple(sorted(found.values(), key=lambda s: (s.when, s.id, s.key)))

    @property
    def files(self) -> tuple[str, ...]:
        """Items that were used; files, where there are no items."""
        return tuple(sorted({shown(s.href or s.bands[0].href) for s in self.scenes}))

    @property
    def block(self) -> tuple[int, int]:
        """(rows, cols) along which reading is cheapest."""
        return BLOCK, BLOCK

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over what decides the pixels."""
        return hashlib.sha256(json.dumps(self.facts(), sort_keys=True, default=str).encode()).hexdigest()

    def facts(self) -> dict[str, Any]:
        """What decides the pixels, as plain values. Hrefs are unsigned, so that a new token is no new run."""
        slots = [[[(s.id, [_facts_of(b) for b in s.bands], _facts_of(s.mask), [_facts_of(b) for b in s.looks])
                   for s in day] for day in slot.days] for slot in self.slots]  # fmt: skip
        by_hash = {"networks": {"__all__": {"uri"}}}
        return {
            **({"conversion": self.conversion.value} if self.conversion else {}),
            "slots": slots,
            "composite": self.composite.value,
            "grid": (self.crs, tuple(map(float, self.transform)), self.shape, self.corner),
            "mask": None if self.mask is None else self.mask.model_dump(mode="json", exclude=by_hash),
            "tiles": None if self.tiles is None else self.tiles.model_dump(mode="json"),
            "max_loss": float(self.max_loss),
        }


def _facts_of(asset: Any) -> Any:
    """As floats: 10 and 10.0 are the same metres, read from a catalogue or from what a run has kept."""
    if asset is None:
        return None
    found = {**asdict(asset), "href": shown(asset.href), "scale": float(asset.scale), "offset": float(asset.offset)}
    del found["origin"]  # where a link is found decides no pixel
    found["nodata"] = None if asset.nodata is None else float(asset.nodata)
    if asset.grid is not None:
        found["grid"] = (asset.grid.crs, tuple(map(float, asset.grid.transform)), asset.grid.shape)
    return found
