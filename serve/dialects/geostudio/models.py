"""Their models: presets of users, our cards under names that they can be asked by, and the two special ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serve.desk.adoption import About, common_name
from serve.dialects.geostudio.ids import id_of_tune, tune_id, uuid_of, uuid_of_name
from serve.dialects.geostudio.problems import Refusal, msg
from serve.dialects.geostudio.records import stamp
from serve.dialects.geostudio.schema import Spec
from serve.dialects.geostudio.styles import styled
from serve.dialects.geostudio.translate import band_names, factors_of
from swathe.errors import NotFoundError, UnknownModelError

if TYPE_CHECKING:
    from serve.desk.desk import Desk
    from serve.desk.models import ModelState
    from swathe.batch import Preset
    from swathe.card import ModelCard
    from swathe.user import Caller

MODEL, TUNE = "geostudio.model", "geostudio.tune"
"""Kinds of presets."""
SANDBOX, LAYER = "geofm-sandbox-models", "add-layer-sandbox-model"
"""Their names for trying a tune out, and for publishing what is there already."""
LAYER_CARD, SHAPES_CARD = "image-as-it-is", "shapes-as-they-are"
"""What publishes it: of an image, and of what was drawn from shapes."""
SYSTEM = "system@ibm.com"
"""Who made what is everybody's."""
_BEGIN = "2026-01-01T00:00:00.000000Z"
"""Shipped cards have no date; their clients want one."""
_STATES = {"starting": "DEPLOY_IN_PROGRESS", "failed": "DEPLOY_FAILED"}
_BLOCKED = {"PENDING": "it has no network yet: deploy it", "DEPLOY_FAILED": "it could not be made ready",
            "UNAVAILABLE": "it is switched off here"}  # fmt: skip
_SHOWN = ("description", "model_url", "pipeline_steps", "geoserver_push", "model_input_data_spec",
          "postprocessing_options", "model_onboarding_config")  # fmt: skip
