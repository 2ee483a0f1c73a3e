"""A layer: one raster of a job's result as maps show it, with the colours that its numbers stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from swathe.card import ClassLabel

_ID = re.compile(r"([A-Za-z0-9]{1,64})-([A-Za-z0-9_]{1,64})(?:-([1-9]\d{0,3}))?")


class Look(StrEnum):
    """How its numbers become colours."""

    CLASSES = "classes"
    """A colour per class."""
    VALUES = "values"
    """A ramp between two numbers."""
    PICTURE = "picture"
    """Three bands are red, green and blue."""


@dataclass(frozen=True, slots=True)
class Style:
    """Colours of a layer."""

    look: Look
    """How they are found."""
    classes: tuple[ClassLabel, ...] = ()
    """Of classes: value, name, colour; those above 254 are codes of masks."""
    span: tuple[float, float] = (0.0, 1.0)
    """Of values: the stored numbers at the two ends of the ramp."""
    scale: float = 1.0
    """True number = stored * scale."""
    unit: str = ""
    """Of the true number."""
    codes: tuple[ClassLabel, ...] = ()
    """Of values: stored numbers that are no measurement but a mask, with the colour of each."""
    smooth: bool = False
    """Whether numbers between two pixels mean anything: bilinear, else nearest."""

    @property
    def labels(self) -> tuple[ClassLabel, ...]:
        """All numbers that have a name and a colour of their own."""
        return (*self.classes, *self.codes)

    @property
    def true_span(self) -> tuple[float, float]:
        """The ends of the ramp as true numbers."""
        return self.span[0] * self.scale, self.span[1] * self.scale


@dataclass(frozen=True, slots=True)
class Layer:
    """One of them. It follows from the job and its item: nothing more is kept of it."""

    id: str
    """``JOB-FILE``, and ``-BAND`` of a file with several bands: letters, digits, ``_`` and ``-``."""
    title: str
    """For people."""
    job: str
    """Id of the job."""
    owner: str
    """Id of a user."""
    model: str
    """Id of a card."""
    file: str
    """Name in the job's folder."""
    band: int
    """From 1; of a picture the first of three."""
    crs: str
    """``EPSG:…`` where there is a code, else WKT."""
    bounds: tuple[float, float, float, float]
    """left, bottom, right, top in its CRS."""
    bbox: tuple[float, float, float, float]
    """west, south, east, north in degrees; west > east over the antimeridian."""
    shape: tuple[int, int]
    """Rows, columns."""
    style: Style
    """Colours."""
    version: str
    """Changes with pixels or style."""
    minzoom: int
    """Of web map tiles: all of it lies in very few of them."""
    maxzoom: int
    """The first at which tiles are as fine as the pixels; finer ones repeat them."""
    datetime: str = ""
    """Of the imagery, RFC 3339, or an interval with ``/``; empty: not known."""

    @property
    def code(self) -> str:
        """``EPSG:…``; empty where its CRS has no code."""
        return self.crs if self.crs.startswith("EPSG:") else ""


def layer_id(job: str, file: str, band: int | None = None) -> str:
    """Of a file of a job, or of one of its bands. Raises ValueError for a name that no address should hold."""
    made = f"{job}-{file.rpartition('.')[0]}" + (f"-{band}" if band else "")
    if not _ID.fullmatch(made):
        msg = f"{file!r} names no layer"
        raise ValueError(msg)
    return made


def job_of(layer: str) -> str | None:
    """The job that such an id speaks of; None for what is no id of a layer."""
    match = _ID.fullmatch(layer)
    return match[1] if match else None
