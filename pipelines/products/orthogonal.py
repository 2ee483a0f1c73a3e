"""Outlines with right angles, as buildings have them: every edge along one direction or across it.

As in Wei, Ji & Lu 2020 (Toward automatic building footprint delineation from aerial images using CNN and
regularization, IEEE TGRS 58(3)): simplify, find the dominant direction, turn edges to it or its perpendicular, merge
those that are parallel. The direction is the mean of the edges' directions modulo 90 degrees, weighted by length (a
mean of angles: Mardia & Jupp 2000, Directional Statistics), or that of the smallest rectangle around the outline,
whichever gives the better fit. An edge lies at the mean of the outline that it stands for, so that area is kept nearly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SIMPLIFY = 1.0
"""Pixels that the staircase of a traced outline strays from its edge."""
MOST_EDGES = 400
"""Outlines with more are no buildings; they are left as they are."""
_RELAXED = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a regular outline may be from the traced one; beyond, the traced one is kept."""

    iou: float = 0.7
    """Least area of both over area of either."""
    area: float = 0.15
    """Largest share by which the area may change."""
    shortest_px: float = 2.0
    """Pixels: shorter edges are steps of the grid."""


DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Regular:
    """A polygon, with right angles or as it was."""

    polygon: shapely.Polygon
    """In the coordinates of the original."""
    regular: bool
    """Whether it has right angles; else it is the original."""
    iou: float
    """Area of both over area of either."""


def orthogonal(polygon: shapely.Polygon, pixel: float, squeeze: float = 1.0, limits: Limits = DEFAULT) -> Regular:
    """The best outline with right angles, valid, within ``limits``; else the polygon itself.

    ``pixel``: its height in the polygon's coordinates. ``squeeze``: width over height of the ground under a square of
    these coordinates, the cosine of the latitude where they are degrees: angles are right on the ground.
    """
    centre = np.array(polygon.centroid.coords[0])
    local = shapely.transform(polygon, lambda xy: (xy - centre) * (squeeze, 1.0))
    best: tuple[float, shapely.Polygon] | None = None
    for angle in _directions(local, SIMPLIFY * pixel):
        found = _turned_to(local, angle, pixel, limits.shortest_px)
        if found is not None:
            fit = _iou(local, found)
            best = max(best, (fit, found), key=lambda it: it[0]) if best else (fit, found)
    if best is None or best[0] < limits.iou or abs(best[1].area / local.area - 1) > limits.area:
        return Regular(polygon, regular=False, iou=1.0)
    back = shapely.transform(best[1], lambda xy: xy / (squeeze, 1.0) + centre)
    return Regular(back, regular=True, iou=best[0]) if back.is_valid else Regular(polygon, regular=False, iou=1.0)


def _iou(one: shapely.Polygon, other: shapely.Polygon) -> float:
    shared = one.intersection(other).area
    return shared / (one.area + other.area - shared)


def _directions(polygon: shapely.Polygon, tolerance: float) -> list[float]:
    """Radians; candidates."""
    steps = np.diff(shapely.get_coordinates(shapely.simplify(polygon.exterior, tolerance)), axis=0)
    length, angle = np.hypot(*steps.T), np.arctan2(steps[:, 1], steps[:, 0])
    mean = float(np.angle(np.sum(length * np.exp(4j * angle)))) / 4
    frame = shapely.get_coordinates(shapely.oriented_envelope(polygon))
    side = frame[1] - frame[0] if len(frame) > 2 else np.array([1.0, 0.0])  # noqa: PLR2004  a line has two
    return [mean, float(np.arctan2(side[1], side[0]))]


def _turned_to(polygon: shapely.Polygon, angle: float, pixel: float, shortest_px: float) -> shapely.Polygon | None:
    """The outline with edges along ``angle`` and across it; longer steps are merged where it would cross itself."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for more in range(_RELAXED):
        shortest = shortest_px * pixel * 1.5**more
        rings = [_squared(shapely.get_coordinates(ring) @ turn, SIMPLIFY * pixel, shortest)
                 for ring in (polygon.exterior, *polygon.interiors)]  # fmt: skip
        if any(ring is None for ring in rings):
            return None
        shell, *holes = (ring @ turn.T for ring in rings if ring is not None)
        found = shapely.Polygon(shell, holes)
        if found.is_valid and found.area > 0:
            return found
    return None


@dataclass(slots=True)
class _Edge:
    """A stretch of the outline that becomes one edge."""

    level: bool
    """Along x; else along y."""
    total: float
    """Of places times weights."""
    weight: float
    """Length along the edge's direction."""

    @property
    def place(self) -> float:
        return self.total / self.weight

    def __add__(self, other: _Edge) -> _Edge:
        return _Edge(self.level, self.total + other.total, self.weight + other.weight)


def _squared(ring: Floats, tolerance: float, shortest: float) -> Floats | None:
    """(n, 2) corners of a closed ring whose edges lie along x and y in turn; None where it has too many."""
    edges = _edges(ring, tolerance)
    if edges is None or len(edges) > MOST_EDGES:
        return None
    while len(edges) > 4:  # noqa: PLR2004  a rectangle
        places = np.array([edge.place for edge in edges])
        length = np.abs(np.roll(places, -1) - np.roll(places, 1))
        least = int(length.argmin())
        if length[least] >= shortest:
            break
        edges = _without(edges, least)
    if len(edges) < 4:  # noqa: PLR2004
        return _frame(ring)
    corners = [(b.place, a.place) if a.level else (a.place, b.place) for a, b in zip(edges, _next(edges), strict=True)]
    return np.array([*corners, corners[0]])


def _next(edges: list[_Edge]) -> list[_Edge]:
    return [*edges[1:], edges[0]]


def _without(edges: list[_Edge], gone: int) -> list[_Edge]:
    """Its two neighbours, which are parallel, become one edge."""
    order = [*edges[gone:], *edges[:gone]]
    return [*order[2:-1], order[-1] + order[1]]


def _edges(ring: Floats, tolerance: float) -> list[_Edge] | None:
    """Stretches in turn along x and y, an even number; None where the outline has too many corners."""
    kept = shapely.get_coordinates(shapely.simplify(shapely.LinearRing(ring), tolerance))[:-1]
    if len(kept) > 4 * MOST_EDGES:
        return None
    at = {(x, y): n for n, (x, y) in reversed(list(enumerate(ring[:-1].tolist())))}
    stops = [at[x, y] for x, y in kept.tolist()]
    found: list[_Edge] = []
    for start, stop in zip(stops, [*stops[1:], stops[0]], strict=True):
        edge = _stretch(ring, start, stop)
        if found and found[-1].level == edge.level:
            found[-1] += edge
        else:
            found.append(edge)
    if len(found) > 1 and found[0].level == found[-1].level:
        found[0] += found.pop()
    return found


def _stretch(ring: Floats, start: int, stop: int) -> _Edge:
    points = ring[start : stop + 1] if stop > start else np.concatenate([ring[start:-1], ring[: stop + 1]])
    across, along = np.abs(points[-1] - points[0])
    level = bool(across >= along)
    axis = 0 if level else 1
    steps = np.abs(np.diff(points[:, axis]))
    middle = (points[1:, 1 - axis] + points[:-1, 1 - axis]) / 2
    return _Edge(level, float(steps @ middle), float(steps.sum()))


def _frame(ring: Floats) -> Floats:
    (west, south), (east, north) = ring.min(axis=0), ring.max(axis=0)
    return np.array([(west, south), (east, south), (east, north), (west, north), (west, south)])
