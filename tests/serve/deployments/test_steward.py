"""The steward, on a stage that remembers: what is wanted comes to run, what is not goes, what fails says why."""

import threading
import time
from dataclasses import dataclass
from itertools import pairwise

import pytest

from serve.deployments.sizing import app_of, options_of, shares, threads_of
from serve.deployments.stage import seen
from serve.deployments.steward import Seen, Standing, Steward
from swathe.card import Input, ModelCard, Output, Resources
from swathe.errors import CardError, WeightsError


def a_card(name="net", **changes):
    facts = {
        "id": name, "title": "A network", "task": "regression", "adapter": "artefact", "network": {"file": "net.onnx"},
        "input": Input(bands=("red",), chip=64, overlap=16, mean=(0,), std=(1,)), "output": Output(),
        "resources": Resources(cpu=2, gpu=0.25, memory_gb=3), "licence": "MIT", "citation": "none",
    }  # fmt: skip
    return ModelCard(**(facts | changes))


class Stage:
    """Applications that come up when they are told to."""

    def __init__(self):
        self.apps, self.stopped, self.slow = {}, [], False

    def running(self):
        return dict(self.apps)

    def start(self, app, card):
        self.apps[app] = Seen(Standing.STARTING)

    def stop(self, app):
        self.stopped.append(app)
        if self.slow:
            self.apps[app] = Seen(Standing.STARTING, "ending")
        else:
            self.apps.pop(app, None)

    def come_up(self):
        self.apps = dict.fromkeys(self.apps, Seen(Standing.READY, replicas=1))


def settle(steward, patience=5.0):
    """Let the thread that prepares come to its end, between looks."""
    limit = time.monotonic() + patience
    while time.monotonic() < limit:
        steward.step()
        if steward._preparing is None or not steward._preparing.is_alive():
            break
        steward._preparing.join(patience)
    steward.step()


def until(steward, true, patience=10.0):
    limit = time.monotonic() + patience
    while not true():
        assert time.monotonic() < limit
        steward.step()
        time.sleep(0.01)


@pytest.fixture
def stage():
    return Stage()


def test_a_model_comes_up_step_by_step(stage):
    card, gate = a_card(), threading.Event()

    def prepare(_, say, check):
        say("exporting")
        gate.wait(5)

    steward = Steward(lambda: {card.id: card}, prepare, stage)
    steward.step()
    steward.step()
    assert (steward.berths["net"].standing, stage.apps) == (Standing.STARTING, {})
    assert steward.berths["net"].as_state() == {"state": "starting", "said": "exporting", "replicas": 0}
    gate.set()
    settle(steward)
    assert list(stage.apps) == [app_of(card)]
    stage.come_up()
    steward.step()
    assert steward.berths["net"].as_state() == {"state": "ready", "replicas": 1}


def test_models_are_prepared_one_at_a_time_and_one_that_fails_says_why(stage):
    at_work, most = [], []

    def prepare(card, *_):
        at_work.append(card.id)
        most.append(len(at_work))
        time.sleep(0.02)
        at_work.remove(card.id)
        if card.id == "bad":
            raise WeightsError("there is no file", code="weights.missing", hint="put it there")

    cards = {name: a_card(name) for name in ("good", "bad", "third")}
    steward = Steward(lambda: cards, prepare, stage)
    for _ in cards:
        settle(steward)
    assert max(most) == 1
    assert set(stage.apps) == {app_of(cards["good"]), app_of(cards["third"])}
    state = steward.berths["bad"].as_state()
    assert (state["state"], state["problem"]["code"]) == ("failed", "weights.missing")


def test_a_failed_model_is_tried_again_when_it_is_switched_off_and_on(stage):
    cards, tried = {"net": a_card()}, []

    def prepare(card, *_):
        tried.append(card.id)
        if len(tried) == 1:
            raise WeightsError("not there yet")

    wanted = dict(cards)
    steward = Steward(lambda: wanted, prepare, stage)
    settle(steward)
    assert steward.berths["net"].standing is Standing.FAILED
    wanted.clear()
    steward.step()
    wanted.update(cards)
    settle(steward)
    assert len(tried) == 2
    assert stage.apps


