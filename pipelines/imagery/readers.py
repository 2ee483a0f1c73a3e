"""Who reads for a worker: files on one grid, or scenes that are joined. Both give stacks for windows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.imagery.backscatter import convert
from pipelines.imagery.gdal import Access
from pipelines.imagery.read import Reader, strip_cache_mb
from pipelines.pieces import Grain
from swathe.imagery import Imagery
from swathe.mosaic import BLOCK, Mosaic
from swathe.plan import Work
from swathe.raster import Stack
from swathe.window import Window

if TYPE_CHECKING:
    from pipelines.mosaic.block import Loss
    from pipelines.remote.network import Network

SOURCES_MB = 192
"""Decoded blocks of source files kept by a worker: those under one row of output blocks, of a few scenes."""
THREADS = 8
"""Blocks made side by side: reading over a network is mostly waiting."""


class WindowReader(Protocol):
    """Pixels for the heart."""

    def read(self, window: Window) -> Stack:
        """The pixels of a window of the imagery. Raises ReadError."""
        ...

    @property
    def grain(self) -> Grain | None:
        """Blocks in which imagery comes; None: strip after strip is as good."""
        ...

    def begin(self) -> None:
        """Open what will be needed first, side by side; does not wait, and tells nothing of what goes wrong."""
        ...

    def ahead(self, windows: Iterable[Window]) -> None:
        """What will be read next."""
        ...

    def label(self, window: Window) -> NDArray[np.uint16] | None:
        """(2T, h, w) scene and clear observations of each date; None where files were given."""
        ...

    def told(self) -> dict[str, Any]:
        """What was fetched and lost since the last time; empty where files of this machine were given."""
        ...

    def close(self) -> None:
        """Let go of files, connections and threads."""
        ...


class FileReader:
    """Files on one grid."""

    grain = None

    def __init__(self, imagery: Imagery, access: Access, network: Network | None) -> None:
        """Prepare to read."""
        self._reader = Reader(imagery, access, network)
        self._conversion = imagery.conversion
        self.close = self._reader.close
        self._before: dict[str, int] = {}

    def read(self, window: Window) -> Stack:
        """See :class:`WindowReader`."""
        stack = self._reader.read(window)
        return stack if self._conversion is None else convert(stack, self._conversion)

    def begin(self) -> None:
        """Nothing: files are opened when they are read."""

    def ahead(self, windows: Iterable[Window]) -> None:
        """One strip is read ahead by the heart's own thread, which for files is enough."""

    def label(self, window: Window) -> None:
        """Nothing: there is one observation of every pixel."""
        _ = window

    def told(self) -> dict[str, Any]:
        """What was fetched; empty where all files are this machine's own."""
        counts = self._reader.counts
        if counts is None:
            return {}
        now, before = asdict(counts), self._before
        self._before = now
        return _spent(now, before)


class SceneReader:
    """Scenes that are joined, with a door to the network of their own."""

    def __init__(self, mosaic: Mosaic, network: Network, cache_mb: int) -> None:
        """Prepare to read; connects to nothing yet."""
        from pipelines.blocks.open import Opener
        from pipelines.mosaic.reader import MosaicReader
        from pipelines.remote.fetch import Fetcher

        self._fetcher = Fetcher(network)
        self._opener = Opener(self._fetcher, mosaic.auth, mosaic.tiles, SOURCES_MB)
        self._reader = MosaicReader(mosaic, self._opener, THREADS, cache_mb)
        self.begin = self._reader.begin
        self.read = self._reader.read
        self.ahead = self._reader.ahead
        self.grain = self._reader.grain
        self._before = self._counted()
        self._lost: set[Loss] = set()

    def label(self, window: Window) -> NDArray[np.uint16]:
        """See :class:`WindowReader`."""
        index, count = self._reader.label(window)
        return np.stack([index, count], axis=1).reshape(-1, window.height, window.width)

    def told(self) -> dict[str, Any]:
        """See :class:`WindowReader`."""
        now, before = self._counted(), self._before
        self._before = now
        news = [loss for loss in self._reader.losses if loss not in self._lost]
        self._lost.update(news)
        assets = {(loss.scene, loss.asset): {"scene": loss.scene, "asset": loss.asset, "reason": loss.reason}
                  for loss in news}  # fmt: skip
        return {**_spent(now, before), "lost": len(news), "lost_assets": list(assets.values())}

    def _counted(self) -> dict[str, int]:
        return asdict(self._fetcher.counts)

    def close(self) -> None:
        """See :class:`WindowReader`."""
        self._reader.close()
        self._opener.close()
        self._fetcher.close()


def _spent(now: Mapping[str, int], before: Mapping[str, int]) -> dict[str, Any]:
    """What was done between two counts of a door."""
    spent: dict[str, Any] = {name: count - before.get(name, 0) for name, count in now.items()}
    return {"fetched_mb": round(spent.pop("bytes") / 1e6, 3), **spent}


def reader_of(work: Work, access: Access, network: Network | None, widest: int) -> WindowReader:
    """For chunks of up to ``widest`` output cells."""
    width = widest * work.stride
    if isinstance(work.imagery, Mosaic):
        if network is None:
            from pipelines.remote.network import Network

            network = Network()
        return SceneReader(work.imagery, network, blocks_mb(work.imagery, width, work.card.input.chip))
    cache = strip_cache_mb(work.imagery, width, work.card.input.chip)
    return FileReader(work.imagery, replace(access, cache_mb=cache), network)


def kept_mb(work: Work, widest: int) -> int:
    """What a worker's reader keeps in memory, at most."""
    width = widest * work.stride
    if isinstance(work.imagery, Mosaic):
        return SOURCES_MB + blocks_mb(work.imagery, width, work.card.input.chip)
    return strip_cache_mb(work.imagery, width, work.card.input.chip)


def blocks_mb(mosaic: Mosaic, width: int, chip: int) -> int:
    """Finished blocks in MiB: two rows of them under a chunk and what is being read, and a row and a half ahead."""
    across = math.ceil((width + 2 * chip) / BLOCK) + 1
    block = BLOCK * BLOCK * len(mosaic.slots) * (4 * len(mosaic.bands) + 1 + 2 + 2)
    return max(64, math.ceil(4 * (across + 1) * block / (1 << 20)))
