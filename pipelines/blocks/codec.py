"""Blocks of a TIFF, decoded by libtiff: each batch becomes a small TIFF of its own, in memory, which GDAL opens.

So every codec, predictor, byte order and bit depth that GDAL knows is read exactly as GDAL reads it, a block cannot
unpack to more than it says, only the wanted bands of a file are fetched, and the lock of Python is free meanwhile.
async-tiff 0.7.2, which was tried first, takes a little less time for ZSTD, twice as much for DEFLATE and LZW
(``benchmarks/reading.py`` shows what is left of that), holds the lock in ``decode_sync``, fetches every band of a
planar file, and does not survive some headers that a stranger may write.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterioWindow

from pipelines.blocks import tiff
from pipelines.blocks.georeference import UNPLACED, Georeference, georeference
from pipelines.imagery.gdal import FAILURES

_COPIED = (tiff.COMPRESSION, 266, 317, 347, 530, 532, 50674)
"""Compression, fill order, predictor, JPEG tables, YCbCr, LERC: what decoding depends on, beside the samples."""
_PER_SAMPLE = (tiff.BITS, 338, 339)
"""Bits, extra samples, sample format."""
_GEO = (33550, 33922, 34264, 34735, 34736, 34737, 42113)
"""Pixel scale, tie points, transformation, the GeoKeys; GDAL's nodata."""
_NOWHERE = (33550, 33922)
_PALETTE, _MASK_PHOTOMETRIC, _BLACK_IS_ZERO = 3, 4, 1
_SHORT, _LONG8 = 3, 16

Entry = tuple[int, int, int, bytes]
"""Tag, type, count, values in the file's byte order."""


@dataclass(frozen=True, slots=True)
class Coding:
    """How the blocks of one image are coded."""

    order: str
    """``<`` or ``>``."""
    block: tuple[int, int]
    """(rows, cols)."""
    tiled: bool
    """Tiles; otherwise strips."""
    entries: tuple[Entry, ...]
    """The tags of every batch."""

    @classmethod
    def of(cls, directory: tiff.Directory) -> Coding:
        """Of one image of a file. Raises as ``Directory.raw``."""
        together = 1 if directory.planes > 1 else directory.samples
        photometric = directory.number(tiff.PHOTOMETRIC, _BLACK_IS_ZERO)
        if photometric in (_PALETTE, _MASK_PHOTOMETRIC) or directory.planes > 1:
            photometric = _BLACK_IS_ZERO  # indices and flags are numbers; a plane of a picture is one as well
        entries = [_entry(directory, tag) for tag in _COPIED if tag in directory.tags]
        entries += _samples(directory, together)
        entries += [
            _short(directory.order, tiff.PHOTOMETRIC, photometric),
            _short(directory.order, tiff.SAMPLES, together),
            _short(directory.order, tiff.PLANAR, 1),
            *_nowhere(directory.order),
        ]
        return cls(directory.order, directory.block, directory.tiled, tuple(entries))


def decode(coding: Coding, blocks: Sequence[bytes], rows: int) -> list[NDArray[np.generic]]:
    """One array (samples, rows of the block, cols) per block, in order.

    ``rows`` is the height of the last one: a strip at the lower edge is shorter. Raises one of the FAILURES of
    ``pipelines.imagery.gdal``; how many arrays there would have been before it is not known.
    """
    height, width = coding.block
    data = wrap(coding, blocks, (len(blocks) - 1) * height + rows)
    with MemoryFile(data) as memory, memory.open(driver="GTiff", sharing=False) as file:
        tall = [height] * (len(blocks) - 1) + [rows]
        places = [RasterioWindow(0, i * height, width, h) for i, h in enumerate(tall)]  # type: ignore[call-arg]
        return [file.read(window=place) for place in places]


def wrap(coding: Coding, blocks: Sequence[bytes], rows: int) -> bytes:
    """A BigTIFF one block wide that holds these blocks from top to bottom; empty ones are left out as sparse."""
    height, width = coding.block
    n, order = len(blocks), coding.order
    offsets, counts, sizes = (
        (tiff.TILE_OFFSETS, tiff.TILE_COUNTS, ((tiff.TILE_WIDTH, width), (tiff.TILE_HEIGHT, height)))
        if coding.tiled
        else (tiff.STRIP_OFFSETS, tiff.STRIP_COUNTS, ((tiff.ROWS_PER_STRIP, height),))
    )
    numbers = ((tiff.WIDTH, width), (tiff.HEIGHT, rows), *sizes)
    entries = [*coding.entries, *((tag, _LONG8, 1, struct.pack(f"{order}Q", value)) for tag, value in numbers)]
    # Twice the same file: where blocks begin depends on the length of everything before them, not on its values.
    start = len(_file(order, [*entries, *((tag, _LONG8, n, bytes(8 * n)) for tag in (offsets, counts))]))
    lengths = [len(block) for block in blocks]
    begins = [start + at if size else 0 for at, size in zip(np.cumsum([0, *lengths]).tolist(), lengths, strict=False)]
    tables = ((offsets, begins), (counts, lengths))
    entries += [(tag, _LONG8, n, struct.pack(f"{order}{n}Q", *values)) for tag, values in tables]
    return b"".join((_file(order, entries), *blocks))


