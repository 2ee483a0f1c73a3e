"""What an HTTP answer means: bytes, a pause, or one of our errors."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

import aiohttp

from swathe.errors import ImageryError, ReadError
from swathe.imagery import shown

OK, EMPTY, PARTIAL, UNSATISFIABLE = 200, 204, 206, 416
REDIRECTS = frozenset({301, 302, 303, 307, 308})
DENIED = frozenset({401, 403})
LAPSED = frozenset({400})
"""What Google Cloud Storage says to a signed link that has expired; of any other address it means what it says."""
PASSING = frozenset({408, 425, 429})
"""And 5xx, but for 501 and 505: worth another request."""
PATIENCE_S = 120.0
"""Longest pause that a server may ask for; where it asks for more, its next answer decides."""
_SLOW = 1000
"""Bytes per second."""
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_LATER = "run the same command again when it can be read: what is finished is kept"


class Passing(Exception):  # noqa: N818  a state of the world
    """A failure that another request may not meet; its words are for people and hold no address."""

    def __init__(self, why: str, retry_after: float | None = None) -> None:
        """``retry_after``: seconds that the server asked for."""
        super().__init__(why)
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Version:
    """Which state of a file was seen."""

    size: int
    tag: str
    """ETag, else time of modification; empty where the server tells neither."""

    @property
    def strong(self) -> bool:
        """Whether equal versions are equal bytes."""
        return bool(self.tag) and not self.tag.startswith("W/")


class Answer:
    """Status and headers that have come, and a body that is still on its way."""

    def __init__(self, response: aiohttp.ClientResponse, clock: asyncio.Timeout, stall_s: float) -> None:
        """``clock`` is set anew as long as bytes come."""
        self._response, self._clock, self._stall_s = response, clock, stall_s
        self.received = 0

    @property
    def status(self) -> int:
        """HTTP's."""
        return self._response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """Case does not matter."""
        return self._response.headers

    @property
    def length(self) -> int | None:
        """Of the body, as announced."""
        return self._response.content_length

    async def body(self, limit: int) -> bytes | None:
        """The whole of it; None where it is longer than ``limit`` bytes, of which no more is read.

        Raises TimeoutError where it brings less than 1 kB/s for the time that ``clock`` was given.
        """
        if (self.length or 0) > limit:
            return None
        parts: list[bytes] = []
        size = fresh = 0
        enough = self._stall_s * _SLOW
        async for part in self._response.content.iter_any():
            parts.append(part)
            size += len(part)
            self.received += len(part)
            fresh += len(part)
            if size > limit:
                return None
            if fresh >= enough:
                fresh = 0
                self._clock.reschedule(asyncio.get_running_loop().time() + self._stall_s)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def version_of(headers: Mapping[str, str], size: int) -> Version:
    """What an answer says of its file."""
    return Version(size, headers.get("ETag") or headers.get("Last-Modified") or "")


def part_of(answer: Answer, start: int, stop: int) -> tuple[int, int | None]:
    """(end of what a 206 brings, size of the file if it is told). Raises Passing where it is not what was asked for."""
    if answer.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
        raise Passing("the server compresses parts of files")
    match = _RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    if match is None:
        raise Passing("the answer does not say which bytes it brings")
    first, last = int(match[1]), int(match[2]) + 1
    size = None if match[3] == "*" else int(match[3])
    whole = last == stop or (last == size and last < stop)
    if first != start or not whole:
        raise Passing("the answer brings other bytes than were asked for")
    return last, size


def size_of(answer: Answer) -> int | None:
    """Of the file, as a 416 tells it."""
    said = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(said) if said.isdigit() else None


def pause_of(value: str | None) -> float | None:
    """Seconds of a ``Retry-After``: a number, or an HTTP date. Never more than ``PATIENCE_S``."""
    text = (value or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return min(PATIENCE_S, float(text))
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()
    return min(PATIENCE_S, max(0.0, seconds))


def fault(href: str, answer: Answer) -> Exception:
    """What is raised for an answer that is no success: Passing, or ReadError."""
    status, name = answer.status, shown(href)
    if status in PASSING or (status >= 500 and status not in (501, 505)):  # noqa: PLR2004  HTTP's classes
        return Passing(f"the server answers {status}", pause_of(answer.headers.get("Retry-After")))
    if status in (404, 410):
        return ReadError(f"there is nothing at {name}", code="read.gone", hint="check the name")
    if status in DENIED:
        hint = "check permissions and credentials; a signed link may have expired"
        return ReadError(f"{name} may not be read ({status})", code="read.forbidden", hint=hint)
    hint = "check the address, and what the service expects"
    return ReadError(f"the server of {name} answers {status}", code="read.refused", hint=hint)


FAILURES = (aiohttp.ClientError, OSError, ValueError)
"""What aiohttp raises where an exchange fails; TimeoutError is an OSError."""


def broken(href: str, error: Exception, timeout_s: float, *, known: bool) -> Exception:
    """One of ``FAILURES`` in our words: Passing, or ReadError where asking again is useless.

    ``known``: the server has answered before, so that its name exists, whatever name servers say now. The words of
    libraries are not passed on: addresses with signatures stand in some of them.
    """
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        hint = "check the address; a certificate of one's own has to be known to this machine"
        return ReadError(f"the certificate of {shown(href)} is not valid", code="read.lost", hint=hint)
    if isinstance(error, aiohttp.ClientConnectorDNSError) and error.os_error.errno == socket.EAI_NONAME and not known:
        return ReadError(f"there is no server of the name in {shown(href)}", code="read.lost", hint="check the address")
    return Passing(next((why for kind, why in _WHY if isinstance(error, kind)), "") or _stall(timeout_s))


_WHY: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "the name of the server is not known"),
    (aiohttp.ClientConnectorError, "there is no connection to the server"),
    (aiohttp.ClientPayloadError, "the answer broke off"),
    (aiohttp.ServerDisconnectedError, "the connection was lost"),
    (ConnectionError, "the connection was lost"),
    (TimeoutError, ""),
    (Exception, "the answer is not understood"),
)


def _stall(timeout_s: float) -> str:
    return f"it stalls: less than 1 kB/s for {timeout_s:g} s"


def lost(href: str, why: str) -> ReadError:
    """After the last attempt."""
    return ReadError(f"{shown(href)} cannot be read: {why}", code="read.lost", hint=_LATER)


def changed(href: str) -> ReadError:
    """A file that is not the one that was seen first."""
    hint = f"start a new run with {shown(href)} as it is now"
    return ReadError(f"{shown(href)} was replaced while it was being read", code="read.changed", hint=hint)


def no_ranges(href: str) -> ImageryError:
    """A server that sends whole files only."""
    hint = "download the file and give its path"
    return ImageryError(f"the server of {shown(href)} sends whole files only", code="imagery.no_ranges", hint=hint)


def too_large(href: str, limit: int) -> ImageryError:
    """More than is taken."""
    what = f"{shown(href)} is larger than {limit / 1e6:g} MB"
    hint = "this bound is fixed; check that the address is what it should be, or give it in smaller parts"
    return ImageryError(what, code="imagery.limits", hint=hint)
