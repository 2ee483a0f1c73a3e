"""Tables brought to their newest form: one process does it, whoever else starts at that moment waits."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError

from swathe.errors import StoreError

HEAD = "0011"
"""The newest revision in ``migrations/versions``."""
_LOCK = 7_205_759_403_792_793
"""Of PostgreSQL's advisory locks: ours."""
_PATIENCE_S = 60.0


def upgrade(engine: Engine) -> None:
    """Raises StoreError (``store.newer``) for the database of a newer swathe."""
    with engine.connect() as c:
        found = revision(c)
    if found == HEAD:
        return
    if found is not None and found > HEAD:
        raise StoreError(f"the database was written by a newer swathe (tables {found}, known are {HEAD})",
                         code="store.newer", hint="update swathe, or use another database")  # fmt: skip
    with engine.connect() as c:
        _alone(c)
        if revision(c) != HEAD:
            _run(c)
        c.commit()


def revision(c: Connection) -> str | None:
    """Of the tables that are there; None: there are none."""
    if not inspect(c).has_table("alembic_version"):
        return None
    return c.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _alone(c: Connection) -> None:
    """Whoever comes second waits here until the first one has committed."""
    if c.dialect.name == "sqlite":
        _begun(c)
        return
    c.execute(text("SET LOCAL statement_timeout = 0"))
    c.execute(text("SET LOCAL lock_timeout = 0"))
    c.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})


def _begun(c: Connection) -> None:
    """SQLite's own patience ends sooner than a migration of much data."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        try:
            c.exec_driver_sql("BEGIN IMMEDIATE")
        except OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > end:
                raise
            c.rollback()
        else:
            return


def _run(c: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = c
    command.upgrade(config, "head")