def _file(order: str, entries: Sequence[Entry]) -> bytes:
    """A BigTIFF's header, one directory and its values."""
    entries = sorted(entries)
    values = 16 + 8 + 20 * len(entries) + 8
    head = struct.pack(f"{order}2sHHHQQ", b"II" if order == "<" else b"MM", 43, 8, 0, 16, len(entries))
    body, tail = [head], []
    for tag, kind, count, data in entries:
        place = data.ljust(8, b"\0") if len(data) <= 8 else struct.pack(f"{order}Q", values)  # noqa: PLR2004  inline
        body.append(struct.pack(f"{order}HHQ", tag, kind, count) + place)
        if len(data) > 8:  # noqa: PLR2004
            padded = data + bytes(-len(data) % 8)
            tail.append(padded)
            values += len(padded)
    return b"".join((*body, bytes(8), *tail))


@dataclass(frozen=True, slots=True)
class Facts:
    """What GDAL makes of an image before any of its blocks is there."""

    dtype: np.dtype[np.generic]
    """Of the decoded numbers."""
    nodata: float | None
    """Tag of the file; may be NaN."""
    alpha: int | None
    """Band that is 0 where there is no data, from 1."""
    place: Georeference
    """Where it lies, or why that is not known."""


def describe(directory: tiff.Directory) -> Facts | None:
    """Facts of an image; None where GDAL cannot decode it (an unknown codec, samples that differ)."""
    entries = list(Coding.of(directory).entries)
    entries = [e for e in entries if e[0] not in _GEO and e[0] not in _PER_SAMPLE]
    entries = [e for e in entries if e[0] not in (tiff.SAMPLES, tiff.PHOTOMETRIC)]
    order = directory.order
    entries += _samples(directory, directory.samples)
    entries += [_short(order, tiff.SAMPLES, directory.samples)]
    entries += [_entry(directory, tag) for tag in (*_GEO, tiff.PHOTOMETRIC) if tag in directory.tags]
    placed = bool(directory.tags.keys() & {33922, 34264})
    if not placed:
        entries = [e for e in entries if e[0] not in _NOWHERE] + _nowhere(order)
    side = 16
    coding = Coding(order, (side, side), tiled=True, entries=tuple(entries))
    return _facts(wrap(coding, [b""], side), placed)


@lru_cache(maxsize=1024)
def _facts(data: bytes, placed: bool) -> Facts | None:
    """Kept, because all bands of a scene, and all dates of a place, ask the same."""
    try:
        with MemoryFile(data) as memory, memory.open(driver="GTiff", sharing=False) as file:
            file.read()  # a sparse block: no data, but the codec has to be there
            names = [colour.name for colour in file.colorinterp]
            if len(set(file.dtypes)) > 1 or file.dtypes[0].startswith("complex"):
                return None
            alpha = names.index("alpha") + 1 if "alpha" in names else None
            place = georeference(file) if placed else UNPLACED
            return Facts(np.dtype(file.dtypes[0]), file.nodata, alpha, place)
    except FAILURES:
        return None


def _entry(directory: tiff.Directory, tag: int) -> Entry:
    stored = directory.tags[tag]
    return tag, stored.kind, stored.count, directory.raw(tag)


def _nowhere(order: str) -> list[Entry]:
    """Some transform: without one rasterio warns, and warnings cannot be silenced in one thread alone."""
    scale, point = struct.pack(f"{order}3d", 1, 1, 0), struct.pack(f"{order}6d", 0, 0, 0, 1, 1, 0)
    return [(33550, 12, 3, scale), (33922, 12, 6, point)]


def _short(order: str, tag: int, value: int) -> Entry:
    return tag, _SHORT, 1, struct.pack(f"{order}H", value)


def _samples(directory: tiff.Directory, together: int) -> list[Entry]:
    """Bits, sample format and, where samples lie together, which of them are extra."""
    entries = []
    for tag in _PER_SAMPLE:
        values = directory.numbers(tag)
        if not len(values) or (tag == _PER_SAMPLE[1] and together < directory.samples):
            continue
        kept = values if tag == _PER_SAMPLE[1] else np.resize(values, together)
        entries.append((tag, _SHORT, len(kept), kept.astype(f"{directory.order}u2").tobytes()))
    return entries
