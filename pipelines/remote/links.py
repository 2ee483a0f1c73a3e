"""Signed links, and the items that they were found in: one that has expired, or was not kept, is found there anew."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin

from pipelines.remote.address import Web, web
from pipelines.remote.network import Network
from swathe.errors import ImageryError, SwatheError
from swathe.imagery import shown
from swathe.scene import Origin
from swathe.source import Auth

Read = Callable[[str, Auth], Awaitable[Any]]
"""Get a JSON document from an address, or from this machine; None where it is none."""
Document = tuple[str, Auth]
_AGAIN_S = 30.0
"""A document that had nothing new is left alone for so long: every block of its files would ask for it."""


class Links:
    """Those of one process. ``note`` may be called by any thread, everything else in the event loop."""

    def __init__(self, network: Network, read: Read) -> None:
        """``read`` fetches items."""
        self._network, self._read = network, read
        self._lock = threading.Lock()
        self._origins: dict[Web, Origin] = {}
        self._fresh: dict[Web, Web] = {}
        self._doors: defaultdict[Document, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._idle: dict[Document, float] = {}

    def note(self, place: Web, origin: Origin) -> None:
        """A link, with its query or without, was found there."""
        with self._lock:
            self._origins[place] = origin

    def knows(self, place: Web) -> bool:
        """Whether it is a link that can be found anew."""
        return place in self._origins

    async def current(self, place: Web) -> Web:
        """The link as it is good now, as far as is known; one that was kept without its query is looked up first."""
        if place not in self._origins:
            return place
        if "?" not in place.url and place not in self._fresh:
            await self.renew(place)
        return self._fresh.get(place, place)

    async def renew(self, place: Web) -> bool:
        """Read the item again: whether its link is another one now."""
        origin, before = self._origins[place], self._fresh.get(place, place)
        document = origin.document, origin.auth
        async with self._doors[document]:  # whoever comes second finds the links of all its files
            if self._fresh.get(place, place) == before and time.monotonic() >= self._idle.get(document, 0.0):
                await self._look(document)
        return self._fresh.get(place, place) != before

    async def _look(self, document: Document) -> None:
        try:
            found = await self._read(*document)
        except SwatheError:  # the answer to the file itself says more to whoever wanted it
            found = None
        with self._lock:
            here = [(place, o) for place, o in self._origins.items() if (o.document, o.auth) == document]
        links = {place: link for place, o in here if (link := self._checked(place, link_in(found, o), o.document))}
        if all(self._fresh.get(place, place) == link for place, link in links.items()):
            self._idle[document] = time.monotonic() + _AGAIN_S
        self._fresh |= links

    def _checked(self, place: Web, href: str, document: str) -> Web | None:
        """A link to the same file: what differs beside its query is another one, which nobody chose."""
        if not href:
            return None
        try:
            found = web(urljoin(document, href), allow_private=self._network.allow_private)
        except (ImageryError, ValueError):
            return None
        return found if shown(found.url) == shown(place.url) else None


def link_in(document: Any, origin: Origin) -> str:
    """What an item, or a collection of items, says now; empty where it says nothing of this file."""
    for item in _items(document):
        assets = item.get("assets") if str(item.get("id")) == origin.item else None
        asset = assets.get(origin.asset) if isinstance(assets, Mapping) else None
        if isinstance(asset, Mapping) and isinstance(asset.get("href"), str):
            return asset["href"]
    return ""


def _items(document: Any) -> Iterator[Mapping[str, Any]]:
    if not isinstance(document, Mapping):
        return
    listed = document.get("features")
    yield from (one for one in (listed if isinstance(listed, list) else [document]) if isinstance(one, Mapping))
