"""From what was typed after ``--source`` to a card: a card's name, or an address that is looked at."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from pipelines.imagery.gdal import Access
from pipelines.imagery.header import read_headers
from pipelines.search import static
from pipelines.search.folder import WHOLE, files_of
from pipelines.search.items import resolved
from pipelines.search.query import Documents, LeftOut
from pipelines.search.radiometry import SCALE, advertised, described, is_sentinel2, physical, provider_of
from pipelines.search.sources import in_collection, named
from pipelines.search.stac import method_of
from swathe.bands import NAMES
from swathe.errors import InputError
from swathe.imagery import is_remote, shown
from swathe.source import (
    Auth,
    AuthKind,
    MaskRule,
    RadiometryRule,
    SourceBand,
    SourceCard,
    SourceKind,
    SourceMask,
    SourceRadiometry,
)
from swathe.unit import TAGGED

Json = Mapping[str, Any]
_COLLECTED = (SourceKind.STAC, SourceKind.STATIC)
"""Kinds of which a card holds for one collection of several."""
_TOPS = ("catalog.json", "collection.json", "catalogue.json")
_MASKS = {"scl": MaskRule.SCL, "fmask": MaskRule.FMASK, "qa_pixel": MaskRule.QA_PIXEL}
_ALIASES = {"B05": "rededge071", "B06": "rededge075", "B07": "rededge078", "B8A": "nir08", "B09": "nir09"}
"""Sentinel-2's names where one common name (rededge) stands for several bands, or STAC has none."""
_SENTINEL2 = {
    "B01": "coastal", "B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "B11": "swir16", "B12": "swir22",
    **_ALIASES,
}  # fmt: skip


def source_of(
    text: str, cards: Mapping[str, SourceCard], documents: Documents, collection: str | None = None
) -> SourceCard:
    """The card of this name; else a card for this address: a STAC API, a catalogue, an item or a folder.

    For an address, a shipped card is used whose collection and assets it has; else a card is made of what its items
    say. So it is for a card's name with another collection than the card's own, of which the card says nothing.
    Raises InputError (``source.unknown``, ``.collection``, ``.unclear``), ImageryError and ReadError.
    """
    text = text.strip()
    if text in cards or not _is_address(text):
        card = named(cards, text)
        other = card.kind in _COLLECTED and card.collection and collection not in (None, "", card.collection)
        return _of_collection(card, str(collection), cards, documents) if other else in_collection(card, collection)
    if not is_remote(text):
        place = Path(text).expanduser().resolve()
        top = next((place / name for name in _TOPS if (place / name).is_file()), None)
        if place.is_dir() and top is None:
            return _of_folder(place)
        if not place.exists():
            raise InputError(f"there is no source {text!r}: no card of that name, no file", code="source.unknown",
                             hint="check the path", field="--source")  # fmt: skip
        text = str(top or place)
    bare = _bare(text, documents, collection)
    return _known(bare, cards) or _fitted(bare, cards, _probe(bare, documents))


def _of_collection(
    card: SourceCard, collection: str, cards: Mapping[str, SourceCard], documents: Documents
) -> SourceCard:
    """A card for another collection of a card's archive: its bands and numbers are not those of the card's own.

    How one proves who one is stays the given card's: it is the same provider.
    """
    proof = {"auth": card.auth, "search_auth": card.search_auth}
    bare = _card(card.url, card.kind, collection).model_copy(update=proof)
    found = _known(bare, cards) or _fitted(bare, cards, _probe(bare, documents))
    return found.model_copy(update=proof)


def _known(bare: SourceCard, cards: Mapping[str, SourceCard]) -> SourceCard | None:
    """The card that was written for a collection at this very address."""
    return next((c for c in cards.values() if _at(c) == _at(bare) and c.collection == bare.collection), None)


def _is_address(text: str) -> bool:
    return is_remote(text) or "/" in text or Path(text).expanduser().exists()


def _at(card: SourceCard) -> str:
    return card.url.rstrip("/")


# --- what lies at an address ------------------------------------------------------------------------------------------


