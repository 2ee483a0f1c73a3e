"""Tables: made by migrations, the same as they are described, by several processes at once."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from serve.store import batches, jobs, migrate, users
from serve.store.store import Store
from serve.store.tables import metadata
from swathe.errors import StoreError

ROOT = Path(__file__).resolve().parents[3]


def test_migrations_make_what_is_described(store):
    with store.engine.connect() as c:
        options = {"compare_type": True, "include_object": lambda o, name, *_: not str(name).startswith("stac_")}
        context = MigrationContext.configure(c, opts=options)
        assert compare_metadata(context, metadata) == []


def test_the_newest_step_is_known():
    folder = ROOT / "serve" / "store" / "migrations"
    assert ScriptDirectory(str(folder)).get_current_head() == migrate.HEAD


def test_an_older_database_is_brought_up_to_date(store):
    """Its first table is there, and what it held stays."""
    with store.engine.connect() as c:
        c.execute(text("DROP TABLE alembic_version"))
        for table in reversed(metadata.sorted_tables):
            if table.name != "x":
                table.drop(c)
        c.execute(text("CREATE TABLE kept (n INTEGER)"))
        c.execute(text("INSERT INTO kept VALUES (7)"))
        c.commit()
    migrate.upgrade(store.engine)
    with store.begin() as c:
        assert users.count(c) == 0
        assert c.execute(text("SELECT n FROM kept")).scalar_one() == 7


def test_wishes_that_waited_before_wait_on(store_url):
    """As they lay in tables that knew of no tries."""
    store, batch, config = Store(store_url), "b" + "0" * 26, Config()
    config.set_main_option("script_location", str(ROOT / "serve" / "store" / "migrations"))
    with store.engine.connect() as c:
        config.attributes["connection"] = c
        command.upgrade(config, "0009")
        at = {"at": "2026-01-01T00:00:00.000Z", "batch": batch}
        c.execute(text("INSERT INTO users (id, email, name, role, active, quota, created)"
                       " VALUES ('u', 'a@example.org', '', 'member', true, '{}', :at)"), at)  # fmt: skip
        c.execute(text("INSERT INTO batches (id, owner_id, title, labels, cancelled, dropped, created, updated)"
                       " VALUES (:batch, 'u', '', '{}', false, false, :at, :at)"), at)  # fmt: skip
        c.execute(text("INSERT INTO wishes (batch_id, number, request) VALUES (:batch, 0, '{}')"), at)
        c.commit()
    migrate.upgrade(store.engine)
    with store.read() as c:
        assert batches.next_wish(c, batch) == batches.Wish(0, {}, 0)
        assert [one.id for one in batches.waiting(c, 9)] == [batch]
    store.close()


def test_jobs_of_before_are_listed_without_what_is_long(store_url):
    """As they lay in tables that had their requests once."""
    store, config, first, area = Store(store_url), Config(), "j" + "0" * 26, [[12.5, 45.5]] * 1000
    config.set_main_option("script_location", str(ROOT / "serve" / "store" / "migrations"))
    with store.engine.connect() as c:
        config.attributes["connection"] = c
        command.upgrade(config, "0010")
        at = {"at": "2026-01-01T00:00:00.000Z"}
        c.execute(text("INSERT INTO users (id, email, name, role, active, quota, created)"
                       " VALUES ('u', 'a@example.org', '', 'member', true, '{}', :at)"), at)  # fmt: skip
        for id_, asked in ((first, {"model": "m", "aoi": area}), ("j" + "1" * 26, {"model": "m", "title": "x"})):
            c.execute(text(
                "INSERT INTO jobs (id, owner_id, title, request, model, labels, state, place, cost, cost_s, area_km2,"
                " progress, round, attempts, cancelling, result, result_bytes, last_seq, created, updated, epoch,"
                " not_before) VALUES (:id, 'u', '', :request, 'm', '{}', 'done', 'pool', '{}', 0, 0, '{}', 1, 1, false,"
                " '{}', 0, 1, :at, :at, 0, 0)"), at | {"id": id_, "request": json.dumps(asked)})  # fmt: skip
        c.commit()
    migrate.upgrade(store.engine)
    with store.read() as c:
        page = jobs.listed(c, jobs.Filter(), 9, newest_first=False)
        assert [job.request for job in page.items] == [{"model": "m"}, {"model": "m", "title": "x"}]
        assert jobs.get(c, first).request == {"model": "m", "aoi": area}
    store.close()


def test_the_database_of_a_newer_swathe_is_left_alone(store):
    with store.begin() as c:
        c.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError) as refused:
        Store.open(store.url)
    assert refused.value.problem.code == "store.newer"


PROGRAM = """
import sys
from serve.store.store import Store
from serve.store import users
store = Store.open(sys.argv[1])
with store.begin() as c:
    users.add(c, sys.argv[2])
"""


def test_several_start_at_once(store_url):
    def start(n):
        store = Store.open(store_url)
        with store.begin() as c:
            users.add(c, f"u{n}@example.org")
        return store

    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(start, range(4)))
    with stores[0].read() as c:
        assert users.count(c) == 4
    for store in stores:
        store.close()


@pytest.mark.slow
def test_several_processes_start_at_once(store_url):
    started = [
        subprocess.Popen([sys.executable, "-c", PROGRAM, store_url, f"u{n}@example.org"], cwd=ROOT,
                         stderr=subprocess.PIPE, text=True)
        for n in range(3)
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 3, said
    store = Store.open(store_url)
    with store.read() as c:
        assert users.count(c) == 3
    store.close()
