"""Who asks, users, keys, and the audit log over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from serve.api.answers import Link
from serve.api.callers import Who
from serve.api.people_answers import (
    AuditAnswer,
    EntryAnswer,
    KeyAnswer,
    KeysAnswer,
    MeAnswer,
    NewKeyAnswer,
    UserAnswer,
    UsersAnswer,
)
from serve.api.replay import IdempotencyKey, once_in_thread
from serve.api.responses import Cursor, Limit, address, page_links, sent
from serve.api.service import Here
from serve.api.strict import StrictRoute
from swathe.user import Quota, Role, Scope

router = APIRouter(prefix="/api", route_class=StrictRoute)
UserId = Annotated[str, Path(max_length=64, description="Id of a user.")]
KeyId = Annotated[str, Path(max_length=64, description="Id of a key.")]
Whose = Annotated[str | None, Query(max_length=64, description="Id of a user; null: oneself.")]
Count = Annotated[int, Field(ge=0, le=1_000_000)] | None
Amount = Annotated[float, Field(ge=0, le=1e12, allow_inf_nan=False)] | None
_STRICT = ConfigDict(frozen=True, extra="forbid")


class KeyAsked(BaseModel):
    """A new key."""

    model_config = _STRICT

    label: Annotated[str, Field(max_length=200)] = ""
    """What the key is for."""
    scopes: list[Scope] | None = None
    """What the key may do; null: all that its user and the asking key may."""
    days: Annotated[int, Field(ge=1, le=36_500)] | None = None
    """Days that the key is valid; null: for ever."""
    user: Annotated[str, Field(max_length=64)] | None = None
    """Id of the user whose key it is (for administrators); null: one's own."""


class KeyChange(BaseModel):
    """Whether a key is switched on."""

    model_config = _STRICT

    active: bool
    """Whether the key opens anything."""


class QuotaAsked(BaseModel):
    """Where a user differs from the service's limits; null: nowhere."""

    model_config = _STRICT

    running_jobs: Count = None
    """Jobs at work at a time, and as many small ones."""
    queued_jobs: Count = None
    """Jobs that wait."""
    storage_mb: Count = None
    """Megabytes of results and uploads."""
    area_km2: Amount = None
    """Square kilometres of the jobs of 30 days."""


