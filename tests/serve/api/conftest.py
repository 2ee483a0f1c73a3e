"""The API over a real desk, store and folder; clients that speak to it in this process, or over a socket."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
import rasterio
import uvicorn
from affine import Affine
from fastapi import FastAPI
from starlette.testclient import TestClient

from serve.api.app import api
from serve.api.front import Front
from serve.deployments.local import LocalReplicas
from serve.desk.desk import Desk
from serve.settings import ServiceSettings
from serve.store import ids, jobs, keys, users
from serve.store.keys import Pepper
from serve.store.store import now
from swathe.job import Job, JobState
from swathe.user import SCOPES_OF, Role, User

_numbers = itertools.count()


@dataclass(frozen=True)
class Person:
    """Somebody with a key."""

    user: User
    key: str

    @property
    def headers(self):
        return {"Authorization": f"Bearer {self.key}"}


@dataclass
class House:
    """A service, and what tests do in front of and behind it."""

    desk: Desk
    app: FastAPI

    def person(self, role=Role.MEMBER, scopes=None, **more):
        desk = self.desk
        with desk.store.begin() as c:
            user = users.add(c, f"p{next(_numbers)}@example.org", role)
            _, secret = keys.make(c, Pepper(desk.settings.pepper.encode()), user.id, scopes or SCOPES_OF[role], **more)
        return Person(user, f"swk-{secret}")

    def client(self, person=None, **headers):
        """A client in this process."""
        return TestClient(self.app, "http://svc.test", raise_server_exceptions=False, follow_redirects=False,
                          headers={**(person.headers if person else {}), **headers})  # fmt: skip

    def job(self, owner, state=JobState.QUEUED, **more):
        """A job as the store has it, brought to a state the way attempts do it."""
        made = Job(ids.new("j"), owner.user.id, {"model": "water-ndwi", "inputs": ["https://a.example/x.tif"]},
                   "water-ndwi", now(), now())  # fmt: skip
        result, problem = more.pop("result", {}), more.pop("problem", None)
        with self.desk.store.begin() as c:
            jobs.add(c, replace(made, **more), 1.0)
            if state is not JobState.QUEUED:
                hold = jobs.take(c, made.id, "test", 60)
                jobs.enter(c, hold, JobState.PREPARING)
                if state in {JobState.DONE, JobState.FAILED, JobState.INCOMPLETE, JobState.CANCELLED}:
                    jobs.enter(c, hold, JobState.RUNNING)
                    jobs.finish(c, hold, state, result, sum(result.get("files", {}).values()), problem)
                elif state is not JobState.PREPARING:
                    jobs.enter(c, hold, state)
            return jobs.get(c, made.id)

    def left(self, owner, files, **more):
        """A job that is done and left these files (name -> bytes)."""
        made = self.job(owner, JobState.DONE, result={"files": {n: len(b) for n, b in files.items()}}, **more)
        folder = self.desk.settings.service_dir / "jobs" / made.id
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return made


@pytest.fixture(scope="module")
def houses(tmp_path_factory, new_database):
    """Makes services, and closes them."""
    opened = []

    def make(front=None, replicas=False, limits=None, **given):
        folder = tmp_path_factory.mktemp("service")
        if limits:
            (folder / "limits.yaml").write_text("".join(f"{name}: {value}\n" for name, value in limits.items()))
            given["service_config"] = folder / "limits.yaml"
        settings = ServiceSettings.read(data_dir=folder / "data", database_url=new_database(), **given)
        opened.append(settings.open_store())
        desk = Desk(settings, opened[-1])
        warm = LocalReplicas(settings, desk.models.enabled) if replicas else None
        return House(desk, api(desk, warm, replace(Front.of(settings), **front) if front else None))

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def house_of(houses):
    """``house_of(front=dict(…), replicas=True, limits={…}, **settings)``: a service of its own."""
    return houses


@pytest.fixture(scope="module")
def house(houses):
    """One that tests of a module share: they meet as strangers."""
    return houses(front={"rate_per_minute": 10_000}, replicas=True)


@contextmanager
def serving(app) -> Iterator[str]:
    """A server in a thread, on a free port of loopback."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen(512)  # who comes before the server is ready waits
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        bound.close()


@pytest.fixture(scope="session")
def served():
    """``with served(house.app) as url``."""
    return serving


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """A GeoTIFF of 64 x 96 pixels of 10 m with green and nir: reflectance times 10 000."""
    path = tmp_path_factory.mktemp("images") / "scene.tif"
    rng = np.random.default_rng(7)
    with rasterio.open(path, "w", driver="GTiff", width=96, height=64, count=2, dtype="uint16", crs="EPSG:32633",
                       transform=Affine(10, 0, 500_000, 0, -10, 5_600_000), nodata=0) as file:  # fmt: skip
        for i, band in enumerate(("green", "nir"), 1):
            file.write(rng.integers(200, 6000, (64, 96), dtype="uint16"), i)
            file.set_band_description(i, band)
    return path
