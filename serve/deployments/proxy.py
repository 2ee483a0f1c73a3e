"""What Serve's proxy says by itself, where the API behind it does not: in our form, and with the time to come again.

Without this, a request whose process is killed gets a bare 500, and one that comes before the proxy has heard of the
API a 404 in plain text. Ray calls :func:`middlewares` in each of its proxies.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.problems import respond
from swathe.errors import ClusterError

HOOK = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.deployments.proxy.middlewares"}
"""What all of Ray's processes have in their environment, so that it does."""
_LOST = ClusterError("the process that had the request was lost", code="cluster.replica",
                     hint="send the request again, with its Idempotency-Key where it has one").problem  # fmt: skip
_STARTING = ClusterError("the service is still starting", code="cluster.starting",
                         hint="nothing was done: send the request again").problem  # fmt: skip
_NOT_FOUND, _UNAVAILABLE = 404, 503


def middlewares() -> list[Middleware]:
    """For ``ray.serve``'s HTTP proxy."""
    return [Middleware(ProxyProblems)]


class ProxyProblems:
    """ASGI middleware around Serve's proxy: its plain 404 and 503, and requests left unanswered, become problems."""

    def __init__(self, app: ASGIApp) -> None:
        """``app``: Serve's proxy."""
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; other scopes (lifespan, websockets) are passed on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begun = replaced = False

        async def told(message: Message) -> None:
            nonlocal begun, replaced
            if message["type"] == "http.response.start":
                begun, replaced = True, _is_serves(message)
                if replaced:
                    await respond(_STARTING)(scope, receive, send)
            if not replaced:
                await send(message)

        await self.app(scope, receive, told)
        if not begun:
            await respond(_LOST)(scope, receive, send)


def _is_serves(message: Message) -> bool:
    """The API refuses nothing in plain text."""
    kind = dict(message.get("headers", [])).get(b"content-type", b"")
    return message["status"] in (_NOT_FOUND, _UNAVAILABLE) and kind.startswith(b"text/plain")
