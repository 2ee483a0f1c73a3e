"""Folders for a process's passing files, gone when it is: what a killed one left is removed by the next."""

from __future__ import annotations

import atexit
import fcntl
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from io import TextIOWrapper
from pathlib import Path

_LOCK = ".lock"
_YOUNG_S = 60.0
"""A folder without a lock is left alone for so long: it may just be made."""


@contextmanager
def scratch(root: Path | None = None) -> Iterator[Path]:
    """A new private folder below ``root``, which is made; else below the system's for temporary files (``TMPDIR``).

    That one may be memory, or small: it is nothing for large files. Raises OSError.
    """
    root = _usual() if root is None else root
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    sweep(root)
    folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root))
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # held while we live, however we end
        try:
            yield folder
        finally:
            remove(folder)


@lru_cache(maxsize=1)
def own_scratch() -> Path:
    """One for the whole life of this process."""
    held = scratch()
    folder = held.__enter__()
    atexit.register(held.__exit__, None, None, None)
    return folder


def _usual() -> Path:
    root = Path(tempfile.gettempdir()) / f"swathe-{os.getuid()}"
    root.mkdir(mode=0o700, exist_ok=True)
    if root.is_symlink() or root.stat().st_uid != os.getuid():  # somebody laid it there for us
        return Path(tempfile.mkdtemp(prefix="swathe-"))
    return root


def sweep(root: Path) -> None:
    """Remove what processes that are gone have left below ``root``; a lock tells whether one lives."""
    for folder in root.iterdir() if root.is_dir() else ():
        try:
            with (folder / _LOCK).open() as lock:
                if _left(lock):
                    remove(folder)
        except OSError:  # no lock: half made, or half removed
            if _old(folder):
                remove(folder)


def remove(folder: Path) -> None:
    """Remove it with all that can be removed: folders that are closed even to their owner, and nested without end.

    Nobody may be at work in it any more.
    """
    token, moved, waiting = secrets.token_hex(8), 0, [folder]
    while waiting:
        here = waiting.pop()
        for entry in _opened(here):
            path = Path(entry.path)
            with suppress(OSError):
                if not entry.is_dir(follow_symlinks=False):
                    path.unlink()
                    continue
                with suppress(OSError):
                    path.chmod(0o700)
                if here != folder:  # up to the top: no path becomes longer, however deep it was
                    moved += 1
                    path = path.rename(folder / f"{token}-{moved}")
                waiting.append(path)
        if here != folder:
            with suppress(OSError):
                here.rmdir()
    with suppress(OSError):
        folder.rmdir()


def _opened(folder: Path) -> list[os.DirEntry[str]]:
    with suppress(OSError):
        if folder.is_symlink():
            return []
        with suppress(OSError):
            folder.chmod(0o700)
        with os.scandir(folder) as entries:
            return list(entries)
    return []


def _left(lock: TextIOWrapper) -> bool:
    """Whether its process is gone; a lock that was just made and is not held yet is young."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return time.time() - os.fstat(lock.fileno()).st_mtime > _YOUNG_S


def _old(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime > _YOUNG_S
    except OSError:
        return False
