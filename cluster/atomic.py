"""Small files that say what runs: written whole or not at all, for their owner alone; what prevents it in our words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from swathe.errors import ClusterError, OutputError, SwatheError

_FULL = (errno.ENOSPC, errno.EDQUOT)
_ROOM = 32 << 10
"""Bytes of a record and a log, with some to spare."""


def write(file: Path, text: str) -> None:
    """Put a file in the place of the one before, which stays where that fails.

    Raises OutputError (``output.full``), ClusterError (``cluster.data_dir``).
    """
    fresh = file.with_name(f"{file.name}.new")
    with told(file.parent):
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as sink:
                sink.write(text)
            fresh.replace(file)
        except OSError:
            _drop(fresh)
            raise


def expect_room(folder: Path) -> None:
    """Raises as ``write`` does where a record would find no room: better before half a minute's work than after it."""
    probe = folder / "room"
    try:
        write(probe, " " * _ROOM)
    finally:
        _drop(probe)


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """What the system says about writing to ``folder``, as OutputError or ClusterError; our own errors pass."""
    try:
        yield
    except OSError as error:
        raise _problem(error, folder) from error


def _problem(error: OSError, folder: Path) -> SwatheError:
    if error.errno in _FULL:
        return OutputError(f"the disk of {folder} is full", hint="make room there", code="output.full")
    return ClusterError(f"cannot write to {folder}: {error.strerror or error}", hint="choose another data folder",
                        code="cluster.data_dir")  # fmt: skip


def _drop(file: Path) -> None:
    with suppress(OSError):
        file.unlink(missing_ok=True)
