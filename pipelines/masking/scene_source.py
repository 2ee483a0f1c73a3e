"""The masks of the scenes that a result was made of: for each pixel, that of the scene it comes from.

``observations.tif`` says which one that is. Where a date has none, every scene over the pixel was passed over; if one
of them was cloudy there, that is why. Masks are read with a margin beyond the result, and each scene's is buffered by
itself, so that a pixel's answer does not depend on the area that was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window as FileWindow

from pipelines.masking.layer_source import WORDS
from pipelines.masking.source import Bools, around, grown
from pipelines.mosaic import masks
from pipelines.mosaic.block import SEVERAL
from pipelines.mosaic.frame import Frame
from pipelines.mosaic.observe import WIDEST, Observer
from swathe.errors import ReadError
from swathe.masking import Mask
from swathe.mosaic import Mosaic, Slot
from swathe.plan import Work
from swathe.scene import Scene
from swathe.window import Window

if TYPE_CHECKING:
    from pipelines.blocks.open import Opener

_KEPT = 8
"""Masks of scenes that are kept for the next mask of the same window."""


class SceneMasks:
    """Masks of scenes, pixel by pixel that of the one used. Memory: a few masks of one window with its margin."""

    gaps = True

    def __init__(self, work: Work, observations: Path, opener: Opener, wanted: Sequence[Mask], buffer_px: int) -> None:
        """``wanted``: what is asked of them. ``buffer_px``: in pixels of the result."""
        assert isinstance(work.imagery, Mosaic)
        assert work.imagery.mask is not None
        self._work, self._mosaic, self._mask = work, work.imagery, work.imagery.mask
        self._observations = observations
        self._wanted = tuple(wanted)
        self._observer = Observer(opener, Frame.of(self._mosaic), self._mask)
        self._numbers = {scene.key: n for n, scene in enumerate(self._mosaic.scenes, 1)}
        self._buffer = buffer_px * work.stride
        self._wider = self._gap_buffer()
        self._kept: dict[tuple[tuple[str, str, str], Window], tuple[NDArray[np.generic], Bools]] = {}
        self.unread: set[str] = set()

    def _gap_buffer(self) -> int:
        """Pixels of imagery around a cloud in which the mosaic took nothing from a scene."""
        frame, corner = Frame.of(self._mosaic), self._mosaic.corner
        block = next(frame.blocks(Window(*corner, 1, 1)))
        wide = math.ceil(self._mask.buffer_m / min(frame.ground_m(block)))
        return max(self._buffer, min(wide, WIDEST))

    def at(self, window: Window) -> Mapping[Mask, Bools]:
        """See :class:`MaskSource`."""
        work = self._work
        pixels = work.pixels_of(window).shifted(*self._mosaic.corner)
        number = self._used(window)
        found = {mask: np.zeros((pixels.height, pixels.width), bool) for mask in self._wanted}
        for used, slot in zip(number, self._mosaic.slots, strict=True):
            for mask in found.keys() - {Mask.WATER}:
                found[mask] |= self._hidden(mask, used, slot, pixels)
        if Mask.WATER in found:
            found[Mask.WATER] = self._always_water(pixels)
        self._kept.clear()
        return {mask: _of_cells(said, work.stride) for mask, said in found.items()}

    def _used(self, window: Window) -> NDArray[np.uint16]:
        """(T, h, w) number of the scene of each pixel of imagery."""
        where = FileWindow(window.col, window.row, window.width, window.height)  # pyright: ignore[reportCallIssue]  attrs class
        with rasterio.open(self._observations) as file:
            cells = file.read(list(range(1, file.count + 1, 2)), window=where)
        return cells.repeat(self._work.stride, axis=1).repeat(self._work.stride, axis=2)

    def _hidden(self, mask: Mask, used: NDArray[np.uint16], slot: Slot, pixels: Window) -> Bools:
        """Where one date's scene says it; where no scene was used, any; where several were, all that saw the pixel."""
        hidden = np.zeros(used.shape, bool)
        gap, several = used == 0, used == SEVERAL
        agreed, seen = several.copy(), np.zeros(used.shape, bool)
        for scene in self._over(slot.scenes, pixels):
            mine = used == self._numbers[scene.key]
            if mine.any():
                hidden |= mine & self._said(mask, scene, pixels, self._buffer)[0]
            if gap.any() and (read := self._tried(mask, scene, pixels)) is not None:
                hidden |= gap & read
            if several.any():
                said, known = self._said(mask, scene, pixels, self._buffer)
                agreed &= said | ~known
                seen |= known
        return hidden | (agreed & seen)

    def _over(self, scenes: Sequence[Scene], pixels: Window) -> Iterator[Scene]:
        return (scene for scene in scenes if scene.masked and self._observer.reaches(scene, pixels))

    def _tried(self, mask: Mask, scene: Scene, pixels: Window) -> Bools | None:
        """What a scene says that was not used; a run that may lose scenes may lose their masks, and counts them."""
        try:
            return self._said(mask, scene, pixels, self._wider)[0]
        except ReadError:
            if self._mosaic.max_loss == 0:
                raise
            self.unread.add(scene.id)
            return None

    def _said(self, mask: Mask, scene: Scene, pixels: Window, buffer: int) -> tuple[Bools, Bools]:
        """(h, w) where a scene's mask says it or is that near to it, and where it saw anything."""
        outer = around(pixels, buffer, buffer)
        codes, seen = self._codes(scene, outer)
        inner = pixels.within(outer)
        said = grown(masks.says(codes, self._mask.rule, self._words(mask)) & seen, buffer)
        return said[inner], seen[inner]

    def _codes(self, scene: Scene, outer: Window) -> tuple[NDArray[np.generic], Bools]:
        key = scene.key, outer
        if key not in self._kept:
            while len(self._kept) >= _KEPT:
                self._kept.pop(next(iter(self._kept)))
            codes, valid = self._observer.codes(scene, outer)
            nothing = masks.table(self._mask.rule, ("nodata",))[codes.astype(np.uint16, copy=False)] == masks.NOTHING
            self._kept[key] = codes, valid & ~nothing
        return self._kept[key]

    def _words(self, mask: Mask) -> tuple[str, ...]:
        """Of clouds also what the source passes over beside them (Fmask's and QA_PIXEL's neighbours of clouds)."""
        beside = tuple(w for w in self._mask.drop if w == "adjacent") if mask is Mask.CLOUDS else ()
        return tuple(w for w in (*WORDS[mask], *beside) if masks.knows(self._mask.rule, w))

    def _always_water(self, pixels: Window) -> Bools:
        """Water in every observation that shows the ground, and in one at least, of all scenes of the run."""
        outer = around(pixels, self._buffer, self._buffer)
        always, ever = np.ones((outer.height, outer.width), bool), np.zeros((outer.height, outer.width), bool)
        for scene in self._over(self._mosaic.scenes, pixels):
            codes, seen = self._codes(scene, outer)
            hidden = masks.says(codes, self._mask.rule, (*self._words(Mask.CLOUDS), *self._words(Mask.SNOW)))
            clear = seen & ~hidden
            always &= masks.says(codes, self._mask.rule, self._words(Mask.WATER)) | ~clear
            ever |= clear
        return grown(always & ever, self._buffer)[pixels.within(outer)]

    def told(self, mask: Mask) -> dict[str, Any]:
        """See :class:`MaskSource`."""
        every = "in every clear observation of the run" if mask is Mask.WATER else "of the scene each pixel is from"
        return {
            "kind": "scenes",
            "source": self._mosaic.sensor,
            "rule": self._mask.rule.value,
            "words": list(self._words(mask)),
            "scenes": len(self._mosaic.scenes),
            "how": every,
            **({"unread": sorted(self.unread)} if self.unread else {}),
        }


def _of_cells(said: Bools, stride: int) -> Bools:
    """Of a cell of several pixels the larger half counts."""
    if stride == 1:
        return said
    height, width = said.shape[0] // stride, said.shape[1] // stride
    return said.reshape(height, stride, width, stride).mean(axis=(1, 3)) >= 0.5  # noqa: PLR2004  half
