"""A server of files behind a narrow, distant link: what a public archive is from a small machine.

    with Link(folder, mbit_s=100, rtt_ms=50) as link:
        link.url("blue.tif"); link.counts()

It runs in a process of its own and answers HTTP/1.1 with byte ranges on connections that are kept. All connections
share one bucket of bytes at the rate of the link, with 20 ms of it as the largest burst. Every answer begins one round
trip after its question; a new connection costs another. Headers of answers pass through the bucket like their bodies.
What TCP does on a real line beyond that (slow start, loss) is not imitated. It is made to take little of the machine
that it shares with what is measured, as a real archive is elsewhere: bodies go from the system's cache of files to the
connection (sendfile), in pieces of half the burst.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, Self
from urllib.parse import unquote, urlsplit
from urllib.request import urlopen

import psutil

from benchmarks.scenes import ROOT

_BURST_S = 0.02
_PIECE = 120 << 10
_SENT = 1 << 20
"""Bytes that a connection takes at once, so that sending a piece is one call."""
_COUNTS = "/-/counts"
_STATUS = {200: "OK", 206: "Partial Content", 404: "Not Found", 416: "Range Not Satisfiable"}


@dataclass
class Counted:
    """What went through the link since the server began."""

    bytes: int = 0
    """Of answers, their headers included."""
    requests: int = 0
    connections: int = 0
    busy_s: float = 0.0
    """Time the link was sending; at the rate of the link, ``bytes`` take no less."""


class Link:
    """The server's process, from outside."""

    def __init__(self, folder: Path, mbit_s: float, rtt_ms: float) -> None:
        """Start it."""
        command = [sys.executable, "-m", "benchmarks.shaped", str(folder), str(mbit_s), str(rtt_ms)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.root = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def url(self, name: str) -> str:
        """Of a file in the folder."""
        return f"{self.root}/{name}"

    def counts(self) -> Counted:
        """Asked beside the link, not through it."""
        with urlopen(f"{self.root}{_COUNTS}") as answer:
            return Counted(**json.loads(answer.read()))

    def cpu_s(self) -> float:
        """CPU time that the server has taken, of the machine that it shares with what is measured."""
        took = psutil.Process(self._process.pid).cpu_times()
        return took.user + took.system

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


class Bucket:
    """The rate of the link, shared by all who send."""

    def __init__(self, bytes_s: float, counted: Counted) -> None:
        """``bytes_s``: bytes a second."""
        self._bytes_s = bytes_s
        self._counted = counted
        self._free_at = 0.0

    async def take(self, size: int) -> None:
        """Wait until so many bytes have passed; first come, first served."""
        self._free_at = max(self._free_at, time.monotonic() - _BURST_S) + size / self._bytes_s
        self._counted.bytes += size
        self._counted.busy_s += size / self._bytes_s
        wait = self._free_at - time.monotonic()
        if wait > 0:
            await asyncio.sleep(wait)


class Server:
    """Inside the process."""

    def __init__(self, folder: Path, mbit_s: float, rtt_ms: float) -> None:
        """Serves the files below ``folder``."""
        self._folder = folder
        self._rtt_s = rtt_ms / 1000
        self._counted = Counted()
        self._bucket = Bucket(mbit_s * 125_000, self._counted)

    async def serve(self) -> None:
        """Until the process ends; says its port first."""
        server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handshake = True
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENT)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                target, span = _asked(head)
                if target == _COUNTS:
                    body = json.dumps(asdict(self._counted)).encode()
                    writer.write(_head(200, len(body), {}) + body)
                    continue
                self._counted.connections += handshake
                self._counted.requests += 1
                await asyncio.sleep(self._rtt_s * (1 + handshake))
                handshake = False
                await self._send(writer, self._folder / target.lstrip("/"), span)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    async def _send(self, writer: asyncio.StreamWriter, path: Path, span: tuple[int, int] | None) -> None:
        head, (start, stop) = _answer(path, span)
        await self._bucket.take(len(head))
        writer.write(head)
        if start == stop:
            return
        loop = asyncio.get_running_loop()
        with path.open("rb") as file:
            for at in range(start, stop, _PIECE):
                size = min(_PIECE, stop - at)
                await self._bucket.take(size)
                sent = _at_once(writer, file, at, size)
                if sent < size:
                    await loop.sendfile(writer.transport, file, at + sent, size - sent)


def _at_once(writer: asyncio.StreamWriter, file: BinaryIO, start: int, size: int) -> int:
    """Bytes that the connection took without anybody waiting."""
    if writer.transport.get_write_buffer_size():
        return 0
    try:
        return os.sendfile(writer.get_extra_info("socket").fileno(), file.fileno(), start, size)
    except BlockingIOError:
        return 0


def _asked(head: bytes) -> tuple[str, tuple[int, int] | None]:
    """Path and range of a question."""
    text = head.decode("latin-1")
    target = unquote(urlsplit(text.split(" ", 2)[1]).path)
    match = re.search(r"^range: bytes=(\d+)-(\d+)", text, re.IGNORECASE | re.MULTILINE)
    return target, (int(match[1]), int(match[2]) + 1) if match else None


def _answer(path: Path, span: tuple[int, int] | None) -> tuple[bytes, tuple[int, int]]:
    """Headers, and which bytes of the file are the body."""
    if not path.is_file():
        return _head(404, 0, {}), (0, 0)
    facts = path.stat()
    start, stop = span or (0, facts.st_size)
    if start >= facts.st_size:
        return _head(416, 0, {"Content-Range": f"bytes */{facts.st_size}"}), (0, 0)
    stop = min(stop, facts.st_size)
    tag = hashlib.sha256(f"{path.name}{facts.st_size}{facts.st_mtime_ns}".encode()).hexdigest()[:16]
    ranged = {"Content-Range": f"bytes {start}-{stop - 1}/{facts.st_size}"} if span else {}
    return _head(206 if span else 200, stop - start, {"ETag": f'"{tag}"', **ranged}), (start, stop)


def _head(status: int, length: int, more: dict[str, str]) -> bytes:
    lines = {"Content-Length": str(length), "Accept-Ranges": "bytes", **more}
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} {_STATUS[status]}\r\n{text}\r\n".encode("latin-1")


def main() -> None:
    """Entry point of the process."""
    folder, mbit_s, rtt_ms = sys.argv[1:]
    asyncio.run(Server(Path(folder), float(mbit_s), float(rtt_ms)).serve())


if __name__ == "__main__":
    main()
