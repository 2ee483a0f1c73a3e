"""Content over HTTP: whole, or the part that ``Range`` names (RFC 9110); never compressed on the way."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse

from serve.api.responses import unchanged
from serve.desk.content import Content, Pieces
from serve.problems import respond
from swathe.errors import Problem

_PIECE = 1 << 20
"""Bytes read at a time."""
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_NO_PLAIN = re.compile(r'[^ -~]|["%\\]')
"""Characters that a quoted file name cannot hold, or that clients read in several ways."""
_OF_VALUE = "!#$&+-.^_`|~"
"""Beside letters and digits, what an extended value holds as it is (RFC 8187)."""
_SEEN = frozenset({".png", ".json", ".geojson", ".log", ".txt"})
"""Endings that a browser may show; others, and HTML that would run on our address, are saved."""


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes ``start`` to before ``stop``."""

    start: int
    stop: int

    @property
    def bytes(self) -> int:
        """Size in bytes."""
        return self.stop - self.start


def content_answer(request: Request, content: Content) -> Response:
    """To GET and HEAD. What lies in object storage is fetched there: 307 and a signed address."""
    headers = _headers(content)
    if unchanged(request, headers.get("ETag", "")):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":  # a signature of object storage is for GET alone
        return Response(headers=headers | {"Content-Length": str(content.bytes)}, media_type=content.media_type)
    if isinstance(content.where, str):
        return RedirectResponse(content.where, 307, {"Cache-Control": "no-store"})
    part = _asked(request, content)
    if part is not None and not part.bytes:
        return _unsatisfiable(content)
    return _sent(content, part, headers)


def part_of(text: str, size: int) -> Part | None:
    """What a ``Range`` header asks of so many bytes: an empty part where nothing of it is there.

    None: all, where the header is none of bytes, not in its form, or names several parts, as RFC 9110 allows.
    """
    found = _RANGE.fullmatch(text.strip())
    if found is None or not (found[1] or found[2]):
        return None
    first, last = found[1], found[2]
    if not first:
        return Part(max(0, size - int(last)), size)
    if last and int(last) < int(first):
        return None
    start = min(int(first), size)
    return Part(start, max(start, min(size, int(last) + 1)) if last else size)


def _asked(request: Request, content: Content) -> Part | None:
    """A part of another version than the client has is of no use to it: then it gets all (``If-Range``)."""
    known = request.headers.get("if-range", "").strip()
    if known and known != f'"{content.tag}"':
        return None
    return part_of(request.headers.get("range", ""), content.bytes)


def _sent(content: Content, part: Part | None, headers: dict[str, str]) -> Response:
    """A part that is all of it is a part as well: readers of far archives look for Content-Range."""
    assert not isinstance(content.where, str)
    if part is None:
        told = headers | {"Content-Length": str(content.bytes)}
        return StreamingResponse(_pieces(content.where, Part(0, content.bytes)), 200, told, content.media_type)
    told = headers | {"Content-Length": str(part.bytes),
                      "Content-Range": f"bytes {part.start}-{part.stop - 1}/{content.bytes}"}  # fmt: skip
    return StreamingResponse(_pieces(content.where, part), 206, told, content.media_type)


def _pieces(where: Path | Pieces, part: Part) -> Iterator[bytes]:
    """Opened at once, so that a file that is gone is a problem and no broken answer."""
    return _of_file(where.open("rb"), part) if isinstance(where, Path) else where.read(part.start, part.stop)


def _of_file(file: BinaryIO, part: Part) -> Iterator[bytes]:
    with file:
        file.seek(part.start)
        left = part.bytes
        while left and (piece := file.read(min(left, _PIECE))):
            left -= len(piece)
            yield piece


def _unsatisfiable(content: Content) -> Response:
    problem = Problem("range.unsatisfiable", "This part is not there.", f"there are {content.bytes:,} bytes",
                      "ask for a part of them, or leave Range out", status=416)  # fmt: skip
    return respond(problem, headers={"Content-Range": f"bytes */{content.bytes}"})


def _headers(content: Content) -> dict[str, str]:
    shown = "inline" if Path(content.name).suffix.lower() in _SEEN else "attachment"
    headers = {
        "Cache-Control": "private, no-cache, no-transform",
        "Content-Disposition": _disposition(shown, content.name), "X-Content-Type-Options": "nosniff",
        "Accept-Ranges": "bytes",
    }  # fmt: skip
    return headers | ({"ETag": f'"{content.tag}"'} if content.tag else {})


def _disposition(how: str, name: str) -> str:
    """With the name for clients of every kind (RFC 6266): in ASCII, and where that is another one as it is."""
    plain = _NO_PLAIN.sub("_", name)
    as_it_is = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe=_OF_VALUE, errors='replace')}"
    return f'{how}; filename="{plain}"{as_it_is}'
