"""Processors: users' scripts, which run over results in a sandbox."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from serve.api.answers import Link, ProcessorAnswer, ProcessorsAnswer
from serve.api.callers import Who
from serve.api.replay import IdempotencyKey, Keeper, once
from serve.api.responses import Cursor, Limit, address, page_links, sent
from serve.api.service import Here
from serve.api.strict import StrictRoute
from serve.desk.processors import KIND

router = APIRouter(prefix="/api/processors", tags=["processors"], route_class=StrictRoute)
ProcessorId = Annotated[str, Path(max_length=64, description="Id of a processor.")]
_BODY_BYTES = 32 << 20
"""A script of the largest size, as JSON."""
_SOURCE = (
    'import json, shutil, sys\n\nif __name__ == "__main__":\n    shutil.copy(sys.argv[1], sys.argv[2])\n'
    '    print(json.dumps({"copied": True}))\n'
)  # fmt: skip
_EXAMPLES = {"copy": {"summary": "A script that copies", "value": {"file": "copy.py", "source": _SOURCE,
                                                                   "name": "Copy"}}}  # fmt: skip


class ProcessorAsked(BaseModel):
    """A script that is to be kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    file: Annotated[str, Field(min_length=1, max_length=200)]
    """Name of the script's file; ends in .py."""
    source: str
    """The script, at most 10 MB; with a ``__main__`` block."""
    name: Annotated[str, Field(max_length=100)] = ""
    """Name of the processor, for people."""
    description: Annotated[str, Field(max_length=1000)] = ""
    """Description of the processor, for people."""
    parameters: dict[str, Any] = {}
    """For it, where a job gives no others of these names."""
    call: Literal["positional", "text", "flags", ""] = ""
    """``positional``: script.py INPUT OUTPUT PARAMS.json; ``text``: the same with the parameters themselves as JSON;
    ``flags``: --name value … --input INPUT --output FOLDER; empty: as its source tells."""
    project: Annotated[str, Field(max_length=64)] | None = None
    """Id of a project."""
    labels: dict[str, Any] = {}
    """Whatever a client wants to find again; at most 16 384 characters as JSON."""


@router.post("", operation_id="add_processor", status_code=201, response_model=ProcessorAnswer,
             max_body_size=_BODY_BYTES)  # fmt: skip
async def add(
    request: Request, service: Here, who: Who,
    asked: Annotated[ProcessorAsked, Body(openapi_examples=_EXAMPLES)],  # pyright: ignore[reportArgumentType]
    key: IdempotencyKey = None,
) -> Response:  # fmt: skip
    """Keep a script. Refused with 409 where the service cannot shut one in."""

    async def work(_: Keeper | None) -> Response:
        add = partial(service.desk.processors.add, **asked.model_dump(exclude={"file", "source"}))
        source = asked.source.encode(errors="surrogatepass")
        made = await service.slowly(add, who, asked.file, source)
        answer = ProcessorAnswer.of(made, address(request))
        return sent(request, answer, 201, {"Location": answer.links["self"]})

    return await once(request, service, who, key, work)


@router.get("", operation_id="list_processors", response_model=ProcessorsAnswer)
def listed(request: Request, service: Here, who: Who, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Processors that the caller sees, newest first."""
    page, root = service.desk.processors.listed(who, limit, cursor), address(request)
    links = [Link(**one) for one in page_links(request, page)]
    return sent(request, ProcessorsAnswer(processors=[ProcessorAnswer.of(p, root) for p in page.items], links=links))


@router.get("/{id}", operation_id="get_processor", response_model=ProcessorAnswer)
def get(request: Request, service: Here, who: Who, id: ProcessorId) -> Response:  # noqa: A002
    """A processor, with a link to its script that needs no key."""
    found = service.desk.processors.get(who, id)
    signed = service.desk.links.make(who, KIND, id)
    return sent(request, ProcessorAnswer.of(found, address(request), signed))


@router.delete("/{id}", operation_id="delete_processor", status_code=204, response_class=Response)
def delete(service: Here, who: Who, id: ProcessorId) -> Response:  # noqa: A002
    """Delete a processor: no new job runs it; jobs that were accepted before still do."""
    service.desk.processors.delete(who, id)
    return Response(status_code=204)
