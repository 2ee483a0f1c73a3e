"""Regions of one class, perhaps cut by seams: what is known of each, and how the parts find each other again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pipelines.products.corners import Ints, Outlines, Which
from pipelines.products.runs import Runs, components, overlaps, runs_of, stacked
from swathe.window import Window


class Sketch(Protocol):
    """What regions look like while they are still in parts: corners, or simplified pieces."""

    @property
    def region(self) -> NDArray[np.int32] | Ints:
        """(n,) whose."""
        ...

    def take(self, which: Which) -> Self:
        """Some of them, by mask or index."""
        ...

    def renumbered(self, numbers: Ints) -> Self:
        """The same as those of regions ``numbers[region]``; regions that now share a number are united."""
        ...

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Several lists as one."""
        ...

    def settled(self) -> Self:
        """What is left once all that can be dissolved between united regions is."""
        ...

    def outlines(self) -> Outlines:
        """Polygons, in the order of the regions, each of which is connected."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What is known of each region. Sums of whole numbers, so that no order of adding changes them."""

    value: NDArray[np.uint8]
    """(n,) class."""
    pixels: Ints
    """(n,) count."""
    score: Ints
    """(n,) sum of stored scores."""
    ground: Ints
    """(n,) sum of row weights: see ``ground.py``."""
    first: Ints
    """(n,) index of the first pixel in reading order of the whole output grid: names the region for good."""

    def __len__(self) -> int:
        return len(self.value)

    def take(self, which: Which) -> Facts:
        """Some of them, by mask or index."""
        return Facts(*(getattr(self, f.name)[which] for f in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Facts]) -> Facts:
        """Several lists as one."""
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def grouped(self, count: int, group: Ints) -> Facts:
        """United: sums of the sums, the least first pixel."""
        value = np.zeros(count, np.uint8)
        value[group] = self.value
        first = np.full(count, np.iinfo(np.int64).max)
        np.minimum.at(first, group, self.first)
        pixels, score, ground = (_added(count, group, n) for n in (self.pixels, self.score, self.ground))
        return Facts(value, pixels, score, ground, first)


def _added(count: int, group: Ints, numbers: Ints) -> Ints:
    total = np.zeros(count, np.int64)
    np.add.at(total, group, numbers)
    return total


