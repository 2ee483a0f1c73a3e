"""The run's memory on disk: events, the plan it began with, receipts of finished chunks. One writer at a time."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from swathe.errors import OutputError
from swathe.lattice import Chunk
from swathe.plan import Plan
from swathe.state import Event, State, fold, may

MAX_ATTEMPTS = 3
"""A chunk that took its worker down this often is given up and listed, so that it cannot kill actors for ever."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a chunk."""

    chunk: str
    """Its key."""
    status: str
    """done, empty (outside the area), nodata (no valid imagery) or failed."""
    pixels: int
    """It owns."""
    valid: int = 0
    """Pixels with a result."""
    lost: int = 0
    """Pixels that should have one and have none."""
    classes: dict[str, int] = field(default_factory=dict)
    """Class value (as text: JSON has no other keys) -> pixels."""
    tiles: int = 0
    """Forwards."""
    skipped: int = 0
    """Tiles without a wanted pixel."""
    failed_tiles: tuple[dict[str, Any], ...] = ()
    """Row, col and problem of each."""
    error: str = ""
    """Why the whole chunk failed."""
    seconds: dict[str, float] = field(default_factory=dict)
    """read, predict, blend, write, total."""
    peak_mb: float = 0.0
    """Resident memory of the worker."""
    cpu_s: float = 0.0
    """CPU time of the worker's process over the chunk."""
    started: float = 0.0
    """When work on it began, in seconds since 1970 by the worker's clock; 0 where it never did."""
    ended: float = 0.0
    """When its files were whole."""
    worker: str = ""
    """node:pid."""
    runtime: dict[str, Any] = field(default_factory=dict)
    """What ran the network; never mixed within one raster."""
    files: dict[str, int] = field(default_factory=dict)
    """Part files and their bytes."""

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do for this chunk."""
        return self.status != "failed"


class Ledger:
    """A run's folder: ``<out>/.swathe/``."""

    def __init__(self, out: Path) -> None:
        """Nothing is touched before :meth:`open`."""
        self.out = out
        self.folder = out / ".swathe"
        self.parts = self.folder / "parts"
        self._events: list[Event] = []

    @contextmanager
    def open(self) -> Iterator[Ledger]:
        """Hold the run's lock; a second writer is refused. Raises OutputError."""
        try:
            self.parts.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise OutputError(
                f"cannot write to {self.out}: {error.strerror}", code="output.unwritable", field="--out",
                hint="choose another folder with --out",
            ) from None  # fmt: skip
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"another run is writing to {self.out}", code="output.busy", field="--out",
                    hint="wait for it, or choose another folder",
                ) from None  # fmt: skip
            self._events = self._replay()
            yield self

    # --- events -----------------------------------------------------------------------------------------------------

    def _replay(self) -> list[Event]:
        path = self.folder / "events.jsonl"
        if not path.exists():
            return []
        events = []
        for line in path.read_text().splitlines():
            try:
                events.append(Event(**json.loads(line)))
            except (ValueError, TypeError):  # a line cut short by a crash is the last one and says nothing yet
                break
        return events

    @property
    def state(self) -> State | None:
        """Where the run stands."""
        return fold(self._events)

    @property
    def events(self) -> tuple[Event, ...]:
        """All of them, oldest first."""
        return tuple(self._events)

    def note(self, kind: str, **facts: Any) -> Event:
        """Append one event and flush it."""
        event = Event(len(self._events) + 1, datetime.now(UTC).isoformat(timespec="milliseconds"), kind, facts)
        self._events.append(event)
        with (self.folder / "events.jsonl").open("a") as log:
            log.write(json.dumps(asdict(event)) + "\n")
        return event

    def enter(self, state: State, **facts: Any) -> Event:
        """Change state, along the table only."""
        before = self.state
        if not may(before, state):
            msg = f"a run cannot go from {before} to {state}"
            raise RuntimeError(msg)
        return self.note("state", state=state.value, **facts)

    # --- the plan ---------------------------------------------------------------------------------------------------

    def keep_plan(self, plan: Plan) -> None:
        """Remember the plan, so that a resumed run is cut as it was."""
        write_whole(self.folder / "plan.pickle", pickle.dumps((plan.key, plan.chunks, plan.chunk_shape)))
        write_whole(self.folder / "plan.json", json.dumps(plan.as_dict(), indent=2, default=str).encode())

    def kept_plan(self) -> tuple[str, tuple[Chunk, ...], tuple[int, int]] | None:
        """Key, chunks and chunk shape of the run in this folder, if there is one."""
        path = self.folder / "plan.pickle"
        return pickle.loads(path.read_bytes()) if path.exists() else None  # noqa: S301  written by this very class

    # --- receipts ---------------------------------------------------------------------------------------------------

    def receipts(self) -> dict[str, Receipt]:
        """Of all chunks that are settled and whose files are whole."""
        found = (read_receipt(path) for path in sorted(self.parts.glob("*.json")))
        return {r.chunk: r for r in found if r is not None and r.settled and self._whole(r)}

    def _whole(self, receipt: Receipt) -> bool:
        sizes = ((self.parts / name, size) for name, size in receipt.files.items())
        return all(path.is_file() and path.stat().st_size == size for path, size in sizes)

    def clear(self) -> None:
        """Forget everything of an earlier run."""
        for path in (*self.parts.iterdir(), *self.folder.glob("*.json*"), *self.folder.glob("*.pickle")):
            path.unlink(missing_ok=True)
        self._events = []

    def drop_parts(self) -> None:
        """Remove part files once the products stand; receipts and events stay."""
        for path in self.parts.iterdir():
            if path.suffix != ".json":
                path.unlink(missing_ok=True)


def keep_receipt(parts: Path, receipt: Receipt) -> None:
    """Write a receipt atomically; it comes last, so its presence says that the chunk's files are whole."""
    write_whole(parts / f"{receipt.chunk}.json", json.dumps(asdict(receipt)).encode())
    for path in parts.glob(f"{receipt.chunk}.attempt-*"):
        path.unlink(missing_ok=True)


def read_receipt(path: Path) -> Receipt | None:
    """A receipt, or None where it was cut short."""
    try:
        facts = json.loads(path.read_text())
        return Receipt(**{**facts, "failed_tiles": tuple(facts["failed_tiles"])})
    except (ValueError, TypeError, KeyError):
        return None


def begin_attempt(parts: Path, chunk: str) -> int:
    """Count an attempt before it starts, so that one that kills its worker was counted. Returns its number."""
    attempt = 1 + sum(1 for _ in parts.glob(f"{chunk}.attempt-*"))
    (parts / f"{chunk}.attempt-{attempt}").touch()
    return attempt


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that readers see it whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
