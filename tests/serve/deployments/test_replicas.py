"""Models on a real Serve: a network of its own, a small one among the small ones, failures that come as our errors."""

import asyncio
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from models.load import ensure
from pipelines.imagery.sensors import load_sensors
from pipelines.online import Form, Online, Question
from serve.deployments.app import _heads
from serve.deployments.berths import RayReplicas
from serve.deployments.sizing import app_of
from serve.deployments.stage import ServeStage
from serve.deployments.steward import Standing, Steward
from swathe.card import Resources
from swathe.errors import ConflictError, ImageryError, ModelError
from swathe.recipe import Recipe

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "pipelines"))
PATIENCE_S = 90


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    from serve.settings import ServiceSettings

    return ServiceSettings.read(data_dir=tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def cards(tmp_path_factory, settings):
    """The same network as a large model, as a small one, and as one that sleeps while nobody asks."""
    from conftest import network_card, write_network

    file = write_network(tmp_path_factory.mktemp("net") / "net.onnx")
    large = ensure(network_card(file, id="large", resources=Resources(batch=4, memory_gb=1)), settings.home).card
    small = network_card(file, id="small", resources=Resources(batch=4, memory_gb=0.3))
    sleepy = large.model_copy(update={"id": "sleepy", "resources": Resources(batch=4, memory_gb=1, warm=0, idle_s=1)})
    return {"large": large, "small": small, "sleepy": sleepy}


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    from conftest import make_scene

    return make_scene(tmp_path_factory.mktemp("scene") / "scene.tif", (200, 300)).read_bytes()


class Asked:
    """Stands where the caretaker's handle does: a method, asked from afar."""

    def __init__(self, steward):
        self.steward = steward

    @property
    def berths(self):
        return self

    async def remote(self):
        return self.steward.berths


@pytest.fixture(scope="module")
def served(warm_ray, settings, cards):
    """(replicas, steward) on the Serve of the warm Ray."""
    from ray import serve

    elsewhere = {"runtime_env": {"env_vars": {"SWATHE_DATA_DIR": str(settings.data_dir)}}}
    serve.start(http_options={"location": "NoServer"})
    heads = serve.deployment(name="heads", ray_actor_options={"num_cpus": 0.01, **elsewhere})(_heads())
    handle = serve.run(heads.bind(), name="swathe", route_prefix=None)
    steward = Steward(lambda: cards, lambda *_: None, ServeStage(reserve=False, actor=elsewhere))
    _until(steward, lambda: steward.berths["large"].standing is Standing.READY)
    yield RayReplicas(Asked(steward), handle), steward
    serve.shutdown()


def _until(steward, done):
    limit = time.monotonic() + PATIENCE_S
    while time.monotonic() < limit:
        steward.step()
        if done():
            return
        time.sleep(0.2)
    raise AssertionError({name: berth.as_state() for name, berth in steward.berths.items()})


def ask(replicas, model, image, form=Form.TIFF, **changes):
    return asyncio.run(replicas.predict(model, replace(Question(Recipe(model), image, form), **changes)))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("name", ["large", "small"])
def test_replicas_give_the_bytes_of_this_process(served, settings, cards, image, name):
    replicas, _ = served
    here = Online(cards[name], settings.home, load_sensors(settings.sensors_dir))
    assert ask(replicas, name, image).body == here(Question(Recipe(name), image)).body
    said = json.loads(ask(replicas, name, image, Form.JSON).body)
    assert said["model"] == name


@pytest.mark.ray
@pytest.mark.slow
def test_what_is_wrong_with_a_request_is_our_error(served):
    replicas, _ = served
    for name in ("large", "small"):
        with pytest.raises(ImageryError) as caught:
            ask(replicas, name, b"no image")
        assert caught.value.problem.code == "imagery.unreadable"


@pytest.mark.ray
@pytest.mark.slow
def test_a_model_that_does_not_load_says_why(served, cards, monkeypatch):
    replicas, steward = served
    large = cards["large"]
    broken = large.model_copy(update={"id": "broken", "network": large.network | {"file": "/nowhere/net.onnx"}})
    monkeypatch.setitem(cards, "broken", broken)
    _until(steward, lambda: steward.berths["broken"].standing is Standing.FAILED)
    assert "/nowhere/net.onnx" in steward.berths["broken"].as_state()["problem"]["detail"]
    with pytest.raises(ModelError, match="nowhere"):
        ask(replicas, "broken", b"")


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("served")
def test_a_model_that_is_not_there_yet_says_so(cards):
    late = cards["large"].model_copy(update={"id": "late"})
    steward = Steward(lambda: cards | {"late": late}, lambda *_: time.sleep(1), ServeStage(reserve=False))
    steward.step()
    with pytest.raises(ConflictError) as caught:
        ask(RayReplicas(Asked(steward), None), "late", b"")
    assert caught.value.problem.code == "model.starting"


@pytest.mark.ray
@pytest.mark.slow
def test_a_new_steward_finds_what_runs_ready_at_its_first_look(served, cards, image):
    steward = Steward(lambda: cards, lambda *_: time.sleep(1), ServeStage(reserve=False))
    replicas = RayReplicas(Asked(steward), None)
    with pytest.raises(ConflictError, match="just started"):
        ask(replicas, "large", image)
    steward.step()
    assert steward.berths["large"].as_state() == {"state": "ready", "replicas": 1}
    assert ask(replicas, "large", image).body == ask(served[0], "large", image).body


@pytest.mark.ray
@pytest.mark.slow
def test_a_model_that_sleeps_is_woken_by_a_request_and_falls_asleep_again(served, image):
    replicas, steward = served
    asleep = {"state": "idle", "replicas": 0}
    _until(steward, lambda: steward.berths["sleepy"].as_state() == asleep)
    assert ask(replicas, "sleepy", image).body == ask(replicas, "large", image).body
    _until(steward, lambda: steward.berths["sleepy"].as_state() == {"state": "ready", "replicas": 1})
    _until(steward, lambda: steward.berths["sleepy"].as_state() == asleep)


def _working(card):
    """Processor seconds of each of its replicas."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, IndexError):
            if process.cmdline()[0].startswith(f"ray::ServeReplica:{app_of(card)}:"):
                found[process.pid] = process.cpu_times().user
    return found


@pytest.mark.ray
@pytest.mark.slow
def test_a_model_that_many_ask_grows_as_far_as_its_card_allows_and_shrinks_again(served, cards, image, monkeypatch):
    replicas, steward = served
    wanted = Resources(batch=4, memory_gb=1, replicas=2, idle_s=1)
    card = cards["large"].model_copy(update={"id": "growing", "resources": wanted})
    monkeypatch.setitem(cards, "growing", card)

    def until(number):
        _until(steward, lambda: steward.berths["growing"].as_state() == {"state": "ready", "replicas": number})

    until(1)
    answers, enough = [], threading.Event()

    def asking():
        while not enough.is_set():
            answers.append(ask(replicas, "growing", image).body)

    with ThreadPoolExecutor(8) as people:
        asked = [people.submit(asking) for _ in range(8)]
        try:
            until(2)
            before, told = _working(card), len(answers)
            while len(answers) < told + 100 and not any(one.done() for one in asked):
                time.sleep(0.1)
            after = _working(card)
        finally:
            enough.set()
    assert [one.exception() for one in asked] == [None] * 8
    assert set(answers) == {ask(replicas, "large", image).body}
    shares = [after[pid] - before[pid] for pid in before]
    assert len(shares) == 2
    assert min(shares) > max(shares) / 4, "one of them answered alone"
    until(1)