def test_a_replica_that_does_not_start_is_told_with_serves_words(stage):
    card = a_card()
    steward = Steward(lambda: {card.id: card}, lambda *_: None, stage)
    settle(steward)
    stage.apps[app_of(card)] = Seen(Standing.FAILED, "MemoryError: no room")
    steward.step()
    state = steward.berths["net"].as_state()
    assert state["problem"]["code"] == "model.start"
    assert "no room" in state["problem"]["detail"]


@dataclass
class Clock:
    """Time that passes when it is told to."""

    now: float = 100.0

    def __call__(self):
        return self.now


def test_a_start_that_the_network_kept_back_is_tried_again_after_growing_pauses(stage):
    clock, tried = Clock(), []

    def prepare(card, *_):
        tried.append(clock.now)
        if len(tried) < 4:
            raise WeightsError("nobody answers", code="weights.missing", hint="put it there")

    card = a_card()
    steward = Steward(lambda: {card.id: card}, prepare, stage, clock)
    settle(steward)
    state = steward.berths["net"].as_state()
    assert (state["state"], state["problem"]["code"]) == ("failed", "weights.missing")
    assert "put it there" in state["problem"]["hint"]
    assert "again" in state["problem"]["hint"]
    for _ in range(400):
        clock.now += 1
        settle(steward)
    pauses = [after - before for before, after in pairwise(tried)]
    assert len(tried) == 4
    assert pauses == sorted(pauses)
    assert pauses[-1] > 2 * pauses[0] > 0
    assert list(stage.apps) == [app_of(card)]


def test_a_wrong_card_is_not_tried_again(stage):
    clock, tried = Clock(), []

    def prepare(card, *_):
        tried.append(card.id)
        raise CardError("no such layer", code="card.network")

    card = a_card()
    steward = Steward(lambda: {card.id: card}, prepare, stage, clock)
    settle(steward)
    clock.now += 1e6
    settle(steward)
    assert len(tried) == 1
    assert steward.berths["net"].standing is Standing.FAILED


def test_one_that_fails_again_and_again_lets_the_others_go_first(stage):
    clock, tried = Clock(), []

    def prepare(card, *_):
        tried.append(card.id)
        if card.id == "bad":
            raise OSError("no room")

    cards = {"bad": a_card("bad")}
    steward = Steward(lambda: cards, prepare, stage, clock)
    settle(steward)
    clock.now += 1e6
    cards |= {"good": a_card("good"), "better": a_card("better")}
    for _ in range(3):
        settle(steward)
    assert tried == ["bad", "good", "better", "bad"]


def test_what_nobody_wants_any_more_keeps_nobody_waiting(stage):
    """As a member's card whose weights drip, once it is switched off; switched on again, it is begun anew."""
    begun, drips = [], threading.Event()

    def prepare(card, _, check):
        begun.append(card.id)
        limit = time.monotonic() + 20
        while card.id == "slow" and not drips.wait(0.01):
            check()
            assert time.monotonic() < limit

    slow, net = a_card("slow"), a_card("net")
    wanted = {"slow": slow, "net": net}
    steward = Steward(lambda: wanted, prepare, stage)
    steward.step()
    del wanted["slow"]
    settle(steward)
    assert (begun, list(stage.apps)) == (["slow", "net"], [app_of(net)])
    assert set(steward.berths) == {"net"}
    wanted["slow"] = slow
    drips.set()
    settle(steward)
    assert begun == ["slow", "net", "slow"]
    assert steward.berths["slow"].standing is Standing.STARTING


