"""Links: addresses that open one thing, for one deed, for a while, to whoever holds them; no key is needed.

What a link says is in its address, under a signature (HMAC-SHA256) of this installation: nothing is kept of it, and
every process knows it again. It opens what its user may see at that moment, as long as they, and the key that it was
made with, are good.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal, Self
from urllib.parse import quote, unquote, urlsplit

from serve.store import keys, users
from serve.store.store import now, text_of
from swathe.errors import ForbiddenError, InputError, NotFoundError
from swathe.user import SCOPES_OF, Caller

if TYPE_CHECKING:
    from serve.desk.content import Content
    from serve.settings import ServiceSettings
    from serve.store.store import Store

Method = Literal["GET", "PUT"]
PATH = "/api/links"
"""Below it they are opened."""
VALID = timedelta(hours=8)
"""A link's time, where nobody says another."""
LONGEST = timedelta(days=7)
"""The most that can be asked for."""
UPLOAD = "upload"
"""The kind that can be written to, and named as imagery of a job."""
_LONGEST_NAME = 400
"""Bytes of a name in UTF-8; with all that is said beside it, it fits into a token."""
_PURPOSE = b"swathe links, first form"
_FORM = re.compile(r"[A-Za-z0-9_-]{1,1000}\.[A-Za-z0-9_-]{43}")
_OURS = re.compile(rf"{PATH}/([^/]+)/([^/]+)$")


@dataclass(frozen=True, slots=True)
class Link:
    """What the address of one says."""

    method: Method
    """GET reads, also with HEAD; PUT writes."""
    kind: str
    """Kind of the thing, a word that ``Links.offer`` was told."""
    id: str
    """Id of the thing."""
    name: str
    """Name of the file, at the end of the address."""
    user: str
    """Id of whoever made it."""
    key: str
    """Id of the key that it was made with; empty: none."""
    expires: int
    """When it expires, in seconds since 1970."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A link as it is handed out."""

    link: Link
    """What the link says."""
    token: str
    """Text in the address that opens it."""

    @property
    def path(self) -> str:
        """Path of the address, from the root of the service."""
        return f"{PATH}/{self.token}/{quote(self.link.name)}"

    @property
    def expires(self) -> str:
        """When it expires: UTC, RFC 3339."""
        return text_of(datetime.fromtimestamp(self.link.expires, UTC))


@dataclass(frozen=True, slots=True)
class Seal:
    """Signs links, and knows them again."""

    secret: bytes = field(repr=False)
    """Secret of this installation."""

    @classmethod
    def of(cls, settings: ServiceSettings) -> Self:
        """Derived from the secret of the keys' digests: no link can be taken for a digest, nor the other way round."""
        return cls(hmac.digest(settings.pepper.encode(), _PURPOSE, hashlib.sha256))

    def sign(self, link: Link) -> Signed:
        """Sign a link, as text that fits between two slashes."""
        said = _text(json.dumps(astuple(link), ensure_ascii=False, separators=(",", ":")).encode())
        return Signed(link, f"{said}.{self._signature(said)}")

    def read(self, token: str, name: str) -> Link:
        """What it says. Raises ForbiddenError (``link.invalid``: not signed here, or another name; ``.expired``)."""
        found = self.known(token, name)
        if found is None:
            raise ForbiddenError("this link opens nothing", code="link.invalid",
                                 hint="take the whole address as it was given, or ask for a new one")  # fmt: skip
        if found.expires <= time.time():
            raise ForbiddenError(f"this link was good until {Signed(found, token).expires}", code="link.expired",
                                 hint="ask for a new one")  # fmt: skip
        return found

    def known(self, token: str, name: str) -> Link | None:
        """The same of one that may be too old; None: it was not signed here."""
        if not _FORM.fullmatch(token):
            return None
        said, _, signature = token.partition(".")
        if not hmac.compare_digest(signature, self._signature(said)):
            return None
        link = Link(*json.loads(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4))))
        return link if hmac.compare_digest(link.name.encode(), name.encode("utf-8", "surrogatepass")) else None

    def of_address(self, href: str) -> Link | None:
        """A link of ours in an address by whatever name the service is reached; None: something else.

        Raises ForbiddenError (``link.expired``).
        """
        found = self._parts(href)
        return self.read(*found) if found and self.known(*found) else None

    def in_address(self, href: str) -> Link | None:
        """The same of one that may be too old."""
        found = self._parts(href)
        return self.known(*found) if found else None

    @staticmethod
    def _parts(href: str) -> tuple[str, str] | None:
        try:
            found = _OURS.search(urlsplit(href).path) if href.lower().startswith(("http://", "https://")) else None
        except ValueError:  # no address at all
            return None
        return (found[1], unquote(found[2])) if found else None

    def _signature(self, said: str) -> str:
        return _text(hmac.digest(self.secret, said.encode(), hashlib.sha256))


