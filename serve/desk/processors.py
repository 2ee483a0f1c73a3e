"""Users' scripts: brought, listed, named in a job, deleted. None is accepted where none could be shut in."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipelines.steps.script import MB, call_of, check_parameters, check_script
from pipelines.store.blobs import is_stored
from serve.desk import rights, usage
from serve.desk.content import Content, Text
from serve.desk.labels import check_labels
from serve.desk.projects import check_into, is_shared
from serve.store import audit, ids, processors, users
from swathe.errors import InputError, NotFoundError, OutputError, StoreError, SwatheError
from swathe.recipe import ProcessorWish
from swathe.user import Scope

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from serve.settings import ServiceSettings
    from serve.store.pages import Page
    from serve.store.store import Store
    from swathe.processor import ProcessorCard
    from swathe.user import Caller

KIND = "processor"
"""Of links to a script."""
LONGEST_PARAMETERS = 65_536
"""Characters of all parameters as JSON."""
_SCRIPT = "script.py"


class Processors:
    """The use cases around processors. Others' do not exist, unless their project is shared."""

    def __init__(self, settings: ServiceSettings, store: Store) -> None:
        self._settings, self._store = settings, store

    def add(  # noqa: PLR0913  what is known of one
        self, caller: Caller, file: str, content: bytes, *, name: str = "", description: str = "",
        parameters: dict[str, Any] | None = None, call: str = "", project: str | None = None,
        labels: dict[str, Any] | None = None,
    ) -> ProcessorCard:  # fmt: skip
        """Keep a script, after a look at it. ``call``: ``positional``, ``text``, ``flags``; empty: told by its source.

        It is stored before it is noted: no transaction waits for object storage.

        Raises ConflictError (``processor.isolation``) where this machine cannot shut one in, InputError
        (``processor.*``), LimitError (``limit.processor``, ``limit.labels``, ``quota.storage``), NotFoundError
        (project), OutputError, StoreError.
        """
        from pipelines.sandbox.isolation import isolation

        rights.require(caller, Scope.UPLOADS)
        isolation().required()
        file = _file(file)
        check_script(file, content)
        form, given = call_of(content, call), parameters or {}
        check_parameters(given, form)
        _check_length(given)
        check_labels(labels)
        facts: dict[str, Any] = {
            "id": ids.new("r"), "project": project, "name": (name or file)[:100], "description": description[:1000],
            "file": file, "call": form.value, "parameters": given, "size": len(content), "labels": labels or {},
            "sha256": hashlib.sha256(content).hexdigest(),
        }  # fmt: skip
        return self._keep(caller, facts, content)

    def get(self, caller: Caller, id_: str) -> ProcessorCard:
        """A processor that the caller sees. Raises NotFoundError."""
        rights.require(caller, Scope.UPLOADS)
        return seen(self._store, caller, id_)

    def listed(self, caller: Caller, limit: int = 50, cursor: str | None = None) -> Page[ProcessorCard]:
        """Those that they see, newest first. Raises InputError for a cursor that is none."""
        rights.require(caller, Scope.UPLOADS)
        with self._store.read() as c:
            return processors.listed(c, limit, cursor, None if caller.admin else caller.user.id)

    def delete(self, caller: Caller, id_: str) -> None:
        """No new job runs it; those that were accepted still do. Raises NotFoundError, ForbiddenError.

        Its script counts until it is removed (``clear``).
        """
        rights.require(caller, Scope.UPLOADS)
        with self._store.begin() as c:
            found = processors.get(c, id_)
            rights.change(caller, found.owner, f"processor {id_}", shared=is_shared(c, found.project))
            processors.delete(c, id_)
            audit.note(c, caller, "processor.delete", id_)

    def file_name(self, caller: Caller, id_: str, name: str) -> str:  # noqa: ARG002  it has one file
        """For links: see ``serve.desk.links.Kind``."""
        return self.get(caller, id_).file

    def content(self, caller: Caller, id_: str, name: str) -> Content:  # noqa: ARG002  it has one file
        """The script itself. Raises NotFoundError."""
        found = self.get(caller, id_)
        return Content(found.file, found.size, Text(script_of(found, self._settings)), found.sha256)

    # --- by whoever clears up ---------------------------------------------------------------------------------------

    def clear(self, before: str) -> int:
        """Remove those that were deleted before this moment and that nothing accepted may run any more; how many.

        Raises StoreError, OutputError.
        """
        with self._store.read() as c:  # it may take a while; a deleted one is not named anew
            gone = processors.unneeded(c, before)
        if gone:
            with self._store.begin() as c:
                processors.drop(c, gone)
        for id_ in gone:
            _remove(id_, self._settings)
        return len(gone)

    # --- pieces ---

    def _keep(self, caller: Caller, facts: dict[str, Any], content: bytes) -> ProcessorCard:
        """The script first, then its row; where that is refused, the script goes again."""
        with self._store.read() as c:  # before anything is stored for it
            self._check(c, caller, facts)
        blobs = self._settings.blobs(f"processors/{facts['id']}")
        blobs.put(_SCRIPT, content)
        try:
            with self._store.begin() as c:
                users.hold(c, caller.user.id)  # two requests at once do not both take the last room
                self._check(c, caller, facts)
                made = processors.add(c, caller.user.id, **facts)
                audit.note(c, caller, "processor.add", made.id, file=made.file, sha256=made.sha256)
        except StoreError:  # nobody can tell whether the row stands; a script without one is swept up (``orphans``)
            raise
        except SwatheError:
            with suppress(OutputError):
                _remove(facts["id"], self._settings)
            raise
        return made

    def _check(self, c: Connection, caller: Caller, facts: dict[str, Any]) -> None:
        check_into(c, caller, facts["project"])
        usage.check_storage(c, caller.user, self._settings.limits, facts["size"] / MB)


