"""Curves with a width - rivers, roads, and points as ponds - turned into distances, pixel by pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.noise import Grid

Points = NDArray[np.float64]
"""(k, 2) (row, col) in pixels of the scene; 0.5 is the middle of the first pixel."""


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """Curves of varying width as short straight pieces, ordered by row."""

    points: NDArray[np.float32]
    """(k, 2) middles of the pieces."""
    along: NDArray[np.float32]
    """(k, 2) unit directions; zero for a pond."""
    radius: Grid
    """(k,) half widths in pixels."""
    half: float
    """Half length of a piece, pixels."""
    reach: int
    """How far from the banks distances are wanted, pixels; beyond, they are ``reach``."""

    @classmethod
    def of(cls, curves: list[tuple[Points, NDArray[np.float64]]], reach: int, spacing: float = 2.0) -> Lines:
        """Lines from curves (points, half widths) sampled every ``spacing`` pixels."""
        points = np.concatenate([np.empty((0, 2)), *(p for p, _ in curves)])
        along = np.concatenate([np.empty((0, 2)), *(_direction(p) for p, _ in curves)])
        radius = np.concatenate([np.empty(0), *(r for _, r in curves)])
        order = np.argsort(points[:, 0], kind="stable")
        points, along, radius = (x[order].astype(np.float32) for x in (points, along, radius))
        return cls(points, along, radius, spacing / 2, reach)

    def at(self, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> tuple[Grid, Grid]:
        """Distance to the nearest bank in pixels (negative inside) and the half width there, at adjoining pixels."""
        bank = np.full((len(rows), len(cols)), self.reach, np.float32)
        width = np.zeros_like(bank)
        if len(self.radius):
            window = np.ceil(self.radius + self.reach + self.half).astype(int)
            first, last = np.searchsorted(self.points[:, 0], [rows[0] - window.max() - 1, rows[-1] + window.max() + 2])
            aside = self.points[first:last, 1]
            near = (aside > cols[0] - window.max() - 1) & (aside < cols[-1] + window.max() + 2)
            near = first + np.flatnonzero(near)
            sizes = (window[near] + 3) // 4 * 4
            for size in np.unique(sizes):
                self._stamp(near[sizes == size], int(size), (bank, width), (int(rows[0]), int(cols[0])))
        return bank, width

    def _stamp(self, chosen: NDArray[np.integer], size: int, into: tuple[Grid, Grid], corner: tuple[int, int]) -> None:
        """Lower ``into`` (bank, width) around the chosen pieces, a square window of that size each."""
        bank, width = into
        reach = np.arange(-size, size + 1)
        for part in np.array_split(chosen, max(1, len(chosen) * len(reach) ** 2 // 2_000_000)):
            at = np.floor(self.points[part]).astype(int)
            r, c = at[:, :1] + reach - corner[0], at[:, 1:] + reach - corner[1]
            dy = (at[:, :1] + reach + 0.5 - self.points[part, :1]).astype(np.float32)[:, :, None]
            dx = (at[:, 1:] + reach + 0.5 - self.points[part, 1:]).astype(np.float32)[:, None, :]
            ty, tx = self.along[part, 0, None, None], self.along[part, 1, None, None]
            beyond = np.maximum(np.abs(dy * ty + dx * tx) - self.half, 0)
            aside = dy * tx - dx * ty
            still = (ty == 0) & (tx == 0)
            distance = np.where(still, np.hypot(dy, dx), np.hypot(beyond, aside)) - self.radius[part, None, None]
            inside = (r >= 0)[:, :, None] & (r < bank.shape[0])[:, :, None]
            inside = inside & (c >= 0)[:, None, :] & (c < bank.shape[1])[:, None, :] & (distance < self.reach)
            flat = (r[:, :, None] * bank.shape[1] + c[:, None, :])[inside]
            np.minimum.at(bank.reshape(-1), flat, distance[inside])
            half = np.broadcast_to(self.radius[part, None, None], distance.shape)[inside]
            np.maximum.at(width.reshape(-1), flat, half)


def _direction(points: Points) -> Points:
    if len(points) < 2:  # noqa: PLR2004  a single point has no direction
        return np.zeros_like(points)
    step = np.asarray(np.gradient(points, axis=0))
    return step / (np.hypot(*step.T)[:, None] + 1e-9)
