"""From a STAC item (1.0 or 1.1, as it came) to a scene: bands by name, numbers that are known, where they lie."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit

import shapely

from pipelines.search.footprint import footprint_of
from pipelines.search.grids import grid_of
from pipelines.search.radiometry import Unclear, described, meaning, nodata_of, number
from swathe.bands import TRUE_COLOUR
from swathe.imagery import is_remote, shown
from swathe.scene import Asset, Origin, Scene
from swathe.source import AuthKind, SourceBand, SourceCard, SourceKind
from swathe.when import read_moment

Json = Mapping[str, Any]
_IMAGES = ("tif", "tiff", "jp2", "png", "jpeg", "geotiff", "octet-stream")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


@dataclass(frozen=True, slots=True)
class Timed:
    """When an item was acquired."""

    first: datetime
    """UTC."""
    last: datetime
    """The same, unless it took long."""

    @property
    def middle(self) -> str:
        """RFC 3339."""
        return _told(self.first + (self.last - self.first) / 2)

    @property
    def ends(self) -> tuple[str, str] | None:
        """The same; None for an instant."""
        return (_told(self.first), _told(self.last)) if self.first != self.last else None


def _told(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def scene_of(item: Json, card: SourceCard, bands: Sequence[str], where: str = "") -> Scene:
    """A scene with these bands (all of the card's where none are named), in this order.

    ``where`` is the address of the document the item was read from: relative addresses count from there. Raises
    Unclear with the reason for which the item cannot be used.
    """
    check(item)
    outline = footprint_of(item)
    if outline is None:
        raise Unclear("it has no usable geometry")
    names = tuple(bands) or tuple(card.bands)
    home = _home(item, card, where)
    found, time = [_band(name, item, card, home) for name in names], timed(item)
    return Scene(
        id=str(item["id"]), collection=str(item.get("collection") or ""), when=time.middle, lasted=time.ends,
        footprint=shapely.to_wkb(outline), bands=tuple(asset for asset, _ in found), mask=_mask(item, card, home),
        looks=tuple(_band(name, item, card, home)[0] for name in card.looks),
        picture=_picture(names, item, card, home),
        cloud=cloud_of(item, card), href=shown(home.item), rule="; ".join(dict.fromkeys(rule for _, rule in found)),
        platform=str(item["properties"].get("platform") or ""),
    )  # fmt: skip


def check(item: Any) -> None:
    """Refuse what has not even the form of an item, so that nothing else need look. Raises Unclear."""
    parts = [item.get(key) for key in ("properties", "assets")] if isinstance(item, Mapping) else [None]
    if not all(isinstance(part, Mapping) for part in parts) or not item.get("id"):
        raise Unclear("it is no STAC item")


def timed(item: Json) -> Timed:
    """When an item was acquired: ``datetime``, or the stretch from start to end. Raises Unclear."""
    properties = item["properties"]
    said = properties.get("datetime")
    ends = (said, said) if said else (properties.get("start_datetime"), properties.get("end_datetime"))
    try:
        return Timed(*(read_moment(str(end)) for end in ends))
    except ValueError:
        raise Unclear("it does not say when it was acquired") from None


def cloud_of(item: Json, card: SourceCard) -> float | None:
    """Percent of the whole scene, as its catalogue says."""
    return number(item["properties"].get(card.cloud_property)) if card.cloud_property else None


def address_of(item: Json, where: str = "") -> str:
    """Of the item itself: where it was read, or its ``self`` link; empty where neither is known."""
    listed = item.get("links")
    links = [link for link in listed if isinstance(link, Mapping)] if isinstance(listed, list) else []
    said = next((str(link.get("href", "")) for link in links if link.get("rel") == "self"), "")
    if is_remote(said) and (is_remote(where) or not where):
        return said
    return where


# --- assets -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Home:
    """Where an item lies."""

    item: str
    """Its own address: relative ones count from there."""
    document: str
    """What holds it, and can be read again."""


def _home(item: Json, card: SourceCard, where: str) -> _Home:
    """An API gives items out one by one; in a catalogue they are found again where they were read."""
    own = address_of(item, where)
    if card.kind is not SourceKind.STAC:
        return _Home(own, where or own)
    if own != where:
        return _Home(own, own)
    steps = "collections", str(item.get("collection") or card.collection), "items", str(item["id"])
    return _Home(own, "/".join((card.url.rstrip("/"), *(quote(step, safe="") for step in steps))))


def _picture(names: Sequence[str], item: Json, card: SourceCard, home: _Home) -> tuple[Asset, ...]:
    """Nothing depends on it, so an item that lacks one of them is none the worse."""
    if set(TRUE_COLOUR) <= set(names) or not set(TRUE_COLOUR) <= set(card.bands):
        return ()
    try:
        return tuple(_band(name, item, card, home)[0] for name in TRUE_COLOUR)
    except Unclear:
        return ()


def _band(name: str, item: Json, card: SourceCard, home: _Home) -> tuple[Asset, str]:
    band = card.bands[name]
    asset = _asset(name, band.asset, item)
    _check(name, band, asset)
    units, href = meaning(card, band, item, asset), _href(asset, card, home.item)
    made = Asset(
        name=name, href=href, index=band.index, scale=units.scale, offset=units.offset,
        nodata=nodata_of(card, band, asset), resampling=band.resampling, grid=grid_of(item, asset),
        origin=_origin(href, band.asset, item, card, home),
    )  # fmt: skip
    return made, units.rule


def _mask(item: Json, card: SourceCard, home: _Home) -> Asset | None:
    rule = card.mask
    if rule is None or not rule.asset:
        return None
    name = "scl" if rule.rule.value == "scl" else "qa"
    asset = _asset(name, rule.asset, item)
    band = SourceBand(asset=rule.asset, index=rule.index)
    _check(name, band, asset)
    nodata, href = number(described(asset, rule.index).get("nodata")), _href(asset, card, home.item)
    return Asset(
        name=name, href=href, index=rule.index, nodata=nodata, resampling="nearest",
        grid=grid_of(item, asset), origin=_origin(href, rule.asset, item, card, home),
    )  # fmt: skip


def _asset(name: str, key: str, item: Json) -> Json:
    asset = item["assets"].get(key)
    if not isinstance(asset, Mapping) or not asset.get("href"):
        raise Unclear(f"it lacks the asset {key} ({name})")
    return asset


def _check(name: str, band: SourceBand, asset: Json) -> None:
    media = str(asset.get("type") or "image/tiff").partition(";")[0].lower()
    if not any(word in media for word in _IMAGES):
        raise Unclear(f"the asset {band.asset} ({name}) is {media}, which is not read here")
    listed = max((len(asset[k]) for k in ("bands", "eo:bands") if isinstance(asset.get(k), list)), default=0)
    if listed and band.index > listed:
        raise Unclear(f"the asset {band.asset} has {listed} bands, {name} would be band {band.index}")


def _href(asset: Json, card: SourceCard, home: str) -> str:
    """Where the file lies. A source that is read through S3 takes the address there, where the item has one."""
    others = asset.get("alternate") if card.auth.kind is AuthKind.S3 else None
    stored = others.get("s3") if isinstance(others, Mapping) else None
    if isinstance(stored, Mapping) and str(stored.get("href", "")).startswith("s3://"):
        return str(stored["href"])
    return resolved(str(asset["href"]), home)


def _origin(href: str, key: str, item: Json, card: SourceCard, home: _Home) -> Origin | None:
    """Of a link with a query: it may be signed, and expire."""
    signed = is_remote(href) and "?" in href
    return Origin(home.document, str(item["id"]), key, card.search_auth) if signed else None


def resolved(href: str, home: str) -> str:
    """An address as a document at ``home`` means it. Raises Unclear for what no imagery is read from.

    A document from the network never names a local file, whatever it says.
    """
    if is_remote(href):
        return href
    if href.startswith("/vsi") or (_SCHEME.match(href) and not href.startswith("file://")):
        raise Unclear(f"{href.partition(':')[0]}: is no address that imagery is read from")
    if is_remote(home):
        if href.startswith("file://"):
            raise Unclear("it names a file on this machine, but comes from the network")
        return _joined(home, href)
    path = Path(unquote(urlsplit(href).path) if href.startswith("file://") else href)
    if not path.is_absolute() and not home:
        raise Unclear(f"its address {href} is relative to nothing")
    return posixpath.normpath(str(path if path.is_absolute() else Path(home).parent / path))


def _joined(home: str, href: str) -> str:
    """As urljoin, which knows nothing of s3."""
    if not home.lower().startswith("s3://"):
        return urljoin(home, href)
    return "s3://" + urljoin("http://" + home[len("s3://") :], href)[len("http://") :]
