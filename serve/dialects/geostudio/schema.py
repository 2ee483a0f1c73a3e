"""Their JSON. Clients of theirs send every optional field as null: null is the same as not said, everywhere.

That holds for changes, too: their client names all fields of a model when it changes one. What is to be emptied is
sent empty: false, 0, "", [] and {} are values.
"""

from __future__ import annotations

import math
import re
from datetime import date
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from serve.dialects.geostudio.after import PostProcessing, expect_no_secret
from serve.dialects.geostudio.given import Href, is_address, without_nulls

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:_(\d{4}-\d{2}-\d{2}))?")
_DAY = re.compile(r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)")
_LON, _LAT = 180.0, 90.0
_CORNERS = 4
_SEARCHES = 50
"""Of one question for scenes."""
MOST_PUSHES = 16
"""Layers of one task."""
Text = Annotated[str, Field(max_length=10_000)]
Short = Annotated[str, Field(max_length=100)]
Objects = Annotated[list[dict[str, Any]], Field(max_length=200)]


class Given(BaseModel):
    """A body, or a part of one: what is null was not said, and what nobody knows is passed over."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), allow_inf_nan=False)

    _null_is_absent = model_validator(mode="before")(without_nulls)


# --- models ----------------------------------------------------------------------------------------------------------


class Onboarding(Given):
    """Where a network's config and checkpoint lie."""

    fine_tuned_model_id: Short = ""
    model_configs_url: Href | None = None
    model_checkpoint_url: Href | None = None


