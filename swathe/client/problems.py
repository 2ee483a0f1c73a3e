"""From an answer that refuses to one of our errors, as if it had been raised here."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from swathe import errors
from swathe.errors import BusyError, ServiceError, SwatheError

if TYPE_CHECKING:
    import httpx2

_BY_STATUS: dict[int, type[SwatheError]] = {
    400: errors.InputError, 401: errors.AccessError, 403: errors.ForbiddenError, 404: errors.NotFoundError,
    405: errors.InputError, 406: errors.InputError, 409: errors.ConflictError, 412: errors.ConflictError,
    413: errors.LimitError, 415: errors.InputError, 422: errors.InputError, 429: BusyError, 502: errors.ReadError,
    503: ServiceError, 507: errors.OutputError,
}  # fmt: skip


def error_of(answer: httpx2.Response) -> SwatheError:
    """Of an answer whose body was read; to be raised."""
    problem = _problem(answer)
    if problem is None:
        return _unexplained(answer)
    return rebuilt(problem, answer.status_code, retry_after(answer) or 0.0)


def rebuilt(problem: Mapping[str, Any], status: int | None = None, pause: float = 0.0) -> SwatheError:
    """The error that a problem tells of: of the class of its code, else of its status; else SwatheError."""
    code, hint, field = (str(problem.get(name) or "") for name in ("code", "hint", "field"))
    detail = str(problem.get("detail") or problem.get("title") or "the service gives no reason")
    number = status or problem.get("status")
    kind = _kind(code, number if isinstance(number, int) else 500)
    if kind is BusyError:
        return BusyError(detail, hint=hint, field=field, code=code, retry_after=max(1, round(pause or 5)))
    return kind(detail, hint=hint, field=field, code=code)


def retry_after(answer: httpx2.Response) -> float | None:
    """Seconds that it asks to wait; None where it does not say."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text)
    when = email.utils.parsedate_to_datetime(text) if _dated(text) else None
    return None if when is None else max(0.0, when.timestamp() - time.time())


def _dated(text: str) -> bool:
    return bool(text) and email.utils.parsedate_tz(text) is not None


def _kind(code: str, status: int) -> type[SwatheError]:
    fitting = [kind for kind in _tree(SwatheError) if code and (code == kind.code or code.startswith(f"{kind.code}."))]
    if fitting:
        return max(fitting, key=lambda kind: len(kind.code))
    return _BY_STATUS.get(status, SwatheError)


def _tree(kind: type[SwatheError]) -> Iterator[type[SwatheError]]:
    """Those that have a name; other rooms have some for their own use."""
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == SwatheError.__module__:
            yield from _tree(below)


def _problem(answer: httpx2.Response) -> Mapping[str, Any] | None:
    """RFC 9457, by what it holds rather than by its media type, which proxies change."""
    try:
        body = answer.json()
    except ValueError:
        return None
    return body if isinstance(body, dict) and ("code" in body or "detail" in body or "title" in body) else None


def _unexplained(answer: httpx2.Response) -> SwatheError:
    """From a proxy on the way, or from another kind of server."""
    return ServiceError(f"{answer.url.host} answered {answer.status_code} {answer.reason_phrase} without a reason of "
                        "the service's", code=f"service.http_{answer.status_code}",
                        hint="check the address; if it is right, try again in a moment")  # fmt: skip
