"""The header of a TIFF, read with distrust: no count and no offset in it is believed before it is checked.

Own code, because readers that allocate what a header claims, or follow a chain of directories for ever, cannot be
given files of strangers. Classic and BigTIFF, either byte order. Source: TIFF 6.0; BigTIFF as libtiff writes it.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pipelines.imagery.limits import MIB, Limits, check_block, check_shape, refuse
from swathe.errors import ReadError
from swathe.imagery import shown

SUBFILE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES, ROWS_PER_STRIP, STRIP_COUNTS, PLANAR = 273, 277, 278, 279, 284
TILE_WIDTH, TILE_HEIGHT, TILE_OFFSETS, TILE_COUNTS = 322, 323, 324, 325
REDUCED, MASK = 1, 4
"""Bits of the subfile tag."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_WHOLE = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
_STEP = 1 << 15
_MANY_TAGS = 4096

Fetch = Callable[[int, int], bytes]
"""``fetch(start, stop)``; may give fewer bytes at the end of the file."""


class Extents:
    """The parts of a file that were fetched so far for its header."""

    def __init__(self, href: str, size: int, head: bytes, fetch: Fetch, limit_mb: int) -> None:
        """``size`` of the file in bytes; ``head`` is its beginning."""
        self.href, self.size = href, size
        self._fetch, self._limit = fetch, limit_mb * MIB
        self._known = [(0, head)]
        self._step = _STEP

    def take(self, start: int, length: int) -> bytes:
        """Raises ReadError (``read.corrupt``) beyond the end, ImageryError where a header would be too large."""
        stop = start + length
        if start < 0 or stop > self.size:
            raise corrupt(self.href, f"its header points beyond its {self.size} bytes")
        for begin, data in self._known:
            if begin <= start and stop <= begin + len(data):
                return data[start - begin : stop - begin]
        if sum(len(data) for _, data in self._known) + length > self._limit:
            raise refuse(self.href, f"has a header of more than {self._limit // MIB} MB")
        data = self._fetch(start, min(self.size, max(stop, start + self._step)))
        if len(data) < length:
            raise corrupt(self.href, "it is shorter than it was")
        self._step *= 2
        self._known.append((start, data))
        return data[:length]


@dataclass(frozen=True, slots=True)
class Tag:
    """One entry of a directory."""

    kind: int
    """TIFF's number of the type."""
    count: int
    """Values."""
    place: int
    """Offset of the values in the file."""


