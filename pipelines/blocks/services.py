"""Tile services as a source of pixels: red, green and blue, and what is transparent or missing has no data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pipelines.blocks.cache import Block, Key
from pipelines.blocks.matrix import matrix_of
from pipelines.blocks.shared import Shared
from pipelines.blocks.source import inside
from pipelines.blocks.tiff import corrupt
from pipelines.imagery.limits import check_window
from swathe.errors import ReadError
from swathe.imagery import shown
from swathe.scene import Asset, AssetGrid
from swathe.source import TileService
from swathe.window import Window

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA"}
"""What turns into red, green, blue and alpha without a loss."""
_GUESS = 24_000
"""Bytes of a tile of 256 x 256 pixels, until some were seen."""


class TileSource:
    """One zoom level of a tile service, as a ``PixelSource``: bands 1 to 3, and alpha as band 4."""

    count = 4
    dtype: np.dtype[np.generic] = np.dtype(np.uint8)
    overviews: tuple[AssetGrid, ...] = ()

    def __init__(self, asset: Asset, service: TileService, shared: Shared) -> None:
        """Raises ImageryError: see ``matrix_of``."""
        self._matrix, self._shared, self._href = matrix_of(asset.href, service), shared, asset.href
        self._name = f"{asset.href} {service!r}"
        self.grid, self.nodata = self._matrix.grid, asset.nodata
        self.block = (service.tile, service.tile)
        self._seen = (0, 0)
        self._missing: set[tuple[int, int]] = set()

    def read(self, indexes: tuple[int, ...], window: Window, level: int = 0) -> NDArray[np.generic]:
        """See ``PixelSource``. What the service does not have is 0 here and False in ``valid``."""
        self._check(window, level)
        check_window(self._href, window.area, self.count, self._shared.limits)
        out = np.empty((len(indexes), window.height, window.width), np.uint8)
        tile = self._matrix.tile
        for (row, col), block in self._tiles(window).items():
            cell = Window(row * tile, col * tile, tile, tile)
            part = cell.intersection(window)
            if part is not None:
                into, cut = part.within(window), part.within(cell)
                for n, index in enumerate(indexes):
                    out[(n, *into)] = block[(index - 1, *cut)]
        return out

    def valid(self, window: Window, level: int = 0) -> NDArray[np.bool_] | None:
        """See ``PixelSource``: what is not transparent."""
        return self.read((4,), window, level)[0] != 0

    def has(self, row: int, col: int) -> bool:
        """Whether the service has a tile at a pixel, be it transparent. Raises what ``read`` raises."""
        cell = row // self._matrix.tile, col // self._matrix.tile
        self._tiles(Window(row, col, 1, 1))
        return cell not in self._missing

    def bytes_of(self, window: Window, level: int = 0) -> int:
        """An estimate: tiles times the mean of those seen so far."""
        self._check(window, level)
        tiles, size = self._seen
        mean = size / tiles if tiles else _GUESS * (self._matrix.tile / 256) ** 2
        return round(mean * len(self._cells(window)))

    def prefetch(self, window: Window, level: int = 0) -> None:
        """See ``PixelSource``."""
        self._check(window, level)
        if len(self._cells(window)) * self._matrix.tile**2 * self.count <= self._shared.cache.bound / 2:
            self._shared.lanes.ahead(lambda: self._tiles(window))

    def _check(self, window: Window, level: int) -> None:
        if level:
            raise IndexError(level)
        inside(window, self.grid.shape, self._href)

    def _cells(self, window: Window) -> list[tuple[int, int]]:
        tile = self._matrix.tile
        down = range(window.row // tile, -(-window.bottom // tile))
        across = range(window.col // tile, -(-window.right // tile))
        return [(row, col) for row in down for col in across]

    def _tiles(self, window: Window) -> dict[tuple[int, int], Block]:
        keys = [(self._name, *cell) for cell in self._cells(window)]
        return {key[1:]: block for key, block in self._shared.cache.get(keys, self._load).items()}  # type: ignore[misc]

    def _load(self, keys: Sequence[Key]) -> Iterator[tuple[Key, Block]]:
        futures = [self._shared.lanes.ask.submit(self._tile, *key[1:]) for key in keys]
        try:
            for key, future in zip(keys, futures, strict=True):
                yield key, future.result()
        finally:
            for future in futures:
                future.cancel()

    def _tile(self, row: int, col: int) -> Block:
        """(4, tile, tile). Raises what the fetcher raises, except that a tile that is not there has no data."""
        url = self._matrix.url(row, col)
        try:
            data = self._shared.fetcher.whole(url, self._shared.auth, self._shared.limits.tile_mb)
        except ReadError as error:
            if error.problem.code != "read.gone":
                raise
            data = b""
        tile = self._matrix.tile
        if not data:
            self._missing.add((row, col))
            return np.zeros((4, tile, tile), np.uint8)
        self._seen = (self._seen[0] + 1, self._seen[1] + len(data))
        return picture(data, tile, shown(url))


def picture(data: bytes, tile: int, name: str) -> Block:
    """(4, tile, tile) red, green, blue, alpha. Raises ReadError (``read.corrupt``) for anything but such a picture."""
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as image:
            if image.size != (tile, tile):
                what = f"the tile has {image.width} x {image.height} pixels, the source says {tile} x {tile}"
                raise corrupt(name, what)
            if image.mode not in _MODES:
                raise corrupt(name, f"the tile holds numbers of kind {image.mode}, no picture")
            image.load()
            pixels = np.asarray(image.convert("RGBA"))
    except UnidentifiedImageError:
        raise corrupt(name, "the service answered with something else than a picture") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise corrupt(name, f"the tile cannot be decoded ({type(error).__name__})") from None
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
