"""What is known of a service that was brought up: one file in its data folder, and a lock that its keeper holds."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from cluster import atomic, scratch
from swathe.errors import ClusterError, ConflictError

STARTING, READY, FAILED = "starting", "ready", "failed"


@dataclass(frozen=True, slots=True)
class Up:
    """A service, as its keeper records it."""

    pid: int
    """Of the keeper."""
    born: float
    """When that process was born (seconds since 1970); with ``pid`` it names the process for good."""
    url: str
    """Of the API."""
    state: str = STARTING
    """starting, ready or failed."""
    dashboard: str = ""
    """URL of Ray's dashboard."""
    restarts: int = 0
    """Times that a dead Ray was started again."""
    problem: dict[str, Any] | None = None
    """RFC 9457: why it did not come up."""

    @property
    def alive(self) -> bool:
        """Whether its keeper still runs."""
        return abs(scratch.birth(self.pid) - self.born) < 1

    @classmethod
    def of_this_process(cls, url: str) -> Self:
        """The record of a keeper that begins here."""
        return cls(os.getpid(), scratch.birth(os.getpid()), url)


def folder_of(data_dir: Path) -> Path:
    """Where a service keeps what is its own."""
    return data_dir / "service"


def read(data_dir: Path) -> Up | None:
    """The service of this data folder, alive or not; None: there is no (readable) record."""
    with suppress(OSError, ValueError, TypeError):
        return Up(**json.loads(_file(data_dir).read_text()))
    return None


def living(data_dir: Path) -> Up | None:
    """The service of this data folder whose keeper runs."""
    known = read(data_dir)
    return known if known and known.alive else None


def write(data_dir: Path, up: Up) -> Up:
    """Keep a record, whole or not at all. Raises OutputError (``output.full``), ClusterError (``cluster.data_dir``)."""
    atomic.write(_file(data_dir), json.dumps(asdict(up), indent=1))
    return up


def forget(data_dir: Path) -> None:
    """Nothing runs here any more."""
    _file(data_dir).unlink(missing_ok=True)


@contextmanager
def alone(data_dir: Path) -> Iterator[None]:
    """One keeper at a time per data folder. Raises ConflictError (``up.already``), ClusterError (``up.data_dir``)."""
    folder = folder_of(data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "up.lock").open("w")
    except OSError as error:
        raise ClusterError(f"cannot write to {folder}: {error.strerror}", hint="set SWATHE_DATA_DIR to another folder",
                           code="up.data_dir") from error  # fmt: skip
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise already(read(data_dir)) from None
        yield


def already(up: Up | None) -> ConflictError:
    """For a second start; to be raised."""
    where = f" at {up.url}" if up else ""
    return ConflictError(f"it is up already{where}", hint="`swathe down` stops it; another one needs another "
                         "SWATHE_DATA_DIR and --port", code="up.already")  # fmt: skip


def facts(up: Up, data_dir: Path, key: str | None) -> Mapping[str, Any]:
    """What scripts are told."""
    return {"url": up.url, "key": key, "dashboard": up.dashboard, "data_dir": str(data_dir)}


def _file(data_dir: Path) -> Path:
    return folder_of(data_dir) / "up.json"
