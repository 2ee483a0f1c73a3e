"""The steward: sees to it that the enabled models run, each as a Serve application of its own.

Applications that are started from inside the service are none of the config's: a config that is put again does not
delete them. The name of an application holds a hash of its card, so that what runs can be told from what is wanted
without any memory, and a changed card is there before the old one goes.

A start that failed is tried again, after pauses that grow: the network, the disk or the memory may have been to blame.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from serve.deployments.sizing import app_of, shares
from serve.passing import passing
from serve.structured import about
from swathe.card import ModelCard
from swathe.errors import Interrupted, ModelError, SwatheError

PREFIX = "model-"
LOOK_S = 1.0
"""Between two looks at what is wanted."""
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 15.0, 1800.0
"""Before a start that failed is tried again; doubled each time. An export takes minutes of all cores."""
_PASSING = frozenset({"weights.missing", "weights.unreadable", "weights.cache", "model.register"})
"""Codes of a start behind which the network, the disk or the memory may be."""
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
class Seen:
    """The application of a model, as Serve has it."""

    standing: Standing
    """See there."""
    said: str = ""
    """Why, in Serve's words."""
    replicas: int = 0
    """Those that answer."""


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
    replicas: int = 0
    """Those that answer; of a model that shares a process nobody counts any."""

    @property
    def shared(self) -> bool:
        """Whether it lives among the small ones."""
        return shares(self.card)

    def as_state(self) -> dict[str, Any]:
        """For people and programs; no card. ``replicas``: not of those that share a process."""
        facts = {"state": self.standing.value, "said": self.said, "problem": self.problem}
        counted = {} if self.shared else {"replicas": self.replicas}
        return {name: value for name, value in facts.items() if value} | counted


@dataclass(frozen=True, slots=True)
class Setback:
    """A start that failed."""

    problem: dict[str, Any]
    """RFC 9457."""
    due: float
    """When it is tried again, by the steward's clock; infinite: when the model is switched off and on."""


class Stage(Protocol):
    """Serve, as far as models go."""

    def running(self) -> Mapping[str, Seen]:
        """Applications of models by name, those that are ending among them."""
        ...

    def start(self, app: str, card: ModelCard) -> None:
        """Begin to run one; does not wait."""
        ...

    def stop(self, app: str) -> None:
        """End one; may be said again while it ends."""
        ...


Wanted = Callable[[], Mapping[str, ModelCard]]
Prepare = Callable[[ModelCard, Callable[[str], None], Callable[[], None]], None]
"""Of a card; tells its steps, and asks whether the card is still wanted."""
_FETCHES = 4
"""Models whose weights are fetched side by side."""


class _Unwanted(Exception):  # noqa: N818  what has happened to a card
    """It was switched off, or replaced, while it was made ready."""


