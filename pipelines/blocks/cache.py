"""Decoded blocks, the latest within a bound of memory; what several threads want at once is fetched by one of them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.imagery.limits import MIB

Block = NDArray[np.generic]
Key = tuple[Any, ...]
"""The file, then which block of it."""
Promised = dict[Key, Future[Block]]
"""Blocks on their way."""
Load = Callable[[Sequence[Key]], Iterable[tuple[Key, Block]]]
"""Fetches and decodes; gives every block that it was asked for."""


class BlockCache:
    """Shared by all sources of a process. Thread-safe."""

    def __init__(self, mb: int) -> None:
        """Keep at most ``mb`` megabytes; blocks that somebody still holds do not count."""
        self._bound = mb * MIB
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Block] = OrderedDict()
        self._coming: dict[Key, Future[Block]] = {}
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    @property
    def bound(self) -> int:
        """Bytes that may be held."""
        return self._bound

    def missing(self, keys: Iterable[Key]) -> list[Key]:
        """Those that are neither here nor on their way."""
        with self._lock:
            return [key for key in keys if key not in self._kept and key not in self._coming]

    def get(self, keys: Sequence[Key], load: Load) -> dict[Key, Block]:
        """All of them: from memory, from whoever is fetching them just now, or by one call of ``load`` for the rest.

        Raises what ``load`` raises, also to those who waited for it.
        """
        found, waiting, mine = self._claim(keys)
        if mine:
            found |= self._load(list(mine), load, mine)
        # Only after one's own are done: two threads that wait for each other would wait for ever.
        return found | {key: future.result() for key, future in waiting.items()}

    def _claim(self, keys: Sequence[Key]) -> tuple[dict[Key, Block], Promised, Promised]:
        found: dict[Key, Block] = {}
        waiting: Promised = {}
        mine: Promised = {}
        with self._lock:
            for key in dict.fromkeys(keys):
                if key in self._kept:
                    self._kept.move_to_end(key)
                    found[key] = self._kept[key]
                elif key in self._coming:
                    waiting[key] = self._coming[key]
                else:
                    mine[key] = self._coming[key] = Future()
        return found, waiting, mine

    def _load(self, keys: list[Key], load: Load, promised: Promised) -> dict[Key, Block]:
        found: dict[Key, Block] = {}
        try:
            for key, block in load(keys):
                block.setflags(write=False)
                found[key] = block
                self._keep(key, block)
                promised[key].set_result(block)
        except BaseException as error:
            self._give_up(promised, error)
            raise
        return found

    def _keep(self, key: Key, block: Block) -> None:
        with self._lock:
            self._coming.pop(key, None)
            self._kept[key] = block
            self._size += block.nbytes
            while self._size > self._bound and self._kept:
                _, old = self._kept.popitem(last=False)
                self._size -= old.nbytes

    def _give_up(self, promised: Promised, error: BaseException) -> None:
        with self._lock:
            for key in promised:
                self._coming.pop(key, None)
        for future in promised.values():
            if not future.done():
                future.set_exception(error)
