"""Tokens of an external identity provider (OpenID Connect): who vouches, for whom, until when.

A token is believed for its signature alone, by a key that the issuer publishes; which algorithms count is decided
here and not by the token. Rights come from our own store.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx2
import jwt
from jwt.exceptions import PyJWKClientConnectionError, PyJWKClientError, PyJWTError

from swathe.errors import AccessError, StoreError

ALGORITHMS = ("RS256", "ES256")
"""Signatures by a private key that only the issuer has; never ``none``, never a shared secret."""
SILENT = "access.provider"
"""Code of the error where the issuer cannot be asked."""
_LEEWAY_S = 30
"""By which clocks may differ."""
_ANSWER_S = 5.0
"""That the issuer is waited for."""
_SILENT_S = 15.0
"""That nobody asks it again after it did not answer: who comes meanwhile is told so at once."""
_LONGEST = 16_384
_PARTS = 3


def is_token(text: str) -> bool:
    """Whether this looks like a JWT; our own keys have no dots."""
    return text.count(".") == _PARTS - 1


@dataclass(slots=True)
class _Silence:
    """That an issuer did not answer a moment ago. Threads that would all wait for it do not."""

    until: float = 0.0

    @property
    def holds(self) -> bool:
        return time.monotonic() < self.until

    def begin(self) -> None:
        self.until = time.monotonic() + _SILENT_S


class _Keys(jwt.PyJWKClient):
    """Asks an issuer that did not answer no more for a while; keys that are at hand go on to count."""

    def __init__(self, silence: _Silence, address: str, **more: Any) -> None:
        super().__init__(address, **more)
        self._silence = silence

    def fetch_data(self) -> Any:
        if self._silence.holds:
            raise PyJWKClientConnectionError("it did not answer a moment ago")
        try:
            return super().fetch_data()
        except PyJWKClientConnectionError:
            self._silence.begin()
            raise


@dataclass(slots=True)
class Tokens:
    """Checks them against one issuer. Thread-safe; its keys are fetched when first needed, and kept."""

    issuer: str
    """Issuer, as a token has to name it."""
    audience: str
    """Audience, as a token has to name it."""
    kept_s: float = 300.0
    """That the issuer's keys are used without asking again."""
    cooldown_s: float = 30.0
    """Between two questions because of keys that are not known: a flood of forged tokens is no flood of requests."""
    _keys: jwt.PyJWKClient | None = field(default=None, repr=False)
    _silence: _Silence = field(default_factory=_Silence, repr=False)
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def claims(self, text: str) -> dict[str, Any]:
        """What a token says. Raises AccessError (``access.token``), StoreError where the issuer cannot be asked."""
        if len(text) > _LONGEST:
            raise _refused("too long")
        try:
            key = self._client().get_signing_key_from_jwt(text)
            return jwt.decode(
                text, key, algorithms=list(ALGORITHMS), audience=self.audience, issuer=self.issuer, leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except PyJWKClientConnectionError as error:
            raise _silent() from error
        except (PyJWKClientError, PyJWTError, ValueError) as error:
            raise _refused(_why(error)) from None

    def _client(self) -> jwt.PyJWKClient:
        with self._turn:
            if self._keys is None:
                self._keys = _Keys(self._silence, self._address(), lifespan=self.kept_s, timeout=_ANSWER_S,
                                   cooldown_duration=self.cooldown_s)  # fmt: skip
            return self._keys

    def _address(self) -> str:
        """Where the issuer says that its keys are."""
        if self._silence.holds:
            raise _silent()
        try:
            answer = httpx2.get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration", timeout=_ANSWER_S)
            return str(answer.raise_for_status().json()["jwks_uri"])
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
            self._silence.begin()
            raise _silent() from error


def _why(error: Exception) -> str:
    """In few words; nothing of the token is repeated."""
    known = {
        "ExpiredSignatureError": "it has expired", "ImmatureSignatureError": "it is not valid yet",
        "InvalidAudienceError": "it is meant for somebody else", "InvalidIssuerError": "another issuer made it",
        "InvalidAlgorithmError": "its algorithm is not taken", "MissingRequiredClaimError": "a claim is missing",
    }  # fmt: skip
    return known.get(type(error).__name__, "its signature is not the issuer's")


def _refused(why: str) -> AccessError:
    return AccessError(
        f"this token opens nothing: {why}", code="access.token", hint="ask your provider for another one"
    )


def _silent() -> StoreError:
    return StoreError("the identity provider cannot be asked for its keys", code=SILENT,
                      hint="come again in a moment, or use an API key")  # fmt: skip
