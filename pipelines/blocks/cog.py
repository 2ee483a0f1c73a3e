"""Tiled and striped TIFFs by their blocks: the header once, then only the blocks under a window, in one request."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.blocks import tiff
from pipelines.blocks.cache import Block, Key
from pipelines.blocks.codec import Coding, Facts, decode, describe
from pipelines.blocks.georeference import coarser, settle
from pipelines.blocks.shared import Shared
from pipelines.blocks.source import inside
from pipelines.blocks.tiff import Directory, corrupt
from pipelines.imagery.gdal import FAILURES, explain
from pipelines.imagery.limits import MIB, check_window
from swathe.scene import Asset, AssetGrid
from swathe.window import Window

_BATCH = MIB
"""Decoded bytes that are worth a thread of their own."""
_SLACK = 1 << 16
"""Bytes that a packed block may have beyond twice its size unpacked."""


@dataclass(frozen=True)
class Level:
    """One image of the file, ready to be read."""

    number: int
    """Of the directory in the file."""
    directory: Directory
    """Its tags."""
    nodata: float | None
    """What blocks that were never written are full of; None: 0."""

    @cached_property
    def coding(self) -> Coding:
        """How its blocks are coded."""
        return Coding.of(self.directory)

    def under(self, window: Window) -> tuple[range, range]:
        """Rows and columns of the blocks that a window touches."""
        height, width = self.directory.block
        down = range(window.row // height, -(-window.bottom // height))
        return down, range(window.col // width, -(-window.right // width))

    def cells(self, window: Window, indexes: Iterable[int]) -> list[tuple[int, int, int]]:
        """(plane, row, col) of the blocks that a window of these bands touches."""
        planes = sorted({i - 1 for i in indexes}) if self.directory.planes > 1 else [0]
        down, across = self.under(window)
        return [(plane, row, col) for plane in planes for row in down for col in across]

    def rows_of(self, row: int) -> int:
        """Rows that are stored in a block of this row: strips end where the image ends, tiles do not."""
        height = self.directory.block[0]
        return height if self.directory.tiled else min(height, self.directory.shape[0] - row * height)


class TiffFile:
    """One file, open; shared by all assets that lie in it. Thread-safe."""

    def __init__(self, href: str, shared: Shared, found: Sequence[Directory], facts: Facts) -> None:
        """``found`` are its directories, the first of which ``facts`` describe."""
        self.href, self.facts = href, facts
        self._shared = shared
        main = found[0]
        alike = [d for d in found[1:] if d.subfile & tiff.REDUCED and not d.subfile & tiff.MASK]
        alike = [d for d in alike if (d.samples, d.bits) == (main.samples, main.bits) and d.shape != main.shape]
        masks = {d.shape: Level(i, d, None) for i, d in enumerate(found) if i and d.subfile & tiff.MASK}
        levels = sorted((main, *alike), key=lambda d: -d.shape[0] * d.shape[1])
        self.levels = [Level(found.index(d), d, facts.nodata) for d in levels if not masks or d.shape in masks]
        self.masks = [masks.get(level.directory.shape) for level in self.levels]
        if not self.levels or self.levels[0].directory is not main:  # a mask of another size says nothing
            self.levels, self.masks = [Level(0, main, facts.nodata)], [None]

    @property
    def masked(self) -> bool:
        """Whether it has a mask or an alpha band."""
        return self.masks[0] is not None or self.facts.alpha is not None

    def read(self, level: Level, indexes: Sequence[int], window: Window) -> NDArray[np.generic]:
        """(n, h, w); see ``PixelSource.read``. Not to be written to: what lies in one block is no copy of it."""
        blocks = self.blocks(level, level.cells(window, indexes))
        if len(blocks) == len(indexes) == 1:
            (plane, row, col), block = next(iter(blocks.items()))
            cell = Window(row * level.directory.block[0], col * level.directory.block[1], *block.shape[1:])
            band = 0 if level.directory.planes > 1 else indexes[0] - 1
            return block[(slice(band, band + 1), *window.within(cell))]
        dtype = next(iter(blocks.values())).dtype
        out = np.empty((len(indexes), window.height, window.width), dtype)
        height, width = level.directory.block
        apart = level.directory.planes > 1
        for (plane, row, col), block in blocks.items():
            cell = Window(row * height, col * width, block.shape[1], block.shape[2])
            part = cell.intersection(window)
            if part is None:
                continue
            into, cut = part.within(window), part.within(cell)
            for n, index in enumerate(indexes):
                if not apart or index - 1 == plane:
                    out[(n, *into)] = block[(0 if apart else index - 1, *cut)]
        return out

    def blocks(self, level: Level, cells: Sequence[tuple[int, int, int]]) -> dict[tuple[int, int, int], Block]:
        """Decoded blocks (samples, rows, cols) by (plane, row, col)."""
        keys = [(self.href, level.number, *cell) for cell in cells]
        found = self._shared.cache.get(keys, lambda mine: self._load(level, mine))
        return {key[2:]: block for key, block in found.items()}  # type: ignore[misc]

    def absent(self, level: Level, cells: Iterable[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
        """Blocks that are neither in memory nor on their way."""
        return [k[2:] for k in self._shared.cache.missing((self.href, level.number, *cell) for cell in cells)]  # type: ignore[misc]

    # --- from the network to arrays -----------------------------------------------------------------------------

    def _load(self, level: Level, keys: Sequence[Key]) -> Iterator[tuple[Key, Block]]:
        """Fetch in one call, decode side by side."""
        spans = self._spans(level, keys)
        empty = [key for key in keys if spans[key][0] == spans[key][1]]
        full = sorted((key for key in keys if spans[key][0] < spans[key][1]), key=lambda key: spans[key])
        packed: list[bytes] = []
        if full:
            packed = self._shared.fetcher.ranges(self.href, [spans[key] for key in full], self._shared.auth)
        yield from ((key, self._blank(level, key)) for key in empty)
        decode = self._shared.lanes.decode
        later = [decode.submit(self._decode, level, *group) for group in self._groups(level, full, packed)]
        try:
            for future in later:
                yield from future.result()
        finally:
            for future in later:
                future.cancel()

    def _spans(self, level: Level, keys: Sequence[Key]) -> dict[Key, tuple[int, int]]:
        """Bytes of every block. Raises ReadError where they cannot be true."""
        offsets, counts = level.directory.spans()
        size = level.directory.extents.size
        rows, cols = level.directory.block
        most = 2 * int(rows * cols * level.directory.pixel_bytes) + _SLACK
        spans = {}
        for key in keys:
            cell = key[2:]
            start, length = int(offsets[cell]), int(counts[cell])
            if length and (start < 0 or length < 0 or start + length > size):
                raise corrupt(self.href, f"{_named(cell)} lies beyond its {size} bytes")
            if length > most:
                raise corrupt(self.href, f"{_named(cell)} claims {length} bytes for {most // 2} bytes of pixels")
            spans[key] = (start, start + length) if start else (0, 0)
        return spans

    def _groups(
        self, level: Level, keys: Sequence[Key], packed: Sequence[bytes]
    ) -> Iterator[tuple[list[Key], list[bytes]]]:
        """Batches of about ``_BATCH``, no more than there are threads; a shorter strip is the last of its batch."""
        rows, cols = level.directory.block
        one = max(1, int(rows * cols * level.directory.pixel_bytes))
        most = max(1, -(-_BATCH // one), -(-len(keys) // self._shared.lanes.width))
        group: tuple[list[Key], list[bytes]] = ([], [])
        for key, data in zip(keys, packed, strict=True):
            group[0].append(key)
            group[1].append(data)
            if len(group[0]) == most or level.rows_of(key[3]) < rows:
                yield group
                group = ([], [])
        if group[0]:
            yield group

    def _decode(self, level: Level, keys: list[Key], packed: list[bytes]) -> list[tuple[Key, Block]]:
        try:
            return list(zip(keys, decode(level.coding, packed, level.rows_of(keys[-1][3])), strict=True))
        except (*FAILURES, struct.error) as error:
            if len(keys) > 1:  # which one? The others are kept by nobody, but the message names the culprit
                for key, data in zip(keys, packed, strict=True):
                    self._decode(level, [key], [data])
            raise corrupt(self.href, f"{_named(keys[0][2:])}: {explain(error)}") from None

    def _blank(self, level: Level, key: Key) -> Block:
        """A block that was never written: GDAL reads nodata there, else 0."""
        samples = 1 if level.directory.planes > 1 else level.directory.samples
        dtype = np.dtype(np.uint8) if level.directory.subfile & tiff.MASK else self.facts.dtype
        fill = level.nodata if level.nodata is not None and _fits(level.nodata, dtype) else 0
        return np.full((samples, level.rows_of(key[3]), level.directory.block[1]), fill, dtype)


def _named(cell: tuple[int, ...]) -> str:
    plane, row, col = cell
    return f"block {row}/{col}" + (f" of band {plane + 1}" if plane else "")


def _fits(value: float, dtype: np.dtype[np.generic]) -> bool:
    if dtype.kind == "f":
        return True
    least, most = np.iinfo(str(dtype)).min, np.iinfo(str(dtype)).max
    return bool(np.isfinite(value)) and value == int(value) and least <= value <= most


class CogSource:
    """One asset in such a file, as a ``PixelSource``."""

    def __init__(self, asset: Asset, file: TiffFile, shared: Shared) -> None:
        """Raises GridError where the file's place is not known, or is not what the catalogue says."""
        self._file, self._shared, self._index = file, shared, asset.index
        self.grid = settle(asset.href, file.levels[0].directory.shape, file.facts.place, asset.grid)
        self.overviews = tuple(coarser(self.grid, level.directory.shape) for level in file.levels[1:])
        self.dtype = file.facts.dtype
        self.count = file.levels[0].directory.samples
        self.nodata = file.facts.nodata if asset.nodata is None else asset.nodata
        self.block = file.levels[0].directory.block

    def read(self, indexes: tuple[int, ...], window: Window, level: int = 0) -> NDArray[np.generic]:
        """See ``PixelSource``."""
        grid = self._level_grid(level)
        inside(window, grid.shape, self._file.href)
        check_window(self._file.href, window.area, len(indexes) * self.dtype.itemsize, self._shared.limits)
        return self._file.read(self._file.levels[level], indexes, window)

    def valid(self, window: Window, level: int = 0) -> NDArray[np.bool_] | None:
        """See ``PixelSource``."""
        mask, alpha = self._file.masks[level], self._file.facts.alpha
        if mask is not None:
            inside(window, mask.directory.shape, self._file.href)
            return self._file.read(mask, (1,), window)[0] != 0
        return None if alpha is None else self.read((alpha,), window, level)[0] != 0

    def bytes_of(self, window: Window, level: int = 0) -> int:
        """Exactly, from the header: of this band (all bands, where they are stored together) and of the mask."""
        return sum(
            int(part.directory.spans()[1][cell])
            for part in self._parts(level)
            for cell in part.cells(window, self._wanted(part))
        )

    def prefetch(self, window: Window, level: int = 0) -> None:
        """See ``PixelSource``; a window of more than half the cache is not begun."""
        for part in self._parts(level):
            cells = self._file.absent(part, part.cells(window, self._wanted(part)))
            rows, cols = part.directory.block
            if cells and len(cells) * rows * cols * part.directory.pixel_bytes <= self._shared.cache.bound / 2:
                self._shared.lanes.ahead(lambda p=part, c=cells: self._file.blocks(p, c))

    def _parts(self, level: int) -> list[Level]:
        mask = self._file.masks[level]
        return [self._file.levels[level], *([] if mask is None else [mask])]

    def _wanted(self, part: Level) -> tuple[int, ...]:
        """Bands that reading this asset takes."""
        alpha = self._file.facts.alpha
        if part.directory.subfile & tiff.MASK:
            return (1,)
        return (self._index,) if alpha is None else (self._index, alpha)

    def _level_grid(self, level: int) -> AssetGrid:
        return (self.grid, *self.overviews)[level]


def open_tiff(href: str, shared: Shared, size: int, head: bytes) -> TiffFile | None:
    """Read the header of a TIFF; None where its blocks cannot be read one by one, which GDAL may do.

    Raises ReadError (``read.corrupt``), ImageryError (``imagery.limits``), and what the fetcher raises.
    """
    fetch = lambda start, stop: shared.fetcher.ranges(href, [(start, stop)], shared.auth)[0]  # noqa: E731
    extents = tiff.Extents(href, size, head, fetch, shared.limits.header_mb)
    found = tiff.directories(extents, shared.limits)
    main = found[0]
    large = (d.block[0] * d.block[1] * d.pixel_bytes > shared.limits.block_mb * MIB for d in found)
    if any(large) or not main.bits or not main.tags.keys() & {tiff.STRIP_COUNTS, tiff.TILE_COUNTS}:
        return None
    facts = describe(main)
    return None if facts is None else TiffFile(href, shared, found, facts)
