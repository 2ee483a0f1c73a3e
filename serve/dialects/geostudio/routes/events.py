"""Notices of an inference: a stream with replay, or a list; and what outside workers report."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, Header, Path, Query
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.requests import Request
from starlette.responses import Response

from serve.api.service import Here
from serve.dialects.geostudio import events
from serve.dialects.geostudio.ids import uuid_of
from serve.dialects.geostudio.problems import Refusal
from serve.dialects.geostudio.records import Seen, inference_status, listing, stamp
from serve.dialects.geostudio.routes.inference import seen, shown
from serve.dialects.geostudio.schema import Notice
from serve.dialects.geostudio.shared import Limit, Route, Skip, Who, root_of
from swathe.errors import NotFoundError

if TYPE_CHECKING:
    from serve.api.service import Service
    from swathe.user import Caller

router = APIRouter(tags=["events"], route_class=Route)
EventId = Annotated[UUID, Path()]
LastId = Annotated[str | None, Header(alias="Last-Event-ID", max_length=16_000)]
_TICK_S, _ALIVE_S = 1.0, 15.0
_NOTICES = 50
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.get("/notifications/{event_id}", responses={200: {"content": {"text/event-stream": {}}}})
async def notifications(  # noqa: PLR0913, PLR0917  what a request has
    request: Request, service: Here, who: Who, event_id: EventId,
    source: Annotated[str, Query(max_length=100)] = "", limit: Limit = 1000, skip: Skip = 0, last: LastId = None,
) -> Any:  # fmt: skip
    """``Accept: application/json``: the list; otherwise a stream, which ends with the inference."""
    if "application/json" in request.headers.get("accept", ""):
        found = await to_thread.run_sync(_all, service, who, event_id)
        found = [one for one in found if source in one["source"]]
        return listing(found[skip : skip + limit], len(found))
    return await _stream(request, service, who, event_id, last)


@router.get("/async/notify/{event_id}", responses={200: {"content": {"text/event-stream": {}}}})
async def notify(request: Request, service: Here, who: Who, event_id: EventId, last: LastId = None) -> Response:
    """The stream by its other address."""
    return await _stream(request, service, who, event_id, last)


@router.post("/notifications", status_code=201)
def report(service: Here, who: Who, asked: Notice) -> dict[str, Any]:
    """What a worker outside reports of the caller's own inference; it is listed, and moves nothing."""
    if not asked.detail:
        raise Refusal(412, "detail is empty: there is nothing to tell")
    found = seen(service.desk, who, asked.inference_id or asked.event_id)
    labels = found.batch.labels
    kept = [*labels.get("notices", []), _reported(asked, found)][-_NOTICES:]
    service.desk.batches.label(who, found.batch.id, {**labels, "notices": kept})
    return {"event_id": str(asked.event_id), "id": kept[-1]["id"]}


def _reported(asked: Notice, found: Seen) -> dict[str, Any]:
    now = stamp(datetime.now(UTC).isoformat())
    return {"id": f"r{time.time_ns()}", "event_id": uuid_of(found.batch.id), "detail_type": asked.detail_type,
            "source": asked.source, "timestamp": now, "detail": asked.detail}  # fmt: skip


def _all(service: Service, who: Caller, event_id: UUID) -> list[dict[str, Any]]:
    found = seen(service.desk, who, event_id)
    told = service.desk.batches.events(who, found.batch.id)
    return events.notices(found, told, found.batch.labels.get("notices", []))


async def _stream(request: Request, service: Service, who: Caller, event_id: UUID, last: str | None) -> Response:
    first = await to_thread.run_sync(seen, service.desk, who, event_id)
    service.hub.expect_room(who.user.id)
    source = followed(root_of(request), service, who, event_id, events.read_place(last, len(first.parts)))
    return EventSourceResponse(_counted(service, who, source), headers=_HEADERS)


async def _counted(service: Service, who: Caller, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    with service.hub.beside(who.user.id):
        async for one in source:
            yield one


async def followed(
    root: str, service: Service, who: Caller, event_id: UUID, known: dict[int, int] | None
) -> AsyncIterator[bytes]:
    """The record as it stands, then notices as they come, then the record at its end; of one that is deleted, no more.

    ``known``: where a listener comes back to; None: a new one. Whoever comes back knows how it stood there, and is told
    the record anew after what was missed.
    """
    with suppress(Refusal, NotFoundError):
        async for one in _followed(root, service, who, event_id, known):
            yield one


async def _followed(
    root: str, service: Service, who: Caller, event_id: UUID, known: dict[int, int] | None
) -> AsyncIterator[bytes]:
    place, before, spoken = dict(known or {}), None, time.monotonic()
    while True:
        found = await to_thread.run_sync(seen, service.desk, who, event_id)
        status, count = inference_status(found), len(found.parts)
        if before is None and known is None:
            yield _sent(events.UPDATED, status, await _record(root, service, who, found), events.place_of(place, count))
            before = status
        fresh = await to_thread.run_sync(service.desk.batches.events, who, found.batch.id, place)
        refused = [part for part in found.parts if part.problem and place.get(part.number, 0) == 0]
        for one in events.notices(found, fresh):
            number, seq = (int(text) for text in one["id"].split("."))
            if seq == 0 and all(part.number != number for part in refused):
                continue
            place[number] = max(place.get(number, 0), seq, 1)
            yield _sent(one["detail_type"], status, one["detail"], events.place_of(place, count))
            spoken = time.monotonic()
        for part in found.parts:  # what else happened to it is of no interest to them, but known
            place[part.number] = max(place.get(part.number, 0), part.job.last_seq if part.job else 0)
        over = status in events.OVER and all(events.ended(part) for part in found.parts)
        if status != before or over:
            kind = events.last_type(status) if over else events.UPDATED
            yield _sent(kind, status, await _record(root, service, who, found), events.place_of(place, count))
            before, spoken = status, time.monotonic()
        if over:
            return
        if time.monotonic() - spoken > _ALIVE_S:
            yield KEEPALIVE_COMMENT
            spoken = time.monotonic()
        await asyncio.sleep(_TICK_S)


async def _record(root: str, service: Service, who: Caller, found: Seen) -> dict[str, Any]:
    return await to_thread.run_sync(shown, root, service.desk, who, found)


def _sent(kind: str, status: str, data: dict[str, Any], place: str) -> bytes:
    """Without a name of the event: their listeners hear messages."""
    return format_sse_event(data_str=events.message(kind, status, data), id=place)
