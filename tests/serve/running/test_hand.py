"""A hand does chunks of several runs, and loads a model once."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.begin import begin, look
from pipelines.imagery.gdal import Access
from pipelines.imagery.sensors import load_sensors
from pipelines.worker import LANES, ChunkWorker, Order
from serve.running.hand import Hand
from swathe.errors import ClusterError
from swathe.recipe import Recipe
from tests.pipelines.conftest import ROOT, card, home  # noqa: F401  fixtures


@pytest.fixture
def order(tmp_path, scene, home, card):  # noqa: F811
    recipe = Recipe(card.id, (str(scene),), chunk=512)
    plan = begin(recipe, card, look(recipe, card, load_sensors(ROOT / "configs" / "sensors")), actors=1)
    (tmp_path / "a").mkdir()
    return Order(plan.work, tmp_path / "a", home, access=Access()), plan.chunks


def test_two_runs_of_a_model_load_it_once(order, tmp_path, monkeypatch):
    first, chunks = order
    (tmp_path / "b").mkdir()
    second, loads = replace(first, parts=tmp_path / "b"), []
    from models import load

    monkeypatch.setattr(load, "load", lambda *a, load=load.load, **k: loads.append(1) or load(*a, **k))
    hand = Hand()
    for chunk in chunks[:2]:
        for name, one in (("a", first), ("b", second)):
            answer = hand.do(name, ChunkWorker, lambda one=one: one, chunk)
            assert isinstance(answer, dict)
            assert answer["status"] == "done"
    assert len(loads) == 1
    for name in answer["files"]:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    hand.forget("a")
    assert isinstance(hand.do("a", ChunkWorker, lambda: first, chunks[2]), dict)
    assert len(loads) == 1


def test_a_hand_loads_a_model_as_every_worker_does(order, monkeypatch):
    """With batches side by side, where it has several threads."""
    from models import load

    first, chunks = order
    asked = []
    monkeypatch.setattr(load, "load", lambda *a, load=load.load, **k: asked.append((a, k)) or load(*a, **k))
    ChunkWorker(first).reader.close()
    assert isinstance(Hand().do("a", ChunkWorker, lambda: first, chunks[0]), dict)
    assert asked[0] == asked[1]
    assert asked[0][1] == {"lanes": LANES}


def test_a_worker_without_its_model_keeps_no_file_open(order, monkeypatch):
    from models import load

    def fail(*_args, **_options):
        raise ClusterError("no memory", code="cluster.worker")

    closed = []
    monkeypatch.setattr(load, "load", fail)
    monkeypatch.setattr(Order, "reader", lambda self: SimpleNamespace(begin=list, close=lambda: closed.append(1)))
    with pytest.raises(ClusterError):
        ChunkWorker(order[0])
    assert closed == [1]


def test_of_models_that_are_too_many_the_oldest_goes(order):
    first, chunks = order
    hand = Hand(kept_gb=0.5)
    other = first.work.card.model_copy(update={"id": "other-net"})
    assert isinstance(hand.do("a", ChunkWorker, lambda: first, chunks[0]), dict)
    assert isinstance(hand.do("b", ChunkWorker, lambda: replace(first, work=replace(first.work, card=other)),
                              chunks[0]), dict)  # fmt: skip
    assert len(hand._models) == 1
    assert list(hand._workers) == ["b"]


def test_what_breaks_is_an_answer(order):
    _, chunks = order

    def broken():
        raise np.exceptions.AxisError("inside")

    answer = Hand().do("a", ChunkWorker, broken, chunks[0])
    assert isinstance(answer, ClusterError)
    assert answer.problem.code == "cluster.worker"
