"""What cannot be read by blocks, through GDAL: JPEG 2000, PNG, JPEG, and TIFFs of a single huge strip.

GDAL never asks the network itself: it is given bytes, of the whole file where that is small, else page by page.
"""

from __future__ import annotations

import threading
import uuid
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import NotGeoreferencedWarning
from rasterio.io import MemoryFile
from rasterio.windows import Window as RasterioWindow

from pipelines.blocks.georeference import Georeference, coarser, georeference, settle
from pipelines.blocks.paged import OneFile, PagedFile
from pipelines.blocks.shared import Shared
from pipelines.blocks.source import inside
from pipelines.blocks.tiff import corrupt
from pipelines.imagery.gdal import FAILURES, explain
from pipelines.imagery.header import has_own_mask
from pipelines.imagery.limits import MIB, WHOLE, check_shape, check_window, refuse
from swathe.errors import ImageryError
from swathe.imagery import shown
from swathe.scene import Asset, AssetGrid
from swathe.window import Window

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

T = TypeVar("T")
_MAGIC = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
}
_ENV: dict[str, Any] = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": "NO"}
_WARNINGS = threading.Lock()


def driver_of(href: str, head: bytes) -> str:
    """The driver that the first bytes call for. Raises ImageryError (``imagery.unreadable``) where there is none."""
    found = next((driver for magic, driver in _MAGIC.items() if head.startswith(magic)), None)
    if found is None:
        what = "is empty" if not head else "is no image that is read here"
        hint = "give GeoTIFF or JPEG 2000 (PNG and JPEG where their place is known)"
        raise ImageryError(f"{shown(href)} {what}", code="imagery.unreadable", hint=hint)
    return found


class GdalFile:
    """One file, open in a thread of its own: a dataset is no good in two."""

    def __init__(self, href: str, shared: Shared, size: int, driver: str) -> None:
        """Raises ReadError (``read.corrupt``), ImageryError (``imagery.limits``), and what the fetcher raises."""
        self.href, self.size = href, size
        self._shared, self._driver = shared, driver
        self._lane = ThreadPoolExecutor(1, thread_name_prefix="gdal")
        self._stack = ExitStack()
        self._levels: list[DatasetReader] = []
        self._paged: PagedFile | None = None
        try:
            self._do(self._look)
        except BaseException:
            self.close()
            raise

    def rest(self) -> None:
        """Let go of bytes and datasets; the next read takes them up again. Does not wait."""
        with suppress(RuntimeError):  # closed
            self._lane.submit(self._release)

    def close(self) -> None:
        """Close the file and its thread."""
        self.rest()
        self._lane.shutdown()

    def _release(self) -> None:
        self._levels.clear()
        self._stack.close()
        self._paged = None

    def _do(self, action: Callable[[], T]) -> T:
        """In the file's own thread; GDAL's failures become ReadErrors."""
        self._shared.awake.touch(self)
        return self._lane.submit(self._guarded, action).result()

    def _guarded(self, action: Callable[[], T]) -> T:
        try:
            with rasterio.Env(**_ENV):
                if not self._levels:
                    self._begin()
                return self._whole(action())
        except FAILURES as error:
            self._whole(None)
            self._release()
            raise corrupt(self.href, explain(error)) from None

    def _whole(self, result: T) -> T:
        """The result, unless bytes were lost on the way, of which GDAL may not have taken notice."""
        lost = self._paged.lost if self._paged is not None else None
        if lost is not None:
            self._release()
            raise lost
        return result

    def _begin(self) -> None:
        shared, limit = self._shared, self._shared.limits.whole_mb
        data = b""
        if self.size <= limit * MIB:
            data = shared.fetcher.whole(self.href, shared.auth, limit)
        else:
            self._paged = PagedFile(shared.fetcher, self.href, shared.auth, self.size)
        main = self._open(data)
        self._levels = [main, *(self._open(data, level) for level in range(len(main.overviews(1))))]

    def _look(self) -> None:
        main = self._levels[0]
        if main.dtypes[0].startswith("complex") or len(set(main.dtypes)) > 1:
            hint = "turn them into amplitude, intensity or dB first; give bands of one type"
            what = f"{shown(self.href)} holds complex numbers, or bands of several types"
            raise ImageryError(what, code="imagery.complex", hint=hint)
        check_shape(self.href, main.shape, main.count, self._shared.limits)
        rows, cols = main.block_shapes[0] if self._driver in ("GTiff", "JP2OpenJPEG") else main.shape
        if rows * cols * main.count > self._shared.limits.pixels:
            what = f"can only be decoded as a whole, {main.shape[0]} x {main.shape[1]} pixels"
            raise refuse(self.href, what, WHOLE)
        self.place: Georeference = georeference(main)
        names = [colour.name for colour in main.colorinterp]
        self.alpha = names.index("alpha") + 1 if "alpha" in names else None
        self.masked = self.alpha is None and has_own_mask(main, 1)
        self.dtype, self.count, self.nodata = np.dtype(main.dtypes[0]), main.count, main.nodata
        self.block: tuple[int, int] = main.block_shapes[0]
        self.shapes = [level.shape for level in self._levels]

    def _open(self, data: bytes, overview: int | None = None) -> DatasetReader:
        options: dict[str, Any] = {} if overview is None else {"overview_level": overview}
        with _WARNINGS, warnings.catch_warnings():  # the lock: filters are everybody's
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            if self._paged is None:
                memory = self._stack.enter_context(MemoryFile(data))
                return self._stack.enter_context(memory.open(driver=self._driver, sharing=False, **options))
            name = f"/{uuid.uuid4().hex}"
            file = rasterio.open(name, driver=self._driver, opener=OneFile(name, self._paged), sharing=False, **options)
            return self._stack.enter_context(file)

    def read(self, level: int, indexes: tuple[int, ...], window: Window) -> NDArray[np.generic]:
        """(n, h, w)."""
        return self._do(lambda: self._levels[level].read(list(indexes), window=_place(window)))

    def mask(self, level: int, window: Window) -> NDArray[np.bool_]:
        """(h, w), the file's own mask."""
        return self._do(lambda: self._levels[level].read_masks(1, window=_place(window)) != 0)