def seen(store: Store, caller: Caller, id_: str, accepted: str = "") -> ProcessorCard:
    """One that they see, and that is not deleted, or was not when the wish was ``accepted``. Raises NotFoundError."""
    with store.read() as c:
        found = processors.get(c, id_)
        rights.see(caller, found.owner, f"processor {id_}", shared=is_shared(c, found.project))
    if found.deleted and not (accepted and accepted <= found.deleted):
        raise rights.missing(f"processor {id_}")
    return found


def script_of(card: ProcessorCard, settings: ServiceSettings) -> bytes:
    """Raises NotFoundError where it is gone, or is not what was brought."""
    try:
        content = settings.blobs(f"processors/{card.id}").get(_SCRIPT)
    except FileNotFoundError:
        content = b""
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise NotFoundError(f"the script of the processor {card.id} is gone", code="processor.unknown",
                            hint="send it again")  # fmt: skip
    return content


def settled_wish(
    wish: ProcessorWish, settings: ServiceSettings, store: Store, caller: Caller | None, accepted: str = ""
) -> ProcessorWish:
    """With the script put in for its id. ``caller``: None where its job was accepted before; ``accepted``: as ``seen``.

    Raises NotFoundError (``processor.unknown``), InputError (``processor.parameters``).
    """
    if caller is not None:
        card = seen(store, caller, wish.script, accepted)
    else:
        with store.read() as c:
            card = processors.get(c, wish.script)
    content = script_of(card, settings)
    parameters = card.parameters | wish.parameters
    check_parameters(parameters, call_of(content, card.call))
    return replace(wish, script=card.file, content=content, parameters=parameters, call=card.call, title=card.name,
                   about={"id": card.id, "sha256": card.sha256})  # fmt: skip


def _remove(id_: str, settings: ServiceSettings) -> None:
    """The script and its folder; what is gone already is no error. Raises OutputError."""
    if is_stored(settings.place):
        settings.blobs(f"processors/{id_}").delete([_SCRIPT])
    else:
        shutil.rmtree(f"{settings.place}/processors/{id_}", ignore_errors=True)


def _file(name: str) -> str:
    """A name without folders and without what no file name has."""
    bare = name.replace("\\", "/").rpartition("/")[2]
    kept = "".join(ch for ch in bare if ch.isprintable() and ch not in '<>:"|?*')[-100:]
    return kept.lstrip(".") or "script"


def _check_length(parameters: dict[str, Any]) -> None:
    if len(json.dumps(parameters, default=str)) > LONGEST_PARAMETERS:
        raise InputError(f"parameters have more than {LONGEST_PARAMETERS:,} characters", code="processor.parameters",
                         field="parameters")  # fmt: skip
