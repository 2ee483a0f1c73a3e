"""The gate at the connection: a name is resolved once, its numbers are checked, and those numbers are connected to."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from pipelines.remote.address import check_ip, reach_of


class CheckedResolver(AbstractResolver):
    """aiohttp connects to what this gives, so nobody can change the answer in between."""

    def __init__(self, inner: AbstractResolver, *, allow_private: bool) -> None:
        """``inner`` resolves."""
        self._inner, self._allow_private = inner, allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """As ``inner``. One number that is not allowed is enough to refuse the name: ImageryError ``url.private``."""
        found = await self._inner.resolve(host, port, family)
        for one in found:
            number = ipaddress.ip_address(one["host"].partition("%")[0])
            check_ip(number, host, allow_private=self._allow_private)
        return found

    async def close(self) -> None:
        """Close ``inner``."""
        await self._inner.close()


class CheckedSockets:
    """The last look, at the number that a socket is about to connect to, however it came about."""

    def __init__(self, *, allow_private: bool) -> None:
        """See ``Network.allow_private``."""
        self._allow_private = allow_private

    def __call__(self, info: tuple[Any, ...]) -> socket.socket:
        """A socket for an answer of getaddrinfo. Raises PermissionError."""
        family, kind, proto, _, place = info
        reach = reach_of(ipaddress.ip_address(str(place[0]).partition("%")[0]))
        if reach != "public" and not (reach == "private" and self._allow_private):
            raise PermissionError("connections to this address are not allowed")
        return socket.socket(family, kind, proto)