class Spec(Given):
    """What a model eats of one modality."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    bands: list[dict[str, Any]] | dict[str, Any] | None = None
    connector: str | None = None
    collection: str | None = None


class Push(Given):
    """A layer that is made of a file of a task."""

    model_config = ConfigDict(extra="allow", protected_namespaces=())

    workspace: str
    layer_name: str
    display_name: str
    filepath_key: str
    file_suffix: str
    geoserver_style: str | dict[str, Any]


Pushes = Annotated[list[Push], Field(max_length=MOST_PUSHES)]


class ModelFields(Given):
    """What is said of a model."""

    description: Text | None = None
    model_url: Href | None = None
    pipeline_steps: Objects | None = None
    geoserver_push: Pushes | None = None
    model_input_data_spec: list[Spec] | None = None
    postprocessing_options: dict[str, Any] | None = None
    sharable: bool | None = None
    model_onboarding_config: Onboarding | None = None
    latest: bool | None = None

    @field_validator("postprocessing_options")
    @classmethod
    def _usable(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        checked = _checked(PostProcessing, given)
        expect_no_secret(PostProcessing.model_validate(given or {}))
        return checked


def _named(name: str | None) -> str | None:
    if name is not None and not _NAME.fullmatch(name):
        raise ValueError("model display_name can only contain letters, digits, underscores, and hyphens")
    return name


class ModelUpdate(ModelFields):
    """What is to change: false and empty are values, null leaves what there is."""

    display_name: Annotated[Short | None, AfterValidator(_named)] = None


class ModelCreate(ModelFields):
    """A new one."""

    display_name: Annotated[Short, AfterValidator(_named)]
    version: Annotated[float, Field(ge=0, le=1e6)] = 1.0


class Deploy(Given):
    """What a model is to be made of."""

    fine_tuned_model_id: Short = ""
    model_configs_url: Href
    model_checkpoint_url: Href


# --- inference -------------------------------------------------------------------------------------------------------


class SpatialDomain(Given):
    """Where."""

    bbox: list[list[float]] = []
    polygons: list[dict[str, Any]] = []
    tiles: list[str | list[int] | dict[str, int]] = []
    urls: list[Href] = []

    @field_validator("bbox", mode="before")
    @classmethod
    def _one_box(cls, given: Any) -> Any:
        """One box without its list is one box."""
        flat = isinstance(given, list) and given and not isinstance(given[0], list)
        return [given] if flat else given

    @field_validator("bbox")
    @classmethod
    def _boxes(cls, boxes: list[list[float]]) -> list[list[float]]:
        for n, box in enumerate(boxes):
            if said := _wrong_box(box):
                raise ValueError(f"box {n}: {said}")
        return boxes

    @field_validator("polygons", mode="before")
    @classmethod
    def _geometries(cls, given: Any) -> Any:
        """Features and collections of them are their geometries."""
        return [geometry for one in given for geometry in _geometries(one)] if isinstance(given, list) else given

    @field_validator("tiles")
    @classmethod
    def _tiles(cls, given: list[Any]) -> list[Any]:
        return [_tile(one) for one in given]

    @field_validator("urls")
    @classmethod
    def _addresses(cls, given: list[str]) -> list[str]:
        """What can be no address fails at once; what cannot be reached, its task."""
        for n, text in enumerate(given):
            if not is_address(text):
                raise ValueError(f"url {n} is no address: http://, https:// or s3://")
        return given

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not (self.bbox or self.polygons or self.tiles or self.urls):
            raise ValueError("At least one of 'bbox', 'polygons', 'tiles', or 'urls' must be provided.")
        return self


class InferenceConfig(Given):
    """What inference and try-out share."""

    spatial_domain: SpatialDomain
    temporal_domain: Annotated[list[str], Field(max_length=1000)] = []
    description: Text | None = None
    location: Short | None = None
    maxcc: Annotated[float, Field(ge=0, le=100)] = 100
    post_processing: PostProcessing | None = None
    generic_processor_id: UUID | None = None
    model_input_data_spec: list[Spec] = []
    data_connector_config: list[Spec] = []
    geoserver_push: Annotated[list[Push], Field(max_length=1000)] = []
    pipeline_steps: Objects = []
    geoserver_layers: dict[str, Any] | None = None
    inference_output: dict[str, Any] | None = None
    demo: dict[str, Any] | None = None

    @field_validator("temporal_domain")
    @classmethod
    def _dates(cls, dates: list[str]) -> list[str]:
        plain = [text.strip() for text in dates]
        for text in plain:
            if said := _wrong_date(text):
                raise ValueError(said)
        return plain


class InferenceCreate(InferenceConfig):
    """A wish for an inference."""

    model_display_name: Short | None = None
    model_id: UUID | None = None
    fine_tuning_id: Annotated[str, Field(max_length=100)] | None = None

    @model_validator(mode="after")
    def _some_model(self) -> Self:
        if not (self.model_id or self.model_display_name):
            raise ValueError("At least one of 'model_id' or 'model_display_name' must be provided.")
        return self


# --- tunes -----------------------------------------------------------------------------------------------------------


class TuneUpload(Given):
    """A network that was trained elsewhere."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: Text = ""
    tune_config_url: Href
    tune_checkpoint_url: Href
    model_input_data_spec: list[Spec] = []
    data_connector_config: list[Spec] = []
    geoserver_push: Pushes = []
    post_processing: dict[str, Any] | None = None

    @field_validator("post_processing")
    @classmethod
    def _usable(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        return _checked(PostProcessing, given)


class TuneOptions(Given):
    """What a tune is used with, beside whatever else is kept with it."""

    model_input_data_spec: list[Spec] = []
    data_connector_config: list[Spec] = []
    geoserver_push: Pushes = []
    post_processing: PostProcessing | None = None


class TuneUpdate(Given):
    """What is to change."""

    name: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    description: Text | None = None
    train_options: dict[str, Any] | None = None

    @field_validator("train_options")
    @classmethod
    def _said(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        """Their client sends {} with every change: it says nothing. Entries that are null take back what was set."""
        return _checked(TuneOptions, given) or None


class TryOut(InferenceConfig):
    """A wish for an inference with a tune."""

    model_display_name: str = ""


# --- keys, data ------------------------------------------------------------------------------------------------------


class KeyUpdate(BaseModel):
    """On or off."""

    model_config = ConfigDict(extra="ignore")

    active: bool


class DataAdvisor(Given):
    """Which scenes are there."""

    collections: Annotated[list[str], Field(min_length=1, max_length=20)]
    dates: Annotated[list[str], Field(min_length=1, max_length=100)]
    bbox: Annotated[list[list[float]], Field(max_length=_SEARCHES)] = []
    area_polygon: str | dict[str, Any] | None = None
    maxcc: Annotated[float, Field(ge=0, le=100)] = 100
    pre_days: Annotated[int, Field(ge=0, le=366)] = 1
    post_days: Annotated[int, Field(ge=0, le=366)] = 1

    _boxes = field_validator("bbox")(SpatialDomain._boxes.__func__)  # noqa: SLF001  the same rule
    _box = field_validator("bbox", mode="before")(SpatialDomain._one_box.__func__)  # noqa: SLF001  the same rule
    _dates = field_validator("dates")(InferenceConfig._dates.__func__)  # noqa: SLF001  the same rule

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if not self.bbox and not self.area_polygon:
            raise ValueError("bbox or area_polygon is needed")
        searches = len(self.collections) * (len(self.bbox) + bool(self.area_polygon))
        if searches > _SEARCHES:
            raise ValueError(f"collections and places make {searches} searches, {_SEARCHES} are allowed")
        return self


class Notice(Given):
    """What a pipeline of theirs reports."""

    event_id: UUID
    detail_type: Annotated[str, Field(max_length=100)]
    source: Annotated[str, Field(max_length=200)]
    timestamp: Annotated[str, Field(max_length=64)] | None = None
    detail: dict[str, Any] = {}
    inference_id: UUID | None = None


# --- rules -----------------------------------------------------------------------------------------------------------


def _checked(kind: type[BaseModel], given: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same, where it can be used later. Raises ValueError, which repeats nothing of it."""
    try:
        kind.model_validate(given or {})
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from None
    return given


def _wrong_box(box: list[float]) -> str:
    if len(box) != _CORNERS or not all(math.isfinite(v) for v in box):
        return "a box is [minlon, minlat, maxlon, maxlat]"
    west, south, east, north = box
    if not (-_LON <= west <= _LON and -_LON <= east <= _LON and -_LAT <= south <= _LAT and -_LAT <= north <= _LAT):
        return f"{box} lies outside of longitudes -180..180 and latitudes -90..90"
    if south >= north:
        return f"minlat {south:g} is not south of maxlat {north:g}"
    if west >= east:
        return f"minlon {west:g} is not west of maxlon {east:g}; across the antimeridian give two boxes"
    return ""


def _wrong_date(text: str) -> str:
    found = _DATE.fullmatch(text)
    if found is None:
        return f"{text[:60]!r} is no date: YYYY-MM-DD or YYYY-MM-DD_YYYY-MM-DD"
    try:
        first, last = (date.fromisoformat(part or found[1]) for part in found.groups())
    except ValueError as error:
        return f"{text[:60]!r} is no date: {error}"
    if last == date.max:
        return f"{text[:60]!r} lies at the edge of the calendar"
    return f"{text!r} ends before it begins" if last < first else ""


def date_in(text: str) -> str:
    """The first day that stands in a name; empty: none does."""
    found = (part for part in _DAY.findall(text) if not _wrong_date(part))
    return next(found, "")


def _geometries(one: Any) -> list[Any]:
    found = [one]
    if isinstance(one, dict) and one.get("type") == "FeatureCollection":
        found = one.get("features") or []
    if not isinstance(found, list):
        raise ValueError("features of a FeatureCollection are a list")  # noqa: TRY004  pydantic's way to say 422
    return [f.get("geometry") if isinstance(f, dict) and f.get("type") == "Feature" else f for f in found]


def _tile(one: str | list[int] | dict[str, int]) -> str:
    """``z/x/y``, or the name of a grid square."""
    if isinstance(one, dict):
        one = [one.get(name, -1) for name in ("z", "x", "y")]
    if isinstance(one, list):
        if len(one) != 3 or min(one) < 0:  # noqa: PLR2004  z, x, y
            raise ValueError(f"{one} is no tile: [z, x, y]")
        return "/".join(map(str, one))
    return one
