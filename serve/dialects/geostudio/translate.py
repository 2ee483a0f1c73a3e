"""From their wishes to ours: one of ours per area and date, with the same steps for all. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from pydantic import ValidationError

from serve.desk.adoption import common_name
from serve.desk.asking import Asking
from serve.dialects.geostudio.after import PostProcessing
from serve.dialects.geostudio.schema import InferenceConfig, Spec
from swathe.card import ModelCard
from swathe.errors import InputError, LimitError

PLANNER = "inference-planner"
FETCH, URLS = "terrakit-data-fetch", "url-connector"
MODEL, TUNE = "run-inference", "terratorch-inference"
PROCESSOR, AFTER, PUSH = "generic-python-processor", "postprocess-generic", "push-to-geoserver"
_ARCHIVES = (".zip", ".tif", ".tiff", ".jp2")
LONGEST_OUTLINES = 1 << 25
"""Characters of the polygons of all tasks: each keeps its own."""
_DIGITS = 10
"""Of an index that is one."""
_MASKS = {"cloud_masking": "clouds", "snow_ice_masking": "snow", "permanent_water_masking": "water",
          "ocean_masking": "ocean"}  # fmt: skip


class Chosen(Protocol):
    """The model of an inference."""

    @property
    def card(self) -> ModelCard | None:
        """What it runs."""
        ...

    @property
    def is_tune(self) -> bool:
        """Whether it is being tried out."""
        ...

    @property
    def is_own(self) -> bool:
        """Whether somebody brought it."""
        ...

    @property
    def specs(self) -> list[Spec]:
        """What it eats, as its maker says."""
        ...

    @property
    def is_layer(self) -> bool:
        """Whether nothing runs: what is there is published."""
        ...


@dataclass(frozen=True, slots=True)
class Task:
    """One area and one date."""

    wish: Asking
    """What it is to us."""
    date: str
    """As they said it; empty: none was said."""
    stem: str
    """What its files are named by."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a translation needs to know of the desk."""

    source: str
    """Id of the source card where places are searched; empty: none fits."""
    processor: dict[str, Any] | None = None
    """The user's own program as a step, in our words."""
    area_limit_km2: float = 0.0
    """Of one task; 0: none."""
    most: int = 0
    """Tasks; 0: any number."""
    after: Mapping[str, Any] = field(default_factory=dict)
    """What is done to each result, in our words."""


def tasks_of(asked: InferenceConfig, model: Chosen, means: Means) -> list[Task]:
    """All of them, in their order: areas, and in each the dates.

    Raises InputError and its kin for what cannot be wished at all; imagery is not looked at.
    """
    assert model.card is not None
    expect_few(asked, model.card, means)
    return [*_searched(asked, model.card, means), *_named(asked, model, means)]


