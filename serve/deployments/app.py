"""The service as a Serve application: ``import_path: serve.deployments.app:service``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from ray.serve import Application

_BOOKED = 0.01
"""Of a core, in Ray's books: these mostly wait, and what they take when they work they share with the runs."""
_STREAMS = 2000
"""Requests inside an ingress at a time: each listener to events is one that stays."""
HEADS = 32
"""Small methods loaded at a time."""


class ServiceArgs(BaseModel):
    """``args`` of the Serve config."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api_replicas: int = Field(default=1, ge=1)
    """More than one wants PostgreSQL, and results where all nodes see them. Each allows its part of the rates."""
    reserve_cores: bool = False
    """Whether a model's cores are taken out of Ray's books."""
    replica_actor: dict[str, Any] = Field(default_factory=dict)
    """Further ``ray_actor_options`` of models' replicas: ``label_selector``, ``accelerator_type``, ``runtime_env``."""


def service(args: dict[str, Any]) -> Application:
    """API, caretaker and small methods; the networks come by the caretaker, each as an application of its own.

    ``args``: see :class:`ServiceArgs`.
    """
    from ray import serve

    from serve.deployments.caretaker import Caretaker
    from serve.deployments.giving import API
    from serve.deployments.ingress import Ingress

    wanted = ServiceArgs.model_validate(args)
    booked: dict[str, Any] = {"ray_actor_options": {"num_cpus": _BOOKED}}
    caretaker: Any = serve.deployment(
        name="caretaker", num_replicas=1, max_ongoing_requests=100, health_check_period_s=5,
        graceful_shutdown_timeout_s=10, **booked,
    )(Caretaker)  # fmt: skip
    ingress: Any = serve.deployment(
        name=API, num_replicas=wanted.api_replicas, max_ongoing_requests=_STREAMS, graceful_shutdown_timeout_s=5,
        **booked,
    )(serve.ingress()(Ingress))  # fmt: skip
    heads: Any = serve.deployment(
        name="heads", num_replicas=1, max_ongoing_requests=8, max_queued_requests=64, **booked,
    )(_heads())  # fmt: skip
    caring = caretaker.bind(reserve=wanted.reserve_cores, actor=wanted.replica_actor)
    return ingress.bind(caring, heads.bind(), wanted.api_replicas)


def _heads() -> type:
    """The class with Serve's own least-recently-used shelf around its loading."""
    from ray import serve

    from serve.deployments.replica import Heads

    return type("Heads", (Heads,), {"load": serve.multiplexed(max_num_models_per_replica=HEADS)(Heads.load)})
