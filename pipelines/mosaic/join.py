"""The four ways in which the scenes of a block are joined, each reading no more than it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.mosaic import composite
from pipelines.mosaic.block import SEVERAL, Block, Seat
from pipelines.mosaic.observe import Sight
from swathe.mosaic import Composite
from swathe.scene import Asset, Scene

PLANES_MB = 16
"""Observations of a median that are held at once; one band of all days at least."""
_MIB = 1 << 20
Days = Sequence[Sequence[Scene]]
"""Scenes by solar day, both in order of preference; no day is empty."""
Joined = tuple[NDArray[np.generic], NDArray[np.bool_], NDArray[np.uint16], NDArray[np.uint16]]
"""data (C, h, w), mask, index, count (h, w)."""


class _Known(NamedTuple):
    """A scene that is clear somewhere in the block."""

    day: int
    """Number of its solar day among those that are known, from 0."""
    scene: Scene
    sight: Sight


def join(seat: Seat, days: Days) -> Block:
    """The block under a seat, of the scenes of one date.

    Raises ReadError for what cannot be read, unless losses are tolerated: then the block tells them.
    """
    over = _over(seat, days, far=seat.manner.kind is Composite.BEST)
    asked = sum(map(len, over)) + len(seat.lost)
    data, mask, index, count = _WAYS[seat.manner.kind](seat, over, len(days[0][0].bands))
    return Block(seat.window, data, mask, index, count, asked, tuple(seat.lost))


def counted(seat: Seat, days: Days, block: Block) -> NDArray[np.uint16]:
    """(h, w) days with a clear observation, of all scenes; ``join`` may have stopped before it had looked at them.

    By their masks: a gap in a scene that was not read is not known. Without any mask, what ``join`` came across.
    """
    if seat.manner.kind in (Composite.BEST, Composite.MEDIAN) or not any(s.masked for s in _flat(days)):
        return block.count
    total = np.zeros_like(block.count)
    over = _over(seat, days)
    seat.expect_masks(_flat(over))
    for day in over:
        clear = [sight.clear for scene in day if (sight := seat.sight(scene)) is not None]
        if clear:
            total += np.logical_or.reduce(clear)
    return np.maximum(total, block.mask)


def _over(seat: Seat, days: Days, *, far: bool = False) -> list[list[Scene]]:
    """Those that lie over the block, by day."""
    found = {scene.key for scene in seat.over(_flat(days), far=far)}
    return [kept for day in days if (kept := [scene for scene in day if scene.key in found])]


def _flat(days: Days) -> list[Scene]:
    return [scene for day in days for scene in day]


def _canvas(seat: Seat, bands: int) -> Joined:
    shape = seat.shape
    return (
        np.zeros((bands, *shape), seat.manner.dtype),
        np.zeros(shape, bool),
        np.zeros(shape, np.uint16),
        np.zeros(shape, np.uint16),
    )


def _filled(seat: Seat, days: Days, bands: int) -> Joined:
    """none, latest: each scene where those before it left a gap; done when there is none."""
    canvas = _canvas(seat, bands)
    _, mask, _, count = canvas
    scenes = _flat(days)
    seat.expect_masks(scenes[:1])
    following = iter(scenes[1:])
    for day in days:
        if mask.all():
            break
        today = np.zeros(seat.shape, bool)
        for scene in day:
            after = next(following, None)
            if not mask.all():
                today |= _added(seat, scene, after, canvas)
        count += today
    return canvas


def _added(seat: Seat, scene: Scene, following: Scene | None, canvas: Joined) -> NDArray[np.bool_]:
    """Fill gaps from a scene; (h, w) where it was looked at and is clear."""
    mask, unknown = canvas[1], np.zeros(seat.shape, bool)
    sight = seat.sight(scene)
    if sight is None:
        return unknown
    wanted = sight.clear & ~mask
    if following is not None and not (mask | wanted).all():
        seat.expect_masks([following])
    if not wanted.any():
        return unknown
    seat.expect([scene])
    seen = _paint(seat, scene, wanted, canvas)
    mask |= wanted & seen
    return sight.clear & seen


def _picked(seat: Seat, days: Days, bands: int) -> Joined:
    """best: all masks first; then the scenes that win somewhere, until no winner turns out to be empty there.

    Days are compared; the numbers of a pixel come from the first scene of its day that is clear there.
    """
    canvas = _canvas(seat, bands)
    _, mask, _, count = canvas
    known = _sights(seat, days, far=True)
    if not known:
        return canvas
    clear = np.stack([one.sight.clear for one in known])
    level = np.zeros(seat.shape, np.float32)
    score = np.stack([level if one.sight.far is None else one.sight.far for one in known])
    while True:
        pick = np.where(mask, composite.NONE, composite.best(clear, score))
        winners = sorted({int(i) for i in np.unique(pick)} - {composite.NONE})
        if not winners:
            for day in _by_day(known):
                count += np.logical_or.reduce([clear[n] for n in day])
            return canvas
        seat.expect([known[i].scene for i in winners])
        for i in winners:
            wanted = pick == i
            seen = _paint(seat, known[i].scene, wanted, canvas)
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


def _sights(seat: Seat, days: Days, *, far: bool) -> list[_Known]:
    """Scenes that are clear somewhere, those of one day side by side, and as near to clouds as their day.

    The mask of a tile ends at its edge. A pixel close to it would pass for one far from clouds, whatever the next tile
    of the same pass shows there.
    """
    seat.expect_masks(_flat(days), far=far)
    known: list[_Known] = []
    for day in days:
        number = known[-1].day + 1 if known else 0
        found = [(scene, sight) for scene in day if (sight := seat.sight(scene, far=far)) is not None]
        near = _nearest(sight.far for _, sight in found)
        known += [_Known(number, scene, sight if sight.far is None else replace(sight, far=near))
                  for scene, sight in found if sight.clear.any()]  # fmt: skip
    return known


def _nearest(distances: Iterable[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
    """(h, w) the smallest of those that are known."""
    known = [distance for distance in distances if distance is not None]
    return np.minimum.reduce(known) if known else None


def _by_day(known: Sequence[_Known]) -> Iterator[list[int]]:
    """Places of the scenes of each day."""
    for _, day in groupby(range(len(known)), key=lambda n: known[n].day):
        yield list(day)


def _middled(seat: Seat, days: Days, bands: int) -> Joined:
    """median: per band, of all days with a clear observation; a few bands at a time, so that memory stays bounded.

    The scenes of a day are joined first. Where two tiles of one pass overlap it would count twice otherwise, and a
    median would change its weights along the edges of tiles.
    """
    data, mask, index, count = _canvas(seat, bands)
    known = _sights(seat, days, far=False)
    if not known:
        return data, mask, index, count
    count += SEVERAL
    used = np.zeros((len(known), *seat.shape), bool)
    needed = list(_needed(known))
    for several in _slices(bands, (known[-1].day + 1) * index.size * seat.manner.stored.itemsize):
        seat.expect(needed, several)
        planes, clear = _planes(seat, known, several, used)
        for place, band in enumerate(range(several.start, several.stop)):
            middle, seen = composite.median(planes[place], clear[place])
            data[band] = middle if seat.manner.physical else _scaled(middle, known[0].scene.bands[band])
            np.minimum(count, seen, out=count)
    mask |= count > 0
    numbers = np.array([seat.manner.numbers[one.scene.key] for one in known], np.uint16)
    index[...] = np.where(used.sum(axis=0, dtype=np.uint16) > 1, SEVERAL, numbers[used.argmax(axis=0)])
    data[:, ~mask] = 0
    index[~mask] = 0
    return data, mask, index, count


def _needed(known: Sequence[_Known]) -> Iterator[Scene]:
    """Scenes whose bands are fetched ahead: all but those that, by the masks, add nothing to their day."""
    for day in _by_day(known):
        filled = np.zeros(known[day[0]].sight.clear.shape, bool)
        for one in (known[n] for n in day):
            # Without a mask nobody knows yet where a scene has no data, and the next one may be wanted there.
            if not one.scene.masked or (one.sight.clear & ~filled).any():
                yield one.scene
            filled |= one.sight.clear


def _planes(
    seat: Seat, known: Sequence[_Known], several: slice, used: NDArray[np.bool_]
) -> tuple[NDArray[np.generic], NDArray[np.bool_]]:
    """(C, D, h, w) numbers of some bands, of each day's scenes of the first that is clear; and where any of them is.

    Marks in ``used`` (N, h, w) where numbers of a scene were taken.
    """
    shape = (several.stop - several.start, known[-1].day + 1, *seat.shape)
    planes, clear = np.empty(shape, seat.manner.stored), np.zeros(shape, bool)
    for one, mark in zip(known, used, strict=True):
        plane, there = planes[:, one.day], clear[:, one.day]
        if not (one.sight.clear & ~there.all(axis=0)).any():
            continue
        for c, (numbers, valid) in enumerate(seat.bands(one.scene, several, seat.manner.stored)):
            np.logical_or(mark, _laid(plane[c], there[c], numbers, valid & one.sight.clear), out=mark)
    return planes, clear


def _laid(
    plane: NDArray[np.generic], clear: NDArray[np.bool_], numbers: NDArray[np.generic], seen: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Put numbers into a day's plane where they are seen and no scene before was clear; (h, w) where that is."""
    if not clear.any():
        plane[...], clear[...] = numbers, seen  # what is not clear does not matter, and a masked copy is slow
        return seen
    fresh = seen & ~clear
    np.copyto(plane, numbers, where=fresh)
    clear |= fresh
    return fresh


def _slices(bands: int, band_bytes: int) -> Iterator[slice]:
    step = max(1, PLANES_MB * _MIB // band_bytes)
    for start in range(0, bands, step):
        yield slice(start, min(bands, start + step))


def _scaled(middle: NDArray[np.float64], asset: Asset) -> NDArray[np.float64]:
    """Physical: a median may lie between two stored numbers."""
    return middle * asset.scale + asset.offset


_WAYS: dict[Composite, Callable[[Seat, Days, int], Joined]] = {
    Composite.NONE: _filled,
    Composite.LATEST: _filled,
    Composite.BEST: _picked,
    Composite.MEDIAN: _middled,
}
