"""A local STAC API over real HTTP: serves the items it is given, pages, filters, wants credentials, fails on demand.

with StacServer(items) as api:
    api.faults = lambda request: Answer(429, retry_after="0") if request.number == 0 else None
    find(card(url=api.url), query, fetcher)

What it answers to a search is computed by shapely, datetime and cql2 on the whole items, item by item.
"""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import shapely

CORE = (
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
)
QUERY = "https://api.stacspec.org/v1.0.0/item-search#query"
FILTER = (
    "https://api.stacspec.org/v1.0.0-rc.2/item-search#filter",
    "http://www.opengis.net/spec/cql2/1.0/conf/cql2-json",
)


@dataclass(frozen=True)
class Answer:
    """What is answered instead."""

    code: int = 200
    body: bytes | None = None
    """None: nothing."""
    retry_after: str = ""
    seconds: float = 0.0
    """Waited before."""


@dataclass(frozen=True)
class Asked:
    """One request."""

    number: int
    """Counted from 0 over the server's life."""
    method: str
    path: str
    query: dict[str, str]
    body: dict[str, Any] | None
    headers: dict[str, str]


Faults = Callable[[Asked], Answer | None]


@dataclass(frozen=True)
class Wanted:
    """Credentials without which everything is 401."""

    header: tuple[str, str] | None = None
    query: tuple[str, str] | None = None

    @classmethod
    def basic(cls, login: str) -> Self:
        return cls(header=("Authorization", "Basic " + base64.b64encode(login.encode()).decode()))

    def met(self, asked: Asked) -> bool:
        head = self.header is None or asked.headers.get(self.header[0].lower()) == self.header[1]
        return head and (self.query is None or asked.query.get(self.query[0]) == self.query[1])


@dataclass
class StacServer:
    """Serves ``items``; collections are those they name, and ``collections`` beside them."""

    items: Sequence[Any]
    collections: tuple[str, ...] = ()
    conforms: tuple[str, ...] = (*CORE, QUERY)
    next_by: str = "post"
    """How the next page is asked for: ``post`` (whole body), ``merge`` (body to be merged), ``get`` (address)."""
    methods: tuple[str, ...] = ("GET", "POST")
    """With which searches may be made; the landing page says so."""
    filters: bool = True
    """False: time, place and clouds are ignored, as careless services do."""
    page: int = 100
    """Most items per page, whatever is asked for."""
    wanted: Wanted | None = None
    host: str = "127.0.0.1"
    """By which name it calls itself; whoever asks has to know that it lies here."""
    faults: Faults = lambda _asked: None
    documents: dict[str, Any] = field(default_factory=dict)
    """Path -> JSON or bytes, for static catalogues on the web."""
    asked: list[Asked] = field(default_factory=list)

    def __enter__(self) -> Self:
        owner = self
        self._lock = threading.Lock()

        class Handler(_Handler):
            api = owner

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
    def root(self) -> str:
        return f"http://{self.host}:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{self.root}/v1"

    @property
    def searches(self) -> list[Asked]:
        return [a for a in self.asked if a.path == "/v1/search"]

    def note(self, handler: BaseHTTPRequestHandler, body: dict[str, Any] | None) -> Asked:
        parts = urlsplit(handler.path)
        headers = {k.lower(): v for k, v in handler.headers.items()}
        with self._lock:
            asked = Asked(
                len(self.asked), handler.command, unquote(parts.path), dict(parse_qsl(parts.query)), body, headers
            )
            self.asked.append(asked)
        return asked

    # --- what it says ---

    def answer(self, asked: Asked) -> Any:  # noqa: PLR0911  one for each kind of document
        """A JSON document, or None for 404."""
        path = asked.path.rstrip("/")
        if path in self.documents:
            return self.documents[path]
        if path == "/v1":
            return self.landing()
        if path == "/v1/search":
            return self.search(asked) if asked.method in self.methods else None
        if path == "/v1/collections":
            return {"collections": [self.collection(c) for c in self.names], "links": []}
        parts = path.removeprefix("/v1/collections/").split("/")
        if parts[0] in self.names and len(parts) == 1:
            return self.collection(parts[0])
        if parts[0] in self.names and len(parts) == 3:
            return next((i for i in self.items if i["id"] == parts[2] and i["collection"] == parts[0]), None)
        return None

    @property
    def names(self) -> list[str]:
        own = {i["collection"] for i in self.items if isinstance(i, dict) and i.get("collection")}
        return sorted(own | set(self.collections))

    def landing(self) -> dict[str, Any]:
        links = [("self", ""), ("root", ""), ("data", "/collections")]
        search = [{"rel": "search", "href": f"{self.url}/search", "method": method} for method in self.methods]
        return {
            "type": "Catalog", "stac_version": "1.0.0", "id": "local", "description": "a local STAC API",
            "conformsTo": list(self.conforms),
            "links": [*({"rel": rel, "href": self.url + path} for rel, path in links), *search],
        }  # fmt: skip

    def collection(self, name: str) -> dict[str, Any]:
        extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
        home = f"{self.url}/collections/{quote(name)}"
        links = [("self", home), ("root", self.url), ("items", f"{home}/items")]
        return {
            "type": "Collection", "stac_version": "1.0.0", "id": name, "description": name, "license": "other",
            "extent": extent, "links": [{"rel": rel, "href": href} for rel, href in links],
        }  # fmt: skip

    def search(self, asked: Asked) -> dict[str, Any]:
        body = dict(asked.body) if asked.body is not None else _from_get(asked.query)
        found = [i for i in self.items if not self.filters or not isinstance(i, dict) or _matches(i, body)]
        start = int(body.get("token") or 0)
        size = min(int(body.get("limit") or 10), self.page)
        features = found[start : start + size]
        links = [{"rel": "root", "href": self.url}]
        if start + size < len(found):
            links.append(self.next_link(asked, body, start + size))
        return {"type": "FeatureCollection", "features": features, "links": links, "numberMatched": len(found)}

    def next_link(self, asked: Asked, body: dict[str, Any], start: int) -> dict[str, Any]:
        href = f"{self.url}/search"
        if self.next_by == "get" or asked.method == "GET":
            flat = {**asked.query, **({} if asked.method == "GET" else {"saved": "1"}), "token": str(start)}
            flat |= {k: json.dumps(v) if not isinstance(v, str) else v for k, v in body.items() if k not in flat}
            return {"rel": "next", "href": f"{href}?" + "&".join(f"{k}={quote(v)}" for k, v in flat.items())}
        more = {"token": str(start)}
        if self.next_by == "merge":
            return {"rel": "next", "method": "POST", "href": href, "merge": True, "body": more}
        return {"rel": "next", "method": "POST", "href": href, "body": {**body, **more}}


