"""A database that is away while the service starts, and while its Ray dies: all wait for it, and nobody gives up."""

from __future__ import annotations

import json
import logging
import threading
import time
from contextlib import contextmanager
from functools import partial

import httpx2
import psutil
import pytest
from sqlalchemy import text
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from cluster import head, reach
from serve.cli import up
from serve.deployments import keeper, opening, record
from serve.deployments.caretaker import STUCK_S
from serve.deployments.keeper import Keeper, KeepSpec
from serve.deployments.opening import Opening
from serve.deployments.waiting import waited_for
from serve.store.store import Store
from swathe.errors import StoreError

PATIENCE_S = 300


@contextmanager
def away(path):
    """A folder in the place of the file: nobody opens that."""
    path.mkdir(parents=True)
    try:
        yield
    finally:
        path.rmdir()


@pytest.fixture
def lines():
    """What is said about the database while somebody waits for it."""
    found, handler = [], logging.Handler()
    handler.emit = lambda line: found.append(line.getMessage())
    loggers = [logging.getLogger(name) for name in ("swathe.waiting", "serve.store.store")]
    for logger in loggers:
        logger.addHandler(handler)
    yield found
    for logger in loggers:
        logger.removeHandler(handler)


def test_a_database_that_comes_back_is_opened(tmp_path, lines):
    path, found = tmp_path / "service.sqlite", []
    with away(path):
        waiting = threading.Thread(target=lambda: found.append(waited_for(lambda: opened(path), pause_s=0.02)))
        waiting.start()
        time.sleep(1)
        assert waiting.is_alive()
    waiting.join(30)
    with found[0].read() as c:
        assert c.execute(text("SELECT count(*) FROM users")).scalar_one() == 0
    found[0].close()
    assert len([line for line in lines if line.startswith("waiting for the database")]) == 1
    assert len([line for line in lines if line.startswith("the database: ")]) == 1
    Store.open(f"sqlite:///{path}").close()


def opened(path):
    return Store.open(f"sqlite:///{path}")


def test_patience_has_an_end_where_somebody_waits(tmp_path):
    with away(tmp_path / "service.sqlite"), pytest.raises(StoreError) as refused:
        waited_for(lambda: opened(tmp_path / "service.sqlite"), patience_s=0.1, pause_s=0.02)
    assert refused.value.problem.code == "store.unavailable"


def test_what_does_not_pass_is_not_waited_for(tmp_path):
    store = opened(tmp_path / "service.sqlite")
    with store.begin() as c:
        c.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(StoreError) as refused:
        waited_for(lambda: opened(tmp_path / "service.sqlite"))
    assert refused.value.problem.code == "store.newer"


def test_a_wrong_database_is_told_before_anything_starts(tmp_path, monkeypatch):
    """Behind a detached keeper nobody would hear that the service waits."""
    monkeypatch.setattr(up, "_STORE_S", 0.5)
    monkeypatch.setenv("SWATHE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SWATHE_DATABASE_URL", f"postgresql://nobody@127.0.0.1:{reach.free_port()}/none")
    with pytest.raises(StoreError) as refused:
        up.up(detach=True, port=reach.free_port())
    assert refused.value.problem.code == "store.unavailable"
    assert "SWATHE_DATABASE_URL" in refused.value.hint
    assert record.read(tmp_path) is None
    assert not (record.folder_of(tmp_path) / "keeper.log").exists()


def test_requests_are_told_to_come_again_until_the_database_is_there(tmp_path):
    """As soon as it is, the API answers them, over the same connection."""
    path, front = (
        tmp_path / "service.sqlite",
        Starlette(routes=[Route("/api/jobs", lambda _: PlainTextResponse("here"))]),
    )

    def make(patience_s):
        waited_for(lambda: opened(path), patience_s, pause_s=0.02).close()
        return front

    with away(path):
        app = opening.opened(partial(make, 0.0), partial(make, 60.0))
        assert isinstance(app, Opening)
        with TestClient(app) as client:
            told = client.get("/api/jobs")
            assert (told.status_code, told.json()["code"]) == (503, "store.unavailable")
            assert int(told.headers["retry-after"]) > 0
            assert client.get("/health/livez").json() == {"ok": True, "status": "UP"}
            ready = client.get("/health/readyz")
            assert ready.status_code == 503
            assert not ready.json()["parts"]["database"]["ok"]
            assert str(path) not in ready.text + told.text
            with pytest.raises(WebSocketDisconnect) as closed, client.websocket_connect("/ws"):
                pass
            assert closed.value.code == 1013
            app.check()
    with TestClient(app) as client:
        until(lambda: client.get("/api/jobs").text == "here")
        assert client.get("/health/livez").status_code == 404
    assert opening.opened(partial(make, 0.0), partial(make, 0.0)) is front


