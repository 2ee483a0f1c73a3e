"""Projects over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from serve.api.answers import Link, ProjectAnswer, ProjectsAnswer
from serve.api.callers import Who
from serve.api.replay import IdempotencyKey, once_in_thread
from serve.api.responses import Cursor, Limit, address, page_links, sent
from serve.api.service import Here
from serve.api.strict import StrictRoute

router = APIRouter(prefix="/api/projects", tags=["projects"], route_class=StrictRoute)
ProjectId = Annotated[str, Path(max_length=64, description="Id of a project.")]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=4000)]


class ProjectAsked(BaseModel):
    """A folder for jobs and uploads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    """Name of the project; its owner has no other of that name."""
    description: Text = ""
    """Description of the project, for people."""
    shared: bool = False
    """Whether all users see what is in it."""
    labels: dict[str, Any] = {}
    """Whatever a client wants to find again; at most 16 384 characters as JSON."""


class ProjectChange(BaseModel):
    """What of it is to change; what is left out stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = ""
    """As of a new project."""
    description: Text = ""
    """As of a new project."""
    shared: bool = False
    """As of a new project."""
    labels: dict[str, Any] = {}
    """Labels, instead of all that there are."""


@router.get("", operation_id="list_projects", response_model=ProjectsAnswer)
def listed(request: Request, service: Here, who: Who, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """Projects of the caller, and those that are shared."""
    page, root = service.desk.projects.listed(who, limit, cursor), address(request)
    links = [Link(**one) for one in page_links(request, page)]
    return sent(request, ProjectsAnswer(projects=[ProjectAnswer.of(p, root) for p in page.items], links=links))


@router.post("", operation_id="add_project", status_code=201, response_model=ProjectAnswer)
async def add(
    request: Request, service: Here, who: Who,
    asked: Annotated[ProjectAsked, Body(openapi_examples={"project": {"summary": "A project",
                                                                      "value": {"name": "Venice"}}})],
    key: IdempotencyKey = None,
) -> Response:  # fmt: skip
    """Add a project."""

    def work() -> Response:
        found = service.desk.projects.add(who, asked.name, asked.description, shared=asked.shared, labels=asked.labels)
        made = ProjectAnswer.of(found, address(request))
        return sent(request, made, 201, {"Location": made.links["self"]})

    return await once_in_thread(request, service, who, key, work)


@router.get("/{id}", operation_id="get_project", response_model=ProjectAnswer)
def get(request: Request, service: Here, who: Who, id: ProjectId) -> Response:  # noqa: A002
    """One project."""
    return sent(request, ProjectAnswer.of(service.desk.projects.get(who, id), address(request)))


@router.patch("/{id}", operation_id="change_project", response_model=ProjectAnswer)
def change(
    request: Request, service: Here, who: Who, id: ProjectId,  # noqa: A002
    wanted: Annotated[ProjectChange, Body(openapi_examples={"share": {"summary": "Share it",
                                                                      "value": {"shared": True}}})],
) -> Response:  # fmt: skip
    """Rename, describe, share or label a project."""
    found = service.desk.projects.change(who, id, **wanted.model_dump(exclude_unset=True))
    return sent(request, ProjectAnswer.of(found, address(request)))


@router.delete("/{id}", operation_id="delete_project", status_code=204, response_class=Response)
def drop(service: Here, who: Who, id: ProjectId) -> Response:  # noqa: A002
    """Remove a project: its jobs and uploads stay with their owners."""
    service.desk.projects.drop(who, id)
    return Response(status_code=204)
