"""One request, carried to its end: signed, sent, redirected, tried again. Lives in one event loop."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urljoin

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from pipelines.remote import local
from pipelines.remote.address import Local, Stored, Web, look_at, web
from pipelines.remote.answer import DENIED, FAILURES, LAPSED, REDIRECTS, Answer, Passing, broken, fault, lost
from pipelines.remote.gate import CheckedResolver, CheckedSockets
from pipelines.remote.links import Links
from pipelines.remote.network import Network
from pipelines.remote.sign import Signed, Signer
from pipelines.remote.stored import REGION
from swathe.errors import ImageryError, ReadError
from swathe.imagery import shown
from swathe.source import Auth

T = TypeVar("T")
Take = Callable[[Answer], Awaitable[T]]
Sleep = Callable[[float], Awaitable[object]]
HOPS = 5
"""Redirects that are followed."""
_RENEWALS = 2
"""Of a region, and of credentials."""
_MOVED_S = 240.0
"""So long the target of a redirect is asked directly; signed ones live longer."""
_HELD = 4096
_SMALL = 64 << 10
"""A refusal's body up to here is read, so that the connection can be used again."""
_TOKEN_BYTES = 1 << 20
_ITEM_BYTES = 64 << 20
_PLAIN = Auth()
IDENTITY = {"Accept-Encoding": "identity"}


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted."""

    href: str
    """As it was published; what messages name, without its secrets."""
    place: Web | Stored
    """What it means."""
    auth: Auth
    """How one proves who one is."""
    headers: Mapping[str, str] = field(default_factory=lambda: IDENTITY)
    """Beside those of the signature."""
    method: str = "GET"
    body: bytes | None = None


@dataclass(slots=True)
class Tally:
    """What was done so far."""

    requests: int = 0
    bytes: int = 0
    retried: int = 0


class _Host:
    """One server: who may ask it now."""

    def __init__(self, room: int) -> None:
        self.room = asyncio.Semaphore(room)
        self.calm_until = 0.0
        self.known = False
        """Whether it ever answered."""

    def hush(self, seconds: float) -> None:
        """It asked to be left in peace for so long."""
        self.calm_until = max(self.calm_until, time.monotonic() + seconds)

    async def calm(self, sleep: Sleep) -> None:
        """Wait as long as it asked for, and a little longer, so that not all come back at once.

        Where it asked anew in the meantime, that long as well.
        """
        waited_for = 0.0
        while self.calm_until > max(waited_for, time.monotonic()):
            waited_for = self.calm_until
            left = waited_for - time.monotonic()
            await sleep(left * (1 + 0.1 * random.random()))  # noqa: S311  jitter, no secret


@dataclass(frozen=True, slots=True)
class _Moved:
    signed: Signed
    target: Web
    until: float


class Courier:
    """Connections are kept and used again; at most ``Network.per_host`` requests run at once to one server."""

    def __init__(self, network: Network, sleep: Sleep, resolver: AbstractResolver | None = None) -> None:
        """To be made in the loop. ``resolver``: None for the system's."""
        self._network, self._sleep = network, sleep
        self.tally = Tally()
        self.links = Links(network, self._item)
        self._signer = Signer(network, self._document, self.links)
        self._hosts: defaultdict[tuple[str, str, int], _Host] = defaultdict(lambda: _Host(network.per_host))
        self._moved: dict[tuple[Web | Stored, Auth], _Moved] = {}
        self._guarded = _session(resolver, allow_private=network.allow_private)
        self._trusted = _session(resolver, allow_private=True) if network.s3_endpoint else self._guarded

    async def close(self) -> None:
        """Close all connections."""
        await self._guarded.close()
        await self._trusted.close()

    async def carry(self, request: Request, take: Take[T]) -> T:
        """What ``take`` makes of the answer, 2xx or 416.

        Raises ReadError, ImageryError, and whatever ``take`` raises; Passing is tried again.
        """
        return await self._insist(request.href, lambda: self._renewed(request, take))

    async def _insist(self, href: str, once: Callable[[], Awaitable[T]]) -> T:
        retry = self._network.retry
        attempts = max(1, retry.attempts)
        for attempt in range(1, attempts + 1):
            try:
                return await once()
            except Passing as error:
                if attempt == attempts:
                    raise lost(href, str(error)) from None
                self.tally.retried += 1
                pause = retry.pause_s(attempt, "http://")
                if (error.retry_after or 0.0) < pause:  # else the server is left in peace before the next question
                    await self._sleep(pause)
        raise AssertionError(shown(href))  # unreachable: the last attempt returns or raises

    async def _renewed(self, request: Request, take: Take[T]) -> T:
        """Signed anew where a refusal may have been for that."""
        for _ in range(_RENEWALS):
            try:
                return await self._once(request, take)
            except _Refused as refused:
                if not await refused.renew(self._signer, request):
                    raise refused.fault from None
                self.tally.retried += 1
        try:
            return await self._once(request, take)
        except _Refused as refused:
            raise refused.fault from None

    async def _once(self, request: Request, take: Take[T]) -> T:
        """Signed, and followed to where the answer is."""
        key = (request.place, request.auth)
        moved = self._moved.get(key)
        if moved is not None and moved.until > time.monotonic() and request.method == "GET":
            try:
                return await self._follow(request, moved.signed, moved.target, take)
            except (_Refused, ReadError):  # the short cut may have expired: ask at the old address
                self._moved.pop(key, None)
            except Passing:  # it may be out of order, and the next question may be led to another
                self._moved.pop(key, None)
                raise
        signed = await self._signer.sign(request.place, request.auth)
        return await self._follow(request, signed, signed.target, take)

    async def _follow(self, request: Request, signed: Signed, target: Web, take: Take[T]) -> T:
        for _ in range(HOPS + 1):
            found = await self._exchange(request, signed, target, take)
            if not isinstance(found, _Elsewhere):
                if target != signed.target and request.method == "GET":
                    self._remember(request, signed, target)
                return found
            target = redirected(target, found.location, allow_private=self._network.allow_private)
        hint = "give the address that it leads to"
        raise ImageryError(f"{shown(request.href)} redirects without end", code="url.redirects", hint=hint)

    def _remember(self, request: Request, signed: Signed, target: Web) -> None:
        self._moved[request.place, request.auth] = _Moved(signed, target, time.monotonic() + _MOVED_S)
        if len(self._moved) > _HELD:
            self._moved.pop(next(iter(self._moved)))

    async def _exchange(self, request: Request, signed: Signed, target: Web, take: Take[T]) -> T | _Elsewhere:
        """One question, one answer. Credentials go to the origin they are meant for, and nowhere else."""
        host, timeout_s = self._hosts[target.origin], self._network.retry.timeout_s
        own = target.origin == signed.target.origin
        session = self._trusted if own and signed.trusted else self._guarded
        headers = {**request.headers, **(signed.headers if own else {})}
        async with host.room:
            await host.calm(self._sleep)  # here, as others may have been told to wait while this one queued
            self.tally.requests += 1
            answer = None
            try:
                async with (
                    asyncio.timeout(timeout_s) as clock,
                    session.request(
                        request.method, URL(target.url, encoded=True), headers=headers, data=request.body,
                        allow_redirects=False,
                    ) as response,
                ):  # fmt: skip
                    host.known = True
                    answer = Answer(response, clock, timeout_s)
                    return await self._judge(request, signed, answer, take)
            except FAILURES as error:
                raise broken(request.href, error, timeout_s, known=host.known) from None
            except Passing as error:
                if error.retry_after is not None:
                    host.hush(error.retry_after)
                raise
            finally:
                self.tally.bytes += answer.received if answer is not None else 0

    async def _judge(self, request: Request, signed: Signed, answer: Answer, take: Take[T]) -> T | _Elsewhere:
        status = answer.status
        if 200 <= status < 300 or status == 416:  # noqa: PLR2004  HTTP's numbers
            return await take(answer)
        if (answer.length or 0) <= _SMALL:
            await answer.body(_SMALL)
        location = answer.headers.get("Location")
        strayed = isinstance(request.place, Stored) and status in (301, 307, 400) and REGION in answer.headers
        if status in REDIRECTS and location and not strayed:
            return _Elsewhere(location)
        found = fault(request.href, answer)
        lapsed = status in LAPSED and isinstance(request.place, Web) and self.links.knows(request.place)
        if status in DENIED or strayed or lapsed:
            raise _Refused(found, signed, answer.headers)
        raise found

    async def _document(self, url: str, headers: Mapping[str, str]) -> Any:
        """For the signer: a small JSON document."""
        place = web(url, allow_private=self._network.allow_private)
        if headers and place.origin[0] != "https" and not self._network.allow_private:
            hint = "correct sas_url in the source's card"
            raise ImageryError(f"{place.origin[1]} is addressed without encryption", code="url.insecure", hint=hint)

        async def take(answer: Answer) -> Any:
            return _parsed(await answer.body(_TOKEN_BYTES))

        # The headers travel as a signature does, so that a redirect to another host loses them.
        signed, request = Signed(place, headers), Request(url, place, _PLAIN)
        try:
            return await self._insist(url, lambda: self._follow(request, signed, place, take))
        except _Refused as refused:
            raise refused.fault from None

    async def _item(self, href: str, auth: Auth) -> Any:
        """For links: the document that they were found in, read as any other."""
        place = look_at(href, self._network)
        if isinstance(place, Local):
            return _parsed(await asyncio.to_thread(_text_of, place))

        async def take(answer: Answer) -> bytes | None:
            return await answer.body(_ITEM_BYTES)

        accept = {"Accept": "application/geo+json, application/json"}
        return _parsed(await self.carry(Request(href, place, auth, accept), take))


