"""Files that users bring: a place first, then the bytes, in a stream."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from serve.api.answers import Link, SignedUpload, UploadAnswer, UploadsAnswer
from serve.api.bodies import ANY, OCTETS, pulled
from serve.api.callers import Who
from serve.api.files import BYTES, FileName
from serve.api.links import DEFAULT_S, Seconds
from serve.api.ranges import content_answer
from serve.api.replay import IdempotencyKey, Keeper, once
from serve.api.responses import Cursor, Limit, address, page_links, sent
from serve.api.service import Here, Service
from serve.api.strict import StrictRoute
from serve.desk.links import UPLOAD
from swathe.project import UploadState
from swathe.user import Caller

router = APIRouter(prefix="/api/uploads", tags=["uploads"], route_class=StrictRoute)
UploadId = Annotated[str, Path(max_length=64, description="Id of an upload.")]
_EXAMPLES = {"file": {"summary": "A GeoTIFF", "value": {"name": "scene.tif"}},
             "signed": {"summary": "With links", "value": {"name": "scene.tif", "signed": True}}}  # fmt: skip


class UploadAsked(BaseModel):
    """A file that will be sent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """Name of the file, as its user calls it; bands are told by it (B03.tif)."""
    project: Annotated[str, Field(max_length=64)] | None = None
    """Id of a project."""
    labels: dict[str, Any] = {}
    """Whatever a client wants to find again; at most 16 384 characters as JSON."""
    signed: bool = False
    """Whether links are wanted with which the file is sent, and fetched again, without a key."""
    valid_s: Seconds = DEFAULT_S
    """Seconds that these links are good for; bytes are awaited for a day."""


@router.post("", operation_id="begin_upload", status_code=201, response_model=UploadAnswer)
async def begin(
    request: Request, service: Here, who: Who, asked: Annotated[UploadAsked, Body(openapi_examples=_EXAMPLES)],  # pyright: ignore[reportArgumentType]
    key: IdempotencyKey = None,
) -> Response:  # fmt: skip
    """A place for a file; its bytes are sent to links.content, or without a key to signed.upload_url."""

    async def work(_: Keeper | None) -> Response:
        found = await service.slowly(service.desk.uploads.begin, who, asked.name, asked.project, asked.labels)
        made = UploadAnswer.of(found, address(request))
        return sent(request, made, 201, {"Location": made.links["self"]})

    answer = await once(request, service, who, key, work)
    return await to_thread.run_sync(_signed, request, service, who, asked, answer) if asked.signed else answer


@router.get("", operation_id="list_uploads", response_model=UploadsAnswer)
def listed(request: Request, service: Here, who: Who, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Uploads that the caller sees, newest first."""
    page, root = service.desk.uploads.listed(who, limit, cursor), address(request)
    links = [Link(**one) for one in page_links(request, page)]
    return sent(request, UploadsAnswer(uploads=[UploadAnswer.of(u, root) for u in page.items], links=links))


@router.get("/{id}", operation_id="get_upload", response_model=UploadAnswer)
def get(request: Request, service: Here, who: Who, id: UploadId) -> Response:  # noqa: A002
    """One upload: what was found inside, or why it was refused."""
    return sent(request, UploadAnswer.of(service.desk.uploads.get(who, id), address(request)))


@router.put("/{id}/content", operation_id="write_upload", response_model=UploadAnswer, max_body_size=ANY,
            openapi_extra=OCTETS)  # fmt: skip
async def write(request: Request, service: Here, who: Who, id: UploadId) -> Response:  # noqa: A002
    """Write all bytes of an upload: a GeoTIFF, a JPEG 2000, or an archive of them.

    The answer says ready, or refused and why.
    """
    found = await service.taken_in(request, service.desk.uploads.write, who, id, pulled(request))
    return sent(request, UploadAnswer.of(found, address(request)))


@router.get("/{id}/turn", operation_id="get_upload_turn", status_code=204, response_class=Response)
async def turn(service: Here, who: Who, id: UploadId) -> Response:  # noqa: A002
    """Whether a large file (more than 8 MB) would be taken now: 204, or 429 and when to come again.

    To be asked before such a file is sent: without a turn it is refused unread.
    """
    await to_thread.run_sync(service.desk.uploads.get, who, id)
    service.expect_turn(who)
    return Response(status_code=204)


@router.post("/{id}/arrived", operation_id="settle_upload", response_model=UploadAnswer)
async def arrived(request: Request, service: Here, who: Who, id: UploadId) -> Response:  # noqa: A002
    """Take bytes that were written to signed.direct_url. The answer says ready, or refused and why."""
    return sent(request, UploadAnswer.of(await service.slowly(service.desk.uploads.arrived, who, id), address(request)))


@router.delete("/{id}", operation_id="delete_upload", status_code=204, response_class=Response)
def drop(service: Here, who: Who, id: UploadId) -> Response:  # noqa: A002
    """Remove an upload, with its bytes."""
    service.desk.uploads.drop(who, id)
    return Response(status_code=204)


@router.get("/{id}/files/{name}", operation_id="get_upload_file", response_class=Response, responses=BYTES)
@router.head("/{id}/files/{name}", include_in_schema=False)
def file(request: Request, service: Here, who: Who, id: UploadId, name: FileName) -> Response:  # noqa: A002
    """An image of an upload, as it was brought; with Range, a part of it."""
    return content_answer(request, service.desk.uploads.file(who, id, name))


def _signed(request: Request, service: Service, who: Caller, asked: UploadAsked, answer: Response) -> Response:
    """With links, which are made anew each time: no answer that is kept for a repetition says what opens."""
    made, root = UploadAnswer.model_validate_json(bytes(answer.body)), address(request)
    to, back = (service.desk.links.make(who, UPLOAD, made.id, method=method, valid=timedelta(seconds=asked.valid_s))
                for method in ("PUT", "GET"))  # fmt: skip
    direct = service.desk.uploads.address(who, made.id) if made.state is UploadState.OPEN else None
    signed = SignedUpload(upload_url=root + to.path, download_url=root + back.path, expires=to.expires,
                          direct_url=direct)  # fmt: skip
    headers = {name: value for name, value in answer.headers.items() if name not in {"content-length", "content-type"}}
    body = made.model_copy(update={"signed": signed}).model_dump_json()
    return Response(body, answer.status_code, headers, "application/json")
