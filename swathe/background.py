"""An event loop in a thread of its own, for callers that know nothing of loops."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Runs coroutines until it is closed, or forgotten, or the program ends."""

    def __init__(self, name: str) -> None:
        """Starts the thread."""
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name=name, daemon=True)
        self._thread.start()
        self._last: list[Callable[[], Awaitable[object]]] = []
        self._stop = weakref.finalize(self, _stop, self.loop, self._thread, self._last)

    def at_end(self, work: Callable[[], Awaitable[object]]) -> None:
        """Done last of all, even where nobody closes; ``work`` may hold no reference to this object."""
        self._last.append(work)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result, in the calling thread.

        Raises RuntimeError when closed, in a child of a fork (it has no such thread), and in the loop itself.
        """
        if not self._stop.alive or not self._thread.is_alive() or threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("this cannot be waited for here")
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """Cancel what runs, end the thread. May be called again."""
        self._stop()


def _stop(
    loop: asyncio.AbstractEventLoop, thread: threading.Thread, last: list[Callable[[], Awaitable[object]]]
) -> None:
    """Knows nothing of the object, which would otherwise live as long as the thread."""
    if not thread.is_alive() or threading.current_thread() is thread:
        return
    asyncio.run_coroutine_threadsafe(_end(last), loop).result(timeout=10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(timeout=10)
    loop.close()


async def _end(last: list[Callable[[], Awaitable[object]]]) -> None:
    own = asyncio.current_task()
    tasks = [task for task in asyncio.all_tasks() if task is not own]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.gather(*(work() for work in last), return_exceptions=True)
    await asyncio.get_running_loop().shutdown_default_executor()
