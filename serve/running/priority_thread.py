"""What waits for one thread: small things go ahead of others, and others still come every second time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class PriorityThread:
    """One thread that does one thing after the other; what it keeps open is opened and used by the same thread."""

    def __init__(self, name: str) -> None:
        """``name``: of the thread, which ends with the process."""
        self._small: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._others: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._come = threading.Condition()
        self._small_last = False
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def do(self, work: Callable[[], T], *, small: bool = False) -> T:
        """What ``work`` gives, when its turn has come; raises what it raises.

        A small one waits for what is under way and for one other at most; of each kind, who came first goes first.
        """
        future: Future[T] = Future()
        with self._come:
            (self._small if small else self._others).append((work, future))
            self._come.notify()
        return future.result()

    def _work(self) -> None:
        while True:
            _settle(*self._next())

    def _next(self) -> tuple[Callable[[], Any], Future[Any]]:
        with self._come:
            self._come.wait_for(lambda: self._small or self._others)
            self._small_last = bool(self._small) and not (self._small_last and self._others)
            return (self._small if self._small_last else self._others).popleft()


def _settle(work: Callable[[], Any], future: Future[Any]) -> None:
    try:
        given = work()
    except BaseException as error:  # noqa: BLE001  it is raised where it was asked for
        future.set_exception(error)
    else:
        future.set_result(given)
