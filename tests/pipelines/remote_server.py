"""An HTTP server on localhost that answers as a test tells it, byte by byte if need be, and remembers what was asked.

with Server(lambda asked: Reply(403) if "token" not in asked.target else part(data, asked)) as server:
    fetcher.ranges(server.url("a.tif"), [(0, 10)])
    assert server.asked[0].headers["range"] == "bytes=0-9"
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from aiohttp.abc import AbstractResolver


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    target: str
    """Path and query, as they were sent."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    port: int
    """Of the client: which connection it came on."""

    @property
    def span(self) -> tuple[int, int] | None:
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        return (int(match[1]), int(match[2]) + 1) if match else None


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    sent: int | None = None
    """The connection ends after so many bytes of the body; None: all are sent."""
    drip: tuple[int, float] | None = None
    """(bytes, seconds between them)."""
    after: float = 0.0
    """Seconds before anything is said."""
    announced: bool = True
    """Whether it has a Content-Length."""


Answers = Callable[[Asked], Reply]


def part(data: bytes, asked: Asked, etag: str = '"v1"', **changes: object) -> Reply:
    """What a good server answers: the part that was asked for, or all."""
    facts: dict[str, object] = {"status": 200, "headers": {"ETag": etag} if etag else {}, "body": data}
    if asked.span is not None:
        start, stop = asked.span[0], min(asked.span[1], len(data))
        if start >= len(data):
            facts |= {"status": 416, "headers": {"Content-Range": f"bytes */{len(data)}"}, "body": b""}
        else:
            said = {**facts["headers"], "Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}
            facts |= {"status": 206, "headers": said, "body": data[start:stop]}
    return Reply(**(facts | changes))


@dataclass
class Server:
    """Serves on a free port."""

    answers: Answers
    certificate: tuple[str, str] | None = None
    """(certificate, key) files; then it speaks https."""
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> Self:
        owner = self

        class Handler(_Handler):
            server_of_answers = owner

        self._server = _Quiet(("127.0.0.1", 0), Handler)
        if self.certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http{'s' if self.certificate else ''}://{host}:{self.port}/{path}"


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, client_address) -> None:
        """Clients hang up on purpose here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True
    server_of_answers: Server

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            super().handle()

    def log_message(self, *_args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        raise AssertionError("nobody should ask HEAD: signed links allow GET alone")

    def _answer(self) -> None:
        owner = self.server_of_answers
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, self.path, headers, body, self.client_address[1])
        owner.asked.append(asked)
        reply = owner.answers(asked)
        time.sleep(reply.after)
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.announced:
            self.send_header("Content-Length", str(len(reply.body)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        self._body(reply)

    def _body(self, reply: Reply) -> None:
        data = reply.body if reply.sent is None else reply.body[: reply.sent]
        if reply.drip is None:
            self.wfile.write(data)
        else:
            size, pause = reply.drip
            for start in range(0, len(data), size):
                self.wfile.write(data[start : start + size])
                self.wfile.flush()
                time.sleep(pause)
        if reply.sent is not None:
            self.close_connection = True


class Names(AbstractResolver):
    """A resolver that says what it is told; several answers for one name are given one after another."""

    def __init__(self, names: dict[str, Sequence[Sequence[str]]]) -> None:
        self._names = {name: list(answers) for name, answers in names.items()}
        self.looked_up: list[str] = []

    async def resolve(self, host, port=0, family=socket.AF_UNSPEC):
        self.looked_up.append(host)
        answers = self._names[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            {"hostname": host, "host": one, "port": port, "proto": 0, "flags": 0,
             "family": socket.AF_INET6 if ":" in one else socket.AF_INET}
            for one in found
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing to close."""
