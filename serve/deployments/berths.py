"""The API's way to the models: asks the steward where they are, and Ray Serve to answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pipelines.online import Answer, Question
from serve.deployments.steward import Berth, Standing
from swathe.errors import BusyError, ClusterError, ConflictError, ModelError, SwatheError

FRESH_S = 1.0
"""How old an answer of the steward may be."""
_SLOW_S = 3.0
"""How long it is waited for; then the last answer counts."""


class RayReplicas:
    """:class:`serve.api.replicas.Replicas` on Ray Serve. For one process; its handles are made when first used."""

    def __init__(self, steward: Any, heads: Any) -> None:
        """Handles of the caretaker and of the deployment of small methods."""
        self._steward, self._heads = steward, heads
        self._berths: Mapping[str, Berth] = {}
        self._asked = 0.0
        self._handles: dict[str, Any] = {}

    async def predict(self, model_id: str, work: Question) -> Answer:
        """See there."""
        berth = await self._berth(model_id)
        try:
            answer = await self._ask(berth, work)
        except Exception as error:
            raise _explained(error, model_id) from error
        if isinstance(answer, SwatheError):
            raise answer
        return answer

    def states(self) -> dict[str, dict[str, Any]]:
        """See there."""
        if time.monotonic() - self._asked > FRESH_S:
            try:
                self._hear(self._steward.berths.remote().result(timeout_s=_SLOW_S))
            except Exception:  # noqa: BLE001  it is being restarted; what was known still tells more than nothing
                self._asked = time.monotonic()
        return {name: berth.as_state() for name, berth in self._berths.items()}

    def facts(self) -> dict[str, Any]:
        """See there."""
        import ray

        try:
            nodes = [node for node in ray.nodes() if node["Alive"]]
            total = ray.cluster_resources()
        except Exception as error:  # noqa: BLE001  whatever it is, Ray does not answer
            return {"ok": False, "detail": f"Ray does not answer: {type(error).__name__}", "nodes": 0, "cpus": 0.0,
                    "gpus": 0.0}  # fmt: skip
        return {"ok": bool(nodes), "detail": "", "nodes": len(nodes), "cpus": total.get("CPU", 0.0),
                "gpus": total.get("GPU", 0.0)}  # fmt: skip

    async def _berth(self, model_id: str) -> Berth:
        if time.monotonic() - self._asked > FRESH_S or model_id not in self._berths:
            try:
                looked = self._hear(await self._steward.berths.remote())
            except Exception as error:
                if model_id not in self._berths:
                    raise _explained(error, model_id) from error
            else:
                if not looked and model_id not in self._berths:
                    raise _not_yet("the service has just started, and does not know yet where its models are")
        return _usable(self._berths, model_id)

    def _hear(self, found: Mapping[str, Berth] | None) -> bool:
        """Whether the steward has looked; what one before it has said counts until then."""
        self._asked = time.monotonic()
        if found is not None:
            self._berths = found
        return found is not None

    async def _ask(self, berth: Berth, work: Question) -> Answer | SwatheError:
        if berth.shared:
            handle = self._heads.options(multiplexed_model_id=berth.app)
            return await handle.predict.remote(berth.card, work)
        return await self._handle(berth.app).predict.remote(work)

    def _handle(self, app: str) -> Any:
        from ray import serve

        if app not in self._handles:
            self._handles[app] = serve.get_app_handle(app)
        return self._handles[app]


def _usable(berths: Mapping[str, Berth], model_id: str) -> Berth:
    if model_id not in berths:  # whoever comes here was told that it is on; the steward hears of it at its next look
        raise _not_yet(f"{model_id} was switched on just now")
    berth = berths[model_id]
    if berth.standing is Standing.STARTING:
        raise _not_yet(f"{model_id} is still starting: {berth.said or 'a replica loads it'}")
    if berth.standing is Standing.FAILED:
        problem = berth.problem or {}
        raise ModelError(str(problem.get("detail", f"{model_id} does not start")), field="model",
                         code=str(problem.get("code", "model.start")), hint=str(problem.get("hint", "")))  # fmt: skip
    return berth


def _not_yet(detail: str) -> ConflictError:
    """To be raised; over HTTP it is 503 with Retry-After."""
    return ConflictError(detail, field="model", hint="come again; GET /api/models/{id} says when it is ready",
                         code="model.starting")  # fmt: skip


def _explained(error: Exception, model_id: str) -> SwatheError:
    """Ray's exceptions in our words."""
    from ray.serve.exceptions import BackPressureError

    cause = getattr(error, "cause", None)
    if isinstance(error, BackPressureError) or isinstance(cause, BackPressureError):
        return BusyError(f"too many requests wait for {model_id}", code="busy.model", retry_after=2,
                         hint="come again when Retry-After says so, or submit a job")  # fmt: skip
    if isinstance(error, SwatheError):
        return error
    return ClusterError(f"the replica of {model_id} was lost: {type(error).__name__}", code="cluster.replica",
                        hint="send the request again")  # fmt: skip
