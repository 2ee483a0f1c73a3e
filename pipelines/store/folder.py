"""Objects as files of a folder: written beside, made durable, renamed into place."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Literal
from uuid import uuid4

from pipelines.products.parts import refusals
from pipelines.store.blobs import NOTHING, Blob, Blobs, Conflict, checked

_FRESH = ".fresh-"
"""Begins the names of files that are still being written."""


@dataclass(frozen=True, slots=True)
class FolderBlobs(Blobs):
    """See :class:`pipelines.store.blobs.Blobs`. Links inside the folder are not followed out of it."""

    root: Path
    """Made when something is first written."""

    @property
    def place(self) -> str:
        """The path."""
        return str(self.root)

    def below(self, prefix: str) -> FolderBlobs:
        """A folder inside."""
        return FolderBlobs(self.root / checked(prefix))

    def put(self, name: str, content: bytes, *, over: str | None = None) -> str:
        """Write a file whole; a condition is tested and kept under a lock of the folder."""
        with refusals(self.root):
            path = self._path(name)
            if over is None:
                return self._place(path, lambda file: file.write(content))
            with self._locked():
                found = self.look(name)
                if (NOTHING if found is None else found.version) != over:
                    raise Conflict(name)
                return self._place(path, lambda file: file.write(content))

    def put_file(self, name: str, path: Path, *, keep: bool = True) -> None:
        """Copy a file; one that is not kept is renamed, where it lies on the same disk."""
        with path.open("rb") as source, refusals(self.root):
            target = self._path(name)
            if keep or not _renamed(path, target):
                self._place(target, lambda file: shutil.copyfileobj(source, file, 1 << 20))

    def get(self, name: str) -> bytes:
        """Read a file."""
        return self._path(name).read_bytes()

    def get_range(self, name: str, start: int, stop: int) -> bytes:
        """Read a piece of it."""
        with self._path(name).open("rb") as file:
            file.seek(start)
            return file.read(stop - start)

    def fetch(self, name: str, path: Path) -> None:
        """Copy it out."""
        FolderBlobs(path.parent).put_file(path.name, self._path(name))

    def look(self, name: str) -> Blob | None:
        """Its size and time."""
        path = self._path(name)
        return _blob(name, path) if path.is_file() else None

    def list(self, prefix: str = "") -> Iterator[Blob]:
        """Walk the folder."""
        top = self.root / checked(prefix.rstrip("/")) if prefix else self.root
        for path in sorted(top.rglob("*")):
            if not path.name.startswith(_FRESH) and path.is_file() and not path.is_symlink():
                with suppress(FileNotFoundError):  # removed in between
                    yield _blob(path.relative_to(self.root).as_posix(), path)

    def delete(self, names: Iterable[str]) -> None:
        """Unlink them; empty folders stay."""
        with refusals(self.root):
            for name in names:
                self._path(name).unlink(missing_ok=True)

    def sign(self, name: str, method: Literal["GET", "PUT"], valid: timedelta) -> str | None:  # noqa: ARG002  the protocol's
        """A folder has no addresses: a service hands its files out itself."""
        return None

    def _path(self, name: str) -> Path:
        path = self.root / checked(name)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise FileNotFoundError(name)
        return path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f"{_FRESH}lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @staticmethod
    def _place(path: Path, write: Callable[[BinaryIO], object]) -> str:
        """Write beside, sync, rename, sync the folder: after a power cut the old file stands, or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{_FRESH}{uuid4().hex}")
        try:
            with fresh.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        _sync(path.parent)
        return _version(path)


def _renamed(path: Path, target: Path) -> bool:
    """Bring a whole file to its place as it is, made durable; False where that lies on another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync(path)
    try:
        path.replace(target)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        raise
    _sync(target.parent)
    return True


def _sync(path: Path) -> None:
    """A file, or the names in a folder, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that readers see it whole or not at all; it is not forced to the disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _blob(name: str, path: Path) -> Blob:
    facts = path.stat()
    return Blob(name, facts.st_size, _version(path), datetime.fromtimestamp(facts.st_mtime, UTC))


def _version(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_size}-{facts.st_mtime_ns}-{facts.st_ino}"
