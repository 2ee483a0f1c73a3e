"""What can be registered: result folders, STAC files, image files, folders of all these. From paths to documents."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from pipelines.catalogue.entry import INFERRED
from pipelines.imagery.inputs import IMAGES
from pipelines.remote.byte_cache import unsigned
from swathe.errors import InputError
from swathe.imagery import is_remote, shown

_LARGEST_JSON = 64 * 2**20
_MOST_FILES = 100_000
Json = dict[str, Any]


@dataclass(slots=True)
class Documents:
    """What was found."""

    items: list[Json] = field(default_factory=list)
    """STAC Items; every href absolute."""
    collections: dict[str, Json] = field(default_factory=dict)
    """STAC Collections by id; the same."""
    images: list[str] = field(default_factory=list)
    """Image files that no Item names: absolute paths, and addresses."""
    members: dict[str, str] = field(default_factory=dict)
    """Files of Items, as Collections list them -> id of the Collection; for Items that do not say it themselves."""

    def add(self, document: Json, where: str) -> None:
        """Sort in one JSON document that was read from ``where``. Raises InputError for what is no STAC."""
        kind = document.get("type")
        if kind == "Feature":
            said = {} if document.get("collection") else {"collection": self.members.get(where)}
            self.items.append(placed({**document, **said}, where))
        elif kind == "FeatureCollection" and isinstance(document.get("features"), list):
            self.items += [placed(item, where) for item in document["features"] if isinstance(item, dict)]
        elif kind == "Collection" and isinstance(id_ := document.get("id"), str):
            self.collections[id_] = placed(document, where)
            listed = [link for link in document.get("links") or [] if isinstance(link, dict)]
            items = [str(_absolute(link, where).get("href")) for link in listed if link.get("rel") == "item"]
            self.members |= dict.fromkeys(items, id_)
        else:
            raise _no_stac(where, f"it is a {kind}" if isinstance(kind, str) else "it has no type")


def read(path: Path) -> Documents:
    """A file, or everything below a folder. Raises InputError (``catalogue.path``, ``.item``)."""
    found = Documents()
    if path.is_dir():
        _folder(path, found)
    elif path.suffix.lower() in (".json", ".geojson"):
        found.add(read_json(path), str(path.resolve()))
    elif path.is_file():
        found.images.append(str(path.resolve()))
    else:
        raise InputError(f"there is nothing at {path}", code="catalogue.path", field="PATH", hint="check the name")
    if not (found.items or found.collections or found.images):
        hint = "give a result folder, a STAC file, an image, or a folder of them"
        raise InputError(f"{path} holds nothing to register", code="catalogue.path", field="PATH", hint=hint)
    return found


def read_json(path: Path) -> Json:
    """One JSON object. Raises InputError."""
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise _no_stac(str(path), f"it is larger than {_LARGEST_JSON >> 20} MB")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", code="catalogue.path", field="PATH") from None
    except (ValueError, RecursionError) as error:
        raise _no_stac(str(path), f"it is no JSON ({error})") from None
    if not isinstance(document, dict):
        raise _no_stac(str(path), "it is no JSON object")
    return document


def placed(document: Json, where: str) -> Json:
    """With absolute hrefs, relative ones being meant from ``where`` (a file or an address), and a link back to it.

    Signatures of addresses are left out: they are secrets, and soon over.
    """
    given = document.get("links") or []
    if not isinstance(given, list):
        raise _no_stac(where, "its links are no list")
    links = [link for link in given if isinstance(link, dict) and link.get("rel") not in INFERRED]
    links = [_absolute(link, where) for link in links if link.get("rel") != "via"]
    links.append({"rel": "via", "href": _lasting(where), "type": "application/json", "title": "as it was registered"})
    found = {**document, "links": links}
    if isinstance(document.get("assets"), dict):
        found["assets"] = {key: _asset(asset, where) for key, asset in document["assets"].items()}
    return found


def _joined(where: str, href: str) -> str:
    """``urljoin`` does not know that addresses in object storage have folders."""
    scheme, mark, rest = where.partition("://")
    return f"{scheme}{mark}{urljoin(f'//{rest}', href)[2:]}" if scheme == "s3" else urljoin(where, href)


def _lasting(href: str) -> str:
    """Without its signature, if it has one. Names of files may hold a ? or a #, and pages are named with one."""
    bare = unsigned(href) if is_remote(href) else href
    return href if href.partition("#")[0] == bare else bare


def _asset(asset: Any, where: str) -> Any:
    """With its alternates, which are addresses of the same file."""
    found = _absolute(asset, where)
    others = found.get("alternate") if isinstance(found, dict) else None
    if not isinstance(others, dict):
        return found
    return {**found, "alternate": {name: _absolute(other, where) for name, other in others.items()}}


def _absolute(holder: Any, where: str) -> Any:
    """A link or asset; hrefs with a scheme, and absolute paths, stay."""
    href = holder.get("href") if isinstance(holder, dict) else None
    if not isinstance(href, str):
        return holder
    if urlsplit(href).scheme:
        return {**holder, "href": _lasting(href)}
    if is_remote(where):
        return {**holder, "href": _lasting(_joined(where, href))}
    return {**holder, "href": os.path.normpath(Path(where).parent / href)}


def _folder(folder: Path, found: Documents) -> None:
    images: list[str] = []
    for path in _files(folder):
        suffix = path.suffix.lower()
        if suffix in IMAGES:
            images.append(str(path))
        elif suffix in (".json", ".geojson") and _looks_like_stac(document := read_json_or_none(path)):
            found.add(document, str(path))
    named = {a["href"] for item in found.items for a in item.get("assets", {}).values() if isinstance(a, dict)}
    found.images += [path for path in images if path not in named]


def _files(folder: Path) -> Iterator[Path]:
    """All of them, a folder's ``collection.json`` first, so that its Items are known as such.

    Not what is hidden (``.swathe/`` holds parts of a run), nor what links to other folders.
    """
    count = 0
    for here, folders, names in os.walk(folder.resolve()):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names, key=lambda n: (n != "collection.json", n)):
            count += 1
            if count > _MOST_FILES:
                hint = "register its folders one by one"
                raise InputError(f"{folder} holds more than {_MOST_FILES} files", code="catalogue.path", hint=hint)
            if not name.startswith("."):
                yield Path(here) / name


def read_json_or_none(path: Path) -> Json:
    """Of a folder's JSON files, which may be anything: what is no object is nothing."""
    try:
        return read_json(path)
    except InputError:
        return {}


def _looks_like_stac(document: Json) -> bool:
    return "stac_version" in document and document.get("type") in ("Feature", "Collection")


def _no_stac(where: str, why: str) -> InputError:
    hint = "give a STAC Item, ItemCollection or Collection; of a Catalog give its folder"
    return InputError(f"{shown(where)} cannot be registered: {why}", code="catalogue.item", field="PATH", hint=hint)
