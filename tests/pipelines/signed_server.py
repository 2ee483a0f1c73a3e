"""Signed links that expire, over real HTTP: a server of files that takes no others, and a STAC API that gives them out.

with SignedFiles(folder) as files, SignedApi(items, sign=files.sign) as api:
    …                # every answer of the API carries fresh links
    files.expire()   # those given out so far are refused from now on
"""

from __future__ import annotations

import copy
import hashlib
import hmac
import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.pipelines.remote_server import Asked, Reply, Server, part
from tests.pipelines.stac_server import StacServer

WORD = "X-Signature"
"""Stands in every link, and nowhere else."""


class SignedFiles(Server):
    """Files of a folder, or ``contents`` by name, for whoever has a link that is good now."""

    def __init__(self, folder: Path | None = None, contents: dict[str, bytes] | None = None) -> None:
        super().__init__(self._file)
        self._folder, self._contents = folder, contents or {}
        self._key = secrets.token_bytes(16)
        self.status = 403
        """What is said to all others."""
        self.expire_at: tuple[int, ...] = ()
        """Requests, counted from 0, before which all links expire."""
        self.refused = self.given = 0
        self._numbers = itertools.count()

    def sign(self, name: str) -> str:
        """A link to a file; one by one they differ, as the clock does in real ones."""
        self.given += 1
        return f"{self.url(quote(name))}?n={self.given}&{WORD}={self._signature(name, str(self.given))}"

    def expire(self) -> None:
        """All links that were given out so far."""
        self._key = secrets.token_bytes(16)

    def _signature(self, name: str, number: str) -> str:
        return hmac.new(self._key, f"{name}\n{number}".encode(), hashlib.sha256).hexdigest()

    def _file(self, asked: Asked) -> Reply:
        if next(self._numbers) in self.expire_at:
            self.expire()
        parts = urlsplit(asked.target)
        name, query = unquote(parts.path).lstrip("/"), parse_qs(parts.query)
        good = self._signature(name, query.get("n", [""])[0])
        if not hmac.compare_digest(query.get(WORD, [""])[0], good):
            self.refused += 1
            return Reply(self.status)
        if name in self._contents:
            return part(self._contents[name], asked)
        path = self._folder / name if self._folder else None
        return part(path.read_bytes(), asked) if path and path.is_file() else Reply(404)


@dataclass
class SignedApi(StacServer):
    """Signs ``href`` of every asset whenever it gives an item out."""

    sign: Callable[[str], str] = field(default=str)

    def answer(self, asked: Any) -> Any:
        found = super().answer(asked)
        if isinstance(found, dict) and {"features", "assets"} & set(found):
            found = copy.deepcopy(found)
            for item in found.get("features", [found]):
                for asset in item["assets"].values():
                    asset["href"] = self.sign(asset["href"])
        return found

    @property
    def items_asked(self) -> list[str]:
        """Ids of items that were asked for one by one, in order."""
        return [a.path.rsplit("/", 1)[1] for a in self.asked if "/items/" in a.path]
