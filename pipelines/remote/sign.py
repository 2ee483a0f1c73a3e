"""What proves who one is, added at the moment of reading and asked for anew when it has expired."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pipelines.remote.address import Stored, Web, web
from pipelines.remote.links import Links
from pipelines.remote.network import Network
from pipelines.remote.planetary import Tokens
from pipelines.remote.stored import Bucketeer
from swathe.errors import ImageryError
from swathe.source import Auth, AuthKind

Ask = Callable[[str, Mapping[str, str]], Awaitable[Any]]
"""Get a JSON document from an address with these headers."""
_PLAIN = Auth()


@dataclass(frozen=True, slots=True)
class Signed:
    """What is sent."""

    target: Web
    """With everything that has to stand in it."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """For the target's own origin alone: a redirect to another loses them."""
    trusted: bool = False
    """The target is the configured S3 endpoint, which may be private."""


class Signer:
    """One per process, used in one event loop."""

    def __init__(self, network: Network, ask: Ask, links: Links) -> None:
        """``ask`` fetches tokens; ``links`` finds signed links anew."""
        self._network = network
        self._tokens = Tokens(network.secrets, ask)
        self._buckets = Bucketeer(network)
        self._links = links

    async def sign(self, place: Web | Stored, auth: Auth) -> Signed:
        """What to send. Raises InputError (``secret.missing``), ReadError.

        Also ImageryError: ``url.insecure``, ``url.credentials``, ``url.bucket``.
        """
        if isinstance(place, Stored):
            check_bucket(place, self._network, auth)
            url, headers = await self._buckets.sign(place, auth)
            # The endpoint of a card is anybody's; that of the environment is one's own.
            trusted = bool(self._network.s3_endpoint) and not auth.endpoint
            target = web(url, allow_private=self._network.allow_private or trusted)
            return Signed(target, headers, trusted)
        place = await self._links.current(place)
        if auth.kind in (AuthKind.NONE, AuthKind.S3):
            return Signed(place)
        if place.origin[0] != "https" and not self._network.allow_private:
            hint = "give its https address: a credential is not sent where anyone on the way can read it"
            raise ImageryError(f"{place.origin[1]} is addressed without encryption", code="url.insecure", hint=hint)
        if auth.kind is AuthKind.PLANETARY_COMPUTER:
            return Signed(await self._tokens.sign(place, auth))
        return self._plain(place, auth)

    def _plain(self, place: Web, auth: Auth) -> Signed:
        if not _meant_for(place.origin[1], auth.hosts):
            raise ImageryError(
                f"the credential of this source is not sent to {place.origin[1]}",
                code="url.credentials",
                hint="if it belongs there, add the host to auth.hosts of the source's card",
            )
        secret = self._network.secrets.need(auth.secret)
        if auth.kind is AuthKind.BEARER:
            return Signed(place, {"Authorization": f"Bearer {secret}"})
        if auth.kind is AuthKind.BASIC:
            return Signed(place, {"Authorization": "Basic " + base64.b64encode(secret.encode()).decode()})
        if auth.kind is AuthKind.HEADER:
            return Signed(place, {auth.name: secret})
        pair = f"{quote(auth.name, safe='')}={quote(secret, safe='')}"
        return Signed(Web(f"{place.url}{'&' if '?' in place.url else '?'}{pair}", place.origin))

    async def renew(self, place: Web | Stored, auth: Auth, used: Signed, answer: Mapping[str, str]) -> bool:
        """After a refusal of ``used``, with the headers of the answer: whether signing again may help."""
        if isinstance(place, Stored):
            return await self._buckets.renew(place, auth, used.headers, answer)
        if self._links.knows(place) and await self._linked_anew(place, auth, used):
            return True
        if auth.kind is AuthKind.PLANETARY_COMPUTER:
            return self._tokens.drop(place, auth, used.target)
        return False

    async def _linked_anew(self, place: Web, auth: Auth, used: Signed) -> bool:
        """Whether there is another link than the one that was refused: somebody else may have found it by now."""
        return (await self.sign(place, auth)).target != used.target or await self._links.renew(place)


def check_bucket(place: Stored, network: Network, auth: Auth = _PLAIN) -> None:
    """Whoever names an object reads it with credentials that may not be theirs.

    Raises ImageryError (``url.bucket``).
    """
    if network.buckets is None:
        return
    path = f"{place.bucket}/{place.key}"
    if any(path == open_ or path.startswith(f"{open_}/") for open_ in (*network.buckets, *auth.buckets)):
        return
    raise ImageryError(
        f"the bucket {place.bucket} is not read with the credentials of this service",
        code="url.bucket",
        hint="give an https address or an upload; whoever runs the service opens buckets with SWATHE_S3_BUCKETS",
    )


def _meant_for(host: str, hosts: tuple[str, ...]) -> bool:
    """Whether a host, or one that it lies below, is named."""
    return any(host == name or host.endswith(f".{name}") for name in hosts)
