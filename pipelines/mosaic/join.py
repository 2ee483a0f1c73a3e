"""The four ways in which the scenes of a block are joined, each reading no more than it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from pipelines.mosaic import composite
from pipelines.mosaic.block import SEVERAL, Block, Seat
from pipelines.mosaic.observe import Sight
from swathe.mosaic import Composite
from swathe.scene import Asset, Scene

PLANES_MB = 16
"""Observations of a median that are held at once; one band of all scenes at least."""
_MIB = 1 << 20
Joined = tuple[NDArray[np.generic], NDArray[np.bool_], NDArray[np.uint16], NDArray[np.uint16]]
"""data (C, h, w), mask, index, count (h, w)."""


def join(seat: Seat, scenes: Sequence[Scene]) -> Block:
    """The block under a seat, of the scenes of one date in order of preference.

    Raises ReadError for what cannot be read, unless losses are tolerated: then the block tells them.
    """
    over = seat.over(scenes)
    asked = len(over) + len(seat.lost)
    data, mask, index, count = _WAYS[seat.manner.kind](seat, over, len(scenes[0].bands))
    return Block(seat.window, data, mask, index, count, asked, tuple(seat.lost))


def counted(seat: Seat, scenes: Sequence[Scene], block: Block) -> NDArray[np.uint16]:
    """(h, w) clear observations of all scenes; ``join`` may have stopped before it had looked at them.

    By their masks: a gap in a scene that was not read is not known. Without any mask, what ``join`` came across.
    """
    if seat.manner.kind in (Composite.BEST, Composite.MEDIAN) or not any(s.masked for s in scenes):
        return block.count
    total = np.zeros_like(block.count)
    over = seat.over(scenes)
    seat.expect_masks(over)
    for scene in over:
        sight = seat.sight(scene)
        if sight is not None:
            total += sight.clear
    return np.maximum(total, block.mask)


def _canvas(seat: Seat, bands: int) -> Joined:
    shape = seat.shape
    return (
        np.zeros((bands, *shape), seat.manner.dtype),
        np.zeros(shape, bool),
        np.zeros(shape, np.uint16),
        np.zeros(shape, np.uint16),
    )


def _filled(seat: Seat, scenes: Sequence[Scene], bands: int) -> Joined:
    """none, latest: each scene where those before it left a gap; done when there is none."""
    canvas = _canvas(seat, bands)
    _, mask, _, count = canvas
    seat.expect_masks(scenes[:1])
    for scene, following in zip_longest(scenes, scenes[1:]):
        sight = seat.sight(scene)
        if sight is None:
            continue
        wanted = sight.clear & ~mask
        if following is not None and not (mask | wanted).all():
            seat.expect_masks([following])
        if wanted.any():
            seat.expect([scene])
            seen = _paint(seat, scene, wanted, canvas)
            count += sight.clear & seen
            mask |= wanted & seen
        if mask.all():
            break
    return canvas


def _picked(seat: Seat, scenes: Sequence[Scene], bands: int) -> Joined:
    """best: all masks first; then the scenes that win somewhere, until no winner turns out to be empty there."""
    canvas = _canvas(seat, bands)
    _, mask, _, count = canvas
    known = _sights(seat, scenes, far=True)
    if not known:
        return canvas
    clear = np.stack([sight.clear for _, sight in known])
    level = np.zeros(seat.shape, np.float32)
    score = np.stack([level if sight.far is None else sight.far for _, sight in known])
    while True:
        pick = np.where(mask, composite.NONE, composite.best(clear, score))
        winners = sorted({int(i) for i in np.unique(pick)} - {composite.NONE})
        if not winners:
            count += clear.sum(axis=0, dtype=np.uint16)
            return canvas
        seat.expect([known[i][0] for i in winners])
        for i in winners:
            wanted = pick == i
            seen = _paint(seat, known[i][0], wanted, canvas)
            clear[i] &= seen
            mask |= wanted & seen


def _paint(seat: Seat, scene: Scene, wanted: NDArray[np.bool_], canvas: Joined) -> NDArray[np.bool_]:
    """Put a scene's numbers where they are wanted and valid; (h, w) where the scene has all bands."""
    found = seat.bands(scene, slice(None), seat.manner.dtype)
    seen = np.logical_and.reduce([valid for _, valid in found])
    where, data, blank = wanted & seen, canvas[0], not canvas[1].any()
    for (band, _), into in zip(found, data, strict=True):
        _put(into, band, where, blank=blank)
    np.copyto(canvas[2], np.uint16(seat.manner.numbers[scene.key]), where=where)
    return seen


