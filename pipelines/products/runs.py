"""Rows of equal pixels: what connects, counts and outlines regions, at the cost of their edges, not of their area."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.products.corners import Corners, Ints
from swathe.window import Window


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Maximal stretches of one class within a row, in reading order. Positions count from the block's corner."""

    row: Ints
    """(n,) row."""
    start: Ints
    """(n,) first column."""
    stop: Ints
    """(n,) one past the last column."""
    value: NDArray[np.uint8]
    """(n,) class."""
    score: Ints
    """(n,) sum of the stored scores; 0 where there are none."""
    width: int
    """Columns of the block."""

    def __len__(self) -> int:
        return len(self.row)

    @property
    def length(self) -> Ints:
        """(n,) pixels."""
        return self.stop - self.start


def runs_of(classes: NDArray[np.uint8], score: NDArray[np.uint8] | None, keep: NDArray[np.bool_]) -> Runs:
    """Runs of the classes for which ``keep[value]`` holds.

    classes, score: (H, W). keep: (256,).
    """
    height, width = classes.shape
    new = np.empty((height, width), np.bool_)
    new[:, 0] = True
    np.not_equal(classes[:, 1:], classes[:, :-1], out=new[:, 1:])
    start = np.flatnonzero(new)
    stop = np.append(start[1:], classes.size)
    value = classes.ravel()[start]
    kept = keep[value]
    start, stop, value = start[kept], stop[kept], value[kept]
    row = start // width
    return Runs(row, start - row * width, stop - row * width, value, _sums(score, start, stop), width)


def _sums(score: NDArray[np.uint8] | None, start: Ints, stop: Ints) -> Ints:
    """Sums over stretches, as differences of running sums.

    Those may wrap around 2^32; a difference is still right, since one run of less than 2^24 pixels cannot.
    """
    if score is None:
        return np.zeros(len(start), np.int64)
    running = np.empty(score.size + 1, np.uint32)
    running[0] = 0
    np.cumsum(score.ravel(), dtype=np.uint32, out=running[1:])
    return (running[stop] - running[start]).astype(np.int64)


def overlaps(start: Ints, stop: Ints, other_start: Ints, other_stop: Ints) -> tuple[Ints, Ints]:
    """Index pairs of intervals that share a point; each list is sorted and free of overlaps in itself."""
    inside = np.searchsorted(other_start, start, side="right") - 1
    mine = np.flatnonzero((inside >= 0) & (other_stop[inside] > start)) if len(other_start) else inside[:0]
    around = np.searchsorted(start, other_start, side="left") - 1
    theirs = np.flatnonzero((around >= 0) & (stop[around] > other_start)) if len(start) else around[:0]
    return np.concatenate([mine, around[theirs]]), np.concatenate([inside[mine], theirs])


def stacked(runs: Runs) -> tuple[Ints, Ints]:
    """Pairs (upper, lower) of runs of one class that share pixel edges."""
    at = runs.row * runs.width + runs.start
    end = at + runs.length
    upper, lower = overlaps(at + runs.width, end + runs.width, at, end)
    same = runs.value[upper] == runs.value[lower]
    return upper[same], lower[same]


def components(count: int, a: Ints, b: Ints) -> tuple[int, Ints]:
    """How many groups ``count`` things fall into when a[i] and b[i] belong together, and the group of each.

    Groups are numbered by their first member.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(count, count))
    groups, label = connected_components(links, directed=False)
    first = np.full(groups, count, np.int64)
    np.minimum.at(first, label, np.arange(count))
    rank = np.empty(groups, np.int64)
    rank[np.argsort(first)] = np.arange(groups)
    return int(groups), rank[label]


def corners_of(runs: Runs, region: Ints, pairs: tuple[Ints, Ints], window: Window) -> Corners:
    """Corners of the regions that runs belong to; ``window`` is where the block lies on the output grid.

    The four corners of each run, less those that cancel because a neighbour above or below ends in line.
    """
    upper, lower = pairs
    left = runs.start[upper] == runs.start[lower]
    right = runs.stop[upper] == runs.stop[lower]
    sides = ((runs.start, 0, 1, lower[left]), (runs.stop, 0, -1, lower[right]))
    sides += ((runs.start, 1, -1, upper[left]), (runs.stop, 1, 1, upper[right]))
    parts = []
    for col, down, sign, gone in sides:
        stays = np.ones(len(runs), np.bool_)
        stays[gone] = False
        which = np.flatnonzero(stays)
        weight = np.full(len(which), sign, np.int8)
        row, column = runs.row[which] + (down + window.row), col[which] + window.col
        parts.append(Corners(region[which].astype(np.int32), row.astype(np.int32), column.astype(np.int32), weight))
    return Corners.joined(parts)
