"""Presets: names of one's own for models and how they are used, kept for clients that know models by such names."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from serve.desk import rights
from serve.store import audit, presets
from swathe.errors import LimitError
from swathe.user import Scope

if TYPE_CHECKING:
    from serve.store.store import Store
    from swathe.batch import Preset
    from swathe.user import Caller

LONGEST_LABELS = 1 << 18
"""Characters of a preset's labels as JSON."""
MOST = 1000
"""Of one user and kind."""


class Presets:
    """Own ones are changed; those of administrators that are shared are seen by all."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self, caller: Caller, kind: str, name: str, model: str | None = None, labels: dict[str, Any] | None = None,
        *, shared: bool = False,
    ) -> Preset:  # fmt: skip
        """Add a preset. Raises LimitError (``limit.presets``, ``limit.labels``), ForbiddenError (to share one)."""
        rights.require(caller, Scope.MODELS_WRITE)
        _check(labels or {})
        with self._store.begin() as c:
            if sum(one.owner == caller.user.id for one in presets.listed(c, kind, caller.user.id)) >= MOST:
                raise LimitError(f"you have {MOST} of them already", code="limit.presets", hint="remove some")
            made = presets.add(c, caller.user.id, kind, name, model=model, shared=shared and _sharing(caller),
                               labels=labels or {})  # fmt: skip
            audit.note(c, caller, "preset.add", made.id, kind=kind)
        return made

    def get(self, caller: Caller, id_: str) -> Preset:
        """A preset that the caller sees. Raises NotFoundError."""
        rights.require(caller, Scope.MODELS_READ)
        with self._store.read() as c:
            found = presets.get(c, id_)
        rights.see(caller, found.owner, f"preset {id_}", shared=found.shared)
        return found

    def listed(self, caller: Caller, kind: str) -> list[Preset]:
        """Presets of a kind that the caller sees, newest first."""
        rights.require(caller, Scope.MODELS_READ)
        with self._store.read() as c:
            return presets.listed(c, kind, None if caller.admin else caller.user.id)

    def expect_changeable(self, caller: Caller, id_: str) -> None:
        """Before whatever is made for one. Raises NotFoundError, ForbiddenError."""
        rights.require(caller, Scope.MODELS_WRITE)
        with self._store.read() as c:
            self._changeable(c, caller, id_)

    def change(self, caller: Caller, id_: str, **changes: Any) -> Preset:
        """Change ``name``, ``model``, ``shared``, ``labels``. Raises NotFoundError, ForbiddenError, LimitError."""
        rights.require(caller, Scope.MODELS_WRITE)
        _check(changes.get("labels") or {})
        if changes.get("shared"):
            _sharing(caller)
        with self._store.begin() as c:
            self._changeable(c, caller, id_)
            made = presets.change(c, id_, **changes)
            audit.note(c, caller, "preset.change", id_, fields=sorted(changes))
        return made

    def drop(self, caller: Caller, id_: str) -> None:
        """Remove a preset; its model stays. Raises NotFoundError, ForbiddenError."""
        rights.require(caller, Scope.MODELS_WRITE)
        with self._store.begin() as c:
            self._changeable(c, caller, id_)
            presets.drop(c, id_)
            audit.note(c, caller, "preset.drop", id_)

    @staticmethod
    def _changeable(c: Any, caller: Caller, id_: str) -> None:
        found = presets.get(c, id_)
        rights.change(caller, found.owner, f"preset {id_}", shared=found.shared)


def _sharing(caller: Caller) -> bool:
    """What everybody sees is for administrators to decide, as with cards. Raises ForbiddenError."""
    rights.require_admin(caller)
    return True


def _check(labels: dict[str, Any]) -> None:
    if len(json.dumps(labels, default=str)) > LONGEST_LABELS:
        raise LimitError(f"settings have more than {LONGEST_LABELS:,} characters", code="limit.labels")
