"""Models: shipped cards and cards that were added while the service runs; which are on, and what is wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from models.registry import LARGEST_CARD, Registry
from pipelines.chunking import least_mb
from serve.desk import rights
from serve.desk.usage import check_count
from serve.desk.wording import told
from serve.planning import cards_of_folders
from serve.store import audit, jobs, models
from serve.store.jobs import Filter
from serve.store.store import now
from swathe.card import ModelCard
from swathe.errors import CardError, ConflictError, ForbiddenError, LimitError, UnknownModelError
from swathe.job import ACTIVE, JobState
from swathe.user import Scope

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from serve.desk.limits import Limits
    from serve.settings import ServiceSettings
    from serve.store.models import Model
    from serve.store.store import Store
    from swathe.user import Caller

_FAR = ("hf://", "https://", "http://", "s3://")
_NAMES_FILES = ("config", "file")
"""Fields of a card's network block that name a file."""


@dataclass(frozen=True, slots=True)
class ModelState:
    """A card, and how it stands with it here."""

    card: ModelCard
    """What it says."""
    enabled: bool
    """Whether jobs may use it, and whether it is kept warm."""
    source: str
    """``shipped``, or ``added`` while the service ran."""
    owner: str | None = None
    """Id of the user who added it; None: nobody did."""
    shared: bool = True
    """Whether all users see it."""
    version: int = 1
    """Number that grows when its card is replaced."""
    state: str = ""
    """Of what is kept warm: ``starting``, ``ready``, ``idle``, ``failed``; empty: nothing is."""
    problem: dict[str, Any] | None = field(default=None)
    """RFC 9457: why it does not start."""


