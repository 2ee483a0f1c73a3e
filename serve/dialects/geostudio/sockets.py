"""Notices of an inference by websocket, for whoever has a key."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from anyio import CancelScope, create_task_group, to_thread
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from serve.api.callers import presented, recognised
from serve.dialects.geostudio.problems import Refusal
from serve.dialects.geostudio.routes.events import followed
from serve.dialects.geostudio.routes.inference import seen
from serve.dialects.geostudio.shared import root_of
from swathe.errors import SwatheError

if TYPE_CHECKING:
    from serve.api.service import Service

_SCHEMES = {"ws": "http", "wss": "https"}
_REFUSED, _UNKNOWN, _OVER = 4401, 4404, 1000


def sockets(service: Service) -> Starlette:
    """``/inference/{id}``."""

    async def listen(socket: WebSocket) -> None:
        request = cast("Any", socket)  # it has what is asked of a request: headers, query, client
        await socket.accept()
        try:
            who = await recognised(request, service, presented(request))
            id_ = _uuid(str(socket.path_params["id"]))
            await to_thread.run_sync(seen, service.desk, who, id_)
            with service.hub.beside(who.user.id):
                await _until_gone(socket, followed(over_http(root_of(request)), service, who, id_, None))
        except SwatheError as error:
            await socket.close(_REFUSED, error.problem.line()[:100])
        except Refusal as error:
            await socket.close(_UNKNOWN, json.dumps(error.detail)[:100])
        except WebSocketDisconnect:
            return
        else:
            with suppress(RuntimeError):  # the client was quicker
                await socket.close(_OVER)

    return Starlette(routes=[WebSocketRoute("/inference/{id}", listen)])


async def _until_gone(socket: WebSocket, messages: AsyncIterator[bytes]) -> None:
    """Tell all there is to tell, or as much as somebody listens to. Raises what the messages raise."""
    wrong: list[Exception] = []
    async with create_task_group() as group:
        group.start_soon(_heard, socket, group.cancel_scope)
        try:
            async for message in messages:
                if data := _data(message):
                    await socket.send_text(data)
        except (SwatheError, Refusal, WebSocketDisconnect) as error:  # not in a group of one
            wrong.append(error)
        group.cancel_scope.cancel()
    if wrong:
        raise wrong[0]


async def _heard(socket: WebSocket, telling: CancelScope) -> None:
    """Whatever a listener says is passed over; when it goes, nobody is told any more."""
    with suppress(WebSocketDisconnect):
        while True:
            await socket.receive_text()
    telling.cancel()


def over_http(root: str) -> str:
    """The service's address, for whoever came to it by a websocket."""
    scheme, _, rest = root.partition("://")
    return f"{_SCHEMES.get(scheme, scheme)}://{rest}"


def _uuid(text: str) -> UUID:
    """Raises Refusal (404)."""
    try:
        return UUID(text)
    except ValueError:
        raise Refusal(404, f"Inference {text[:80]} not found") from None


def _data(message: bytes) -> str:
    """What follows ``data:`` in one of the stream's messages; empty in a sign of life."""
    return "\n".join(line.removeprefix("data: ") for line in message.decode().splitlines() if line.startswith("data: "))
