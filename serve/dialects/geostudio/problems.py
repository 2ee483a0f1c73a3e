"""Whatever goes wrong, in their shape: ``{"detail": …}``, where detail is a text, an object with ``msg``, or a list."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from serve.problems import headers_of, met_full_disk, problem_of
from swathe.errors import BusyError, Problem, SwatheError

_SHOWN = 20
_STATUS = {"model.disabled": 422, "input": 422}
_BAD, _BUSY, _UNKNOWN_CALLER = 400, 429, 401
_CODES: dict[str, tuple[int, str]] = {
    "search.nothing": (1001, "there is no imagery of this place and time"),
    "search": (1001, "no imagery could be found"),
    "scenes": (1001, "there is no imagery of this place and time"),
    "source": (1001, "no imagery could be found"),
    "secret": (1001, "no imagery could be found"),
    "when": (1001, "the dates cannot be used"),
    "url.": (1011, "the address cannot be used"),
    "imagery.scheme": (1011, "the address cannot be used"),
    "imagery.address": (1011, "the address cannot be used"),
    "link.": (1006, "the address cannot be read"),
    "imagery.forbidden": (1006, "the address cannot be read"),
    "imagery.changed": (1006, "the address cannot be read"),
    "imagery.unreachable": (1006, "the address cannot be read"),
    "imagery.missing": (1006, "the address cannot be read"),
    "imagery.no_ranges": (1006, "the address cannot be read"),
    "read": (1006, "the address cannot be read"),
    "imagery.unreadable": (1007, "the file is no GeoTIFF"),
    "image.content": (1007, "the file is no GeoTIFF"),
    "image.ending": (1012, "the file is no tif and no zip"),
    "imagery.virtual": (1012, "the file is no tif and no zip"),
    "archive": (1012, "the archive cannot be used"),
    "image": (1009, "the imagery cannot be used"),
    "grid": (1009, "the imagery cannot be used"),
    "crs": (1009, "the imagery cannot be used"),
    "job.changed": (1009, "the imagery cannot be used"),
    "band": (1009, "the bands do not match"),
    "upload": (1009, "the upload cannot be used"),
    "weights": (1041, "the model cannot be made ready"),
    "card": (1041, "the model cannot be made ready"),
    "model": (1030, "the model failed"),
    "threshold": (1030, "the model failed"),
    "cluster": (1032, "the inference service failed"),
    "processor": (1043, "the processing of the result failed"),
    "mask": (1043, "the processing of the result failed"),
    "regularise": (1043, "the processing of the result failed"),
    "step": (1043, "the processing of the result failed"),
    "output": (1033, "the output cannot be read"),
    "area": (1044, "the inference cannot be planned"),
    "limit": (1044, "the inference cannot be planned"),
    "quota": (1044, "the inference cannot be planned"),
    "busy": (1044, "the inference cannot be planned"),
}
"""Beginning of our code -> the number and the short text that their users know."""
_UNKNOWN = (1042, "the inference failed")
_log = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818  what a route answers instead
    """An answer that is no success."""

    def __init__(self, status: int, detail: Any, headers: dict[str, str] | None = None) -> None:
        """``detail`` as theirs: a text, an object, a list."""
        super().__init__(str(detail))
        self.status, self.detail, self.headers = status, detail, headers or {}


def msg(status: int, text: str) -> Refusal:
    """One whose detail is an object with ``msg``; to be raised."""
    return Refusal(status, {"msg": text})


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` in their shape."""
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(SwatheError, _ours)
    app.add_exception_handler(RequestValidationError, _malformed)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)


def shown(problem: dict[str, Any]) -> dict[str, Any]:
    """A job's problem as their users read it: the number they know, and what happened."""
    code = str(problem.get("code", ""))
    known = next((said for start, said in _CODES.items() if code.startswith(start)), _UNKNOWN)
    detail = str(problem.get("detail") or problem.get("title") or "")
    hint = f" ({problem['hint']})" if problem.get("hint") else ""
    return {"message": f"{known[0]}: {known[1]}: {detail}{hint}", "code": str(known[0])}


def status(problem: Problem) -> int:
    """Of HTTP. What they call unprocessable is a bad request to us."""
    found = _STATUS.get(problem.code, problem.status)
    return 422 if found == _BAD else found


def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)
    return JSONResponse({"detail": error.detail}, error.status, error.headers)


def _ours(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SwatheError)
    if isinstance(error, BusyError):
        return _too_often(request, error)
    problem = problem_of(error)
    code = status(problem)
    beside = {"code": problem.code, "hint": problem.hint, "field": problem.field}
    headers = {"WWW-Authenticate": "Bearer"} if code == _UNKNOWN_CALLER else headers_of(problem)
    text = f"{problem.detail}. {problem.hint}" if problem.hint else problem.detail
    return JSONResponse({"detail": text, **{k: v for k, v in beside.items() if v}}, code, headers)


def _too_often(request: Request, error: BusyError) -> JSONResponse:
    """A list, and the headers that their clients read."""
    rate = getattr(request.state, "rate", None)
    limit = str(getattr(rate, "limit", 0))
    headers = {"X-Rate-Limit-Limit": limit, "X-Rate-Limit-Remaining": "0",
               "X-Rate-Limit-Reset": str(error.retry_after), "Retry-After": str(error.retry_after)}  # fmt: skip
    said = {"msg": f"{error.detail}. {error.hint}", "loc": [], "type": error.problem.code}
    return JSONResponse({"detail": [said]}, _BUSY, headers)


def _malformed(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return JSONResponse({"detail": _faults(error.errors())}, 422)


def invalid(error: ValidationError) -> Refusal:
    """Of what was put together here from a body and what is kept; to be raised."""
    return Refusal(422, _faults(error.errors(include_url=False)))


def _faults(errors: Sequence[Any]) -> list[dict[str, Any]]:
    """Of what was sent nothing is repeated."""
    return [
        {"msg": str(one["msg"]).removeprefix("Value error, ")[:400], "type": one["type"],
         "loc": [part if isinstance(part, int) else str(part)[:100] for part in one["loc"]]}
        for one in errors[:_SHOWN]
    ]  # fmt: skip


def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": error.detail}, error.status_code, error.headers)


def _unexpected(request: Request, error: Exception) -> JSONResponse:
    if full := met_full_disk(error):
        return _ours(request, full)
    _log.error("a request failed", exc_info=error)
    return JSONResponse({"detail": "this should not have happened; it was logged"}, 500)
