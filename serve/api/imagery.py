"""Imagery of one's own in the catalogue: registered, and forgotten."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from serve.api.answers import ImageryAnswer
from serve.api.callers import Who
from serve.api.catalogue import published
from serve.api.replay import IdempotencyKey, Keeper, once
from serve.api.responses import address, sent
from serve.api.service import Here
from serve.api.strict import StrictRoute
from serve.desk.catalogue import IMAGERY

router = APIRouter(prefix="/api/imagery", tags=["imagery"], route_class=StrictRoute)
ImageryId = Annotated[str, Path(max_length=80, description="Id of an item of the collection imagery.")]
_EXAMPLES = {
    "scene": {"summary": "A scene of one day",
              "value": {"upload": "f01kb3x8y2q7rz5t6v9whn4m0cd", "datetime": "2024-07-25", "title": "Lagoon"}},
}  # fmt: skip


class ImageryAsked(BaseModel):
    """An upload that is to be found again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    upload: Annotated[str, Field(min_length=1, max_length=64)]
    """Id of the upload."""
    datetime: Annotated[str, Field(min_length=1, max_length=40)] | None = None
    """RFC 3339 or a date; null: the time in a file's name, else of the file, which object storage does not know."""
    title: Annotated[str, Field(max_length=200)] = ""
    """Title of the items, for people."""


@router.post("", operation_id="register_imagery", status_code=201, response_model=ImageryAnswer)
async def register(
    request: Request, service: Here, who: Who,
    asked: Annotated[ImageryAsked, Body(openapi_examples=_EXAMPLES)],  # pyright: ignore[reportArgumentType]
    key: IdempotencyKey = None,
) -> Response:  # fmt: skip
    """An item for each image of an upload, in the collection imagery of /stac; again: they are renewed.

    A job takes one as item://imagery/ID.
    """

    async def work(_: Keeper | None) -> Response:
        found = await service.slowly(service.desk.catalogue.register, who, asked.upload, asked.datetime, asked.title)
        place, root = service.desk.settings.place, address(request)
        return sent(request, ImageryAnswer(items=[_published(item, place, root) for item in found]), 201)

    return await once(request, service, who, key, work)


@router.delete("/{id}", operation_id="forget_imagery", status_code=204, response_class=Response)
def forget(service: Here, who: Who, id: ImageryId) -> Response:  # noqa: A002
    """Out of the catalogue; its upload stays."""
    service.desk.catalogue.drop(who, IMAGERY, id)
    return Response(status_code=204)


def _published(item: dict[str, Any], place: str, root: str) -> dict[str, Any]:
    """With addresses that a client can open."""
    assets = {key: {**a, "href": published(a["href"], place, root)} for key, a in item["assets"].items()}
    return {**item, "assets": assets}
