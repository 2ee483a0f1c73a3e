"""Worlds to run jobs in."""

from __future__ import annotations

import pytest

from serve.running.crews import Threads
from serve.running.dispatcher import Dispatcher
from swathe.job import Where
from tests.pipelines.conftest import make_scene
from tests.serve.running.world import make_world


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    """Twelve chunks of 512."""
    return make_scene(tmp_path_factory.mktemp("scenes") / "scene.tif", (1100, 1600))


@pytest.fixture
def world_of(tmp_path, scene, new_database):
    """``world_of(max_attempts=3)``: one with other limits than the shipped ones."""
    opened = []

    def make(**limits):
        opened.append(make_world(tmp_path, scene, new_database(), **limits))
        return opened[-1]

    yield make
    for world in opened:
        world.store.close()


@pytest.fixture
def world(world_of):
    return world_of()


@pytest.fixture
def dispatch():
    """Start a dispatcher with threads as its crew: ``dispatch(world)``; all are stopped at the end."""
    begun = []

    def dispatch(world, crew=None):
        crew = crew or Threads(world.settings, world.store)
        one = Dispatcher(world.settings, world.store, dict.fromkeys(Where, crew))
        one.start()
        begun.append((one, crew))
        return one

    yield dispatch
    for one, crew in begun:
        one.stop()
        crew.close()