class Steward:
    """Compares what is wanted with what runs, and moves the second towards the first."""

    def __init__(
        self, wanted: Wanted, prepare: Prepare, stage: Stage, clock: Callable[[], float] = time.monotonic,
        fetch: Prepare | None = None,
    ) -> None:  # fmt: skip
        """``wanted``: enabled cards by id. ``prepare``: weights and artefact of a card; may take minutes.

        ``fetch``: the weights alone, of a few cards side by side; without it ``prepare`` has them to itself.
        """
        self._wanted, self._prepare, self._stage, self._clock, self._fetch = wanted, prepare, stage, clock, fetch
        self._fetched: set[str] = set()
        self._fetching: dict[str, threading.Thread] = {}
        self._ready: set[str] = set()
        self._said: dict[str, str] = {}
        self._tries: Counter[str] = Counter()
        self._setbacks: dict[str, Setback] = {}
        self._leaving: set[str] = set()
        self._preparing: threading.Thread | None = None
        self._apps: frozenset[str] = frozenset()
        self.berths: dict[str, Berth] | None = None
        """By id of the model; None before the first look."""

    def step(self) -> None:
        """One look; raises what reading the wishes or asking Serve raises."""
        cards = {app_of(card): card for card in self._wanted().values()}
        running = self._stage.running()
        self._apps = frozenset(cards)
        self._forget(set(cards))
        self._take_stock(cards, running)
        self._try_again(running)
        self._prepare_next(cards)
        for app, card in cards.items():
            if app in self._ready and app not in running and not shares(card):
                self._stage.start(app, card)
        self.berths = {card.id: self._berth(app, card, running) for app, card in cards.items()}
        self._drop_unwanted(set(cards), running, self.berths)

    def _berth(self, app: str, card: ModelCard, running: Mapping[str, Seen]) -> Berth:
        if setback := self._setbacks.get(app):
            return Berth(card, app, Standing.FAILED, problem=setback.problem)
        if app in self._leaving or app not in self._ready:
            return Berth(card, app, Standing.STARTING, self._said.get(app, "waiting for its turn"))
        if shares(card):
            return Berth(card, app, Standing.READY)
        seen = running.get(app, Seen(Standing.STARTING))
        return Berth(card, app, seen.standing, seen.said, replicas=seen.replicas)

    def _drop_unwanted(self, wanted: set[str], running: Mapping[str, Seen], berths: Mapping[str, Berth]) -> None:
        """What nobody wants any more ends; an older card of a model goes when the newer one is there."""
        coming = {berth.app.rpartition("-")[0] for berth in berths.values() if berth.standing is Standing.STARTING}
        for app in set(running) - wanted:
            if app.rpartition("-")[0] not in coming:
                self._stage.stop(app)

    # --- what runs, and what failed -----------------------------------------------------------------------------------

    def _take_stock(self, cards: Mapping[str, ModelCard], running: Mapping[str, Seen]) -> None:
        """Whoever started what runs had made it ready, a steward before this one perhaps: its name holds its card."""
        self._leaving &= set(running)
        for app in (set(cards) & set(running)) - self._leaving:
            self._ready.add(app)
            seen = running[app]
            if seen.standing is Standing.FAILED and app not in self._setbacks:
                self._set_back(app, _problem(cards[app], seen.said), passing=True)
            elif seen.standing in (Standing.READY, Standing.IDLE):
                self._setbacks.pop(app, None)
            if seen.standing is Standing.READY:
                self._tries.pop(app, None)

    def _set_back(self, app: str, problem: dict[str, Any], *, passing: bool) -> None:
        self._tries[app] += 1
        _log.warning("%s, try %d: %s", app, self._tries[app], problem.get("detail"))
        if passing:
            hints = (str(problem.get("hint", "")), "it is tried again by itself, after pauses that grow")
            problem = problem | {"hint": "; ".join(filter(None, hints))}
        self._setbacks[app] = Setback(problem, self._clock() + _pause(self._tries[app]) if passing else math.inf)

    def _try_again(self, running: Mapping[str, Seen]) -> None:
        """From the beginning: an application that failed ends first, and its weights are looked at again."""
        for app, setback in list(self._setbacks.items()):
            if setback.due <= self._clock():
                del self._setbacks[app]
                self._said.pop(app, None)
                self._fetched.discard(app)
                if app in running:
                    self._ready.discard(app)
                    self._leaving.add(app)
        for app in self._leaving:
            self._stage.stop(app)

    # --- before a replica can load it: weights side by side, exports one at a time, as they take gigabytes ------------

    def _prepare_next(self, cards: Mapping[str, ModelCard]) -> None:
        self._ready |= {app for app, card in cards.items() if card.adapter == "formula"}
        waiting = [app for app in cards if app not in self._ready and app not in self._setbacks]
        waiting.sort(key=lambda app: self._tries[app])  # one that fails does not keep the others waiting
        self._fetch_some(waiting, cards)
        first = next((app for app in waiting if app in self._fetched), None)
        if first and not (self._preparing and self._preparing.is_alive()):
            self._preparing = self._begun("prepare", first, cards[first], self._prepare, self._ready)

    def _fetch_some(self, waiting: list[str], cards: Mapping[str, ModelCard]) -> None:
        """A server that drips keeps none of the others waiting; a few of them might."""
        if self._fetch is None:
            self._fetched.update(waiting)
            return
        self._fetching = {app: thread for app, thread in self._fetching.items() if thread.is_alive()}
        missing = [app for app in waiting if app not in self._fetched and app not in self._fetching]
        for app in missing[: _FETCHES - len(self._fetching)]:
            self._fetching[app] = self._begun("fetch", app, cards[app], self._fetch, self._fetched)

    def _begun(self, name: str, app: str, card: ModelCard, step: Prepare, done: set[str]) -> threading.Thread:
        thread = threading.Thread(target=self._step_of, args=(app, card, step, done), name=name, daemon=True)
        thread.start()
        return thread

    def _step_of(self, app: str, card: ModelCard, step: Prepare, done: set[str]) -> None:
        """One step of a start; ``done`` then has the application."""

        def check() -> None:
            if app not in self._apps:
                raise _Unwanted

        try:
            step(card, lambda text: self._said.update({app: text}), check)
        except _Unwanted:
            _log.info("no longer wanted", extra=about(model=card.id))
        except SwatheError as error:
            self._set_back(app, error.problem.as_dict(), passing=_passing(error))
        except Exception as error:  # noqa: BLE001  the others are still to be started
            _log.exception("the model cannot be made ready", extra=about(model=card.id))
            self._set_back(app, _problem(card, f"{type(error).__name__}: {error}"), passing=True)
        else:
            self._said.pop(app, None)
            done.add(app)

    def _forget(self, wanted: set[str]) -> None:
        """A model that is switched off and on again is tried anew."""
        for apps in (self._ready, self._leaving, self._fetched):
            apps.intersection_update(wanted)
        for known in (self._setbacks, self._said, self._tries):
            for app in set(known) - wanted:
                known.pop(app, None)


def _pause(tries: int) -> float:
    """Seconds before the next try, after so many; the exponent is bounded, as floats are."""
    return min(_FIRST_PAUSE_S * 2 ** min(tries - 1, 16), _LONGEST_PAUSE_S)


def _passing(error: SwatheError) -> bool:
    """As of an attempt of a job; and what is special to a start. A wrong card, or wrong weights, stay wrong."""
    return passing(error) or isinstance(error, Interrupted) or error.problem.code in _PASSING


def _problem(card: ModelCard, said: str) -> dict[str, Any]:
    error = ModelError(f"{card.id} does not start: {said or 'no replica came up'}", code="model.start",
                       hint="switched off and on again, it is tried at once")  # fmt: skip
    return error.problem.as_dict()
