"""A source of imagery: one YAML card in ``configs/sources``.

Where to search, which asset is which band, what its numbers mean, what its mask means, and how one proves who one is.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from swathe.bands import BandName
from swathe.card import Frozen, Weights


class SourceKind(StrEnum):
    """How scenes are found."""

    STAC = "stac"
    """A STAC API with item search."""
    STATIC = "static"
    """A static STAC catalogue: JSON files that link to each other, on disk or on the web."""
    FOLDER = "folder"
    """A plain folder of image files, one scene each or one file a band; dates from names or metadata."""
    TILES = "tiles"
    """A tile service: XYZ, TMS, QUADKEY or WMS. It has one undated scene."""


class RadiometryRule(StrEnum):
    """How stored numbers become physical units. ``pipelines/search/radiometry.py`` holds the rules."""

    FIXED = "fixed"
    """scale and offset of the card."""
    SENTINEL2 = "sentinel2"
    """By provider, processing baseline and what the item says was applied already."""
    METADATA = "metadata"
    """``raster:bands`` / ``bands`` of the item; the card's where the item says nothing."""


class MaskRule(StrEnum):
    """How the numbers of a mask are read. ``pipelines/mosaic/masks.py`` holds the rules."""

    SCL = "scl"
    """Sentinel-2 scene classification, classes 0..11."""
    FMASK = "fmask"
    """HLS Fmask, bits."""
    QA_PIXEL = "qa_pixel"
    """Landsat Collection 2 QA_PIXEL, bits."""
    MODIS_STATE = "modis_state"
    """State flags of MODIS surface reflectance (``sur_refl_state_500m``), fields of bits."""
    VALID = "valid"
    """0 is masked, anything else is clear (UDM2 band 1, data masks)."""
    OMNICLOUDMASK = "omnicloudmask"
    """No asset: the networks of OmniCloudMask look at red, green and nir (``pipelines/mosaic/omnicloudmask.py``)."""


class AuthKind(StrEnum):
    """How one proves who one is, at the moment of reading."""

    NONE = "none"
    S3 = "s3"
    """AWS signature, credentials from the environment's usual chain."""
    PLANETARY_COMPUTER = "planetary-computer"
    """A short-lived token per storage container, asked for at ``sas_url``."""
    BEARER = "bearer"
    """``Authorization: Bearer SECRET``."""
    BASIC = "basic"
    """``Authorization: Basic``; the secret is ``user:password``."""
    HEADER = "header"
    """A header of another name, ``name``."""
    QUERY = "query"
    """A query parameter, ``name``."""


AMAZON = "amazon"
"""As an endpoint: Amazon's own, whatever ``AWS_ENDPOINT_URL`` says."""
OWN_KEYS = "AWS"
"""The pair of S3 keys that is one's own: ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``."""


class Auth(Frozen):
    """Names of secrets, never secrets."""

    kind: AuthKind = AuthKind.NONE
    """See ``AuthKind``."""
    secret: str = ""
    """Name of the environment variable that holds the secret, or whose value with ``_FILE`` appended names a file.

    S3: name of a pair of keys, ``NAME_ACCESS_KEY_ID`` and ``NAME_SECRET_ACCESS_KEY``, and ``NAME_SESSION_TOKEN`` where
    there is one; empty: one's own."""
    name: str = ""
    """Of the header or query parameter."""
    hosts: tuple[str, ...] = ()
    """Hosts that the secret may be sent to, and those below them, by https: an item may name any host, and a secret is
    not for all of them. The host of the card's own address is always one of them, and need not be named."""
    buckets: tuple[str, ...] = ()
    """S3: buckets that the source's files lie in. A service reads no others with its credentials, except those of
    ``SWATHE_S3_BUCKETS``; on the command line they are one's own, and open what they open."""
    endpoint: str = ""
    """S3: where the buckets lie, an address or ``amazon``; empty: where one's own do (``AWS_ENDPOINT_URL``)."""
    sas_url: str = ""
    """planetary-computer: where tokens are given out."""
    requester_pays: bool = False
    """S3: the reader pays for the transfer, and says so."""
    anonymous: bool = False
    """S3: unsigned."""
    region: str = ""
    """S3: of the buckets, where it is known."""

    @property
    def keys(self) -> str:
        """Name of the pair of S3 keys that objects are read with."""
        return (self.kind is AuthKind.S3 and self.secret) or OWN_KEYS


