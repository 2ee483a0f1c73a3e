"""Local files of registered items over HTTP, with byte ranges: what a client on another machine can read.

The address of a file carries its path, signed with a key of this catalogue: only what the catalogue has shown can be
asked for, and the address stays the same from one start to the next, as a run that is resumed wants it.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from fastapi import FastAPI, HTTPException
from starlette.responses import FileResponse

_SIGNED = 32
"""Characters of a signature: 128 bits."""


@dataclass(frozen=True, slots=True)
class Signs:
    """Turns paths into addresses and back."""

    key: bytes
    """Of this catalogue."""
    prefix: str
    """Path of the service in front of the address, e.g. of a proxy."""

    def publish(self, href: str) -> str:
        """The address of a local file; what is an address already stays as it is."""
        path = Path(href.removeprefix("file://"))
        if "://" in href.removeprefix("file://") or not path.is_absolute():
            return href
        token = base64.urlsafe_b64encode(str(path).encode()).decode().rstrip("=")
        return f"{self.prefix}/files/{self._signature(token)}/{token}/{quote(path.name)}"

    def path(self, signature: str, token: str) -> Path | None:
        """The file of an address, if it was signed here."""
        if not hmac.compare_digest(signature.encode(), self._signature(token).encode()):
            return None
        return Path(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode())

    def _signature(self, token: str) -> str:
        return hmac.new(self.key, token.encode(), sha256).hexdigest()[:_SIGNED]


def key_in(file: Path) -> bytes:
    """The catalogue's key, made when it is first wanted; readable by its owner alone."""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
        fresh.touch(mode=0o600)
        fresh.write_bytes(secrets.token_bytes(32))
        fresh.replace(file)
        return file.read_bytes()


def serve_files(app: FastAPI, signs: Signs) -> None:
    """Add the route of files to an application."""

    @app.get("/files/{signature}/{token}/{name}", include_in_schema=False)
    @app.head("/files/{signature}/{token}/{name}", include_in_schema=False)
    def file(signature: str, token: str, name: str) -> FileResponse:
        found = signs.path(signature, token)
        if found is None or found.name != name or not found.is_file():
            raise HTTPException(404, "there is no such file")
        return FileResponse(found)
