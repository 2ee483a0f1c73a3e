"""Two small threads around the forward: one reads ahead, one writes behind."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")
_END = object()


def ahead(items: Iterator[T], depth: int = 1) -> Generator[T]:
    """Give the same items, made by a thread that stays at most ``depth`` ahead; its error is raised here.

    When the consumer stops early the thread ends at its next item.
    """
    ready: queue.SimpleQueue[object] = queue.SimpleQueue()
    # Taken before an item is begun: a queue of that size would let one more be made and held in hand.
    room, stop, ended = threading.Semaphore(depth), threading.Event(), threading.Event()

    def produce() -> None:
        item: object = None
        try:
            while item is not _END:
                room.acquire()
                if stop.is_set():
                    return
                item = next(items, _END)
                ready.put(item)
        except BaseException as error:  # noqa: BLE001  carried to the consumer, which raises it
            ready.put(_Raised(error))
        finally:
            ended.set()

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    try:
        thread.start()  # an interruption may hit this as well, when the thread is already on its way
        while (item := ready.get()) is not _END:
            if isinstance(item, _Raised):
                raise item.error
            room.release()
            yield item  # type: ignore[misc]
    finally:
        stop.set()
        room.release()
        if thread.ident is not None:
            _insist(ended.wait)


def _insist(step: Callable[[], object]) -> None:
    """Do a step of ending a thread, also when interrupted meanwhile.

    The thread is inside GDAL: whoever left now would close its files, or end the process, under it. Its end is an
    event, because a ``Thread.join`` that is interrupted takes the thread for ended (CPython up to 3.12).
    """
    try:
        step()
    except BaseException:
        step()
        raise


class _Raised:
    def __init__(self, error: BaseException) -> None:
        self.error = error


class Behind(Generic[T]):
    """Calls ``consume`` for every item put in, in order, in a thread; an error is raised at the next put or the end.

    A context manager: leaving it waits for the last item (and drops the rest when leaving through an error).
    """

    def __init__(self, consume: Callable[[T], None], depth: int = 2) -> None:
        """Start the thread; ``depth`` items may wait before ``put`` blocks."""
        self._consume = consume
        self._waiting: queue.Queue[object] = queue.Queue(maxsize=depth)
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="write-behind", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            self._consume_all()
        finally:
            self._ended.set()

    def _consume_all(self) -> None:
        while (item := self._waiting.get()) is not _END:
            if self._error is not None:
                continue
            try:
                self._consume(item)  # type: ignore[arg-type]
            except BaseException as error:  # noqa: BLE001  carried to the producer, which raises it
                self._error = error
            del item  # as long as it waits for the next one

    def put(self, item: T) -> None:
        """Hand over one item."""
        self._raise()
        self._waiting.put(item)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> Behind[T]:
        return self

    def __exit__(self, kind: object, *_rest: object) -> None:
        try:
            _insist(lambda: self._waiting.put(_END))
        finally:
            _insist(self._ended.wait)
        if kind is None:
            self._raise()
