"""The catalogue: collections and items in one SQLite file, safe for several threads and processes at once."""

from __future__ import annotations

import copy
import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, Self

from pipelines.catalogue.conditions import Sql, joined
from pipelines.catalogue.entry import Entry, check_id, entry_of, kept_links, packed, refused, whole
from pipelines.catalogue.schema import VERSION, migrate, version_of
from pipelines.catalogue.search import Page, Search, answer
from pipelines.catalogue.summary import summarise
from swathe.errors import InputError, OutputError

_WAIT_S = 30.0
_ALL: Sql = ("1", ())
_REMEMBERED = 1000
"""Summaries of views that are kept."""
_COLUMNS = 'collection, id, instant, moment, start, "end", west, south, east, north, geometry, properties'
_UPSERT = (
    f"INSERT INTO stac_items ({_COLUMNS}) VALUES ({', '.join('?' * 12)}) ON CONFLICT (collection, id) DO UPDATE SET "  # noqa: S608  no value in it
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ")[2:])
    + " RETURNING key"
)


class Catalogue:
    """Collections and items.

    Opened on a path it has connections of its own, one per thread that is at work, and commits what it changes. Given
    a caller's connection it works in the transaction that is open there and never commits: jobs and items can be
    written together or not at all. Errors of any call: InputError for what was asked, OutputError (``catalogue.busy``,
    ``.unreadable``, ``.unwritable``) for the file.
    """

    def __init__(self, where: Path | sqlite3.Connection, seconds: float = 30.0) -> None:
        """``seconds``: the longest that one search may take."""
        self._seconds = seconds
        self._given = where if isinstance(where, sqlite3.Connection) else None
        self._path = None if isinstance(where, sqlite3.Connection) else where
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._only = _ALL
        self._summaries: dict[tuple[Any, ...], dict[str, Any]] = {}
        with self._writing() as connection:
            if version_of(connection) != VERSION:
                migrate(connection)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file. A connection that was given stays open."""
        with self._lock:
            idle = self._idle.copy()
            self._idle.clear()
        for connection in idle:
            connection.close()

    def within(self, only: Sql) -> Self:
        """The same catalogue as somebody sees it who sees no items but those: a condition on ``stac_items``.

        It shares the connections of this one, and is closed with it.
        """
        view = copy.copy(self)
        view._only = joined([self._only, only])  # noqa: SLF001  its own
        return view

    # --- collections ---

    def put_collection(self, document: dict[str, Any]) -> None:
        """Add a STAC Collection, or replace the document of one; its items stay."""
        if not isinstance(document, dict) or document.get("type") != "Collection":
            raise refused("this is no STAC Collection", "type")
        id_ = check_id(document.get("id"), "id")
        text = packed({**document, "links": kept_links(document)}, id_)
        sql = """INSERT INTO stac_collections (id, document) VALUES (?, ?)
                 ON CONFLICT (id) DO UPDATE SET document = excluded.document"""
        with self._writing() as connection:
            connection.execute(sql, (id_, text))

    def collection(self, id_: str) -> dict[str, Any]:
        """One of them, its extent and summaries those of the items it has now. InputError ``catalogue.unknown``."""
        with self._reading() as connection:
            row = connection.execute(f"{_COLLECTION} WHERE id = ?", (id_,)).fetchone()
            if row is None:
                raise _unknown(f"there is no collection {id_!r}", "collection")
            return self._described(connection, row)

    def collections(self) -> list[dict[str, Any]]:
        """All of them, by id."""
        with self._reading() as connection:
            rows = connection.execute(f"{_COLLECTION} ORDER BY id").fetchall()
            return [self._described(connection, row) for row in rows]

    def titles(self) -> dict[str, str]:
        """Title of every collection by its id: quick, because nothing about its items is looked at."""
        with self._reading() as connection:
            sql = "SELECT id, coalesce(json_extract(document, '$.title'), id) FROM stac_collections ORDER BY id"
            return dict(connection.execute(sql).fetchall())

    def check_collection(self, id_: str) -> None:
        """InputError ``catalogue.unknown`` where there is none of that id."""
        with self._reading() as connection:
            if not connection.execute("SELECT 1 FROM stac_collections WHERE id = ?", (id_,)).fetchall():
                raise _unknown(f"there is no collection {id_!r}", "collection")

    def count(self, collection: str) -> int:
        """Items of a collection."""
        with self._reading() as connection:
            sql = f"SELECT count(*) FROM stac_items WHERE collection = ? AND {self._only[0]}"  # noqa: S608  our own words
            return connection.execute(sql, (collection, *self._only[1])).fetchone()[0]

    def delete_collection(self, id_: str) -> None:
        """With all its items. InputError ``catalogue.unknown``."""
        with self._writing() as connection:
            # One by one, because a cascade would not say so where the caller's connection has foreign keys off.
            connection.execute("DELETE FROM stac_items WHERE collection = ?", (id_,))
            if connection.execute("DELETE FROM stac_collections WHERE id = ?", (id_,)).rowcount == 0:
                raise _unknown(f"there is no collection {id_!r}", "collection")

    # --- items ---

    def put_items(self, items: Iterable[dict[str, Any]]) -> int:
        """Add STAC Items or replace those of the same collection and id: all of them, or none. How many."""
        entries = [entry_of(item) for item in items]
        with self._writing() as connection:
            for collection, group in groupby(sorted(entries, key=lambda e: e.collection), key=lambda e: e.collection):
                touched = connection.execute(_TOUCH, (collection,)).rowcount
                if not touched:
                    raise _unknown(f"there is no collection {collection!r} to put items into", "collection")
                for entry in group:
                    _put(connection, entry)
        return len(entries)

    def item(self, collection: str, id_: str) -> dict[str, Any]:
        """One of them. InputError ``catalogue.unknown``."""
        sql = f"""SELECT properties, document FROM stac_items JOIN stac_documents USING (key)
                 WHERE collection = ? AND id = ? AND {self._only[0]}"""  # noqa: S608  the same
        with self._reading() as connection:
            row = connection.execute(sql, (collection, id_, *self._only[1])).fetchone()
        if row is None:
            raise _unknown(f"there is no item {id_!r} in collection {collection!r}", "id")
        return whole(*row)

    def delete_item(self, collection: str, id_: str) -> None:
        """Forget one; the files that it names stay. InputError ``catalogue.unknown``."""
        sql = "DELETE FROM stac_items WHERE collection = ? AND id = ?"
        with self._writing() as connection:
            if connection.execute(sql, (collection, id_)).rowcount == 0:
                raise _unknown(f"there is no item {id_!r} in collection {collection!r}", "id")
            connection.execute(_TOUCH, (collection,))

    def search(self, search: Search) -> Page:
        """Items that meet every condition, a page at a time."""
        with self._reading() as connection:
            return answer(connection, search, self._seconds, self._only)

    def names(self, collection: str | None = None) -> dict[str, str]:
        """Properties of the items and their JSON Schema type: what a filter can ask for."""
        found: dict[str, set[str]] = {}
        with self._reading() as connection:
            known = (
                [collection] if collection else [r[0] for r in connection.execute("SELECT id FROM stac_collections")]
            )
            for name, kind in self._named(connection, known):
                found.setdefault(name, set()).add(_KINDS[kind])
        return {name: kinds.pop() if len(kinds) == 1 else "" for name, kinds in sorted(found.items())}

    @contextmanager
    def together(self) -> Iterator[Catalogue]:
        """Several changes as one: all of them, or none."""
        with self._writing() as connection:
            yield Catalogue(connection, self._seconds)

    # --- connections ---

    def _named(self, connection: sqlite3.Connection, known: Iterable[str]) -> Iterator[tuple[str, str]]:
        sql, params = _NAMES.format(only=self._only[0]), self._only[1]
        for collection in known:
            yield from connection.execute(sql, (collection, *params))

    def _described(self, connection: sqlite3.Connection, row: tuple[Any, ...]) -> dict[str, Any]:
        """A collection with what its items say; computed again where they have changed since."""
        id_, document, version, summary, summary_version = row
        if self._only != _ALL:
            return _merged(json.loads(document), self._seen(connection, id_, version))
        if summary_version == version:
            return _merged(json.loads(document), json.loads(summary))
        found = summarise(connection, id_, _ALL)
        if self._given is None:
            self._remember(id_, version, json.dumps(found))
        return _merged(json.loads(document), found)

    def _seen(self, connection: sqlite3.Connection, id_: str, version: int) -> dict[str, Any]:
        """A summary of what this view shows, kept in memory until the items change."""
        key = (id_, version, self._only)
        if key not in self._summaries:
            if len(self._summaries) >= _REMEMBERED:
                self._summaries.clear()
            self._summaries[key] = summarise(connection, id_, self._only)
        return self._summaries[key]

    def _remember(self, id_: str, version: int, text: str) -> None:
        """Keep a summary, unless items came meanwhile; without waiting for writers: it can be computed again."""
        sql = "UPDATE stac_collections SET summary = ?, summary_version = ? WHERE id = ? AND version = ?"
        try:
            with self._connected() as connection:
                connection.execute("PRAGMA busy_timeout = 0")
                try:
                    connection.execute(sql, (text, version, id_, version))
                finally:
                    connection.execute(f"PRAGMA busy_timeout = {int(_WAIT_S * 1000)}")
        except OutputError:
            return

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """One state of the file, whatever others write meanwhile."""
        with self._connected() as connection:
            if self._given is not None:
                yield connection
                return
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; in the caller's transaction by a savepoint."""
        own = self._given is None
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE" if own else "SAVEPOINT stac")
            try:
                yield connection
            except BaseException:
                if own:
                    connection.execute("ROLLBACK")
                else:
                    connection.execute("ROLLBACK TO stac")
                    connection.execute("RELEASE stac")
                raise
            connection.execute("COMMIT" if own else "RELEASE stac")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection for this thread alone, while it is at work."""
        try:
            if self._given is not None:
                yield self._given
                return
            connection = self._take()
            try:
                yield connection
            finally:
                with self._lock:
                    self._idle.append(connection)
        except (OverflowError, UnicodeEncodeError) as error:
            raise InputError(f"a value cannot be compared: {error}", code="catalogue.value") from None
        except sqlite3.Error as error:
            raise _trouble(error, self._path) from error

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        path = self._path or Path()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{path.parent} cannot be made: {error.strerror}", code="catalogue.unwritable") from None
        # No implicit transactions: they begin and end where it is written.
        connection = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection


_COLLECTION = "SELECT id, document, version, summary, summary_version FROM stac_collections"
_TOUCH = "UPDATE stac_collections SET version = version + 1 WHERE id = ?"
_NAMES = """SELECT DISTINCT j.key, j.type FROM
    (SELECT properties FROM stac_items WHERE collection = ? AND {only} ORDER BY moment DESC LIMIT 200) AS i,
    json_each(i.properties) AS j"""
_KINDS = {
    "integer": "number", "real": "number", "text": "string", "true": "boolean", "false": "boolean", "array": "array",
    "object": "object", "null": "null",
}  # fmt: skip


def _put(connection: sqlite3.Connection, entry: Entry) -> None:
    ((key,),) = connection.execute(_UPSERT, entry.columns).fetchall()
    connection.execute("INSERT OR REPLACE INTO stac_documents VALUES (?, ?)", (key, entry.document))
    connection.execute("DELETE FROM stac_boxes WHERE key IN (?, ?)", (2 * key, 2 * key + 1))
    for i, (west, south, east, north) in enumerate(entry.boxes):
        row = (2 * key + i, west, east, south, north, key)
        connection.execute("INSERT INTO stac_boxes VALUES (?, ?, ?, ?, ?, ?)", row)


def _merged(document: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    """What the collection's author wrote stays, but for the extent: that is of the items at hand."""
    summaries = {**summary["summaries"], **(document.get("summaries") or {})}
    found = {**document, **({"summaries": summaries} if summaries else {})}
    if summary["extent"]:
        found["extent"] = summary["extent"]
    return found


def _unknown(detail: str, field: str) -> InputError:
    return InputError(detail, code="catalogue.unknown", field=field, hint="`swathe catalog list` shows what there is")


def _trouble(error: sqlite3.Error, path: Path | None) -> OutputError:
    text, name = str(error), path or "the catalogue"
    if "locked" in text or "busy" in text:
        return OutputError(f"{name} is being written to", code="catalogue.busy", hint="try again in a moment")
    if "not a database" in text or "malformed" in text:
        hint = "restore it, or move it away: a new one is made, and results can be added again"
        return OutputError(f"{name} is no catalogue, or a damaged one", code="catalogue.unreadable", hint=hint)
    return OutputError(f"{name} cannot be used: {text}", code="catalogue.unwritable", hint="check folder, rights, disk")
