"""What somebody may fetch: a name, a size, and where the bytes are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

_TYPES = {
    ".tif": "image/tiff; application=geotiff", ".json": "application/json", ".png": "image/png", ".html": "text/html",
    ".gpkg": "application/geopackage+sqlite3", ".parquet": "application/vnd.apache.parquet", ".webp": "image/webp",
    ".zip": "application/zip", ".log": "text/plain; charset=utf-8", ".txt": "text/plain; charset=utf-8",
}  # fmt: skip


class Pieces(Protocol):
    """Bytes that lie in no single file."""

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """Those from ``start`` to before ``stop``, some at a time. Raises OutputError."""
        ...


@dataclass(frozen=True, slots=True)
class Content:
    """Something that is fetched under a name; it is the same as long as its tag is."""

    name: str
    """Name of the file, without a folder."""
    bytes: int
    """Size in bytes."""
    where: Path | str | Pieces
    """A file of this machine, a signed address in object storage, or the bytes."""
    tag: str = ""
    """Changes with the bytes; empty: not known."""

    @property
    def media_type(self) -> str:
        """The media type, by the ending of the name."""
        return media_type(self.name)


@dataclass(frozen=True, slots=True)
class Text(Pieces):
    """Bytes in memory."""

    text: bytes
    """All bytes."""

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """At once."""
        yield self.text[start:stop]


def of_path(path: Path, name: str = "", tag: str = "") -> Content:
    """A file of this machine. Raises FileNotFoundError."""
    facts = path.stat()
    return Content(name or path.name, facts.st_size, path, tag or f"{facts.st_mtime_ns:x}-{facts.st_size:x}")


def media_type(name: str) -> str:
    """The media type, by the ending of the name."""
    if name == "item.json" or name.endswith(".geojson"):
        return "application/geo+json"
    return _TYPES.get(PurePosixPath(name).suffix.lower(), "application/octet-stream")
