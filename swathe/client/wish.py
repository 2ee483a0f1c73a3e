"""What a job is asked for in Python, and the JSON that the service is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from swathe.errors import InputError

_DATED = re.compile(r"(\d{4}-\d{2}-\d{2}(?:[T ][\d:.]+(?:Z|[+-]\d{2}:?\d{2})?)?)=(.*)", re.DOTALL)
_SEARCH = ("source", "dates", "collection", "max_cloud", "composite", "res", "crs", "max_loss")
_RADIOMETRY = ("bands", "scale", "offset", "nodata")
_PRODUCTS = {"min_area": "min_area_px", "simplify": "simplify_px", "gpkg": "gpkg", "probabilities": "probabilities"}
_POSTPROCESS = {"mask": "mask", "mask_buffer": "mask_buffer_px", "mask_files": "mask_files",
                "mask_shapes": "mask_shapes", "regularise": "regularise"}  # fmt: skip
_AS_THEY_ARE = ("sensor", "processor", "precision", "chunk", "title", "project", "labels")


class Wish(TypedDict, total=False):
    """All but the model; the same words as the options of ``swathe run``."""

    inputs: Sequence[str | Path] | Mapping[str, str | Path] | str | Path
    """Addresses, ``upload://ID``, ``item://COLLECTION/ITEM``; by date where the model wants several. A ``Path`` is a
    file of this machine: it is uploaded first."""
    source: str
    """Instead of inputs: a source card, or the address of a STAC API, catalogue, item or folder."""
    dates: str | Sequence[str]
    """Dates and intervals, one per date that the model wants."""
    collection: str
    """Of the source, where its card does not name it."""
    max_cloud: float
    """Percent; scenes with more are left out."""
    composite: str
    """none, best, latest or median."""
    res: float
    """Side of a pixel in units of the output CRS."""
    crs: str
    """Of the output grid, e.g. ``EPSG:32633``."""
    max_loss: float
    """Share of observations that may be lost (0..1)."""
    aoi: Any
    """GeoJSON, anything with ``__geo_interface__``, (west, south, east, north), WKT, or tiles such as ``33UXP``."""
    sensor: str
    """Id of a sensor profile."""
    bands: str | Sequence[str]
    """Instead of a sensor: common names of the bands."""
    scale: float
    """With ``bands``: physical = stored * scale + offset."""
    offset: float
    """See ``scale``."""
    nodata: float
    """Stored number that means nothing."""
    min_area: int
    """Smallest polygon, in pixels."""
    simplify: float
    """Tolerance of outlines in pixels; 0: exact."""
    gpkg: bool
    """Also features.gpkg."""
    probabilities: bool
    """Also one band per class."""
    mask: str | Sequence[str]
    """clouds, snow, water, ocean; each also with where from: ``water=scenes``."""
    mask_buffer: int
    """Pixels around a mask that are masked too."""
    mask_files: Sequence[str]
    """Masks of imagery that brings none, as ``RULE=`` and an address: ``fmask=upload://ID``."""
    mask_shapes: str | Mapping[str, Any]
    """A GeoJSON whose shapes are masked: its address or ``upload://ID``; or ``url``, ``buffer_m`` and ``code``."""
    regularise: str
    """buildings (right angles) or smooth (fewer corners)."""
    processor: str | Mapping[str, Any]
    """Id of a processor, or ``id`` and ``parameters``: a script that is run over the result."""
    precision: str
    """fp32 or bf16, instead of the card's."""
    chunk: int
    """Side of a chunk in pixels."""
    title: str
    """For people."""
    project: str
    """Id of a project."""
    labels: Mapping[str, Any]
    """Whatever should be found again."""
    hook: str | Mapping[str, Any]
    """An address that is told of the job's states, or ``url``, ``secret`` and ``kinds``."""


def asking(model: str, wish: Wish) -> dict[str, Any]:
    """The body of a request. Its inputs are text already (``located``). Raises InputError (``client.wish``)."""
    given: dict[str, Any] = {name: value for name, value in wish.items() if value is not None}
    if strange := sorted(given.keys() - Wish.__annotations__.keys()):
        raise InputError(f"{strange[0]!r} is nothing that a job can be asked for", code="client.wish",
                         field=strange[0], hint=f"one of {', '.join(sorted(Wish.__annotations__))}")  # fmt: skip
    body = {"model": model, **{name: given[name] for name in _AS_THEY_ARE if name in given}}
    if isinstance(body.get("processor"), str):
        body["processor"] = {"id": body["processor"]}
    if "inputs" in given:
        body["inputs"] = [text for _, text in named(wish)]
    if search := {name: given[name] for name in _SEARCH if name in given}:
        body["search"] = {**search, "dates": _words(search.get("dates", ()))}
    if radiometry := {name: given[name] for name in _RADIOMETRY if name in given}:
        body["radiometry"] = {**radiometry, "bands": _words(radiometry.get("bands", ()))}
    if products := {sent: given[name] for name, sent in _PRODUCTS.items() if name in given}:
        body["products"] = products
    if after := {sent: given[name] for name, sent in _POSTPROCESS.items() if name in given}:
        body["postprocess"] = _afterwards(after)
    if "aoi" in given:
        body["aoi"] = _place(given["aoi"])
    if "hook" in given:
        body["hook"] = {"url": given["hook"]} if isinstance(given["hook"], str) else dict(given["hook"])
    return body


def _afterwards(given: dict[str, Any]) -> dict[str, Any]:
    """Steps after the model, however shortly they were said."""
    if "mask" in given:
        given = given | {"mask": _words(given["mask"])}
    if isinstance(given.get("mask_shapes"), str):
        given = given | {"mask_shapes": {"url": given["mask_shapes"]}}
    return given


def named(wish: Wish) -> Iterator[tuple[Path | None, str]]:
    """Each input: its path, where it is a file of this machine, and its text with its date."""
    given = wish.get("inputs") or ()
    if isinstance(given, str | Path):
        given = (given,)
    pairs = given.items() if isinstance(given, Mapping) else ((None, entry) for entry in given)
    for date, entry in pairs:
        yield entry if isinstance(entry, Path) else None, f"{date}={entry}" if date else str(entry)


def dated(text: str) -> tuple[str, str]:
    """``DATE=`` (or nothing) and what stands behind it."""
    match = _DATED.fullmatch(text)
    return (f"{match[1]}=", match[2]) if match else ("", text)


def _words(given: str | Sequence[str]) -> list[str]:
    parts = given.split(",") if isinstance(given, str) else given
    return [text for part in parts if (text := part.strip())]


def _place(aoi: Any) -> Any:
    """As JSON."""
    if isinstance(aoi, str | Mapping):
        return aoi
    if hasattr(aoi, "__geo_interface__"):
        return aoi.__geo_interface__
    try:
        return [float(number) for number in aoi]
    except (TypeError, ValueError):
        raise InputError(f"a {type(aoi).__name__} is no area", code="area.unreadable", field="aoi",
                         hint="GeoJSON, (west, south, east, north), WKT, or a geometry") from None  # fmt: skip
