"""Downloads within bounds of bytes, pace and time, counted where they come from the network, headers among them.

Whoever serves a file may be a stranger: the first line of an answer, dripped a byte at a time, is as slow as its body.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from io import BufferedReader, RawIOBase
from typing import Any

MB = 1_000_000
SLOWEST = 1000
"""Bytes a second; the same pace as of imagery."""

Check = Callable[[], None]
"""Asked while bytes come; raises where they are no longer wanted."""


class Unavailable(Exception):  # noqa: N818  a state of the world; weights.py makes the error of it
    """The bytes did not come; the message says why, for people."""


class TooLarge(Unavailable):
    """There are more of them than are taken."""


class Broken(Exception):  # noqa: N818  a state of the connection
    """A transfer that is worth another attempt."""


class Meter:
    """What one file has taken so far, over all attempts to fetch it."""

    def __init__(
        self, stall_s: float, max_mb: float | None = None, seconds: float | None = None, check: Check | None = None
    ) -> None:
        """Time begins to count. ``stall_s``: in which 1 kB/s have to come; ``seconds``: that all may take."""
        self._stall_s, self._max_mb, self._seconds, self._check = stall_s, max_mb, seconds, check
        self._began = time.monotonic()
        self.begin()

    def begin(self) -> None:
        """Another attempt."""
        self._fresh, self._waited = 0, 0.0

    def took(self, size: int, waited_s: float) -> None:
        """So many bytes have come after so long a wait; what we do with them in between is not their server's delay.

        Raises Unavailable, Broken (it stalls), and what ``check`` raises.
        """
        if self._check is not None:
            self._check()
        if self._seconds is not None and time.monotonic() - self._began > self._seconds:
            raise Unavailable(f"it was not here within {self._seconds:,g} s")
        self._fresh += size
        self._waited += waited_s
        if self._fresh >= self._stall_s * SLOWEST:
            self.begin()
        elif self._waited > self._stall_s:
            raise Broken(f"it stalls: less than 1 kB/s for {self._stall_s:g} s")

    def expect(self, size: int) -> None:
        """So many bytes of the file itself there are, or will be. Raises TooLarge."""
        if self._max_mb is not None and size > self._max_mb * MB:
            raise TooLarge(f"it has {size / MB:,.1f} MB or more, {self._max_mb:,.1f} MB are allowed")


def metered(kind: type[HTTPConnection], meter: Meter) -> Callable[..., HTTPConnection]:
    """Makes connections of that kind whose answers are counted, from their first byte."""

    def connection(*given: Any, **more: Any) -> HTTPConnection:
        made = kind(*given, **more)
        made.response_class = partial(_Answer, meter=meter)  # pyright: ignore[reportAttributeAccessIssue]  called alike
        return made

    return connection


class _Answer(HTTPResponse):
    def __init__(self, *given: Any, meter: Meter, **more: Any) -> None:
        super().__init__(*given, **more)
        self.fp = BufferedReader(_Counted(self.fp.detach(), meter))


class _Counted(RawIOBase):
    """A socket's bytes, some at a time, as they come."""

    def __init__(self, raw: RawIOBase, meter: Meter) -> None:
        super().__init__()
        self._raw, self._meter = raw, meter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        began = time.monotonic()
        size = self._raw.readinto(buffer)
        self._meter.took(size or 0, time.monotonic() - began)
        return size

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()
