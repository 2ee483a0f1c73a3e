"""Square metres on the ground: what a pixel of the output grid covers.

On a geographic grid (degrees) a pixel is a patch of the ellipsoid between two parallels and two meridians, whose area
is known in closed form. On a projected grid a pixel is a rectangle of the projection's plane; where the projection
stretches areas by more than 1 % anywhere on the grid (Web Mercator does), that is undone at each feature's centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import CRS, Proj, Transformer

from pipelines.products.regions import Frame

_STEPS = 1 << 20
"""Whole numbers per pixel of the row with the largest pixels: sums of them are exact in any order."""
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """How sums of row weights become square metres."""

    frame: Frame
    """The grid, with the weights."""
    unit_m2: float
    """Square metres per unit of weight."""
    method: str
    """In words, for reports and metadata."""
    stretched: CRS | None = None
    """The projection, where its stretch of areas has to be undone."""

    def square_metres(self, weight: NDArray[np.int64], x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray:
        """(n,) areas of features with these sums of weights and these centres in the grid's CRS."""
        planar = weight * self.unit_m2
        return planar if self.stretched is None else planar / _stretch(self.stretched, x, y)


def ground_of(grid: GeoBox) -> Ground:
    """Measure a north-up grid."""
    crs = _pyproj(grid)
    if crs.is_geographic:
        return _geographic(grid, crs)
    metres = crs.axis_info[0].unit_conversion_factor
    pixel = abs(grid.transform.a * grid.transform.e) * metres**2
    frame = Frame((grid.shape[0], grid.shape[1]))
    x, y = _samples(grid)
    if np.abs(_stretch(crs, x, y) - 1).max() <= _TOLERANCE:
        return Ground(frame, pixel, "pixels x pixel area in the projection's plane")
    method = "pixels x pixel area, divided by the projection's areal scale at the feature's centre"
    return Ground(frame, pixel, method, crs)


def pixel_metres(grid: GeoBox) -> tuple[float, float]:
    """Ground width and height, in metres, of the pixel in the middle of a grid; 1 without a CRS."""
    if grid.crs is None:
        return 1.0, 1.0
    ground = ground_of(grid)
    row = grid.shape[0] // 2
    weight = np.array([1 if ground.frame.weights is None else ground.frame.weights[row]])
    x = np.array([grid.transform.c + grid.transform.a * grid.shape[1] / 2])
    y = np.array([grid.transform.f + grid.transform.e * row])
    area = float(ground.square_metres(weight, x, y)[0])
    if not grid.crs.geographic:
        ratio = abs(grid.transform.a / grid.transform.e)
        return math.sqrt(area * ratio), math.sqrt(area / ratio)
    # A degree of latitude is as long everywhere to 1 %, which is enough for a scale bar.
    down = abs(grid.transform.e) * 111_200.0
    return area / down, down


def _geographic(grid: GeoBox, crs: CRS) -> Ground:
    radians = crs.axis_info[0].unit_conversion_factor
    affine = grid.transform
    parallels = np.clip((affine.f + affine.e * np.arange(grid.shape[0] + 1)) * radians, -np.pi / 2, np.pi / 2)
    area = np.abs(np.diff(_zone(parallels, crs))) * abs(affine.a) * radians
    unit = float(area.max()) / _STEPS
    weights = np.rint(area / unit).astype(np.int64)
    return Ground(Frame((grid.shape[0], grid.shape[1]), weights), unit, "geodesic, on the CRS's ellipsoid")


def _zone(latitude: NDArray[np.float64], crs: CRS) -> NDArray[np.float64]:
    """Square metres per radian of longitude between the equator and these latitudes (Snyder 1987, eq. 3-12)."""
    ellipsoid = crs.ellipsoid
    a, b = (ellipsoid.semi_major_metre, ellipsoid.semi_minor_metre) if ellipsoid else (6378137.0, 6356752.314245)
    sine, e = np.sin(latitude), np.sqrt(1 - (b / a) ** 2)
    if e == 0:
        return a**2 * sine
    return b**2 / 2 * (sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e)


def _stretch(crs: CRS, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Areal scale of the projection at points given in it; 1 where it is not known."""
    geodetic = crs.geodetic_crs
    if geodetic is None:
        return np.ones(len(x))
    lon, lat = Transformer.from_crs(crs, geodetic, always_xy=True).transform(x, y)
    factors = np.atleast_1d(Proj(crs).get_factors(np.atleast_1d(lon), np.atleast_1d(lat)).areal_scale)
    return np.where(np.isfinite(factors) & (factors > 0), factors, 1.0)


def _samples(grid: GeoBox) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre, corners and middles of edges of the grid."""
    cols, rows = np.meshgrid(np.linspace(0, grid.shape[1], 3), np.linspace(0, grid.shape[0], 3))
    affine = grid.transform
    return (affine.c + affine.a * cols).ravel(), (affine.f + affine.e * rows).ravel()


def _pyproj(grid: GeoBox) -> CRS:
    if grid.crs is None:
        msg = "a grid without a CRS has no ground"
        raise ValueError(msg)
    return grid.crs.proj
