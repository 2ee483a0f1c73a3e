"""What a file may claim about itself: bounds that hold before a single block is fetched or decoded.

Those that a setting raises (``SWATHE_…``) are named where they refuse; the others follow from how files are read.
"""

from __future__ import annotations

from dataclasses import dataclass

from swathe.errors import ImageryError
from swathe.imagery import shown

MIB = 1 << 20
SIDE, BLOCK, WHOLE = "SWATHE_MAX_IMAGE_SIDE", "SWATHE_MAX_BLOCK_MB", "SWATHE_MAX_WHOLE_PIXELS"
"""Settings of ``side``, ``block_mb`` and ``pixels``."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How large is too large."""

    side: int = 4_000_000
    """Rows or columns. The whole Earth at 10 m has 4 million columns."""
    bands: int = 1024
    """Bands of one file."""
    block_mb: int = 128
    """One block, decoded, with all bands that are stored together."""
    header_mb: int = 64
    """Tags of one file, the table of its blocks among them."""
    directories: int = 256
    """Images in one file: levels and masks."""
    window_mb: int = 4096
    """Pixels of one read."""
    whole_mb: int = 32
    """A file that cannot be read by blocks is fetched whole up to here, else page by page."""
    pixels: int = 1 << 30
    """Of a file that can be decoded as a whole only (PNG, JPEG, JPEG 2000 in one tile)."""
    tile_mb: int = 16
    """One answer of a tile service."""


def refuse(href: str, what: str, setting: str = "") -> ImageryError:
    """The error for a claim beyond a limit, which ``setting`` raises; empty: it is fixed. To be raised."""
    bound = f"set {setting} higher" if setting else "this bound is fixed"
    return ImageryError(
        f"{shown(href)} {what}",
        code="imagery.limits",
        hint=f"{bound}; if the file is what it should be, write it anew as a Cloud-Optimized GeoTIFF with blocks of "
        "512 pixels (gdal_translate -of COG), or cut it into parts",
    )


def check_shape(href: str, shape: tuple[int, int], bands: int, limits: Limits) -> None:
    """Raises ImageryError (``imagery.limits``, ``imagery.unreadable``)."""
    rows, cols = shape
    if rows < 1 or cols < 1 or bands < 1:
        raise ImageryError(f"{shown(href)} has no pixels", code="imagery.unreadable", hint="give an image")
    if max(rows, cols) > limits.side:
        raise refuse(href, f"claims {rows} x {cols} pixels, more than {limits.side} along one side", SIDE)
    if bands > limits.bands:
        raise refuse(href, f"claims {bands} bands, more than {limits.bands}")


def check_block(href: str, block: tuple[int, int], pixel_bytes: float, limits: Limits) -> None:
    """Raises ImageryError (``imagery.limits``) for a block that would take too much memory, or has no pixels."""
    rows, cols = block
    if rows < 1 or cols < 1:
        raise refuse(href, f"claims blocks of {rows} x {cols} pixels")
    if rows * cols * pixel_bytes > limits.block_mb * MIB:
        size = rows * cols * pixel_bytes / MIB
        what = f"claims blocks of {rows} x {cols} pixels, {size:.0f} MB each: more than {limits.block_mb}"
        raise refuse(href, what, BLOCK)


def check_window(href: str, area: int, pixel_bytes: int, limits: Limits) -> None:
    """Raises ImageryError (``imagery.limits``) for a read that would take too much memory."""
    if area * pixel_bytes > limits.window_mb * MIB:
        size = area * pixel_bytes / MIB
        raise refuse(href, f"is asked for {size:.0f} MB at once, more than {limits.window_mb}")
