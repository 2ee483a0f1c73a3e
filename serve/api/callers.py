"""Who asks: by an API key or a token, in any of the places where clients can put one."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from fastapi import Depends, Security
from fastapi.security import APIKeyHeader, APIKeyQuery, HTTPBearer
from starlette.requests import Request

from serve.api.service import Here, Service
from serve.api.tokens import SILENT, is_token
from swathe.errors import AccessError, StoreError
from swathe.user import Caller

_bearer = HTTPBearer(auto_error=False, scheme_name="Bearer", description="An API key (swk-…), or a token of the "
                     "identity provider that the service is set up with.")  # fmt: skip
_header = APIKeyHeader(name="X-API-Key", auto_error=False, scheme_name="X-API-Key", description="An API key (swk-…).")
_query = APIKeyQuery(name="api_key", auto_error=False, scheme_name="api_key",
                     description="An API key (swk-…), for programs that cannot set headers.")  # fmt: skip


async def known(
    request: Request, service: Here,
    _: Annotated[object, Security(_bearer)], __: Annotated[object, Security(_header)],
    ___: Annotated[object, Security(_query)],
) -> Caller:  # fmt: skip
    """Who asks; the schemes are named for the OpenAPI document. Raises AccessError, BusyError (``busy.rate``)."""
    found = getattr(request.state, "caller", None)
    return found or await recognised(request, service, presented(request))


Who = Annotated[Caller, Depends(known)]


async def recognised(request: Request, service: Service, text: str | None, kind: str = "request") -> Caller:
    """Whom a key or token speaks of; counts the request as one of its kind and of that user. Raises as ``known``."""
    try:
        caller = await to_thread.run_sync(_opened, service, text)
    except (AccessError, StoreError) as error:
        if isinstance(error, StoreError) and error.problem.code != SILENT:
            raise
        await service.rates.take(request, "stranger", request.client.host if request.client else "")
        raise
    await service.rates.take(request, kind, caller.user.id)
    return caller


def presented(request: Request) -> str | None:
    """The key or token of a request, wherever it is."""
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    said = bearer.strip() if scheme.lower() == "bearer" else ""
    return said or request.headers.get("x-api-key") or request.query_params.get("api_key")


def _opened(service: Service, text: str | None) -> Caller:
    if not text:
        raise AccessError("a key is needed", code="access.missing",
                          hint="send Authorization: Bearer swk-…, X-API-Key: swk-… or ?api_key=swk-…")  # fmt: skip
    if service.tokens is not None and is_token(text):
        return service.desk.users.of_token(service.tokens.claims(text))
    return service.desk.keys.open(text)
