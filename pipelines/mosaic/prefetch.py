"""Finished blocks, kept up to a bound; those that will be needed next are made ahead by a few threads."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from pipelines.mosaic.block import Block

Key = tuple[int, int, int]
"""(slot, row, col) of an anchored block."""
AHEAD = 3 / 8
"""Share of the bound for blocks that nobody has asked for yet."""
FIRST = 4
"""Blocks that are begun at once: those that a first batch of tiles needs."""
_MIB = 1 << 20


class Prefetcher:
    """Makes each block once while it is kept. Thread-safe; threads start with the first block.

    Blocks made ahead are kept until they are taken, and take ``AHEAD`` of the bound at most, so that what is being read
    is never pushed out by what will be.
    """

    def __init__(self, make: Callable[[Key], Block], threads: int, cache_mb: int) -> None:
        """Make blocks with ``make``, ``threads`` at a time; keep ``cache_mb`` MiB of them."""
        self._make = make
        self._threads = threads
        self._bound = cache_mb * _MIB
        self._lock = threading.RLock()
        self._pool: ThreadPoolExecutor | None = None
        self._doing: dict[Key, Future[Block]] = {}
        self._kept: OrderedDict[Key, Block] = OrderedDict()
        self._fresh: set[Key] = set()
        self._planned: deque[Key] = deque()
        self._largest = 0
        self._since = 0  # blocks made since something was planned

    def take(self, keys: Sequence[Key]) -> Iterator[tuple[Key, Block]]:
        """Blocks in the order asked for; a few are made at a time. Raises what making one raises."""
        waiting: deque[tuple[Key, Future[Block]]] = deque()
        for key in keys:
            waiting.append((key, self._want(key)))
            if len(waiting) > self._threads:
                yield self._got(*waiting.popleft())
        while waiting:
            yield self._got(*waiting.popleft())

    def ahead(self, keys: Iterable[Key]) -> None:
        """Make these next, while there is room; what was planned before is forgotten."""
        with self._lock:
            self._planned, self._since = deque(keys), 0
            self._fresh.intersection_update(self._planned)
        self._pump()

    def close(self) -> None:
        """Wait for what is being made, stop the threads, let go of everything."""
        with self._lock:
            self._planned.clear()
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(cancel_futures=True)
        with self._lock:
            self._doing.clear()
            self._kept.clear()
            self._fresh.clear()

    def _want(self, key: Key) -> Future[Block]:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                done: Future[Block] = Future()
                done.set_result(self._kept[key])
                return done
            return self._doing[key] if key in self._doing else self._begin(key)

    def _got(self, key: Key, future: Future[Block]) -> tuple[Key, Block]:
        block = future.result()
        with self._lock:
            self._fresh.discard(key)
            self._trim()
        self._pump()
        return key, block

    def _begin(self, key: Key) -> Future[Block]:
        """To be called with the lock held."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="mosaic")
        future = self._doing[key] = self._pool.submit(self._made, key)
        return future

    def _made(self, key: Key) -> Block:
        try:
            block = self._make(key)
        except BaseException:
            with self._lock:
                self._doing.pop(key, None)
                self._fresh.discard(key)
            raise
        with self._lock:
            self._doing.pop(key, None)
            self._kept[key] = block
            self._since += 1
            self._largest = max(self._largest, block.nbytes)
            self._trim()
        self._pump()
        return block

    def _trim(self) -> None:
        """Let go of the blocks that were used longest ago, but of none that was made ahead. With the lock held."""
        total = sum(block.nbytes for block in self._kept.values())
        for key in [k for k in self._kept if k not in self._fresh]:
            if total <= self._bound:
                return
            total -= self._kept.pop(key).nbytes

    def _pump(self) -> None:
        """Begin what is planned while threads are idle and there is room for it.

        A few, then one more for each that was made: all that are begun share the network, and whoever reads waits for
        the first ones.
        """
        with self._lock:
            most = min(self._threads, FIRST + self._since)
            while self._planned and len(self._doing) < most and self._room():
                key = self._planned.popleft()
                if key not in self._kept and key not in self._doing:
                    self._fresh.add(key)
                    self._begin(key)

    def _room(self) -> bool:
        """Nothing is known of the size of blocks before the first is made; then, one per thread is begun."""
        return (len(self._fresh) + 1) * self._largest <= self._bound * AHEAD