def test_an_api_that_cannot_be_made_is_told_to_serve(tmp_path):
    """As by a database of a newer version that came back: a new process says why at its start."""
    error = StoreError("away", code="store.unavailable")

    def newer():
        raise StoreError("newer", code="store.newer")

    app = Opening(newer, error)
    until(lambda: app._failed)
    with pytest.raises(RuntimeError):
        app.check()
    with TestClient(app) as client:
        assert client.get("/api/jobs").status_code == 503
    with pytest.raises(StoreError):
        opening.opened(newer, newer)


# --- the whole service ----------------------------------------------------------------------------------------------


def until(look):
    limit = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < limit
        time.sleep(0.2)
    return found


def replica(name):
    """The process of one of its replicas; None while there is none."""
    return next((p for p in psutil.Process().children(recursive=True) if _title(p).startswith(f"ray::{name}")), None)


def _title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


@pytest.fixture
def kept(tmp_path):
    """(keeper, event when it is ready, what it ended with), at work in a thread."""
    ready, problems = threading.Event(), []
    told = {"SWATHE_DATA_DIR": str(tmp_path), "SWATHE_DATABASE_URL": f"sqlite:///{tmp_path / 'database.sqlite'}"}
    spec = KeepSpec(tmp_path, port=reach.free_port(), cpus=2, gpus=0, environment=told)
    one = Keeper(spec, lambda _: ready.set())

    def run():
        try:
            one.run()
        except Exception as error:  # noqa: BLE001  told by the test
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield one, ready, problems
    one.stop()
    thread.join()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "database.sqlite"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_service_waits_for_its_database_and_is_left_alone_meanwhile(path, monkeypatch, request):
    """Longer than Serve tries constructors, than a caretaker may stand still, and than the keeper bears silence."""
    monkeypatch.setattr(keeper, "LAST_S", 40.0)
    with away(path):
        one, ready, problems = request.getfixturevalue("kept")
        caretaker = until(lambda: problems or replica("ServeReplica:swathe:caretaker"))
        time.sleep(STUCK_S + 10)
        assert not problems
        assert not ready.is_set()
    until(lambda: problems or ready.is_set())
    assert not problems
    assert replica("ServeReplica:swathe:caretaker") == caretaker
    time.sleep(15)  # its health has been asked for
    assert replica("ServeReplica:swathe:caretaker") == caretaker

    files = [file for end in ("", "-wal", "-shm") if (file := path.with_name(f"{path.name}{end}")).exists()]
    elsewhere = [file.with_name(f"away-{file.name}") for file in files]
    for file, other in zip(files, elsewhere, strict=True):
        file.rename(other)
    with away(path):
        psutil.Process(head.recorded(record.folder_of(one.spec.data_dir)).pid).kill()
        until(lambda: record.read(one.spec.data_dir).restarts == 1)
        second = head.recorded(record.folder_of(one.spec.data_dir))
        until(lambda: reach.get_json(f"{one.spec.url}/health/livez")[0] == 200)
        time.sleep(keeper.LAST_S + 40)
        assert head.recorded(record.folder_of(one.spec.data_dir)) == second
        told = httpx2.get(f"{one.spec.url}/api/jobs")
        assert (told.status_code, told.json()["code"]) == (503, "store.unavailable")
        assert int(told.headers["Retry-After"]) > 0
        assert reach.get_json(f"{one.spec.url}/health/readyz")[0] == 503
    for file, other in zip(files, elsewhere, strict=True):
        other.rename(file)
    until(lambda: reach.get_json(f"{one.spec.url}/health/readyz")[0] == 200)
    assert json.loads((record.folder_of(one.spec.data_dir) / "up.json").read_text())["restarts"] == 1
