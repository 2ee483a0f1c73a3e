"""Links over HTTP: made with a key, opened without one.

What opens stands in the path; logs and metrics name routes by their templates, so it is in none of them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from anyio import to_thread
from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from serve.api.answers import LinkAnswer, UploadAnswer
from serve.api.bodies import ANY, OCTETS, pulled
from serve.api.callers import Who
from serve.api.files import BYTES
from serve.api.ranges import content_answer
from serve.api.responses import address, sent
from serve.api.service import Here, Service
from serve.api.strict import StrictRoute
from serve.desk.links import LONGEST, PATH, VALID, Link
from swathe.errors import AccessError, ImageryError
from swathe.project import Upload, UploadState
from swathe.user import Caller

router = APIRouter(tags=["links"])
asking = APIRouter(tags=["links"], route_class=StrictRoute)
_OPEN = f"{PATH}/{{token}}/{{name}}"
Token = Annotated[str, Path(max_length=1100, description="What opens, as the link says it.")]
Name = Annotated[str, Path(max_length=255, description="Name of the file, as the link says it.")]
DEFAULT_S = int(VALID.total_seconds())
"""Of a link, where nothing else is asked for."""
Seconds = Annotated[int, Field(ge=1, le=int(LONGEST.total_seconds()))]
_EXAMPLES = {
    "file": {"summary": "A file of a result", "value": {"kind": "file", "id": "j01kb3x8y2q7rz5t6v9whn4m0cd",
                                                        "name": "result.tif"}},
    "upload": {"summary": "Where a file is to be sent", "value": {"kind": "upload", "id": "f01kb3x8y2q7rz5t6v9whn4m0cd",
                                                                  "method": "PUT", "valid_s": 3600}},
}  # fmt: skip


class LinkAsked(BaseModel):
    """An address to be handed on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Annotated[str, Field(min_length=1, max_length=40)]
    """``file``, ``log`` and ``archive`` of a job, ``upload``, ``processor``."""
    id: Annotated[str, Field(min_length=1, max_length=64)]
    """Id of the job, upload or processor."""
    name: Annotated[str, Field(max_length=255)] = ""
    """Name of a file of the job; of logs and archives the name that they are to have."""
    method: Literal["GET", "PUT"] = "GET"
    """PUT: to send the content of an upload."""
    valid_s: Seconds = DEFAULT_S
    """Seconds that the link is good for."""


@asking.post(PATH, operation_id="make_link", status_code=201, response_model=LinkAnswer)
async def make(
    request: Request, service: Here, who: Who, asked: Annotated[LinkAsked, Body(openapi_examples=_EXAMPLES)]  # pyright: ignore[reportArgumentType]
) -> Response:  # fmt: skip
    """A link to a thing that the caller sees: whoever holds it needs no key, until it expires."""
    made = await to_thread.run_sync(
        lambda: service.desk.links.make(who, asked.kind, asked.id, asked.name, method=asked.method,
                                        valid=timedelta(seconds=asked.valid_s))
    )  # fmt: skip
    return sent(request, LinkAnswer.of(made, address(request)), 201)


@router.get(_OPEN, operation_id="open_link", response_class=Response, responses=BYTES)
@router.head(_OPEN, include_in_schema=False)
async def read(request: Request, service: Here, token: Token, name: Name) -> Response:
    """What a link opens; with Range, a part of it. No key is needed."""
    caller, link = await _opened(request, service, token, name, "GET")
    content = await service.slowly(service.desk.links.content, caller, link)
    return await to_thread.run_sync(content_answer, request, content)


@router.put(_OPEN, operation_id="write_link", response_model=UploadAnswer, max_body_size=ANY, openapi_extra=OCTETS)
async def write(request: Request, service: Here, token: Token, name: Name) -> Response:
    """All bytes of an upload. What cannot be used is 422 and says why: whoever has a link may look at nothing else.

    No key is needed.
    """
    caller, link = await _opened(request, service, token, name, "PUT")
    found = await service.taken_in(request, service.desk.uploads.write, caller, link.id, pulled(request))
    if found.state is UploadState.REFUSED:
        raise _refusal(found)
    return sent(request, UploadAnswer.of(found, address(request)))


def _refusal(upload: Upload) -> ImageryError:
    why = upload.problem or {}
    return ImageryError(why.get("detail", "this is not usable"), code=why.get("code", ""), hint=why.get("hint", ""))


async def _opened(
    request: Request, service: Service, token: str, name: str, method: Literal["GET", "PUT"]
) -> tuple[Caller, Link]:  # fmt: skip
    """Counted for itself, so that whoever was given a link cannot keep its user out."""
    try:
        caller, link = await to_thread.run_sync(service.desk.links.open, token, name, method)
    except AccessError:
        await service.rates.take(request, "stranger", request.client.host if request.client else "")
        raise
    await service.rates.take(request, "link", caller.user.id)
    return caller, link
