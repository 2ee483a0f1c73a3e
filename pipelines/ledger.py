"""The run's memory on disk: events, the plan it began with, receipts of finished chunks. One writer at a time."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines import saved_search
from pipelines.products.parts import refusals
from pipelines.receipt import Receipt, parsed
from pipelines.store.blobs import Blobs
from pipelines.store.chunk_store import MAX_ATTEMPTS
from pipelines.store.folder import write_whole
from pipelines.store.place import MEMORY, place_of
from swathe.lattice import Chunk
from swathe.mosaic import Mosaic
from swathe.plan import Plan
from swathe.state import Event, State, fold, may
from swathe.window import Window

__all__ = ["MAX_ATTEMPTS", "Kept", "Ledger", "Receipt", "read_receipt", "write_whole"]

KEPT_EVERY_S = 5.0
"""How often the events of chunks are sent where the run is kept elsewhere; changes of state are at once."""


@dataclass(frozen=True, slots=True)
class Kept:
    """The run that a folder holds, as it was begun; one that cannot be read is like no other."""

    key: str = ""
    """Of its plan."""
    model: str = ""
    """Hash of the weights that it runs; empty: there are none, or nobody wrote it down."""
    chunks: tuple[Chunk, ...] = ()
    """How it was cut."""
    chunk_shape: tuple[int, int] = (0, 0)
    """(rows, cols) of a full chunk."""

    def same(self, key: str, model: str) -> bool:
        """Whether this plan, with these weights, goes on with it."""
        return self.key == key and (not self.model or self.model == model)


class Ledger:
    """A run's folder: ``<out>/.swathe/``; with a store, that of the driver, and what lasts is in the store."""

    def __init__(self, out: Path, store: Blobs | None = None) -> None:
        """Nothing is touched before :meth:`open`."""
        self.place = place_of(out, store)
        self.chunk_store = self.place.chunk_store
        self.folder = out / ".swathe"
        self.parts = self.folder / "parts"
        self._events: list[Event] = []
        self._kept_s = 0.0

    @contextmanager
    def open(self) -> Iterator[Ledger]:
        """Hold the run's lock; a second writer is refused. Raises OutputError."""
        with self.place.hold():
            self._events = self._replay()
            yield self

    # --- events -----------------------------------------------------------------------------------------------------

    def _replay(self) -> list[Event]:
        path = self.folder / "events.jsonl"
        if not path.exists():
            return []
        events = []
        lines = path.read_bytes().splitlines(keepends=True)
        for line in lines:
            try:
                events.append(Event(**json.loads(line)))
            except (ValueError, TypeError):  # a line cut short by a crash is the last one and says nothing yet
                break
        if lines and (len(events) < len(lines) or not lines[-1].endswith(b"\n")):
            with refusals(self.folder):  # what is written next must not hang on to half a line
                write_whole(path, b"".join(json.dumps(asdict(event)).encode() + b"\n" for event in events))
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
        with refusals(self.folder), (self.folder / "events.jsonl").open("a") as log:
            log.write(json.dumps(asdict(event)) + "\n")
        if kind == "state" or time.monotonic() - self._kept_s > KEPT_EVERY_S:
            self._keep("events.jsonl")
            self._kept_s = time.monotonic()
        return event

    def _keep(self, *names: str) -> None:
        self.place.keep(*(f"{self.folder.name}/{name}" for name in names))

    def enter(self, state: State, **facts: Any) -> Event:
        """Change state, along the table only."""
        before = self.state
        if not may(before, state):
            msg = f"a run cannot go from {before} to {state}"
            raise RuntimeError(msg)
        return self.note("state", state=state.value, **facts)

    # --- the plan ---------------------------------------------------------------------------------------------------

    def keep_plan(self, plan: Plan, model: str = "") -> None:
        """Remember the plan, so that a resumed run is cut as it was. ``model``: hash of the weights that it runs."""
        chunks = [(c.key, c.window.row, c.window.col, c.window.height, c.window.width) for c in plan.chunks]
        cut = {"key": plan.key, "model": model, "chunk_shape": plan.chunk_shape, "chunks": chunks}
        with refusals(self.folder):
            write_whole(self.folder / "plan.json", json.dumps(plan.as_dict(), indent=2, default=str).encode())
            write_whole(self.folder / "cut.json", json.dumps(cut).encode())
            if isinstance(plan.work.imagery, Mosaic):
                write_whole(self.folder / saved_search.NAME, saved_search.written(plan.asked, plan.work.imagery))
        self._keep("plan.json", "cut.json", saved_search.NAME)

    def kept(self) -> Kept | None:
        """The run in this folder; None: there is none."""
        path = self.folder / "cut.json"
        if not path.exists():
            return None
        try:
            cut = json.loads(path.read_text())
            rows, cols = cut["chunk_shape"]
            chunks = tuple(Chunk(key, Window(*window)) for key, *window in cut["chunks"])
            return Kept(cut["key"], cut.get("model", ""), chunks, (rows, cols))
        except (ValueError, TypeError, KeyError):
            return Kept()

    # --- receipts ---------------------------------------------------------------------------------------------------

    def receipts(self) -> dict[str, Receipt]:
        """Of all chunks that are settled and whose files are whole."""
        return self.chunk_store.settled()

    def clear(self) -> None:
        """Forget everything of an earlier run."""
        self.chunk_store.clear()
        for name in MEMORY:
            (self.folder / name).unlink(missing_ok=True)
        self._keep(*MEMORY)
        self._events = []

    def drop_parts(self) -> None:
        """Remove part files once the products stand; receipts and events stay."""
        self.chunk_store.drop()


def read_receipt(path: Path) -> Receipt | None:
    """A receipt, or None where it was cut short."""
    return parsed(path.read_bytes())
