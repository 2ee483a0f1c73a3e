"""From an asset to its source of pixels: tiles, a TIFF by its blocks, or anything else through GDAL."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pipelines.blocks.cache import BlockCache
from pipelines.blocks.cog import CogSource, TiffFile, open_tiff
from pipelines.blocks.gdal import GdalFile, GdalSource, driver_of
from pipelines.blocks.services import TileSource
from pipelines.blocks.shared import Lanes, Shared
from pipelines.blocks.source import PixelSource
from swathe.errors import BandError, ImageryError, SwatheError
from swathe.imagery import shown
from swathe.scene import Asset
from swathe.source import Auth, TileService

if TYPE_CHECKING:
    from pipelines.imagery.limits import Limits
    from pipelines.remote.fetch import Fetcher

_FOR_GOOD = ("read.gone", "read.corrupt")
_HELD = 4096
"""Headers of files that are kept; the one longest unused goes first."""


class Opener:
    """One per process: keeps files open, and decoded blocks within a bound. Thread-safe.

    It holds threads and GDAL handles, so it is never sent anywhere: send what it is made of.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        auth: Auth,
        tiles: TileService | None = None,
        cache_mb: int = 256,
        *,
        limits: Limits | None = None,
        threads: int | None = None,
    ) -> None:
        """``tiles``: assets are tile services of this kind. ``limits``: None for those of the fetcher's network.

        ``threads`` decode; None: one per core, at most 8.
        """
        lanes = Lanes(threads or min(8, os.cpu_count() or 1))
        self._shared = Shared(fetcher, auth, BlockCache(cache_mb), lanes, limits or fetcher.network.limits)
        self._service = tiles
        self._lock = threading.Lock()
        self._doors: dict[str, threading.Lock] = {}
        self._files: dict[str, TiffFile | GdalFile] = {}
        self._refused: dict[str, SwatheError] = {}
        self._sources: dict[Asset, PixelSource] = {}

    def __enter__(self) -> Self:
        """Close at the end of a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def open(self, asset: Asset) -> PixelSource:
        """The source behind an asset; the header is read once per file, whoever asks, and kept.

        Raises ReadError (``read.lost``, ``read.corrupt``, …), ImageryError (``imagery.unreadable``,
        ``imagery.limits``, ``tiles.*``), GridError, BandError.
        """
        with self._lock:
            found = self._sources.get(asset)
        if found is None:
            found = self._open(asset)
            with self._lock:
                self._sources[asset] = found
                while len(self._sources) > _HELD:
                    self._sources.pop(next(iter(self._sources)))
        return found

    def expect(self, assets: Iterable[Asset]) -> None:
        """Begin to open them, side by side: a header is a round trip. What goes wrong is told to whoever opens one."""
        if self._service is not None:
            return
        for asset in assets:
            with self._lock:
                begun = asset.href in self._doors
                self._doors.setdefault(asset.href, threading.Lock())
            if not begun:
                self._shared.lanes.begin(lambda a=asset: self.open(a))

    def close(self) -> None:
        """Let go of files, blocks and threads; the fetcher stays open, it is not ours."""
        with self._lock:
            files = list(self._files.values())
            self._files.clear()
            self._sources.clear()
        self._shared.lanes.close()
        for file in files:
            if isinstance(file, GdalFile):
                file.close()

    def _open(self, asset: Asset) -> PixelSource:
        if self._service is not None:
            source: PixelSource = TileSource(asset, self._service, self._shared)
        else:
            if asset.origin is not None:
                self._shared.fetcher.remember(asset.href, asset.origin)
            file = self._file(asset.href)
            kind = CogSource if isinstance(file, TiffFile) else GdalSource
            source = kind(asset, file, self._shared)  # type: ignore[arg-type]
        if asset.index > source.count:
            what = f"{shown(asset.href)} has {source.count} bands, {asset.name} would be number {asset.index}"
            raise BandError(what, code="band.missing", hint="correct the index of the band in the source's card")
        return source

    def _file(self, href: str) -> TiffFile | GdalFile:
        with self._lock:
            door = self._doors.setdefault(href, threading.Lock())
        with door:  # whoever comes second finds it open
            with self._lock:
                found, refused = self._files.get(href), self._refused.get(href)
            if refused is not None:
                make, facts = refused.__reduce__()
                raise make(*facts)  # type: ignore[operator]  an error of its own for everyone who asks
            if found is None:
                found = self._look(href)
                with self._lock:
                    self._files[href] = found
                    tired = next(iter(self._files)) if len(self._files) > _HELD else href
                    if tired != href:
                        self._files.pop(tired)
            return found

    def _look(self, href: str) -> TiffFile | GdalFile:
        """Open; a file that is no good is remembered as such, so that not every block of a map asks for it again."""
        try:
            return self._begin(href)
        except SwatheError as error:
            if isinstance(error, ImageryError) or error.problem.code in _FOR_GOOD:
                with self._lock:
                    self._refused[href] = error
            raise

    def _begin(self, href: str) -> TiffFile | GdalFile:
        facts = self._shared.fetcher.facts(href, self._shared.auth)
        driver = driver_of(href, facts.head)
        found = open_tiff(href, self._shared, facts.size, facts.head) if driver == "GTiff" else None
        return found or GdalFile(href, self._shared, facts.size, driver)
