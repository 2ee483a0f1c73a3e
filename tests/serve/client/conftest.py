"""A whole service in this process, without Ray: API on a socket, desk, store, dispatcher with threads."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
import rasterio
import uvicorn
from rasterio.transform import from_origin

from serve.api.app import api
from serve.api.front import Front
from serve.deployments.local import LocalReplicas
from serve.desk.desk import Desk
from serve.running.crews import Threads
from serve.running.dispatcher import Dispatcher
from serve.running.webhooks import Webhooks
from serve.settings import ServiceSettings
from serve.store import keys, users
from serve.store.keys import Pepper
from swathe import Client
from swathe.job import Where
from swathe.user import SCOPES_OF, Caller, Role, User

_numbers = itertools.count()


def _nobody():
    """Somebody who sees all, to be asked what there is."""
    user = User("u", "a@example.org", "", Role.ADMIN, active=True, created="")
    return Caller(user, SCOPES_OF[Role.ADMIN])


@dataclass
class House:
    """What runs, and how to come to it."""

    settings: ServiceSettings
    desk: Desk
    url: str = ""

    def person(self, role=Role.MEMBER, scopes=None):
        """Somebody new: who they are, and a key of theirs."""
        with self.desk.store.begin() as c:
            user = users.add(c, f"p{next(_numbers)}@example.org", role)
            held = SCOPES_OF[role] if scopes is None else frozenset(scopes)
            key, text = keys.make(c, Pepper(self.settings.pepper.encode()), user.id, held)
        return Caller(user, held, key.id), f"swk-{text}"

    def client(self, role=Role.MEMBER, **more):
        return Client(self.url, self.person(role, **more)[1])


@contextmanager
def up(settings, **front):
    """The service with these settings, from its first answer to its end."""
    store = settings.open_store()
    desk = Desk(settings, store)
    cards = {state.card.id: state.card for state in desk.models.listed(_nobody()) if state.enabled}
    shape = replace(Front.of(settings), rate_per_minute=100_000, predict_rate_per_minute=100_000, **front)
    app = api(desk, LocalReplicas(settings, lambda: cards), shape)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    crew = Threads(settings, store)
    webhooks = Webhooks(store, allow_private=settings.allow_private_urls)
    dispatcher = Dispatcher(settings, store, dict.fromkeys(Where, crew), every=((0.2, webhooks.turn),))
    dispatcher.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield House(settings, desk, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}")
    finally:
        dispatcher.stop()
        server.should_exit = True
        thread.join(10)
        crew.close()
        store.close()


@pytest.fixture(scope="session")
def house(tmp_path_factory):
    """One for all tests; each brings people of its own."""
    settings = ServiceSettings.read(data_dir=tmp_path_factory.mktemp("house"), allow_private_urls=True)
    with up(settings) as found:
        yield found


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """Green and near infrared with a lake in it, reflectance times 10 000."""
    path = tmp_path_factory.mktemp("image") / "scene.tif"
    rng = np.random.default_rng(3)
    data = rng.integers(500, 900, (2, 200, 300)).astype("uint16")
    data[1] += 1500
    data[1, 40:120, 60:200] = 100
    with rasterio.open(path, "w", driver="GTiff", count=2, height=200, width=300, dtype="uint16", crs="EPSG:32633",
                       transform=from_origin(500_000, 5_600_000, 10, 10), tiled=True) as file:  # fmt: skip
        file.write(data)
    return path
