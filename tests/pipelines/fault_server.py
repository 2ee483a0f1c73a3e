"""A small HTTP file server with byte ranges that misbehaves on demand: a real network fault, no mock.

with FaultServer(folder) as server:
    server.faults = First(Status(503), count=1)
    fetcher.facts(server.url("a.tif"))
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote, urlsplit


@dataclass(frozen=True)
class Status:
    """Answer with this code and no data."""

    code: int
    retry_after: str = ""


@dataclass(frozen=True)
class Reset:
    """Send some bytes of the answer, then reset the connection."""

    after: int = 0


@dataclass(frozen=True)
class Truncate:
    """Announce the whole range, send this share of it, close politely."""

    share: float = 0.5


@dataclass(frozen=True)
class Short:
    """Answer 206 with less than was asked, and announce it as if that were all."""

    share: float = 0.5


@dataclass(frozen=True)
class Slow:
    """Wait before answering."""

    seconds: float


@dataclass(frozen=True)
class NoRange:
    """Ignore the range: 200 and the whole file, as simple servers do."""


@dataclass(frozen=True)
class Redirect:
    """Send elsewhere."""

    location: str


Fault = Redirect | Status | Reset | Truncate | Short | Slow | NoRange


@dataclass(frozen=True)
class Request:
    """What was asked."""

    number: int
    """Counted from 0 over the server's life."""
    method: str
    name: str
    start: int
    stop: int
    """Bytes ``start .. stop``; the whole file where no range was asked."""
    seen: int
    """How often this very range was asked before."""


Faults = Callable[[Request], Fault | None]


def never(_request: Request) -> Fault | None:
    return None


@dataclass(frozen=True)
class Every:
    """A fault at every n-th request for data, the first time it is asked, so that asking again helps."""

    n: int
    fault: Fault

    def __call__(self, request: Request) -> Fault | None:
        due = request.method == "GET" and request.number % self.n == 0 and request.seen == 0
        return self.fault if due else None


@dataclass(frozen=True)
class Always:
    """A fault at every request for bytes at or after ``start``."""

    fault: Fault
    start: int = 0

    def __call__(self, request: Request) -> Fault | None:
        return self.fault if request.method == "GET" and request.stop > self.start else None


@dataclass(frozen=True)
class First:
    """A fault at the first ``count`` requests."""

    fault: Fault
    count: int
    hit: list[int] = field(default_factory=list)

    def __call__(self, request: Request) -> Fault | None:
        if request.method != "GET" or len(self.hit) >= self.count:
            return None
        self.hit.append(request.number)
        return self.fault


@dataclass
class FaultServer:
    """Serves the files of a folder on a free port of localhost."""

    folder: Path
    faults: Faults = never
    etag_suffix: str = ""
    """Change it and every file looks replaced."""
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        owner = self
        self._lock = threading.Lock()

        class Handler(_Handler):
            server_of_faults = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{quote(name)}"

    def note(self, method: str, name: str, start: int, stop: int) -> Request:
        with self._lock:
            seen = sum(1 for r in self.requests if (r.method, r.name, r.start, r.stop) == (method, name, start, stop))
            request = Request(len(self.requests), method, name, start, stop, seen)
            self.requests.append(request)
            return request


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_faults: FaultServer

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # clients hang up on purpose here
            super().handle()

    def log_message(self, *_args: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        owner = self.server_of_faults
        name = unquote(urlsplit(self.path).path).lstrip("/")
        path = owner.folder / name
        size = path.stat().st_size if path.is_file() else 0
        start, stop, ranged = self._range(size)
        request = owner.note(self.command, name, start, stop)
        fault = owner.faults(request)
        if isinstance(fault, Slow):
            time.sleep(fault.seconds)
        if isinstance(fault, Redirect):
            self._send_elsewhere(fault)
        elif isinstance(fault, Status):
            self._refuse(fault)
        elif not path.is_file():
            self._refuse(Status(404))
        elif start >= size:
            self._refuse(Status(416))
        else:
            if isinstance(fault, NoRange):
                start, stop, ranged = 0, size, False
            elif isinstance(fault, Short) and body:
                stop = start + max(1, int((stop - start) * fault.share))
            self._send(path, (start, stop, size), ranged=ranged, body=body, fault=fault)

    def _range(self, size: int) -> tuple[int, int, bool]:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not match:
            return 0, size, False
        stop = int(match[2]) + 1 if match[2] else size
        return int(match[1]), min(stop, size), True

    def _send_elsewhere(self, fault: Redirect) -> None:
        self.send_response(302)
        self.send_header("Location", fault.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _refuse(self, fault: Status) -> None:
        self.send_response(fault.code)
        if fault.retry_after:
            self.send_header("Retry-After", fault.retry_after)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, path: Path, span: tuple[int, int, int], *, ranged: bool, body: bool, fault: Fault | None) -> None:
        start, stop, size = span
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
        self.send_response(206 if ranged else 200)
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        self.send_header("Accept-Ranges", "none" if isinstance(fault, NoRange) else "bytes")
        self.send_header("Content-Length", str(len(data)))
        tag = hashlib.sha256(f"{size}{path.stat().st_mtime_ns}{self.server_of_faults.etag_suffix}".encode())
        self.send_header("ETag", f'"{tag.hexdigest()[:16]}"')
        self.end_headers()
        if body:
            self._body(data, fault)

    def _body(self, data: bytes, fault: Fault | None) -> None:
        if isinstance(fault, Truncate):
            self.wfile.write(data[: int(len(data) * fault.share)])
            self.close_connection = True
        elif isinstance(fault, Reset):
            self.wfile.write(data[: fault.after])
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
        else:
            self.wfile.write(data)
