"""Ready-made layers: which images a wish for them means, one by one, and which of its layers each is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from serve.desk.asking import ProductsAsked, RadiometryAsked
from serve.desk.upload_images import Drawn, Moment, as_kept
from serve.dialects.geostudio.models import LAYER, SHAPES_CARD
from serve.dialects.geostudio.problems import msg
from serve.dialects.geostudio.schema import InferenceCreate, date_in
from serve.dialects.geostudio.styles import property_of
from serve.dialects.geostudio.translate import Task, check_days
from swathe.errors import InputError

if TYPE_CHECKING:
    from serve.desk.uploads import Uploads
    from serve.dialects.geostudio.schema import Push
    from swathe.user import Caller

Choice = Callable[["Push", int], list["_Image"]]
"""From a layer and its number to images."""
_SHOWN = 20
"""Names of variables in a message."""


@dataclass(frozen=True, slots=True)
class ReadyMade:
    """A wish for layers of what is there."""

    asked: InferenceCreate
    """The wish with each image as an address of its own."""
    known: tuple[Moment | Drawn | None, ...]
    """Of each address what is known of its image, where that came as NetCDF or as vectors."""
    places: tuple[int, ...]
    """Of each address the number of its layer; empty: each has all layers."""


@dataclass(frozen=True, slots=True)
class _Image:
    address: str
    day: str
    place: int
    known: Moment | Drawn | None = None


def expect_layers(asked: InferenceCreate) -> None:
    """Raises Refusal (400) without layers, and (422) where something else than files is to be published."""
    if not asked.geoserver_push:
        raise msg(400, f"{LAYER} needs geoserver_push")
    where = asked.spatial_domain
    if not where.urls or where.bbox or where.polygons or where.tiles:
        raise msg(422, f"{LAYER} publishes files: give spatial_domain.urls, and nothing else of it")


def one_by_one(uploads: Uploads, who: Caller, asked: InferenceCreate) -> ReadyMade:
    """With what a file holds as addresses of their own: rasters of a zip, moments of NetCDF, layers of shapes.

    As their notebook has it, a raster of a zip is dated by its name; NetCDF says its dates itself; the wish dates the
    others. Raises InputError (``when.count``, ``coverage.several``, ``.unknown``).
    """
    check_days(asked)
    urls, pushes = asked.spatial_domain.urls, asked.geoserver_push
    each = len(pushes) == len(urls)
    found: list[_Image] = []
    apart = False
    for n, (url, day) in enumerate(zip(urls, _days(asked), strict=True)):
        if choose := _choice(uploads, who, url, day):
            mine = {n: pushes[n]} if each else dict(enumerate(pushes))
            images = _of_layers(choose, mine, n, alone=len(urls) == 1)
            apart = apart or len({image.place for image in images}) > 1
            found += images
        else:
            images = [_Image(one, _day_of(one, day), n) for one in uploads.one_by_one(who, url)]
            found += images or [_Image(url, day, n)]
    where = asked.spatial_domain.model_copy(update={"urls": [image.address for image in found]})
    made = asked.model_copy(update={"spatial_domain": where, "temporal_domain": [image.day for image in found]})
    places = tuple(image.place for image in found) if each or apart else ()
    return ReadyMade(made, tuple(image.known for image in found), places)


def as_known(tasks: Sequence[Task], ready: ReadyMade) -> list[Task]:
    """The tasks of that wish, in its order, with what NetCDF says of time and numbers: to the second, and unpacked.

    What was drawn from shapes is a class, not a number.
    """
    return [task if known is None else _with(task, known) for task, known in zip(tasks, ready.known, strict=True)]


# --- files that hold several ------------------------------------------------------------------------------------------


def _choice(uploads: Uploads, who: Caller, url: str, day: str) -> Choice | None:
    """Which images of a file a layer means; None: the file is one image, or a zip of some."""
    if moments := uploads.moments(who, url):
        return lambda push, place: [_Image(one.input, one.when[:10] or day, place, one)
                                    for one in _of_variable(moments, _coverage(push))]  # fmt: skip
    if drawn := uploads.drawn(who, url):
        return lambda push, place: [_of_drawing(_of_shapes(drawn, push), day, place)]
    return None


def _of_layers(choose: Choice, pushes: dict[int, Push], n: int, *, alone: bool) -> list[_Image]:
    """Images of one file: those that its layers mean, or, of a file alone, of each layer its own."""
    found = {place: choose(push, place) for place, push in pushes.items()}
    first = next(iter(found.values()))
    if all([one.address for one in images] == [one.address for one in first] for images in found.values()):
        return [replace(image, place=n) for image in first]
    if not alone:
        raise InputError("the layers show different things of one file, and there are several urls",
                         code="coverage.several", field="geoserver_push",
                         hint="give one geoserver_push for each url")  # fmt: skip
    return [image for images in found.values() for image in images]


def _of_drawing(one: Drawn, day: str, place: int) -> _Image:
    return _Image(one.input, _day_of(one.input, day), place, one)


def _day_of(address: str, otherwise: str) -> str:
    return date_in(address.rpartition("/")[2]) or otherwise


def _of_shapes(drawn: Sequence[Drawn], push: Push) -> Drawn:
    """Of the layer of this name, or the only one, where its shapes are, or the numbers that colour them."""
    name, column = _coverage(push), property_of(push.geoserver_style)
    layers = list(dict.fromkeys(one.layer for one in drawn))
    mine = [one for one in drawn if one.layer.strip() == name] if name or len(layers) > 1 else list(drawn)
    if not mine:
        code, what = ("unknown", f"no layer {name[:80]!r}") if name else ("several", "several layers of shapes")
        raise InputError(f"the file has {what}", code=f"coverage.{code}", field="geoserver_push.coverage_name",
                         hint=f"name one of {_listed(layers)}")  # fmt: skip
    found = next((one for one in mine if one.column == as_kept(column)), None)
    if found is None:
        there = _listed([one.column for one in mine if one.column]) or "none"
        raise InputError(f"{column[:80]!r} is none of the columns of numbers that were drawn", code="coverage.unknown",
                         field="geoserver_push.geoserver_style",
                         hint=f"drawn are the first ones of a layer: {there}")  # fmt: skip
    return found


def _of_variable(moments: Sequence[Moment], name: str) -> list[Moment]:
    """Those of the variable of this name; without a name, of the only one there is."""
    there = list(dict.fromkeys(moment.variable for moment in moments))
    wanted = [one for one in there if name in (one, one.rpartition("/")[2])] if name else there
    if len(wanted) == 1:
        return [moment for moment in moments if moment.variable == wanted[0]]
    listed = _listed(there)
    if name and not wanted:
        raise InputError(f"the file has no variable {name[:80]!r} on a grid", code="coverage.unknown",
                         field="geoserver_push.coverage_name", hint=f"it has {listed}")  # fmt: skip
    raise InputError(f"the file has several variables on a grid: {', '.join(wanted[:_SHOWN])}", code="coverage.several",
                     field="geoserver_push.coverage_name", hint=f"name one in coverage_name: {listed}")  # fmt: skip


def _coverage(push: Push) -> str:
    said = (push.model_extra or {}).get("coverage_name")
    return as_kept(said).strip() if isinstance(said, str) else ""


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:_SHOWN])}{' …' if len(names) > _SHOWN else ''}"


def _days(asked: InferenceCreate) -> list[str]:
    urls, dates = asked.spatial_domain.urls, asked.temporal_domain
    return list(dates[: len(urls)]) if len(dates) >= len(urls) else (dates or [""]) * len(urls)


def _with(task: Task, known: Moment | Drawn) -> Task:
    changed: dict[str, object] = {}
    if isinstance(known, Moment):
        if known.when:
            changed["inputs"] = (f"{known.when}={known.input}",)
        if (known.scale, known.offset) != (1.0, 0.0):
            changed["radiometry"] = RadiometryAsked(scale=known.scale, offset=known.offset)
    elif not known.column:
        changed = {"model": SHAPES_CARD, "products": ProductsAsked(gpkg=True)}
    return replace(task, wish=task.wish.model_copy(update=changed))
