"""The standing pool on a real Ray: jobs share hands, and who dies is replaced without a trace in the results."""

import os
import signal
import time

import pytest

from serve.running.crews import OnPool
from serve.running.dispatcher import Dispatcher
from serve.running.pool import PoolShape, open_pool
from swathe.job import JobState, Where
from tests.serve.running.world import make_world, right_story

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def pooled(tmp_path_factory, scene, new_database, warm_ray):
    """A world whose jobs are carried out by a pool of two hands and a lead."""
    world = make_world(tmp_path_factory.mktemp("pooled"), scene, new_database())
    pool = open_pool(world.settings, PoolShape(hands=2, threads=1, leads=1))
    pool.await_ready(120)
    crew = OnPool(world.settings, lambda: pool)
    crew.open()
    dispatcher = Dispatcher(world.settings, world.store, dict.fromkeys(Where, crew))
    dispatcher.start()
    yield world, pool
    dispatcher.stop()
    pool.close()
    world.store.close()


@pytest.fixture(scope="module")
def oracle(pooled):
    """A job that nobody disturbed, and its bytes."""
    world, _ = pooled
    id_ = world.submit()
    world.await_end(id_)
    right_story(world, id_)
    return world.digest(id_)


def kill(actor):
    import ray

    os.kill(ray.get(actor.ready.remote()), signal.SIGKILL)


def test_jobs_of_two_users_share_the_hands(pooled, oracle):
    from tests.serve.running.world import another_user

    world, _ = pooled
    other = another_user(world)
    ids_ = [world.submit(), other.submit(), world.submit(where=Where.ONLINE)]
    world.await_end(*ids_)
    for id_ in ids_:
        right_story(world, id_)
        assert world.digest(id_) == oracle


@pytest.mark.parametrize("who", ["hand", pytest.param("lead", marks=pytest.mark.slow)])
def test_a_killed_one_costs_nothing_but_time(pooled, oracle, who):
    world, pool = pooled
    id_ = world.submit()
    world.await_state(id_, JobState.RUNNING)
    kill(next(iter((pool.hands if who == "hand" else pool.leads).values())))
    (job,) = world.await_end(id_)
    right_story(world, id_)
    assert world.digest(id_) == oracle
    assert job.attempts == (1 if who == "hand" else 2)


def test_cancelling_is_quick(pooled):
    world, _ = pooled
    from serve.store import jobs

    id_ = world.submit()
    world.await_state(id_, JobState.RUNNING)
    with world.store.begin() as c:
        jobs.cancel(c, id_)
    began = time.monotonic()
    world.await_end(id_)
    right_story(world, id_, world.job(id_).state)
    assert time.monotonic() - began < 5
