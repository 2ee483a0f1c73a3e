"""Rasters of results, opened where they lie: files of a folder by GDAL, objects of a store page by page.

GDAL never reaches the network: pages of stored objects are fetched by the store's own client, and a bounded number of
them is kept for whoever draws next.
"""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import rasterio

from pipelines.blocks.paged import OneFile, PagedFile
from pipelines.imagery.gdal import FAILURES, OFFLINE, explain
from pipelines.imagery.limits import MIB
from pipelines.store.folder import FolderBlobs
from swathe.errors import NotFoundError, ReadError
from swathe.source import Auth

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from pipelines.store.blobs import Blobs

_PAGES = 8 * MIB
"""Kept of one object by one reader."""
_READERS = 24
"""That rest with their pages; the one longest unused goes first."""
_CACHE_MB = 64
_FACTORS = 1024
"""Files whose overviews are remembered."""
_ENV: dict[str, Any] = {"GDAL_CACHEMAX": _CACHE_MB * MIB, "GDAL_PAM_ENABLED": "NO", **OFFLINE,
                        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class RasterFile:
    """One of them."""

    blobs: Blobs
    """Where it lies."""
    name: str
    """There."""
    version: str
    """Changes with its bytes."""


class Files:
    """Of one process. Thread-safe; every reader belongs to one thread at a time."""

    def __init__(self) -> None:
        """Nothing is open."""
        self._lock = threading.Lock()
        self._resting: OrderedDict[str, tuple[tuple[str, str], PagedFile]] = OrderedDict()
        self._factors: OrderedDict[tuple[str, str], tuple[int, ...]] = OrderedDict()

    @contextmanager
    def opened(self, file: RasterFile, factor: float = 1.0) -> Iterator[DatasetReader]:
        """The file at its coarsest overview that is no coarser than ``factor`` of its pixels.

        Raises NotFoundError (``layer.gone``) where it is not there any more, ReadError.
        """
        with self._told(file), rasterio.Env(**_ENV), self._source(file) as (name, options):
            level = _level(self._overviews(file, name, options), factor)
            at: dict[str, Any] = {} if level is None else {"overview_level": level}
            with rasterio.open(name, driver="GTiff", sharing=False, **options, **at) as dataset:
                yield dataset

    def _overviews(self, file: RasterFile, name: str, options: dict[str, Any]) -> tuple[int, ...]:
        key = (file.blobs.place, f"{file.name}@{file.version}")
        found = self._factors.get(key)
        if found is None:
            with rasterio.open(name, driver="GTiff", sharing=False, **options) as dataset:
                found = tuple(dataset.overviews(1))
            with self._lock:
                self._factors[key] = found
                while len(self._factors) > _FACTORS:
                    self._factors.popitem(last=False)
        return found

    @contextmanager
    def _source(self, file: RasterFile) -> Iterator[tuple[str, dict[str, Any]]]:
        """Path and options by which GDAL opens it."""
        if isinstance(file.blobs, FolderBlobs):
            yield str(file.blobs.root / file.name), {}
            return
        pages = self._awake(file)
        name = f"/{uuid.uuid4().hex}"
        try:
            yield name, {"opener": OneFile(name, pages)}
        finally:
            if pages.lost is not None:
                raise pages.lost
            self._rest(file, pages)

    def _awake(self, file: RasterFile) -> PagedFile:
        key = (file.blobs.place, f"{file.name}@{file.version}")
        with self._lock:
            found = next((name for name, (of, _) in reversed(self._resting.items()) if of == key), None)
            if found is not None:
                return self._resting.pop(found)[1]
        blob = file.blobs.look(file.name)
        if blob is None:
            raise FileNotFoundError(file.name)
        return PagedFile(_Spans(file.blobs), file.name, Auth(), blob.size, kept=_PAGES)

    def _rest(self, file: RasterFile, pages: PagedFile) -> None:
        key = (file.blobs.place, f"{file.name}@{file.version}")
        with self._lock:
            self._resting[uuid.uuid4().hex] = (key, pages)
            while len(self._resting) > _READERS:
                self._resting.popitem(last=False)

    @contextmanager
    def _told(self, file: RasterFile) -> Iterator[None]:
        try:
            yield
        except FAILURES as error:
            if isinstance(error, FileNotFoundError) or file.blobs.look(file.name) is None:
                raise NotFoundError(f"the file {file.name} is not there any more", code="layer.gone") from None
            raise ReadError(
                f"{file.name}: {explain(error)}".replace(file.blobs.place, ""), code="read.corrupt"
            ) from None


@dataclass(frozen=True, slots=True)
class _Spans:
    """A store, asked as ``PagedFile`` asks."""

    blobs: Blobs

    def ranges(self, href: str, spans: Sequence[tuple[int, int]], auth: Auth) -> list[bytes]:  # noqa: ARG002  a Fetcher's
        """One request: the pages that are missing lie side by side, or nearly."""
        first, last = spans[0][0], spans[-1][1]
        whole = self.blobs.get_range(href, first, last)
        return [whole[start - first : stop - first] for start, stop in spans]


def _level(factors: Sequence[int], factor: float) -> int | None:
    fitting = [level for level, found in enumerate(factors) if found <= factor * 1.01]
    return fitting[-1] if fitting else None
