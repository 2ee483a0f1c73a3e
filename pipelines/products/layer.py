"""What a result looks like on disk: types, nodata, scales, classes and colours, all derived from a model card."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from swathe.bands import TRUE_COLOUR
from swathe.card import ClassLabel, ModelCard, Task

CLASS_NODATA = 255
"""Pixel value of ``result.tif`` and ``score.tif`` that means nothing."""
SCORE_STEPS = 254
"""A probability p is stored as round(254 p), so that 255 is free for nodata."""
COLOUR_STEPS = 254
"""The brightest of a colour, for the same reason: white is told from nothing."""


class Kind(StrEnum):
    """How the pixels of ``result.tif`` are to be read."""

    CLASSES = "classes"
    """A class per pixel, uint8."""
    VALUES = "values"
    """A number per pixel, float32."""
    EMBEDDING = "embedding"
    """A vector per pixel, float32, one band per dimension."""
    PICTURE = "picture"
    """Red, green and blue per pixel, uint8."""


class Resampling(StrEnum):
    """How overviews are made; the words are GDAL's."""

    MODE = "mode"
    """The most frequent valid value."""
    AVERAGE = "average"
    """The mean of the valid values."""
    NEAREST = "nearest"
    """One of the values: of numbers that are names, and of which no majority is needed."""


@dataclass(frozen=True, slots=True)
class RasterSpec:
    """One raster file of a result."""

    name: str
    """Stem of the file: ``result``, ``score``, ``probabilities``, ``observations``."""
    dtype: str
    """numpy type name: uint8, uint16, int16 or float32."""
    nodata: float
    """255 (uint8), 0 (uint16), or NaN; -9999 where masks are written in."""
    bands: tuple[str, ...]
    """Descriptions of the bands."""
    resampling: Resampling
    """Of the overviews."""
    scale: float = 1.0
    """True number = stored * scale."""
    unit: str = ""
    """Of the true number."""
    codes: tuple[float, ...] = ()
    """Stored numbers that are no measurement but a mask: statistics leave them out."""

    @property
    def count(self) -> int:
        """Bands."""
        return len(self.bands)

    @property
    def itemsize(self) -> int:
        """Bytes per pixel and band."""
        return {"uint8": 1, "uint16": 2, "int16": 2, "float32": 4}[self.dtype]

    @property
    def block(self) -> int:
        """Side of a tile of the file: 512, less where many bands would make a tile larger than 16 MB."""
        side = 512
        while side > 64 and side * side * self.count * self.itemsize > 16 << 20:  # noqa: PLR2004
            side //= 2
        return side


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """Everything that the products know about a result; no pixels."""

    kind: Kind
    """What the pixels are."""
    title: str
    """One line for people."""
    classes: tuple[ClassLabel, ...]
    """In the order of the predictor's channels; empty for values and embeddings."""
    result: RasterSpec
    """``result.tif``."""
    score: RasterSpec | None = None
    """``score.tif``: probability of the class that won."""
    probabilities: RasterSpec | None = None
    """``probabilities.tif``: one band per class; only where asked for."""
    range: tuple[float, float] | None = None
    """Of values: what a picture shows."""
    observations: RasterSpec | None = None
    """``observations.tif``: the scene of each pixel, and on how many days it was clear; of searched imagery only."""

    @property
    def predicted(self) -> tuple[RasterSpec, ...]:
        """The files that hold what the model said, ``result.tif`` first."""
        return tuple(r for r in (self.result, self.score, self.probabilities) if r is not None)

    @property
    def rasters(self) -> tuple[RasterSpec, ...]:
        """All files of this result, ``result.tif`` first."""
        return self.predicted if self.observations is None else (*self.predicted, self.observations)

    @property
    def drawn(self) -> tuple[ClassLabel, ...]:
        """Classes that become polygons: all but the background."""
        return tuple(c for c in self.classes if not c.background)


def layer_of(card: ModelCard, *, probabilities: bool = False, observations: int = 0) -> LayerSpec:
    """The layer that a model makes.

    ``probabilities`` adds a file with one band per class; ``observations`` one that says for each of so many dates
    which scene a pixel was made of (band 1, 3, …) and how many were clear (band 2, 4, …).
    """
    layer = _predictions(card, probabilities=probabilities)
    return replace(layer, observations=_observations(observations)) if observations else layer


def _observations(dates: int) -> RasterSpec:
    names = ("scene", "clear")
    bands = names if dates == 1 else tuple(f"{name} {date + 1}" for date in range(dates) for name in names)
    return RasterSpec("observations", "uint16", 0, bands, Resampling.NEAREST)


def _predictions(card: ModelCard, *, probabilities: bool) -> LayerSpec:
    if card.output.picture:
        return _picture(card)
    if card.task is Task.REGRESSION:
        return _values(card)
    if card.task is Task.EMBEDDING:
        return _embedding(card)
    return _classes(card, probabilities=probabilities)


def _classes(card: ModelCard, *, probabilities: bool) -> LayerSpec:
    names = tuple(c.name for c in card.output.classes)
    scored = card.output.scored
    return LayerSpec(
        Kind.CLASSES,
        card.title,
        card.output.classes,
        RasterSpec("result", "uint8", CLASS_NODATA, ("class",), Resampling.MODE),
        _probability("score", ("score",)) if scored else None,
        _probability("probabilities", names) if scored and probabilities else None,
    )


def _probability(name: str, bands: tuple[str, ...]) -> RasterSpec:
    return RasterSpec(name, "uint8", CLASS_NODATA, bands, Resampling.AVERAGE, scale=1 / SCORE_STEPS)


def _values(card: ModelCard) -> LayerSpec:
    output = card.output
    label = output.name or "value"
    bands = (label,) if output.channels == 1 else tuple(f"{label} {i + 1}" for i in range(output.channels))
    result = RasterSpec("result", "float32", math.nan, bands, Resampling.AVERAGE, unit=output.unit)
    return LayerSpec(Kind.VALUES, card.title, (), result, range=output.range)


def _embedding(card: ModelCard) -> LayerSpec:
    width = len(str(card.output.channels - 1))
    bands = tuple(f"e{i:0{width}d}" for i in range(card.output.channels))
    result = RasterSpec("result", "float32", math.nan, bands, Resampling.AVERAGE)
    return LayerSpec(Kind.EMBEDDING, card.title, (), result)


def _picture(card: ModelCard) -> LayerSpec:
    result = RasterSpec("result", "uint8", CLASS_NODATA, TRUE_COLOUR, Resampling.AVERAGE)
    return LayerSpec(Kind.PICTURE, card.title, (), result)