def expect_few(asked: InferenceConfig, card: ModelCard, means: Means) -> None:
    """Before any of them is made: a few bytes more of a wish are thousands of tasks. Raises LimitError."""
    where, times = asked.spatial_domain, card.input.times
    dates = max(1, -(-len(asked.temporal_domain) // times))
    count = (len(where.bbox) + len(where.polygons) + len(where.tiles)) * dates + -(-len(where.urls) // times)
    if means.most and count > means.most:
        raise LimitError(f"areas and dates make {count:,} tasks, {means.most:,} are allowed", code="limit.wishes",
                         field="spatial_domain", hint="ask for fewer at a time")  # fmt: skip
    size = sum(len(json.dumps(one)) for one in where.polygons) * dates
    if size > LONGEST_OUTLINES:
        raise LimitError(f"the outlines of all tasks have {size:,} characters, {LONGEST_OUTLINES:,} are allowed",
                         code="limit.area_text", field="spatial_domain.polygons", hint="simplify them")  # fmt: skip


def steps_of(asked: InferenceConfig, model: Chosen, after: Mapping[str, Any]) -> list[str]:
    """Names of what happens to each task, the same for all."""
    fetch = URLS if asked.spatial_domain.urls else FETCH
    made = [] if model.is_layer else [TUNE if model.is_tune else MODEL]
    own = [PROCESSOR] if asked.generic_processor_id else []
    return [fetch, *made, *([AFTER] if after else []), *own, PUSH]


def after_of(asked: InferenceConfig, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """What is done to each result, in our words: ``mask``, ``mask_shapes``, ``regularise``; empty: nothing.

    Raises InputError.
    """
    try:
        wanted = asked.post_processing or PostProcessing.model_validate(dict(defaults))
    except ValidationError as error:  # kept by an older service
        raise _invalid(error, "post_processing of the model: ") from None
    names = wanted.asked()
    masks = [_MASKS[name] for name in names if name in _MASKS]
    shapes = {} if wanted.mask_from_url is None else {"mask_shapes": wanted.mask_from_url.wish()}
    regular = {"regularise": "buildings"} if "regularization" in names else {}
    return ({"mask": masks} if masks else {}) | shapes | regular


# --- imagery ---------------------------------------------------------------------------------------------------------


def _searched(asked: InferenceConfig, card: ModelCard, means: Means) -> Iterator[Task]:
    where = asked.spatial_domain
    areas: list[Any] = [*(tuple(box) for box in where.bbox), *where.polygons, *where.tiles]
    if not areas:
        return
    if not means.source:
        raise InputError(f"no source here has the bands of {card.id}", code="source.unknown", field="model",
                         hint="name one in model_input_data_spec: collection")  # fmt: skip
    moments = _moments(asked.temporal_domain, card.input.times)
    for n, area in enumerate(areas):
        for m, dates in enumerate(moments):
            search = {"source": means.source, "dates": dates}
            if asked.maxcc < 100:  # noqa: PLR2004  percent
                search["max_cloud"] = asked.maxcc
            wish = _wish(card, asked, means, search=search, aoi=area)
            if not m:  # it is the same at all dates
                _check_area(wish, means.area_limit_km2)
            yield Task(wish, "_".join(dates), f"area{n}")


def _moments(dates: Sequence[str], times: int) -> list[list[str]]:
    """Dates of each task of one area; a model that looks at several at once takes as many of them."""
    if not dates:
        raise InputError("temporal_domain is empty: when?", code="when.none", field="temporal_domain",
                         hint="give YYYY-MM-DD, or YYYY-MM-DD_YYYY-MM-DD")  # fmt: skip
    if times == 1:
        return [[one] for one in dates]
    if len(dates) % times and len(dates) != 1:
        raise InputError(f"the model looks at {times} dates at once, {len(dates)} were given", code="when.count",
                         field="temporal_domain", hint=f"give {times} dates, or one span that holds them")  # fmt: skip
    return [list(dates[n : n + times]) for n in range(0, len(dates), times)]


def _named(asked: InferenceConfig, model: Chosen, means: Means) -> Iterator[Task]:
    card, urls, dates = model.card, asked.spatial_domain.urls, asked.temporal_domain
    assert card is not None
    if not urls:
        return
    times = card.input.times
    check_days(asked)
    if times > 1 and len(urls) % times == 0:
        for n in range(0, len(urls), times):
            yield _of_files(asked, model, means, urls[n : n + times], [_day(dates, n + i) for i in range(times)])
        return
    for n, url in enumerate(urls):
        yield _of_files(asked, model, means, [url], [_day(dates, n, only=len(urls) == 1 or len(dates) == 1)])


def _of_files(
    asked: InferenceConfig, model: Chosen, means: Means, urls: Sequence[str], days: Sequence[str]
) -> Task:  # fmt: skip
    card = model.card
    assert card is not None
    inputs = [f"{day}={url}" if day else url for day, url in zip(days, urls, strict=True)]
    said = _numbers(asked, model, card)
    wish = _wish(card, asked, means, inputs=inputs, **({"radiometry": said} if said else {}))
    return Task(wish, "_".join(day for day in days if day), _stem(urls[0]))


def _numbers(asked: InferenceConfig, model: Chosen, card: ModelCard) -> dict[str, Any]:
    """What the numbers of a named file are, where we know better than the file.

    A network that somebody brought gets them as they are, in the order and in the units of its training. Otherwise a
    data spec may say names and factor; what nobody says, the file has to.
    """
    if model.is_layer:
        return {}  # numbers or a picture: whoever opens it tells
    bands = _bands(asked.model_input_data_spec or model.specs)
    if card.adapter == "terratorch" and model.is_own:
        return {"bands": bands or list(card.input.bands), "scale": 1.0 / card.input.scale, "offset": 0.0}
    factors = set(factors_of(asked.model_input_data_spec))
    scale = {"scale": factors.pop(), "offset": 0.0} if len(factors) == 1 else {}
    return ({"bands": bands} if bands else {}) | scale


def check_days(asked: InferenceConfig) -> None:
    """Of images alone: none, one for all, or one each; as with them, more say nothing. Raises InputError."""
    where, dates = asked.spatial_domain, asked.temporal_domain
    searched = where.bbox or where.polygons or where.tiles
    if not searched and 1 < len(dates) < len(where.urls):
        raise InputError(f"there are {len(where.urls)} urls and {len(dates)} dates", code="when.count",
                         field="temporal_domain", hint="give one date for each url, one for all, or none")  # fmt: skip


def _day(dates: Sequence[str], n: int, *, only: bool = False) -> str:
    """The date of an image; empty: none was said. A span says nothing of it: any of its days would be a guess."""
    said = dates[n] if n < len(dates) else dates[0] if dates and only else ""
    return "" if "_" in said else said


def _stem(url: str) -> str:
    """Of a file's name, without what may be secret."""
    name = urlsplit(url).path.rpartition("/")[2]
    for ending in _ARCHIVES:
        name = name[: -len(ending)] if name.lower().endswith(ending) else name
    return "".join(c if c.isalnum() or c in "-." else "-" for c in name)[:60].strip("-.") or "image"


def _bands(specs: Sequence[Spec]) -> list[str]:
    """Of the first modality, in the order of the file, as far as all of them are known by name."""
    names = [common_name(name) for name in band_names(specs[:1])]
    return [name for name in names if name] if names and all(names) else []


def band_names(specs: Sequence[Spec]) -> list[str]:
    """As they call them: a list of objects, or the older form, index -> name."""
    found: list[str] = []
    for spec in specs:
        if isinstance(spec.bands, dict):
            found += [str(spec.bands[key]) for key in sorted(spec.bands, key=_place)]
        elif spec.bands:
            found += [str(one.get("band_name", one.get("name", ""))) for one in spec.bands]
    return found


def _place(key: str) -> tuple[int, str]:
    """Of a band, by its index: 10 comes after 9."""
    return (int(key) if key.isdecimal() and len(key) < _DIGITS else 0, key)


def factors_of(specs: Sequence[Spec]) -> list[float]:
    """By which stored numbers are to be multiplied, of all bands; a single 1 says nothing. Raises InputError."""
    found: list[float] = []
    for spec in specs[:1]:
        given = (spec.model_extra or {}).get("scaling_factor")
        said = given if isinstance(given, list) else [given]
        if not any(map(_is_said, said)):
            said = [one.get("scaling_factor") for one in spec.bands or [] if isinstance(one, dict)]
        found += [_factor(one) for one in said if _is_said(one)]
    return [] if set(found) == {1.0} else found


def _is_said(factor: Any) -> bool:
    return factor is not None and factor != ""


def _factor(given: Any) -> float:
    """A number, also as a text. Raises InputError for what no numbers can be multiplied by."""
    try:
        found = 0.0 if isinstance(given, bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        found = 0.0
    if not 0 < found < math.inf:
        raise InputError(f"scaling_factor: {str(given)[:40]!r} is no positive number", code="request.invalid",
                         field="model_input_data_spec", hint="give what stored numbers are multiplied by")  # fmt: skip
    return found


def _wish(card: ModelCard, asked: InferenceConfig, means: Means, **given: Any) -> Asking:
    document: dict[str, Any] = {
        "model": card.id, "title": (asked.description or "")[:200], "products": {"gpkg": bool(card.output.classes)},
        **given,
    }  # fmt: skip
    if means.processor is not None:
        document["processor"] = means.processor
    if means.after:
        document["postprocess"] = dict(means.after)
    try:
        return Asking.model_validate(document)
    except ValidationError as error:
        raise _invalid(error) from None


def _invalid(error: ValidationError, of: str = "") -> InputError:
    fault = error.errors(include_url=False)[0]
    where = ".".join(map(str, fault["loc"]))
    return InputError(f"{of}{where}: {fault['msg']}", code="request.invalid", field=where)


def _check_area(wish: Asking, most: float) -> None:
    """Raises AreaError for what is no area, InputError naming both numbers."""
    area = wish.area()
    if area is not None and most and area.area_km2 > most:
        raise InputError(f"the area has {area.area_km2:,.1f} km², {most:,.1f} km² are allowed", code="limit.area",
                         field="spatial_domain", hint="ask for parts of it")  # fmt: skip
