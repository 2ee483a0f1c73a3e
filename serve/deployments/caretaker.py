"""The caretaker: one replica in which the dispatcher of jobs and the steward of models run, each in a thread.

There must be one of each in a service, both sleep most of the time, and every process of its own costs 100 MB.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from serve import structured
from serve.deployments.steward import LOOK_S, Berth, Prepare, Steward
from serve.deployments.waiting import waited_for
from serve.settings import ServiceSettings
from swathe.errors import SwatheError

if TYPE_CHECKING:
    from serve.running.service import Dispatching
    from serve.store.store import Store
    from swathe.card import ModelCard

STUCK_S = 60.0
"""Without a turn of the steward's loop, Ray is asked for a new caretaker."""
_log = logging.getLogger("swathe.caretaker")


class Caretaker:
    """See the module."""

    def __init__(self, *, reserve: bool, actor: Mapping[str, Any] | None = None) -> None:
        """Begin to work, once the database is there. See :class:`serve.deployments.stage.ServeStage`."""
        from serve.deployments.stage import ServeStage
        from serve.running.service import dispatching

        structured.install()
        self._end = threading.Event()
        self._dispatcher: Dispatching | None = None
        settings = ServiceSettings.read()
        store = waited_for(settings.open_store)
        self._turned = time.monotonic()  # not before: the first look at its health comes right after a long wait
        self._steward = Steward(
            enabled(settings, store), preparing(settings), ServeStage(reserve=reserve, actor=actor),
            fetch=fetching(settings),
        )  # fmt: skip
        self._dispatcher = dispatching(settings, store)
        threading.Thread(target=self._tend, name="steward", daemon=True).start()

    def berths(self) -> Mapping[str, Berth] | None:
        """Where each enabled model stands; None: nobody has looked yet."""
        return self._steward.berths

    def check_health(self) -> None:
        """Raises where one of the two has stopped working: Serve then puts a new caretaker in the place of this one."""
        if time.monotonic() - self._turned > STUCK_S:
            raise RuntimeError("the steward is stuck")
        if self._dispatcher is not None:
            self._dispatcher.check()

    def __del__(self) -> None:
        """Leave no thread behind that goes on dispatching."""
        self._end.set()
        if self._dispatcher is not None:
            self._dispatcher.stop()

    def _tend(self) -> None:
        while not self._end.is_set():
            try:
                self._steward.step()
            except SwatheError as error:  # the store is out of reach: what runs goes on
                _log.warning("%s", error.problem.line())
            except Exception:  # noqa: BLE001  Serve may stumble; the next look finds it standing
                _log.exception("the steward stumbled")
            self._turned = time.monotonic()
            self._end.wait(LOOK_S)


def enabled(settings: ServiceSettings, store: Store) -> Callable[[], Mapping[str, ModelCard]]:
    """The enabled cards, read anew where something has changed. What is given raises StoreError, CardError."""
    seen: dict[int, Mapping[str, ModelCard]] = {}

    def read() -> Mapping[str, ModelCard]:
        from serve.store import models

        with store.read() as c:
            revision = models.revision(c)
        if revision not in seen:
            cards = _enabled(settings, store)
            seen.clear()
            seen[revision] = cards
        return seen[revision]

    return read


def _enabled(settings: ServiceSettings, store: Store) -> Mapping[str, ModelCard]:
    from serve.planning import cards_of
    from serve.store import models

    with store.read() as c:
        decided = {row.id: row.enabled for row in models.listed(c)}
    cards = cards_of(settings, store)
    return {name: card for name, card in cards.items() if decided.get(name, settings.limits.enables(name))}


def fetching(settings: ServiceSettings) -> Prepare:
    """Weights of a card, on this machine."""

    def fetch(card: ModelCard, say: Callable[[str], None], check: Callable[[], None]) -> None:
        from models.load import bring

        bring(card, settings.home, say=say, check=check)

    return fetch


def preparing(settings: ServiceSettings) -> Prepare:
    """Weights and artefact of a card, on this machine."""

    def prepare(card: ModelCard, say: Callable[[str], None], check: Callable[[], None]) -> None:
        from models.load import ensure

        ensure(card, settings.home, say=say, check=check)

    return prepare
