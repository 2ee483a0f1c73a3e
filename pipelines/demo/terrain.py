"""Terrain that water has carved: steady-state river profiles on a drainage tree that the terrain itself makes.

At steady state uplift U equals erosion K A^m S^n (stream power), so with n = 1 the slope of every cell towards its
receiver is S = k U A^-theta and its height is a sum along the path to the sea. Alternating heights and steepest
descent converges within a few rounds (Braun & Willett, Geomorphology 180, 2013; Steer, Earth Surf. Dynam. 9, 2021).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.noise import Grid, smoothstep, spectral

CONCAVITY = 0.42
"""theta; 0.4 to 0.6 in nature."""
STEEPEST = 0.72
"""Slope no hillside exceeds: the angle of repose, 36 degrees."""
HILLSIDE = 2.0e4
"""Square metres below which water runs over hillsides, not in channels, and slopes steepen no further."""
KNICK = 26.0
"""Steepness index of ground that rises at full rate, m**(2 theta)."""
MARGIN = 0.125
"""The terrain reaches this share of the scene beyond each side, so that the scene's edge is no divide."""
NEIGHBOURS = ((-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1))
Tree = NDArray[np.int32]
"""For every cell (flat) the cell it drains to; roots drain to themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class Terrain:
    """Terrain on a coarse grid that reaches beyond the scene on every side."""

    height: Grid
    """(n, n) metres above the sea; 0 in the sea."""
    sea: NDArray[np.bool_]
    """(n, n) True in the sea."""
    shore: Grid
    """(n, n) metres inland from the coast, negative in the sea; smooth."""
    downstream: Tree
    """(n * n) receivers."""
    area: Grid
    """(n, n) drained area, in cells."""
    cell: float
    """Metres per cell."""


def carve(n: int, cell: float, rng: np.random.Generator) -> Terrain:
    """Make an (n, n) terrain with cells of that many metres: sea in the south-west, mountains in the north-east."""
    coarse = max(48, n // 4)
    start = _layout(coarse, rng)
    sketch = _settle(start, _seeking(start, spectral(coarse, 1.3, rng), rng), cell * n / coarse, rng, rounds=12)[0]
    fine = _resize(start[0], n), _resize(start[1], n)
    height, downstream, area = _settle(fine, _seeking(fine, _resize(sketch, n), rng), cell, rng, rounds=3)
    shore = fine[0] * np.float32(n * cell)
    return Terrain(height, fine[0] < 0, shore, downstream, area.reshape(n, n), cell)


def _layout(n: int, rng: np.random.Generator) -> tuple[Grid, Grid]:
    """How far inland (share of the diagonal, negative in the sea) and how fast the ground rises (0..1.3)."""
    axis = (np.arange(n, dtype=np.float32) + 0.5) / n
    diagonal = (axis[None, :] + 1 - axis[:, None]) / 2
    inland = diagonal - 0.278 + 0.022 * spectral(n, 1.7, rng)
    mountains = smoothstep(0.14, 0.36, inland + 0.05 * spectral(n, 1.8, rng))
    uplift = (0.012 + mountains) * np.clip(0.85 + 0.25 * spectral(n, 1.6, rng), 0.3, 1.3)
    return inland, uplift


def _resize(field: Grid, n: int) -> Grid:
    from pipelines.demo.noise import Field

    step = n / field.shape[0]
    at = np.arange(n) + 0.5
    return Field(field, step).at(at, at)


def _seeking(layout: tuple[Grid, Grid], height: Grid, rng: np.random.Generator) -> Tree:
    """First drainage tree: the cheapest way to the sea, where low ground is cheap."""
    from skimage.graph import MCP_Geometric

    inland, _ = layout
    sea = inland < 0
    low, high = np.percentile(height, [0.5, 99.5])
    wander = np.exp(1.1 * spectral(sea.shape[0], 1.1, rng))
    cost = np.where(sea, 1.0, wander * (0.03 + np.clip((height - low) / (high - low), 0, 1)))
    shore = np.argwhere(_touching(sea))
    graph = MCP_Geometric(cost)
    _, came = graph.find_costs([tuple(p) for p in shore])
    offsets = np.asarray(graph.offsets)
    n = sea.shape[0]
    here = np.arange(n * n, dtype=np.int32)
    came = np.asarray(came).ravel()
    step = (offsets @ np.array([n, 1])).astype(np.int32)[np.maximum(came, 0)]
    return np.where((came < 0) | sea.ravel(), here, here - step)


def _touching(sea: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Sea cells with land beside them."""
    land = ~sea
    near = np.zeros_like(sea)
    near[1:] |= land[:-1]
    near[:-1] |= land[1:]
    near[:, 1:] |= land[:, :-1]
    near[:, :-1] |= land[:, 1:]
    return near & sea


