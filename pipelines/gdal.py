"""GDAL, tamed: its options as values, its messages in one line, and faults that pass told from those that stay."""

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
"""What opening and reading raise; urllib's errors are OSErrors."""
MIB = 1 << 20
NO_RANGES = "Range downloading not supported"
"""GDAL's words for a server that sends whole files only."""
_CODE = re.compile(r"HTTP (?:response code|error)[: ]+(\d{3})", re.IGNORECASE)
_PASSING = {408, 425, 429}


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
        """GDAL configuration, for a ``rasterio.Env`` in the calling thread.

        rasterio takes GDAL_CACHEMAX in bytes (GDAL itself in MB). NON_CACHED makes GDAL forget what it knows of a
        URL when its dataset is closed: without it, one failed request is repeated from memory for ever.
        """
        seconds = max(1, round(self.retry.timeout_s))
        return {
            "GDAL_CACHEMAX": self.cache_mb * MIB,
            "GDAL_HTTP_MULTIPLEX": True,
            "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": True,
            "GDAL_HTTP_LOW_SPEED_TIME": seconds,
            "GDAL_HTTP_LOW_SPEED_LIMIT": 1000,
            "GDAL_HTTP_CONNECTTIMEOUT": min(seconds, 15),
            "GDAL_HTTP_MAX_RETRY": 1,
            "GDAL_HTTP_RETRY_DELAY": self.retry.base_s,
            "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http:/vsis3/",
        }

    def env(self, href: str) -> rasterio.Env:
        """The options in force. Side files (.aux.xml, .msk, world files) are looked for beside local files only."""
        remote = is_remote(href)
        listing = "EMPTY_DIR" if remote else "FALSE"
        return rasterio.Env(**self.options(), GDAL_DISABLE_READDIR_ON_OPEN=listing, VSI_CACHE=remote)

    def open(self, href: str, driver: str) -> DatasetReader:
        """Open with this driver and no other. To be called inside ``env``; raises one of ``FAILURES``."""
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
    text = re.sub(r"/vsi(?:curl|s3)/", "", text)
    return re.sub(r"([\w+.-]+://[^\s'\"?]+)\?[^\s'\"]*", r"\1", text)[:240].rstrip(".")


def status_of(error: BaseException) -> int | None:
    """HTTP status that an error tells of, or None."""
    code = getattr(error, "code", None)
    if isinstance(code, int):
        return code
    match = _CODE.search(explain(error))
    return int(match[1]) if match else None


def stays(error: BaseException) -> bool:
    """Whether asking again is useless: the file is gone, forbidden, or the server cannot serve ranges."""
    status = status_of(error)
    if status is not None:
        return 400 <= status < 500 and status not in _PASSING  # noqa: PLR2004  HTTP's classes
    return isinstance(error, FileNotFoundError) or NO_RANGES in explain(error)


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
