"""Outlines with fewer corners, borders still shared: regions as simplified pieces of a fixed mosaic of cells.

Every cell of 512 x 512 pixels of the output grid is simplified as one coverage (all its regions together, background
and nodata too), so that no gap or overlap can open between neighbours, and the cell's own edges stay as they are, so
that pieces fit across them. The cells hang on the grid and not on the chunks: the result is the same for any chunking.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

from pipelines.products.corners import Ints, Outlines, Which
from pipelines.products.regions import Frame, Labels, label
from pipelines.products.runs import corners_of
from swathe.window import Window

CELL = 512
"""Side of a cell; row bands and chunks start at multiples of it."""
_EVERYTHING = np.ones(256, np.bool_)


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Simplified polygons of regions, one per cell and region, in pixels of the output grid."""

    region: Ints
    """(n,) number of the region."""
    polygon: NDArray[np.object_]
    """(n,) shapely polygons with whole coordinates."""

    def take(self, which: Which) -> Pieces:
        """Some of them, by mask or index."""
        return Pieces(self.region[which], self.polygon[which])

    def renumbered(self, numbers: Ints) -> Pieces:
        """The same pieces as those of regions ``numbers[region]``."""
        return Pieces(numbers[self.region], self.polygon)

    @classmethod
    def joined(cls, parts: Sequence[Pieces]) -> Pieces:
        """Several lists as one; of none: no pieces."""
        if not parts:
            return cls(np.empty(0, np.int64), np.empty(0, np.object_))
        return cls(np.concatenate([p.region for p in parts]), np.concatenate([p.polygon for p in parts]))

    def settled(self) -> Pieces:
        """Sorted by region."""
        return self.take(np.argsort(self.region, kind="stable"))

    def outlines(self) -> Outlines:
        """Polygons, in the order of the regions; the edges of cells are gone."""
        pieces = self.settled()
        first = np.flatnonzero(np.concatenate(([True], np.diff(pieces.region) != 0))) if len(pieces.region) else []
        groups = np.split(pieces.polygon, first[1:]) if len(first) else []
        whole = [g[0] if len(g) == 1 else shapely.coverage_union_all(g) for g in groups]
        return straightened(outlines_of(np.array(whole, dtype=object)))


def outlines_of(polygons: NDArray[np.object_]) -> Outlines:
    """Flat arrays of shapely polygons, ring by ring in the directions and from the corners that are usual here."""
    if not len(polygons):
        return Outlines.none()
    # With rows counted downwards, counterclockwise on the map is clockwise in numbers.
    usual = shapely.orient_polygons(shapely.normalize(polygons), exterior_cw=True)
    _, points, (rings, parts) = shapely.to_ragged_array(usual)
    return Outlines(points.astype(np.int32), rings.astype(np.int64), parts.astype(np.int64))


def polygons_of(outlines: Outlines) -> NDArray[np.object_]:
    """The same as shapely polygons, in pixel coordinates."""
    points = outlines.points.astype(np.float64)
    offsets = (outlines.rings, outlines.polygons)
    return shapely.from_ragged_array(shapely.GeometryType.POLYGON, points, offsets)


def straightened(outlines: Outlines) -> Outlines:
    """Without the vertices inside straight horizontal and vertical lines, which the cells left behind."""
    points, last = outlines.points.astype(np.int64), outlines.rings[1:] - 1
    before = np.arange(-1, len(points) - 1)
    before[outlines.rings[:-1]] = last - 1
    after = np.arange(1, len(points) + 1)
    after[last] = outlines.rings[:-1] + 1
    level = (points == points[before]) & (points == points[after])
    keep = ~level.any(axis=1)
    keep[last] = False
    count = np.add.reduceat(keep.astype(np.int64), outlines.rings[:-1]) if len(last) else np.empty(0, np.int64)
    rings = np.concatenate(([0], np.cumsum(count + 1)))
    kept = np.flatnonzero(keep)
    first = np.concatenate(([0], np.cumsum(count)))[:-1]
    walk = np.insert(kept, first + count, kept[first])
    return Outlines(outlines.points[walk], rings, outlines.polygons)


def pieces_of(labels: Labels, classes: NDArray[np.uint8], tolerance: float) -> Pieces:
    """Simplify a block cell by cell. classes: (H, W) pixels of ``labels.window``."""
    window = labels.window
    return Pieces.joined([_cell(labels, classes[cell.within(window)], cell, tolerance) for cell in cells(window)])


