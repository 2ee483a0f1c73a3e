"""The database as a value: transactions on SQLite (WAL) or PostgreSQL, and their troubles in our own words."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.pool import QueuePool

from swathe.errors import ConflictError, StoreError

_WAIT_S = 10.0
"""How long a writer waits for the one before it."""
_POOL = 8
"""Connections of one process."""


class Store:
    """The service's database. Threads and processes may share one; a value that travels is its ``url``.

    Every call of every module here takes a connection, so that what belongs together is one transaction::

        with store.begin() as c:
            jobs.add(c, job)
            audit.note(c, caller, "job.submit", job.id)

    Raises StoreError (``store.unavailable``, ``.busy``, ``.full``) and ConflictError (``store.conflict``).
    """

    def __init__(self, url: str) -> None:
        """``sqlite:///path`` or ``postgresql://…``; nothing is opened yet."""
        self.url = url
        self.engine = _engine(url)

    @classmethod
    def open(cls, url: str) -> Self:
        """The database, brought to the newest form of its tables first."""
        from serve.store.migrate import upgrade

        store = cls(url)
        with _told():
            upgrade(store.engine)
        return store

    @property
    def embedded(self) -> bool:
        """Whether it is a file of this machine (SQLite)."""
        return self.engine.dialect.name == "sqlite"

    @property
    def path(self) -> Path | None:
        """That file."""
        return Path(self.engine.url.database) if self.embedded and self.engine.url.database else None

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A transaction that may write: all of it happens, or nothing."""
        with _told(), self.engine.connect() as connection:
            if self.embedded:  # or two readers that both go on to write could not both be let in
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            with connection.begin() if not self.embedded else _sqlite_transaction(connection):
                yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A look at one moment of it; nothing is written."""
        with _told(), self.engine.connect() as connection:
            if self.embedded:
                connection.exec_driver_sql("BEGIN")
            try:
                yield connection
            finally:
                connection.rollback()

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def now() -> str:
    """UTC, RFC 3339 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock() -> float:
    """Seconds since 1970: what leases and queues compare."""
    return time.time()


def raw(connection: Connection) -> Any:
    """The driver's own connection in the same transaction (``sqlite3.Connection``, ``psycopg.Connection``)."""
    return connection.connection.dbapi_connection


@contextmanager
def _sqlite_transaction(connection: Connection) -> Iterator[None]:
    """SQLAlchemy's own begin would come after ours."""
    try:
        yield
    except BaseException:
        connection.exec_driver_sql("ROLLBACK")
        connection.rollback()
        raise
    connection.exec_driver_sql("COMMIT")
    connection.commit()


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise ConflictError(f"it is there already: {_short(error)}", code="store.conflict") from error
    except (OperationalError, InterfaceError) as error:
        raise _trouble(error) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise _trouble(error) from error
        raise
    except sqlite3.OperationalError as error:
        raise _trouble(error) from error


def _trouble(error: Exception) -> StoreError:
    said = _short(error)
    if "full" in said:
        return StoreError("the disk of the service's database is full", code="store.full", hint="make room there")
    if "locked" in said or "busy" in said:
        return StoreError("the database is busy", code="store.busy", hint="try again in a moment")
    return StoreError(f"the database cannot be reached: {said}", code="store.unavailable",
                      hint="the service goes on by itself when it is back")  # fmt: skip


def _short(error: Exception) -> str:
    origin = getattr(error, "orig", None) or error
    return " ".join(str(origin).split())[:200]


def _engine(url: str) -> Engine:
    if url.startswith("sqlite"):
        engine = create_engine(url, poolclass=QueuePool, pool_size=_POOL, max_overflow=_POOL,
                               connect_args={"timeout": _WAIT_S, "check_same_thread": False})  # fmt: skip
        event.listen(engine, "connect", _sqlite_settings)
        return engine
    return create_engine(
        url.replace("postgresql://", "postgresql+psycopg://", 1).replace("postgres://", "postgresql+psycopg://", 1),
        pool_size=_POOL, max_overflow=_POOL, pool_pre_ping=True, pool_timeout=_WAIT_S,
        connect_args={"connect_timeout": 5},
    )  # fmt: skip


def _sqlite_settings(connection: Any, _: Any) -> None:
    """WAL lets readers go on beside the one writer; transactions begin where we say so."""
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON",
                   f"busy_timeout = {int(_WAIT_S * 1000)}"):  # fmt: skip
        connection.execute(f"PRAGMA {pragma}")