def _from_get(query: dict[str, str]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for key, value in query.items():
        if key in ("collections", "ids") and not value.startswith("["):
            body[key] = value.split(",")
        elif value[:1] in "[{" or value.replace(".", "", 1).isdigit():
            body[key] = json.loads(value)
        else:
            body[key] = value
    return body


def _matches(item: dict[str, Any], body: dict[str, Any]) -> bool:  # noqa: PLR0911  one for each condition
    if body.get("collections") and item.get("collection") not in body["collections"]:
        return False
    if body.get("ids") and item["id"] not in body["ids"]:
        return False
    outline = shapely.geometry.shape(item["geometry"]) if item.get("geometry") else shapely.box(*item["bbox"])
    if body.get("intersects") and not outline.intersects(shapely.geometry.shape(body["intersects"])):
        return False
    if body.get("bbox") and not outline.intersects(shapely.box(*body["bbox"])):
        return False
    if body.get("datetime") and not _in_time(item["properties"], body["datetime"]):
        return False
    if body.get("filter"):
        import cql2

        if not cql2.Expr(body["filter"]).matches(item):
            return False
    return all(_holds(item["properties"].get(name), tests) for name, tests in (body.get("query") or {}).items())


def _in_time(properties: dict[str, Any], asked: str) -> bool:
    start, _, end = asked.partition("/")
    first = properties.get("datetime") or properties["start_datetime"]
    last = properties.get("datetime") or properties["end_datetime"]
    low = datetime.min.replace(tzinfo=UTC) if start in ("..", "") else datetime.fromisoformat(start)
    high = datetime.max.replace(tzinfo=UTC) if end == ".." else datetime.fromisoformat(end or start)
    return datetime.fromisoformat(last) >= low and datetime.fromisoformat(first) <= high


def _holds(value: Any, tests: dict[str, Any]) -> bool:
    words = {
        "eq": lambda a, b: a == b, "lt": lambda a, b: a < b, "lte": lambda a, b: a <= b,
        "gt": lambda a, b: a > b, "gte": lambda a, b: a >= b, "in": lambda a, b: a in b,
    }  # fmt: skip
    return value is not None and all(words[word](value, limit) for word, limit in tests.items())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet: two would wait for each other's acknowledgement
    disable_nagle_algorithm = True
    api: StacServer

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, *_args: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._reply(None)

    def do_POST(self) -> None:
        self._reply(json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}"))

    def _reply(self, body: dict[str, Any] | None) -> None:
        api = self.api
        asked = api.note(self, body)
        fault = api.faults(asked)
        if fault is not None:
            time.sleep(fault.seconds)
            if fault.code != 200 or fault.body is not None:
                self._send(fault.code, fault.body or b"", fault.retry_after)
                return
        if api.wanted is not None and not api.wanted.met(asked):
            self._send(401, b"{}")
            return
        found = api.answer(asked)
        if found is None:
            self._send(404, b'{"code": "NotFound"}')
        else:
            self._send(200, found if isinstance(found, bytes) else json.dumps(found).encode())

    def _send(self, code: int, data: bytes, retry_after: str = "") -> None:
        start, stop, size = 0, len(data), len(data)
        wanted = self.headers.get("Range", "")
        if code == 200 and wanted.startswith("bytes=") and size:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first or 0), min(int(last) + 1 if last else size, size)
            code = 206
        self.send_response(code)
        if code == 206:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        if retry_after:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Type", "application/geo+json")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(data[start:stop])