class SourceBand(Frozen):
    """Which asset a band is."""

    asset: str
    """Key of the STAC asset; for a folder a token of the file's name."""
    index: Annotated[int, Field(ge=1)] = 1
    """Band of that file."""
    resampling: Annotated[str, Field(pattern="^(nearest|bilinear|cubic)$")] = "bilinear"
    """Where it has to be brought onto another grid."""
    scale: float | None = None
    """Own scale where it differs from the card's."""
    offset: float | None = None
    """Own offset where it differs from the card's."""


class SourceRadiometry(Frozen):
    """What the numbers mean."""

    rule: RadiometryRule
    """No default: radiometry is explicit."""
    provider: str = ""
    """sentinel2: whose archive, a key of the rule's table."""
    scale: float = 1.0
    """fixed, and metadata's fallback."""
    offset: float = 0.0
    """See ``scale``."""
    unit: str = "reflectance"
    """reflectance (0..1), linear power, dB, DN, kelvin."""
    nodata: float | None = None
    """Where neither item nor file says it."""


class SourceMask(Frozen):
    """What is not ground."""

    rule: MaskRule
    """See ``MaskRule``."""
    asset: str = ""
    """Key of the asset; empty for a rule that needs none."""
    index: Annotated[int, Field(ge=1)] = 1
    """Band of that file."""
    drop: tuple[str, ...] = ("nodata", "defective", "cloud", "shadow", "cirrus")
    """Words of the rule: nodata, defective, cloud, shadow, cirrus, snow, water, unclassified, adjacent."""
    buffer_m: Annotated[float, Field(ge=0)] = 0.0
    """Everything this near to a dropped cloud or shadow pixel is dropped as well."""
    networks: tuple[Weights, ...] = ()
    """omnicloudmask: ONNX files on this machine, (1, 3, 1024, 1024) -> (1, 4, 1024, 1024) logits, which are averaged;
    paths count from the card's own folder."""


class TileService(Frozen):
    """Imagery as pictures of a fixed size."""

    scheme: Annotated[str, Field(pattern="^(xyz|tms|quadkey|wms)$")]
    """Order of the numbers; wms asks by bounding box."""
    zoom: Annotated[int, Field(ge=0, le=24)] | None = None
    """xyz, tms, quadkey: which level."""
    tile: Annotated[int, Field(ge=64, le=4096)] = 256
    """Side of a tile in pixels."""
    crs: str = "EPSG:3857"
    """Of the tiles."""
    layers: str = ""
    """wms."""
    style: str = ""
    """wms."""
    format: str = "image/png"
    """wms: what to ask for."""
    res_m: float | None = None
    """wms: metres (units of the CRS) per pixel; for the others it follows from the zoom."""


class SourceCard(Frozen):
    """One source."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,79}$")]
    """Used on the command line: ``--source``; the file's name."""
    title: str
    """One line for people."""
    kind: SourceKind
    """See ``SourceKind``."""
    url: str
    """Of the API, of the catalogue file, of the folder, of the tile template."""
    collection: str = ""
    """Of a STAC source; empty: it must be named."""
    bands: dict[BandName, SourceBand]
    """Common name -> asset."""
    radiometry: SourceRadiometry
    """What the numbers mean."""
    mask: SourceMask | None = None
    """None: every pixel with data counts as clear."""
    auth: Auth = Auth()
    """For reading pixels."""
    search_auth: Auth = Auth()
    """For searching, where that needs it."""
    cloud_property: str = "eo:cloud_cover"
    """Of an item, in percent; empty where there is none."""
    tiles: TileService | None = None
    """kind tiles."""
    gsd_m: float | None = None
    """Of the finest band."""
    licence: str = ""
    """SPDX id or words."""
    attribution: str = ""
    """What a map made of it has to say."""
    documentation: str = ""
    """Where the provider says all this."""

    @property
    def looks(self) -> tuple[str, ...]:
        """Bands that the mask is made from, as this source names them; empty where the mask is a file."""
        if self.mask is None or self.mask.rule is not MaskRule.OMNICLOUDMASK:
            return ()
        wanted = (("red",), ("green",), ("nir", "nir08"))
        return tuple(found for names in wanted if (found := next((n for n in names if n in self.bands), "")))

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind is SourceKind.TILES) != (self.tiles is not None):
            msg = "a source of kind tiles needs 'tiles', and no other has it"
            raise ValueError(msg)
        if not self.bands:
            raise ValueError("it names no band")
        return self
