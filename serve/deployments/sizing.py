"""What a model's replicas ask Ray for, from its card. Pure; Ray is not needed."""

from __future__ import annotations

import hashlib
import math
from typing import Any

from swathe.card import ModelCard

SHARED_GB = 0.5
"""A network that needs no GPU and no more memory than this shares a process with others."""
_SHARE = 0.01
"""Of a core, for Ray's books, where replicas share the machine's cores with runs."""
_AT_ONCE = 4
"""Requests inside a replica: one is in the network while others are decoded or written."""
_WAITING = 32
"""Requests that may wait for a replica before more are refused."""
_GIB = 1 << 30


def shares(card: ModelCard) -> bool:
    """Whether a model lives in the process of the small ones, which loads and drops them by use."""
    wanted = card.resources
    return card.adapter == "formula" or (wanted.gpu == 0 and wanted.memory_gb <= SHARED_GB)


def app_of(card: ModelCard) -> str:
    """Name of the Serve application of this very card: a changed card is another application."""
    digest = hashlib.sha256(card.model_dump_json().encode()).hexdigest()
    return f"model-{card.id}-{digest[:10]}"


def threads_of(card: ModelCard, cores: int) -> int:
    """Of a replica's forward: the card's cores, no more than the machine has."""
    return max(1, min(math.floor(card.resources.cpu), cores))


def options_of(card: ModelCard, *, gpus: float, reserve: bool) -> dict[str, Any]:
    """``ray.serve`` options of a deployment of this card, on a cluster with so many GPUs."""
    wanted = card.resources
    return {
        "ray_actor_options": _actor(card, gpus=gpus, reserve=reserve),
        "max_ongoing_requests": _AT_ONCE,
        "max_queued_requests": _WAITING,
        "health_check_period_s": 10,
        "graceful_shutdown_timeout_s": 20,
        "max_constructor_retry_count": 3,
        "autoscaling_config": {
            "min_replicas": wanted.warm,
            "max_replicas": max(wanted.warm, wanted.replicas or (4 if reserve else 1)),
            "target_ongoing_requests": 2,
            "upscale_delay_s": 5,
            "downscale_delay_s": wanted.idle_s,
        },
    }


def _actor(card: ModelCard, *, gpus: float, reserve: bool) -> dict[str, Any]:
    wanted = card.resources
    asked: dict[str, Any] = {"num_cpus": wanted.cpu if reserve else _SHARE}
    if wanted.gpu and gpus:
        # Ray takes shares below one and whole numbers above it.
        asked["num_gpus"] = wanted.gpu if wanted.gpu <= 1 else math.ceil(wanted.gpu)
    if reserve:
        asked["memory"] = int(wanted.memory_gb * _GIB)
    return asked
