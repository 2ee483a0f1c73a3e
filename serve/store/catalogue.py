"""The catalogue in the store: its documents are written in the transaction of the job that made them.

On SQLite its tables stand in the service's own file. On PostgreSQL what becomes of documents is written down in order,
and each node keeps an index of its own, which follows that list before every look.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, text

from pipelines.catalogue.conditions import Sql
from pipelines.catalogue.entry import entry_of
from pipelines.catalogue.store import Catalogue
from serve.store import tables
from serve.store.store import Store, raw
from swathe.errors import InputError, NotFoundError, OutputError, StoreError
from swathe.user import Caller

Json = dict[str, Any]
OWNER, PROJECT = "swathe:owner", "swathe:project"
"""Properties that the service sets, whatever a document brings along: ids of a user and of a project."""
_W = tables.catalogue_writes
_LOCK = 7_205_759_403_792_794
"""Of PostgreSQL's advisory locks: whoever writes here."""
_COLLECTION, _ITEM, _GONE = "collection", "item", "gone"
_PART = 1000


# --- writing --------------------------------------------------------------------------------------------------------


def put_collection(c: Connection, document: Json) -> None:
    """Add a STAC Collection, or replace the document of one; its items stay. Raises InputError."""
    if _embedded(c):
        with _catalogue(c) as catalogue:
            catalogue.put_collection(document)
        return
    with _scratch() as scratch:
        scratch.put_collection(document)
    if _collection(c, document["id"]) != document:
        _write(c, _COLLECTION, document["id"], "", document)


def put_item(c: Connection, document: Json, owner: str | None, project: str | None = None) -> None:
    """Add a STAC Item, or replace the one of the same collection and id. Raises InputError.

    ``owner``: who sees it, beside administrators; None: everybody. ``project``: everybody, as long as it is shared.
    """
    named = {**document, "properties": _owned(document.get("properties"), owner, project)}
    if _embedded(c):
        with _catalogue(c) as catalogue:
            catalogue.put_items([named])
        return
    entry = entry_of(named)
    if _collection(c, entry.collection) is None:
        raise InputError(f"there is no collection {entry.collection!r} to put items into", code="catalogue.unknown",
                         field="collection")  # fmt: skip
    _write(c, _ITEM, entry.collection, entry.id, named)


def drop_item(c: Connection, collection: str, id_: str) -> None:
    """Forget an item, where there is such a one. The files that it names stay."""
    if _embedded(c):
        with _catalogue(c) as catalogue, suppress(InputError):
            catalogue.delete_item(collection, id_)
        return
    _write(c, _GONE, collection, id_, None)


def _owned(properties: Any, owner: str | None, project: str | None) -> Any:
    if not isinstance(properties, dict):
        return properties  # refused where it is put
    kept = {name: value for name, value in properties.items() if name not in (OWNER, PROJECT)}
    return kept | ({OWNER: owner} if owner else {}) | ({PROJECT: project} if owner and project else {})


def _write(c: Connection, kind: str, collection: str, item: str, document: Json | None) -> None:
    """Numbers are given out in the order in which writes become visible, or a follower would miss one."""
    c.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    c.execute(delete(_W).where(_W.c.collection == collection, _W.c.item == item))
    c.execute(insert(_W).values(kind=kind, collection=collection, item=item, document=document))


def _collection(c: Connection, id_: str) -> Json | None:
    found = c.execute(select(_W.c.document).where(_W.c.collection == id_, _W.c.kind == _COLLECTION)).first()
    return None if found is None else found.document


def _embedded(c: Connection) -> bool:
    return c.dialect.name == "sqlite"


@contextmanager
def _catalogue(c: Connection) -> Iterator[Catalogue]:
    """In this transaction; troubles of the file are the store's to tell."""
    try:
        yield Catalogue(raw(c))
    except OutputError as error:
        raise error.__cause__ or error from None


@contextmanager
def _scratch() -> Iterator[Catalogue]:
    """Refuses what a catalogue refuses."""
    with sqlite3.connect(":memory:", isolation_level=None) as connection:
        yield Catalogue(connection)


# --- reading --------------------------------------------------------------------------------------------------------


def reader(store: Store, folder: Path) -> Catalogue:
    """The whole catalogue, to be searched. ``folder``: of this node, for an index where the database is elsewhere."""
    if store.path is not None:
        return _Reader(store.path)
    name = hashlib.sha256(store.url.encode()).hexdigest()[:16]
    return _Follower(store, folder / f"catalogue-{name}.sqlite")