def test_weights_that_drip_keep_no_other_model_waiting(stage):
    """They are fetched side by side; what follows is done for one model at a time, and only with its weights here."""
    prepared, drips = [], threading.Event()

    def fetch(card, say, _):
        say(f"weights of {card.id}")
        assert card.id != "slow" or drips.wait(20)
        if card.id == "lost":
            raise WeightsError("there is no such file", code="weights.missing")

    cards = {name: a_card(name) for name in ("slow", "lost", "net")}
    steward = Steward(lambda: cards, lambda card, *_: prepared.append(card.id), stage, fetch=fetch)
    until(steward, lambda: app_of(cards["net"]) in stage.apps)
    stage.come_up()
    steward.step()
    assert prepared == ["net"]
    assert {name: berth.standing for name, berth in steward.berths.items()} == {
        "slow": Standing.STARTING, "lost": Standing.FAILED, "net": Standing.READY,
    }  # fmt: skip
    assert steward.berths["slow"].said == "weights of slow"
    assert steward.berths["lost"].problem["code"] == "weights.missing"
    drips.set()
    until(steward, lambda: app_of(cards["slow"]) in stage.apps)
    assert prepared == ["net", "slow"]


def test_an_application_that_failed_ends_before_it_is_started_again(stage):
    card, clock, prepared = a_card(), Clock(), []
    steward = Steward(lambda: {card.id: card}, lambda card, *_: prepared.append(card.id), stage, clock)
    settle(steward)
    stage.apps[app_of(card)] = Seen(Standing.FAILED, "MemoryError: no room")
    steward.step()
    assert stage.stopped == []
    clock.now += 3600
    stage.slow = True
    settle(steward)
    assert steward.berths["net"].standing is Standing.STARTING
    assert stage.apps[app_of(card)].said == "ending"
    stage.slow = False
    settle(steward)
    settle(steward)
    assert set(stage.stopped) == {app_of(card)}
    assert stage.apps == {app_of(card): Seen(Standing.STARTING)}
    assert prepared == ["net", "net"]
    stage.come_up()
    steward.step()
    assert steward.berths["net"].standing is Standing.READY


def test_nothing_is_known_before_the_first_look(stage):
    steward = Steward(dict, lambda *_: None, stage)
    assert steward.berths is None
    steward.step()
    assert steward.berths == {}


def test_a_changed_card_is_there_before_the_old_one_goes(stage):
    old = a_card()
    new = old.model_copy(update={"title": "A better network"})
    wanted = {"net": old}
    steward = Steward(lambda: wanted, lambda *_: None, stage)
    settle(steward)
    stage.come_up()
    wanted["net"] = new
    settle(steward)
    assert set(stage.apps) == {app_of(old), app_of(new)}
    stage.come_up()
    steward.step()
    assert (list(stage.apps), stage.stopped) == ([app_of(new)], [app_of(old)])
    assert steward.berths["net"].app == app_of(new)


def test_what_nobody_wants_any_more_ends(stage):
    wanted = {"net": a_card()}
    steward = Steward(lambda: wanted, lambda *_: None, stage)
    settle(steward)
    stage.come_up()
    wanted.clear()
    steward.step()
    assert (stage.apps, steward.berths) == ({}, {})


def test_a_new_steward_takes_over_what_runs(stage):
    card = a_card()
    first = Steward(lambda: {card.id: card}, lambda *_: None, stage)
    settle(first)
    stage.come_up()
    before = dict(stage.apps)
    anew = []
    second = Steward(lambda: {card.id: card}, lambda card, *_: anew.append(card.id), stage)
    second.step()
    assert second.berths["net"].standing is Standing.READY
    settle(second)
    assert (stage.apps, stage.stopped, anew) == (before, [], [])


def test_small_models_share_a_process(stage):
    small = a_card("small", resources=Resources(memory_gb=0.4))
    steward = Steward(lambda: {small.id: small}, lambda *_: None, stage)
    settle(steward)
    assert stage.apps == {}
    assert steward.berths["small"].standing is Standing.READY
    assert shares(small)
    assert not shares(a_card())


