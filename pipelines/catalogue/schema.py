"""The tables of the catalogue in SQLite, and how an older file is brought up to date.

Every name begins with ``stac_``, because the tables may stand in one file with those of a caller. The R*Tree keeps
one box per item, or two where the antimeridian cuts it (keys 2k and 2k+1 of item k); it rounds outwards to 32 bits, so
whatever it finds is checked against the geometry.
"""

from __future__ import annotations

import sqlite3

from swathe.errors import InputError

VERSION = 1
"""Of the tables below."""

_TABLES = (
    """CREATE TABLE stac_schema (version INTEGER NOT NULL)""",
    # `version` counts changes to the items; `summary` was computed at `summary_version`.
    """CREATE TABLE stac_collections (
        id TEXT PRIMARY KEY, document TEXT NOT NULL,
        version INTEGER NOT NULL DEFAULT 0, summary TEXT, summary_version INTEGER
    )""",
    # Times are microseconds since 1970 UTC. `moment` is what items are sorted by: the instant, else the start.
    # west > east where the antimeridian is crossed.
    """CREATE TABLE stac_items (
        key INTEGER PRIMARY KEY,
        collection TEXT NOT NULL REFERENCES stac_collections (id) ON DELETE CASCADE,
        id TEXT NOT NULL,
        instant INTEGER, moment INTEGER NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL,
        west REAL, south REAL, east REAL, north REAL,
        geometry BLOB, properties TEXT NOT NULL,
        UNIQUE (collection, id)
    )""",
    # Everything but the properties, apart: it is most of the file, and a search has no need to pass over it.
    """CREATE TABLE stac_documents (key INTEGER PRIMARY KEY, document TEXT NOT NULL)""",
    """CREATE INDEX stac_items_moment ON stac_items (moment DESC, collection, id)""",
    """CREATE INDEX stac_items_collection ON stac_items (collection, moment DESC, id)""",
    """CREATE INDEX stac_items_id ON stac_items (id)""",
    """CREATE VIRTUAL TABLE stac_boxes USING rtree (key, west, east, south, north, +item INTEGER)""",
    """CREATE TRIGGER stac_items_gone AFTER DELETE ON stac_items BEGIN
        DELETE FROM stac_documents WHERE key = old.key;
        DELETE FROM stac_boxes WHERE key IN (2 * old.key, 2 * old.key + 1);
    END""",
)


def migrate(connection: sqlite3.Connection) -> None:
    """Make or renew the tables, inside the transaction that is open. Raises InputError (``catalogue.newer``)."""
    found = version_of(connection)
    if found is None:
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("INSERT INTO stac_schema VALUES (?)", (VERSION,))
    elif found > VERSION:
        raise InputError(
            f"the catalogue was written by a newer swathe (tables {found}, known are {VERSION})",
            code="catalogue.newer",
            hint="update swathe, or use another catalogue",
        )


def version_of(connection: sqlite3.Connection) -> int | None:
    """Version of the tables; None where there are none."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'stac_schema'").fetchone() is None:
        return None
    return connection.execute("SELECT version FROM stac_schema").fetchone()[0]
