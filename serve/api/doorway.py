"""The first thing a request meets: which address it came by, who sent it, and how patient we are with its body.

Headers of proxies are believed where the settings say so, and taken out otherwise; behind this point every module may
read them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api.front import Front
from serve.problems import respond
from swathe.errors import Problem

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Headers = list[tuple[bytes, bytes]]
_GRACE_S = 30.0
_STRANGE = (b"%00", b"\x00")


class Doorway:
    """ASGI middleware that settles a request's address and client, and bounds the time for its body."""

    def __init__(self, app: ASGIApp, front: Front) -> None:
        """Raises ValueError for a network that is none."""
        self.app, self._front = app, front
        self._trusted = [ipaddress.ip_network(text, strict=False) for text in front.trusted_proxies]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on as its client meant it; refuse one whose address cannot be read."""
        if scope["type"] == "websocket":
            await self.app(_arrived(scope, self._trusted, self._front.public_url), receive, send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if any(mark in part for part in _parts(scope) for mark in _STRANGE):
            await respond(_NUL)(scope, receive, send)
            return
        front = self._front
        seen = _arrived(scope, self._trusted, front.public_url)
        await self.app(seen, Patient(receive, front.silence_s, front.slowest_bytes_s), _in_our_form(send))


_NUL = Problem("request.invalid", "The request cannot be read.", "the address contains NUL", status=400)
_TOO_LARGE = Problem("http.413", "The request is too large.", "its body is larger than this operation takes",
                     "large files go to /api/uploads", status=413)  # fmt: skip


def _in_our_form(send: Send) -> Send:
    """What the library says about bodies that are too large, as a problem."""
    replaced = False

    async def told(message: Message) -> None:
        nonlocal replaced
        if message["type"] == "http.response.start":
            kind = dict(message.get("headers", [])).get(b"content-type", b"")
            replaced = message["status"] == _TOO_LARGE.status and kind.startswith(b"text/plain")
            if replaced:
                answer = respond(_TOO_LARGE)
                await send({**message, "headers": answer.raw_headers})
                await send({"type": "http.response.body", "body": bytes(answer.body)})
        if not replaced:
            await send(message)

    return told


def _parts(scope: Scope) -> tuple[bytes, bytes]:
    return scope["path"].encode("utf-8", "surrogatepass"), scope.get("query_string", b"")


def _arrived(scope: Scope, trusted: Sequence[Network], public_url: str) -> Scope:
    """The scope as the client meant it. A public address that was set goes before everything that headers say."""
    peer = (scope.get("client") or ("", 0))[0]
    known = _within(peer, trusted)
    headers: Headers = scope["headers"]
    client = _client(headers, trusted) if known else None
    if public_url or not known:
        headers = [(k, v) for k, v in headers if k != b"forwarded" and not k.startswith(b"x-forwarded-")]
    seen = {**scope, "headers": headers}
    if client:
        seen["client"] = (client, 0)
    return _published(seen, public_url) if public_url else seen


def _published(scope: Scope, public_url: str) -> Scope:
    url = urlsplit(public_url)
    headers = [(k, v) for k, v in scope["headers"] if k != b"host"]
    headers.append((b"host", url.netloc.encode()))
    if url.path:
        headers.append((b"x-forwarded-prefix", url.path.encode()))
    return {**scope, "scheme": url.scheme, "headers": headers}


def _client(headers: Headers, trusted: Sequence[Network]) -> str | None:
    """The last address of the chain that is no proxy of ours: what stands before it anybody can write."""
    chain = b",".join(v for k, v in headers if k == b"x-forwarded-for").decode("latin-1").split(",")
    hops = [hop.strip() for hop in chain if hop.strip()]
    return next((hop for hop in reversed(hops) if not _within(hop, trusted)), None)


def _within(address: str, networks: Sequence[Network]) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(ip in network for network in networks)


class Patient:
    """The body of a request, message by message: a client that falls silent, or drips, is given up with 408.

    Only the time that is spent waiting for its messages counts. Between them the client waits for us: for its turn, for
    a disk.
    """

    def __init__(self, receive: Receive, silence_s: float, slowest_bytes_s: float) -> None:
        """Seconds; bytes per second."""
        self._receive, self._silence_s, self._slowest = receive, silence_s, slowest_bytes_s
        self._waited_s, self._bytes, self._whole = 0.0, 0, False

    async def __call__(self) -> Message:
        """The next message. Whoever only waits for the client to go waits as long as it takes."""
        if self._whole:
            return await self._receive()
        began = time.monotonic()
        try:
            message = await asyncio.wait_for(self._receive(), self._silence_s)
        except TimeoutError:
            raise _slow(f"nothing came for {self._silence_s:g} s") from None
        self._waited_s += time.monotonic() - began
        self._bytes += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        self._expect_pace()
        return message

    def _expect_pace(self) -> None:
        waited_s = self._waited_s
        if not self._whole and waited_s > _GRACE_S and self._bytes < self._slowest * waited_s:
            raise _slow(f"{self._bytes:,} bytes in {waited_s:.0f} s")


def _slow(detail: str) -> HTTPException:
    return HTTPException(408, detail, {"Connection": "close"})
