"""Users' own programs, which run on results behind a wall."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal
from uuid import UUID

from anyio import to_thread
from fastapi import APIRouter, File, Form, Path, UploadFile
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from serve.api.service import Here
from serve.api.strict import parsed
from serve.dialects.geostudio.ids import id_of, uuid_of
from serve.dialects.geostudio.problems import Refusal
from serve.dialects.geostudio.records import listing, stamp
from serve.dialects.geostudio.schema import Given
from serve.dialects.geostudio.shared import Limit, Route, Skip, Who, root_of

if TYPE_CHECKING:
    from serve.api.service import Service
    from swathe.processor import ProcessorCard
    from swathe.user import Caller

router = APIRouter(prefix="/generic-processor", tags=["generic-processor"], route_class=Route)
ProcessorId = Annotated[UUID, Path()]
LETTER, KIND = "r", "processor"
_LARGEST = 10 * 2**20
_PAGE = 1000


class Metadata(Given):
    """What comes beside the program."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=1000)] | None = None
    processor_parameters: Annotated[dict[str, Any], Field(default_factory=dict)]
    call: Literal["positional", "text", "flags"] | None = None
    """How it is called; null: as its source tells."""


@router.post("", status_code=201, max_body_size=_LARGEST + 2**20)
async def create(
    service: Here, who: Who, generic_processor_file: Annotated[UploadFile, File()],
    generic_processor_metadata: Annotated[str | None, Form(max_length=200_000)] = None,
    generic_processor: Annotated[str | None, Form(max_length=200_000)] = None,
) -> dict[str, Any]:  # fmt: skip
    """A Python file, and what is said of it: in either of the two fields that their guide names."""
    about = _metadata(generic_processor_metadata or generic_processor)
    content = await generic_processor_file.read(_LARGEST + 1)
    made = await to_thread.run_sync(_added, service, who, generic_processor_file.filename or "", content, about)
    return shown(made, who)


@router.get("")
def listed(service: Here, who: Who, limit: Limit = 25, skip: Skip = 0) -> dict[str, Any]:
    """Those of the caller, newest first; none is an empty list."""
    found = service.desk.processors.listed(who, _PAGE).items
    return listing([shown(one, who) for one in found[skip : skip + limit]], len(found))


@router.get("/{id}")
def get(request: Request, service: Here, who: Who, id: ProcessorId) -> dict[str, Any]:  # noqa: A002
    """One, with a link to its file for 8 hours."""
    found = service.desk.processors.get(who, id_of(id, LETTER))
    link = service.desk.links.make(who, KIND, found.id)
    return {**shown(found, who), "processor_presigned_url": root_of(request) + link.path}


@router.delete("/{id}", status_code=204, response_class=Response)
def drop(service: Here, who: Who, id: ProcessorId) -> Response:  # noqa: A002
    """No new inference runs it; those that were accepted still do."""
    service.desk.processors.delete(who, id_of(id, LETTER))
    return Response(status_code=204)


def shown(card: ProcessorCard, who: Caller) -> dict[str, Any]:
    """As a record."""
    id_ = uuid_of(card.id)
    return {
        "id": id_, "name": card.name, "description": card.description or None,
        "processor_parameters": card.parameters, "status": "FINISHED", "processor_file_path": f"{id_}/{card.file}",
        "processor_presigned_url": None, "active": card.deleted is None, "created_by": _maker(card, who),
        "created_at": stamp(card.created), "updated_at": stamp(card.created),
    }  # fmt: skip


def _maker(card: ProcessorCard, who: Caller) -> str:
    """Of one that came by another way its owner is known to themselves alone."""
    return str(card.labels.get("created_by") or (who.user.email if who.user.id == card.owner else card.owner))


def _added(service: Service, who: Caller, file: str, content: bytes, about: Metadata) -> ProcessorCard:
    return service.desk.processors.add(
        who, file, content, name=about.name, description=about.description or "",
        parameters=about.processor_parameters, call=about.call or "", labels={"created_by": who.user.email},
    )  # fmt: skip


def _metadata(text: str | None) -> Metadata:
    """Raises Refusal (422) with a text."""
    try:
        return Metadata.model_validate(parsed((text or "").encode()))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise Refusal(422, f"generic_processor_metadata: {where}: {fault['msg']}") from None
    except ValueError as error:
        raise Refusal(422, f"generic_processor_metadata is no JSON object: {str(error)[:200]}") from None
