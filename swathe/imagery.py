"""Imagery that was looked at and found usable: where each band lies and how it is read. Pixels come later."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from swathe.unit import Conversion

REMOTE = ("http://", "https://", "s3://")
_ADDRESS = re.compile(r"""(?:https?|s3)://[^\s"'<>]+""", re.IGNORECASE)


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
    together: bool = False
    """Of a picture: the nodata number counts only where all bands have theirs, as black is a colour too."""


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
    conversion: Conversion | None = None
    """Of units, where the model wants others than the files have; after scale and offset. ``unit`` is the result's."""
    picture: tuple[BandSource, ...] = ()
    """Red, green and blue of the last date, where they are there and on the same grid; for the eye alone."""
    notes: tuple[str, ...] = ()
    """What the user should know: a band that stands in for another, a tag that a profile overruled."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all files, as people may see them."""
        return tuple(sorted({shown(band.href) for date in self.dates for band in date.bands}))

    def facts(self) -> dict[str, Any]:
        """What decides the pixels, as plain values: not the names, as a URL may be signed anew for the same file."""
        bands = [[(b.name, b.index, b.dtype, str(b.nodata), b.scale, b.offset, b.mask_index)
                  + (("together",) if b.together else ()) for b in d.bands] for d in self.dates]  # fmt: skip
        return {
            "fingerprint": self.fingerprint,
            "dates": [d.when for d in self.dates],
            "bands": bands,
            "grid": (self.crs, self.transform, self.shape),
            **({"conversion": self.conversion.value} if self.conversion else {}),
        }


def is_remote(href: str) -> bool:
    """Whether reading needs the network."""
    return href.lower().startswith(REMOTE)


def with_plain_scheme(href: str) -> str:
    """The same address with its scheme in small letters: schemes know no case, comparisons do."""
    scheme, mark, rest = href.partition("://")
    return f"{scheme.lower()}{mark}{rest}" if mark and scheme.isascii() and scheme.isalnum() else href


def shown(href: str) -> str:
    """The name as people may see it: without the query and the user of a URL, which hold secrets."""
    if not is_remote(href):
        return href
    scheme, _, rest = re.sub(r"[?#].*", "", href).partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def shown_in(text: str) -> str:
    """A text with every address in it as people may see it."""
    return _ADDRESS.sub(lambda found: shown(found[0]), text)
