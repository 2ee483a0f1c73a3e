"""Who does the chunks: the plain loop here; Ray Data beside it. Both give the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from pipelines.worker import ChunkWorker, Measurer, Order, open_files_closed
from swathe.lattice import Chunk

Hire = Callable[[Order], ChunkWorker | Measurer]


class Runner(Protocol):
    """Does chunks, in any order and on any number of workers."""

    @property
    def actors(self) -> int:
        """Number of chunks that are done at a time."""
        ...

    @property
    def threads(self) -> int:
        """Number of threads of one worker's forward."""
        ...

    def map(self, hire: Hire, order: Order, chunks: Sequence[Chunk]) -> Iterator[dict[str, Any]]:
        """Do all chunks: an answer for each, as they come. Raises ClusterError where the workers are lost."""
        ...


class Loop:
    """One worker in this process, one chunk after the other: the oracle of the tests, and ``--local``."""

    def __init__(self, threads: int = 1) -> None:
        """``threads``: number of threads of the forward."""
        self.actors = 1
        self.threads = threads

    def map(self, hire: Hire, order: Order, chunks: Sequence[Chunk]) -> Iterator[dict[str, Any]]:
        """See :class:`Runner`."""
        worker = hire(order)
        with open_files_closed(worker):
            for chunk in chunks:
                yield worker(chunk)
