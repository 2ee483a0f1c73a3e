"""Windows of imagery as the model's bands, with a mask; stubborn against faults that pass, silent about none."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from pipelines.imagery.gdal import FAILURES, MIB, Access, explain, retried, stays
from pipelines.imagery.header import has_own_mask
from pipelines.imagery.peek import changed, glance, same, version_of
from swathe.errors import ImageryError, ReadError, SwatheError
from swathe.imagery import BandSource, Imagery, is_remote, shown
from swathe.raster import Stack
from swathe.window import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from pipelines.imagery.remote_files import Sources
    from pipelines.remote.fetch import Counts
    from pipelines.remote.network import Network

PIECE = 512
"""Side of the pieces in which a window of a local file is read again after a fault. Over a network, requests are what
is repeated, each by itself."""
_LATER = "run the same command again when the file can be read: what is finished is kept"


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring bands of one date that come from one file in one call."""

    date: int
    """Place of the date."""
    first: int
    """Place of the first band among the model's."""
    sources: tuple[BandSource, ...]
    """The bands: of one file and one type."""
    nodata: tuple[np.generic | None, ...]
    """Per band, in the stored type; None where there is none that the type can hold."""

    @property
    def href(self) -> str:
        """The file."""
        return self.sources[0].href

    @property
    def indexes(self) -> list[int]:
        """Bands of the file, from 1."""
        return [s.index for s in self.sources]

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """As stored."""
        return np.dtype(self.sources[0].dtype)


@dataclass(frozen=True, slots=True)
class _File:
    """An open file."""

    dataset: DatasetReader
    masked: frozenset[int]
    """Bands whose mask lies beside the pixels."""


