"""Bytes by address: spans of files, whole files, documents. What every reader of imagery stands on."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import OrderedDict
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from aiohttp.abc import AbstractResolver

from pipelines.imagery.gdal import MIB
from pipelines.remote import listing, local
from pipelines.remote.address import Local, Stored, Web, look_at
from pipelines.remote.answer import (
    EMPTY,
    OK,
    UNSATISFIABLE,
    Answer,
    Passing,
    Version,
    changed,
    no_ranges,
    part_of,
    size_of,
    too_large,
    version_of,
)
from pipelines.remote.byte_cache import ByteCache
from pipelines.remote.courier import IDENTITY, Courier, Request, Sleep
from pipelines.remote.network import Network
from pipelines.remote.ranges import Span, merge, pieces
from swathe.background import Background
from swathe.errors import ImageryError, ReadError
from swathe.imagery import shown
from swathe.scene import Origin
from swathe.source import Auth

T = TypeVar("T")
HEAD = 32 << 10
"""First bytes of a file that are fetched to know it: the header of most Cloud-Optimized GeoTIFFs."""
_SMALL = 1 << 20
"""A file up to here is taken whole from a server that knows no ranges."""
_DOCUMENT = 64 << 20
_HELD = 50_000
"""Files whose version is remembered."""
_PLAIN = Auth()


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a file at first sight."""

    size: int
    """Bytes."""
    stamp: str
    """ETag, or time of modification; empty where the server tells neither."""
    head: bytes
    """Its first bytes: 32 KiB, or all of a shorter file."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What a fetcher did so far."""

    requests: int = 0
    """Sent, repetitions and redirects among them."""
    bytes: int = 0
    """Of bodies received."""
    retried: int = 0
    """Requests that were sent again."""
    from_cache: int = 0
    """Bytes that were found on the node."""