def _settle(
    layout: tuple[Grid, Grid], tree: Tree, cell: float, rng: np.random.Generator, rounds: int
) -> tuple[Grid, Tree, NDArray[np.float64]]:
    """Alternate heights and steepest descent; heights (n, n), receivers and drained area (cells, flat)."""
    inland, uplift = layout
    sea, n = (inland < 0).ravel(), inland.shape[0]
    hardness = uplift.ravel() * np.exp(0.35 * rng.standard_normal(n * n, dtype=np.float32))
    height, area = np.zeros((n, n), np.float32), np.ones(n * n)
    for turn in range(rounds + 1):
        if turn:
            tree = descend(height, sea)
        area = gather(tree, np.ones(n * n))
        reach = cell * np.where(_diagonal(tree, n), np.sqrt(2), 1)
        slope = np.minimum(STEEPEST, KNICK * hardness * (area * cell**2 + HILLSIDE) ** -CONCAVITY)
        height = climb(tree, np.where(sea, 0, slope * reach)).reshape(n, n).astype(np.float32)
    return height, tree, area


def _diagonal(tree: Tree, n: int) -> NDArray[np.bool_]:
    here = np.arange(tree.size, dtype=np.int32)
    return (tree // n != here // n) & (tree % n != here % n)


def descend(height: Grid, roots: NDArray[np.bool_]) -> Tree:
    """Receivers (flat) by steepest descent over eight neighbours; roots (flat) drain to themselves."""
    n = height.shape[0]
    padded = np.pad(height, 1, constant_values=np.inf)
    best, way = np.zeros((n, n), np.float32), np.zeros((n, n), np.int32)
    for dy, dx in NEIGHBOURS:
        drop = height - padded[1 + dy : n + 1 + dy, 1 + dx : n + 1 + dx]
        drop *= np.float32(1 / np.hypot(dy, dx))
        better = drop > best
        np.copyto(best, drop, where=better)
        np.copyto(way, np.int32(dy * n + dx), where=better)
    return np.arange(n * n, dtype=np.int32) + np.where(roots, np.int32(0), way.ravel())


def climb(tree: Tree, gain: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sum of gains along the path from each cell to its root (the root's own counts not), by pointer doubling."""
    root = tree == np.arange(tree.size)
    total, jump = np.where(root, 0.0, gain), tree
    while True:
        further = jump[jump]
        if np.array_equal(further, jump):
            return total
        total = total + total[jump]
        jump = further


def gather(tree: Tree, weight: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sum of weights of all cells that drain through each cell, its own included."""
    root = tree == np.arange(tree.size)
    depth = climb(tree, np.ones(tree.size)).astype(np.int32)
    order = np.argsort(depth, kind="stable")
    ends = np.cumsum(np.bincount(depth))
    total = np.asarray(weight, dtype=np.float64).copy()
    for level in range(len(ends) - 1, 0, -1):
        cells = order[ends[level - 1] : ends[level]]
        np.add.at(total, tree[cells], total[cells])
    assert root.any(), "a drainage tree has a root"
    return total
