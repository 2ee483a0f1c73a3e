"""A plan: everything decided before the first pixel is read. Pure, printable, hashable."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from affine import Affine
from odc.geo.geobox import GeoBox

from swathe.card import ModelCard
from swathe.imagery import Imagery
from swathe.lattice import Chunk, Lattice
from swathe.mosaic import Mosaic
from swathe.recipe import ProductSettings
from swathe.window import Window

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True)
class Work:
    """All a worker needs to do any chunk of a run. Travels to every actor, so it holds no list of chunks."""

    card: ModelCard
    """Model and its input and output."""
    imagery: Imagery | Mosaic
    """Where the pixels lie: in files on one grid, or in scenes that are joined."""
    lattice: Lattice
    """Tiles, in cells of the output grid."""
    shape: tuple[int, int]
    """(rows, cols) of the output grid."""
    origin: tuple[int, int] = (0, 0)
    """(row, col) of the output grid's corner, in pixels of the imagery."""
    area_wkb: bytes | None = None
    """Area of interest in the grid's CRS; None: all of it."""
    products: ProductSettings = field(default=ProductSettings())
    """What is made of the result."""

    @property
    def stride(self) -> int:
        """Pixels of imagery per cell of output."""
        return self.card.output.stride

    @property
    def transform(self) -> Affine:
        """Of the output grid."""
        source = Affine(*self.imagery.transform)
        return source @ Affine.translation(self.origin[1], self.origin[0]) @ Affine.scale(self.stride)

    @property
    def grid(self) -> GeoBox:
        """The output grid."""
        return GeoBox(self.shape, self.transform, self.imagery.crs)

    @cached_property
    def area(self) -> BaseGeometry | None:
        """Area of interest in the grid's CRS."""
        import shapely

        return None if self.area_wkb is None else shapely.from_wkb(self.area_wkb)

    def pixels_of(self, window: Window) -> Window:
        """The pixels of imagery under a window of the output grid."""
        s = self.stride
        row, col = self.origin[0] + window.row * s, self.origin[1] + window.col * s
        return Window(row, col, window.height * s, window.width * s)

    @cached_property
    def key(self) -> str:
        """Hash of everything that decides a pixel's value: same key, same result. Not: chunks, workers, machine."""
        facts = {
            "card": self.card.model_dump(mode="json", include={"id", "task", "adapter", "network", "weights", "input",
                                                              "output", "runtime"}),
            "imagery": self.imagery.facts(),
            "lattice": asdict(self.lattice),
            "shape": self.shape,
            "origin": self.origin,
            "area": self.area_wkb.hex() if self.area_wkb else None,
            "products": asdict(self.products),
        }  # fmt: skip
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Cost:
    """What a run will take, before it runs."""

    pixels: int
    """Pixels of the output grid."""
    area_km2: float
    """Of the area asked for, geodesic."""
    tiles: int
    """Forwards, the repeated ones included; tiles without valid pixels will be skipped."""
    repeated: float
    """Share of forwards done twice at chunk borders."""
    read_mb: float
    """Uncompressed pixels to read."""
    memory_mb: float
    """Peak of one actor's strips."""
    worker_mb: float | None = None
    """Peak of one actor in all: strips, caches, model, libraries; None: not estimated."""
    scenes: int = 0
    """Scenes that are joined; 0: files were given."""
    fetch_mb: float | None = None
    """Bytes to fetch over the network, compressed; None: not known."""
    seconds: float | None = None
    """From the start of the pool to the finished products; None: not estimated."""
    seconds_from: str = ""
    """``measured``: earlier runs of this model on this machine; ``guess``: its card, or a slower link."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A run, decided."""

    work: Work
    """What every worker gets."""
    chunks: tuple[Chunk, ...]
    """Partition of the output grid."""
    chunk_shape: tuple[int, int]
    """(rows, cols) of a full chunk."""
    cost: Cost
    """Estimate."""
    warnings: tuple[str, ...] = field(default=())
    """What the user should know: resolution outside the model's, values that depend on the area, …"""
    asked: str = ""
    """``Recipe.asked``: by it a resumed run knows its own scenes again."""

    @property
    def key(self) -> str:
        """See ``Work.key``."""
        return self.work.key

    @property
    def provisional(self) -> bool:
        """Whether the key will be another one when the run begins, because the card's engine is not settled yet."""
        card = self.work.card
        return card.adapter != "formula" and card.runtime.engine == "auto"

    def with_chunks(self, chunks: tuple[Chunk, ...], shape: tuple[int, int]) -> Plan:
        """The same run, cut another way (a resumed run keeps the cut it began with)."""
        return replace(self, chunks=chunks, chunk_shape=shape)

    def as_dict(self) -> dict[str, Any]:
        """For ``swathe plan --json``."""
        work = self.work
        return {
            "key": self.key,
            "provisional": self.provisional,
            "model": work.card.id,
            "sensor": work.imagery.sensor,
            "dates": [a.when for a in work.imagery.dates],
            "files": list(work.imagery.files),
            "scenes": _scenes(work.imagery),
            "crs": work.imagery.crs,
            "transform": list(work.transform)[:6],
            "shape": list(work.shape),
            "chunks": len(self.chunks),
            "chunk_shape": list(self.chunk_shape),
            "cost": asdict(self.cost),
            "warnings": list(self.warnings),
        }


def _scenes(imagery: Imagery | Mosaic) -> list[dict[str, Any]]:
    if not isinstance(imagery, Mosaic):
        return []
    return [
        {"id": s.id, "when": s.when, "date": slot.when, "cloud": s.cloud, "clear": s.clear, "rule": s.rule}
        for slot in imagery.slots
        for s in slot.scenes
    ]