class UserAsked(BaseModel):
    """A new user."""

    model_config = _STRICT

    email: Annotated[str, Field(max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")]
    """Address of the user; nobody else has it."""
    role: Role = Role.MEMBER
    """Role: what they may at most."""
    name: Annotated[str, Field(max_length=200)] = ""
    """Name of the user, for people."""


class UserChange(BaseModel):
    """What of a user is to change; what is left out stays. Oneself: the name."""

    model_config = _STRICT

    name: Annotated[str, Field(max_length=200)] = ""
    """Name of the user, for people."""
    role: Role = Role.MEMBER
    """Role: what they may at most."""
    active: bool = True
    """Whether their keys open anything."""
    quota: QuotaAsked = QuotaAsked()
    """Quota, instead of all that there was."""


@router.get("/me", operation_id="get_me", response_model=MeAnswer, tags=["users"])
def me(request: Request, service: Here, who: Who) -> Response:
    """Who asks, what they may, and how much of it is used."""
    return sent(request, MeAnswer.of(who, *service.desk.usage.of(who)))


# --- keys -------------------------------------------------------------------------------------------------------------


@router.get("/keys", operation_id="list_keys", response_model=KeysAnswer, tags=["keys"])
def list_keys(request: Request, service: Here, who: Who, user: Whose = None) -> Response:
    """Keys of a user, without what opens."""
    return sent(request, KeysAnswer(keys=[KeyAnswer.of(key) for key in service.desk.keys.listed(who, user)]))


@router.post("/keys", operation_id="make_key", status_code=201, response_model=NewKeyAnswer, tags=["keys"])
def make_key(
    request: Request, service: Here, who: Who,
    asked: Annotated[KeyAsked, Body(openapi_examples={"reader": {
        "summary": "One that only reads, for 90 days",
        "value": {"label": "dashboard", "scopes": ["jobs:read"], "days": 90}}})],
) -> Response:  # fmt: skip
    """Make a key; the answer shows it this once. It never may more than the key that makes it."""
    key, secret = service.desk.keys.make(who, asked.label, asked.scopes, asked.days, asked.user)
    made = NewKeyAnswer(**KeyAnswer.of(key).model_dump(), secret=secret)
    return sent(request, made, 201, {"Location": f"{address(request)}/api/keys/{key.id}", "Cache-Control": "no-store"})


@router.patch("/keys/{id}", operation_id="change_key", response_model=KeyAnswer, tags=["keys"])
def change_key(
    request: Request, service: Here, who: Who, id: KeyId,  # noqa: A002
    wanted: Annotated[KeyChange, Body(openapi_examples={"off": {"summary": "Switch it off",
                                                                "value": {"active": False}}})],
) -> Response:  # fmt: skip
    """Switch a key on or off."""
    return sent(request, KeyAnswer.of(service.desk.keys.change(who, id, active=wanted.active)))


@router.delete("/keys/{id}", operation_id="delete_key", status_code=204, response_class=Response, tags=["keys"])
def drop_key(service: Here, who: Who, id: KeyId) -> Response:  # noqa: A002
    """Remove a key for ever."""
    service.desk.keys.drop(who, id)
    return Response(status_code=204)


# --- users ------------------------------------------------------------------------------------------------------------


@router.get("/users", operation_id="list_users", response_model=UsersAnswer, tags=["users"])
def list_users(request: Request, service: Here, who: Who, limit: Limit = 50, cursor: Cursor = None) -> Response:
    """All users (for administrators)."""
    page = service.desk.users.listed(who, limit, cursor)
    links = [Link(**one) for one in page_links(request, page)]
    return sent(request, UsersAnswer(users=[UserAnswer.of(user) for user in page.items], links=links))


@router.post("/users", operation_id="add_user", status_code=201, response_model=UserAnswer, tags=["users"])
async def add_user(
    request: Request, service: Here, who: Who,
    asked: Annotated[UserAsked, Body(openapi_examples={"member": {"summary": "A member", "value": {
        "email": "ada@example.org", "name": "Ada"}}})],
    key: IdempotencyKey = None,
) -> Response:  # fmt: skip
    """Add a user (for administrators)."""

    def work() -> Response:
        made = UserAnswer.of(service.desk.users.add(who, asked.email, asked.role, asked.name))
        return sent(request, made, 201, {"Location": f"{address(request)}/api/users/{made.id}"})

    return await once_in_thread(request, service, who, key, work)


@router.get("/users/{id}", operation_id="get_user", response_model=UserAnswer, tags=["users"])
def get_user(request: Request, service: Here, who: Who, id: UserId) -> Response:  # noqa: A002
    """A user: oneself; others for administrators."""
    return sent(request, UserAnswer.of(service.desk.users.get(who, id)))


@router.patch("/users/{id}", operation_id="change_user", response_model=UserAnswer, tags=["users"])
def change_user(
    request: Request, service: Here, who: Who, id: UserId,  # noqa: A002
    wanted: Annotated[UserChange, Body(openapi_examples={"more": {"summary": "More jobs at a time", "value": {
        "quota": {"running_jobs": 8}}}})],
) -> Response:  # fmt: skip
    """Change a user's name, role or quota; of one that is switched off no key opens anything."""
    changes: dict[str, Any] = {name: getattr(wanted, name) for name in wanted.model_fields_set}
    if "quota" in changes:
        changes["quota"] = Quota(**wanted.quota.model_dump())
    return sent(request, UserAnswer.of(service.desk.users.change(who, id, **changes)))


# --- audit ------------------------------------------------------------------------------------------------------------


@router.get("/audit", operation_id="list_audit", response_model=AuditAnswer, tags=["audit"])
def list_audit(
    request: Request, service: Here, who: Who, limit: Limit = 50, cursor: Cursor = None, user: Whose = None
) -> Response:  # fmt: skip
    """Who changed what, newest first: one's own, for administrators everybody's."""
    page = service.desk.audit.listed(who, limit, cursor, user)
    links = [Link(**one) for one in page_links(request, page)]
    return sent(request, AuditAnswer(audit=[EntryAnswer.of(entry) for entry in page.items], links=links))
