"""Rivers that follow the terrain's drainage, one reservoir behind a dam, farm ponds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.lines import Points
from pipelines.demo.noise import Field, Grid
from pipelines.demo.terrain import MARGIN, Terrain, climb

DRY = -60.0
"""Metres of water where no lake can be."""


def trace(terrain: Terrain, size: int, rng: np.random.Generator) -> list[tuple[Points, NDArray[np.float64]]]:
    """All rivers: points every two pixels and half widths, which grow with the root of the drained area."""
    n = terrain.height.shape[0]
    widest = float(np.clip(size / 4096 * 20, 8, 20))
    rate = widest / np.sqrt(terrain.area[~terrain.sea].max())
    channel = (terrain.area > max(250.0, 0.0012 * n * n)) & ~terrain.sea
    placed: dict[int, NDArray[np.float64]] = {}
    rivers = []
    for path in _paths(terrain, channel):
        course = _smooth(_pixels(np.array(path), n, size), placed.get(path[-1]))
        placed.update(zip(path[:-1], course, strict=False))
        width = np.maximum(1.3, rate * np.sqrt(terrain.area.ravel()[path]))
        width[-1] = width[-2]
        fall = terrain.height.ravel()[path]
        dense, wide = _meander(course, width, fall, rng)
        rivers.append((dense, wide / 2))
    return rivers


def _pixels(cells: NDArray[np.integer], n: int, size: int) -> NDArray[np.float64]:
    """Flat cells of an (n, n) grid with the terrain's margin to (row, col) in pixels of the scene."""
    step = size * (1 + 2 * MARGIN) / n
    return np.stack([cells // n, cells % n], axis=1).astype(np.float64) * step + (0.5 * step - MARGIN * size)


def _paths(terrain: Terrain, channel: NDArray[np.bool_]) -> list[list[int]]:
    """From every spring down to the sea or to a longer river, longest first; the last cell is where it joins."""
    tree, flat = terrain.downstream, channel.ravel()
    cells = np.flatnonzero(flat)
    springs = cells[np.bincount(tree[cells], minlength=tree.size)[cells] == 0]
    length = climb(tree, np.ones(tree.size))
    taken: set[int] = set()
    paths = []
    for spring in springs[np.argsort(-length[springs], kind="stable")]:
        path = [int(spring)]
        while path[-1] not in taken and flat[path[-1]]:
            taken.add(path[-1])
            path.append(int(tree[path[-1]]))
        if len(path) > 8:  # noqa: PLR2004  shorter ones are stubs of a few pixels
            paths.append(path)
    return paths


def _smooth(course: NDArray[np.float64], end: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Take the stairs out of a path of grid cells while both of its ends stay where they are."""
    from scipy.ndimage import gaussian_filter1d

    if end is not None:
        course = np.concatenate([course[:-1], end[None]])
    t = np.linspace(0, 1, len(course))[:, None]
    chord = course[0] * (1 - t) + course[-1] * t
    bend = course - chord
    mirrored = np.concatenate([-bend[::-1], bend[1:], -bend[::-1][1:]])
    n = len(course)
    return chord + gaussian_filter1d(mirrored, 2.2, axis=0)[n - 1 : 2 * n - 1]


def _meander(
    course: NDArray[np.float64], width: NDArray[np.float64], height: NDArray[np.floating], rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Resample every pixel and swing from side to side where the valley is flat: wavelength about 11 widths.

    Leopold & Wolman, Bull. Geol. Soc. Am. 71 (1960).
    """
    from scipy.ndimage import gaussian_filter1d

    line, along = resample(course), _lengths(course)
    s = np.linspace(0, along[-1], len(line))
    wide = np.interp(s, along, width)
    fall = np.gradient(np.interp(s, along, height), 20.0)
    flat = np.exp(-np.abs(gaussian_filter1d(fall, 16)) / 0.01)
    normal = np.gradient(line, axis=0)[:, ::-1] * [1, -1]
    normal /= np.hypot(*normal.T)[:, None] + 1e-9
    slow, quick = (gaussian_filter1d(rng.standard_normal(len(s)), k, mode="wrap") * np.sqrt(3.5 * k) for k in (40, 9))
    phase = np.cumsum(2 * np.pi * 2.0 / (12 * np.maximum(wide, 3))) + 1.6 * slow
    swing = (np.sin(phase) * (0.9 + 0.7 * slow) + 0.7 * quick) * np.maximum(wide, 2.5) * (0.15 + 0.85 * flat)
    taper = np.minimum(1, np.minimum(s, along[-1] - s) / 60)
    return line + normal * (swing * taper)[:, None], wide * (1 + 0.12 * np.clip(quick, -2, 2))


def resample(course: Points) -> Points:
    """Points every two pixels along a polyline."""
    along = _lengths(course)
    s = np.linspace(0, along[-1], max(2, int(along[-1] / 2)))
    return np.stack([np.interp(s, along, course[:, k]) for k in (0, 1)], axis=1)


def _lengths(course: Points) -> NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(course, axis=0).T))])


