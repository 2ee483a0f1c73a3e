"""Files that users bring: a place first, then the bytes, in a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from anyio import from_thread
from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from serve.api.answers import Link, UploadAnswer, UploadsAnswer
from serve.api.callers import Who
from serve.api.files import BYTES, FileName, upload_answer
from serve.api.replay import IdempotencyKey, Keeper, once
from serve.api.sending import Cursor, Limit, address, page_links, sent
from serve.api.service import Here
from serve.api.strict import StrictRoute

router = APIRouter(prefix="/api/uploads", tags=["uploads"], route_class=StrictRoute)
UploadId = Annotated[str, Path(max_length=64, description="Id of an upload.")]
_ANY = 2**50
"""Bytes: the desk counts, by the limits of the service."""


class UploadAsked(BaseModel):
    """A file that will come."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=200)]
    """As its user calls it; bands are told by it (B03.tif)."""
    project: Annotated[str, Field(max_length=64)] | None = None
    """Id of a project."""
    labels: dict[str, Any] = {}
    """Whatever a client wants to find again."""


@router.post("", operation_id="begin_upload", status_code=201, response_model=UploadAnswer)
async def begin(
    request: Request, service: Here, who: Who,
    asked: Annotated[UploadAsked, Body(openapi_examples={"file": {"summary": "A GeoTIFF",
                                                                  "value": {"name": "scene.tif"}}})],
    key: IdempotencyKey = None,
) -> Response:  # fmt: skip
    """A place for a file; its bytes are sent to links.content."""

    async def work(_: Keeper | None) -> Response:
        found = await service.slowly(service.desk.uploads.begin, who, asked.name, asked.project, asked.labels)
        made = UploadAnswer.of(found, address(request))
        return sent(request, made, 201, {"Location": made.links["self"]})

    return await once(request, service, who, key, work)


@router.get("", operation_id="list_uploads", response_model=UploadsAnswer)
def listed(request: Request, service: Here, who: Who, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Those that the caller sees, newest first."""
    page, root = service.desk.uploads.listed(who, limit, cursor), address(request)
    links = [Link(**one) for one in page_links(request, page)]
    return sent(request, UploadsAnswer(uploads=[UploadAnswer.of(u, root) for u in page.items], links=links))


@router.get("/{id}", operation_id="get_upload", response_model=UploadAnswer)
def get(request: Request, service: Here, who: Who, id: UploadId) -> Response:  # noqa: A002
    """One upload: what was found inside, or why it was refused."""
    return sent(request, UploadAnswer.of(service.desk.uploads.get(who, id), address(request)))


@router.put("/{id}/content", operation_id="write_upload", response_model=UploadAnswer, max_body_size=_ANY,
            openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {
                "schema": {"type": "string", "format": "binary"}}}}})  # fmt: skip
async def write(request: Request, service: Here, who: Who, id: UploadId) -> Response:  # noqa: A002
    """All its bytes: a GeoTIFF, a JPEG 2000, or an archive of them. The answer says ready, or refused and why."""
    chunks = _Pulled(request.stream())
    return sent(request, UploadAnswer.of(await service.taken_in(service.desk.uploads.write, who, id, chunks),
                                         address(request)))  # fmt: skip


@router.delete("/{id}", operation_id="delete_upload", status_code=204, response_class=Response)
def drop(service: Here, who: Who, id: UploadId) -> Response:  # noqa: A002
    """With its bytes."""
    service.desk.uploads.drop(who, id)
    return Response(status_code=204)


@router.get("/{id}/files/{name}", operation_id="get_upload_file", response_class=Response, responses=BYTES)
@router.head("/{id}/files/{name}", include_in_schema=False)
def file(request: Request, service: Here, who: Who, id: UploadId, name: FileName) -> Response:  # noqa: A002
    """One of its images, as it was brought; with Range, a part of it."""
    return upload_answer(request, service.desk.uploads, who, id, name)


class _Pulled(Iterator[bytes]):
    """A body as it comes, for a thread that asks the event loop for each piece."""

    def __init__(self, stream: AsyncIterator[bytes]) -> None:
        self._stream = stream

    def __next__(self) -> bytes:
        """Raises StopIteration at the end of the body."""
        piece = from_thread.run(self._piece)
        if piece is None:
            raise StopIteration
        return piece

    async def _piece(self) -> bytes | None:
        return await anext(self._stream, None)
