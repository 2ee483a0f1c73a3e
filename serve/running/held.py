"""A job that an attempt holds: renewed by a thread as long as it is worked on, and why the attempt is to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from serve.running.write_queue import LOST
from swathe.errors import ConflictError, Interrupted, StoreError

if TYPE_CHECKING:
    from serve.store.jobs import Hold
    from serve.store.store import Store

LOOK_S = 1.0
"""Between two renewals, at most: each also asks whether the user wants the job stopped."""
PATIENCE = 4
"""Spans of the lease without a database, after which the attempt gives up: by then somebody else may be at work."""


class Held:
    """A context: on leaving, the renewal ends; the hold itself is given back by whoever ends the attempt."""

    def __init__(self, store: Store, hold: Hold, lease_s: float, on_stop: Callable[[], None] | None = None) -> None:
        """``on_stop`` is called once, by another thread, when the attempt is to stop."""
        self.hold = hold
        self.cancelling = False
        """Whether its user wants it stopped."""
        self.lost = False
        """Whether it is somebody else's by now: nothing that this attempt does counts any more."""
        self._store, self._lease_s, self._on_stop = store, lease_s, on_stop
        self._stop, self._end = threading.Event(), threading.Event()
        self._heard = time.monotonic()
        self._thread = threading.Thread(target=self._renew_on, name=f"hold-{hold.job}", daemon=True)

    def __enter__(self) -> Self:
        """Renew once, so that nothing is begun for a job that is somebody else's."""
        self._renew()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def stop(self) -> None:
        """Ask the attempt to end: the machine is going down."""
        if not self._stop.is_set():
            self._stop.set()
            if self._on_stop is not None:
                self._on_stop()

    def lose(self) -> None:
        """Somebody else has it."""
        self.lost = True
        self.stop()

    def check(self) -> None:
        """Raises Interrupted where the attempt is to end."""
        if self._stop.is_set():
            raise Interrupted(f"the job {self.hold.job} is to stop")

    def wait(self, seconds: float) -> bool:
        """Sleep, shorter where the attempt is to end; whether it is."""
        return self._stop.wait(seconds)

    def _renew_on(self) -> None:
        while not self._end.wait(min(LOOK_S, self._lease_s / 5)):
            self._renew()

    def _renew(self) -> None:
        from serve.store import jobs

        try:
            with self._store.begin() as c:
                self.cancelling = jobs.renew(c, self.hold, self._lease_s)
        except ConflictError as error:
            if error.problem.code == LOST:
                self.lose()
        except StoreError:
            if time.monotonic() - self._heard > PATIENCE * self._lease_s:
                self.lose()
        else:
            self._heard = time.monotonic()
            if self.cancelling:
                self.stop()