class Models:
    """What can be run. Cards of files and of the store are read again when they have changed."""

    def __init__(self, settings: ServiceSettings, store: Store) -> None:
        self._settings, self._store = settings, store
        self._rows: tuple[int, dict[str, Model]] = (-1, {})

    def listed(self, caller: Caller, states: Mapping[str, Mapping[str, Any]] | None = None) -> list[ModelState]:
        """All that they see, by id. ``states``: what is known of those that are kept warm, by id."""
        rights.require(caller, Scope.MODELS_READ)
        return [_with(state, states) for _, state in sorted(self._all().items()) if _sees(caller, state)]

    def get(self, caller: Caller, id_: str, states: Mapping[str, Mapping[str, Any]] | None = None) -> ModelState:
        """A model that the caller sees. Raises UnknownModelError."""
        rights.require(caller, Scope.MODELS_READ)
        return _with(self._seen(caller, id_), states)

    def usable(self, caller: Caller, id_: str) -> ModelCard:
        """The card of one that may be run. Raises UnknownModelError, ConflictError (``model.disabled``)."""
        found = self._seen(caller, id_)
        if not found.enabled:
            raise ConflictError(f"the model {id_} is switched off", code="model.disabled", field="model",
                                hint="switch it on (PATCH /api/models/ID), or take another one")  # fmt: skip
        return found.card

    def card(self, id_: str) -> ModelCard | None:
        """The card of this id, on or off, whoever sees it; for what the service says of results that it made."""
        found = self._all().get(id_)
        return None if found is None else found.card

    def shared(self) -> frozenset[str]:
        """Ids of those that all users see: the others are known to their owners and administrators alone."""
        return frozenset(id_ for id_, state in self._all().items() if state.shared)

    def enabled(self) -> dict[str, ModelCard]:
        """Cards of all that are on: what is to be kept warm."""
        return {id_: state.card for id_, state in self._all().items() if state.enabled}

    def add(
        self, caller: Caller, document: Mapping[str, Any], *, kept: str = "", shared: bool | None = None
    ) -> ModelState:
        """A card of one's own. With the id of one's own card it replaces that.

        ``kept``: a uri of weights that the service itself keeps, which a stranger could not name; ``shared``: whether
        a new one of an administrator is for all, which it is where nothing is said; another's never is.

        Raises CardError (``card.invalid``, ``.duplicate``, ``.path``, ``.size``), ImageryError (``url.*``: where its
        weights lie), LimitError (``limit.models``, ``limit.model``: more than the card of a member may ask for).
        """
        rights.require(caller, Scope.MODELS_WRITE)
        card = checked_card(document)
        _check_resources(card, caller, self._settings.limits)
        _check_addresses(card, self._settings, kept)
        with self._store.begin() as c:
            before = self._replaced(c, caller, card.id)
            if before is None:
                self._check_count(c, caller)
            models.put(c, _row(card, caller, before, shared=caller.admin and shared is not False))
            audit.note(c, caller, "model.add", card.id)
        return self._seen(caller, card.id)

    def change(
        self, caller: Caller, id_: str, *, enabled: bool | None = None, shared: bool | None = None
    ) -> ModelState:
        """Switch it on or off, share it; shipped ones by administrators. Raises UnknownModelError, ForbiddenError."""
        rights.require(caller, Scope.MODELS_WRITE)
        found = self._changeable(caller, id_)
        with self._store.begin() as c:
            if enabled is not None:
                models.enable(c, id_, enabled)
            if shared is not None:
                models.put(c, replace(models.get(c, id_), shared=self._shareable(caller, found, shared=shared)))
            audit.note(c, caller, "model.change", id_, enabled=enabled, shared=shared)
        return self._seen(caller, id_)

    def drop(self, caller: Caller, id_: str) -> None:
        """Forget an added one. Raises ConflictError (``model.used``, ``model.shipped``), UnknownModelError."""
        rights.require(caller, Scope.MODELS_WRITE)
        found = self._changeable(caller, id_)
        if found.source == "shipped":
            raise ConflictError(f"the model {id_} comes with swathe", code="model.shipped", hint="switch it off")
        with self._store.begin() as c:
            alive = jobs.count(c, Filter(model=id_, state=(JobState.QUEUED, *sorted(ACTIVE))))
            if alive:
                raise ConflictError(f"{alive} jobs use the model {id_}", code="model.used",
                                    hint="wait for their end, or cancel them")  # fmt: skip
            models.drop(c, id_)
            audit.note(c, caller, "model.drop", id_)

    # --- pieces ---

    @property
    def _shipped(self) -> Registry:
        return cards_of_folders(self._settings.card_folders)

    def _all(self) -> dict[str, ModelState]:
        rows = self._stored()
        limits = self._settings.limits
        found = {
            id_: ModelState(card, rows[id_].enabled if id_ in rows else limits.enables(id_), "shipped")
            for id_, card in self._shipped.items()
        }
        added = {id_: state for id_, row in rows.items() if id_ not in found and (state := _added(row)) is not None}
        return found | added

    def _stored(self) -> dict[str, Model]:
        """Rows of the store, read again when they have changed; two threads may both do it."""
        with self._store.read() as c:
            revision = models.revision(c)
            if self._rows[0] != revision:
                self._rows = (revision, {row.id: row for row in models.listed(c)})
        return self._rows[1]

    def _seen(self, caller: Caller, id_: str) -> ModelState:
        known = {name: state for name, state in self._all().items() if _sees(caller, state)}
        if id_ not in known:
            near = get_close_matches(id_.lower()[:80], known, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(near)}?" if near else "GET /api/models lists all"
            raise UnknownModelError(f"no model {id_[:80]!r}", hint=hint, field="model")
        return known[id_]

    def _changeable(self, caller: Caller, id_: str) -> ModelState:
        found = self._seen(caller, id_)
        if not rights.owns(caller, found.owner):
            raise ForbiddenError(f"the model {id_} is not yours", code="access.owner",
                                 hint="its owner or an administrator changes it")  # fmt: skip
        return found

    def _shareable(self, caller: Caller, found: ModelState, *, shared: bool) -> bool:
        if found.source == "shipped":
            raise ConflictError(f"the model {found.card.id} comes with swathe", code="model.shipped",
                                hint="it is everybody's")  # fmt: skip
        rights.require_admin(caller)  # its memory is everybody's too
        return shared

    def _replaced(self, c: Connection, caller: Caller, id_: str) -> Model | None:
        """The caller's own card of that id, if there is one. Raises CardError for anybody else's."""
        before = next((row for row in models.listed(c) if row.id == id_), None)
        mine = before is not None and before.card is not None and rights.owns(caller, before.owner)
        if id_ in self._shipped or (before is not None and not mine):
            raise CardError(f"there is a model {id_!r} already", code="card.duplicate", field="id",
                            hint="give yours another id")  # fmt: skip
        return before

    def _check_count(self, c: Connection, caller: Caller) -> None:
        most = self._settings.limits.models_per_user
        has = sum(row.owner == caller.user.id for row in models.listed(c) if row.card)
        if not caller.admin:
            check_count(has, most, "models", "limit.models")


