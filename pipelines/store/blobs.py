"""Bytes under names, whole or not there: one protocol for a folder and for object storage."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

from swathe.errors import OutputError

NOTHING = ""
"""As the version that is expected: nothing lies there yet."""
DAY = timedelta(days=1)
LONGEST = 7 * DAY
"""That a signed address may be good for: S3's own limit."""
_LENGTH = 900
"""Bytes of a name; S3 takes 1024 with its prefix."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]")


class Conflict(Exception):  # noqa: N818  a state of the world; who asked decides what it means
    """Something else lies there than was expected."""


@dataclass(frozen=True, slots=True)
class Blob:
    """What is known of one object without reading it."""

    name: str
    """Below the place."""
    size: int
    """Bytes."""
    version: str
    """Changes with the content: an ETag; of a file its size, time and inode."""
    modified: datetime
    """By the clock of the store."""


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """How object storage is reached; a value, read from the environment at the entry points only."""

    endpoint: str = ""
    """Address of an S3 other than Amazon's (``AWS_ENDPOINT_URL``)."""
    region: str = ""
    """Empty: what AWS's own settings say, else us-east-1."""
    anonymous: bool = False
    """Do not sign (``AWS_NO_SIGN_REQUEST``)."""
    key: str = field(default="", repr=False)
    """Access key; empty: AWS's own chain of environment, profiles and roles, on each machine anew."""
    secret: str = field(default="", repr=False)
    """Belongs to ``key``."""
    token: str = field(default="", repr=False)
    """Of a session."""
    timeout_s: float = 120.0
    """Of one request, 8 MiB at most."""
    patience_s: float = 120.0
    """How long one request is tried again while the store fails or throttles."""


class Blobs(Protocol):
    """A place for objects. A value: it travels to workers, and opens its connections where it is used.

    Every method may raise OutputError (``output.denied``, ``.credentials``, ``.bucket``, ``.unreachable``, ``.full``,
    ``.name``); those that read raise FileNotFoundError where nothing lies under the name.
    """

    @property
    def place(self) -> str:
        """As people may see it: a path, or ``s3://bucket/prefix``."""
        ...

    def below(self, prefix: str) -> Blobs:
        """The part of it under ``prefix``."""
        ...

    def put(self, name: str, content: bytes, *, over: str | None = None) -> str:
        """Write an object whole, and give its version.

        ``over``: the version that must lie there, or ``NOTHING``; else Conflict is raised and nothing is written.
        """
        ...

    def put_file(self, name: str, path: Path, *, keep: bool = True) -> None:
        """Write a file of any size, in parts; it appears when all of it has arrived.

        ``keep``: whether it is needed where it is; else it may be gone there.
        """
        ...

    def get(self, name: str) -> bytes:
        """An object whole."""
        ...

    def get_range(self, name: str, start: int, stop: int) -> bytes:
        """Bytes ``start .. stop`` of it, fewer where it ends before."""
        ...

    def fetch(self, name: str, path: Path) -> None:
        """An object into a file, which appears when it is whole. Memory: some MB."""
        ...

    def look(self, name: str) -> Blob | None:
        """What lies under a name, if anything does."""
        ...

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Everything below a prefix that ends at a ``/``, in no promised order; what is being written is left out."""
        ...

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects; that one is not there is no error."""
        ...

    def sign(self, name: str, method: Literal["GET", "PUT"], valid: timedelta) -> str | None:
        """An address that lets whoever holds it do this until it expires; None where the place has no addresses."""
        ...


def open_blobs(text: str | Path, settings: StoreSettings | None = None) -> Blobs:
    """The place that was typed: a folder, or ``s3://bucket/prefix``. Nothing is touched yet.

    Raises OutputError (``output.scheme``, ``output.bucket``).
    """
    if not is_stored(text):
        from pipelines.store.folder import FolderBlobs

        return FolderBlobs(Path(text).expanduser().absolute())
    from pipelines.store.s3 import S3Blobs

    bucket, _, prefix = str(text)[len("s3://") :].partition("/")
    prefix = prefix.strip("/")
    if not _BUCKET.fullmatch(bucket):
        raise OutputError(f"{bucket!r} is no name of a bucket", code="output.bucket", field="--out",
                          hint="write s3://BUCKET/PREFIX")  # fmt: skip
    return S3Blobs(bucket, checked(prefix) if prefix else "", settings or StoreSettings())


def is_stored(text: str | Path) -> bool:
    """Whether this names object storage. Raises OutputError (``output.scheme``) for an address of another kind."""
    if isinstance(text, Path):
        return False
    match = _SCHEME.match(text)
    if match and match[1].lower() != "s3":
        raise OutputError(f"{match[0]} is no place that results are written to", code="output.scheme", field="--out",
                          hint="give a folder, or s3://BUCKET/PREFIX")  # fmt: skip
    return match is not None


def checked(name: str) -> str:
    """A name that stays below its place, on any kind of store. Raises OutputError (``output.name``)."""
    parts = name.split("/")
    strange = any(part in ("", ".", "..") for part in parts) or "\\" in name or not name.isprintable()
    if strange or len(name.encode()) > _LENGTH:
        raise OutputError(f"{name[:80]!r} cannot be the name of an object", code="output.name",
                          hint="use letters, digits, dots and single slashes")  # fmt: skip
    return name


def expiring(valid: timedelta) -> timedelta:
    """How long an address is good for. Raises ValueError where S3 would not have it."""
    if not timedelta(seconds=1) <= valid <= LONGEST:
        msg = f"a signed address is good for a second to seven days, not {valid}"
        raise ValueError(msg)
    return valid