class _Refused(Exception):  # noqa: N818  may turn out well
    """401 or 403, or what S3 says to a request for another region."""

    def __init__(self, fault: Exception, signed: Signed, headers: Mapping[str, str]) -> None:
        super().__init__(str(fault))
        self.fault, self._signed, self._headers = fault, signed, headers

    async def renew(self, signer: Signer, request: Request) -> bool:
        """Whether signing again may help."""
        return await signer.renew(request.place, request.auth, self._signed, self._headers)


def _parsed(text: bytes | None) -> Any:
    """JSON; None for anything else."""
    try:
        return json.loads(text or b"")
    except (ValueError, RecursionError):
        return None


def _text_of(place: Local) -> bytes | None:
    with local.opened(place.path) as (file, version):
        return local.read(file, [(0, version.size)])[0] if version.size <= _ITEM_BYTES else None


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    location: str


def redirected(target: Web, location: str, *, allow_private: bool) -> Web:
    """Where a redirect leads: checked as any address, and never from https to what anyone could read or change.

    Raises ImageryError (``url.*``).
    """
    found = web(urljoin(target.url, location), allow_private=allow_private)
    if target.origin[0] == "https" and found.origin[0] != "https" and not allow_private:
        hint = "ask the provider for an https address"
        raise ImageryError(f"{target.origin[1]} redirects to what is not encrypted", code="url.insecure", hint=hint)
    return found


def _session(resolver: AbstractResolver | None, *, allow_private: bool) -> aiohttp.ClientSession:
    """Proxies of the environment are not used: behind one, nobody could check what is connected to."""
    connector = aiohttp.TCPConnector(
        limit=0,  # _Host counts
        resolver=CheckedResolver(resolver or aiohttp.ThreadedResolver(), allow_private=allow_private),
        socket_factory=CheckedSockets(allow_private=allow_private),
        ttl_dns_cache=60,
        keepalive_timeout=30,
    )
    return aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"User-Agent": "swathe"},
        read_bufsize=1 << 20,
        trust_env=False,
    )
