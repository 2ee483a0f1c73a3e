"""Documents into the catalogue: results under their model's collection, everything else under its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipelines.catalogue.model_items import MODELS, model_item, models_collection
from pipelines.catalogue.plain import image_items
from pipelines.catalogue.reading import Documents, Json, placed, read
from pipelines.catalogue.store import Catalogue
from pipelines.imagery.inputs import IMAGES
from swathe.card import ModelCard
from swathe.errors import InputError
from swathe.imagery import is_remote, shown

if TYPE_CHECKING:
    from pipelines.imagery.remote_files import RemoteFiles

RESULTS, IMAGERY = "results-", "imagery"
"""How collections of results begin; the collection of files that belong to none."""


@dataclass(frozen=True, slots=True)
class Wish:
    """How something is to be registered."""

    collection: str | None = None
    """Into this one, whatever the documents say."""
    when: str | None = None
    """Time of image files that have no Item."""
    cards: Mapping[str, ModelCard] = field(default_factory=dict)
    """Models that results may have been made with, by id."""
    remote: RemoteFiles | None = None
    """What documents and images at addresses are fetched through; None: addresses are refused."""


@dataclass(frozen=True, slots=True)
class Registered:
    """What was done."""

    items: tuple[tuple[str, str], ...]
    """(collection, id)."""
    collections: tuple[str, ...]
    """That were made or renewed."""


def register(catalogue: Catalogue, what: str, wish: Wish | None = None) -> Registered:
    """Put a result folder, STAC file, image file, folder or address into the catalogue; again: it is renewed.

    Nothing is copied; the catalogue says where the files are. All of it is registered, or nothing. Raises InputError
    and its kind.
    """
    wish = wish or Wish()
    found = _read(what, wish)
    images = image_items(found.images, wish.when, remote=wish.remote) if found.images else []
    items = [_settled(item, wish) for item in found.items]
    items += [{**item, "collection": wish.collection or IMAGERY} for item in images]
    with catalogue.together() as one:
        collections = _collections(one, items, found.collections, wish)
        for collection in collections:
            one.put_collection(collection)
        one.put_items([*items, *_models(one, items, wish)])
    done = tuple((item["collection"], item["id"]) for item in items)
    return Registered(done, tuple(collection["id"] for collection in collections))


def result_entry(item: Json, where: str, cards: Mapping[str, ModelCard]) -> tuple[Json, Json]:
    """The collection and the Item that a result's ``item.json`` at ``where`` becomes, for whoever writes them."""
    settled = _settled(placed(item, where), Wish(cards=cards))
    return _results(settled, settled["collection"]), settled


def _read(what: str, wish: Wish) -> Documents:
    if not is_remote(what):
        return read(Path(what).expanduser())
    if wish.remote is None:
        hint = "download it, and register the file"
        raise InputError("addresses are not fetched here", code="catalogue.path", field="PATH", hint=hint)
    if PurePosixPath(shown(what)).suffix.lower() in IMAGES:
        return Documents(images=[what])
    found = Documents()
    document = wish.remote.fetcher.json(what, wish.remote.auth)
    found.add(document if isinstance(document, dict) else {}, what)
    return found


def _settled(item: Json, wish: Wish) -> Json:
    """In its collection, and linked to its model where that is known."""
    model = _model_of(item)
    collection = wish.collection or (f"{RESULTS}{model}" if model else item.get("collection") or IMAGERY)
    return {**item, "collection": collection, "links": [*item["links"], *_model_link(model, wish.cards)]}


def _model_of(item: Json) -> str | None:
    properties = item.get("properties")
    said = properties.get("swathe:model") if isinstance(properties, dict) else None
    found = said.get("id") if isinstance(said, dict) else None
    return found if isinstance(found, str) else None


def _model_link(model: str | None, cards: Mapping[str, ModelCard]) -> list[Json]:
    """MLM's way to say which model made it; relative to the catalogue's root, see ``serve/catalogue``."""
    if model is None or model not in cards:
        return []
    href = f"collections/{MODELS}/items/{model}"
    return [{"rel": "derived_from", "href": href, "type": "application/geo+json", "title": cards[model].title}]


def _models(catalogue: Catalogue, items: Iterable[Json], wish: Wish) -> list[Json]:
    """Items of the models that results were made with."""
    ids = sorted({m for item in items if (m := _model_of(item)) in wish.cards and m})
    return [model_item(wish.cards[m], _first_seen(catalogue, m)) for m in ids]


def _first_seen(catalogue: Catalogue, model: str) -> datetime:
    try:
        known = catalogue.item(MODELS, model)["properties"]["datetime"]
    except InputError:
        return datetime.now(UTC).replace(microsecond=0)
    return datetime.fromisoformat(known)


# --- collections ----------------------------------------------------------------------------------------------------


def _collections(catalogue: Catalogue, items: Iterable[Json], given: Mapping[str, Json], wish: Wish) -> list[Json]:
    """Those that came along, and those that items need and nobody has described yet."""
    known = catalogue.titles()
    found = dict(given) if wish.collection is None else {}
    for item in items:
        id_, model = item["collection"], _model_of(item)
        if id_ not in found and id_ not in known:
            found[id_] = _results(item, id_) if model else stub(id_)
        if model in wish.cards and MODELS not in known:
            found[MODELS] = models_collection()
    return list(found.values())


def _results(item: Json, id_: str) -> Json:
    said = item["properties"]["swathe:model"]
    title = said.get("title") or said["id"]
    kept = ("title", "type", "roles", "description")
    assets = {key: {k: v for k, v in asset.items() if k in kept} for key, asset in item.get("assets", {}).items()}
    found = stub(id_, f"Results of {title}", f"Maps that swathe made with the model {said['id']}.")
    return {**found, "item_assets": assets} if assets else found


def stub(id_: str, title: str = "", description: str = "") -> Json:
    """A Collection that nobody has described yet."""
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": id_,
        "title": title or ("Image files" if id_ == IMAGERY else id_),
        "description": description or "Registered with swathe.",
        "license": "other",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        "links": [],
    }