def checked_card(document: Mapping[str, Any]) -> ModelCard:
    """A card of a stranger. Raises CardError that names the field."""
    try:
        size = len(json.dumps(document))
    except (RecursionError, TypeError, ValueError):
        raise CardError("the card cannot be read", code="card.invalid") from None
    if size > LARGEST_CARD:
        raise CardError(f"the card has {size:,} bytes, {LARGEST_CARD:,} are allowed", code="card.size")
    if "origin" in document:  # a field of the value, not of the card
        raise CardError("origin: no such field", field="origin", code="card.invalid")
    try:
        return ModelCard.model_validate(document)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        said = str(fault["msg"]).removeprefix("Value error, ")
        raise CardError(f"{where}: {said}" if where else said, field=where, code="card.invalid") from None


def _check_resources(card: ModelCard, caller: Caller, limits: Limits) -> None:
    """What a card asks for is kept from everybody else: a member's has bounds. Raises LimitError."""
    if caller.admin:
        return
    wanted = card.resources
    asked: dict[str, tuple[float, float]] = {
        "warm": (wanted.warm, limits.model_warm), "replicas": (wanted.replicas or 1, limits.model_replicas),
        "memory_gb": (wanted.memory_gb, limits.model_memory_gb), "cpu": (wanted.cpu, limits.model_cpu),
        "gpu": (wanted.gpu, limits.model_gpu),
    }  # fmt: skip
    for name, (given, most) in asked.items():
        if given > most:
            raise LimitError(f"the card asks for {name} {given:g}, {most:g} are allowed", code="limit.model",
                             field=f"resources.{name}", hint="ask for less, or an administrator to add it")  # fmt: skip
    _check_tiles(card, limits.model_tiles_mb)


def _check_tiles(card: ModelCard, most: float) -> None:
    """Numbers that look harmless alone are large together: tiles of a batch, their side, dates, bands, channels."""
    given, side = least_mb(card), card.input.chip
    if given > most:
        what = f"{card.resources.batch} tiles at once of {side} x {side} pixels take {given:.0f} MB"
        raise LimitError(f"{what}, {most:g} are allowed", code="limit.model", field="resources.batch",
                         hint="make resources.batch or input.chip smaller, or ask an administrator")  # fmt: skip


def _check_addresses(card: ModelCard, settings: ServiceSettings, kept: str) -> None:
    """What it names lies at addresses that may be read; files of this machine are not its to name."""
    named = {name: card.network[name] for name in _NAMES_FILES if card.network.get(name)}
    if card.weights is not None and not (kept and card.weights.uri == kept):
        named["weights.uri"] = card.weights.uri
    for where, uri in named.items():
        _check_address(str(uri), where if "." in where else f"network.{where}", settings)


def _check_address(uri: str, where: str, settings: ServiceSettings) -> None:
    from pipelines.remote.address import Stored, look_at
    from pipelines.remote.sign import check_bucket

    if not uri.startswith(_FAR) or (uri.startswith("http://") and not settings.allow_private_urls):
        raise CardError(f"{where}: {uri[:200]!r} is no address that weights are fetched from", code="card.path",
                        field=where, hint="give hf://, https:// or s3://")  # fmt: skip
    if uri.startswith("hf://"):
        return
    network = settings.network_of_strangers
    with told():
        place = look_at(uri, network)
        if isinstance(place, Stored):
            check_bucket(place, network)


def _row(card: ModelCard, caller: Caller, before: Model | None, *, shared: bool) -> Model:
    document, moment = card.model_dump(mode="json", exclude_defaults=True), now()
    if before is not None:
        return replace(before, card=document, problem=None, version=before.version + 1, updated=moment)
    return models.Model(card.id, document, True, caller.user.id, shared, None, 1, moment, moment)


def _added(row: Model) -> ModelState | None:
    """None where a card that an older swathe took is refused by this one, or was left by a shipped one that is gone."""
    try:
        card = ModelCard.model_validate(row.card) if row.card else None
    except ValidationError:
        return None
    return card and ModelState(card, row.enabled, "added", row.owner, row.shared, row.version, problem=row.problem)


def _sees(caller: Caller, state: ModelState) -> bool:
    return state.shared or rights.owns(caller, state.owner)


def _with(state: ModelState, states: Mapping[str, Mapping[str, Any]] | None) -> ModelState:
    said = (states or {}).get(state.card.id, {})
    return replace(state, state=said.get("state", ""), problem=said.get("problem") or state.problem)
