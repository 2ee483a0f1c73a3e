"""Polygons of a classified raster without seams: traced chunk by chunk where the pixels are, joined at the end.

A chunk is traced in bands of rows. Regions that touch no seam are finished at once; the others wait as corners
(``corners.py``) until the bands, and then the chunks, meet. The result is what tracing the whole raster in one piece
would give, vertex by vertex.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipelines.products.corners import Outlines
from pipelines.products.layer import LayerSpec
from pipelines.products.regions import Facts, Frame, Labels, Regions, Sketch, label, united
from pipelines.products.runs import corners_of
from pipelines.products.simplify import pieces_of
from swathe.window import Window

BAND = 512
"""Rows that are traced at a time."""


@dataclass(frozen=True, slots=True)
class ShapeRules:
    """What becomes a polygon."""

    min_px: int = 4
    """Regions of fewer pixels are left out. Their place stays empty: no other class grows into it."""
    simplify_px: float = 0.0
    """Tolerance in pixels; 0: outlines follow the pixels exactly."""


@dataclass(frozen=True, slots=True, eq=False)
class Shapes:
    """Finished regions: facts and outlines, row by row the same."""

    facts: Facts
    """One row per polygon."""
    outlines: Outlines
    """In pixels of the output grid."""

    def __len__(self) -> int:
        return len(self.facts)

    @classmethod
    def joined(cls, parts: Sequence[Shapes]) -> Shapes:
        """Several lists as one."""
        return cls(Facts.joined([p.facts for p in parts]), Outlines.joined([p.outlines for p in parts]))


@dataclass(frozen=True, slots=True, eq=False)
class ChunkShapes:
    """What a chunk gives to the whole: finished regions, and those that reach its inner edges."""

    closed: Shapes
    """Nothing can change these."""
    open: Regions
    """To be joined with the neighbours'."""


def drawn(spec: LayerSpec) -> NDArray[np.bool_]:
    """(256,) True for class values that become polygons."""
    keep = np.zeros(256, np.bool_)
    keep[[c.value for c in spec.drawn]] = True
    return keep


class Tracer:
    """Traces one chunk, band by band from the top. Memory: two bands and the regions not yet finished."""

    def __init__(self, window: Window, frame: Frame, spec: LayerSpec, rules: ShapeRules) -> None:
        """``window`` is the chunk's place on the frame."""
        self._window, self._frame, self._rules = window, frame, rules
        self._keep = drawn(spec)
        self._row = window.row
        self._closed: list[Shapes] = []
        self._open: list[Regions] = []

    def add(self, classes: NDArray[np.uint8], score: NDArray[np.uint8] | None = None) -> None:
        """The next rows: (h, W) class values, and their stored scores."""
        for top in range(0, len(classes), BAND):
            rows = slice(top, top + BAND)
            self._add(classes[rows], None if score is None else score[rows])

    def finish(self) -> ChunkShapes:
        """Join the bands."""
        if self._row != self._window.bottom:
            msg = f"traced down to row {self._row} of {self._window}"
            raise ValueError(msg)
        whole = united(self._open, self._window)
        waiting = whole.open()
        self._closed.append(finished(whole.take(~waiting), self._rules))
        return ChunkShapes(Shapes.joined(self._closed), whole.take(waiting))

    def _add(self, classes: NDArray[np.uint8], score: NDArray[np.uint8] | None) -> None:
        window = Window(self._row, self._window.col, len(classes), self._window.width)
        self._row = window.bottom
        labels = label(classes, score, self._keep, window, self._frame)
        regions = Regions(labels.facts, self._drawing(labels, classes), labels.seams)
        waiting = regions.open()
        self._closed.append(finished(regions.take(~waiting), self._rules))
        self._open.append(regions.take(waiting))

    def _drawing(self, labels: Labels, classes: NDArray[np.uint8]) -> Sketch:
        if self._rules.simplify_px > 0:
            return pieces_of(labels, classes, self._rules.simplify_px)
        return corners_of(labels.runs, labels.region, labels.pairs, labels.window)


def trace(
    classes: NDArray[np.uint8],
    score: NDArray[np.uint8] | None,
    window: Window,
    frame: Frame,
    spec: LayerSpec,
    rules: ShapeRules,
) -> ChunkShapes:
    """Trace a chunk that is in memory. classes, score: (H, W) pixels of ``window``."""
    tracer = Tracer(window, frame, spec, rules)
    tracer.add(classes, score)
    return tracer.finish()


def finished(regions: Regions, rules: ShapeRules) -> Shapes:
    """Outlines of regions that nothing can change any more, the small ones left out."""
    large = regions.take(regions.facts.pixels >= rules.min_px)
    return Shapes(large.facts, large.drawing.outlines())
