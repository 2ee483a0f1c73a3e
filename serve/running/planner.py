"""Wishes of batches become jobs: one of each batch in turn, so that a batch of hundreds keeps no other waiting.

Users take turns as well: hundreds of batches of one of them, whose queue is full perhaps, keep nobody else waiting.

What is left of batches that were removed while they ran goes here, too.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from serve.structured import about
from swathe.errors import BusyError, StoreError, SwatheError

if TYPE_CHECKING:
    from serve.desk.batches import Batches
    from serve.settings import ServiceSettings
    from serve.store.store import Store
    from swathe.batch import Batch

_AT_ONCE = 4
"""Batches that are planned at a time: a search or a header takes a second of waiting."""
_SEEN = 64
_log = logging.getLogger("swathe.planner")


def planner(settings: ServiceSettings, store: Store) -> Planner:
    """For the service's own process; what plans is loaded when the first batch comes."""
    from serve.desk.batches import Batches
    from serve.desk.jobs import Jobs
    from serve.desk.models import Models

    return Planner(Batches(settings, store, Jobs(settings, store, Models(settings, store))))


class Planner:
    """Killed at any point it loses nothing: a wish is settled in the transaction that accepts its job."""

    def __init__(self, batches: Batches) -> None:
        """Nothing is read yet."""
        self._batches = batches

    def turn(self) -> int:
        """Plan what can be planned now; how many wishes were looked at. Raises StoreError."""
        self._clear()
        looked_at = 0
        full: set[str] = set()
        while found := self._batches.waiting(_SEEN, full):
            known = len(full)
            with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="planner") as pool:
                made = sum(pool.map(lambda batch: self._one(batch, full), found))
            looked_at += made
            if not made and len(full) == known:
                break
        return looked_at

    def _clear(self) -> None:
        try:
            self._batches.clear()
        except StoreError:
            raise
        except SwatheError as error:  # the storage of results; what is left is taken away another time
            _log.warning("%s", error.problem.line())

    def _one(self, batch: Batch, full: set[str]) -> bool:
        """Whether a wish of it was looked at. ``full``: owners whose queue was found to have no room in this turn."""
        if batch.owner in full:
            return False
        try:
            return self._batches.plan_next(batch)
        except BusyError:
            full.add(batch.owner)
            return False
        except SwatheError as error:
            _log.warning("not planned: %s", error.problem.line(), extra=about(batch=batch.id))
            return False
        except Exception:  # noqa: BLE001  the others are planned nevertheless
            _log.exception("the planning broke", extra=about(batch=batch.id))
            return False
