"""What the API needs of whoever holds models in memory; Ray Serve does, and in tests this process."""

from __future__ import annotations

from typing import Any, Protocol

from pipelines.online import Answer as Predicted
from pipelines.online import Question as PredictOrder

__all__ = ["PredictOrder", "Predicted", "Replicas"]


class Replicas(Protocol):
    """Holds models in memory."""

    async def predict(self, model_id: str, work: PredictOrder) -> Predicted:
        """One small image through a model that is enabled.

        Raises what ``pipelines.online.Online`` raises; ConflictError (``model.starting``, over HTTP 503) with a model
        that is not there yet, the problem of one that failed to start, BusyError where too many wait.
        """
        ...

    def states(self) -> dict[str, dict[str, Any]]:
        """Per id of an enabled model ``{"state": "starting" | "ready" | "idle" | "failed", "problem"?: {…}}``.

        ``idle``: scaled to zero, the first request waits. ``"replicas"``, where the model has processes of its own: so
        many of them answer. Never raises, never waits long; called in threads.
        """
        ...

    def facts(self) -> dict[str, Any]:
        """Of the Ray below: ``{"ok": bool, "detail": str, "nodes": int, "cpus": float, "gpus": float}``."""
        ...
