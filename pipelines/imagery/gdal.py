"""GDAL, tamed: kept off the network, its options as values, its messages in one line."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import rasterio
from rasterio.errors import RasterioError

from swathe.imagery import is_remote

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

T = TypeVar("T")
FAILURES = (RasterioError, OSError)
"""What opening and reading raise."""
MIB = 1 << 20
OFFLINE = {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none"}
"""The one address that GDAL may ask by itself is none: whatever a file says or a caller forgets, bytes of the network
come through ``pipelines.remote``, which checks where they come from."""


@dataclass(frozen=True, slots=True)
class Retry:
    """How stubborn reading is."""

    attempts: int = 5
    """In all, for one piece of a file; a local file is tried twice."""
    base_s: float = 0.5
    """First pause; every further one is twice as long, times 0.5..1 at random so that actors do not march in step."""
    cap_s: float = 15.0
    """Longest pause."""
    timeout_s: float = 30.0
    """A request that brings less than 1 kB/s for so long counts as failed."""

    def pause_s(self, attempt: int, href: str) -> float:
        """After attempt 1, 2, …; a tenth of it for local files, where nobody is overloaded."""
        chance = 0.5 + 0.5 * random.random()  # noqa: S311  jitter, no secret
        return min(self.cap_s, self.base_s * 2 ** (attempt - 1)) * chance * (1.0 if is_remote(href) else 0.1)

    def tries(self, href: str) -> int:
        """Attempts for this file: a disk that fails twice will fail again."""
        return max(1, self.attempts if is_remote(href) else min(self.attempts, 2))


@dataclass(frozen=True, slots=True)
class Access:
    """How files are opened and read."""

    retry: Retry = Retry()
    """Stubbornness."""
    cache_mb: int = 256
    """GDAL's block cache. One per process, so that it must be given wherever GDAL is used; see strip_cache_mb."""
    threads: int = 1
    """Threads that decompress blocks of one file."""

    def options(self) -> dict[str, Any]:
        """GDAL configuration, for a ``rasterio.Env``; rasterio takes GDAL_CACHEMAX in bytes, GDAL itself in MB."""
        return {"GDAL_CACHEMAX": self.cache_mb * MIB, **OFFLINE}

    def env(self, href: str) -> rasterio.Env:
        """The options in force. Side files (.aux.xml, .msk, world files) are looked for beside local files only."""
        if is_remote(href):
            return rasterio.Env(**self.options(), GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO")
        return rasterio.Env(**self.options(), GDAL_DISABLE_READDIR_ON_OPEN="FALSE")

    def open(self, href: str, driver: str) -> DatasetReader:
        """Open a local file with this driver and no other. To be called inside ``env``; raises one of ``FAILURES``."""
        threads = {"num_threads": str(self.threads)} if driver == "GTiff" and self.threads > 1 else {}
        return rasterio.open(href, driver=driver, sharing=False, **threads)


def explain(error: BaseException) -> str:
    """The most telling message of an exception and its causes, on one line, without GDAL's own file names."""
    chain: list[str] = []
    link: BaseException | None = error
    while link is not None and len(chain) < 5:  # noqa: PLR2004  deep enough for rasterio
        chain.append(str(getattr(link, "errmsg", "") or link))
        link = link.__cause__ or link.__context__
    telling = [text for text in chain if "previous exception" not in text]
    text = " ".join((telling or chain)[0].split())
    return re.sub(r"([\w+.-]+://[^\s'\"?]+)\?[^\s'\"]*", r"\1", text)[:240].rstrip(".")


def stays(error: BaseException) -> bool:
    """Whether asking again is useless: the file is gone."""
    return isinstance(error, FileNotFoundError)


def retried(action: Callable[[], T], href: str, retry: Retry, sleep: Callable[[float], None]) -> T:
    """Do ``action`` until it works, asking again while that can help. Raises the last of its ``FAILURES``."""
    for attempt in range(1, retry.tries(href) + 1):
        try:
            return action()
        except FAILURES as error:
            if stays(error) or attempt == retry.tries(href):
                raise
            sleep(retry.pause_s(attempt, href))
    raise AssertionError(href)  # unreachable: the last attempt returns or raises
