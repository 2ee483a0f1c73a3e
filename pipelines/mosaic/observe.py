"""What one scene saw in a window of the frame: which pixels are clear, and the numbers of its bands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.mosaic import masks
from pipelines.mosaic.frame import Frame
from pipelines.mosaic.omnicloudmask import Classifier, expect_resolution
from pipelines.mosaic.warp import View, covers, prefetch, read_onto
from swathe.errors import ImageryError
from swathe.scene import Asset, AssetGrid, Scene
from swathe.source import MaskRule, SourceMask
from swathe.window import Window

if TYPE_CHECKING:
    from pipelines.blocks.open import Opener

CAP = 50
"""Pixels from a cloud beyond which no farther is better: as in White et al. 2014, Pixel-based image compositing."""
WIDEST = 2048
"""Pixels of margin at most: near a pole a pixel in degrees has hardly a width."""


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """Where one scene is clear in a window."""

    clear: NDArray[np.bool_]
    """(h, w)."""
    far: NDArray[np.float32] | None
    """(h, w) metres to the nearest cloud, up to a cap; None where nobody asked, or the source has no mask."""


class Observer:
    """Reads scenes on one frame. Thread-safe as its opener is; holds nothing but what it was given."""

    def __init__(self, opener: Opener, frame: Frame, mask: SourceMask | None) -> None:
        """Prepare to look; ``mask`` says how the scenes' masks are to be read. Raises ImageryError (``mask.…``)."""
        self._opener = opener
        self._frame = frame
        self.mask = mask
        by_model = mask is not None and mask.rule is MaskRule.OMNICLOUDMASK
        self._classifier = Classifier(mask) if mask is not None and by_model else None
        if mask is not None:
            masks.table(mask.rule, mask.drop)

    def reaches(self, scene: Scene, window: Window, *, far: bool = False) -> bool:
        """Whether the scene may have pixels in a window, or with ``far`` a cloud that is near to one.

        Raises ReadError where only its header tells.
        """
        clouds = far and scene.masked and self.mask is not None
        return covers(self.grid(scene.bands[0]), self._frame, self._around(window, far=True)[0] if clouds else window)

    def grid(self, asset: Asset) -> AssetGrid:
        """As the catalogue says, else as the file does."""
        return asset.grid or self._opener.open(asset).grid

    def view(self, assets: Sequence[Asset]) -> View:
        """Bands of one file."""
        source = self._opener.open(assets[0])
        nodata = assets[0].nodata if assets[0].nodata is not None else source.nodata
        return View(source, tuple(a.index for a in assets), assets[0].resampling, nodata)

    def expect_headers(self, assets: Iterable[Asset]) -> None:
        """Begin to open files side by side: one after the other, each would be a round trip to wait for."""
        self._opener.expect(assets)

    def expect_mask(self, scene: Scene, window: Window, *, far: bool) -> None:
        """Begin to fetch what ``sight`` will need."""
        if not scene.masked or self.mask is None:
            return
        outer = self._around(window, far=far)[0]
        if scene.mask is not None:
            prefetch(self._mask_view(scene.mask), self._frame, outer)
        elif self._classifier is not None:
            for patch in self._classifier.missing(_name(scene), outer):
                self.expect_bands(scene.looks, patch)

    def expect_bands(self, assets: Sequence[Asset], window: Window) -> None:
        """Begin to fetch what ``bands`` will need."""
        for group in together(assets):
            prefetch(self.view(group), self._frame, window)

    def sight(self, scene: Scene, window: Window, *, far: bool) -> Sight:
        """Where the scene's mask is clear. Without a mask everything is, as far as that tells. Raises ReadError.

        ``window`` lies in one anchored block. The mask is read with a margin beyond it, also beyond the area that was
        drawn, so that a cloud counts whatever side of a border it is on.
        """
        shape = (window.height, window.width)
        if not scene.masked or self.mask is None:
            return Sight(np.ones(shape, bool), None)
        outer, cap = self._around(window, far=far)
        found = self.states(scene, outer)
        inner = window.within(outer)
        clear = found[inner] == masks.CLEAR
        if cap == 0:
            return Sight(clear, None)
        away = masks.distance(found, self._frame.ground_m(self._block(window)), cap)[inner]
        if self.mask.buffer_m > 0:
            clear &= away > self.mask.buffer_m
        return Sight(clear, away if far else None)

    def states(self, scene: Scene, window: Window) -> NDArray[np.uint8]:
        """(h, w) state of each pixel of a window, as a mask says it; see ``masks``. Raises ReadError, ImageryError."""
        assert self.mask is not None
        codes, valid = self.codes(scene, window)
        return masks.states(codes, valid, self.mask)

    def codes(self, scene: Scene, window: Window) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """(h, w) numbers of a scene's mask on a window, and where it has any. Raises ReadError, ImageryError."""
        if scene.mask is None:
            return self._classified(scene, window)
        read = read_onto(self._mask_view(scene.mask), self._frame, window)
        if read is None:
            shape = window.height, window.width
            return np.zeros(shape, np.uint8), np.zeros(shape, bool)
        return read[0][0], read[1]

    def _classified(self, scene: Scene, window: Window) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
        """As ``codes``, where a network makes the mask."""
        assert self.mask is not None
        assert self._classifier is not None

        def looked_at(patch: Window) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
            expect_resolution(self._frame.ground_m(patch))
            bands = self.bands(scene.looks, patch, np.dtype(np.float32), physical=True)
            return np.stack([numbers for numbers, _ in bands]), np.stack([valid for _, valid in bands])

        codes = self._classifier.codes(_name(scene), window, looked_at)
        return codes, np.ones(codes.shape, bool)

    def _mask_view(self, asset: Asset) -> View:
        """Masks are codes: between two of them lies nothing."""
        found = self.view([asset])
        return View(found.source, found.indexes, "nearest", found.nodata)

    def _block(self, window: Window) -> Window:
        return next(self._frame.blocks(window))

    def _around(self, window: Window, *, far: bool) -> tuple[Window, float]:
        """The window with the margin that distances need, and the largest distance of interest in metres."""
        assert self.mask is not None
        down, across = self._frame.ground_m(self._block(window))
        if not far and self.mask.buffer_m == 0:
            return window, 0.0
        cap = self.mask.buffer_m + (CAP if far else 1) * down
        rows, cols = (min(WIDEST, math.ceil(cap / side)) for side in (down, across))
        outer = Window(window.row - rows, window.col - cols, window.height + 2 * rows, window.width + 2 * cols)
        return outer, cap

    def bands(
        self, assets: Sequence[Asset], window: Window, dtype: np.dtype[np.generic], *, physical: bool
    ) -> list[Seen]:
        """Numbers of some bands of one scene in ``dtype``, and where they are valid; not to be written to.

        ``physical``: scaled and shifted as each asset says. Raises ReadError.
        """
        found = [unseen((window.height, window.width), dtype)] * len(assets)
        for group in together(assets):
            read = read_onto(self.view(group), self._frame, window)
            if read is None:
                continue
            for asset, band in zip(group, read[0], strict=True):
                numbers = (
                    (band.astype(np.float64) * asset.scale + asset.offset).astype(dtype)
                    if physical
                    else _fitted(band, dtype)
                )
                found[assets.index(asset)] = numbers, read[1]
        return found


Seen = tuple[NDArray[np.generic], NDArray[np.bool_]]
"""(h, w) numbers of a band, and (h, w) where they are valid."""


def unseen(shape: tuple[int, int], dtype: np.dtype[np.generic]) -> Seen:
    """A band of which nothing is known."""
    return np.zeros(shape, dtype), np.zeros(shape, bool)


def _name(scene: Scene) -> str:
    """Two archives may use one id."""
    return f"{scene.id} {scene.looks[0].href}"


def together(assets: Sequence[Asset]) -> list[list[Asset]]:
    """Assets that are bands of one file and read alike, side by side."""
    found: dict[tuple[object, ...], list[Asset]] = {}
    for asset in assets:
        found.setdefault((asset.href, asset.nodata, asset.resampling), []).append(asset)
    return list(found.values())


def _fitted(band: NDArray[np.generic], dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    """In the mosaic's type, which holds every number of the file's, or is no type for it."""
    if band.dtype == dtype or np.can_cast(band.dtype, dtype, "safe"):
        return band.astype(dtype, copy=False)
    raise ImageryError(
        f"a file of type {band.dtype} does not fit among files of type {dtype}",
        code="imagery.mixed_types",
        hint="its archive mixes products: search for one collection",
    )
