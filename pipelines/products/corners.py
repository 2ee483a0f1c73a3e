"""Outlines of regions of pixels, kept as the corners at which they turn. Pure arithmetic on whole numbers.

Let f be 1 inside a region and 0 outside. At a vertex of the pixel grid the mixed difference

    d = f(se) - f(ne) - f(sw) + f(nw)

is 0 where the outline runs straight on or does not pass, 1 or -1 where it turns, 2 or -2 where two pixels of the
region touch at their corners only. The region can be had back from d by summing, so d *is* the region; and since
d is linear in f, the corners of a union of disjoint regions are the sum of their corners. That is how parts of a
region that were seen apart (row bands, chunks, machines) become one outline with no trace of the seam, in any order.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Which = NDArray[np.bool_] | NDArray[np.int64]
"""A choice of rows, by mask or index."""
_KEY_BITS = 62


@dataclass(frozen=True, slots=True, eq=False)
class Corners:
    """Corners of numbered regions; one of weight 2 is listed twice."""

    region: NDArray[np.int32]
    """(n,) number of the region, from 0."""
    row: NDArray[np.int32]
    """(n,) vertex of the output grid: the upper edge of pixel row ``row``."""
    col: NDArray[np.int32]
    """(n,) vertex of the output grid: the left edge of pixel column ``col``."""
    sign: NDArray[np.int8]
    """(n,) 1 or -1."""

    def __len__(self) -> int:
        return len(self.region)

    def take(self, which: Which) -> Corners:
        """Some of them, by mask or index."""
        return Corners(self.region[which], self.row[which], self.col[which], self.sign[which])

    def renumbered(self, numbers: Ints) -> Corners:
        """The same corners as those of regions ``numbers[region]``; regions that now share a number are united."""
        return Corners(numbers[self.region].astype(np.int32), self.row, self.col, self.sign)

    @classmethod
    def joined(cls, parts: Sequence[Corners]) -> Corners:
        """All corners of all parts; of none: no corners."""
        if not parts:
            none = np.empty(0, np.int32)
            return cls(none, none, none, np.empty(0, np.int8))
        return cls(
            np.concatenate([p.region for p in parts]),
            np.concatenate([p.row for p in parts]),
            np.concatenate([p.col for p in parts]),
            np.concatenate([p.sign for p in parts]),
        )

    def settled(self) -> Corners:
        """Sorted by region, row and column; corners that cancel are gone, those of weight 2 stand twice."""
        if not len(self):
            return self
        packing = _Packing.of(self, self.row, self.col)
        key = packing.pack(self.region, self.row, self.col, self.sign > 0)
        key.sort()
        new = np.ones(len(key), np.bool_)
        np.not_equal(key[1:] >> 1, key[:-1] >> 1, out=new[1:])
        first = np.flatnonzero(new)
        weight = np.add.reduceat((key & 1).astype(np.int8) * np.int8(2) - np.int8(1), first)
        times = np.abs(weight)
        return packing.unpack(np.repeat(key[first] >> 1, times), np.repeat(np.sign(weight), times))

    def outlines(self) -> Outlines:
        """Polygons, in the order of the regions.

        Every region must be connected over pixel edges: then its outer boundary is one ring, the one with its first
        corner. Rings run counterclockwise on a map with north up, holes clockwise; they touch each other at single
        vertices where pixels of the region meet at their corners. No vertex lies on a straight line.
        """
        corners = self.settled()
        if not len(corners):
            return Outlines.none()
        order, starts = _cycles(_following(corners))
        lengths = np.diff(np.append(starts, len(order)))
        region = corners.region[2 * order[starts]]
        polygons = np.flatnonzero(np.concatenate(([True], region[1:] != region[:-1], [True])))
        return Outlines(_points(corners, order, starts), np.concatenate(([0], np.cumsum(2 * lengths + 1))), polygons)


@dataclass(frozen=True, slots=True, eq=False)
class Outlines:
    """Polygons in pixel coordinates, as flat arrays: one per region, its outer ring first."""

    points: NDArray[np.int32]
    """(n, 2) column and row of vertices of the output grid; every ring is closed."""
    rings: Ints
    """(rings + 1,) where each ring starts in ``points``."""
    polygons: Ints
    """(polygons + 1,) where each polygon starts in ``rings``."""

    def __len__(self) -> int:
        return len(self.polygons) - 1

    @classmethod
    def none(cls) -> Outlines:
        """No polygon."""
        return cls(np.empty((0, 2), np.int32), np.zeros(1, np.int64), np.zeros(1, np.int64))

    @classmethod
    def joined(cls, parts: Sequence[Outlines]) -> Outlines:
        """Several lists as one."""
        if not parts:
            return cls.none()
        rings, polygons = _chained([p.rings for p in parts]), _chained([p.polygons for p in parts])
        return cls(np.concatenate([p.points for p in parts]), rings, polygons)

    def part(self, start: int, stop: int) -> Outlines:
        """Polygons ``start .. stop``."""
        polygons = self.polygons[start : stop + 1]
        rings = self.rings[polygons[0] : polygons[-1] + 1]
        return Outlines(self.points[rings[0] : rings[-1]], rings - rings[0], polygons - polygons[0])


def _chained(offsets: list[Ints]) -> Ints:
    """Offsets of lists laid end to end."""
    return np.concatenate([[0], np.cumsum(np.concatenate([np.diff(o) for o in offsets]))])


# Horizontal edges join corners 2i and 2i + 1. Below an edge that starts with weight 1 lies the region: it is walked
# westwards, so that the region is on the left hand; the others eastwards.


def _tails(corners: Corners) -> NDArray[np.int32]:
    """The corner at which each horizontal edge begins; its other corner is one more or one less, ``^ 1``."""
    west = np.arange(0, len(corners), 2, dtype=np.int32)
    return west + (corners.sign[::2] > 0)


def _following(corners: Corners) -> NDArray[np.int32]:
    """The horizontal edge that follows each, along the vertical edge at its end."""
    return _across(corners)[_tails(corners) ^ 1] >> 1


def _across(corners: Corners) -> NDArray[np.int32]:
    """The other end of the vertical edge of each corner.

    Where two pixels of a region touch at a vertex, the outline must not cross from one to the other: of the two
    corners there, the first (of the edge from the west) goes on downwards where the pixels are the north-western
    and the south-eastern (weight 2), upwards where they are the other two.
    """
    same = _twins(corners)
    down = np.where(corners.sign > 0, np.append(same, False), np.insert(same, 0, False))
    key = _Packing.of(corners, corners.col, corners.row).pack(corners.region, corners.col, corners.row, down)
    order = np.argsort(key).astype(np.int32)
    across = np.empty(len(order), np.int32)
    across[order[::2]], across[order[1::2]] = order[1::2], order[::2]
    return across


def _twins(corners: Corners) -> NDArray[np.bool_]:
    """(n - 1,) True where a corner and the next are the same vertex of the same region."""
    return (
        (corners.col[1:] == corners.col[:-1])
        & (corners.row[1:] == corners.row[:-1])
        & (corners.region[1:] == corners.region[:-1])
    )


def _cycles(following: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Walk every ring once: the edges in walking order, and where each ring starts in it.

    A plain loop: a permutation's cycles are a chain of single steps, and 0.1 µs each is less than what any array
    formulation costs. Arrays and not lists, which would take five times the memory.
    """
    after = array("i", following.tobytes())
    order, starts = array("i"), array("i")
    for first in range(len(after)):
        edge = after[first]
        if edge < 0:  # walked already
            continue
        starts.append(len(order))
        order.append(first)
        after[first] = -1
        while edge != first:
            order.append(edge)
            after[edge], edge = -1, after[edge]
    return np.frombuffer(order, np.int32), np.frombuffer(starts, np.int32)