@dataclass(frozen=True, slots=True)
class Kind:
    """Things of one kind that links can open."""

    named: Callable[[Caller, str, str], str]
    """``(caller, id, name)``: the file name that stands at the end of the address, where they see such a thing.

    ``name``: what was asked for; may be empty. Raises NotFoundError and its kin.
    """
    content: Callable[[Caller, str, str], Content]
    """The same: what is sent."""


class Links:
    """Makes links, and opens them."""

    def __init__(self, settings: ServiceSettings, store: Store, kinds: dict[str, Kind]) -> None:
        self._seal, self._store, self._kinds = Seal.of(settings), store, dict(kinds)

    def offer(self, kind: str, how: Kind) -> None:
        """Add a kind of things that links can open."""
        self._kinds[kind] = how

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of things that links can open."""
        return tuple(sorted(self._kinds))

    def make(
        self, caller: Caller, kind: str, id_: str, name: str = "", *, method: Method = "GET", valid: timedelta = VALID
    ) -> Signed:  # fmt: skip
        """A link to a thing that they see.

        Raises NotFoundError, ForbiddenError, InputError (``link.kind``, ``link.name``).
        """
        real = self._kind(kind).named(caller, id_, name)
        _expect_name(real)
        if method == "PUT" and kind != UPLOAD:
            raise InputError(f"a link to a {kind} cannot be written to", code="link.kind", field="method")
        until = time.time() + min(valid, LONGEST).total_seconds()
        return self._seal.sign(Link(method, kind, id_, real, caller.user.id, caller.key or "", int(until)))

    def open(self, token: str, name: str, method: Method = "GET") -> tuple[Caller, Link]:
        """Whom it speaks for, and what it opens.

        Raises ForbiddenError (``link.invalid``, ``.expired``, ``.method``, ``.withdrawn``).
        """
        link = self._seal.read(token, name)
        if link.method != method:
            raise ForbiddenError(f"this link is for {link.method} alone", code="link.method")
        return self._caller(link), link

    def renewed(self, caller: Caller, href: str) -> Signed | None:
        """A fresh link to read what an address of ours leads to, however old that is; None: it is none of ours.

        Raises NotFoundError where the thing is gone or they do not see it.
        """
        link = self._seal.in_address(href)
        return None if link is None else self.make(caller, link.kind, link.id, link.name)

    def content(self, caller: Caller, link: Link) -> Content:
        """What it opens, as it is now. Raises NotFoundError where it is gone."""
        return self._kind(link.kind).content(caller, link.id, link.name)

    def _kind(self, kind: str) -> Kind:
        found = self._kinds.get(kind)
        if found is None:
            raise InputError(f"there are no links to a {kind[:40]}", code="link.kind", field="kind",
                             hint=f"known are {', '.join(self.kinds)}")  # fmt: skip
        return found

    def _caller(self, link: Link) -> Caller:
        """Whoever made it, with what they and their key may do today."""
        try:
            with self._store.read() as c:
                user, key = users.get(c, link.user), keys.get(c, link.key) if link.key else None
        except NotFoundError:
            raise _withdrawn() from None
        if not user.active or (key and not (key.active and (key.expires is None or key.expires > now()))):
            raise _withdrawn()
        scopes = SCOPES_OF[user.role]
        return Caller(user, scopes & key.scopes if key else scopes, link.key or None)


def _expect_name(name: str) -> None:
    """Raises InputError (``link.name``) for what cannot be both the end of an address and the name of a file."""
    plain = name.isprintable() and not {"/", "\\", '"'} & set(name) and name not in {"", ".", ".."}
    if not plain or len(name.encode()) > _LONGEST_NAME:
        raise InputError("this is no name of a file", code="link.name", field="name",
                         hint="leave out slashes, quotation and control characters, or make it shorter")  # fmt: skip


def _withdrawn() -> ForbiddenError:
    return ForbiddenError("whoever made this link, or the key that it was made with, is no longer let in",
                          code="link.withdrawn", hint="ask for a new one")  # fmt: skip


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
