"""Imagery that was looked at and found usable: where each band lies and how it is read. Pixels come later."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BandSource:
    """One band of one date."""

    name: str
    """Common name."""
    href: str
    """Path or URL, as rasterio opens it."""
    index: int
    """Band of the file, from 1."""
    dtype: str
    """numpy type name of the stored numbers."""
    nodata: float | None
    """Stored number that means nothing; may be NaN."""
    scale: float
    """physical = stored * scale + offset."""
    offset: float
    """See ``scale``."""
    mask_index: int | None = None
    """Band of the same file that is 0 where there is no data."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """One date: its bands, all on the imagery's grid."""

    when: str | None
    """ISO date as given (``DATE=PATH``) or None."""
    bands: tuple[BandSource, ...]
    """In the order the model wants them."""


@dataclass(frozen=True, slots=True)
class Imagery:
    """Everything a run reads."""

    dates: tuple[Acquisition, ...]
    """Oldest first; as many as the model wants."""
    crs: str
    """WKT, or ``EPSG:n``."""
    transform: tuple[float, float, float, float, float, float]
    """Affine (a, b, c, d, e, f); north-up: b = d = 0, a > 0 > e."""
    shape: tuple[int, int]
    """(rows, cols) of every file."""
    sensor: str
    """Id of the profile, or ``bands`` where they were named on the command line."""
    unit: str
    """Physical unit: reflectance, dB, …"""
    block: tuple[int, int]
    """(rows, cols) of a block of the files: reading is cheapest along it."""
    fingerprint: str
    """sha256 over the names, sizes, modification times or ETags of all files."""
    stamps: tuple[tuple[str, str], ...] = ()
    """(href, stamp) of every file: a reader refuses one that was replaced since. Size, and the ETag of a URL."""
    pixel_bytes: int = 0
    """Bytes per pixel that GDAL keeps when it reads all files: every band of a pixel-interleaved one."""
    notes: tuple[str, ...] = ()
    """What the user should know: a band that stands in for another, a tag that a profile overruled."""
