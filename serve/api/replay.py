"""Requests that are sent twice are carried out once: ``Idempotency-Key``.

The first answer is kept under user, operation and key; a repetition gets it again. Where the work itself is a
transaction of the store, the answer is kept inside it, so that no crash can come between the two.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from anyio import to_thread
from fastapi import Header
from starlette.requests import Request
from starlette.responses import Response

from serve.store import replies
from swathe.errors import ConflictError, StoreError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from serve.api.service import Service
    from serve.store.replies import Reply
    from swathe.user import Caller

_LONGEST = 255
_WAIT_S, _TURN_S = 10.0, 0.1
_SIGN_S = 5.0
"""Between two signs of life of a request that takes long."""
_log = logging.getLogger(__name__)
_SENT = ("content-type", "location", "etag")
"""Headers that belong to the answer; the others belong to the moment."""
_OK = range(200, 300)

IdempotencyKey = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=_LONGEST, pattern=r"^[\x21-\x7e]+$",
           description="Any text of your own, new for each wish. Sent again with the same wish, it gets the first "
           "answer instead of doing it twice; with another wish, 422."),
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Once:
    """One request with such a key."""

    service: Service
    caller: Caller
    operation: str
    """Method and path."""
    key: str
    body_hash: str

    def keep(self, c: Connection, answer: Response) -> None:
        """In the transaction of the work itself."""
        headers = {k: v for k, v in answer.headers.items() if k in _SENT}
        replies.keep(c, self.caller.user.id, self.operation, self.key, answer.status_code, headers, bytes(answer.body))

    def begin(self) -> Reply | None:
        """The answer that stands; None: go on. Raises ConflictError (``idempotency.*``)."""
        with self.service.desk.store.begin() as c:
            return replies.begin(c, self.caller.user.id, self.operation, self.key, self.body_hash)

    def renew(self) -> None:
        """It is still at work."""
        with self.service.desk.store.begin() as c:
            replies.renew(c, self.caller.user.id, self.operation, self.key)

    def forget(self) -> None:
        """It came to nothing: the same key may try again."""
        with self.service.desk.store.begin() as c:
            replies.forget(c, self.caller.user.id, self.operation, self.key)

    def settle(self, answer: Response) -> None:
        """After the work, where that did not keep its answer itself."""
        with self.service.desk.store.begin() as c:
            self.keep(c, answer)


Keeper = Callable[["Connection", Response], None]
"""Keeps an answer inside a transaction."""
Work = Callable[[Keeper | None], Awaitable[Response]]
"""What is done once; it may keep its answer itself."""


async def once(
    request: Request, service: Service, caller: Caller, key: str | None, work: Work
) -> Response:  # fmt: skip
    """The answer of ``work``, which is begun once per key; work that calls its argument has kept the answer itself.

    Raises what ``work`` raises and ConflictError (``idempotency.running``, ``.body``).
    """
    if key is None:
        return await work(None)
    turn = Once(service, caller, f"{request.method} {request.url.path}", key, await _hash(request, caller))
    stands = await _begun(turn)
    if stands is not None:
        return Response(stands.body, stands.status, dict(stands.headers or {}) | {"Idempotent-Replayed": "true"})
    return await _done(turn, work)


async def once_in_thread(
    request: Request, service: Service, caller: Caller, key: str | None, work: Callable[[], Response]
) -> Response:  # fmt: skip
    """The same for work that is short and waits for the store."""
    return await once(request, service, caller, key, lambda _: to_thread.run_sync(work))


async def _done(turn: Once, work: Work) -> Response:
    kept = False

    def keep(c: Connection, answer: Response) -> None:
        nonlocal kept
        turn.keep(c, answer)
        kept = True

    try:
        async with _alive(turn):
            answer = await work(keep)
    except BaseException:
        if not kept:
            await asyncio.shield(to_thread.run_sync(turn.forget))
        raise
    if not kept:
        await to_thread.run_sync(turn.settle if answer.status_code in _OK else _forgetting(turn), answer)
    return answer


@asynccontextmanager
async def _alive(turn: Once) -> AsyncIterator[None]:
    """However long it takes, nobody else begins the same; when this process dies, somebody soon may."""

    async def sign() -> None:
        while True:
            await asyncio.sleep(_SIGN_S)
            try:
                await to_thread.run_sync(turn.renew)
            except StoreError as error:
                _log.warning("%s", error.problem.line())

    signing = asyncio.create_task(sign())
    try:
        yield
    finally:
        signing.cancel()


def _forgetting(turn: Once) -> Callable[[Response], None]:
    return lambda _: turn.forget()


async def _begun(turn: Once) -> Reply | None:
    """Waits a while for a request with the same key that is at work."""
    deadline = asyncio.get_running_loop().time() + _WAIT_S
    while True:
        try:
            return await to_thread.run_sync(turn.begin)
        except ConflictError as error:
            if error.problem.code != "idempotency.running" or asyncio.get_running_loop().time() > deadline:
                raise
        await asyncio.sleep(_TURN_S)


async def _hash(request: Request, caller: Caller) -> str:
    """Of what was sent, and with what rights: a key that may less does not get the answer of one that may more."""
    asked = hashlib.sha256(f"{sorted(caller.scopes)}{request.url.query}".encode())
    asked.update(await request.body())
    return asked.hexdigest()
