"""The way to one service: requests are sent again where that is safe, and refused in our own words."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2

from swathe.client.problems import error_of, retry_after
from swathe.errors import InputError, ServiceError

LOCAL = "http://127.0.0.1:8000"
"""Where ``swathe up`` listens unless told otherwise."""
PASSING = frozenset({429, 502, 503, 504})
"""Answers that mean: not now."""
_REFUSED = frozenset({429})
"""Answers that mean that nothing was done, whatever was asked."""
_ROUTES, _EARLY = b"/-/routes for available routes", "cluster.starting"
_SAFE = frozenset({"GET", "HEAD", "PUT"})
_AT_WORK = "idempotency.running"
"""The same request, sent before an answer got lost, is still being carried out."""
_NO_TURN = "busy.turn"
"""Other uploads, mostly of the same user, are still under way; nothing of this one was read."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often, and how long."""

    tries: int = 6
    """Of one request."""
    first_s: float = 0.5
    """Before the second try; doubled each time."""
    longest_s: float = 30.0
    """Of one pause; a service that asks for more is not waited for."""
    answer_s: float = 120.0
    """Until an answer begins, and between its parts."""
    outage_s: float = 600.0
    """How long the service may be away while a job is followed."""
    turn_s: float = 3600.0
    """How long an upload comes again while the service has no turn free for it."""

    def pause(self, tried: int) -> float:
        """Seconds after so many tries; spread, so that many clients do not come back at the same moment."""
        return min(self.longest_s, self.first_s * 2**tried) * random.uniform(0.75, 1.25)  # noqa: S311  no secret


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    """Of HTTP."""
    path: str
    """Below the service's address, with its first slash."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Of the query; None: left out."""
    json: Any = None
    """Body."""
    content: Callable[[], AsyncIterator[bytes]] | bytes | None = None
    """Body as bytes; a function where it is streamed, as it may have to be sent twice."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Beside the usual ones."""
    pure: bool = False
    """Whether doing it twice is doing it once, although the method does not say so."""

    @property
    def repeatable(self) -> bool:
        """Whether it may be sent again without knowing what became of it."""
        return self.pure or self.method in _SAFE or "Idempotency-Key" in self.headers


class Link:
    """Connections to one service. The key goes to its address alone."""

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        patience: Patience | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        """Nothing is sent yet. Raises InputError (``service.url``, ``service.key``)."""
        self.url = _address(url or LOCAL)
        self.patience = patience or Patience()
        headers = {"Accept": "application/json", "User-Agent": "swathe-client"}
        if key:
            headers["Authorization"] = f"Bearer {_plain(key)}"
        self._http = httpx2.AsyncClient(
            base_url=self.url, headers=headers, transport=transport,
            timeout=httpx2.Timeout(self.patience.answer_s, connect=10.0),
        )  # fmt: skip

    async def close(self) -> None:
        """Let go of all connections."""
        await self._http.aclose()

    async def ask(self, call: Call) -> httpx2.Response:
        """The answer, read. Raises what the service's problem says, ServiceError where there is none.

        Two refusals are no answer and are waited out, however often they come: that the same request is still at work,
        for ``Patience.outage_s``, and that an upload has no turn yet, for ``Patience.turn_s``.
        """
        tried, began = 0, time.monotonic()
        while True:
            last = tried >= self.patience.tries - 1
            pause = self.patience.pause(tried)
            try:
                answer = await self._http.send(self._request(call))
            except httpx2.TransportError as error:
                if last or not (call.repeatable or _unsent(error)):
                    raise self.unreachable(error) from None
            else:
                if not answer.is_error:
                    return answer
                wait = retry_after(answer)
                if call.repeatable and time.monotonic() - began < self._borne_s(answer):
                    await asyncio.sleep(max(wait or 0.0, self.patience.first_s))
                    continue
                if last or not _again(call, answer) or (wait or 0.0) > self.patience.longest_s:
                    raise error_of(answer)
                pause = pause if wait is None else max(wait, self.patience.first_s)
            await asyncio.sleep(pause)
            tried += 1

    async def told(self, call: Call) -> Any:
        """The answer's JSON; None where it has no body. Raises as ``ask`` does."""
        answer = await self.ask(call)
        if not answer.content:
            return None
        try:
            return answer.json()
        except ValueError:
            raise ServiceError(f"{self.url}{call.path} did not answer with JSON", code="service.answer",
                               hint="check the address") from None  # fmt: skip

    @asynccontextmanager
    async def opened(self, call: Call, silence_s: float | None = None) -> AsyncIterator[httpx2.Response]:
        """An answer whose body is still to come, once and as it is; redirects are followed, without the key.

        Raises httpx2.TransportError, as only its caller knows what may be done again.
        """
        request = self._request(call)
        if silence_s is not None:
            request.extensions["timeout"] = httpx2.Timeout(silence_s, connect=10.0).as_dict()
        answer = await self._http.send(request, stream=True, follow_redirects=True)
        try:
            yield answer
        finally:
            await answer.aclose()

    def unreachable(self, error: Exception) -> ServiceError:
        """To be raised."""
        said = " ".join(str(error).split())[:200] or type(error).__name__
        return ServiceError(f"{self.url} cannot be reached: {said}", code="service.unreachable",
                            hint="is the service up? check the address")  # fmt: skip

    def _borne_s(self, answer: httpx2.Response) -> float:
        """Seconds for which this refusal is waited out; 0: it counts as one of the tries."""
        borne = {_AT_WORK: self.patience.outage_s, _NO_TURN: self.patience.turn_s}
        return borne.get(error_of(answer).problem.code, 0.0)

    def _request(self, call: Call) -> httpx2.Request:
        content = call.content() if callable(call.content) else call.content
        params = {name: value for name, value in call.params.items() if value is not None}
        return self._http.build_request(call.method, call.path, params=params, json=call.json, content=content,
                                        headers=dict(call.headers))  # fmt: skip


def passing(answer: httpx2.Response) -> bool:
    """Whether the next answer may be another one; the body of an error was read."""
    return answer.status_code in PASSING or _starting(answer)


def _starting(answer: httpx2.Response) -> bool:
    """The proxy of Ray Serve listens before it has heard of the API behind it, and says so; without us it says 404."""
    if answer.status_code == httpx2.codes.SERVICE_UNAVAILABLE:
        return error_of(answer).problem.code == _EARLY
    return answer.status_code == httpx2.codes.NOT_FOUND and _ROUTES in answer.content


def _again(call: Call, answer: httpx2.Response) -> bool:
    if answer.status_code in _REFUSED or _starting(answer):
        return True
    return call.repeatable and answer.status_code in PASSING


def _unsent(error: httpx2.TransportError) -> bool:
    return isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)


def _address(url: str) -> str:
    """Without what people paste along: the final slash, ``/api``."""
    try:
        parsed = httpx2.URL(url.strip())
    except httpx2.InvalidURL:
        parsed = httpx2.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.userinfo:
        raise InputError(
            f"{parsed.host or url.rsplit('@', maxsplit=1)[-1][:80]!r} is not the address of a service",
            code="service.url",
            field="url",
            hint=f"write it like {LOCAL}; a key is given beside it",
        )
    return str(parsed.copy_with(query=None, fragment=None)).rstrip("/").removesuffix("/api")


def _plain(key: str) -> str:
    """As it goes into a header. What was pasted with a line's end is forgiven, nothing else."""
    key = key.strip()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError("this is not a key", code="service.key", field="key", hint="it begins with swk-")
    return key