States = Callable[[], Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Model:
    """One of theirs."""

    id: str
    display_name: str
    status: str
    created_by: str
    created: str
    updated: str
    card: ModelCard | None
    """What it runs."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What its maker said of it, in their words."""
    preset: Preset | None = None
    """Where it is kept; None: it comes with the service."""
    is_tune: bool = False
    is_layer: bool = False
    latest: bool = True
    problem: str = ""
    """Why it cannot be used."""

    @property
    def internal_name(self) -> str:
        """As they make it: name, version and eight digits of the id."""
        plain = self.display_name.lower().replace("_", "-")[:30]
        return f"{plain}-v{int(float(self.fields.get('version', 1)))}-{self.id.replace('-', '')[-8:]}"

    @property
    def is_own(self) -> bool:
        """Whether somebody brought it."""
        return self.preset is not None and self.preset.labels.get("brought", self.is_tune)

    @property
    def specs(self) -> list[Spec]:
        """What its maker says that it eats."""
        return [Spec.model_validate(one) for one in self.fields.get("model_input_data_spec") or ()]

    def shown(self) -> dict[str, Any]:
        """As a record."""
        said = {name: self.fields.get(name) for name in _SHOWN}
        return {
            **said, "id": self.id, "display_name": self.display_name, "internal_name": self.internal_name,
            "status": self.status, "active": True, "latest": self.latest, "sharable": self._sharable,
            "version": float(self.fields.get("version", 1.0)), "created_by": self.created_by,
            "created_at": self.created, "updated_at": self.updated,
        }  # fmt: skip

    @property
    def _sharable(self) -> bool:
        return self.preset.shared if self.preset else True

    def expect_usable(self) -> None:
        """Raises Refusal (422) in a state that no inference can be made in."""
        if self.status in _BLOCKED or self.card is None:
            why = self.problem or _BLOCKED.get(self.status, "it has no network")
            raise Refusal(422, {"msg": f"Model {self.display_name} is {self.status}: {why}"})


class Models:
    """What a caller sees of them."""

    def __init__(self, desk: Desk, states: States) -> None:
        """``states``: how it stands with what is kept warm, by card."""
        self._desk, self._states = desk, states

    def listed(self, caller: Caller) -> list[Model]:
        """Own and shared presets, newest first; then what comes with the service."""
        cards = self._cards(caller)
        named = [self._of_preset(caller, preset, cards) for preset in self._desk.presets.listed(caller, MODEL)]
        behind = {model.card.id for model in named if model.card}
        tunes = {preset.model for preset in self._desk.presets.listed(caller, TUNE)}
        rest = [_of_card(state) for id_, state in cards.items() if _stands_alone(id_, state, behind, tunes)]
        return [*named, *rest, *_special(cards)]

    def get(self, caller: Caller, id_: object) -> Model:
        """By id. Raises NotFoundError."""
        for model in self.listed(caller):
            if model.id == str(id_).lower():
                return model
        raise NotFoundError(f"Model {str(id_)[:60]} not found")

    def named(self, caller: Caller, name: str) -> Model:
        """The latest of a name: the caller's own, else the service's, else a shared one. Raises NotFoundError."""
        found = [m for m in self.listed(caller) if m.latest and name in (m.display_name, m.internal_name)]
        if not found:
            raise NotFoundError(f"Model {name[:100]} not found", hint="GET models lists all")
        return min(found, key=lambda m: _rank(m, caller))

    def tunes(self, caller: Caller) -> list[Model]:
        """All tunes that they see, newest first."""
        cards = self._cards(caller)
        return [self._of_preset(caller, preset, cards) for preset in self._desk.presets.listed(caller, TUNE)]

    def tune(self, caller: Caller, id_: str) -> Model:
        """One. Raises NotFoundError."""
        preset = self._desk.presets.get(caller, id_of_tune(id_, "s"))
        if preset.kind != TUNE:
            raise NotFoundError(f"there is no tune {id_[:80]}")
        return self._of_preset(caller, preset, self._cards(caller))

    def preset_of(self, caller: Caller, id_: object) -> Preset:
        """Of a model that somebody made. Raises NotFoundError, Refusal (422) for one that comes with the service."""
        model = self.get(caller, id_)
        if model.preset is None:
            raise msg(422, f"Model {model.display_name} comes with the service")
        return model.preset

    # --- pieces ---

    def _cards(self, caller: Caller) -> dict[str, ModelState]:
        return {state.card.id: state for state in self._desk.models.listed(caller, self._states())}

    def _of_preset(self, caller: Caller, preset: Preset, cards: Mapping[str, ModelState]) -> Model:
        state = cards.get(preset.model or "")
        fields = preset.labels.get("fields", {})
        owner = preset.labels.get("created_by", caller.user.email)
        tune = preset.kind == TUNE
        return Model(
            tune_id(preset.id) if tune else uuid_of(preset.id), preset.name, _status(preset, state), owner,
            stamp(preset.created), stamp(preset.updated), state.card if state else None, fields, preset, is_tune=tune,
            latest=bool(preset.labels.get("latest", True)), problem=_problem(state),
        )  # fmt: skip


def spec_of(card: ModelCard) -> list[dict[str, Any]]:
    """What a card eats, in their words."""
    rgb = {"red": "R", "green": "G", "blue": "B"}
    bands = [
        {"index": str(n), "band_name": name, "scaling_factor": 1, **({"RGB_band": rgb[name]} if name in rgb else {})}
        for n, name in enumerate(card.input.bands)
    ]  # fmt: skip
    return [{"bands": bands, "modality_tag": card.id}]


def about(model: Model | str, id_: str, description: str = "", fields: Mapping[str, Any] | None = None) -> About:
    """What is known of a network beside its config: bands, scale and classes of a data spec and of layers."""
    said = fields or {}
    specs = [Spec.model_validate(one) for one in said.get("model_input_data_spec") or ()][:1]
    names = [common_name(name) for name in band_names(specs)]
    factors = set(factors_of(specs))
    title = model if isinstance(model, str) else model.display_name
    return About(
        id_, title, description, bands=tuple(n for n in names if n) if names and all(names) else (),
        factor=factors.pop() if len(factors) == 1 else None,
        classes={value: (label, colour) for value, label, colour in classes_of(said.get("geoserver_push") or ())},
    )  # fmt: skip


def classes_of(pushes: Any) -> list[tuple[int, str, str]]:
    """Value, name and colour, from the styles of layers."""
    found: dict[int, tuple[int, str, str]] = {}
    for push in pushes:
        colours, kind = styled(push.get("geoserver_style") if isinstance(push, dict) else None) or ((), "values")
        for one in colours if kind == "values" else ():
            if one.value.is_integer() and 0 <= one.value < 255:  # noqa: PLR2004  a byte
                found.setdefault(int(one.value), (int(one.value), one.label[:100], one.colour))
    return list(found.values())


def _stands_alone(id_: str, state: ModelState, behind: set[str], tunes: set[str | None]) -> bool:
    """A card that is not already there as a preset of the caller; the card of layers has a name of its own."""
    return id_ not in (LAYER_CARD, SHAPES_CARD) and not (state.source == "added" and (id_ in behind or id_ in tunes))


def _of_card(state: ModelState) -> Model:
    card = state.card
    fields = {"description": card.summary or card.title, "model_input_data_spec": spec_of(card)}
    return Model(
        uuid_of_name(card.id), card.id.replace(".", "_"), _state(state), SYSTEM, _BEGIN, _BEGIN, card, fields,
        problem=_problem(state),
    )  # fmt: skip


def _special(cards: Mapping[str, ModelState]) -> Iterator[Model]:
    """They are models by name; what they run is told by the rest of a request."""
    for name, said in ((SANDBOX, "Tries tunes out: say which with fine_tuning_id."),
                       (LAYER, "Publishes rasters and shapes that are there already.")):  # fmt: skip
        state = cards.get(LAYER_CARD) if name == LAYER else None
        yield Model(uuid_of_name(name), name, "COMPLETED", SYSTEM, _BEGIN, _BEGIN, state.card if state else None,
                    {"description": said}, is_layer=name == LAYER)  # fmt: skip


def _status(preset: Preset, state: ModelState | None) -> str:
    if preset.model is None:
        return "PENDING"
    return "UNAVAILABLE" if state is None else _state(state)


def _state(state: ModelState) -> str:
    if not state.enabled:
        return "UNAVAILABLE"
    return _STATES.get(state.state, "COMPLETED")


def _problem(state: ModelState | None) -> str:
    return str((state.problem or {}).get("detail", "")) if state else ""


def _rank(model: Model, caller: Caller) -> int:
    if model.preset is not None and model.preset.owner == caller.user.id:
        return 0
    return 1 if model.preset is None else 2


def card_named(models: Models, caller: Caller, url: str) -> str | None:
    """Our card that an address of a model means, by its last part: a name, or an id of this API."""
    last = url.rstrip("/").rpartition("/")[2]
    try:
        return next((m.card.id for m in models.listed(caller) if m.card and last in (m.id, m.card.id)), None)
    except UnknownModelError:
        return None
