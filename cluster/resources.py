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
_PAIR = 2


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
    on_gpu = [n for n in workers if n.gpus >= 1] if wanted.gpu > 0 else []
    pool = _gpu_pool(wanted, on_gpu) if on_gpu else _cpu_pool(wanted, workers)
    return _capped(pool, wanted, work)


def in_pairs(wanted: Resources, nodes: Sequence[Node]) -> Resources:
    """A card that asks for one core, with two an actor, where that leaves no core of any node idle; others as they are.

    Two batches side by side in one actor are as fast as two actors, which would share the network, read what lies
    between them twice and hold the model twice. It is for a Ray that nobody else uses: an actor of two cores waits
    for ever where another program keeps one of them.
    """
    odd = any(math.floor(n.cpus) % _PAIR for n in nodes)
    on_gpu = wanted.gpu > 0 and any(n.gpus >= 1 for n in nodes)
    return wanted if odd or on_gpu or wanted.cpu != 1 else wanted.model_copy(update={"cpu": float(_PAIR)})


@dataclass(frozen=True, slots=True)
class _Ask:
    """What one actor is to have: the card's wish, cut down to what a single node has."""

    cores: float
    gpu: float
    memory: int
    short: bool

    def per_node(self, node: Node) -> int:
        """How many such actors a node has room for, cores left aside where GPUs are the scarce thing."""
        by_memory = _fits(node.memory, self.memory) if node.memory else None
        by_rest = _per_gpus(node.gpus, self.gpu) if self.gpu else _fits(node.cpus, self.cores)
        return by_rest if by_memory is None else min(by_rest, by_memory)


def _cpu_pool(wanted: Resources, nodes: Sequence[Node]) -> ActorLayout:
    ask = _fitting(wanted, nodes, gpu=0)
    used = [(n, k) for n in nodes if (k := ask.per_node(n))]
    return ActorLayout(
        actors=sum(k for _, k in used),
        num_cpus=_leave_spare(ask.cores, min(n.cpus for n, _ in used)),
        num_gpus=0,
        threads=max(1, math.floor(ask.cores)),
        memory=ask.memory,
        note=_note(wanted, ask, ask.cores),
    )


def _gpu_pool(wanted: Resources, nodes: Sequence[Node]) -> ActorLayout:
    # Ray takes shares below one and whole numbers above it.
    ask = _fitting(wanted, nodes, gpu=wanted.gpu if wanted.gpu <= 1 else math.ceil(wanted.gpu))
    used = [(n, k) for n in nodes if (k := ask.per_node(n))]
    cores = min(ask.cores, *(n.cpus / k for n, k in used))
    return ActorLayout(
        actors=sum(k for _, k in used),
        num_cpus=min(_leave_spare(cores, n.cpus) for n, _ in used),
        num_gpus=_floor(ask.gpu),
        threads=max(1, math.floor(cores)),
        memory=ask.memory,
        note=_note(wanted, ask, cores),
    )


def _fitting(wanted: Resources, nodes: Sequence[Node], *, gpu: float) -> _Ask:
    """The wish, cut down to the node that comes nearest to it: in GPUs, then in memory, then in cores.

    Too little memory ends a run and too few cores only slow it down.
    """
    memory = int(wanted.memory_gb * _GIB)

    def nearness(n: Node) -> tuple[float, float, float]:
        return min(n.gpus, gpu), min(n.memory or memory, memory), min(n.cpus, wanted.cpu)

    share, room, cores = nearness(max(nodes, key=nearness))
    return _Ask(cores=cores, gpu=share, memory=int(room), short=room < memory)


def _capped(pool: ActorLayout, wanted: Resources, work: int | None) -> ActorLayout:
    most = min(k for k in (pool.actors, wanted.replicas, work) if k is not None)
    return ActorLayout(max(1, most), pool.num_cpus, pool.num_gpus, pool.threads, pool.memory, pool.note)


def _per_gpus(gpus: float, share: float) -> int:
    """Actors on a node: an actor's share lies on one GPU, so what is left of each GPU is lost."""
    return math.floor(gpus) * _fits(1, share) if share <= 1 else _fits(gpus, share)


def _leave_spare(cores: float, node_cores: float) -> float:
    """``cores``, scaled so that a node full of such actors keeps SPARE_CORES (at most a fifth) free."""
    return max(_floor(cores * (1 - min(SPARE_CORES / node_cores, SPARE_CORES))), 1 / _STEP)


def _fits(room: float, piece: float) -> int:
    # 1 / (1/3) and 1 / 0.2 are whole numbers for a person and not quite for a float.
    return math.floor(room / piece + 1e-9)


def _floor(value: float) -> float:
    return math.floor(value * _STEP + 1e-6) / _STEP


def _note(wanted: Resources, ask: _Ask, cores: float) -> str:
    bent = []
    if wanted.gpu > 0 and ask.gpu == 0:
        bent.append("no GPU in the cluster: on cores")
    elif ask.gpu != wanted.gpu:
        bent.append(f"{ask.gpu:g} GPU instead of {wanted.gpu:g}")
    if cores < wanted.cpu:
        bent.append(f"{cores:g} cores instead of {wanted.cpu:g}")
    if ask.short:
        bent.append(f"less memory than the {wanted.memory_gb:g} GB of the card")
    return "; ".join(bent)