@dataclass(frozen=True)
class Directory:
    """One image of the file: a level or a mask."""

    extents: Extents
    """Where values come from."""
    order: str
    """``<`` or ``>``."""
    tags: dict[int, Tag]
    """By number."""
    limits: Limits
    """What it may claim."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def raw(self, tag: int) -> bytes:
        """Values as stored; empty where the tag is not there. Raises as ``Extents.take``."""
        entry = self.tags.get(tag)
        if entry is None:
            return b""
        return self.extents.take(entry.place, entry.count * _SIZES[entry.kind])

    def numbers(self, tag: int) -> NDArray[np.int64]:
        """Whole numbers; empty where the tag is not there or holds none."""
        entry = self.tags.get(tag)
        if entry is None or entry.kind not in _WHOLE:
            return np.zeros(0, np.int64)
        stored = np.frombuffer(self.raw(tag), self.order + _WHOLE[entry.kind])
        if stored.dtype.kind == "u" and stored.size and int(stored.max()) > np.iinfo(np.int64).max:
            raise corrupt(self.extents.href, f"its tag {tag} is absurd")
        return stored.astype(np.int64)

    def number(self, tag: int, default: int) -> int:
        """The first of them."""
        found = self.numbers(tag)
        return int(found[0]) if len(found) else default

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.number(HEIGHT, 0), self.number(WIDTH, 0)

    @cached_property
    def samples(self) -> int:
        """Bands."""
        return self.number(SAMPLES, 1)

    @cached_property
    def bits(self) -> int:
        """Per sample; 0 where samples differ, which nobody reads here."""
        found = set(self.numbers(BITS).tolist()) or {1}
        return found.pop() if len(found) == 1 else 0

    @cached_property
    def compression(self) -> int:
        """TIFF's number of it."""
        return self.number(COMPRESSION, 1)

    @cached_property
    def planes(self) -> int:
        """How many bands are stored apart; 1 where all lie in one block."""
        return self.samples if self.number(PLANAR, 1) == 2 and self.samples > 1 else 1  # noqa: PLR2004  TIFF: separate

    @cached_property
    def tiled(self) -> bool:
        """Tiles; otherwise strips."""
        return TILE_WIDTH in self.tags

    @cached_property
    def block(self) -> tuple[int, int]:
        """(rows, cols) of a tile or a strip."""
        if self.tiled:
            return self.number(TILE_HEIGHT, 0), self.number(TILE_WIDTH, 0)
        rows, cols = self.shape
        return min(self.number(ROWS_PER_STRIP, rows), rows), cols

    @cached_property
    def blocks(self) -> tuple[int, int]:
        """How many (down, across)."""
        return -(-self.shape[0] // self.block[0]), -(-self.shape[1] // self.block[1])

    @cached_property
    def subfile(self) -> int:
        """Bits: a smaller copy, a page, a mask."""
        return self.number(SUBFILE, 0)

    @property
    def pixel_bytes(self) -> float:
        """Of one block, decoded."""
        return max(1, self.bits / 8) * (self.samples if self.planes == 1 else 1)

    def spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(planes, down, across) offsets and byte counts of all blocks; 0 bytes is a block that was never written.

        Read when first asked for. Raises ReadError (``read.corrupt``) where the table has fewer blocks than the image.
        """
        with self._lock:
            return self._spans

    @cached_property
    def _spans(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        tags = (TILE_OFFSETS, TILE_COUNTS) if self.tiled else (STRIP_OFFSETS, STRIP_COUNTS)
        shape = (self.planes, *self.blocks)
        wanted = int(np.prod(shape, dtype=object))
        tables = []
        for tag in tags:
            if tag not in self.tags or self.tags[tag].count < wanted:
                have = self.tags[tag].count if tag in self.tags else 0
                raise corrupt(self.extents.href, f"it lists {have} of its {wanted} blocks")
            tables.append(self.numbers(tag)[:wanted].reshape(shape))
        return tables[0], tables[1]


def directories(extents: Extents, limits: Limits) -> list[Directory]:
    """All images of a TIFF, checked against the limits.

    Raises ReadError (``read.corrupt``) for a damaged header, ImageryError (``imagery.limits``) for an absurd one.
    """
    found = list(_chain(extents, limits))
    if not found:
        raise corrupt(extents.href, "it holds no image")
    for directory in found:
        check_shape(extents.href, directory.shape, directory.samples, limits)
        # A giant strip is no attack, but how some programs write: see ``cog.open_tiff``.
        check_block(extents.href, directory.block, directory.pixel_bytes if directory.tiled else 0, limits)
    return found


def _chain(extents: Extents, limits: Limits) -> Iterator[Directory]:
    first = extents.take(0, min(16, extents.size))
    order = {b"II": "<", b"MM": ">"}.get(first[:2])
    version = struct.unpack(f"{order}H", first[2:4])[0] if order and len(first) >= 8 else 0  # noqa: PLR2004
    if order is None or version not in (42, 43) or (version == 43 and len(first) < 16):  # noqa: PLR2004  magic numbers
        raise corrupt(extents.href, "it does not begin as a TIFF does")
    form = _Form(order, big=version == 43)  # noqa: PLR2004
    place = struct.unpack(f"{order}{form.offset}", first[8:16] if form.big else first[4:8])[0]
    seen: set[int] = set()
    while place:
        if place in seen:
            raise corrupt(extents.href, "its directories go round in a circle")
        if len(seen) >= limits.directories:
            raise refuse(extents.href, f"holds more than {limits.directories} images")
        seen.add(place)
        tags, place = form.directory(extents, place)
        yield Directory(extents, order, tags, limits)


@dataclass(frozen=True, slots=True)
class _Form:
    """Widths of the numbers of a directory."""

    order: str
    big: bool

    @property
    def offset(self) -> str:
        return "Q" if self.big else "I"

    def directory(self, extents: Extents, place: int) -> tuple[dict[int, Tag], int]:
        """The tags of the directory at ``place``, and where the next one is (0: there is none)."""
        head, entry, word = (8, 20, 8) if self.big else (2, 12, 4)
        count = struct.unpack(f"{self.order}{'Q' if self.big else 'H'}", extents.take(place, head))[0]
        if count > _MANY_TAGS:
            raise refuse(extents.href, f"claims {count} tags for one image")
        body = extents.take(place + head, count * entry + word)
        tags: dict[int, Tag] = {}
        for at in range(0, count * entry, entry):
            tag, kind, values = struct.unpack_from(f"{self.order}HH{self.offset}", body, at)
            length = values * _SIZES.get(kind, 0)
            if not length:
                continue  # an unknown type: TIFF 6.0 says to step over it
            inline = place + head + at + entry - word
            (pointed,) = struct.unpack_from(f"{self.order}{self.offset}", body, at + entry - word)
            start = inline if length <= word else pointed
            self._believable(extents, tag, start, length)
            tags.setdefault(tag, Tag(kind, values, start))
        return tags, struct.unpack_from(f"{self.order}{self.offset}", body, count * entry)[0]

    @staticmethod
    def _believable(extents: Extents, tag: int, start: int, length: int) -> None:
        if start + length > extents.size:
            raise corrupt(extents.href, f"its tag {tag} lies beyond the end of the file")


def corrupt(href: str, what: str) -> ReadError:
    """The error for a damaged file; to be raised."""
    return ReadError(
        f"{shown(href)} is damaged or incomplete: {what}",
        code="read.corrupt",
        hint="the copy at the source is broken: fetch it again, or leave the scene out",
    )
