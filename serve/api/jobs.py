"""Jobs over HTTP: estimated, submitted, watched, stopped, fetched."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import TYPE_CHECKING, Annotated

from anyio import to_thread
from fastapi import APIRouter, Body, Header, Path, Query
from fastapi.sse import EventSourceResponse
from starlette.requests import Request
from starlette.responses import Response

from serve.api import examples, streams
from serve.api.answers import (
    EstimateAnswer,
    EventAnswer,
    EventsAnswer,
    FileAnswer,
    FilesAnswer,
    HookAnswer,
    HooksAnswer,
    JobAnswer,
    JobsAnswer,
    LineAnswer,
    Link,
    LogsAnswer,
)
from serve.api.callers import Who
from serve.api.files import BYTES, FileName
from serve.api.layer_answers import PublicationAnswer, PublicationsAnswer
from serve.api.prefer import Prefer, Preference
from serve.api.ranges import content_answer
from serve.api.replay import IdempotencyKey, Keeper, once
from serve.api.responses import Cursor, Limit, address, link, page_links, sent
from serve.api.service import Here, Service
from serve.api.strict import StrictRoute
from serve.catalogue.links import GEOJSON
from serve.desk.asking import Asking
from serve.store.jobs import Filter
from serve.store.pulse import Pulse
from serve.tiles.addresses import Addresses
from swathe.errors import BusyError
from swathe.job import ENDED, JobState

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from swathe.job import Job
    from swathe.user import Caller

router = APIRouter(prefix="/api", tags=["jobs"], route_class=StrictRoute)
JobId = Annotated[str, Path(max_length=64, description="Id of a job.")]
After = Annotated[int, Query(ge=0, le=2**53, description="Number of the last one that is known.")]
_ASKED = Body(openapi_examples={
    "files": {"summary": "A file at an address", "value": examples.ASKING},
    "search": {"summary": "A place and a month", "value": examples.SEARCHING},
    "masked": {"summary": "The same, with clouds, the sea and roads masked", "value": examples.MASKING},
})  # fmt: skip
Asked = Annotated[Asking, _ASKED]
_PAGE = 500


@router.post("/estimates", operation_id="estimate_job", response_model=EstimateAnswer)
async def estimate(request: Request, service: Here, who: Who, asking: Asked) -> Response:
    """What a job would take and where it would run; nothing is kept."""
    return sent(request, EstimateAnswer.of(await service.slowly(service.desk.jobs.estimate, who, asking)))


@router.post("/jobs", operation_id="submit_job", status_code=202, response_model=JobAnswer,
             responses={201: {"model": JobAnswer, "description": "It ended while the client waited."}})  # fmt: skip
async def submit(
    request: Request, service: Here, who: Who, asking: Asked, key: IdempotencyKey = None, prefer: Prefer = None
) -> Response:
    """Look at the imagery, plan, and put the job into the queue: from the answer on, it is accepted and not lost."""
    preference = Preference.read(prefer, service.front.longest_wait_s)

    async def work(keep: Keeper | None) -> Response:
        root = address(request)
        kept = None if keep is None else partial(_kept, keep, root)
        return _accepted(await service.slowly(partial(service.desk.jobs.submit, kept=kept), who, asking), root)

    return await _waited(request, service, who, preference, await once(request, service, who, key, work))


@router.get("/jobs", operation_id="list_jobs", response_model=JobsAnswer)
def listed(  # noqa: PLR0913, PLR0917  what a request has
    request: Request, service: Here, who: Who,
    state: Annotated[list[JobState] | None, Query(description="In any of these states.")] = None,
    model: Annotated[str | None, Query(max_length=200, description="With this model.")] = None,
    project: Annotated[str | None, Query(max_length=64, description="In this project.")] = None,
    since: Annotated[str | None, Query(max_length=40, pattern=r"^\d{4}-\d\d-\d\d([T ][\d:.]{5,20}Z?)?$",
                                       description="Submitted since: date or time in UTC, RFC 3339.")] = None,
    limit: Limit = 50, cursor: Cursor = None,
) -> Response:  # fmt: skip
    """Jobs that the caller sees, newest first."""
    wanted = Filter(state=tuple(state or ()), model=model, project=project, since=since)
    page = service.desk.jobs.listed(who, wanted, limit, cursor)
    root = address(request)
    found = [JobAnswer.of(job, root) for job in page.items]
    return sent(request, JobsAnswer(jobs=found, links=_links(page_links(request, page))))


@router.get("/jobs/{id}", operation_id="get_job", response_model=JobAnswer)
def get(request: Request, service: Here, who: Who, id: JobId) -> Response:  # noqa: A002
    """One job. With If-None-Match, 304 while nothing has changed."""
    return sent(request, JobAnswer.of(service.desk.jobs.get(who, id), address(request)))


@router.delete("/jobs/{id}", operation_id="delete_job", status_code=204, response_class=Response)
def drop(service: Here, who: Who, id: JobId) -> Response:  # noqa: A002
    """Remove an ended job, with its results and its catalogue entry."""
    service.desk.jobs.drop(who, id)
    return Response(status_code=204)


@router.post("/jobs/{id}/cancel", operation_id="cancel_job", status_code=202, response_model=JobAnswer)
def cancel(request: Request, service: Here, who: Who, id: JobId) -> Response:  # noqa: A002
    """Stop a job, within a chunk. What is done is kept for a resume."""
    return _accepted(service.desk.jobs.cancel(who, id), address(request))


@router.post("/jobs/{id}/resume", operation_id="resume_job", status_code=202, response_model=JobAnswer)
def resume(request: Request, service: Here, who: Who, id: JobId) -> Response:  # noqa: A002
    """Go on with a job that failed, was cancelled, or is incomplete: chunks that are done stay done."""
    return _accepted(service.desk.jobs.resume(who, id), address(request))


@router.post("/jobs/{id}/again", operation_id="repeat_job", status_code=202, response_model=JobAnswer)
async def again(
    request: Request, service: Here, who: Who, id: JobId, key: IdempotencyKey = None  # noqa: A002
) -> Response:  # fmt: skip
    """Submit the wish of a job once more, as a new job."""

    async def work(keep: Keeper | None) -> Response:
        root = address(request)
        kept = None if keep is None else partial(_kept, keep, root)
        return _accepted(await service.slowly(partial(service.desk.jobs.again, kept=kept), who, id), root)

    return await once(request, service, who, key, work)


@router.get(
    "/jobs/{id}/events", operation_id="list_job_events", response_model=EventsAnswer,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}, "example": examples.STREAM}}},
               204: {"description": "To a listener that comes back (Last-Event-ID) after the end: nothing more "
                     "will come."}},
)  # fmt: skip
async def events(  # noqa: PLR0913, PLR0917  what a request has
    request: Request, service: Here, who: Who, id: JobId, after: After = 0,  # noqa: A002
    limit: Limit = _PAGE,
    last: Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)] = None,
) -> Response:  # fmt: skip
    """Facts of a job. With ``Accept: text/event-stream`` a stream: the job as it stands, then events as they come."""
    if "text/event-stream" in request.headers.get("accept", ""):
        return await _stream(request, service, (who, id), after, last)
    found = await to_thread.run_sync(service.desk.jobs.events, who, id, after, limit)
    links = _more(request, found[-1].seq) if len(found) == limit else []
    return sent(request, EventsAnswer(events=[EventAnswer.of(e) for e in found], links=links))


@router.get("/jobs/{id}/logs", operation_id="list_job_logs", response_model=LogsAnswer)
def logs(
    request: Request, service: Here, who: Who, id: JobId, after: After = 0, limit: Limit = _PAGE  # noqa: A002
) -> Response:  # fmt: skip
    """Lines of a job's log, oldest first."""
    found = service.desk.jobs.logs(who, id, after, limit)
    links = _more(request, found[-1].seq) if len(found) == limit else []
    return sent(request, LogsAnswer(logs=[LineAnswer.of(line) for line in found], links=links))


