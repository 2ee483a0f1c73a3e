"""The reader of searched imagery: windows of the output grid, put together from blocks."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.imagery.backscatter import converted
from pipelines.mosaic.block import Block, Loss, Manner, Seat
from pipelines.mosaic.cells import first_cell
from pipelines.mosaic.frame import Frame
from pipelines.mosaic.join import counted, join
from pipelines.mosaic.observe import Observer
from pipelines.mosaic.prefetch import Key, Prefetcher
from pipelines.pieces import Grain
from swathe.errors import ImageryError, ReadError, SwatheError
from swathe.mosaic import BLOCK, Composite, Mosaic
from swathe.raster import Stack
from swathe.scene import Scene
from swathe.window import Window

if TYPE_CHECKING:
    from pipelines.blocks.open import Opener

_COUNTS = 32
"""Blocks of which the clear observations are kept: half a MiB each."""


class MosaicReader:
    """Reads windows of one :class:`Mosaic`. Blocks are made by a few threads and kept up to a bound.

    Memory: ``cache_mb`` for finished blocks, of which those read ahead take three eighths at most, and per thread one
    block in the making. For a median of N days that is max(16 MiB, N x 512 x 512 numbers), half as much again for
    what is clear where, and for every scene a mask of a block with its margin; for the other composites a few bands
    of one scene.
    It holds threads, so it is never sent anywhere: send the mosaic and make a reader there.
    """

    def __init__(self, mosaic: Mosaic, opener: Opener, threads: int = 8, cache_mb: int = 256) -> None:
        """Prepare to read; opens nothing yet. Raises ImageryError for a mask that cannot be read (``mask.…``)."""
        self._mosaic = mosaic
        self._opener = opener
        self._frame = Frame.of(mosaic)
        self._extent = Window(*mosaic.corner, *mosaic.shape)
        self._first = first_cell(mosaic, self._frame)
        self._observer = Observer(opener, self._frame, mosaic.mask)
        self._prefetcher = Prefetcher(self._make, threads, cache_mb)
        self._noted: dict[Loss, None] = {}
        self._counts: dict[Key, NDArray[np.uint16]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Stop the threads at the end of a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Stop the threads and let go of all blocks; the next read starts them again."""
        self._prefetcher.close()

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the numbers given out. Reads headers the first time. Raises ReadError where none can be had."""
        return self._manner.dtype if self._mosaic.conversion is None else np.dtype(np.float32)

    @property
    def grain(self) -> Grain:
        """Where the blocks begin that are made one by one, on the output grid."""
        row, col = self._first
        return Grain(row - self._mosaic.corner[0], col - self._mosaic.corner[1], BLOCK)

    @property
    def losses(self) -> list[Loss]:
        """Every observation that was passed over because its file could not be read, each once, in a fixed order."""
        with self._lock:
            return sorted(self._noted)

    def begin(self) -> None:
        """Begin to open the files of the first scene: whoever makes a reader early need not wait for them later."""
        self._expect(self._mosaic.scenes[0])

    def read(self, window: Window) -> Stack:
        """The pixels of a window of the output grid, which it may overhang: there, numbers are 0 and the mask False.

        data: (T, C, h, w) in the files' type where all scenes share type, scale and offset, the composite is no
        median and no unit is converted; else float32 in physical units, with scale 1 and offset 0. Raises ReadError:
        for any lost file where the mosaic tolerates no loss, else where the lost share of observations exceeds it
        (``read.max_loss``).
        """
        slots = self._mosaic.slots
        shape = (window.height, window.width)
        whole = window.shifted(*self._mosaic.corner).intersection(self._extent) == window.shifted(*self._mosaic.corner)
        room = np.empty if whole else np.zeros
        data = room((len(slots), len(self._mosaic.bands), *shape), self.dtype)
        mask = room((len(slots), *shape), bool)
        asked = lost = 0
        for key, block in self._blocks(window):
            (inner, outer), slot = self._overlap(block, window), key[0]
            data[slot][:, *outer] = block.data[:, *inner]
            mask[slot][outer] = block.mask[inner]
            pixels = (inner[0].stop - inner[0].start) * (inner[1].stop - inner[1].start)
            asked += block.asked * pixels
            lost += len({loss.scene for loss in block.lost}) * pixels
        if lost > self._mosaic.max_loss * asked:
            raise self._too_lossy(lost / asked)
        return Stack(data, mask, *self._units)

    def label(self, window: Window) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
        """What each pixel of a window is made of: (T, h, w) number of the scene, and of days with a clear observation.

        Numbers count from 1 in the order of ``Mosaic.scenes``; 0 is none, 65535 several. Where a composite does not
        need all scenes, days are counted by the scenes' masks. Raises ReadError.
        """
        shape = (len(self._mosaic.slots), window.height, window.width)
        index, count = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
        for key, block in self._blocks(window):
            (inner, outer), slot = self._overlap(block, window), key[0]
            index[slot][outer] = block.index[inner]
            count[slot][outer] = self._counted(key, block)[inner]
        return index, count

    def ahead(self, windows: Iterable[Window]) -> None:
        """What will be read next, in this order: made while there is room. Forgets what was told before."""
        keys = dict.fromkeys(key for window in windows for key in self._keys(window))
        self._prefetcher.ahead(keys)

    # --- blocks -----------------------------------------------------------------------------------------------------

    def _keys(self, window: Window) -> Iterator[Key]:
        """Cells of all dates that a window needs, row by row."""
        inner = window.shifted(*self._mosaic.corner).intersection(self._extent)
        if inner is not None:
            row, col = self._first
            for block in self._frame.blocks(inner.shifted(-row, -col)):
                for slot in range(len(self._mosaic.slots)):
                    yield slot, block.row // BLOCK, block.col // BLOCK

    def _blocks(self, window: Window) -> Iterator[tuple[Key, Block]]:
        for key, block in self._prefetcher.take(list(self._keys(window))):
            if block.lost:
                with self._lock:
                    self._noted.update(dict.fromkeys(block.lost))
            yield key, block

    def _overlap(self, block: Block, window: Window) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """Slices of a block, and of a window of the output grid, that hold the same pixels."""
        asked = window.shifted(*self._mosaic.corner)
        shared = block.window.intersection(asked)
        assert shared is not None
        return shared.within(block.window), shared.within(asked)

    def _make(self, key: Key) -> Block:
        slot, row, col = key
        whole = Window(row * BLOCK, col * BLOCK, BLOCK, BLOCK).shifted(*self._first)
        part = whole.intersection(self._extent)
        assert part is not None
        return self._in_unit(join(self._seat(part, (row, col)), self._mosaic.slots[slot].days))

    def _in_unit(self, block: Block) -> Block:
        """The block in the mosaic's unit."""
        if self._mosaic.conversion is None:
            return block
        scale, offset = (v[:, None, None] for v in self._stored_units)
        physical = block.data.astype(np.float64) * scale + offset
        data, mask = converted(physical, block.mask, self._mosaic.conversion)
        return replace(block, data=data, mask=mask, index=np.where(mask, block.index, np.uint16(0)))

    def _seat(self, window: Window, place: tuple[int, int]) -> Seat:
        return Seat(self._observer, self._manner, window, place)

    def _counted(self, key: Key, block: Block) -> NDArray[np.uint16]:
        """Clear observations of a block. A scene that was not needed may be lost without harm: it is not counted."""
        with self._lock:
            found = self._counts.get(key)
        if found is None:
            seat = Seat(self._observer, replace(self._manner, tolerant=True), block.window, key[1:])
            found = counted(seat, self._mosaic.slots[key[0]].days, block)
            with self._lock:
                self._counts[key] = found
                while len(self._counts) > _COUNTS:
                    self._counts.pop(next(iter(self._counts)))
        return found

    # --- numbers ----------------------------------------------------------------------------------------------------

    @cached_property
    def _physical(self) -> bool:
        """Whether scenes differ in what their numbers mean."""
        return len({tuple((b.scale, b.offset) for b in s.bands) for s in self._mosaic.scenes}) > 1

    @cached_property
    def _manner(self) -> Manner:
        mosaic = self._mosaic
        stored = np.dtype(np.float32) if self._physical else self._stored()
        median = mosaic.composite is Composite.MEDIAN
        numbers = {scene.key: n for n, scene in enumerate(mosaic.scenes, 1)}
        dtype = np.dtype(np.float32) if median else stored
        return Manner(mosaic.composite, dtype, stored, self._physical, numbers, mosaic.max_loss > 0)

    def _stored(self) -> np.dtype[np.generic]:
        """Type of the files: that of the first scene that can be opened, and of all others, or they do not fit."""
        first: SwatheError | None = None
        for scene in self._mosaic.scenes:
            try:
                return self._type_of(scene)
            except (ReadError, ImageryError) as error:
                first = first or error
        assert first is not None
        raise first

    def _expect(self, scene: Scene) -> None:
        self._opener.expect((*scene.bands, *([] if scene.mask is None else [scene.mask])))

    def _type_of(self, scene: Scene) -> np.dtype[np.generic]:
        self._expect(scene)
        kinds = {self._opener.open(band).dtype for band in scene.bands}
        return np.result_type(*kinds)

    @cached_property
    def _units(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(C,) scale and offset of what is given out."""
        if self._mosaic.conversion is None:
            return self._stored_units
        return np.ones(len(self._mosaic.bands)), np.zeros(len(self._mosaic.bands))

    @cached_property
    def _stored_units(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(C,) scale and offset of joined scenes."""
        bands = self._mosaic.scenes[0].bands
        if self._physical or self._mosaic.composite is Composite.MEDIAN:
            return np.ones(len(bands)), np.zeros(len(bands))
        return np.array([b.scale for b in bands], np.float64), np.array([b.offset for b in bands], np.float64)

    def _too_lossy(self, share: float) -> ReadError:
        first = self.losses[0]
        return ReadError(
            f"{share:.1%} of the observations are lost, more than {self._mosaic.max_loss:.1%}; the first of them "
            f"{first.asset} of {first.scene}: {first.reason}",
            code="read.max_loss",
            hint="run the same command again when the files can be read: what is finished is kept",
        )
