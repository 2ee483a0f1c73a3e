"""API keys: at most two of a user that were made here; the whole of one is seen once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Query
from starlette.responses import Response

from serve.api.service import Here
from serve.dialects.geostudio.ids import id_of, uuid_of
from serve.dialects.geostudio.problems import Refusal
from serve.dialects.geostudio.records import listing
from serve.dialects.geostudio.schema import KeyUpdate
from serve.dialects.geostudio.shared import Route, Who
from swathe.errors import LimitError

if TYPE_CHECKING:
    from swathe.user import Key

router = APIRouter(prefix="/auth/api-keys", tags=["auth"], route_class=Route)
PREFIX, LABEL = "pak-", "geospatial studio"
_MOST, _DAYS, _LENGTH = 2, 90, 32
KeyId = Annotated[str, Query(max_length=64)]


@router.get("")
def listed(service: Here, who: Who) -> dict[str, Any]:
    """Those of the caller that were made here; of their values the beginning, since nothing more is kept."""
    found = [_shown(key) for key in _made_here(service, who)]
    return listing(found, len(found))


@router.post("")
def make(service: Here, who: Who, _: Annotated[Any, Body()] = None) -> dict[str, Any]:
    """A new one, for 90 days."""
    try:
        key, secret = service.desk.keys.make(who, LABEL, days=_DAYS, most=_MOST)
    except LimitError as error:  # there are too many of these, or of all that they have
        raise Refusal(412, f"{error.detail}; {error.hint}") from None
    return _shown(key, PREFIX + secret[-_LENGTH:])


@router.patch("")
def change(service: Here, who: Who, apikey_id: KeyId, asked: KeyUpdate) -> dict[str, Any]:
    """On or off, at once."""
    return _shown(service.desk.keys.change(who, id_of(apikey_id, "k"), active=asked.active))


@router.delete("", status_code=204, response_class=Response)
def drop(service: Here, who: Who, apikey_id: KeyId) -> Response:
    """For ever."""
    service.desk.keys.drop(who, id_of(apikey_id, "k"))
    return Response(status_code=204)


def _made_here(service: Here, who: Who) -> list[Key]:
    return [key for key in service.desk.keys.listed(who) if key.label == LABEL]


def _shown(key: Key, value: str | None = None) -> dict[str, Any]:
    masked = PREFIX + key.prefix + "*" * (_LENGTH - len(key.prefix))
    until = key.expires and key.expires.replace("Z", "000")
    return {"id": uuid_of(key.id), "value": value or masked, "expires_on": until, "active": key.active}
