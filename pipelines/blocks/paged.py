"""A remote file as GDAL wants files: with seek and read, fetched page by page through the one door to the network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Protocol, Self

from rasterio.abc import FileContainer

from pipelines.imagery.limits import MIB
from swathe.source import Auth

PAGE = 1 << 18
"""Bytes of a page."""
_AHEAD = 16
"""Pages that are fetched at most in one request while reading goes straight on."""
_KEPT = 32 * MIB


class Ranges(Protocol):
    """Whoever brings bytes: ``Fetcher``, or a store of our own."""

    def ranges(self, href: str, spans: Sequence[tuple[int, int]], auth: Auth) -> list[bytes]:
        """Of one file, in the order asked for."""
        ...


class PagedFile:
    """Used by one thread at a time. A page that cannot be had ends the file, and ``lost`` says why."""

    def __init__(self, fetcher: Ranges, href: str, auth: Auth, size: int, *, kept: int = _KEPT) -> None:
        """``kept``: bytes of pages, at most. Fetches nothing yet."""
        self._kept = kept
        self._fetcher, self._href, self._auth = fetcher, href, auth
        self.size = size
        self.lost: Exception | None = None
        self._pages: OrderedDict[int, bytes] = OrderedDict()
        self._at, self._next, self._stride = 0, -1, 1

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes; fewer at the end of the file, or where it was lost."""
        stop = self.size if size < 0 else min(self.size, self._at + size)
        if stop <= self._at:
            return b""
        pages = range(self._at // PAGE, -(-stop // PAGE))
        self._fetch(pages)
        whole = b"".join(self._pages.get(n, b"") for n in pages)
        data = whole[self._at - pages.start * PAGE : stop - pages.start * PAGE]
        self._at += len(data)
        self._trim()
        return data

    def _fetch(self, pages: range) -> None:
        """What is missing, and as many pages more as reading went straight on so far."""
        missing = [n for n in pages if n not in self._pages]
        if not missing:
            return
        self._stride = min(_AHEAD, self._stride * 2) if missing[0] == self._next else 1
        last = min(-(-self.size // PAGE), pages.stop + self._stride - 1)
        missing += [n for n in range(pages.stop, last) if n not in self._pages]
        self._next = last
        spans = [(n * PAGE, min(self.size, (n + 1) * PAGE)) for n in missing]
        try:
            found = self._fetcher.ranges(self._href, spans, self._auth)
        except Exception as error:  # noqa: BLE001  GDAL stands between here and whoever must hear of it
            self.lost = error
            return
        self._pages.update(zip(missing, found, strict=True))

    def _trim(self) -> None:
        while len(self._pages) * PAGE > self._kept:
            self._pages.popitem(last=False)

    def seek(self, offset: int, whence: int = 0) -> int:
        """As files do."""
        self._at = max(0, offset + (0, self._at, self.size)[whence])
        return self._at

    def tell(self) -> int:
        """As files do."""
        return self._at

    def close(self) -> None:
        """Nothing to do: pages are kept for whoever opens the file next."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        """Nothing to do."""


class OneFile(FileContainer):
    """A file system that holds one file, and tells of no other."""

    def __init__(self, name: str, file: PagedFile) -> None:
        """``name`` is the path by which GDAL asks for it."""
        self._name, self._file = name, file

    def open(self, path: str, mode: str = "r", **_options: Any) -> PagedFile:
        """The file, from its beginning."""
        if path != self._name or "r" not in mode:
            raise FileNotFoundError(path)
        self._file.seek(0)
        return self._file

    def isfile(self, path: str) -> bool:
        """Whether it is the one."""
        return path == self._name

    def isdir(self, path: str) -> bool:  # noqa: ARG002  rasterio names it
        """There are none."""
        return False

    def ls(self, path: str) -> list[str]:  # noqa: ARG002
        """Nothing: GDAL shall look for no side files."""
        return []

    def mtime(self, path: str) -> int:  # noqa: ARG002
        """Unknown."""
        return 0

    def rm(self, path: str) -> None:
        """Never."""
        raise PermissionError(path)

    def size(self, path: str) -> int:
        """Bytes."""
        return self._file.size if path == self._name else 0
