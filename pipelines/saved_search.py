"""The scenes that a run began with, as text: resumed, it reads the same, whatever the archive has gained since.

The text lies among the results, so it holds no signature and no key. Links are kept without their queries, and found
again in the items that they came from when the files are read (``pipelines/remote/links.py``); the address of a tile
service is found in its card.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from swathe.imagery import shown
from swathe.mosaic import Mosaic, Slot
from swathe.scene import Asset, Scene

NAME = "scenes.json"
_MOSAIC = TypeAdapter(Mosaic)


def written(asked: str, mosaic: Mosaic) -> bytes:
    """Scenes, and the hash of what they were asked with. No link is kept with its query, nor a tile service."""
    kept = _with_assets(mosaic, _bare if mosaic.tiles else lambda asset: asset.unsigned)
    return json.dumps({"asked": asked, "mosaic": _MOSAIC.dump_python(kept, mode="json")}, indent=1).encode()


def read(text: bytes, asked: str, source: str = "") -> Mosaic | None:
    """The scenes, if they were asked for with the same; None also where the text is damaged.

    ``source``: the address that was searched, as it was typed or as its card has it. It may be a signed link to an
    item, without which the item could not be read again, or that of a tile service with a key.
    """
    try:
        facts: dict[str, Any] = json.loads(text)
        if facts["asked"] != asked:
            return None
        mosaic = _MOSAIC.validate_json(json.dumps(facts["mosaic"]))
    except (ValueError, KeyError, TypeError, ValidationError):
        return None
    return mosaic if shown(source) == source else _with_assets(mosaic, lambda asset: _found_in(asset, source))


def _bare(asset: Asset) -> Asset:
    return replace(asset, href=shown(asset.href))


def _found_in(asset: Asset, source: str) -> Asset:
    """The asset with its address, or that of its document, as ``source`` has it, where it is that one."""
    if asset.origin is None:
        return replace(asset, href=source) if asset.href == shown(source) else asset
    if asset.origin.document != shown(source):
        return asset
    return replace(asset, origin=replace(asset.origin, document=source))


def _with_assets(mosaic: Mosaic, change: Callable[[Asset], Asset]) -> Mosaic:
    def changed(scene: Scene) -> Scene:
        return replace(
            scene, bands=tuple(map(change, scene.bands)), mask=None if scene.mask is None else change(scene.mask),
            looks=tuple(map(change, scene.looks)), picture=tuple(map(change, scene.picture)),
        )  # fmt: skip

    def days_of(slot: Slot) -> tuple[tuple[Scene, ...], ...]:
        return tuple(tuple(map(changed, day)) for day in slot.days)

    return replace(mosaic, slots=tuple(replace(slot, days=days_of(slot)) for slot in mosaic.slots))
