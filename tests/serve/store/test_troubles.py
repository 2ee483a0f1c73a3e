"""The database goes away, fills up, is held: said in our words, and over when it is over."""

import os
import sqlite3
import time
from collections import deque

import pytest

from serve.store import jobs, users
from serve.store.jobs import Filter
from serve.store.store import Store
from swathe.errors import InputError, StoreError


def fails(store, write=True):
    """The code that a try gives."""
    with pytest.raises(StoreError) as refused, store.begin() if write else store.read() as c:  # noqa: PT012  both ways
        if write:
            users.add(c, f"{time.monotonic_ns()}@example.org")
        else:
            users.count(c)
    assert "127.0.0.1" not in refused.value.detail
    assert "/" not in refused.value.detail
    return refused.value.problem.code


def works(store):
    with store.begin() as c:
        users.add(c, f"{time.monotonic_ns()}@example.org")
        return users.count(c)


@pytest.fixture
def stopping(postgres):
    """The server, which is there again afterwards."""
    yield postgres
    postgres.start()


def test_postgresql_stops_and_comes_back(stopping):
    """In the middle of a transaction, and between two; nobody has to start again."""
    store = Store.open(stopping.fresh())
    assert works(store) == 1
    with pytest.raises(StoreError) as refused, store.begin() as c:  # noqa: PT012  the connection is lost inside
        users.add(c, "lost@example.org")
        stopping.stop()
        users.count(c)
    assert refused.value.problem.code == "store.unavailable"
    assert fails(store) == "store.unavailable"
    assert fails(store, write=False) == "store.unavailable"
    with pytest.raises(StoreError):
        Store.open(store.url)
    stopping.start()
    assert works(store) == 2
    with store.read() as c:
        assert users.by_email(c, "lost@example.org") is None
    store.close()


def test_connections_that_were_cut_are_made_anew(postgres):
    """As a network does it, or an administrator: all idle connections of the pool are dead."""
    from sqlalchemy import text

    store, other = Store.open(postgres.fresh()), None
    works(store)
    other = Store(store.url)
    with other.begin() as c:
        c.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                       " WHERE datname = current_database() AND pid <> pg_backend_pid()"))  # fmt: skip
    assert works(store) == 2
    store.close()
    other.close()


def test_a_connection_that_is_cut_at_work_undoes_its_transaction(postgres):
    from sqlalchemy import text

    store = Store.open(postgres.fresh())
    with pytest.raises(StoreError) as refused, store.begin() as c:  # noqa: PT012  the connection is lost inside
        users.add(c, "lost@example.org")
        pid = c.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with store.begin() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        users.count(c)
    assert refused.value.problem.code == "store.unavailable"
    assert works(store) == 1
    store.close()


def test_nobody_is_there():
    assert fails(Store("postgresql://nobody:s3cret@127.0.0.1:1/none")) == "store.unavailable"


@pytest.mark.parametrize("url", ["mysql://x/y", "x", "postgresql+asyncpg://h/d"])
def test_other_databases_are_refused(url):
    with pytest.raises(InputError) as refused:
        Store(url)
    assert refused.value.problem.code == "store.address"


@pytest.fixture
def file_store(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'service.sqlite'}")
    yield store
    store.close()


def test_a_file_that_somebody_holds(file_store, monkeypatch):
    monkeypatch.setattr("serve.store.store._WAIT_S", 0.2)
    store = Store(file_store.url)
    holder = sqlite3.connect(store.path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert fails(store) == "store.busy"
    with store.read() as c:
        assert users.count(c) == 0
    holder.execute("ROLLBACK")
    holder.close()
    assert works(store) == 1
    store.close()


def test_a_full_disk(file_store):
    """As SQLite says it where it may not grow."""
    with file_store.engine.connect() as c:
        pages = c.exec_driver_sql("PRAGMA page_count").scalar_one()
        c.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError) as refused:
        deque((works(file_store) for _ in range(200)), 0)
    assert refused.value.problem.code == "store.full"
    with file_store.engine.connect() as c:
        c.exec_driver_sql("PRAGMA max_page_count = 100000")
    assert works(file_store)


def test_a_file_that_cannot_be_opened_or_is_none(tmp_path):
    assert fails(Store(f"sqlite:///{tmp_path / 'no' / 'folder' / 'x.sqlite'}")) == "store.unavailable"
    (tmp_path / "text.sqlite").write_text("this is no database at all, " * 100)
    assert fails(Store(f"sqlite:///{tmp_path / 'text.sqlite'}")) == "store.unavailable"


def test_a_file_that_may_not_be_written(file_store):
    """Somebody takes the right away, and gives it back."""
    works(file_store)
    file_store.close()
    file_store.path.chmod(0o444)
    file_store.path.parent.chmod(0o555)
    if os.access(file_store.path, os.W_OK):
        store = Store(f"sqlite:///file:{file_store.path}?mode=ro&uri=true")
    else:
        store = Store(file_store.url)
    assert fails(store) == "store.unavailable"
    file_store.path.parent.chmod(0o755)
    file_store.path.chmod(0o644)
    store.close()
    assert works(file_store) == 2


def test_all_connections_are_in_use(file_store, monkeypatch):
    monkeypatch.setattr("serve.store.store._WAIT_S", 0.2)
    monkeypatch.setattr("serve.store.store._POOL", 1)
    store = Store(file_store.url)
    with store.read() as one, store.read() as two:
        assert users.count(one) == users.count(two) == 0
        assert fails(store, write=False) == "store.busy"
    assert works(store) == 1
    store.close()


def test_a_deadlock_is_undone_and_said(postgres):
    """Two that wait for each other: one goes on, the other is told to try again."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    store, both = Store.open(postgres.fresh()), Barrier(2)
    with store.begin() as c:
        two = [users.add(c, f"u{n}@example.org").id for n in range(2)]

    def cross(n):
        try:
            with store.begin() as c:
                users.hold(c, two[n])
                both.wait()
                users.hold(c, two[1 - n])
        except StoreError as error:
            return error.problem.code
        return ""

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(cross, range(2))) == ["", "store.busy"]
    store.close()


def test_a_read_changes_nothing(store, submit):
    submit()
    with store.read() as c:
        users.add(c, "never@example.org")
    with store.read() as c:
        assert users.by_email(c, "never@example.org") is None
        assert jobs.count(c, Filter()) == 1
