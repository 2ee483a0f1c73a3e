"""The steward: sees to it that the enabled models run, each as a Serve application of its own.

Applications that are started from inside the service are none of the config's: a config that is put again does not
delete them. The name of an application holds a hash of its card, so that what runs can be told from what is wanted
without any memory, and a changed card is there before the old one goes.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from serve.deployments.sizing import app_of, shares
from serve.structured import about
from swathe.card import ModelCard
from swathe.errors import ModelError, SwatheError

PREFIX = "model-"
LOOK_S = 1.0
"""Between two looks at what is wanted."""
_log = logging.getLogger("swathe.steward")


class Standing(StrEnum):
    """Where a model stands."""

    STARTING = "starting"
    """Weights are fetched, the network is exported, or a replica is loading it."""
    READY = "ready"
    """A replica waits for requests."""
    IDLE = "idle"
    """Scaled to zero: the first request waits until it is loaded."""
    FAILED = "failed"
    """``problem`` says why."""


@dataclass(frozen=True, slots=True)
class Berth:
    """An enabled model, and where it is asked."""

    card: ModelCard
    """It."""
    app: str
    """Serve application; models that share a process have a name of this form, but no application."""
    standing: Standing
    """See there."""
    said: str = ""
    """The step of a start, in words."""
    problem: dict[str, Any] | None = None
    """RFC 9457."""

    @property
    def shared(self) -> bool:
        """Whether it lives among the small ones."""
        return shares(self.card)

    def as_state(self) -> dict[str, Any]:
        """For people and programs; no card."""
        facts = {"state": self.standing.value, "said": self.said, "problem": self.problem}
        return {name: value for name, value in facts.items() if value}


class Stage(Protocol):
    """Serve, as far as models go."""

    def running(self) -> Mapping[str, tuple[Standing, str]]:
        """Applications of models by name, with what Serve says where they failed."""
        ...

    def start(self, app: str, card: ModelCard) -> None:
        """Begin to run one; does not wait."""
        ...

    def stop(self, app: str) -> None:
        """End one."""
        ...


Wanted = Callable[[], Mapping[str, ModelCard]]
Prepare = Callable[[ModelCard, Callable[[str], None]], None]


class Steward:
    """Compares what is wanted with what runs, and moves the second towards the first."""

    def __init__(self, wanted: Wanted, prepare: Prepare, stage: Stage) -> None:
        """``wanted``: enabled cards by id. ``prepare``: weights and artefact of a card; may take minutes."""
        self._wanted, self._prepare, self._stage = wanted, prepare, stage
        self._ready: set[str] = set()
        self._said: dict[str, str] = {}
        self._problems: dict[str, dict[str, Any]] = {}
        self._preparing: threading.Thread | None = None
        self.berths: dict[str, Berth] = {}

    def step(self) -> None:
        """One look; raises what reading the wishes or asking Serve raises."""
        cards = {app_of(card): card for card in self._wanted().values()}
        running = self._stage.running()
        self._forget(set(cards))
        self._prepare_next(cards)
        for app, card in cards.items():
            if app in self._ready and app not in running and not shares(card):
                self._stage.start(app, card)
        self.berths = {card.id: self._berth(app, card, running) for app, card in cards.items()}
        self._drop_unwanted(set(cards), running)

    def _berth(self, app: str, card: ModelCard, running: Mapping[str, tuple[Standing, str]]) -> Berth:
        if app in self._problems:
            return Berth(card, app, Standing.FAILED, problem=self._problems[app])
        if app not in self._ready:
            return Berth(card, app, Standing.STARTING, self._said.get(app, "waiting for its turn"))
        if shares(card):
            return Berth(card, app, Standing.READY)
        standing, said = running.get(app, (Standing.STARTING, ""))
        problem = _problem(card, said) if standing is Standing.FAILED else None
        return Berth(card, app, standing, said if problem is None else "", problem)

    def _drop_unwanted(self, wanted: set[str], running: Mapping[str, object]) -> None:
        """What nobody wants any more ends; an older card of a model goes when the newer one is there."""
        coming = {berth.app.rpartition("-")[0] for berth in self.berths.values() if berth.standing is Standing.STARTING}
        for app in set(running) - wanted:
            if app.rpartition("-")[0] not in coming:
                self._stage.stop(app)

    # --- before a replica can load it: one at a time, as an export takes gigabytes ------------------------------

    def _prepare_next(self, cards: Mapping[str, ModelCard]) -> None:
        self._ready |= {app for app, card in cards.items() if card.adapter == "formula"}
        waiting = [app for app in cards if app not in self._ready and app not in self._problems]
        if waiting and not (self._preparing and self._preparing.is_alive()):
            self._preparing = threading.Thread(target=self._prepared, args=(waiting[0], cards[waiting[0]]),
                                               name="prepare", daemon=True)  # fmt: skip
            self._preparing.start()

    def _prepared(self, app: str, card: ModelCard) -> None:
        try:
            self._prepare(card, lambda text: self._said.update({app: text}))
        except SwatheError as error:
            self._problems[app] = error.problem.as_dict()
        except Exception as error:  # noqa: BLE001  the others are still to be started
            _log.exception("the model cannot be made ready", extra=about(model=card.id))
            self._problems[app] = _problem(card, f"{type(error).__name__}: {error}")
        else:
            self._ready.add(app)

    def _forget(self, wanted: set[str]) -> None:
        """A model that is switched off and on again is tried anew."""
        self._ready &= wanted
        for known in (self._problems, self._said):
            for app in set(known) - wanted:
                known.pop(app, None)


def _problem(card: ModelCard, said: str) -> dict[str, Any]:
    error = ModelError(f"{card.id} does not start: {said or 'no replica came up'}", code="model.start",
                       hint="switch it off and on again to try once more")  # fmt: skip
    return error.problem.as_dict()