class Reader:
    """Reads windows of one :class:`Imagery`. One per actor, used by one thread at a time; files open when needed.

    Local files are GDAL's; those at addresses come block by block through the door to the network. It holds handles and
    connections, so it is never sent anywhere: send the imagery and make a reader there.
    """

    def __init__(
        self, imagery: Imagery, access: Access | None = None, network: Network | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        """Prepare to read; opens nothing yet. ``network`` None: public addresses alone."""
        self._imagery = imagery
        self._access = access or Access()
        self._network = network
        self._sleep = sleep
        self._versions = dict(imagery.stamps)
        self._files: dict[str, _File] = {}
        self._far: Sources | None = None
        self._lanes: dict[str, ThreadPoolExecutor] = {}
        self._pid = os.getpid()
        self._runs = tuple(_runs(imagery))
        remote = {run.href for run in self._runs if is_remote(run.href)}
        self._remote, self._side_by_side = bool(remote), len(remote) > 1
        self._physical = len({tuple((b.scale, b.offset) for b in a.bands) for a in imagery.dates}) > 1
        kinds = {run.dtype for run in self._runs}
        self.dtype = np.dtype(np.float32) if self._physical or len(kinds) > 1 else kinds.pop()
        """Type of the numbers given out: the files', where all share one."""

    def __enter__(self) -> Self:
        """Close the files at the end of a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """Close all files; the next read opens them again."""
        for lane in self._lanes.values():
            lane.shutdown()
        self._lanes.clear()
        for href in list(self._files):
            self._forget(href)
        if self._far is not None:
            self._far.close()
            self._far = None

    def read(self, window: Window) -> Stack:
        """The pixels of a window of the grid, which it may overhang: there, numbers are 0 and the mask is False.

        data: (T, C, h, w) in the files' type where all share one, else float32. Invalid are nodata, NaN and infinite
        numbers, and what a mask or an alpha band says. Where dates differ in scale and offset, numbers are converted
        here and the stack's scale is 1. Raises ReadError (``read.lost``, ``read.changed``) naming file and pixels;
        never gives zeros for what could not be read.
        """
        if self._pid != os.getpid():  # a fork has its parent's file offsets and none of its threads
            self._files, self._lanes, self._far, self._pid = {}, {}, None, os.getpid()
        if self._remote and self._far is None:
            from pipelines.imagery.remote_files import (  # not for files of this machine: half a second
                RemoteFiles,
                Sources,
            )

            remote = RemoteFiles(self._network, self._access.retry, self._pause)
            self._far = Sources(remote, self._versions, self._access.cache_mb)
        dates, bands = len(self._imagery.dates), len(self._imagery.dates[0].bands)
        inner = window.intersection(Window(0, 0, *self._imagery.shape))
        make = np.empty if inner == window else np.zeros
        data = make((dates, bands, window.height, window.width), self.dtype)
        mask = np.zeros((dates, window.height, window.width), bool)
        if inner is not None:
            rows, cols = inner.within(window)
            mask[:, rows, cols] = True
            self._fill_all(inner, data[:, :, rows, cols], mask[:, rows, cols])
        return Stack(data, mask, *self._units())

    def _units(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        bands = self._imagery.dates[0].bands
        if self._physical:
            return np.ones(len(bands)), np.zeros(len(bands))
        return np.array([b.scale for b in bands], np.float64), np.array([b.offset for b in bands], np.float64)

    def _fill_all(self, window: Window, data: NDArray[np.generic], mask: NDArray[np.bool_]) -> None:
        """All runs: one after the other, or over a network side by side, because there reading is mostly waiting."""
        if not self._side_by_side:
            for run in self._runs:
                self._fill(run, window, _part(data, run), mask[run.date])
            return
        masks = [np.ones(mask.shape[1:], bool) for _ in self._runs]
        waiting = [
            self._lane(run.href).submit(self._fill, run, window, _part(data, run), own)
            for run, own in zip(self._runs, masks, strict=True)
        ]
        wait(waiting)
        for run, own, done in zip(self._runs, masks, waiting, strict=True):
            done.result()
            mask[run.date] &= own

    def _lane(self, href: str) -> ThreadPoolExecutor:
        """One thread per file."""
        if href not in self._lanes:
            self._lanes[href] = ThreadPoolExecutor(1, thread_name_prefix="read")
        return self._lanes[href]

    def _fill(self, run: Run, window: Window, out: NDArray[np.generic], mask: NDArray[np.bool_]) -> None:
        """Read into ``out`` and take invalid pixels out of ``mask``; both are views of the window's size."""
        direct = run.dtype == self.dtype and not self._physical
        data = out if direct else np.empty(out.shape, run.dtype)
        with self._access.env(run.href):
            take = self._fetch if self._far is None or not is_remote(run.href) else self._ask
            take(run, window, data, mask)
        _hide(run, data, mask)
        if not direct:
            self._convert(run, data, out)

    def _convert(self, run: Run, data: NDArray[np.generic], out: NDArray[np.generic]) -> None:
        if not self._physical:
            out[...] = data
            return
        for band, into, source in zip(data, out, run.sources, strict=True):
            into[...] = band.astype(np.float64) * source.scale + source.offset

    # --- files at addresses -------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counts | None:
        """What was asked of the network since the files were opened; None where nothing was."""
        return self._far.counts if self._far is not None else None

    async def _pause(self, seconds: float) -> None:
        await (asyncio.sleep(seconds) if self._sleep is time.sleep else asyncio.to_thread(self._sleep, seconds))

    def _ask(self, run: Run, window: Window, data: NDArray[np.generic], mask: NDArray[np.bool_]) -> None:
        """All bands of a window, with those that say what is valid, in one go."""
        if self._far is None:
            raise AssertionError(run.href)
        masks = sorted({s.mask_index for s in run.sources if s.mask_index is not None})
        try:
            source = self._far.of(run.href)
            found = source.read((*run.indexes, *masks), window)
            own = source.valid(window)
        except SwatheError as error:
            raise _lost_far(run, window, error) from None
        data[...] = found[: len(data)]
        for band in found[len(data) :]:
            mask &= band != 0
        if own is not None:
            mask &= own

    # --- stubbornness of disks ----------------------------------------------------------------------------------

    def _fetch(self, run: Run, window: Window, data: NDArray[np.generic], mask: NDArray[np.bool_]) -> None:
        """In one go; if that fails, piece by piece, each as often as it takes."""
        try:
            self._take(run, window, data, mask)
        except FAILURES as error:
            if stays(error):
                raise _lost(run, window, error) from None
            self._sleep(self._access.retry.pause_s(1, run.href))
            for piece in window.split(PIECE):
                rows, cols = piece.within(window)
                self._insist(run, piece, data[:, rows, cols], mask[rows, cols])

    def _insist(self, run: Run, piece: Window, data: NDArray[np.generic], mask: NDArray[np.bool_]) -> None:
        try:
            retried(lambda: self._take(run, piece, data, mask), run.href, self._access.retry, self._sleep)
        except FAILURES as error:
            raise _lost(run, piece, error) from None

    def _take(self, run: Run, window: Window, data: NDArray[np.generic], mask: NDArray[np.bool_]) -> None:
        """One attempt. After a failure the file is closed, so that the next attempt begins anew."""
        place = RasterioWindow(window.col, window.row, window.width, window.height)  # type: ignore[call-arg]
        try:
            file = self._file(run.href)
            file.dataset.read(run.indexes, window=place, out=data)
            for index in {s.mask_index for s in run.sources if s.mask_index is not None}:
                mask &= file.dataset.read(index, window=place) != 0
            for index in file.masked.intersection(run.indexes):
                mask &= file.dataset.read_masks(index, window=place) != 0
        except FAILURES:
            self._forget(run.href)
            raise

    def _file(self, href: str) -> _File:
        if href not in self._files:
            dataset = self._access.open(href, self._driver(href))
            masked = frozenset(i for i in dataset.indexes if has_own_mask(dataset, i))
            self._files[href] = _File(dataset, masked)
        return self._files[href]

    def _driver(self, href: str) -> str:
        """The format, after making sure that the file is still the one that was looked at."""
        try:
            seen = glance(href)
        except ImageryError as error:
            raise changed(href, error.detail) from None
        same(href, self._versions.get(href, ""), version_of(href, seen.stamp))
        return seen.driver

    def _forget(self, href: str) -> None:
        file = self._files.pop(href, None)
        if file is not None:
            with suppress(*FAILURES), self._access.env(href):
                file.dataset.close()


def _hide(run: Run, data: NDArray[np.generic], mask: NDArray[np.bool_]) -> None:
    """Take pixels out of ``mask`` whose numbers mean nothing; ``data``: (C, h, w) of the run."""
    if run.sources[0].together and None not in run.nodata:
        mask &= np.logical_or.reduce([band != nodata for band, nodata in zip(data, run.nodata, strict=True)])
    for band, nodata, source in zip(data, run.nodata, run.sources, strict=True):
        if nodata is not None and not source.together:
            mask &= band != nodata
        if run.dtype.kind == "f":
            mask &= np.isfinite(band)


def _part(data: NDArray[np.generic], run: Run) -> NDArray[np.generic]:
    """The view of (T, C, h, w) that a run fills."""
    return data[run.date, run.first : run.first + len(run.sources)]


def _runs(imagery: Imagery) -> Iterator[Run]:
    for date, acquisition in enumerate(imagery.dates):
        first = 0
        for _, group in groupby(acquisition.bands, key=lambda b: (b.href, b.dtype)):
            sources = tuple(group)
            yield Run(date, first, sources, tuple(_sentinel(s) for s in sources))
            first += len(sources)


def _sentinel(source: BandSource) -> np.generic | None:
    """The nodata number in the file's own type; None where there is none, or none that the type can hold."""
    dtype, value = np.dtype(source.dtype), source.nodata
    if value is None or not np.isfinite(value):
        return None
    if dtype.kind == "f":
        return dtype.type(value) if abs(value) <= float(np.finfo(dtype).max) else None
    limits = np.iinfo(dtype)
    return dtype.type(int(value)) if value == int(value) and limits.min <= value <= limits.max else None


def _lost(run: Run, window: Window, error: BaseException) -> ReadError:
    return _lost_because(run, window, explain(error), _LATER)


def _lost_far(run: Run, window: Window, error: SwatheError) -> ReadError:
    """What the door says, with the bands and pixels that are lost by it."""
    if isinstance(error, ReadError) and error.problem.code == "read.changed":
        return error
    return _lost_because(run, window, error.detail.removeprefix(f"{shown(run.href)} "), error.hint or _LATER)


def _lost_because(run: Run, window: Window, why: str, hint: str) -> ReadError:
    names = ", ".join(s.name for s in run.sources)
    detail = (
        f"{names} of {shown(run.href)}, rows {window.row} to {window.bottom - 1}, columns {window.col} to "
        f"{window.right - 1}: {why}"
    )
    return ReadError(detail, code="read.lost", hint=hint)


def strip_cache_mb(imagery: Imagery, width: int, rows: int = 224) -> int:
    """Cache in MB that holds all blocks under a strip ``rows`` high and ``width`` wide, wherever it starts.

    Strips march down and overlap, so with one more row of blocks no block is decoded twice.
    """
    (block_rows, block_cols), (height, full) = imagery.block, imagery.shape
    down = min(-(-(rows - 1) // block_rows) + 2, -(-height // block_rows))
    across = min(-(-(width - 1) // block_cols) + 1, -(-full // block_cols))
    per_pixel = imagery.pixel_bytes or sum(np.dtype(b.dtype).itemsize for a in imagery.dates for b in a.bands)
    return -(-down * block_rows * across * block_cols * per_pixel // MIB) + 8
