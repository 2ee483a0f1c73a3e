"""Files at addresses that were named one by one: looked at, opened and read through the one door to the network."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

import rasterio

from pipelines.blocks.open import Opener
from pipelines.blocks.paged import OneFile, PagedFile
from pipelines.imagery.gdal import Retry
from pipelines.imagery.peek import changed, glance, same, version_of
from pipelines.remote.fetch import Fetcher
from pipelines.remote.network import Network
from swathe.errors import ImageryError
from swathe.scene import Asset
from swathe.source import Auth

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from pipelines.blocks.source import PixelSource
    from pipelines.imagery.limits import Limits
    from pipelines.remote.courier import Sleep
    from pipelines.remote.fetch import Counts, Facts


class RemoteFiles:
    """A fetcher, and how one proves who one is. Thread-safe."""

    def __init__(self, network: Network | None, retry: Retry, sleep: Sleep = asyncio.sleep) -> None:
        """Asks nobody yet; ``network`` None: public addresses alone. ``retry`` is the stubbornness."""
        self.fetcher = Fetcher(replace(network or Network(), retry=retry), sleep)
        self.auth = Auth()

    def __enter__(self) -> Self:
        """Close at the end of a ``with`` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End all requests."""
        self.fetcher.close()

    @property
    def limits(self) -> Limits:
        """What files may claim about themselves."""
        return self.fetcher.network.limits

    def facts(self, href: str) -> Facts:
        """Size, version and first bytes. Raises ReadError, ImageryError."""
        return self.fetcher.facts(href, self.auth)

    @contextmanager
    def opened(self, href: str, driver: str, size: int) -> Iterator[DatasetReader]:
        """The file as GDAL sees it, its bytes fetched here page by page: for headers and small looks.

        To be called inside ``Access.env``. Raises one of ``pipelines.imagery.gdal``'s FAILURES, or why bytes were lost.
        """
        paged, name = PagedFile(self.fetcher, href, self.auth, size), f"/{uuid.uuid4().hex}"
        try:
            with rasterio.open(name, driver=driver, opener=OneFile(name, paged), sharing=False) as dataset:
                yield dataset
        except Exception:
            if paged.lost is not None:  # the rest follows from that
                raise paged.lost from None
            raise
        if paged.lost is not None:  # GDAL may not have taken notice
            raise paged.lost


class Sources:
    """Files at addresses as sources of pixels, each made sure to be the one that was looked at. Thread-safe.

    A file is asked for anew as long as it was not opened; from then on every answer has to be of the same version.
    """

    def __init__(self, remote: RemoteFiles, versions: Mapping[str, str], cache_mb: int) -> None:
        """``versions`` by address, as ``version_of`` tells them; decoded blocks of up to ``cache_mb`` MB are kept."""
        self._remote, self._versions = remote, versions
        self._opener = Opener(remote.fetcher, remote.auth, cache_mb=cache_mb)
        self._open: dict[str, PixelSource] = {}

    @property
    def counts(self) -> Counts:
        """What was asked for so far."""
        return self._remote.fetcher.counts

    def of(self, href: str) -> PixelSource:
        """The source. Raises ReadError (``read.changed``, …), ImageryError (``url.*``, ``imagery.*``)."""
        if href not in self._open:
            try:
                seen = glance(href, self._remote)
            except ImageryError as error:
                raise changed(href, error.detail) if error.problem.code == "imagery.unreadable" else error from None
            same(href, self._versions.get(href, ""), version_of(href, seen.stamp))
            self._open[href] = self._opener.open(Asset("", href))
        return self._open[href]

    def close(self) -> None:
        """Let go of files, threads and connections."""
        self._opener.close()
        self._remote.close()
