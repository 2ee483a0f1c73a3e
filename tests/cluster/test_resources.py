"""Layouts of actor pools: a table of cases a person can check, and what must hold for any cluster."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.resources import ActorLayout, Node, in_pairs, layout
from swathe.card import Resources
from swathe.errors import ClusterError

GIB = 1 << 30
LAPTOP = (Node(2, memory=16 * GIB),)
HEAD = Node(0, memory=8 * GIB)


@pytest.mark.parametrize(
    ("wanted", "nodes", "actors", "num_cpus", "num_gpus", "threads"),
    [
        # Two cores: two actors of one thread, and a fifth of a core left for Ray's own tasks.
        ({"cpu": 1}, LAPTOP, 2, 0.9, 0, 1),
        ({"cpu": 2}, LAPTOP, 1, 1.8, 0, 2),
        ({"cpu": 0.5}, LAPTOP, 4, 0.45, 0, 1),
        ({"cpu": 8}, LAPTOP, 1, 1.8, 0, 2),
        ({"cpu": 1}, (Node(1),), 1, 0.8, 0, 1),
        ({"cpu": 4}, (Node(64),), 16, 3.9875, 0, 4),
        # A GPU card on a machine without one runs on cores.
        ({"cpu": 1, "gpu": 0.5}, LAPTOP, 2, 0.9, 0, 1),
        # floor(1 / gpu) actors on each GPU; what is left of a GPU is nobody's.
        ({"cpu": 1, "gpu": 0.5}, (Node(8, 1),), 2, 0.975, 0.5, 1),
        ({"cpu": 1, "gpu": 0.3}, (Node(8, 2),), 6, 0.975, 0.3, 1),
        ({"cpu": 1, "gpu": 1 / 3}, (Node(8, 1),), 3, 0.975, 0.3333, 1),
        ({"cpu": 1, "gpu": 0.6}, (Node(8, 3),), 3, 0.975, 0.6, 1),
        # More than one GPU: whole numbers, as Ray wants them.
        ({"cpu": 2, "gpu": 1.5}, (Node(16, 5),), 2, 1.975, 2, 2),
        # GPU is what is scarce: actors share the cores that there are.
        ({"cpu": 4, "gpu": 0.25}, (Node(8, 1),), 4, 1.95, 0.25, 2),
        # Heads without cores do no work; nodes without GPU are left out of a GPU pool.
        ({"cpu": 1}, (HEAD, Node(4), Node(8)), 12, 0.95, 0, 1),
        ({"cpu": 1, "gpu": 1}, (HEAD, Node(64), Node(4, 1)), 1, 0.95, 1, 1),
        # Memory and replicas only lower the number.
        ({"cpu": 1, "memory_gb": 3}, (Node(16, memory=8 * GIB),), 2, 0.9875, 0, 1),
        ({"cpu": 1, "replicas": 3}, (Node(16),), 3, 0.9875, 0, 1),
    ],
)
def test_table(wanted, nodes, actors, num_cpus, num_gpus, threads):
    got = layout(Resources(**wanted), nodes)
    assert (got.actors, got.num_cpus, got.num_gpus, got.threads) == (actors, num_cpus, num_gpus, threads)


@pytest.mark.parametrize(
    ("wanted", "nodes", "actors", "threads"),
    [
        ({"cpu": 1}, LAPTOP, 1, 2),
        ({"cpu": 1}, (HEAD, Node(4), Node(8)), 6, 2),
        ({"cpu": 1, "memory_gb": 3}, (Node(16, memory=8 * GIB),), 2, 2),
        ({"cpu": 1, "gpu": 0.5}, LAPTOP, 1, 2),
        # No core is left idle, no GPU shared by fewer, no wish of a card overruled.
        ({"cpu": 1}, (Node(3),), 3, 1),
        ({"cpu": 1}, (Node(1),), 1, 1),
        ({"cpu": 1, "gpu": 0.5}, (Node(8, 1),), 2, 1),
        ({"cpu": 0.5}, LAPTOP, 4, 1),
        ({"cpu": 4}, (Node(8),), 2, 4),
    ],
)
def test_in_pairs(wanted, nodes, actors, threads):
    got = layout(in_pairs(Resources(**wanted), nodes), nodes)
    assert (got.actors, got.threads) == (actors, threads)


def test_never_more_actors_than_chunks():
    assert layout(Resources(), (Node(64),), work=3).actors == 3
    assert layout(Resources(), (Node(64),), work=0).actors == 1


def test_a_card_that_asks_for_too_much_gets_what_there_is_and_the_report_says_so():
    got = layout(Resources(cpu=8, memory_gb=64, gpu=1), LAPTOP)
    assert got.memory == 16 * GIB
    assert got.note == ("no GPU in the cluster: on cores; 2 cores instead of 8; less memory than the 64 GB of the card")
    assert layout(Resources(), LAPTOP).note == ""
    assert layout(Resources(gpu=4), (Node(8, 2),)).note == "2 GPU instead of 4"


def test_a_cluster_without_cores_is_refused():
    with pytest.raises(ClusterError, match="no machine") as refused:
        layout(Resources(), (HEAD,))
    assert refused.value.problem.code == "cluster.empty"


cards = st.builds(
    Resources,
    cpu=st.floats(0.1, 32),
    gpu=st.one_of(st.just(0.0), st.floats(0.05, 1), st.floats(1, 4)),
    memory_gb=st.floats(0.1, 64),
    replicas=st.none() | st.integers(1, 40),
)
machines = st.builds(
    Node, st.integers(1, 128).map(float), st.integers(0, 8).map(float), st.integers(0, 512).map(lambda g: g * GIB)
)


def placed(got: ActorLayout, node: Node) -> int:
    """How many of these actors Ray would put on a node that has no other work: a plain count, one by one."""
    cpus, memory, slots = round(node.cpus * 1e4), node.memory, [10_000] * int(node.gpus)
    count = 0
    while cpus >= round(got.num_cpus * 1e4) and (node.memory == 0 or memory >= got.memory):
        if got.num_gpus > 1:
            free = [i for i, s in enumerate(slots) if s == 10_000][: int(got.num_gpus)]
            if len(free) < got.num_gpus:
                break
            for i in free:
                slots[i] = 0
        elif got.num_gpus:
            share = round(got.num_gpus * 1e4)
            fitting = [i for i, s in enumerate(slots) if s >= share]
            if not fitting:
                break
            slots[fitting[0]] -= share
        cpus -= round(got.num_cpus * 1e4)
        memory -= got.memory
        count += 1
    return count


@given(cards, st.lists(machines, min_size=1, max_size=4))
def test_every_actor_finds_a_place_and_no_node_is_full(card, nodes):
    got = layout(card, nodes)
    assert got.actors >= 1
    assert got.threads >= 1
    assert got.threads <= max(1, math.floor(card.cpu))
    assert got.num_gpus <= 1 or got.num_gpus == int(got.num_gpus)
    assert got.on_gpu == (card.gpu > 0 and any(n.gpus for n in nodes))
    assert sum(placed(got, n) for n in nodes) >= got.actors
    if len(nodes) == 1:
        assert nodes[0].cpus - got.actors * got.num_cpus > 0.09


@given(cards, st.lists(machines, min_size=1, max_size=3), st.data())
def test_one_more_of_the_same_machines_never_makes_the_pool_smaller(card, nodes, data):
    twin = data.draw(st.sampled_from(nodes))
    assert layout(card, [*nodes, twin]).actors >= layout(card, nodes).actors


@given(cards, st.lists(machines, min_size=1, max_size=3), st.integers(1, 20))
def test_caps(card, nodes, work):
    got = layout(card, nodes, work=work)
    assert got.actors <= work
    assert card.replicas is None or got.actors <= card.replicas
