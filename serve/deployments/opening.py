"""The API while its database is away at the start: it answers that the request may come again, instead of not at all.

Serve's proxy holds requests back while a replica is in its constructor, for as long as that takes. So the replica is up
at once, with this in the place of the API, which is made in a thread.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from serve.deployments.waiting import passes
from serve.problems import problem_of, respond
from swathe.errors import StoreError

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

_AGAIN = 1013
"""Of RFC 6455's registry: come again later."""
_log = logging.getLogger("swathe.opening")


def opened(now: Callable[[], ASGIApp], later: Callable[[], ASGIApp]) -> ASGIApp:
    """The application, or what answers until ``later``, which waits for the database, has made it.

    Raises StoreError where waiting does not help.
    """
    try:
        return now()
    except StoreError as error:
        if not passes(error):
            raise
        return Opening(later, error)


class Opening:
    """ASGI: 503 for everything but whether this process lives, until the application is there."""

    def __init__(self, make: Callable[[], ASGIApp], error: StoreError) -> None:
        """``make`` waits as long as it takes; ``error``: what is said meanwhile."""
        self._make, self._error = make, error
        self._app: ASGIApp | None = None
        self._failed: BaseException | None = None
        threading.Thread(target=self._open, name="opening", daemon=True).start()

    def check(self) -> None:
        """Raises RuntimeError where the application cannot be made: Serve tries again with a new process."""
        if self._failed is not None:
            raise RuntimeError("the API cannot be made") from self._failed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; handed on as soon as there is somebody to hand it to."""
        if self._app is not None:
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope["path"])(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": _AGAIN})
        else:
            await _lifespan(receive, send)

    def _answer(self, path: str) -> Response:
        from starlette.responses import JSONResponse

        from serve.api.health import LiveAnswer, missing

        if path.endswith("/health/livez"):
            return JSONResponse(LiveAnswer(ok=True, status="UP").model_dump())
        if path.endswith("/health/readyz"):
            return missing("database", self._error)
        return respond(problem_of(self._error))

    def _open(self) -> None:
        try:
            self._app = self._make()
        except BaseException as error:  # noqa: BLE001  told to Serve by ``check``
            _log.exception("the API cannot be made")
            self._failed = error


async def _lifespan(receive: Receive, send: Send) -> None:
    """The API has nothing to do at its start and its end."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