def _bare(url: str, documents: Documents, collection: str | None) -> SourceCard:
    """A card without bands that can be searched for one item."""
    document = documents.json(url)
    kind = document.get("type") if isinstance(document, dict) else None
    if kind == "Catalog" and _link(document, "search"):
        return in_collection(_card(url, SourceKind.STAC, ""), collection)
    if kind == "Collection" and _link(document, "items") and (root := _link(document, "root")):
        root = resolved(root, url)
        if _link(documents.json(root), "search"):
            return _card(root, SourceKind.STAC, collection or str(document.get("id")))
    own = str(document.get("id") or "") if kind == "Collection" else ""
    return _card(url, SourceKind.STATIC, collection or own)


def _link(document: Any, rel: str) -> str:
    return next((str(one["href"]) for one in _links(document, rel)), "")


def _links(document: Any, rel: str) -> list[Json]:
    links = document.get("links") if isinstance(document, dict) else None
    return [one for one in links or [] if isinstance(one, dict) and one.get("rel") == rel and one.get("href")]


def _card(url: str, kind: SourceKind, collection: str) -> SourceCard:
    return SourceCard(
        id="address", title=shown(url), kind=kind, url=url, collection=collection,
        bands={"index": SourceBand(asset="-")}, radiometry=SourceRadiometry(rule=RadiometryRule.METADATA),
    )  # fmt: skip


def _probe(card: SourceCard, documents: Documents) -> Json:
    """Any one item. Raises InputError where there is none."""
    if card.kind is SourceKind.STATIC:
        found = next((one[0] for one in static.items_of(card, documents) if not isinstance(one, LeftOut)), None)
    else:
        page = _one(card, documents)
        items = page.get("features") if isinstance(page, dict) else None
        found = items[0] if isinstance(items, list) and items else None
    if isinstance(found, Mapping) and isinstance(found.get("assets"), Mapping):
        return found
    where = f" in the collection {card.collection}" if card.collection else ""
    raise InputError(
        f"{shown(card.url)} holds no item{where}",
        code="search.collection",
        hint="check the address and --collection",
        field="--source",
    )


def _one(card: SourceCard, documents: Documents) -> Any:
    """The answer of an API that is asked for one item, by the method that a search of it will use."""
    links = _links(documents.json(card.url, card.search_auth), "search")
    method = method_of(link.get("method") for link in links)
    fitting = [link for link in links if link.get("method") in (method, None)] or links
    search = resolved(str(fitting[0]["href"]) if fitting else "", card.url)
    if method == "POST":
        body = {"collections": [card.collection], "limit": 1}
        return documents.json(search, card.search_auth, method="POST", body=body)
    asked = urlencode({"collections": card.collection, "limit": 1})
    return documents.json(f"{search}{'&' if '?' in search else '?'}{asked}", card.search_auth)


# --- a card that fits -------------------------------------------------------------------------------------------------


def _fitted(bare: SourceCard, cards: Mapping[str, SourceCard], item: Json) -> SourceCard:
    """A shipped card whose collection and assets an item has; else one made of the item."""
    collection = bare.collection or str(item.get("collection") or "")
    alike = [c for c in cards.values() if c.collection == collection and collection and _has(item, c)]
    best = [c for c in alike if len(c.bands) == max(len(a.bands) for a in alike)]
    if best and all(c.radiometry == best[0].radiometry for c in best):
        moved = {"url": bare.url, "kind": bare.kind, "collection": bare.collection}
        # What its numbers mean is the collection's; how one proves who one is, and who pays, is its own provider's.
        own = {} if _same_host(best[0].url, bare.url) else {"auth": _public(best[0].auth), "search_auth": Auth()}
        return best[0].model_copy(update=moved | own)
    return _made(bare, item)


def _same_host(one: str, other: str) -> bool:
    """Whether two addresses are one provider's, by https."""
    first, second = urlsplit(one), urlsplit(other)
    return first.scheme == second.scheme == "https" and first.netloc.lower() == second.netloc.lower()


def _public(auth: Auth) -> Auth:
    """What anybody may use with anybody's items: tokens that are given out to all. No secret, no signature, no bill."""
    return auth if auth.kind is AuthKind.PLANETARY_COMPUTER and not auth.secret else Auth()


def _has(item: Json, card: SourceCard) -> bool:
    return all(band.asset in item["assets"] for band in card.bands.values())


