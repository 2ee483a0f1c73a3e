"""What became of a chunk: the fact that is written last, and read first when a run goes on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a chunk."""

    chunk: str
    """Its key."""
    status: str
    """done, empty (outside the area), nodata (no valid imagery) or failed."""
    pixels: int
    """It owns."""
    valid: int = 0
    """Pixels with a result."""
    lost: int = 0
    """Pixels that should have one and have none."""
    classes: dict[str, int] = field(default_factory=dict)
    """Class value (as text: JSON has no other keys) -> pixels."""
    tiles: int = 0
    """Forwards."""
    skipped: int = 0
    """Tiles without a wanted pixel."""
    failed_tiles: tuple[dict[str, Any], ...] = ()
    """Row, col and problem of each."""
    error: str = ""
    """Why the whole chunk failed."""
    seconds: dict[str, float] = field(default_factory=dict)
    """read, predict, blend, write, total."""
    peak_mb: float = 0.0
    """Resident memory of the worker."""
    cpu_s: float = 0.0
    """CPU time of the worker's process over the chunk."""
    started: float = 0.0
    """When work on it began, in seconds since 1970 by the worker's clock; 0 where it never did."""
    ended: float = 0.0
    """When its files were whole."""
    worker: str = ""
    """node:pid."""
    runtime: dict[str, Any] = field(default_factory=dict)
    """What ran the network; never mixed within one raster."""
    files: dict[str, int] = field(default_factory=dict)
    """Part files and their bytes."""
    reading: dict[str, Any] = field(default_factory=dict)
    """Of searched imagery: bytes and requests, and which assets were lost."""

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do for this chunk."""
        return self.status != "failed"

    def text(self) -> bytes:
        """As it is kept."""
        return json.dumps(asdict(self)).encode()


def parsed(text: str | bytes) -> Receipt | None:
    """A receipt, or None where it was cut short or is none."""
    try:
        facts = json.loads(text)
        return Receipt(**{**facts, "failed_tiles": tuple(facts["failed_tiles"])})
    except (ValueError, TypeError, KeyError):
        return None
