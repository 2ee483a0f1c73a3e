"""The sky on one day: the sun, clouds, and the shadows they throw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.noise import Field, Grid, Texture, slopes, smoothstep, spectral
from pipelines.demo.spectra import DIFFUSE, REFLECTANCE

CLOUD_BASE = 140.0
"""Height of the clouds over the ground, in pixels of ten metres."""


@dataclass(frozen=True, slots=True)
class Sun:
    """Where the sun stands."""

    azimuth: float
    """Degrees clockwise from north."""
    zenith: float
    """Degrees from the vertical."""

    @property
    def towards(self) -> tuple[float, float, float]:
        """Unit vector (down the rows, along the columns, up)."""
        a, z = np.radians([self.azimuth, self.zenith])
        return float(-np.cos(a) * np.sin(z)), float(np.sin(a) * np.sin(z)), float(np.cos(z))

    @property
    def shadow(self) -> tuple[int, int]:
        """Pixels from a cloud to its shadow: (rows, cols)."""
        y, x, up = self.towards
        return round(-y / up * CLOUD_BASE), round(-x / up * CLOUD_BASE)


@dataclass(frozen=True, slots=True, eq=False)
class Sky:
    """One day's sky over a scene."""

    sun: Sun
    """Where the sun stands."""
    billows: Field
    """Noise of the clouds' large shapes."""
    wisps: Texture
    """Noise of their small shapes."""
    level: float
    """Where the noise exceeds it there is cloud."""

    def thickness(self, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> Grid:
        """How far the noise exceeds the level: cloud where positive."""
        return self.billows.at(rows + 0.5, cols + 0.5) + 0.16 * self.wisps.at(rows, cols) - np.float32(self.level)


def overcast(size: int, sun: Sun, cover: float, rng: np.random.Generator) -> Sky:
    """A sky over a scene of that size with that share of clouds."""
    n, beyond = 640, 512
    step = max(8.0, (size + 2 * beyond) / n)
    patches, shapes = spectral(n, 2.2, rng), spectral(n, 1.25, rng)
    billows = Field(0.6 * patches + shapes, step, -beyond)
    sky = Sky(sun, billows, Texture(spectral(1024, 1.5, rng)), 0.0)
    probe = np.arange(0, size, max(1, size // 512))
    return Sky(sun, billows, sky.wisps, float(np.quantile(sky.thickness(probe, probe), 1 - cover)))


@dataclass(frozen=True, slots=True, eq=False)
class Weather:
    """Clouds over a block of pixels, all (rows, cols)."""

    opacity: Grid
    """0 clear .. 1 nothing of the ground is seen."""
    bright: Grid
    """Brightness of the cloud itself, about 1 on the sunny side."""
    shade: Grid
    """0 sunlit .. 1 no direct sun reaches the ground."""

    @property
    def clear(self) -> NDArray[np.bool_]:
        """Where neither cloud nor shadow is worth mentioning."""
        return (self.opacity < 0.05) & (self.shade < 0.2)  # noqa: PLR2004  optical depths 0.05 and 0.22


def weather(sky: Sky, rows: NDArray[np.integer], cols: NDArray[np.integer]) -> Weather:
    """Clouds and shadows at adjoining pixels."""
    down, right = sky.sun.shadow
    here = sky.thickness(rows, cols)
    there = sky.thickness(rows - down, cols - right)
    slope_y, slope_x = slopes(here)
    y, x, _ = sky.sun.towards
    lit = np.clip(1 - 1.3 * (slope_y * y + slope_x * x), 0.72, 1.22)
    return Weather(_opaque(here), (0.55 + 0.45 * smoothstep(0.0, 1.1, here)) * lit, _opaque(there))


def _opaque(thickness: Grid) -> Grid:
    """Clouds end softly: 1 - exp(-optical depth), with a thin veil just outside the edge."""
    return 1 - np.exp(-4.5 * np.maximum(thickness + 0.06, 0) ** 1.6)


def sunlight(sun: Sun, slope: tuple[Grid, Grid], shade: Grid) -> tuple[Grid, Grid]:
    """Direct light (1 on flat clear ground) and the share of the sky that is seen; slope is metres per metre."""
    y, x, up = sun.towards
    norm = 1 / np.sqrt(1 + slope[0] ** 2 + slope[1] ** 2)
    incidence = np.maximum((up - slope[0] * y - slope[1] * x) * norm, 0)
    return incidence / np.float32(up) * (1 - np.float32(0.88) * shade), (1 + norm) / 2


def lit(ground: Grid, band: int, light: tuple[Grid, Grid], clouds: Weather) -> Grid:
    """Reflectance as seen from above: ground under direct and diffuse light, then what the clouds hide."""
    direct, sky = light
    seen = ground * (direct * (1 - DIFFUSE[band]) + sky * DIFFUSE[band])
    white = np.float32(REFLECTANCE["cloud"][band])
    return seen + clouds.opacity * (clouds.bright * white - seen)
