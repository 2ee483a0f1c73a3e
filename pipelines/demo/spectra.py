"""Reflectance of what covers the ground, in six bands of Sentinel-2: B02 B03 B04 B8A B11 B12.

Rounded mid-range values of what the public libraries (ECOSTRESS: Meerdink et al., Remote Sens. Environ. 230, 2019; USGS
splib07: Kokaly et al., Data Series 1035, 2017) and Sentinel-2 L2A scenes of the Mediterranean show for such covers;
no library spectrum is copied. Burned ground after Key & Benson (FIREMON, RMRS-GTR-164-CD, 2006) and Pereira et al.
(1999): char is dark and rises towards 2.2 um, where vegetation falls. Water is black beyond
1 um (Curcio & Petty, J. Opt. Soc. Am. 41, 1951).
"""

from __future__ import annotations

import numpy as np

from pipelines.demo.noise import Grid

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
"""Common names, in the order of the files."""

REFLECTANCE: dict[str, tuple[float, float, float, float, float, float]] = {
    "conifer": (0.018, 0.032, 0.020, 0.205, 0.082, 0.036),
    "broadleaf": (0.021, 0.047, 0.024, 0.335, 0.155, 0.066),
    "broadleaf_late": (0.023, 0.047, 0.028, 0.305, 0.155, 0.068),
    "maquis": (0.031, 0.050, 0.041, 0.225, 0.170, 0.092),
    "maquis_late": (0.034, 0.052, 0.046, 0.210, 0.178, 0.100),
    "dry_grass": (0.058, 0.088, 0.108, 0.245, 0.295, 0.200),
    "dry_grass_late": (0.064, 0.095, 0.122, 0.240, 0.315, 0.225),
    "rock": (0.140, 0.168, 0.190, 0.250, 0.285, 0.250),
    "ripe_wheat": (0.078, 0.115, 0.156, 0.272, 0.335, 0.232),
    "stubble": (0.088, 0.126, 0.168, 0.275, 0.365, 0.275),
    "ploughed": (0.066, 0.089, 0.118, 0.188, 0.265, 0.225),
    "maize": (0.025, 0.060, 0.030, 0.430, 0.195, 0.085),
    "maize_late": (0.036, 0.070, 0.050, 0.350, 0.210, 0.105),
    "forage": (0.030, 0.068, 0.035, 0.420, 0.220, 0.105),
    "mown": (0.055, 0.090, 0.092, 0.290, 0.290, 0.185),
    "sunflower": (0.034, 0.072, 0.046, 0.390, 0.210, 0.100),
    "sunflower_dry": (0.062, 0.084, 0.105, 0.215, 0.290, 0.215),
    "fallow": (0.068, 0.099, 0.124, 0.235, 0.305, 0.220),
    "olive": (0.060, 0.085, 0.098, 0.245, 0.240, 0.160),
    "vineyard": (0.052, 0.080, 0.082, 0.265, 0.235, 0.145),
    "orchard": (0.032, 0.058, 0.045, 0.300, 0.190, 0.100),
    "roof_tile": (0.082, 0.105, 0.150, 0.215, 0.250, 0.225),
    "roof_light": (0.230, 0.250, 0.265, 0.300, 0.310, 0.280),
    "asphalt": (0.083, 0.094, 0.104, 0.135, 0.155, 0.145),
    "garden": (0.036, 0.062, 0.050, 0.270, 0.190, 0.110),
    "track": (0.105, 0.138, 0.172, 0.240, 0.310, 0.275),
    "sand": (0.170, 0.215, 0.262, 0.330, 0.390, 0.345),
    "gravel": (0.158, 0.188, 0.212, 0.265, 0.300, 0.262),
    "mud": (0.110, 0.142, 0.172, 0.215, 0.240, 0.195),
    "char": (0.030, 0.036, 0.044, 0.072, 0.128, 0.132),
    "burned_soil": (0.052, 0.066, 0.084, 0.128, 0.220, 0.212),
    "deep_water": (0.030, 0.027, 0.014, 0.010, 0.0075, 0.0065),
    "turbid_water": (0.062, 0.088, 0.060, 0.026, 0.013, 0.011),
    "cloud": (0.720, 0.710, 0.715, 0.740, 0.500, 0.360),
}
"""Name of a cover to its reflectance, 0..1."""

DIFFUSE = np.array([0.20, 0.15, 0.10, 0.055, 0.020, 0.012], np.float32)
"""Share of skylight in the light on flat ground under a clear sky: Rayleigh scattering falls with wavelength**-4."""


def spectra(*names: str) -> Grid:
    """(len(names), 6) reflectances."""
    return np.array([REFLECTANCE[name] for name in names], np.float32)
