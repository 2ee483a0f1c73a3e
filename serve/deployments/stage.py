"""Serve itself, as the steward needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve.deployments.giving import reason
from serve.deployments.replica import Replica
from serve.deployments.sizing import options_of
from serve.deployments.steward import PREFIX, Seen, Standing
from swathe.card import ModelCard

_ANSWERING = ("RUNNING", "RECOVERING", "PENDING_MIGRATION")
"""States of replicas that take requests: those that a new controller finds again, or that are to move, go on."""
_TROUBLED = ("DEPLOY_FAILED", "UNHEALTHY")
"""Of applications and of deployments."""
_LOST = "HEALTH_CHECK_FAILED"
"""Why a deployment is troubled whose replica has died: Serve starts another one by itself."""


class ServeStage:
    """The Serve that this process is a replica of."""

    def __init__(self, *, reserve: bool, actor: Mapping[str, Any] | None = None) -> None:
        """``reserve``: whether cores are taken out of Ray's books. ``actor``: further ``ray_actor_options``."""
        self._reserve, self._actor = reserve, dict(actor or {})

    def running(self) -> Mapping[str, Seen]:
        """See :class:`serve.deployments.steward.Stage`."""
        from ray import serve

        found = serve.status().applications
        return {name: seen(app) for name, app in found.items() if name.startswith(PREFIX)}

    def start(self, app: str, card: ModelCard) -> None:
        """See there."""
        import ray
        from ray import serve

        options = options_of(card, gpus=ray.cluster_resources().get("GPU", 0), reserve=self._reserve)
        options["ray_actor_options"] |= self._actor
        deployment: Any = serve.deployment(name=card.id, **options)(Replica)
        target = serve.RunTarget(deployment.bind(card), name=app, route_prefix=None)
        serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)

    def stop(self, app: str) -> None:
        """See there."""
        from ray import serve

        serve.delete(app, _blocking=False)


def seen(app: Any) -> Seen:
    """From Serve's words (``ray.serve.schema.ApplicationStatusOverview``).

    One with a replica that answers is ready, whatever the others do; a healthy one without any was scaled to zero, or
    is being woken, and requests wait there. Replicas that die leave it without one until Serve has started another.
    """
    answering = sum(d.replica_states.get(state, 0) for d in app.deployments.values() for state in _ANSWERING)
    if app.status == "DELETING":
        return Seen(Standing.STARTING, "it is stopped first")
    if answering:
        return Seen(Standing.READY, replicas=answering)
    if app.status in _TROUBLED and not _only_lost(app):
        return Seen(Standing.FAILED, reason(app.message, *(d.message for d in app.deployments.values())))
    if app.status == "RUNNING":
        return Seen(Standing.IDLE)
    lost = app.status in _TROUBLED
    return Seen(Standing.STARTING, "its replica was lost, and another one loads it" if lost else "a replica loads it")


def _only_lost(app: Any) -> bool:
    """Whether replicas have died that had come up, and nothing else is wrong."""
    troubled = [d for d in app.deployments.values() if d.status in _TROUBLED]
    return bool(troubled) and all(d.status_trigger == _LOST for d in troubled)
