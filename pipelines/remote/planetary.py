"""Planetary Computer: short-lived tokens per storage account and container.

How its own client does it: https://github.com/microsoft/planetary-computer-sdk-for-python
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pipelines.remote.address import Web
from pipelines.remote.secrets import Secrets
from swathe.errors import ReadError
from swathe.source import Auth

_PLACE = re.compile(r"https?://([a-z0-9]{3,24})\.blob\.core\.windows\.net(?::\d+)?/([a-z0-9$-]{3,63})/")
_SIGNED = re.compile(r"[?&]sig=")
EARLY_S = 60.0
"""A token is asked for anew so long before it expires."""
_GUESS_S = 300.0
"""Of a token that does not say how long it lives."""

Key = tuple[str, str, str]
"""(where tokens are given out, storage account, container)."""


@dataclass(frozen=True, slots=True)
class Token:
    """Good for a container."""

    text: str = field(repr=False)
    """Query parameters."""
    until: float
    """Seconds since 1970."""


class Tokens:
    """Those that are in use."""

    def __init__(self, secrets: Secrets, ask: Callable[[str, Mapping[str, str]], Awaitable[Any]]) -> None:
        """``ask`` gets a JSON document; a source's ``secret`` is sent as the subscription key."""
        self._secrets, self._ask = secrets, ask
        self._tokens: dict[Key, Token] = {}
        self._doors: defaultdict[Key, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def sign(self, place: Web, auth: Auth) -> Web:
        """The address with a token; as it is where it has one, or lies in no such storage."""
        key = _key(place, auth)
        if key is None or _SIGNED.search(place.url):
            return place
        async with self._doors[key]:  # whoever comes second finds the token
            token = self._tokens.get(key)
            if token is None or token.until - time.time() < EARLY_S:
                token = self._tokens[key] = await self._fetch(key, auth)
        return Web(f"{place.url}{'&' if '?' in place.url else '?'}{token.text}", place.origin)

    def drop(self, place: Web, auth: Auth, used: Web) -> bool:
        """Forget the token that was refused; True where another one may be had, or is there already."""
        key = _key(place, auth)
        if key is None or used.url == place.url:
            return False
        token = self._tokens.get(key)
        if token is not None and used.url.endswith(token.text):
            del self._tokens[key]
        return True

    async def _fetch(self, key: Key, auth: Auth) -> Token:
        giver, account, container = key
        headers = {"Ocp-Apim-Subscription-Key": self._secrets.need(auth.secret)} if auth.secret else {}
        said = await self._ask(f"{giver.rstrip('/')}/{account}/{container}", headers)
        text = said.get("token") if isinstance(said, dict) else None
        if not isinstance(text, str) or not re.fullmatch(r"[\x21-\x7e]{1,4096}", text) or "#" in text:
            hint = "try again later; sas_url of the source's card is where tokens are asked for"
            raise ReadError(f"no token was given out for {account}/{container}", code="read.forbidden", hint=hint)
        return Token(text.lstrip("?"), _until(said.get("msft:expiry")))


def _key(place: Web, auth: Auth) -> Key | None:
    match = _PLACE.match(place.url)
    return (auth.sas_url, match[1], match[2]) if match else None


def _until(text: Any) -> float:
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return time.time() + _GUESS_S
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