@dataclass(frozen=True, slots=True, eq=False)
class Seams:
    """Where regions reach a line beyond which there are pixels that were not looked at together with them."""

    vertical: NDArray[np.bool_]
    """(n,) True: the line is a column of vertices, False: a row."""
    after: NDArray[np.bool_]
    """(n,) True: the region lies below or to the right of the line."""
    line: Ints
    """(n,) row or column of the line, in vertices of the output grid."""
    start: Ints
    """(n,) first pixel along the line."""
    stop: Ints
    """(n,) one past the last."""
    region: Ints
    """(n,) whose."""

    def __len__(self) -> int:
        return len(self.line)

    def take(self, which: Which) -> Seams:
        """Some of them, by mask or index."""
        return Seams(*(getattr(self, f.name)[which] for f in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Seams]) -> Seams:
        """Several lists as one; of none: no seams."""
        if not parts:
            none = np.empty(0, np.int64)
            return _seam((False, False), 0, (none, none), none)
        return cls(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    def renumbered(self, numbers: Ints) -> Seams:
        """The same seams of regions ``numbers[region]``."""
        return Seams(self.vertical, self.after, self.line, self.start, self.stop, numbers[self.region])


@dataclass(frozen=True, slots=True, eq=False)
class Regions:
    """Regions seen together."""

    facts: Facts
    """One row each."""
    drawing: Sketch
    """Of all of them."""
    seams: Seams
    """Of those that may go on elsewhere."""

    def __len__(self) -> int:
        return len(self.facts)

    def take(self, mask: NDArray[np.bool_]) -> Regions:
        """Some of them, numbered anew."""
        number = np.cumsum(mask) - 1
        drawing, seams = self.drawing.take(mask[self.drawing.region]), self.seams.take(mask[self.seams.region])
        return Regions(self.facts.take(mask), drawing.renumbered(number), seams.renumbered(number))

    def open(self) -> NDArray[np.bool_]:
        """(n,) True where a region reaches a seam."""
        mask = np.zeros(len(self), np.bool_)
        mask[self.seams.region] = True
        return mask


def united(parts: Sequence[Regions], within: Window) -> Regions:
    """Regions of several parts, joined over the seams inside ``within``; the seams at its edges stay."""
    offsets = np.cumsum([0] + [len(p) for p in parts])
    numbers = [np.arange(a, b) for a, b in itertools.pairwise(offsets)]
    facts = Facts.joined([p.facts for p in parts])
    seams = Seams.joined([p.seams.renumbered(n) for p, n in zip(parts, numbers, strict=True)])
    count, group = components(len(facts), *meetings(seams, facts.value))
    drawings = [p.drawing.renumbered(group[n]) for p, n in zip(parts, numbers, strict=True)]
    left = seams.take(~_inside(seams, within)).renumbered(group)
    return Regions(facts.grouped(count, group), type(drawings[0]).joined(drawings).settled(), left)


def _inside(seams: Seams, within: Window) -> NDArray[np.bool_]:
    low = np.where(seams.vertical, within.col, within.row)
    high = np.where(seams.vertical, within.right, within.bottom)
    return (seams.line > low) & (seams.line < high)


def meetings(seams: Seams, value: NDArray[np.uint8]) -> tuple[Ints, Ints]:
    """Pairs of regions of one class that face each other across a seam."""
    found = [_across(seams.take(seams.vertical == vertical)) for vertical in (False, True)]
    a, b = (np.concatenate(side) for side in zip(*found, strict=True))
    same = value[a] == value[b]
    return a[same], b[same]


def _across(seams: Seams) -> tuple[Ints, Ints]:
    """Pairs of regions before and after all lines of one direction, laid end to end as one line."""
    extent = int(seams.stop.max(initial=0)) + 1
    sides = []
    for after in (False, True):
        side = seams.take(seams.after == after)
        at = side.line * extent + side.start
        order = np.argsort(at)
        sides.append((at[order], (at + side.stop - side.start)[order], side.region[order]))
    (start, stop, region), (other_start, other_stop, other) = sides
    mine, theirs = overlaps(start, stop, other_start, other_stop)
    return region[mine], other[theirs]


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """The whole output grid, as far as regions must know it."""

    shape: tuple[int, int]
    """(rows, cols)."""
    weights: NDArray[np.int64] | None = None
    """(rows,) ground area of a pixel of each row in some unit; None: 1."""


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """A block of pixels, taken apart into connected regions of one class."""

    window: Window
    """Where the block lies on the frame."""
    facts: Facts
    """Of the regions."""
    seams: Seams
    """Where they reach edges of the block that are no edges of the frame."""
    runs: Runs
    """What they consist of."""
    region: Ints
    """(runs,) which region each run belongs to."""
    pairs: tuple[Ints, Ints]
    """(upper, lower) runs of one region that share pixel edges."""


def label(
    classes: NDArray[np.uint8],
    score: NDArray[np.uint8] | None,
    keep: NDArray[np.bool_],
    window: Window,
    frame: Frame,
) -> Labels:
    """Find the regions, connected over pixel edges, of the classes to keep.

    classes, score: (H, W) pixels of ``window``. keep: (256,).
    """
    runs = runs_of(classes, score, keep)
    pairs = stacked(runs)
    count, region = components(len(runs), *pairs)
    weight = 1 if frame.weights is None else frame.weights[runs.row + window.row]
    first = (runs.row + window.row) * frame.shape[1] + runs.start + window.col
    each = Facts(runs.value, runs.length, runs.score, runs.length * weight, first)
    return Labels(window, each.grouped(count, region), _seams(runs, region, window, frame.shape), runs, region, pairs)


def _seams(runs: Runs, region: Ints, window: Window, shape: tuple[int, int]) -> Seams:
    parts = []
    for after, line, row in ((True, window.row, 0), (False, window.bottom, window.height - 1)):
        if 0 < line < shape[0]:
            at = np.flatnonzero(runs.row == row)
            ends = (runs.start[at] + window.col, runs.stop[at] + window.col)
            parts.append(_seam((False, after), line, ends, region[at]))
    for after, line, hit in ((True, window.col, runs.start == 0), (False, window.right, runs.stop == runs.width)):
        if 0 < line < shape[1]:
            at = np.flatnonzero(hit)
            parts.append(_upright(after, line, runs.row[at] + window.row, region[at]))
    return Seams.joined(parts)


def _upright(after: bool, line: int, row: Ints, region: Ints) -> Seams:
    """A column of pixels that reach a vertical line; neighbours of one region become one stretch."""
    new = np.ones(len(row), np.bool_)
    new[1:] = (np.diff(row) != 1) | (np.diff(region) != 0)
    last = np.append(new[1:], True)[: len(row)]
    return _seam((True, after), line, (row[new], row[last] + 1), region[new])


def _seam(side: tuple[bool, bool], line: int, ends: tuple[Ints, Ints], region: Ints) -> Seams:
    """Stretches of one line; ``side`` is (vertical, after)."""
    n = len(region)
    return Seams(np.full(n, side[0]), np.full(n, side[1]), np.full(n, line, np.int64), *ends, region)
