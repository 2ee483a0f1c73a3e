"""Workers that start together, so that a run's steady state can be told from its start."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from pipelines.ray_data import RayData
from pipelines.runner import Hire, Loop
from pipelines.worker import ChunkWorker, Order
from swathe.lattice import Chunk

PATIENCE_S = 300


class Warm(ChunkWorker):
    """A worker that has run its network once, and begins when all of its pool are that far."""

    def __init__(self, order: Order, workers: int) -> None:
        """Load, warm up, wait for the others."""
        super().__init__(order)
        eats = order.work.card.input
        shape = (order.work.card.resources.batch, eats.times, len(eats.bands), eats.chip, eats.chip)
        self.predict(np.zeros(shape, np.float32))
        (order.parts / f"{os.getpid()}.ready").touch()
        limit = time.monotonic() + PATIENCE_S
        while sum(1 for _ in order.parts.glob("*.ready")) < workers and time.monotonic() < limit:
            time.sleep(0.02)


def warmed(hire: Hire, workers: int, warm: type[Warm]) -> Hire:
    """The same worker, warm."""
    return partial(warm, workers=workers) if hire is ChunkWorker else hire


class WarmRay(RayData):
    """Ray Data as it is, with such workers."""

    worker = Warm

    def map(self, hire: Hire, order: Order, chunks: Sequence[Chunk]) -> Iterator[dict[str, Any]]:
        """See :class:`pipelines.runner.Runner`."""
        return super().map(warmed(hire, min(self.actors, len(chunks)), self.worker), order, chunks)


class WarmLoop(Loop):
    """The plain loop, with such a worker."""

    worker = Warm

    def map(self, hire: Hire, order: Order, chunks: Sequence[Chunk]) -> Iterator[dict[str, Any]]:
        """See :class:`pipelines.runner.Runner`."""
        return super().map(warmed(hire, 1, self.worker), order, chunks)
