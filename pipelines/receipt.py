"""What became of a chunk: the fact that is written last, and read first when a run goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
    """What ran the network (``models.predictor.RuntimeInfo``)."""
    files: dict[str, int] = field(default_factory=dict)
    """Part files and their bytes."""
    reading: dict[str, Any] = field(default_factory=dict)
    """Of searched imagery: bytes and requests, and which assets were lost."""

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do for this chunk."""
        return self.status != "failed"

    @property
    def made_with(self) -> tuple[object, ...]:
        """Of the runtime, what may not differ within one raster; empty where no tile was run.

        Left out: threads, which move a probability in its last bits at most, and which GPU of a cluster it was.
        """
        if not self.tiles:
            return ()
        ran = self.runtime
        on_cpu = ran.get("device") == "cpu"
        libraries = tuple(sorted(ran.get("versions", {}).items()))
        return ran.get("engine"), ran.get("precision"), on_cpu, libraries, ran.get("model_sha256")

    def text(self) -> bytes:
        """As it is kept."""
        return json.dumps(asdict(self)).encode()


def outdated(kept: Mapping[str, Receipt], fresh: Mapping[str, Receipt]) -> frozenset[str]:
    """Chunks of ``kept`` that were made with another runtime than the newest of all."""
    made = [r for r in (*kept.values(), *fresh.values()) if r.made_with]
    if not made:
        return frozenset()
    newest = max(made, key=lambda r: r.ended).made_with
    return frozenset(key for key, r in kept.items() if r.made_with not in ((), newest))


def parsed(text: str | bytes) -> Receipt | None:
    """A receipt, or None where it was cut short or is none."""
    try:
        facts = json.loads(text)
        return Receipt(**{**facts, "failed_tiles": tuple(facts["failed_tiles"])})
    except (ValueError, TypeError, KeyError):
        return None