@dataclass(frozen=True, slots=True, eq=False)
class Reservoir:
    """Water behind a dam: every cell upstream of it that lies lower than the water."""

    depth: Field
    """Metres of water at the post date, negative on dry ground; the zero line is the shore."""
    drawdown: float
    """Metres the water has sunk since the pre date: summer irrigation."""


def dam(terrain: Terrain, size: int, rng: np.random.Generator) -> Reservoir:
    """Dam the river where the lake comes closest to one part in 90 of the scene."""
    n = terrain.height.shape[0]
    step = size * (1 + 2 * MARGIN) / n
    target = (size / step) ** 2 / 90
    best, depth = np.inf, np.full((n, n), DRY, np.float32)
    for cell in _sites(terrain, rng):
        for rise in (0.035, 0.055, 0.085):
            lake, water = _flood(terrain, int(cell), float(rise * terrain.height.max()) + 4)
            miss = abs(np.log((lake.sum() + 1) / target))
            if miss < best:
                best, depth = miss, water
    return Reservoir(Field(depth, step, -MARGIN * size), drawdown=0.009 * float(terrain.height.max()))


def _sites(terrain: Terrain, rng: np.random.Generator) -> NDArray[np.integer]:
    """Up to sixteen river cells in the hills, well inside the scene."""
    n, h, a = terrain.height.shape[0], terrain.height, terrain.area
    inner = np.zeros((n, n), bool)
    inner[int(0.24 * n) : int(0.62 * n), int(0.3 * n) : int(0.7 * n)] = True
    big = a > 0.03 * a[~terrain.sea].max()
    hills = (h > 0.06 * h.max()) & (h < 0.6 * h.max())
    cells = np.flatnonzero(inner & big & hills)
    if not len(cells):
        cells = np.flatnonzero(inner & hills & (a > np.quantile(a[inner], 0.98)))
    return rng.permutation(cells)[:16]


def _flood(terrain: Terrain, cell: int, rise: float) -> tuple[NDArray[np.bool_], Grid]:
    """The lake (n, n) of a dam at that cell, and metres of water with -60 or less where there is none."""
    n, reach = terrain.height.shape[0], 140
    r, c = divmod(cell, n)
    rows = np.arange(max(0, r - reach), min(n, r + reach))
    cols = np.arange(max(0, c - reach), min(n, c + reach))
    box = np.ix_(rows, cols)
    upstream = _upstream(terrain.downstream.reshape(n, n)[box], rows, cols, n, cell)
    water = terrain.height.ravel()[cell] + rise - terrain.height[box]
    depth = np.full((n, n), DRY, np.float32)
    depth[box] = np.where(upstream, np.clip(water, -40, 40), DRY)
    return depth > 0, depth


def _upstream(
    tree: NDArray[np.integer], rows: NDArray[np.integer], cols: NDArray[np.integer], n: int, cell: int
) -> NDArray[np.bool_]:
    """Which cells of a window drain through the given cell (flat index of the whole grid)."""
    shape = tree.shape
    r, c = tree // n - rows[0], tree % n - cols[0]
    inside = (r >= 0) & (r < shape[0]) & (c >= 0) & (c < shape[1])
    here = np.arange(tree.size).reshape(shape)
    jump = np.where(inside, r * shape[1] + c, here).ravel()
    target = (cell // n - rows[0]) * shape[1] + (cell % n - cols[0])
    jump[target] = target
    while True:
        further = jump[jump]
        if np.array_equal(further, jump):
            return (jump == target).reshape(shape)
        jump = further
