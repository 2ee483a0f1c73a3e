"""The store on both databases: a file, and a real PostgreSQL that one test run shares."""

from __future__ import annotations

import shutil

import pytest

from serve.store import ids, jobs, users
from serve.store.store import Store, now
from swathe.job import Job, Where


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request, tmp_path):
    """Address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'service.sqlite'}"
    return request.getfixturevalue("postgres").fresh()


@pytest.fixture(scope="session")
def made_file(tmp_path_factory):
    """A file with all tables, to be copied."""
    path = tmp_path_factory.mktemp("store") / "made.sqlite"
    Store.open(f"sqlite:///{path}").close()
    return path


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request, tmp_path):
    """A store of its own, with its tables."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("made_file"), tmp_path / "service.sqlite")
        url = f"sqlite:///{tmp_path / 'service.sqlite'}"
    else:
        url = request.getfixturevalue("postgres").ready()
    store = Store(url)
    yield store
    store.close()


@pytest.fixture
def ada(store):
    """A user."""
    with store.begin() as c:
        return users.add(c, "ada@example.org")


@pytest.fixture
def submit(store, ada):
    """Puts jobs into the store: ``submit()``, ``submit(owner=…, seconds=…)``; gives their ids."""

    def put(c, *, owner=None, seconds=1.0, place=Where.POOL, area_km2=1.0, **more):
        moment = now()
        job = Job(ids.new("j"), owner or ada.id, {"model": "m"}, more.pop("model", "m"), moment, moment, where=place,
                  cost={"seconds": seconds}, **more)  # fmt: skip
        jobs.add(c, job, area_km2)
        return job.id

    def one(c=None, **more):
        if c is not None:
            return put(c, **more)
        with store.begin() as own:
            return put(own, **more)

    return one