def cells(window: Window) -> list[Window]:
    """Cells of the output grid, cut to ``window``."""
    rows, cols = _cuts(window.row, window.bottom), _cuts(window.col, window.right)
    return [
        Window(top, left, bottom - top, right - left)
        for top, bottom in itertools.pairwise(rows)
        for left, right in itertools.pairwise(cols)
    ]


def _cuts(start: int, stop: int) -> list[int]:
    return [start, *range((start // CELL + 1) * CELL, stop, CELL), stop]


def _cell(labels: Labels, classes: NDArray[np.uint8], cell: Window, tolerance: float) -> Pieces:
    width = cell.right
    local = label(classes, None, _EVERYTHING, cell, Frame((cell.bottom, width)))
    exact = corners_of(local.runs, local.region, local.pairs, cell).outlines()
    coverage = polygons_of(noded(exact, junctions(classes, cell)))
    smooth = shapely.coverage_simplify(coverage, tolerance, simplify_boundary=False)
    region = _owner(labels, local.facts.first // width, local.facts.first % width)
    mine = region >= 0
    return Pieces(region[mine], smooth[mine])


def _owner(labels: Labels, row: Ints, col: Ints) -> Ints:
    """Region of the block that holds each of these pixels of the output grid; -1 where none does."""
    runs, window = labels.runs, labels.window
    if not len(runs):
        return np.full(len(row), -1)
    at = (row - window.row) * window.width + col - window.col
    start = runs.row * window.width + runs.start
    run = np.searchsorted(start, at, side="right") - 1
    return np.where((run >= 0) & (start[run] + runs.length[run] > at), labels.region[run], -1)


def junctions(classes: NDArray[np.uint8], cell: Window) -> NDArray[np.int64]:
    """(n, 2) column and row of vertices at which three or four edges between regions meet.

    All vertices of the cell's own border are among them, whatever lies beyond: pieces of neighbouring cells must share
    every vertex to be united.
    """
    right, below = classes[:, 1:] != classes[:, :-1], classes[1:] != classes[:-1]
    height, width = classes.shape
    degree = np.zeros((height + 1, width + 1), np.int8)
    # Each edge counts at both its ends.
    degree[:-1, 1:-1] += right
    degree[1:, 1:-1] += right
    degree[1:-1, :-1] += below
    degree[1:-1, 1:] += below
    degree[[0, -1], :] += 4
    degree[1:-1, [0, -1]] += 4
    row, col = np.nonzero(degree > 2)  # noqa: PLR2004  two edges are one line passing
    return np.stack([col + cell.col, row + cell.row], axis=1)


def noded(exact: Outlines, junction: NDArray[np.int64]) -> Outlines:
    """The same outlines with a vertex wherever a junction lies on a straight edge: both sides then share it."""
    points = exact.points.astype(np.int64)
    steps = np.diff(points, axis=0)
    inner = np.ones(len(steps), np.bool_)
    inner[exact.rings[1:-1] - 1] = False
    position, extra = [np.empty(0, np.int64)], [np.empty((0, 2), np.int64)]
    for along in (0, 1):
        edge = np.flatnonzero(inner & (steps[:, along] != 0))
        at, which = _between(points, edge, junction, along)
        position.append(at)
        extra.append(which)
    where = np.concatenate(position)
    added = np.bincount(where - 1, minlength=len(points)) if len(where) else np.zeros(len(points), np.int64)
    rings = exact.rings + np.concatenate(([0], np.cumsum(added)))[exact.rings]
    return Outlines(np.insert(points, where, np.concatenate(extra), axis=0).astype(np.int32), rings, exact.polygons)


def _between(points: Ints, edge: Ints, junction: Ints, along: int) -> tuple[Ints, Ints]:
    """Junctions strictly inside the given edges of one direction, and where in ``points`` to insert them."""
    extent = int(max(points.max(), junction.max(initial=0))) + 2
    nodes = junction[np.lexsort((junction[:, along], junction[:, 1 - along]))]
    key = nodes[:, 1 - along] * extent + nodes[:, along]
    base = points[edge, 1 - along] * extent
    ends = points[edge, along], points[edge + 1, along]
    low = np.searchsorted(key, base + np.minimum(*ends), side="right")
    high = np.searchsorted(key, base + np.maximum(*ends), side="left")
    count = np.maximum(high - low, 0)
    offset = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    backwards = np.repeat(ends[0] > ends[1], count)
    chosen = np.where(backwards, np.repeat(high - 1, count) - offset, np.repeat(low, count) + offset)
    return np.repeat(edge + 1, count), nodes[chosen]
