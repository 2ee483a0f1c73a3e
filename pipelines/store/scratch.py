"""Folders for a process's passing files, gone when it is: what a killed one left is removed by the next."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
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
            shutil.rmtree(folder, ignore_errors=True)


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
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # no lock: half made, or half removed
            if _old(folder):
                shutil.rmtree(folder, ignore_errors=True)


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
