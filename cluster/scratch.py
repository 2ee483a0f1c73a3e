"""Ray's own folders: one per Ray, private, with a path short enough for its sockets, and gone when it is."""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil

from cluster import atomic
from swathe.errors import SwatheError

_PREFIX = "swathe-ray-"
_ROOM = 40
"""Bytes left for the folder: a socket's path ends at 103 (macOS) and Ray appends up to 63."""


def make() -> Path:
    """A new folder for a Ray of this process; what dead processes left behind is cleared away.

    Raises OutputError (``output.full``), ClusterError (``cluster.data_dir``).
    """
    usual = tempfile.gettempdir()
    parent = usual if len(os.fsencode(usual)) + len(f"/{_PREFIX}12345678") <= _ROOM else "/tmp"  # noqa: S108  mkdtemp makes it private
    sweep(Path(parent))
    with atomic.told(Path(parent)):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    try:
        give(folder, os.getpid())
    except SwatheError:
        remove(folder)
        raise
    return folder


def give(folder: Path, pid: int) -> None:
    """Let a folder live as long as process ``pid``. Raises as ``make`` does."""
    with atomic.told(folder):
        (folder / "owner").write_text(f"{pid} {birth(pid)} {_namespace()}")


def remove(folder: Path) -> None:
    """Delete a folder and all that is in it; one that is gone is fine."""
    shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Delete the folders of this user whose process is gone; those of other containers are not ours to judge."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError, ValueError):
            pid, born, namespace = (folder / "owner").read_text().split()
            if folder.stat().st_uid == os.getuid() and namespace == _namespace() and birth(int(pid)) != float(born):
                remove(folder)


def birth(pid: int) -> float:
    """When a process was born, in seconds since 1970; 0 where none of that number runs; a zombie does not."""
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    return 0.0


def _namespace() -> str:
    """Numbers of processes mean something within one of these only (containers may share /tmp)."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return "-"