def _place(window: Window) -> RasterioWindow:
    return RasterioWindow(window.col, window.row, window.width, window.height)  # type: ignore[call-arg]


class GdalSource:
    """One asset in such a file, as a ``PixelSource``."""

    def __init__(self, asset: Asset, file: GdalFile, shared: Shared) -> None:
        """Raises GridError where the file's place is not known, or is not what the catalogue says."""
        self._file, self._shared, self._index = file, shared, asset.index
        self.grid = settle(asset.href, file.shapes[0], file.place, asset.grid)
        self.overviews: tuple[AssetGrid, ...] = tuple(coarser(self.grid, shape) for shape in file.shapes[1:])
        self.dtype, self.count, self.block = file.dtype, file.count, file.block
        self.nodata = file.nodata if asset.nodata is None else asset.nodata

    def read(self, indexes: tuple[int, ...], window: Window, level: int = 0) -> NDArray[np.generic]:
        """See ``PixelSource``."""
        inside(window, self._file.shapes[level], self._file.href)
        check_window(self._file.href, window.area, len(indexes) * self.dtype.itemsize, self._shared.limits)
        return self._file.read(level, indexes, window)

    def valid(self, window: Window, level: int = 0) -> NDArray[np.bool_] | None:
        """See ``PixelSource``."""
        inside(window, self._file.shapes[level], self._file.href)
        if self._file.masked:
            return self._file.mask(level, window)
        return None if self._file.alpha is None else self.read((self._file.alpha,), window, level)[0] != 0

    def bytes_of(self, window: Window, level: int = 0) -> int:
        """The window's share of the file: how it is spread over the bytes is known to GDAL alone."""
        rows, cols = self._file.shapes[level]
        share = window.area / (rows * cols)
        smaller = rows * cols / (self.grid.shape[0] * self.grid.shape[1])
        return round(self._file.size * share * smaller)

    def prefetch(self, window: Window, level: int = 0) -> None:
        """See ``PixelSource``: the window is decoded into GDAL's own cache."""
        self._shared.lanes.ahead(lambda: self.read((self._index,), window, level))