@router.get("/jobs/{id}/files", operation_id="list_job_files", response_model=FilesAnswer)
def files(request: Request, service: Here, who: Who, id: JobId) -> Response:  # noqa: A002
    """Files that a job left behind; none before its end."""
    here = f"{address(request)}/api/jobs/{id}/files"
    return sent(request, FilesAnswer(files=[FileAnswer.of(f, here) for f in service.desk.jobs.files(who, id)]))


@router.get("/jobs/{id}/files/{name}", operation_id="get_job_file", response_class=Response, responses=BYTES)
@router.head("/jobs/{id}/files/{name}", include_in_schema=False)
def file(request: Request, service: Here, who: Who, id: JobId, name: FileName) -> Response:  # noqa: A002
    """A file of a job; with Range, a part of it."""
    return content_answer(request, service.desk.jobs.content(who, id, name))


@router.get("/jobs/{id}/archive.zip", operation_id="get_job_archive", response_class=Response, responses=BYTES)
@router.head("/jobs/{id}/archive.zip", include_in_schema=False)
async def archive(request: Request, service: Here, who: Who, id: JobId) -> Response:  # noqa: A002
    """All that it left behind and its log, as one ZIP archive whose members are stored as they are.

    With Range, a part of it: readers of far archives take out single members.
    """
    return await to_thread.run_sync(
        content_answer, request, await service.slowly(service.desk.archives.content, who, id)
    )


