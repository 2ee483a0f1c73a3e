"""A tile service on localhost whose pixels say where they are: XYZ, TMS, QUADKEY and WMS, with faults and a key.

It works out for itself which pixels are asked for, from the numbers in the address; it shares no code with the reader.
"""

from __future__ import annotations

import io
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image


def colours(rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    """(rows, cols, 3) of pixels counted from the upper left corner of the world; no two neighbours alike."""
    r, c = np.asarray(rows)[:, None], np.asarray(cols)[None]
    return np.stack([(r * 7 + c * 3) % 251 + 1, (r // 3 + c * 11) % 241, (r * 5 + c) % 239], -1).astype(np.uint8)


@dataclass
class TileServer:
    """Serves on a free port."""

    tile: int = 256
    key: str = ""
    """Asked for in ``Authorization: Bearer`` where it is not empty."""
    format: str = "PNG"
    missing: set[tuple[int, int]] = field(default_factory=set)
    """(row, col) of tiles that are 404."""
    empty: set[tuple[int, int]] = field(default_factory=set)
    """204."""
    transparent: set[tuple[int, int]] = field(default_factory=set)
    faults: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    """Statuses that a tile answers with before it answers well."""
    odd: dict[tuple[int, int], bytes] = field(default_factory=dict)
    """Bodies that are no pictures."""
    paths: list[str] = field(default_factory=list)

    def __enter__(self) -> Self:
        owner = self

        class Handler(_Handler):
            service = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/{path}"

    def asked(self, target: str) -> tuple[int, int] | None:
        """(row, col) of the first pixel that a path asks for; None for nonsense."""
        parts = urlsplit(target)
        if parts.path == "/wms":
            return self._wms({k.upper(): v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()})
        if match := re.fullmatch(r"/(xyz|tms)/(\d+)/(\d+)/(\d+)", parts.path):
            scheme, zoom, x, y = match[1], *map(int, match.groups()[1:])
            side = 2**zoom
            row = side - 1 - y if scheme == "tms" else y
            return (row * self.tile, x * self.tile) if 0 <= row < side and x < side else None
        if match := re.fullmatch(r"/q/([0-3]+)", parts.path):
            digits = [int(d) for d in match[1]]
            row = int("".join(str(d >> 1) for d in digits), 2)
            return row * self.tile, int("".join(str(d & 1) for d in digits), 2) * self.tile
        return None

    def _wms(self, query: dict[str, str]) -> tuple[int, int] | None:
        newer = query["VERSION"] == "1.3.0"
        crs = query.get("CRS" if newer else "SRS")
        box = [float(v) for v in query["BBOX"].split(",")]
        if crs is None or (query["LAYERS"], query["REQUEST"], query["SERVICE"]) != ("ortho", "GetMap", "WMS"):
            return None
        if newer and crs == "EPSG:4326":  # latitude first
            box = [box[1], box[0], box[3], box[2]]
        west, south, east, north = box
        res = (east - west) / int(query["WIDTH"])
        if abs((north - south) / int(query["HEIGHT"]) - res) > 1e-9 * res:
            return None
        return round(-north / res), round(west / res)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: TileServer

    def log_message(self, *_args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        service = self.service
        service.paths.append(self.path)
        if service.key and self.headers.get("Authorization") != f"Bearer {service.key}":
            self._answer(401, b"")
            return
        corner = service.asked(self.path)
        if corner is None:
            self._answer(400, b"")
            return
        cell = (corner[0] // service.tile, corner[1] // service.tile)
        if service.faults.get(cell):
            self._answer(service.faults[cell].pop(0), b"")
        elif cell in service.missing:
            self._answer(404, b"no such tile")
        elif cell in service.empty:
            self._answer(204, b"")
        else:
            self._answer(200, service.odd.get(cell) or self._picture(corner, cell))

    def _picture(self, corner: tuple[int, int], cell: tuple[int, int]) -> bytes:
        span = np.arange(self.service.tile)
        pixels = colours(corner[0] + span, corner[1] + span)
        if cell in self.service.transparent:
            pixels = np.dstack([pixels, np.zeros(pixels.shape[:2], np.uint8)])
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, self.service.format, quality=95)
        return out.getvalue()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
