"""Whatever goes wrong in a request, as ``application/problem+json`` (RFC 9457) in the form of our error tree."""

from __future__ import annotations

import logging

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from swathe.errors import Problem, SwatheError

_log = logging.getLogger(__name__)
_ABSENT, _BUSY = "catalogue.unknown", "catalogue.busy"


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` with a problem."""
    app.add_exception_handler(SwatheError, _ours)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def respond(problem: Problem) -> JSONResponse:
    """One of them as a response. ``description`` is STAC's older word for ``detail``."""
    body = {**problem.as_dict(), "description": problem.detail}
    return JSONResponse(body, problem.status, media_type="application/problem+json")


def _ours(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SwatheError)
    problem = error.problem
    status = {_ABSENT: 404, _BUSY: 503}.get(problem.code, problem.status)
    return respond(Problem(problem.code, problem.title, problem.detail, problem.hint, problem.field, status))


def _malformed(_: Request, error: Exception) -> JSONResponse:
    """400, as STAC wants it, where FastAPI says 422. Of what was sent nothing is repeated."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(p) for p in first["loc"][1:] if isinstance(p, str))
    return respond(
        Problem("catalogue.request", "The request cannot be read.", f"{field or 'body'}: {first['msg']}"[:400],
                "the service's api.html says what can be asked", field, 400)
    )  # fmt: skip


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    titles = {404: "There is nothing here.", 413: "The request is too large.", 405: "This cannot be done here."}
    title = titles.get(error.status_code, "The request cannot be carried out as it stands.")
    return respond(Problem(f"http.{error.status_code}", title, str(error.detail)[:400], status=error.status_code))


def _unexpected(_: Request, error: Exception) -> JSONResponse:
    _log.error("a request failed", exc_info=error)
    return respond(SwatheError("this should not have happened; it was logged").problem)