@router.get("/jobs/{id}/item", operation_id="get_job_item", response_class=Response,
            responses={200: {"content": {GEOJSON: {"schema": {"type": "object"}, "example": examples.ITEM}},
                             "description": "STAC Item 1.1."}})  # fmt: skip
def item(request: Request, service: Here, who: Who, id: JobId) -> Response:  # noqa: A002
    """The STAC Item of a job, with absolute addresses."""
    root = address(request)
    addresses = Addresses(root)  # documents are passed on: no key is written into them
    maps = [one for layer in service.desk.layers.of_job(who, id) for one in addresses.links(layer)]
    return streams.document(request, streams.at_home(service.desk.jobs.item(who, id), root, id, maps), GEOJSON)


@router.get("/jobs/{id}/publications", operation_id="list_job_publications", response_model=PublicationsAnswer)
def publications(request: Request, service: Here, who: Who, id: JobId) -> Response:  # noqa: A002
    """Where else its result is shown: layers of the map server that the service pushes to."""
    found = [PublicationAnswer.of(one) for one in service.desk.jobs.publications(who, id)]
    return sent(request, PublicationsAnswer(publications=found))


@router.get("/jobs/{id}/hooks", operation_id="list_job_hooks", response_model=HooksAnswer)
def hooks(request: Request, service: Here, who: Who, id: JobId) -> Response:  # noqa: A002
    """Addresses that are told of its events: how far they were told, and why no further. For its owner alone."""
    found = [HookAnswer.of(hook) for hook in service.desk.jobs.hooks(who, id)]
    return sent(request, HooksAnswer(hooks=found))


# --- pieces -----------------------------------------------------------------------------------------------------------


def _accepted(job: Job, root: str) -> Response:
    answer = JobAnswer.of(job, root)
    return Response(answer.model_dump_json(), 202, {"Location": answer.links["self"]}, "application/json")


def _kept(keep: Keeper, root: str, c: Connection, job: Job) -> None:
    """The answer, inside the transaction that accepts the job."""
    keep(c, _accepted(job, root))


def _links(found: list[dict[str, str]]) -> list[Link]:
    return [Link(**one) for one in found]


def _more(request: Request, seq: int) -> list[Link]:
    return [Link(**link("next", f"{address(request)}{request.url.path}?after={seq}"))]


async def _waited(
    request: Request, service: Service, who: Caller, preference: Preference, answer: Response
) -> Response:  # fmt: skip
    """The job as it stands after the time that the client wanted to wait."""
    answer.headers.update(preference.headers())
    if preference.wait_s is None or answer.headers.get("idempotent-replayed"):
        return answer
    job_id = answer.headers["location"].rpartition("/")[2]
    try:
        service.hub.expect_room(who.user.id)
    except BusyError:  # the job is accepted: whoever was told to come again would submit it twice
        return answer
    await service.hub.until_ended(job_id, preference.wait_s, who.user.id)
    job = await to_thread.run_sync(service.desk.jobs.get, who, job_id)
    waited = _accepted(job, address(request))
    waited.status_code = 201 if job.state in ENDED else 202
    waited.headers.update(preference.headers())
    return waited


async def _stream(
    request: Request, service: Service, of: tuple[Caller, str], after: int, last: str | None
) -> Response:  # fmt: skip
    job = await to_thread.run_sync(service.desk.jobs.get, *of)
    came_back = last is not None and last.isascii() and last.isdigit()
    after = max(after, int(last or 0)) if came_back else after
    if came_back and job.state in ENDED and after >= job.last_seq:
        return Response(status_code=204)
    service.hub.expect_room(of[0].user.id)
    first = JobAnswer.of(job, address(request))
    known = Pulse(job.last_seq, job.state, job.progress)
    news = service.hub.follow(job.id, after, of[0].user.id, known)
    source: AsyncIterator[bytes] = streams.messages(first, news)
    return EventSourceResponse(source, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
