"""The vocabulary of swathe: frozen values that every other room of the house speaks in.

Pure: nothing below this package may import Ray, torch, GDAL or a web framework.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swathe.client.asynchronous import AsyncClient
    from swathe.client.blocking import Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    """The client is loaded by whoever asks for it; the vocabulary must stay light."""
    if name == "Client":
        from swathe.client.blocking import Client

        return Client
    if name == "AsyncClient":
        from swathe.client.asynchronous import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
