"""A wish of theirs on its way to the desk: which model, which source, which steps; and what is kept of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from serve.dialects.geostudio.after import SHAPES_CODE
from serve.dialects.geostudio.given import wished
from serve.dialects.geostudio.ids import id_of, uuid_of_name
from serve.dialects.geostudio.layers import MASKED, RESULT, pushes_of, wishes_to_push
from serve.dialects.geostudio.models import SANDBOX
from serve.dialects.geostudio.problems import msg
from serve.dialects.geostudio.ready_made import as_known, expect_layers, one_by_one
from serve.dialects.geostudio.routes.processors import LETTER, shown
from serve.dialects.geostudio.schema import MOST_PUSHES, InferenceCreate, Spec
from serve.dialects.geostudio.translate import Means, Task, after_of, expect_few, steps_of, tasks_of
from swathe.errors import InputError
from swathe.masking import CODES, Mask, code_labels

if TYPE_CHECKING:
    from serve.desk.asking import Asking, PublishAsked
    from serve.desk.desk import Desk
    from serve.dialects.geostudio.models import Model
    from swathe.user import Caller

_ALIASES = {
    "s2_l2a": "earth-search-s2-c1-l2a", "sentinel-2-l2a": "earth-search-s2-c1-l2a", "sentinel2_l2a":
    "earth-search-s2-c1-l2a", "sentinel_2_l2a": "earth-search-s2-c1-l2a", "hls_l30": "pc-hls-l30",
    "hls_s30": "pc-hls-s30", "hlsl30": "pc-hls-l30", "hlss30": "pc-hls-s30", "s1_grd": "pc-s1-rtc",
    "sentinel-1-rtc": "pc-s1-rtc", "landsat-c2-l2": "pc-landsat-c2-l2",
}  # fmt: skip
"""Collections of their connectors -> sources here that have the same imagery."""
CONNECTORS = ("sentinelhub", "nasa_earthdata", "sentinel_aws", "terrakit")
"""Of theirs; whatever is asked of them is looked for among all sources here, so one alone names none."""
_KEPT = ("description", "location", "temporal_domain", "maxcc", "demo", "geoserver_layers", "inference_output")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One of them, checked."""

    asked: InferenceCreate
    model: Model
    tasks: list[Task]
    steps: list[str]
    after: dict[str, Any]
    processor: dict[str, Any] | None
    """The record of the user's own program, as they are shown it."""
    places: tuple[int, ...] = ()
    """Of ready-made layers: the number of the layer that each task is for; empty: all of them are for each."""

    @property
    def title(self) -> str:
        """For people."""
        return (self.asked.description or self.model.display_name)[:200]

    def record(self, who: Caller) -> dict[str, Any]:
        """What is answered about the wish for as long as it is kept."""
        asked = self.asked
        return {
            "model_id": uuid_of_name(SANDBOX) if self.model.is_tune else self.model.id,  # as theirs: a tune is none
            "model_display_name": self._name,
            **{name: asked.model_dump(mode="json", include=set(_KEPT)).get(name) for name in _KEPT},
            "spatial_domain": asked.spatial_domain.model_dump(mode="json"),
            "maxcc": int(asked.maxcc) if asked.maxcc == int(asked.maxcc) else asked.maxcc,
            "fine_tuning_id": asked.fine_tuning_id, "generic_processor": self.processor,
            "generic_processor_id": asked.generic_processor_id and str(asked.generic_processor_id),
            "created_by": who.user.email,
        }  # fmt: skip

    def labels(self, who: Caller) -> dict[str, Any]:
        """All that the desk keeps for us: what is answered, what is listed by, what layers are made with."""
        record, asked = self.record(who), self.asked
        return {
            "of": "inference", "record": record, "steps": self.steps, "dates": [task.date for task in self.tasks],
            "stems": [task.stem for task in self.tasks], "model_id": record["model_id"],
            "tune_id": asked.fine_tuning_id or "", "created_by": who.user.email, "location": asked.location or "",
            "saved": wished((asked.demo or {}).get("demo")), "push": self.pushes,
            "push_of": self.push_of,
        }  # fmt: skip

    def to_push(self, batch: str) -> list[Asking]:
        """The wishes, with layers for a map server beside ours; ``batch``: the id that they will have."""
        wishes = enumerate(task.wish for task in self.tasks)
        return [wish.model_copy(update={"publish": self._published(batch, n)}) for n, wish in wishes]

    def _published(self, batch: str, n: int) -> tuple[PublishAsked, ...]:
        shapes = "mask_shapes" in self.after
        masked = shapes or "mask" in self.after
        mine = pushes_of(self.pushes, self.push_of[n] if self.push_of else None, without="" if masked else MASKED)
        codes = {mask: code for mask, code in CODES.items() if mask is not Mask.SHAPES}
        codes |= {Mask.SHAPES: SHAPES_CODE} if shapes else {}
        return wishes_to_push(batch, None if len(self.tasks) == 1 else n, mine, code_labels(codes, codes))

    @property
    def pushes(self) -> list[dict[str, Any]]:
        """Layers of the wish, else of the model. A ready-made layer is the result, whatever it is called."""
        asked = [push.model_dump(mode="json") for push in self.asked.geoserver_push]
        if self.model.is_layer:
            return [{**push, "filepath_key": RESULT} for push in asked]
        return asked or self.model.fields.get("geoserver_push") or []

    @property
    def push_of(self) -> list[int]:
        """Of each task the number of its layer, where ready-made ones come so; empty: all have all."""
        return list(self.places)

    @property
    def _name(self) -> str:
        return self.asked.model_display_name or self.model.display_name


