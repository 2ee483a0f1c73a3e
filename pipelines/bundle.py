"""A ZIP archive that is nowhere: its members stay where they are, and any part of it is made when it is read.

Members are stored as they are, so that all offsets follow from names and sizes, and a reader of a far ZIP takes the
part of a member that it wants. The form is PKWARE's APPNOTE 6.3.10, with ZIP64 where numbers outgrow 32 bits. The same
members give the same bytes.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from pipelines.store.blobs import Blobs

PIECE = 4 << 20
"""Bytes read at a time."""
_LONG, _SHORT = 0xFFFFFFFF, 0xFFFF
"""What stands for a number that is told in ZIP64's fields."""
_FIRST_YEAR, _LAST_YEAR = 1980, 2107
"""Of DOS's dates."""
_UTF8 = 0x0800
_UNIX, _FILE = 3, 0o100644 << 16
_PLAIN, _ZIP64 = 20, 45
"""Versions of the form that a reader has to know."""


class Source(Protocol):
    """Where the bytes of a member are. Raises OutputError, FileNotFoundError."""

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Those from ``start`` to before ``stop``, ``PIECE`` at a time at most."""
        ...


@dataclass(frozen=True, slots=True)
class BlobSource(Source):
    """A file of a folder, or an object of a store."""

    blobs: Blobs
    name: str

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """By seeking, or by ranged requests. Raises FileNotFoundError also where it was cut short."""
        for at in range(start, stop, PIECE):
            end = min(stop, at + PIECE)
            piece = self.blobs.get_range(self.name, at, end)
            if len(piece) != end - at:
                raise FileNotFoundError(self.name)
            yield piece


@dataclass(frozen=True, slots=True)
class TextSource(Source):
    """Bytes in memory."""

    text: bytes

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """At once."""
        yield self.text[start:stop]


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the archive."""

    name: str
    """With single slashes between folders."""
    size: int
    """Bytes."""
    crc32: int
    """Of them; see ``crc32_of``."""
    modified: datetime
    """With a time zone; told in UTC, to two seconds."""
    source: Source
    """Where they are."""


class Bundle(Source):
    """The archive. A value: it holds no file open."""

    def __init__(self, members: Sequence[Member]) -> None:
        """In this order. Raises ValueError for names that are none or stand twice."""
        _check([member.name for member in members])
        self.members = tuple(members)
        self._parts: list[tuple[Source, int]] = []
        self._starts: list[int] = []
        self.size = 0
        """Bytes of the archive."""
        places = []
        for member in members:
            places.append(self.size)
            self._say(_local(member))
            self._append(member.source, member.size)
        directory = b"".join(map(_central, members, places))
        end = _end(len(members), len(directory), self.size)
        self._say(directory + end)
        self.tag = hashlib.sha256(directory + end).hexdigest()[:32]
        """The same for the same bytes, as far as CRC-32 tells."""

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Any part of it; memory: one piece."""
        stop = min(stop, self.size)
        at = max(0, bisect_right(self._starts, start) - 1)
        while start < stop:
            (source, size), begin = self._parts[at], self._starts[at]
            last = min(stop, begin + size)
            if start < last:
                yield from source.read(start - begin, last - begin)
                start = last
            at += 1

    def _say(self, text: bytes) -> None:
        self._append(TextSource(text), len(text))

    def _append(self, source: Source, size: int) -> None:
        self._starts.append(self.size)
        self._parts.append((source, size))
        self.size += size


def crc32_of(source: Source, size: int) -> int:
    """Reads all of it, piece by piece."""
    found = 0
    for piece in source.read(0, size):
        found = zlib.crc32(piece, found)
    return found


def _check(names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        raise ValueError("a name stands twice in an archive")
    for name in names:
        parts = name.split("/")
        strange = any(part in ("", ".", "..") for part in parts) or "\\" in name or not name.isprintable()
        if strange or len(name.encode()) > _SHORT or parts[0].endswith(":"):
            raise ValueError(f"{name[:80]!r} cannot be the name of a member")


def _local(member: Member) -> bytes:
    """The header in front of its bytes."""
    large = member.size >= _LONG
    extra = _zip64(member.size, member.size) if large else b""
    size, name = _LONG if large else member.size, member.name.encode()
    return struct.pack(
        "<4s5H3L2H", b"PK\x03\x04", _ZIP64 if large else _PLAIN, _UTF8, 0, *_dos(member.modified), member.crc32, size,
        size, len(name), len(extra),
    ) + name + extra  # fmt: skip


def _central(member: Member, place: int) -> bytes:
    """Its line in the directory at the end."""
    sizes = [member.size, member.size] if member.size >= _LONG else []
    places = [place] if place >= _LONG else []
    extra = _zip64(*sizes, *places) if sizes or places else b""
    version, name = _ZIP64 if extra else _PLAIN, member.name.encode()
    size = _LONG if sizes else member.size
    return struct.pack(
        "<4s2B5H3L5H2L", b"PK\x01\x02", version, _UNIX, version, _UTF8, 0, *_dos(member.modified), member.crc32, size,
        size, len(name), len(extra), 0, 0, 0, _FILE, _LONG if places else place,
    ) + name + extra  # fmt: skip


def _zip64(*numbers: int) -> bytes:
    return struct.pack(f"<2H{len(numbers)}Q", 1, 8 * len(numbers), *numbers)


def _end(count: int, size: int, place: int) -> bytes:
    """What says where the directory is: ``count`` lines of ``size`` bytes from ``place`` on."""
    large = count >= _SHORT or size >= _LONG or place >= _LONG
    wide = struct.pack(
        "<4sQ2H2L4Q4sLQL", b"PK\x06\x06", 44, _ZIP64, _ZIP64, 0, 0, count, count, size, place,
        b"PK\x06\x07", 0, place + size, 1,
    )  # fmt: skip
    short, long = (min(count, _SHORT),) * 2, (min(size, _LONG), min(place, _LONG))
    return (wide if large else b"") + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, *short, *long, 0)


def _dos(when: datetime) -> tuple[int, int]:
    """Time and date."""
    utc = when.astimezone(UTC)
    if utc.year < _FIRST_YEAR:
        return 0, 1 << 5 | 1
    year = min(utc.year, _LAST_YEAR) - _FIRST_YEAR
    return utc.hour << 11 | utc.minute << 5 | utc.second // 2, year << 9 | utc.month << 5 | utc.day
