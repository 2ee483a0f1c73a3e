"""Ready-made layers: which images a wish for them means, one by one, and which of its layers each is for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from serve.desk.asking import RadiometryAsked
from serve.dialects.geostudio.models import LAYER
from serve.dialects.geostudio.problems import msg
from serve.dialects.geostudio.schema import InferenceCreate, date_in
from serve.dialects.geostudio.translate import Task, check_days
from swathe.errors import InputError

if TYPE_CHECKING:
    from serve.desk.upload_images import Moment
    from serve.desk.uploads import Uploads
    from serve.dialects.geostudio.schema import Push
    from swathe.user import Caller

_SHOWN = 20
"""Names of variables in a message."""


@dataclass(frozen=True, slots=True)
class ReadyMade:
    """A wish for layers of what is there."""

    asked: InferenceCreate
    """The wish with each image as an address of its own."""
    moments: tuple[Moment | None, ...]
    """Of each address what is known of its image, where that came as NetCDF."""
    places: tuple[int, ...]
    """Of each address the number of its layer; empty: each has all layers."""


@dataclass(frozen=True, slots=True)
class _Image:
    address: str
    day: str
    place: int
    moment: Moment | None = None


def expect_layers(asked: InferenceCreate) -> None:
    """Raises Refusal (400) without layers, and (422) where something else than files is to be published."""
    if not asked.geoserver_push:
        raise msg(400, f"{LAYER} needs geoserver_push")
    where = asked.spatial_domain
    if not where.urls or where.bbox or where.polygons or where.tiles:
        raise msg(422, f"{LAYER} publishes files: give spatial_domain.urls, and nothing else of it")


def one_by_one(uploads: Uploads, who: Caller, asked: InferenceCreate) -> ReadyMade:
    """With each raster of an uploaded zip, and each moment of an uploaded NetCDF, as an address of its own.

    As their notebook has it, a raster of a zip is dated by its name; NetCDF says its dates itself; the wish dates the
    others. Raises InputError (``when.count``, ``coverage.several``, ``.unknown``).
    """
    check_days(asked)
    urls, pushes = asked.spatial_domain.urls, asked.geoserver_push
    each = len(pushes) == len(urls)
    found: list[_Image] = []
    apart = False
    for n, (url, day) in enumerate(zip(urls, _days(asked), strict=True)):
        if moments := uploads.moments(who, url):
            mine = {n: pushes[n]} if each else dict(enumerate(pushes))
            images = _of_netcdf(moments, mine, day, n, alone=len(urls) == 1)
            apart = apart or len({image.place for image in images}) > 1
            found += images
        else:
            images = uploads.one_by_one(who, url)
            found += [_Image(image, date_in(image.rpartition("/")[2]) or day, n) for image in images]
            found += [] if images else [_Image(url, day, n)]
    where = asked.spatial_domain.model_copy(update={"urls": [image.address for image in found]})
    made = asked.model_copy(update={"spatial_domain": where, "temporal_domain": [image.day for image in found]})
    places = tuple(image.place for image in found) if each or apart else ()
    return ReadyMade(made, tuple(image.moment for image in found), places)


def with_moments(tasks: Sequence[Task], ready: ReadyMade) -> list[Task]:
    """The tasks of that wish, in its order, with what NetCDF says of time and numbers: to the second, and unpacked."""
    return [task if moment is None else _with(task, moment)
            for task, moment in zip(tasks, ready.moments, strict=True)]  # fmt: skip


# --- NetCDF -----------------------------------------------------------------------------------------------------------


def _of_netcdf(
    moments: Sequence[Moment], pushes: dict[int, Push], day: str, n: int, *, alone: bool
) -> list[_Image]:  # fmt: skip
    """Images of one file: of the variable that its layers name, or, of a file alone, of each layer its own."""
    names = {place: _coverage(push) for place, push in pushes.items()}
    if len(set(names.values())) == 1:
        return [_image(one, day, n) for one in _of_variable(moments, next(iter(names.values())))]
    if not alone:
        raise InputError("the layers name several variables, and there are several urls", code="coverage.several",
                         field="geoserver_push", hint="give one geoserver_push for each url")  # fmt: skip
    return [_image(one, day, place) for place, name in names.items() for one in _of_variable(moments, name)]


def _of_variable(moments: Sequence[Moment], name: str) -> list[Moment]:
    """Those of the variable of this name; without a name, of the only one there is."""
    there = list(dict.fromkeys(moment.variable for moment in moments))
    wanted = [one for one in there if name in (one, one.rpartition("/")[2])] if name else there
    if len(wanted) == 1:
        return [moment for moment in moments if moment.variable == wanted[0]]
    listed = f"{', '.join(there[:_SHOWN])}{' …' if len(there) > _SHOWN else ''}"
    if name and not wanted:
        raise InputError(f"the file has no variable {name[:80]!r} on a grid", code="coverage.unknown",
                         field="geoserver_push.coverage_name", hint=f"it has {listed}")  # fmt: skip
    raise InputError(f"the file has several variables on a grid: {', '.join(wanted[:_SHOWN])}", code="coverage.several",
                     field="geoserver_push.coverage_name", hint=f"name one in coverage_name: {listed}")  # fmt: skip


def _coverage(push: Push) -> str:
    said = (push.model_extra or {}).get("coverage_name")
    return said.strip() if isinstance(said, str) else ""


def _image(moment: Moment, day: str, place: int) -> _Image:
    return _Image(moment.input, moment.when[:10] or day, place, moment)


def _days(asked: InferenceCreate) -> list[str]:
    urls, dates = asked.spatial_domain.urls, asked.temporal_domain
    return list(dates[: len(urls)]) if len(dates) >= len(urls) else (dates or [""]) * len(urls)


def _with(task: Task, moment: Moment) -> Task:
    changed: dict[str, object] = {}
    if moment.when:
        changed["inputs"] = (f"{moment.when}={moment.input}",)
    if (moment.scale, moment.offset) != (1.0, 0.0):
        changed["radiometry"] = RadiometryAsked(scale=moment.scale, offset=moment.offset)
    return replace(task, wish=task.wish.model_copy(update=changed))
