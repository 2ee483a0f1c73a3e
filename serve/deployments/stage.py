"""Serve itself, as the steward needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve.deployments.giving import reason
from serve.deployments.replica import Replica
from serve.deployments.sizing import options_of
from serve.deployments.steward import PREFIX, Standing
from swathe.card import ModelCard


class ServeStage:
    """The Serve that this process is a replica of."""

    def __init__(self, *, reserve: bool, actor: Mapping[str, Any] | None = None) -> None:
        """``reserve``: whether cores are taken out of Ray's books. ``actor``: further ``ray_actor_options``."""
        self._reserve, self._actor = reserve, dict(actor or {})

    def running(self) -> Mapping[str, tuple[Standing, str]]:
        """See :class:`serve.deployments.steward.Stage`."""
        from ray import serve

        found = serve.status().applications
        return {name: _standing(app) for name, app in found.items() if name.startswith(PREFIX)}

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


def _standing(app: Any) -> tuple[Standing, str]:
    """From Serve's words; an application without replicas that is healthy was scaled to zero."""
    if app.status in ("DEPLOY_FAILED", "UNHEALTHY"):
        return Standing.FAILED, reason(app.message, *(d.message for d in app.deployments.values()))
    if app.status != "RUNNING":
        return Standing.STARTING, "a replica loads it"
    replicas = sum(sum(d.replica_states.values()) for d in app.deployments.values())
    return (Standing.READY if replicas else Standing.IDLE), ""
