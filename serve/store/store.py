"""The database as a value: transactions on SQLite (WAL) or PostgreSQL, and their troubles in our own words."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from sqlalchemy import ColumnElement, Connection, Engine, Float, Table, cast, create_engine, event, func, literal
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    TimeoutError,  # noqa: A004  the pool's own
)
from sqlalchemy.pool import QueuePool

from swathe.errors import ConflictError, InputError, StoreError

_WAIT_S = 10.0
"""How long a writer waits for the one before it, and anybody for a connection."""
_STATEMENT_S, _IDLE_S = 30.0, 60.0
"""After which PostgreSQL gives up a statement, and a transaction whose process says nothing more."""
_POOL = 8
"""Connections of one process that are kept; as many more come and go."""
_KEEP_ALIVE = {"connect_timeout": 5, "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
               "tcp_user_timeout": 20_000}  # fmt: skip
"""A network that swallows everything is noticed."""
_log = logging.getLogger(__name__)


class Store:
    """The service's database. Threads and processes may share one; a value that travels is its ``url``.

    Every call of every module here takes a connection, so that what belongs together is one transaction::

        with store.begin() as c:
            jobs.add(c, job, area_km2)
            audit.note(c, caller, "job.submit", job.id)

    Raises StoreError (``store.unavailable``, ``.busy``, ``.full``, ``.newer``), ConflictError (``store.conflict``) and
    InputError (``store.value``: text or numbers that no database keeps).
    """

    def __init__(self, url: str) -> None:
        """``sqlite:///path`` or ``postgresql://…``; nothing is opened yet."""
        self.url = url
        self.engine = _engine(url)

    @classmethod
    def open(cls, url: str) -> Self:
        """Open the database, brought to the newest form of its tables first."""
        from serve.store.migrate import upgrade

        store = cls(url)
        with _told():
            upgrade(store.engine)
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        """Connections stay where they are; elsewhere it makes its own."""
        return type(self), (self.url,)

    @property
    def embedded(self) -> bool:
        """Whether it is a file of this machine (SQLite)."""
        return self.engine.dialect.name == "sqlite"

    @property
    def path(self) -> Path | None:
        """That file; None: there is none."""
        return Path(self.engine.url.database) if self.embedded and self.engine.url.database else None

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Begin a transaction that may write: all of it happens, or nothing."""
        with _told(), self.engine.connect() as connection:
            if self.embedded:  # or two readers that both go on to write could not both be let in
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Begin a transaction that only reads. On SQLite all that is read is of one moment."""
        with _told(), self.engine.connect() as connection:
            if self.embedded:
                connection.exec_driver_sql("BEGIN")
            yield connection

    def close(self) -> None:
        """Let go of all connections of this process."""
        self.engine.dispose()


def now() -> str:
    """This moment: UTC, RFC 3339 with milliseconds."""
    return text_of(datetime.now(UTC))


def text_of(when: datetime) -> str:
    """A moment as the store keeps it: UTC, RFC 3339 with milliseconds."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock() -> float:
    """Seconds since 1970, of this machine."""
    return time.time()


def moment(connection: Connection) -> ColumnElement[float]:
    """Seconds since 1970 that leases and queues compare: of the database, because clocks of machines differ."""
    if connection.dialect.name == "sqlite":
        return literal(time.time())
    return cast(func.extract("epoch", func.clock_timestamp()), Float(53))


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An INSERT that knows what to do where the row is there already (``on_conflict_…``)."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def raw(connection: Connection) -> Any:
    """The driver's own connection in the same transaction (``sqlite3.Connection``, ``psycopg.Connection``)."""
    return connection.connection.dbapi_connection


# --- troubles -------------------------------------------------------------------------------------------------------


@contextmanager
def _told() -> Iterator[None]:
    """What drivers say, in our words; their own words are logged, since they name hosts and tables."""
    try:
        yield
    except IntegrityError as error:
        _log.info("refused by the database: %s", _short(error))
        raise ConflictError("this is there already, or what it belongs to is gone", code="store.conflict",
                            hint="look again") from error  # fmt: skip
    except (DataError, OverflowError, UnicodeEncodeError) as error:
        raise InputError("a text or number in it cannot be kept", code="store.value",
                         hint="leave out control characters and very large numbers") from error  # fmt: skip
    except (OperationalError, InterfaceError, InternalError, TimeoutError, sqlite3.OperationalError) as error:
        raise _trouble(error) from error
    except (DBAPIError, sqlite3.DatabaseError) as error:
        if isinstance(error, DBAPIError) and not (error.connection_invalidated or _damaged(error)):
            raise
        raise _trouble(error) from error


def _trouble(error: Exception) -> StoreError:
    said = _short(error).lower()
    _log.warning("the database: %s", said)
    if any(word in said for word in ("is full", "no space left", "disk full")):
        return StoreError("the disk of the service's database is full", code="store.full", hint="make room there")
    if any(word in said for word in ("locked", "busy", "deadlock", "timeout", "timed out", "too many clients")) and (
        "connection" not in said or "queuepool" in said
    ):
        return StoreError("the database is busy", code="store.busy", hint="try again in a moment")
    return StoreError("the database cannot be reached", code="store.unavailable",
                      hint="the service goes on by itself when it is back")  # fmt: skip


def _damaged(error: DBAPIError) -> bool:
    return any(word in _short(error) for word in ("malformed", "not a database"))


def _short(error: Exception) -> str:
    origin = getattr(error, "orig", None) or error
    return " ".join(str(origin).split())[:300]


# --- engines --------------------------------------------------------------------------------------------------------


def _engine(url: str) -> Engine:
    if url.startswith("sqlite"):
        engine = create_engine(url, poolclass=QueuePool, pool_size=_POOL, max_overflow=_POOL, pool_timeout=_WAIT_S,
                               connect_args={"timeout": _WAIT_S, "check_same_thread": False})  # fmt: skip
        event.listen(engine, "connect", _sqlite_settings)
        return engine
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise InputError("a database is sqlite:///PATH or postgresql://…", code="store.address",
                         field="SWATHE_DATABASE_URL")  # fmt: skip
    engine = create_engine(f"postgresql+psycopg://{rest}", pool_size=_POOL, max_overflow=_POOL, pool_pre_ping=True,
                           pool_timeout=_WAIT_S, connect_args=_KEEP_ALIVE)  # fmt: skip
    event.listen(engine, "connect", _postgresql_settings)
    return engine


def _sqlite_settings(connection: sqlite3.Connection, _: Any) -> None:
    """WAL lets readers go on beside the one writer; transactions begin where we say so.

    ``synchronous = FULL``: what was accepted survives a power cut.
    """
    connection.isolation_level = None
    for pragma in (f"busy_timeout = {int(_WAIT_S * 1000)}", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    _write_ahead(connection)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """SQLite's own patience does not hold here: of two that open a new file at once, one is refused without a wait."""
    end = time.monotonic() + _WAIT_S
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            time.sleep(0.01)
        else:
            return


def _postgresql_settings(connection: Any, _: Any) -> None:
    limits = {"statement_timeout": _STATEMENT_S, "lock_timeout": _WAIT_S,
              "idle_in_transaction_session_timeout": _IDLE_S}  # fmt: skip
    for name, seconds in limits.items():
        connection.execute(f"SET {name} = {int(seconds * 1000)}")
    connection.commit()