def _put(into: NDArray[np.generic], band: NDArray[np.generic], where: NDArray[np.bool_], *, blank: bool) -> None:
    """A band's numbers where they are wanted. A masked copy takes ten times as long as a multiplication by 0 or 1."""
    if blank and band.dtype.kind in "iu" and into.dtype == band.dtype:
        np.multiply(band, where, out=into)
    else:
        np.copyto(into, band, where=where)


def _sights(seat: Seat, scenes: Sequence[Scene], *, far: bool) -> list[tuple[Scene, Sight]]:
    seat.expect_masks(scenes, far=far)
    found = [(scene, seat.sight(scene, far=far)) for scene in scenes]
    return [(scene, sight) for scene, sight in found if sight is not None and sight.clear.any()]


def _middled(seat: Seat, scenes: Sequence[Scene], bands: int) -> Joined:
    """median: per band, of all clear observations; a few bands at a time, so that memory stays bounded."""
    data, mask, index, count = _canvas(seat, bands)
    known = _sights(seat, scenes, far=False)
    if not known:
        return data, mask, index, count
    count += SEVERAL
    used = np.zeros((len(known), *seat.shape), bool)
    for several in _slices(bands, len(known) * index.size * seat.manner.stored.itemsize):
        seat.expect([scene for scene, _ in known], several)
        planes, clear = _planes(seat, known, several)
        for place, band in enumerate(range(several.start, several.stop)):
            middle, seen = composite.median(planes[place], clear[place])
            data[band] = middle if seat.manner.physical else _scaled(middle, known[0][0].bands[band])
            np.minimum(count, seen, out=count)
            used |= clear[place]
    mask |= count > 0
    numbers = np.array([seat.manner.numbers[scene.key] for scene, _ in known], np.uint16)
    index[...] = np.where(used.sum(axis=0, dtype=np.uint16) > 1, SEVERAL, numbers[used.argmax(axis=0)])
    data[:, ~mask] = 0
    index[~mask] = 0
    return data, mask, index, count


def _planes(
    seat: Seat, known: Sequence[tuple[Scene, Sight]], several: slice
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """(C, N, h, w) numbers of some bands of all scenes, and where they are clear."""
    shape = (several.stop - several.start, len(known), *seat.shape)
    planes, clear = np.empty(shape, seat.manner.stored), np.empty(shape, bool)
    for n, (scene, sight) in enumerate(known):
        for c, (numbers, valid) in enumerate(seat.bands(scene, several, seat.manner.stored)):
            planes[c, n] = numbers
            np.logical_and(valid, sight.clear, out=clear[c, n])
    return planes, clear


def _slices(bands: int, band_bytes: int) -> Iterator[slice]:
    step = max(1, PLANES_MB * _MIB // band_bytes)
    for start in range(0, bands, step):
        yield slice(start, min(bands, start + step))


def _scaled(middle: NDArray[np.float64], asset: Asset) -> NDArray[np.float64]:
    """Physical: a median may lie between two stored numbers."""
    return middle * asset.scale + asset.offset


_WAYS: dict[Composite, Callable[[Seat, Sequence[Scene], int], Joined]] = {
    Composite.NONE: _filled,
    Composite.LATEST: _filled,
    Composite.BEST: _picked,
    Composite.MEDIAN: _middled,
}
