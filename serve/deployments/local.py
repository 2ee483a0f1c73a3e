"""Models in this very process, without Ray: for tests of the API, and for whoever embeds it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.online import Answer, Online, Question
from serve.deployments.replica import open_model
from serve.settings import ServiceSettings
from swathe.card import ModelCard
from swathe.errors import SwatheError, UnknownModelError


class LocalReplicas:
    """:class:`serve.api.replicas.Replicas`; a model is loaded when it is first asked for, and stays."""

    def __init__(self, settings: ServiceSettings, wanted: Callable[[], Mapping[str, ModelCard]]) -> None:
        """``wanted``: enabled cards by id."""
        self._settings, self._wanted = settings, wanted
        self._loaded: dict[str, Online] = {}
        self._problems: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    async def predict(self, model_id: str, work: Question) -> Answer:
        """See there."""
        return await asyncio.to_thread(self._answer, model_id, work)

    def states(self) -> dict[str, dict[str, Any]]:
        """See there."""
        return {name: self._state(name) for name in self._wanted()}

    def facts(self) -> dict[str, Any]:
        """There is no Ray, so none is missing."""
        return {"ok": True, "detail": "no Ray: models run in this process", "nodes": 1, "cpus": 0.0, "gpus": 0.0}

    def _state(self, name: str) -> dict[str, Any]:
        if name in self._problems:
            return {"state": "failed", "problem": self._problems[name]}
        loaded = name in self._loaded
        return {"state": "ready" if loaded else "idle", "replicas": int(loaded)}

    def _answer(self, model_id: str, work: Question) -> Answer:
        cards = self._wanted()
        if model_id not in cards:
            raise UnknownModelError(f"no model {model_id!r} is enabled here", field="model")
        return self._online(cards[model_id])(work)

    def _online(self, card: ModelCard) -> Online:
        with self._lock:
            found = self._loaded.get(card.id)
            if found is None:
                found = self._loaded[card.id] = self._opened(card)
            return found

    def _opened(self, card: ModelCard) -> Online:
        try:
            return open_model(card, self._settings)
        except SwatheError as error:
            self._problems[card.id] = error.problem.as_dict()
            raise
