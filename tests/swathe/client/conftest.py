"""A service that can be made to misbehave: the contract of our API in few lines, on a real socket.

What a healthy service does is tested against the real one (tests/serve); this one loses answers, breaks off and lies.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from swathe.client.link import Patience

QUICK = Patience(tries=4, first_s=0.01, longest_s=0.2, answer_s=5, outage_s=5)


def job(name="j1", state="running", last_seq=0, **more):
    return {
        "id": name, "owner": "u1", "request": {"model": "m"}, "model": "m", "created": "2026-01-01T00:00:00.000Z",
        "updated": "2026-01-01T00:00:00.000Z", "state": state, "place": "pool", "last_seq": last_seq,
        "progress": {"pixels": 0, "of_pixels": 10, "share": 0.0}, "links": {}, "newer": "field", **more,
    }  # fmt: skip


@dataclass
class Service:
    """What it has, what it was asked, and how it is to misbehave."""

    url: str = ""
    faults: list = field(default_factory=list)
    """One per coming request: a response, "drop" (carried out, answer lost), or None."""
    asked: list = field(default_factory=list)
    """(method, path, headers)."""
    jobs: dict = field(default_factory=dict)
    events: list = field(default_factory=list)
    streams: list = field(default_factory=list)
    """Per coming stream, the messages after which it is cut; else all come and it closes."""
    files: dict = field(default_factory=dict)
    cuts: list = field(default_factory=list)
    """Per coming download, the bytes after which it breaks off."""
    elsewhere: str = ""
    """Where files are redirected to."""
    claimed: dict = field(default_factory=dict)
    uploads: dict = field(default_factory=dict)
    keys: dict = field(default_factory=dict)

    def paths(self, method=None):
        return [path for verb, path, _ in self.asked if method in (None, verb)]


def problem(status, code, headers=None, **more):
    return JSONResponse({"type": f"urn:swathe:problem:{code}", "code": code, "title": "t", "status": status, **more},
                        status, headers, media_type="application/problem+json")  # fmt: skip


def lost():
    async def body():
        yield b"{"
        raise ConnectionResetError

    return StreamingResponse(body(), 200, {"content-length": "100"})


def application(service):  # noqa: C901, PLR0915  one small service
    app = FastAPI()

    @app.middleware("http")
    async def faulty(request: Request, go_on):
        service.asked.append((request.method, request.url.path, dict(request.headers)))
        fault = service.faults.pop(0) if service.faults else None
        if isinstance(fault, Response):
            return fault
        answer = await go_on(request)
        return lost() if fault == "drop" else answer

    @app.post("/api/jobs")
    async def submit(request: Request):
        key = request.headers.get("idempotency-key")
        if key not in service.keys:
            service.keys[key] = job(f"j{len(service.jobs) + 1}", "queued", request=await request.json())
            service.jobs[service.keys[key]["id"]] = service.keys[key]
        return JSONResponse(service.keys[key], 202)

    @app.get("/api/jobs")
    async def listed(limit: int, cursor: int = 0):
        found = list(service.jobs.values())[cursor : cursor + limit]
        more = cursor + limit < len(service.jobs)
        links = (
            [{"rel": "next", "href": f"https://proxy.example/x?limit={limit}&cursor={cursor + limit}"}] if more else []
        )
        return {"jobs": found, "links": links}

    @app.get("/api/jobs/{number}")
    async def one(number: str):
        return (
            service.jobs[number]
            if number in service.jobs
            else problem(404, "job.unknown", detail=f"there is no job {number}")
        )

    @app.get("/api/jobs/{number}/events")
    async def events(request: Request, number: str, after: int = 0):
        if "event-stream" not in request.headers["accept"] or service.streams == "never":
            return {"events": [e for e in service.events if e["seq"] > after][:2]}
        seen = int(request.headers.get("last-event-id") or 0)
        cut = service.streams.pop(0) if service.streams else None

        async def messages():
            now = service.jobs[number]
            yield f"event: job\ndata: {json.dumps({'seq': now['last_seq'], 'kind': 'job', 'job': now})}\n\n: here\n\n"
            far = {"seq": now["last_seq"], "kind": "progress", "facts": {**now["progress"], "state": now["state"]}}
            for count, event in enumerate(e for e in service.events if e["seq"] > seen):
                if count == cut:
                    raise ConnectionResetError
                yield f"id: {event['seq']}\nevent: {event['kind']}\ndata: {json.dumps(event)}\n\n"
                yield f"event: progress\ndata: {json.dumps(far)}\n\n"

        return StreamingResponse(messages(), media_type="text/event-stream")

    @app.get("/api/jobs/{number}/files")
    async def files(number: str):
        return {"files": [{"name": n, "bytes": len(b), "media_type": "image/tiff", "href": "x",
                           "sha256": hashlib.sha256(service.claimed.get(n, b)).hexdigest()}
                          for n, b in service.files.items()]}  # fmt: skip

    @app.get("/api/jobs/{number}/files/{name:path}")
    async def file(request: Request, number: str, name: str):
        if service.elsewhere:
            return RedirectResponse(f"{service.elsewhere}/stored/{name}", 307)
        return stored(request, name)

    @app.get("/stored/{name:path}")
    async def stored_file(request: Request, name: str):
        return stored(request, name)

    def stored(request, name):
        content = service.files[name]
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if start >= len(content) > 0:
            return Response(status_code=416)
        cut = service.cuts.pop(0) if service.cuts else None

        async def body():
            yield content[start : start + cut] if cut is not None else content[start:]
            if cut is not None:
                raise ConnectionResetError

        headers = {"content-length": str(len(content) - start)}
        if start:
            headers["content-range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return StreamingResponse(body(), 206 if start else 200, headers, "image/tiff")

    @app.post("/api/uploads")
    async def begin(request: Request):
        number = f"f{len(service.uploads) + 1}"
        service.uploads[number] = {"id": number, "owner": "u1", "project": None, "state": "open", "size": 0,
                               "created": "2026-01-01T00:00:00.000Z", **(await request.json())}  # fmt: skip
        return JSONResponse(service.uploads[number], 201)

    @app.put("/api/uploads/{number}/content")
    async def content(request: Request, number: str):
        body = await request.body()
        if service.uploads[number]["state"] == "ready":
            return problem(409, "upload.state", detail="ready already")
        if body == b"bad":
            refused = {"code": "imagery.unreadable", "detail": "no image", "status": 422}
            service.uploads[number] |= {"state": "refused", "problem": refused}
            return service.uploads[number]
        service.uploads[number] |= {"state": "ready", "size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        return service.uploads[number]

    @app.get("/api/uploads/{number}")
    async def uploaded(number: str):
        return service.uploads[number]

    @app.post("/api/predict")
    async def predict(request: Request, model: str):
        body = await request.body()
        return Response(
            body[::-1],
            media_type=request.headers["accept"],
            headers={"Swathe-Seconds": "2.5", "Server-Timing": "read;dur=500, x"},
        )

    return app


@contextmanager
def serving(service):
    config = uvicorn.Config(application(service), host="127.0.0.1", port=0, log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    service.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield service
    server.should_exit = True
    thread.join(5)


@pytest.fixture(scope="session")
def _listening():
    with serving(Service()) as up:
        yield up


@pytest.fixture
def service(_listening):
    """As new, at the same address."""
    vars(_listening).update(vars(Service(_listening.url)))
    return _listening


@pytest.fixture
def client(service):
    from swathe import Client

    with Client(service.url, "swk-secret", QUICK) as client:
        yield client
