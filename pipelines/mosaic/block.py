"""One block of the output: what its scenes saw, joined. The unit in which mosaics are made, kept and lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipelines.mosaic.observe import Observer, Seen, Sight, together, unseen
from swathe.errors import ImageryError, ReadError
from swathe.mosaic import BLOCK, Composite
from swathe.scene import Asset, Scene
from swathe.window import Window

T = TypeVar("T")
SEVERAL = 65535
"""Number of a pixel that is made of more than one scene."""
_OURS = ("url.", "mask.")
"""Codes of refusals, which no other scene makes good."""


class Loss(NamedTuple):
    """An observation that is missing because its file could not be read."""

    scene: str
    """Its id."""
    asset: str
    """Name of the band or mask."""
    block: tuple[int, int]
    """(row, col) of the block, in blocks."""
    reason: str
    """What was said."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A block of one date, finished."""

    window: Window
    """Its pixels on the frame: the part of a block that the output grid has."""
    data: NDArray[np.generic]
    """(C, h, w); 0 where the mask is False."""
    mask: NDArray[np.bool_]
    """(h, w) True where every band has a clear observation."""
    index: NDArray[np.uint16]
    """(h, w) number of the scene used, ``SEVERAL``, or 0."""
    count: NDArray[np.uint16]
    """(h, w) solar days with a clear observation, as far as scenes were looked at."""
    asked: int = 0
    """Scenes that had a say in the block, lost ones among them."""
    lost: tuple[Loss, ...] = ()
    """What could not be read."""

    @property
    def nbytes(self) -> int:
        """What it keeps in memory."""
        return self.data.nbytes + self.mask.nbytes + self.index.nbytes + self.count.nbytes


@dataclass(frozen=True, slots=True)
class Manner:
    """How all blocks of one mosaic are made."""

    kind: Composite
    """How observations are joined."""
    dtype: np.dtype[np.generic]
    """Of the result."""
    stored: np.dtype[np.generic]
    """In which observations are held: the files' own where all scenes share it."""
    physical: bool
    """Whether observations are scaled as they are read, because scenes differ in what their numbers mean."""
    numbers: dict[tuple[str, str, str], int]
    """``Scene.key`` -> number on the label, from 1."""
    tolerant: bool
    """Whether a lost file is noted and passed over; else it is raised."""


class Seat:
    """One block's view of its scenes: what is lost is noted here, or raised."""

    def __init__(
        self, observer: Observer, manner: Manner, window: Window, place: tuple[int, int] | None = None
    ) -> None:
        """Of a window inside one block, whose ``place`` is (row, col) in blocks; None: that of an anchored one."""
        self._observer = observer
        self.manner = manner
        self.window = window
        self.shape = window.height, window.width
        self.lost: list[Loss] = []
        self._place = place or (window.row // BLOCK, window.col // BLOCK)

    def over(self, scenes: Sequence[Scene], *, far: bool = False) -> list[Scene]:
        """Those that lie over the block; with ``far`` also those beside it whose clouds may be near to its pixels."""
        self._observer.expect_headers(s.bands[0] for s in scenes if s.bands[0].grid is None)

        def reaches(scene: Scene) -> bool:
            return self._observer.reaches(scene, self.window, far=far)

        return [s for s in scenes if self._try(s, s.bands[0], lambda s=s: reaches(s))]

    def sight(self, scene: Scene, *, far: bool = False) -> Sight | None:
        """Where a scene is clear; None where that is lost."""
        return self._try(
            scene,
            scene.mask or (scene.looks or scene.bands)[0],
            lambda: self._observer.sight(scene, self.window, far=far),
        )

    def bands(self, scene: Scene, several: slice, dtype: np.dtype[np.generic]) -> list[Seen]:
        """Numbers of some of its bands, and where they are valid: nowhere for one that is lost."""
        assets = scene.bands[several]
        found = [unseen(self.shape, dtype)] * len(assets)
        for group in together(assets):
            read = self._try(scene, group[0], lambda g=group: self._numbers(g, dtype))
            if read is not None:
                for asset, seen in zip(group, read, strict=True):
                    found[assets.index(asset)] = seen
        return found

    def _numbers(self, assets: Sequence[Asset], dtype: np.dtype[np.generic]) -> list[Seen]:
        return self._observer.bands(assets, self.window, dtype, physical=self.manner.physical)

    def expect(self, scenes: Sequence[Scene], several: slice = slice(None)) -> None:
        """Begin to fetch bands."""
        self._observer.expect_headers(band for scene in scenes for band in scene.bands[several])
        for scene in scenes:
            self._calmly(lambda s=scene: self._observer.expect_bands(s.bands[several], self.window))

    def expect_masks(self, scenes: Sequence[Scene], *, far: bool = False) -> None:
        """Begin to fetch masks."""
        self._observer.expect_headers(scene.mask for scene in scenes if scene.mask is not None)
        for scene in scenes:
            self._calmly(lambda s=scene: self._observer.expect_mask(s, self.window, far=far))

    def _calmly(self, action: Callable[[], None]) -> None:
        """What fails now will fail again when it is needed, and be told then."""
        try:
            action()
        except (ReadError, ImageryError):
            return

    def _try(self, scene: Scene, asset: Asset, action: Callable[[], T]) -> T | None:
        try:
            return action()
        except (ReadError, ImageryError) as error:
            if isinstance(error, ImageryError) and error.refined.startswith(_OURS):
                raise
            if not self.manner.tolerant:
                raise _as_lost(error) from error
            self.lost.append(Loss(scene.id, asset.name, self._place, error.detail))
            return None


def _as_lost(error: ReadError | ImageryError) -> ReadError:
    """A file that cannot be used now is lost to this run, whatever is wrong with it."""
    if isinstance(error, ReadError):
        return error
    return ReadError(error.detail, hint=error.hint, code="read.unusable")