def _made(bare: SourceCard, item: Json) -> SourceCard:
    """From an item's own words: bands by their common names, scale and offset as it says them.

    Of Sentinel-2 they go by the processing baseline, as everywhere: catalogues often advertise the other number.
    """
    bands = _bands(item)
    if not bands:
        raise _unclear(bare, "its items do not name the bands of their assets (eo:bands, bands)")
    silent = [n for n, band in bands.items() if not _explained(item["assets"][band.asset], band.index)]
    if silent:
        raise _unclear(bare, f"its items do not say how the numbers of {', '.join(silent)} become physical units")
    masks = {rule: key for key in item["assets"] for word, rule in _MASKS.items() if key.lower() == word}
    mask = next((SourceMask(rule=rule, asset=key) for rule, key in masks.items()), None)
    return bare.model_copy(update={"bands": bands, "mask": mask, "radiometry": _radiometry(item, bands)})


def _radiometry(item: Json, bands: Mapping[str, SourceBand]) -> SourceRadiometry:
    said = [advertised(item["assets"][band.asset], band.index) for band in bands.values()]
    esa = all(one is not None and math.isclose(one[0], SCALE) for one in said)  # else they are numbers of its own
    if esa and (provider := provider_of(item)):
        return SourceRadiometry(rule=RadiometryRule.SENTINEL2, provider=provider)
    return SourceRadiometry(rule=RadiometryRule.METADATA, unit=_unit(item, bands))


def _bands(item: Json) -> dict[str, SourceBand]:
    """Common name -> asset; of several assets the finest."""
    found: dict[str, tuple[float, SourceBand]] = {}
    msi = is_sentinel2(item) or not (item.get("properties") or {}).get("platform")
    for key, asset in item["assets"].items():
        if not isinstance(asset, Mapping) or "overview" in (asset.get("roles") or []) or key == "visual":
            continue
        for index, name in enumerate(_names(asset, msi), 1):
            gsd = float(asset.get("gsd") or described(asset, index).get("gsd") or 1e6)
            if name and (name not in found or gsd < found[name][0]):
                found[name] = gsd, SourceBand(asset=key, index=index)
    return {name: band for name, (_, band) in found.items()}


def _names(asset: Json, msi: bool) -> list[str]:
    listed = asset.get("bands") or asset.get("eo:bands") or []
    return [_name(band, msi) for band in listed if isinstance(band, Mapping)]


def _name(band: Json, msi: bool) -> str:
    """Common name of one band; of Sentinel-2's by its own where the common one is shared or missing.

    ``msi``: whether it may be one of those. Landsat's B05 is another band.
    """
    own, said = str(band.get("name") or ""), str(band.get("common_name") or band.get("eo:common_name") or "")
    if msi and own in _ALIASES and said in ("rededge", "nir08", "nir09", ""):
        return _ALIASES[own]
    if said in NAMES:
        return said
    return own.lower() if own.lower() in NAMES else _SENTINEL2.get(own, "") if msi else ""


def _explained(asset: Json, index: int) -> bool:
    """Whether an item says what a band's numbers mean."""
    return advertised(asset, index) is not None or physical(asset, index)


def _unit(item: Json, bands: Mapping[str, SourceBand]) -> str:
    said = {str(described(item["assets"][b.asset], b.index).get("unit") or "") for b in bands.values()}
    return said.pop() or "reflectance" if len(said) == 1 else TAGGED


def _unclear(card: SourceCard, why: str) -> InputError:
    return InputError(
        f"{shown(card.url)} is no known source, and {why}",
        code="source.unclear",
        hint="write a source card for it (docs/sources.md): bands, scale and offset, mask",
        field="--source",
    )


def _of_folder(place: Path) -> SourceCard:
    """Of files of several bands whose descriptions are common names and whose tags say scale and offset."""
    header = read_headers([str(files_of(place)[0])], Access())[0]
    said = [name if name in NAMES else "" for name in header.descriptions]
    bands = {name: SourceBand(asset=WHOLE, index=i) for i, name in enumerate(said, 1) if name}
    tagged = all((header.scales[b.index - 1], header.offsets[b.index - 1]) != (1.0, 0.0) for b in bands.values())
    if not bands or not tagged:
        raise InputError(
            f"the folder {place} is no catalogue, and its files do not say what their bands and numbers are",
            code="source.unclear",
            hint="write a source card of kind folder (configs/sources/local-folder.yaml is one), or use --input",
            field="--source",
        )
    return SourceCard(
        id="address", title=str(place), kind=SourceKind.FOLDER, url=str(place), bands=bands, cloud_property="",
        radiometry=SourceRadiometry(rule=RadiometryRule.METADATA, unit=TAGGED),
    )  # fmt: skip
