"""Bodies of any size, as they come: for threads, which ask the event loop for each piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from anyio import from_thread
from starlette.requests import Request

from serve.api.front import BODY_BYTES

ANY = 2**50
"""Bytes: the desk counts, by the limits of the service."""
OCTETS: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/octet-stream": {
    "schema": {"type": "string", "format": "binary"}}}}}  # fmt: skip
"""What FastAPI cannot see, for the OpenAPI document."""


def is_small(request: Request) -> bool:
    """Whether its header promises a body of ``BODY_BYTES`` at most, which may wait in a proxy's memory."""
    try:
        return int(request.headers.get("content-length", "")) <= BODY_BYTES
    except ValueError:  # none, or none that is a number
        return False


def pulled(request: Request) -> Iterator[bytes]:
    """Its body, for a thread."""
    return _Pulled(request.stream())


class _Pulled(Iterator[bytes]):
    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream

    def __next__(self) -> bytes:
        """Raises StopIteration at the end of the body."""
        piece = from_thread.run(self._piece)
        if piece is None:
            raise StopIteration
        return piece

    async def _piece(self) -> bytes | None:
        return await anext(self._stream, None)
