"""Whatever goes wrong in a request, as ``application/problem+json`` (RFC 9457) in the form of our error tree."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from serve.desk.wording import STORAGE, of_storage
from swathe.errors import BusyError, OutputError, Problem, SwatheError

PROBLEM = "application/problem+json"
_log = logging.getLogger(__name__)
_UNAUTHORISED, _UNAVAILABLE, _LATER_S = 401, 503, 5
_STATUS = {"catalogue.unknown": 404, "catalogue.busy": _UNAVAILABLE, "idempotency.body": 422,
           "model.starting": _UNAVAILABLE, **dict.fromkeys(STORAGE, _UNAVAILABLE)}  # fmt: skip
"""Codes whose class says something else, because on a command line it means something else, or because the same request
will do later (503)."""
_TITLES = {
    404: "There is nothing here.",
    405: "This cannot be done here.",
    408: "The request came too slowly.",
    413: "The request is too large.",
}
_SOON, _SOON_S = "idempotency.running", 2
"""The same request is at work: it will have answered soon."""
_SHOWN = 20
"""Mistakes of one request that are listed."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How an application answers requests that cannot be read."""

    status: int = 422
    """STAC wants 400."""
    code: str = "request.invalid"
    """Of the problem."""
    hint: str = "the service's /docs say what can be asked"
    """The same."""
    description: bool = False
    """Whether ``detail`` is said again as ``description``, STAC's older word."""


def install(app: FastAPI, manners: Manners | None = None) -> None:
    """Answer every error of ``app`` with a problem."""
    manners = manners or Manners()
    for kind, handler in ((SwatheError, _ours), (RequestValidationError, _malformed), (HTTPException, _http),
                          (Exception, _unexpected)):  # fmt: skip
        app.add_exception_handler(kind, partial(handler, manners))


def respond(
    problem: Problem, manners: Manners | None = None, headers: Mapping[str, str] | None = None,
    errors: list[dict[str, str]] | None = None,
) -> JSONResponse:  # fmt: skip
    """One of them as a response. Who has to come with a key, or later, is told so in a header."""
    body = problem.as_dict()
    if errors:
        body["errors"] = errors
    if manners and manners.description:
        body["description"] = problem.detail
    return JSONResponse(body, problem.status, headers_of(problem) | dict(headers or {}), PROBLEM)


def problem_of(error: SwatheError) -> Problem:
    """What is told of it over HTTP."""
    problem = error.problem
    if problem.code in STORAGE:
        _log.warning("%s", problem.line())  # for whoever runs the service: clients are not told its paths
    return replace(of_storage(problem), status=_STATUS.get(problem.code, problem.status))


def headers_of(problem: Problem) -> dict[str, str]:
    """That go with it: how to come in, or when to come again."""
    if problem.status == _UNAUTHORISED:
        return {"WWW-Authenticate": 'Bearer realm="swathe"'}
    if problem.code == _SOON:
        return {"Retry-After": str(_SOON_S)}
    return {"Retry-After": str(_LATER_S)} if problem.status == _UNAVAILABLE else {}


def _ours(manners: Manners, _: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SwatheError)
    later = {"Retry-After": str(error.retry_after)} if isinstance(error, BusyError) else {}
    return respond(problem_of(error), manners, later)


def _malformed(manners: Manners, _: Request, error: Exception) -> JSONResponse:
    """Of what was sent nothing is repeated."""
    assert isinstance(error, RequestValidationError)
    mistakes = [{"field": _field(e), "detail": _message(e)[:400]} for e in error.errors()]
    first, others = mistakes[0], len(mistakes) - 1
    detail = f"{first['field'] or 'body'}: {first['detail']}" + (f"; and {others} more" if others else "")
    problem = Problem(manners.code, "The request cannot be read.", detail, manners.hint, first["field"], manners.status)
    return respond(problem, manners, errors=mistakes[:_SHOWN] if others else None)


def _field(error: dict[str, Any]) -> str:
    """Its name, as the client wrote it."""
    if error["type"] == "json_invalid":
        return ""
    return ".".join(map(str, error["loc"][1:]))[:200]


def _message(error: dict[str, Any]) -> str:
    return f"no JSON: {error['ctx']['error']}" if error["type"] == "json_invalid" else str(error["msg"])


def _http(manners: Manners, _: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    title = _TITLES.get(error.status_code, "The request cannot be carried out as it stands.")
    problem = Problem(f"http.{error.status_code}", title, str(error.detail)[:400], status=error.status_code)
    return respond(problem, manners, error.headers)


def _unexpected(manners: Manners, request: Request, error: Exception) -> JSONResponse:
    if full := met_full_disk(error):
        return _ours(manners, request, full)
    _log.error("a request failed", exc_info=error)
    return respond(SwatheError("this should not have happened; it was logged").problem, manners)


def met_full_disk(error: Exception) -> OutputError | None:
    """What no code of ours was there to tell, in our words: the system has no room; None: it is something else."""
    from pipelines.products.parts import disk_full

    return OutputError(f"the disk is full: {error}", code="output.full") if disk_full(error) else None