def visible(c: Connection, viewer: str | None) -> Sql:
    """What a user sees, for ``Catalogue.within``: what is nobody's, their own, and what is in shared projects.

    ``viewer``: id of a user; None: all.
    """
    if viewer is None:
        return "1", ()
    projects = tables.projects.c
    shared = [row.id for row in c.execute(select(projects.id).where(projects.shared))]
    owner, project = (f"json_extract(properties, '$.\"{name}\"')" for name in (OWNER, PROJECT))
    sql = f"coalesce({owner}, ?) = ? OR {project} IN (SELECT value FROM json_each(?))"  # noqa: S608  our own words
    return sql, (viewer, viewer, json.dumps(shared))


def seen(store: Store, folder: Path, viewer: str | None) -> Catalogue:
    """The catalogue as a user sees it now."""
    with store.read() as c:
        only = visible(c, viewer)
    return _reader(store, folder).within(only)


def item(store: Store, folder: Path, collection: str, id_: str, visible_to: Caller | None = None) -> Json:
    """An item that a caller sees; None: any. Raises NotFoundError (``item.unknown``)."""
    viewer = None if visible_to is None or visible_to.admin else visible_to.user.id
    try:
        return seen(store, folder, viewer).item(collection, id_)
    except InputError as error:
        if error.problem.code != "catalogue.unknown":
            raise
        raise NotFoundError(f"there is no item {id_[:200]!r} in collection {collection[:200]!r}",
                            code="item.unknown", hint="check the ids") from None  # fmt: skip


@lru_cache(maxsize=4)
def _reader(store: Store, folder: Path) -> Catalogue:
    return reader(store, folder)


class _Reader(Catalogue):
    """Troubles with its file are those of the service, not of whoever asks."""

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with _told(), super()._reading() as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with _told(), super()._writing() as connection:
            yield connection


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except OutputError as error:
        raise StoreError("the catalogue cannot be read now", code="store.catalogue",
                         hint="try again in a moment") from error  # fmt: skip


class _Follower(_Reader):
    """An index of this node that has done all writes up to a number."""

    def __init__(self, store: Store, path: Path) -> None:
        super().__init__(path)
        self._store = store
        with super()._writing() as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS followed (seq INTEGER NOT NULL)")
            if connection.execute("SELECT 1 FROM followed").fetchone() is None:
                connection.execute("INSERT INTO followed VALUES (0)")

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        self._follow()
        with super()._reading() as connection:
            yield connection

    def _follow(self) -> None:
        """Raises StoreError."""
        done = self._done()
        with self._store.read() as c:
            newest = c.execute(select(func.coalesce(func.max(_W.c.seq), 0))).scalar_one()
        if newest == done:
            return
        with super()._writing() as connection:
            done = _start(connection, newest)
            self._do(connection, done, newest, _W.c.kind == _COLLECTION)  # an item may be older than its collection
            self._do(connection, done, newest, _W.c.kind != _COLLECTION)
            connection.execute("UPDATE followed SET seq = ?", (newest,))

    def _done(self) -> int:
        with super()._reading() as connection:
            return connection.execute("SELECT seq FROM followed").fetchone()[0]

    def _do(self, connection: sqlite3.Connection, done: int, newest: int, kind: ColumnElement[bool]) -> None:
        """What was written since, of one kind, part by part."""
        catalogue = Catalogue(connection)
        query = select(_W).where(_W.c.seq <= newest, kind).order_by(_W.c.seq).limit(_PART)
        while True:
            with self._store.read() as c:
                part = c.execute(query.where(_W.c.seq > done)).all()
            for row in part:
                _do(catalogue, row)
            if len(part) < _PART:
                return
            done = part[-1].seq


def _start(connection: sqlite3.Connection, newest: int) -> int:
    """Where to go on. A database that knows less than we do is another one: all is done anew."""
    done = connection.execute("SELECT seq FROM followed").fetchone()[0]
    if done <= newest:
        return done
    catalogue = Catalogue(connection)
    for id_ in catalogue.titles():
        catalogue.delete_collection(id_)
    return 0


def _do(catalogue: Catalogue, row: Any) -> None:
    if row.kind == _COLLECTION:
        catalogue.put_collection(row.document)
    elif row.kind == _ITEM:
        catalogue.put_items([row.document])
    else:
        with suppress(InputError):
            catalogue.delete_item(row.collection, row.item)
