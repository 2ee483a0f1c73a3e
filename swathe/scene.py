"""A scene: one acquisition of one satellite over one footprint, and where each of its bands lies. No pixel yet."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from pydantic import ConfigDict

from swathe.imagery import shown
from swathe.source import Auth

Affine6 = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class AssetGrid:
    """Where the pixels of a file lie."""

    crs: str
    """``EPSG:n``, or WKT."""
    transform: Affine6
    """Affine (a, b, c, d, e, f) of level 0; north-up."""
    shape: tuple[int, int]
    """(rows, cols)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a link was found, and is found anew when its signature has expired."""

    document: str
    """Address of the item, or of the collection of items that it stands in."""
    item: str
    """Id."""
    asset: str
    """Key among the assets of the item."""
    auth: Auth = field(default=Auth())
    """How the document is read."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One band of one scene."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_inf_nan="constants")  # nodata may be NaN

    name: str
    """Common name of the band, or of the mask (``scl``, ``qa``)."""
    href: str
    """As published; a signed link with its signature, which is for reading alone: see ``unsigned``. A tile service has
    ``{z}/{x}/{y}`` in it."""
    index: int = 1
    """Band of the file, from 1."""
    scale: float = 1.0
    """physical = stored * scale + offset, after the source's rule."""
    offset: float = 0.0
    """See ``scale``."""
    nodata: float | None = None
    """Stored number that means nothing; None: what the file says."""
    resampling: str = "bilinear"
    """nearest, bilinear or cubic; masks are always nearest."""
    grid: AssetGrid | None = None
    """Where the catalogue says it (``proj:*``); None: known when the file is opened."""
    origin: Origin | None = None
    """Of a link with a query, which may be a signature; None: the address stands by itself."""

    @property
    def unsigned(self) -> Asset:
        """As a result keeps it: without any query, which ``origin`` finds again. An address without one as it is."""
        if self.origin is None:
            return self
        return replace(self, href=shown(self.href), origin=replace(self.origin, document=shown(self.origin.document)))


@dataclass(frozen=True, slots=True)
class Scene:
    """One acquisition, as found."""

    # A run keeps the scenes it began with as JSON, which has no bytes.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    id: str
    """Of the STAC item, or the file's name."""
    collection: str
    """It belongs to; empty for plain files."""
    when: str
    """RFC 3339, UTC: the instant of acquisition (the middle of it, where it took long)."""
    footprint: bytes
    """WKB, longitude and latitude, cut at the antimeridian."""
    bands: tuple[Asset, ...]
    """In the order in which they were asked for."""
    mask: Asset | None = None
    """What tells cloud from ground, where the source has it."""
    looks: tuple[Asset, ...] = ()
    """Where no file tells it but a network: the bands that it looks at (red, green, nir)."""
    picture: tuple[Asset, ...] = ()
    """Red, green and blue for a preview, where other bands were asked for and the source has these."""
    cloud: float | None = None
    """Percent of the whole scene, as its catalogue says (0..100)."""
    clear: float | None = None
    """Share of the area of interest that is clear, as measured in its mask (0..1); None: not measured."""
    href: str = ""
    """The item itself: what ``derived_from`` links to."""
    rule: str = ""
    """The radiometry rule that was used, in words."""
    platform: str = ""
    """Satellite."""
    lasted: tuple[str, str] | None = None
    """RFC 3339, UTC: first and last instant, where it took long; a scene is of every date that it touches."""

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells it from all others: a catalogue may hold one id in two collections."""
        return self.collection, self.id, self.href

    @property
    def masked(self) -> bool:
        """Whether anything tells cloud from ground."""
        return self.mask is not None or bool(self.looks)

    @property
    def crs(self) -> str | None:
        """Of its first band, where known."""
        return self.bands[0].grid.crs if self.bands and self.bands[0].grid else None