def test_replicas_ask_for_what_the_card_says():
    card = a_card(resources=Resources(cpu=2, gpu=0.25, memory_gb=3, replicas=2, warm=0, idle_s=60))
    there = options_of(card, gpus=1, reserve=True)
    assert there["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 0.25, "memory": 3 << 30}
    assert there["autoscaling_config"]["min_replicas"] == 0
    assert there["autoscaling_config"]["max_replicas"] == 2
    assert there["autoscaling_config"]["downscale_delay_s"] == 60
    laptop = options_of(card, gpus=0, reserve=False)["ray_actor_options"]
    assert "num_gpus" not in laptop
    assert laptop["num_cpus"] < 0.1


def test_serve_takes_these_options():
    from ray import serve

    for card in (a_card(), a_card(resources=Resources(gpu=1.5, warm=3, replicas=1))):
        for gpus, reserve in ((0, False), (4, True)):
            serve.deployment(object).options(**options_of(card, gpus=gpus, reserve=reserve))


def test_each_replica_of_the_api_knows_of_how_many_it_is_one():
    from serve.deployments.app import service

    for given, processes in (({}, 1), ({"api_replicas": 3}, 3)):
        bound = service(given)._bound_deployment
        assert bound.num_replicas == processes
        assert bound.init_args[-1] == processes


@pytest.mark.parametrize(("wanted", "cores", "threads"), [(1, 8, 1), (4, 2, 2), (0.5, 8, 1), (3.7, 8, 3)])
def test_threads_are_the_cards_cores_as_far_as_there_are_any(wanted, cores, threads):
    assert threads_of(a_card(resources=Resources(cpu=wanted)), cores) == threads


def overview(status, deployment, trigger, message="", **replicas):
    """What Serve says of an application of one deployment."""
    from ray.serve.schema import ApplicationStatusOverview, DeploymentStatusOverview

    one = DeploymentStatusOverview(deployment, trigger, replicas, message)
    return ApplicationStatusOverview(status, f"the application is {status}", 0.0, {"net": one})


@pytest.mark.parametrize(
    ("said", "standing", "replicas"),
    [
        (("DEPLOYING", "UPDATING", "CONFIG_UPDATE_STARTED", "", {"STARTING": 1}), Standing.STARTING, 0),
        (("RUNNING", "HEALTHY", "CONFIG_UPDATE_COMPLETED", "", {"RUNNING": 2, "STARTING": 1}), Standing.READY, 2),
        (("RUNNING", "HEALTHY", "CONFIG_UPDATE_COMPLETED", "", {}), Standing.IDLE, 0),
        (("RUNNING", "UPSCALING", "AUTOSCALING", "", {"STARTING": 1}), Standing.IDLE, 0),
        (("RUNNING", "DOWNSCALING", "AUTOSCALING", "", {"STOPPING": 1}), Standing.IDLE, 0),
        (("UNHEALTHY", "UNHEALTHY", "HEALTH_CHECK_FAILED", "", {"STARTING": 1, "STOPPING": 1}), Standing.STARTING, 0),
        (("UNHEALTHY", "UNHEALTHY", "HEALTH_CHECK_FAILED", "", {"RUNNING": 1, "STARTING": 1}), Standing.READY, 1),
        (("DEPLOY_FAILED", "DEPLOY_FAILED", "HEALTH_CHECK_FAILED", "", {"STARTING": 1}), Standing.STARTING, 0),
        (("DEPLOYING", "UPDATING", "CONFIG_UPDATE_STARTED", "", {"RECOVERING": 1}), Standing.READY, 1),
        (("UNHEALTHY", "UNHEALTHY", "REPLICA_STARTUP_FAILED", "x\nOSError: no", {"STARTING": 1}), Standing.FAILED, 0),
        (("DEPLOY_FAILED", "DEPLOY_FAILED", "REPLICA_STARTUP_FAILED", "OSError: no", {}), Standing.FAILED, 0),
        (("DELETING", "UPDATING", "DELETING", "", {"RUNNING": 1}), Standing.STARTING, 0),
    ],
)
def test_a_lost_replica_is_no_failed_model(said, standing, replicas):
    *words, states = said
    found = seen(overview(*words, **states))
    assert (found.standing, found.replicas) == (standing, replicas)
    if standing is Standing.FAILED:
        assert found.said == "OSError: no"


def test_an_application_that_could_not_be_built_has_failed():
    from ray.serve.schema import ApplicationStatusOverview

    found = seen(ApplicationStatusOverview("DEPLOY_FAILED", "Deploying failed\nImportError: x", 0.0, {}))
    assert (found.standing, found.said) == (Standing.FAILED, "ImportError: x")