class Fetcher:
    """One per process and run. Thread-safe.

    A file is read as it was when this fetcher first saw it: once it is replaced, all reading of it ends with
    ReadError ``read.changed``. Errors: ReadError ``read.lost`` (after all attempts), ``.gone``, ``.forbidden``,
    ``.refused``, ``.changed``, ``.malformed``; ImageryError ``url.*`` (an address that is not read),
    ``imagery.no_ranges``, ``imagery.limits``; InputError ``secret.missing``. No message holds a query or a secret.
    """

    def __init__(
        self, network: Network, sleep: Sleep = asyncio.sleep, resolver: AbstractResolver | None = None
    ) -> None:
        """Starts a thread and touches no network. ``sleep`` waits; ``resolver``: None for the system's."""
        self.network = network
        self._background = Background("fetch")
        self.loop: asyncio.AbstractEventLoop = self._background.loop
        self._courier = self._background.run(_courier(network, sleep, resolver))
        self._background.at_end(self._courier.close)
        self._cache = ByteCache(network.cache_dir, network.cache_mb) if network.cache_dir and network.cache_mb else None
        self._versions: OrderedDict[tuple[str, Auth], Version] = OrderedDict()
        self._lock = threading.Lock()
        self._from_cache = 0

    def __enter__(self) -> Self:
        """Close at the end of a ``with`` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End all requests and the thread; keep what was fetched. May be called again."""
        self._background.close()
        if self._cache is not None:
            self._cache.close()

    @property
    def counts(self) -> Counts:
        """So far. Local files count nothing."""
        tally = self._courier.tally
        return Counts(tally.requests, tally.bytes, tally.retried, self._from_cache)

    # --- for threads --------------------------------------------------------------------------------------------

    def remember(self, href: str, origin: Origin) -> None:
        """Where a signed link was found: refused, it is looked up there. Raises ImageryError (``url.*``)."""
        place = look_at(href, self.network)
        if isinstance(place, Web):
            self._courier.links.note(place, origin)

    def ranges(self, href: str, spans: Sequence[Span], auth: Auth = _PLAIN) -> list[bytes]:
        """Bytes of each [start, stop); shorter where the file ends before. Near spans become one request."""
        place = look_at(href, self.network)
        if isinstance(place, Local):
            return self._local(href, place, spans)
        return self._background.run(self._ranges(href, place, spans, auth))

    def facts(self, href: str, auth: Auth = _PLAIN) -> Facts:
        """Size, version and first bytes, always from where the file lies: one ranged GET."""
        place = look_at(href, self.network)
        if isinstance(place, Local):
            with local.opened(place.path) as (file, version):
                self._see(href, _PLAIN, version)
                return Facts(version.size, version.tag, local.read(file, [(0, HEAD)])[0])
        return self._background.run(self._facts(href, place, auth))

    def whole(self, href: str, auth: Auth = _PLAIN, limit_mb: float = 32) -> bytes:
        """All bytes; empty where a service has nothing to say (204). More than ``limit_mb`` MiB are refused."""
        place, limit = look_at(href, self.network), int(limit_mb * MIB)
        if isinstance(place, Local):
            return self._local_whole(href, place, limit)
        return self._background.run(self._whole(href, place, auth, limit))

    def json(self, href: str, auth: Auth = _PLAIN, *, method: str = "GET", body: Any = None) -> Any:
        """A JSON document, up to 64 MiB; ``body`` is sent as JSON. What cannot be parsed is ``read.malformed``."""
        place = look_at(href, self.network)
        if isinstance(place, Local):
            return _parsed(href, self._local_whole(href, place, _DOCUMENT))
        headers = {"Accept": "application/geo+json, application/json"}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = "application/json"
        request = Request(href, place, auth, headers, method.upper(), data)
        return _parsed(href, self._background.run(self._document(request)))

    def names(self, href: str, auth: Auth = _PLAIN) -> list[str]:
        """Addresses of the objects right below ``s3://bucket/prefix/``. More than ``listing.MOST`` are refused."""
        place, found = listing.first_page(href, self.network), list[str]()
        while len(found) <= listing.MOST:
            document = self._background.run(self._document(Request(href, place, auth)))
            page = listing.parsed(document, href)
            found += [f"s3://{place.bucket}/{key}" for key in page.keys if not key.endswith("/")]
            if not page.token:
                return found
            place = listing.page_after(place, page.token)
        raise ImageryError(f"{href} holds more than {listing.MOST:,} objects", code="imagery.limits",
                           hint="give a folder of one scene, or the addresses of its files")  # fmt: skip

    # --- for the loop -------------------------------------------------------------------------------------------

    async def a_ranges(self, href: str, spans: Sequence[Span], auth: Auth = _PLAIN) -> list[bytes]:
        """As ``ranges``, to be awaited in ``loop``."""
        place = look_at(href, self.network)
        if isinstance(place, Local):
            return await asyncio.to_thread(self._local, href, place, spans)
        return await self._ranges(href, place, spans, auth)

    async def _ranges(self, href: str, place: Web | Stored, spans: Sequence[Span], auth: Auth) -> list[bytes]:
        found = await self._at_hand(href, spans, auth)
        missing = [n for n in range(len(spans)) if n not in found]
        wanted = [spans[n] for n in missing]
        groups = merge(wanted)
        asked = [self._span(Request(href, place, auth), (group.start, group.stop)) for group in groups]
        bodies = await _together(asked)
        fresh = {missing[n]: body for n, body in pieces(groups, bodies, wanted).items()}
        if self._cache is not None and fresh:
            self._cache.put(href, self._version(href, auth), [(spans[n], body) for n, body in fresh.items()])
        found |= fresh
        return [found.get(n, b"") for n in range(len(spans))]

    async def _at_hand(self, href: str, spans: Sequence[Span], auth: Auth) -> dict[int, bytes]:
        """What the node has. Only once this fetcher was let in to the file itself, so that nobody else's bytes leak."""
        version = self._version(href, auth)
        if self._cache is None or version is None:
            return {}
        kept = await asyncio.to_thread(self._cache.get, href, version, list(spans))
        found = {n: body for n, body in enumerate(kept) if body is not None}
        self._from_cache += sum(len(body) for body in found.values())
        return found

    async def _span(self, request: Request, span: Span) -> bytes:
        start, stop = span
        headers = {**IDENTITY, "Range": f"bytes={start}-{stop - 1}"}
        asked = Request(request.href, request.place, request.auth, headers)
        return (await self._courier.carry(asked, lambda answer: self._take(asked, answer, span)))[0]

    async def _take(self, request: Request, answer: Answer, span: Span) -> tuple[bytes, Version]:
        """The bytes of a span and what the answer says of the file."""
        start, stop = span
        if answer.status == UNSATISFIABLE:  # it ends before
            return b"", self._see(request.href, request.auth, version_of(answer.headers, size_of(answer) or 0))
        if answer.status in (OK, EMPTY):
            return await self._take_whole(request, answer, span)
        end, size = part_of(answer, start, stop)
        known = self._version(request.href, request.auth)
        size = size if size is not None else known.size if known else -1
        version = self._see(request.href, request.auth, version_of(answer.headers, size))
        body = await answer.body(end - start)
        if body is None or len(body) != end - start:
            raise Passing("the answer broke off")
        return body, version

    async def _take_whole(self, request: Request, answer: Answer, span: Span) -> tuple[bytes, Version]:
        """From a server that knows no ranges, where that is bearable."""
        body = await answer.body(_SMALL)
        if body is None:
            raise no_ranges(request.href)
        version = self._see(request.href, request.auth, version_of(answer.headers, len(body)))
        return body[span[0] : span[1]], version

    async def _facts(self, href: str, place: Web | Stored, auth: Auth) -> Facts:
        request = Request(href, place, auth, {**IDENTITY, "Range": f"bytes=0-{HEAD - 1}"})
        head, version = await self._courier.carry(request, lambda answer: self._take(request, answer, (0, HEAD)))
        if version.size < 0:
            raise no_ranges(href)
        return Facts(version.size, version.tag, head)

    async def _document(self, request: Request) -> bytes:
        return await self._courier.carry(request, lambda answer: _body(answer, request.href, _DOCUMENT))

    async def _whole(self, href: str, place: Web | Stored, auth: Auth, limit: int) -> bytes:
        version = self._version(href, auth)
        if version is not None and 0 < version.size <= limit:  # known as a file: it must be the same one
            return (await self._ranges(href, place, [(0, version.size)], auth))[0]
        return await self._courier.carry(Request(href, place, auth), lambda answer: _body(answer, href, limit))

    # --- local files and versions -------------------------------------------------------------------------------

    def _local(self, href: str, place: Local, spans: Sequence[Span]) -> list[bytes]:
        if any(not 0 <= start <= stop for start, stop in spans):
            raise ValueError("a span of bytes ends before it begins")
        with local.opened(place.path) as (file, version):
            self._see(href, _PLAIN, version)
            return local.read(file, spans)

    def _local_whole(self, href: str, place: Local, limit: int) -> bytes:
        with local.opened(place.path) as (file, version):
            if version.size > limit:
                raise too_large(href, limit)
            return local.read(file, [(0, version.size)])[0]

    def _version(self, href: str, auth: Auth) -> Version | None:
        with self._lock:
            return self._versions.get((href, auth))

    def _see(self, href: str, auth: Auth, version: Version) -> Version:
        """Remember the version, or find that it is another one: ReadError ``read.changed``."""
        with self._lock:
            known = self._versions.setdefault((href, auth), version)
            if len(self._versions) > _HELD:
                self._versions.popitem(last=False)
        same_tag = not known.tag or not version.tag or known.tag.removeprefix("W/") == version.tag.removeprefix("W/")
        if not same_tag or (known.size != version.size and min(known.size, version.size) >= 0):
            raise changed(href)
        return version


async def _courier(network: Network, sleep: Sleep, resolver: AbstractResolver | None) -> Courier:
    return Courier(network, sleep, resolver)


async def _together(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results; the first failure ends the others."""
    if len(work) == 1:
        return [await work[0]]
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


async def _body(answer: Answer, href: str, limit: int) -> bytes:
    if answer.status == UNSATISFIABLE:
        return b""
    body = await answer.body(limit)
    if body is None:
        raise too_large(href, limit)
    return body


def _parsed(href: str, data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        hint = "check the address; a page for people may have come instead"
        raise ReadError(f"{shown(href)} is no JSON document", code="read.malformed", hint=hint) from None
