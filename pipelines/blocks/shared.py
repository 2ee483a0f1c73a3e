"""What all sources of a process share: the door to the network, decoded blocks, threads, limits."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import rasterio

from pipelines.blocks.cache import BlockCache
from pipelines.imagery.limits import Limits
from swathe.source import Auth

if TYPE_CHECKING:
    from pipelines.remote.fetch import Fetcher


def _gdal_for_good() -> None:
    """GDAL's environment for the life of this thread: rasterio makes one anew at every opening where there is none."""
    rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_PAM_ENABLED="NO").__enter__()


class Lanes:
    """Four pools, so that no task ever waits for a task of its own pool."""

    def __init__(self, decode: int, ask: int = 16, ahead: int = 4, waiting: int = 256) -> None:
        """``decode``: threads that unpack blocks; ``ask``: requests of tile services at once, and headers.

        ``ahead``: reads ahead; ``waiting``: reads ahead that may wait for their turn; one more is not taken.
        """
        self.width = decode
        self.decode = ThreadPoolExecutor(decode, thread_name_prefix="decode", initializer=_gdal_for_good)
        self.ask = ThreadPoolExecutor(ask, thread_name_prefix="tiles")
        self._ahead = ThreadPoolExecutor(ahead, thread_name_prefix="ahead")
        self._begin = ThreadPoolExecutor(ask, thread_name_prefix="open")
        self._room = threading.BoundedSemaphore(waiting)

    def ahead(self, task: Callable[[], object]) -> None:
        """Do this some time; what it raises is dropped, because whoever reads in earnest will meet it again."""
        if not self._room.acquire(blocking=False):
            return
        try:
            future = self._ahead.submit(task)
        except RuntimeError:  # closed
            self._room.release()
            return
        future.add_done_callback(lambda _: self._room.release())

    def begin(self, task: Callable[[], object]) -> None:
        """Open a file some time soon; what goes wrong is dropped, as in ``ahead``."""
        with suppress(RuntimeError):  # closed
            self._begin.submit(task)

    def close(self) -> None:
        """Finish what is under way, drop the rest."""
        for pool in (self._ahead, self._begin, self.ask, self.decode):
            pool.shutdown(cancel_futures=True)


class Restful(Protocol):
    """A file that can let go of what it holds, and takes it up again when it is next used."""

    def rest(self) -> None:
        """Let go."""
        ...


class Awake:
    """The files that hold memory just now: no more than so many; the one longest unused has to rest."""

    def __init__(self, most: int = 24) -> None:
        """``most`` files."""
        self._most = most
        self._lock = threading.Lock()
        self._files: OrderedDict[int, Restful] = OrderedDict()

    def touch(self, file: Restful) -> None:
        """It is being used."""
        with self._lock:
            self._files[id(file)] = file
            self._files.move_to_end(id(file))
            tired = [self._files.popitem(last=False)[1] for _ in range(len(self._files) - self._most)]
        for other in tired:
            other.rest()


@dataclass(frozen=True, slots=True)
class Shared:
    """Given to every source."""

    fetcher: Fetcher
    """The one door to the network."""
    auth: Auth
    """How one proves who one is there."""
    cache: BlockCache
    """Decoded blocks."""
    lanes: Lanes
    """Threads."""
    limits: Limits
    """What files may claim."""
    awake: Awake = field(default_factory=Awake)
    """Files that GDAL holds open."""
