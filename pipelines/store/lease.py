"""One writer at a time where there are no file locks: an object that its holder renews while it lives.

Taking it is a conditional write (``If-None-Match: *``), renewing and taking over too (``If-Match``), so that of two
who try, one wins. Ages are told by the clock of the store alone. A holder on this very machine is known to be gone at
once; one elsewhere when it has not renewed for a term.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self
from uuid import uuid4

import psutil

from pipelines.store.blobs import NOTHING, Blobs, Conflict
from swathe.errors import OutputError

TERM_S = 60.0
"""Without a sign of life for so long, a holder has lost its hold."""
_PATIENCE_S = 10.0
"""For a renewal that is under way when the hold ends."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who writes."""

    id: str
    """Of this hold."""
    host: str
    """For people."""
    machine: str
    """The same for processes that can see each other's ids."""
    pid: int
    """Of the process."""
    started: float
    """When that process began: numbers are given again."""
    sign: int = 0
    """Another number at each renewal, so that its version tells them apart."""

    def gone(self) -> bool:
        """Whether it ran on this machine and does no more."""
        if self.machine != _machine():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > 1
        except psutil.NoSuchProcess:
            return True


class Lease:
    """Held inside ``with``. Raises OutputError (``output.busy``) where another holds it."""

    def __init__(self, blobs: Blobs, name: str, term_s: float = TERM_S) -> None:
        """Nothing is asked before it is entered."""
        self.blobs, self.name, self.term_s = blobs, name, term_s
        me = psutil.Process()
        self._holder = Holder(uuid4().hex, socket.gethostname(), _machine(), me.pid, me.create_time())
        self._version = ""
        self._lost = False
        self._sign_of_life = 0.0
        self._guard = threading.Lock()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._keep_alive, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._version = self._take()
        self._sign_of_life = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(_PATIENCE_S)
        try:
            if not self._lost and self._held_by() == self._holder.id:
                self.blobs.delete([self.name])
        except OutputError:  # the store is gone: the hold ends with its term
            return

    def check(self) -> None:
        """Make sure that it is still held. Raises OutputError (``output.busy``) where another took over."""
        with self._guard:
            if not self._lost and time.monotonic() - self._sign_of_life > self.term_s:
                self._renew()
            if self._lost:
                raise OutputError(
                    f"another run has taken over {self.blobs.place}, as this one gave no sign of life for a while",
                    code="output.busy", field="--out", hint="wait for the other one",
                )  # fmt: skip

    # --- taking -----------------------------------------------------------------------------------------------------

    def _take(self) -> str:
        for _ in range(3):
            try:
                # Looked for first: a store that knows no conditions would overwrite a living holder.
                if self.blobs.look(self.name) is None:
                    return self.blobs.put(self.name, self._text(), over=NOTHING)
                return self._take_over()
            except (Conflict, FileNotFoundError):  # given back, or taken, in between
                continue
        raise self._busy(None, 0.0)

    def _take_over(self) -> str:
        found = self.blobs.look(self.name)
        holder = _holder(self.blobs.get(self.name))
        if found is None:
            raise FileNotFoundError(self.name)
        if holder is not None and holder.id == self._holder.id:  # our own: the answer to our first write was lost
            return found.version
        age = self._now() - found.modified.timestamp()
        if age <= self.term_s and not (holder is not None and holder.gone()):
            raise self._busy(holder, age)
        return self.blobs.put(self.name, self._text(), over=found.version)

    def _now(self) -> float:
        """What time the store has."""
        probe = f"{self.name}.{self._holder.id}"
        self.blobs.put(probe, b"?")
        found = self.blobs.look(probe)
        self.blobs.delete([probe])
        return time.time() if found is None else found.modified.timestamp()

    def _busy(self, holder: Holder | None, age: float) -> OutputError:
        who = f" (process {holder.pid} on {holder.host}, last sign of life {age:.0f} s ago)" if holder else ""
        wait = max(1.0, self.term_s - age)
        return OutputError(
            f"another run is writing to {self.blobs.place}{who}", code="output.busy", field="--out",
            hint=f"wait for it, or choose another place; if it was killed, try again in {wait:.0f} s",
        )  # fmt: skip

    # --- holding ----------------------------------------------------------------------------------------------------

    def _keep_alive(self) -> None:
        while not self._end.wait(self.term_s / 4):
            with self._guard:
                if not self._lost:
                    self._renew()

    def _renew(self) -> None:
        began = time.monotonic()
        try:
            version = self._renewed()
        except OutputError:  # tried again soon; if another takes over meanwhile, the next renewal is refused
            return
        self._lost = version is None
        self._version, self._sign_of_life = version or "", began

    def _renewed(self) -> str | None:
        """The new version; None where another holds it. A conflict may be with ourselves: an answer that was lost."""
        try:
            return self.blobs.put(self.name, self._text(), over=self._version)
        except Conflict:
            found = self.blobs.look(self.name)
            return found.version if found is not None and self._held_by() == self._holder.id else None

    def _held_by(self) -> str | None:
        try:
            holder = _holder(self.blobs.get(self.name))
        except FileNotFoundError:
            return None
        return None if holder is None else holder.id

    def _text(self) -> bytes:
        return json.dumps(asdict(replace(self._holder, sign=time.monotonic_ns()))).encode()


def _holder(text: bytes) -> Holder | None:
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError):
        return None


def _machine() -> str:
    """Kernel and process namespace: containers of one host do not see each other's processes."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}:{os.stat('/proc/self/ns/pid').st_ino}"  # noqa: PTH116  no path that could be opened
    except OSError:
        return f"{socket.gethostname()}:{psutil.boot_time():.0f}"