def wanted(desk: Desk, who: Caller, asked: InferenceCreate, model: Model) -> Wanted:
    """Raises Refusal and SwatheError for what cannot be wished."""
    model.expect_usable()
    assert model.card is not None
    if model.is_layer:
        expect_layers(asked)
    processor = _processor(desk, who, asked)
    after = after_of(asked, model.fields.get("postprocessing_options") or {})
    means = Means(_source(desk, who, asked, model), processor and processor[0],
                  desk.settings.limits.max_area_km2, desk.settings.limits.wishes_per_batch, after)  # fmt: skip
    expect_few(asked, model.card, means)
    ready = one_by_one(desk.uploads, who, asked) if model.is_layer else None
    tasks = tasks_of(ready.asked, model, means) if ready else tasks_of(asked, model, means)
    made = Wanted(asked, model, as_known(tasks, ready) if ready else tasks, steps_of(asked, model, after), after,
                  processor and processor[1], ready.places if ready else ())  # fmt: skip
    _check_pushes(made)
    return made


def _check_pushes(made: Wanted) -> None:
    """Raises Refusal (422) for more layers of a task than there can be."""
    count = 1 if made.push_of else len(made.pushes)
    if count > MOST_PUSHES:
        raise msg(422, f"geoserver_push has {count} layers, {MOST_PUSHES} are allowed of one task")


def _processor(desk: Desk, who: Caller, asked: InferenceCreate) -> tuple[dict[str, Any], dict[str, Any]] | None:
    if asked.generic_processor_id is None:
        return None
    found = desk.processors.get(who, id_of(asked.generic_processor_id, LETTER))
    return {"id": found.id}, shown(found, who)


def _source(desk: Desk, who: Caller, asked: InferenceCreate, model: Model) -> str:
    """The collection that was named, in the wish or by the model; else the first source that has all bands."""
    where = asked.spatial_domain
    if not (where.bbox or where.polygons or where.tiles):
        return ""
    for spec in (*asked.data_connector_config, *asked.model_input_data_spec, *model.specs):
        if found := source_named(desk, who, spec):
            return found
    assert model.card is not None
    best = desk.sources.fitting(who, model.card)
    return best.id if best else ""


def source_named(desk: Desk, who: Caller, spec: Spec) -> str:
    """Our source of a connector and a collection; empty: none was said. Raises InputError."""
    extra: Mapping[str, Any] = spec.model_extra or {}
    said = str(spec.collection or extra.get("collection_name") or "").strip()
    if not said and (not spec.connector or spec.connector in CONNECTORS):
        return ""
    return source_of(desk, who, said, spec.connector or "")


def source_of(desk: Desk, who: Caller, collection: str, connector: str = "") -> str:
    """The same of two names. Raises InputError (``source.unknown``)."""
    known = desk.sources.listed(who)
    names = {card.id for card in known}
    for text in (collection, _ALIASES.get(collection.lower(), ""), connector):
        if text in names:
            return text
    of_archive = [card.id for card in known if collection and card.collection == collection]
    if of_archive:
        return of_archive[0]
    raise InputError(f"there is no collection {collection[:80] or connector[:80]!r} here", code="source.unknown",
                     field="collection", hint=f"known are {', '.join(sorted(names))}")  # fmt: skip
