"""From what a card asks for and what the cluster has to a pool of actors. Pure arithmetic; Ray is not needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from swathe.card import Resources
from swathe.errors import ClusterError

SPARE_CORES = 0.2
"""Of every node, left logically free: a pool that takes every core starves Ray's own small tasks (ray#44687)."""
_STEP = 10_000
"""Ray counts resources in ten-thousandths."""
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Node:
    """What one machine of a cluster offers to actors."""

    cpus: float
    """Logical cores; 0: a head that runs no work."""
    gpus: float = 0
    """GPUs."""
    memory: int = 0
    """Bytes that Ray may promise; 0: unknown, not counted."""


@dataclass(frozen=True, slots=True)
class ActorLayout:
    """A pool of equal actors."""

    actors: int
    """How many."""
    num_cpus: float
    """Cores that each asks Ray for: its threads, less what is left free."""
    num_gpus: float
    """Share of a GPU that each asks for; a number for the scheduler, it isolates nothing."""
    threads: int
    """Threads of the forward; to be set by the actor itself, as Ray would derive them from ``num_cpus``."""
    memory: int
    """Bytes that each asks Ray for."""
    note: str = ""
    """What had to be bent, for the report; empty where the card got what it asked for."""

    @property
    def on_gpu(self) -> bool:
        """Whether the actors are to use a GPU."""
        return self.num_gpus > 0


def layout(wanted: Resources, nodes: Sequence[Node], *, work: int | None = None) -> ActorLayout:
    """The pool for one card.

    A card that wants a GPU gets ``floor(1 / gpu)`` actors per GPU, and the cores it asked for or its share of the
    node's, whichever is less. On a cluster without GPU the same card runs on cores. Memory, the card's ``replicas``
    and ``work`` (chunks to do) only ever lower the number, never below one: a card that asks for more than any
    node has gets all of it, and ``note`` says so. Raises ClusterError where no node offers a core.
    """
    workers = [n for n in nodes if n.cpus > 0]
    if not workers:
        raise ClusterError(
            "no machine of the cluster offers a core",
            hint="add a worker, or give the head some: ray start --head --num-cpus N",
            code="cluster.empty",
        )
    on_gpu = [n for n in workers if n.gpus > 0] if wanted.gpu > 0 else []
    pool = _gpu_pool(wanted, on_gpu) if on_gpu else _cpu_pool(wanted, workers)
    return _capped(pool, wanted, work)


def _cpu_pool(wanted: Resources, nodes: Sequence[Node]) -> ActorLayout:
    cores = min(wanted.cpu, max(n.cpus for n in nodes))
    memory, short = _memory(wanted, nodes)
    fitting = [_count(_fits(n.cpus, cores), memory, n) for n in nodes]
    used = [n for n, k in zip(nodes, fitting, strict=True) if k] or [max(nodes, key=lambda n: n.cpus)]
    return ActorLayout(
        actors=max(1, sum(fitting)),
        num_cpus=_leave_spare(cores, min(n.cpus for n in used)),
        num_gpus=0,
        threads=max(1, math.floor(cores)),
        memory=memory,
        note=_note(wanted, cores, short, gpu=0),
    )


def _gpu_pool(wanted: Resources, nodes: Sequence[Node]) -> ActorLayout:
    # Ray takes shares below one and whole numbers above it.
    share = wanted.gpu if wanted.gpu <= 1 else float(math.ceil(wanted.gpu))
    share = min(share, max(n.gpus for n in nodes))
    memory, short = _memory(wanted, nodes)
    fitting = [_count(_per_node(n.gpus, share), memory, n) for n in nodes]
    used = [(n, k) for n, k in zip(nodes, fitting, strict=True) if k] or [(max(nodes, key=lambda n: n.gpus), 1)]
    cores = min(wanted.cpu, *(n.cpus / k for n, k in used))
    return ActorLayout(
        actors=max(1, sum(fitting)),
        num_cpus=min(_leave_spare(cores, n.cpus) for n, _ in used),
        num_gpus=_floor(share),
        threads=max(1, math.floor(cores)),
        memory=memory,
        note=_note(wanted, cores, short, gpu=share),
    )


def _capped(pool: ActorLayout, wanted: Resources, work: int | None) -> ActorLayout:
    most = min(k for k in (pool.actors, wanted.replicas, work) if k is not None)
    return ActorLayout(max(1, most), pool.num_cpus, pool.num_gpus, pool.threads, pool.memory, pool.note)


def _per_node(gpus: float, share: float) -> int:
    """Actors on a node: an actor's share lies on one GPU, so what is left of each GPU is lost."""
    return math.floor(gpus) * _fits(1, share) if share <= 1 else _fits(gpus, share)


def _count(most: int, memory: int, node: Node) -> int:
    return most if node.memory == 0 else min(most, _fits(node.memory, memory))


def _memory(wanted: Resources, nodes: Sequence[Node]) -> tuple[int, bool]:
    """Bytes of one actor, and whether the largest node has less than the card asks for."""
    asked = int(wanted.memory_gb * _GIB)
    if any(n.memory == 0 for n in nodes):
        return asked, False
    most = max(n.memory for n in nodes)
    return min(asked, most), asked > most


def _leave_spare(cores: float, node_cores: float) -> float:
    """``cores``, scaled so that a node full of such actors keeps SPARE_CORES (at most a fifth) free."""
    return max(_floor(cores * (1 - min(SPARE_CORES / node_cores, SPARE_CORES))), 1 / _STEP)


def _fits(room: float, piece: float) -> int:
    # 1 / (1/3) and 1 / 0.2 are whole numbers for a person and not quite for a float.
    return math.floor(room / piece + 1e-9)


def _floor(value: float) -> float:
    return math.floor(value * _STEP + 1e-6) / _STEP


def _note(wanted: Resources, cores: float, short: bool, *, gpu: float) -> str:
    bent = []
    if wanted.gpu > 0 and gpu == 0:
        bent.append("no GPU in the cluster: on cores")
    elif gpu != wanted.gpu:
        bent.append(f"{gpu:g} GPU instead of {wanted.gpu:g}")
    if cores < wanted.cpu:
        bent.append(f"{cores:g} cores instead of {wanted.cpu:g}")
    if short:
        bent.append(f"less memory than the {wanted.memory_gb:g} GB of the card")
    return "; ".join(bent)