def _points(corners: Corners, order: NDArray[np.int32], starts: NDArray[np.int32]) -> NDArray[np.int32]:
    """(n, 2) column and row along all rings, each closed."""
    tail = _tails(corners)[order]
    walk = np.empty(2 * len(order), np.int32)
    walk[::2], walk[1::2] = tail, tail ^ 1
    ends = np.append(2 * starts[1:], len(walk))
    walk = np.insert(walk, ends, walk[2 * starts])
    points = np.empty((len(walk), 2), np.int32)
    points[:, 0], points[:, 1] = corners.col[walk], corners.row[walk]
    return points


@dataclass(frozen=True, slots=True)
class _Packing:
    """How (region, major, minor, flag) become one sortable number."""

    origin: tuple[int, int, int]
    """Least region, major and minor coordinate."""
    bits: tuple[int, int]
    """Of major and minor."""

    @classmethod
    def of(cls, corners: Corners, major: NDArray[np.int32], minor: NDArray[np.int32]) -> _Packing:
        low = (int(corners.region.min()), int(major.min()), int(minor.min()))
        bits = (int(major.max() - low[1]).bit_length(), int(minor.max() - low[2]).bit_length())
        regions = int(corners.region.max() - low[0]).bit_length()
        if regions + sum(bits) + 1 > _KEY_BITS:
            msg = f"regions spread over {bits} bits of pixels do not fit into one key; outline fewer at a time"
            raise ValueError(msg)
        return cls(low, bits)

    def pack(
        self, region: NDArray[np.int32], major: NDArray[np.int32], minor: NDArray[np.int32], flag: NDArray[np.bool_]
    ) -> Ints:
        key = region.astype(np.int64)
        key -= self.origin[0]
        for part, origin, bits in ((major, self.origin[1], self.bits[0]), (minor, self.origin[2], self.bits[1])):
            key <<= bits
            key |= part - np.int32(origin)
        key <<= 1
        key |= flag
        return key

    def unpack(self, vertex: Ints, sign: NDArray[np.int8]) -> Corners:
        """Corners of sorted rows and columns: what ``pack`` made, without the flag."""
        col = (vertex & ((1 << self.bits[1]) - 1)).astype(np.int32) + np.int32(self.origin[2])
        vertex >>= self.bits[1]
        row = (vertex & ((1 << self.bits[0]) - 1)).astype(np.int32) + np.int32(self.origin[1])
        vertex >>= self.bits[0]
        return Corners(vertex.astype(np.int32) + np.int32(self.origin[0]), row, col, sign)
