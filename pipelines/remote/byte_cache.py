"""Bytes fetched over a network, kept on the node for whoever needs them next: neighbouring chunks share blocks."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp

from pipelines.remote.answer import Version
from pipelines.remote.ranges import Span

_MAGIC = b"swk1"
_HEAD = len(_MAGIC) + 4
_SWEEP = 32 << 20
"""Bytes written by one process between two looks at the size of the folder."""
_FRESH_S = 30.0
"""A file read again so soon is not marked as used once more; nor is it swept while it may be half-written."""
_WAITING = 64 << 20
"""Bytes that may wait to be written; more are not kept."""
_SIGNATURE = re.compile(
    r"x-(amz|goog)-.*|awsaccesskeyid|googleaccessid|signature|expires|policy|key-pair-id|token|s[eiprtv]g?|spr|sk[a-z]+",
    re.IGNORECASE,
)


class ByteCache:
    """Spans as files in a folder that all processes of a node share; those longest unused go first.

    A file is whole or not there, and checked when it is read. Losing any of it costs a request, so trouble with the
    disk is no error. Memory: up to 64 MB that wait to be written.
    """

    def __init__(self, folder: Path, bound_mb: int) -> None:
        """Nothing is touched before the first span is kept."""
        self._folder, self._bound = folder, bound_mb << 20
        self._lock = threading.Lock()
        self._waiting = 0
        self._unswept = self._bound  # the first write looks at what others left
        self._mine: bool | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="kept")

    def get(self, href: str, version: Version | None, spans: list[Span]) -> list[bytes | None]:
        """What is here. Without a version nothing is: the file may have been replaced."""
        if version is None or not version.strong or not self._private():
            return [None] * len(spans)
        return [self._read(self._path(href, version, span), span) for span in spans]

    def put(self, href: str, version: Version | None, found: list[tuple[Span, bytes]]) -> None:
        """Keep them, some time soon."""
        size = sum(len(body) for _, body in found)
        if version is None or not version.strong:
            return
        with self._lock:
            if self._waiting + size > _WAITING:
                return
            self._waiting += size
        with suppress(RuntimeError):  # closed
            self._writer.submit(self._store, href, version, found, size)

    def close(self) -> None:
        """Write what waits."""
        self._writer.shutdown()

    def _read(self, path: Path, span: Span) -> bytes | None:
        with suppress(OSError):
            raw = path.read_bytes()
            body = raw[_HEAD:]
            if len(body) == span[1] - span[0] and raw[:_HEAD] == _head(body):
                if time.time() - path.stat().st_mtime > _FRESH_S:
                    os.utime(path)
                return body
            path.unlink()
        return None

    def _store(self, href: str, version: Version, found: list[tuple[Span, bytes]], size: int) -> None:
        try:
            with suppress(OSError):
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                if self._private():
                    for span, body in found:
                        if len(body) == span[1] - span[0]:
                            self._write(self._path(href, version, span), body)
                    self._sweep(size)
        finally:
            with self._lock:
                self._waiting -= size

    def _write(self, path: Path, body: bytes) -> None:
        path.parent.mkdir(exist_ok=True, mode=0o700)
        handle, fresh = mkstemp(prefix=".", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_head(body))
                file.write(body)
            Path(fresh).replace(path)
        except BaseException:
            Path(fresh).unlink(missing_ok=True)
            raise

    def _private(self) -> bool:
        """Whether the folder is there and ours: nobody else may put pixels into it."""
        if not self._mine:
            with suppress(OSError):
                facts = self._folder.stat()
                self._mine = facts.st_uid == os.geteuid() and not facts.st_mode & 0o022
        return bool(self._mine)

    def _path(self, href: str, version: Version, span: Span) -> Path:
        text = f"{unsigned(href)}\n{version.size}\n{version.tag}\n{span[0]}-{span[1]}"
        name = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
        return self._folder / name[:2] / name[2:40]

    def _sweep(self, written: int) -> None:
        """Down to three quarters of the bound, when so much was written that it may be passed."""
        self._unswept += written
        if self._unswept < min(_SWEEP, self._bound // 8):
            return
        self._unswept = 0
        files = [facts for folder in _scan(self._folder) if folder.is_dir() for facts in _files(folder.path)]
        total = sum(size for _, size, _ in files)
        if total <= self._bound:
            return
        for _, size, path in sorted(files):
            with suppress(OSError):
                Path(path).unlink()
            total -= size
            if total <= self._bound * 3 // 4:
                return


def unsigned(href: str) -> str:
    """The address without what changes with every signature: the same bytes have a new one every hour."""
    bare, mark, query = href.partition("#")[0].partition("?")
    pairs = [pair for pair in query.split("&") if not _SIGNATURE.fullmatch(pair.partition("=")[0])]
    return bare + mark + "&".join(pairs) if pairs else bare


def _head(body: bytes) -> bytes:
    return _MAGIC + zlib.crc32(body).to_bytes(4, "little")


def _scan(folder: Path | str) -> list[os.DirEntry[str]]:
    with suppress(OSError), os.scandir(folder) as entries:
        return list(entries)
    return []


def _files(folder: str) -> list[tuple[float, int, str]]:
    """(last use, size, path)."""
    found, now = [], time.time()
    for entry in _scan(folder):
        with suppress(OSError):
            facts = entry.stat(follow_symlinks=False)
            if not entry.name.startswith(".") or now - facts.st_mtime > 10 * _FRESH_S:
                found.append((facts.st_mtime, facts.st_size, entry.path))
    return found
