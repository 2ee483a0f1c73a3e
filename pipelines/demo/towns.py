"""A town by the sea, villages in the plain and on the slopes, and the roads between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.lines import Lines, Points
from pipelines.demo.noise import Field, Grid, spectral
from pipelines.demo.terrain import Terrain
from pipelines.demo.water import resample

VILLAGES = 11


def build(terrain: Terrain, steep: Grid, step: float, origin: float, rng: np.random.Generator) -> tuple[Field, Lines]:
    """Density of buildings (> 0 is built up) on the terrain's grid, and the roads, in pixels."""
    n = steep.shape[0]
    size = n * step + 2 * origin
    seats = _seats(terrain, steep, rng)
    radius = np.concatenate([[0.017 * size + 16], rng.uniform(0.0022, 0.0065, len(seats) - 1) * size + 7]) / step
    density = np.full((n, n), -9.0, np.float32)
    axis = np.arange(n, dtype=np.float32)
    for (r, c), reach in zip(seats, radius, strict=True):
        away = np.hypot(axis[:, None] - r, axis[None, :] - c) / reach
        density = np.maximum(density, (1 - away).astype(np.float32))
    density += 0.42 * spectral(n, 1.0, rng)
    density[terrain.shore < 60] = -9  # noqa: PLR2004  metres: nobody builds on the beach
    curves = _roads(terrain, steep, seats, step, origin)
    return Field(density, step, origin), Lines.of(curves, reach=3)


def _seats(terrain: Terrain, steep: Grid, rng: np.random.Generator) -> NDArray[np.integer]:
    """(k, 2) cells of the towns: the first by the sea, the others apart from each other on gentle ground."""
    n = steep.shape[0]
    inner = np.zeros((n, n), bool)
    inner[int(0.16 * n) : int(0.84 * n), int(0.14 * n) : int(0.84 * n)] = True
    dry = (terrain.shore > 150) & (terrain.area < 0.002 * n * n)  # noqa: PLR2004  metres
    coast = terrain.shore / max(1.0, float(terrain.shore.max()))
    first = rng.permutation(np.argwhere(inner & dry & (coast > 0.02) & (coast < 0.07) & (steep < 0.04)))[:1]  # noqa: PLR2004
    gentle = rng.permutation(np.argwhere(inner & dry & (steep < 0.09)))  # noqa: PLR2004  nine percent
    seats = [tuple(p) for p in (first if len(first) else gentle[:1])]
    for place in gentle:
        if len(seats) > VILLAGES:
            break
        if min(np.hypot(place[0] - r, place[1] - c) for r, c in seats) > 0.085 * n:
            seats.append(tuple(place))
    return np.array(seats)


def _roads(
    terrain: Terrain, steep: Grid, seats: NDArray[np.integer], step: float, origin: float
) -> list[tuple[Points, NDArray[np.float64]]]:
    """Cheapest ways from the first town to all others, on half the grid; slopes cost, the sea forbids."""
    from scipy.ndimage import gaussian_filter1d
    from skimage.graph import MCP_Geometric

    cost = 1 + (steep[::2, ::2] * 22) ** 2 + 4.0 * (terrain.area[::2, ::2] > 0.001 * steep.size)
    cost[terrain.sea[::2, ::2]] = 1e4
    graph = MCP_Geometric(cost)
    graph.find_costs([tuple(seats[0] // 2)])
    curves, used = [], np.zeros(cost.shape, bool)
    for seat in seats[1:]:
        way = np.array(graph.traceback(tuple(seat // 2)))[::-1]
        shared = used[way[:, 0], way[:, 1]]
        used[way[:, 0], way[:, 1]] = True
        way = way[: max(2, int(np.argmax(shared)) + 1)] if shared.any() else way
        course = (way * 2 + 0.5) * step + origin
        smooth = gaussian_filter1d(course, 1.5, axis=0, mode="nearest")
        smooth[0], smooth[-1] = course[0], course[-1]
        line = resample(smooth)
        curves.append((line, np.full(len(line), 0.9)))
    return curves
