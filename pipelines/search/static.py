"""Static STAC catalogues: JSON files that link to each other, on disk or on the web. Followed link by link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipelines.search.items import resolved
from pipelines.search.query import Documents, LeftOut
from pipelines.search.radiometry import Unclear
from swathe.errors import InputError, SwatheError
from swathe.imagery import is_remote, shown
from swathe.source import SourceCard

Json = dict[str, Any]
DEPTH = 12
"""Links from the top to an item."""
DOCUMENTS = 20_000
"""JSON files of one search; more is a matter for an API."""
_AT_ONCE = 16
_DOWN = ("child", "item", "items")


def items_of(card: SourceCard, documents: Documents) -> Iterator[tuple[Json, str] | LeftOut]:
    """Items below a catalogue, a collection, an item or an item collection, each with the address it was read from.

    Each document is read once, however often it is linked to, so that circles end. What cannot be read below the top
    is told as left out. Raises what reading the top raises, and InputError (``search.too_many``, ``search.not_stac``).
    """
    top = documents.json(card.url, card.search_auth)
    if not isinstance(top, dict) or top.get("type") not in ("Catalog", "Collection", "Feature", "FeatureCollection"):
        raise InputError(
            f"{shown(card.url)} is no STAC document",
            code="search.not_stac",
            hint="give a catalogue, collection, item or item collection (JSON)",
            field="--source",
        )
    seen, level = {_key(card.url)}, [(card.url, top)]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="catalogue") as pool:
        for _ in range(DEPTH):
            links: list[str] = []
            for where, document in level:
                yield from _here(document, where, card.collection)
                links += [
                    link
                    for link in _links(document, where, card.collection)
                    if not (_key(link) in seen or seen.add(_key(link)))
                ]
            if len(seen) > DOCUMENTS:
                raise _too_many(card.url)
            level = []
            for where, document in zip(links, pool.map(lambda href: _read(href, card, documents), links), strict=True):
                if isinstance(document, LeftOut):
                    yield document
                else:
                    level.append((where, document))
    if level:
        yield LeftOut(shown(card.url), f"it is nested more than {DEPTH} deep; what lies deeper was not read")


def _read(href: str, card: SourceCard, documents: Documents) -> Json | LeftOut:
    try:
        found = documents.json(href, card.search_auth)
    except SwatheError as error:
        return LeftOut(shown(href), error.detail)
    return found if isinstance(found, dict) else LeftOut(shown(href), "it is no STAC document")


def _here(document: Json, where: str, collection: str) -> Iterator[tuple[Json, str]]:
    """Items in a document itself."""
    if document.get("type") == "Feature" and (not collection or document.get("collection") in (collection, None)):
        yield document, where
    for item in document.get("features") or [] if document.get("type") == "FeatureCollection" else []:
        if isinstance(item, dict):
            yield from _here(item, where, collection)


def _links(document: Json, where: str, collection: str) -> list[str]:
    """What to read next. A collection that is another than the one wanted is passed over, its children are not."""
    other = document.get("type") == "Collection" and collection and document.get("id") != collection
    found = []
    for link in document.get("links") or [] if document.get("type") in ("Catalog", "Collection") else []:
        if isinstance(link, dict) and link.get("rel") in _DOWN and link.get("href"):
            if other and link["rel"] != "child":
                continue
            try:
                found.append(resolved(str(link["href"]), where))
            except Unclear:
                continue
    return found


def _key(href: str) -> str:
    return href.split("#", maxsplit=1)[0] if is_remote(href) else os.path.realpath(href)


def _too_many(url: str) -> InputError:
    return InputError(
        f"{shown(url)} links to more than {DOCUMENTS} documents",
        code="search.too_many",
        hint="give a part of it (a collection's own file), or serve it as a STAC API",
        field="--source",
    )
