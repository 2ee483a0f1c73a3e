"""Whether this process lives, whether the service can do its work, and what it counts."""

from __future__ import annotations

import secrets
import threading
import time
from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response

from serve.api.answers import Answered, shown
from serve.api.service import Here
from serve.store import leases
from swathe.errors import SwatheError

if TYPE_CHECKING:
    from serve.api.service import Service

router = APIRouter(tags=["service"])
_FRESH_S = 2.0
"""That a finding is good for: a flood of questions is not a flood of writes."""


class PartAnswer(Answered):
    """One part of what the service needs."""

    ok: bool
    detail: str


class ReadyAnswer(Answered):
    """Whether requests can be served, and which part cannot."""

    model_config = shown("ready")

    ok: bool
    status: Literal["UP", "DOWN"]
    parts: dict[str, PartAnswer]


class LiveAnswer(Answered):
    """This process answers."""

    model_config = shown("live")

    ok: bool
    status: Literal["UP"]


class Health:
    """What was found last, and when."""

    def __init__(self) -> None:
        self._turn, self._at = threading.Lock(), float("-inf")
        self._found = _answer({})
        self._name = f"health.{secrets.token_hex(4)}"

    def look(self, service: Service) -> ReadyAnswer:
        """Whether database and storage can be written and Ray answers, as it was found in the last seconds."""
        with self._turn:
            if time.monotonic() - self._at > _FRESH_S:
                parts = {"database": self._database(service), "storage": self._storage(service), "ray": _ray(service)}
                self._found = _answer(parts)
                self._at = time.monotonic()
            return self._found

    def _database(self, service: Service) -> PartAnswer:
        try:
            with service.desk.store.begin() as c:
                leases.take(c, "health", self._name, 0.0)
        except SwatheError as error:
            return PartAnswer(ok=False, detail=_said(error))
        return PartAnswer(ok=True, detail="")

    def _storage(self, service: Service) -> PartAnswer:
        try:
            blobs = service.desk.settings.blobs("health")
            blobs.put(self._name, b"ok")
            blobs.delete([self._name])
        except SwatheError as error:
            return PartAnswer(ok=False, detail=_said(error))
        except OSError as error:
            return PartAnswer(ok=False, detail=f"results cannot be written: {error.strerror}")
        return PartAnswer(ok=True, detail="")


def _answer(parts: dict[str, PartAnswer]) -> ReadyAnswer:
    """``status`` is what probes read (MicroProfile Health's words), ``ok`` what programs do."""
    ok = bool(parts) and all(part.ok for part in parts.values())
    return ReadyAnswer(ok=ok, status="UP" if ok else "DOWN", parts=parts)


def _sent(found: ReadyAnswer) -> Response:
    return Response(
        found.model_dump_json(), 200 if found.ok else 503, {"Cache-Control": "no-store"}, "application/json"
    )


def missing(part: str, error: SwatheError) -> Response:
    """Of a service that cannot be ready for want of this part."""
    return _sent(_answer({part: PartAnswer(ok=False, detail=_said(error))}))


def _said(error: SwatheError) -> str:
    """Who asks here has no key, so that addresses and paths are left out."""
    return f"{error.problem.code}: {error.title}"


def _ray(service: Service) -> PartAnswer:
    if service.replicas is None:
        return PartAnswer(ok=True, detail="not used")
    found = service.replicas.facts()
    return PartAnswer(ok=bool(found.get("ok")), detail=str(found.get("detail", "")))


@router.get("/health/livez", operation_id="get_liveness", response_model=LiveAnswer)
async def live() -> LiveAnswer:
    """This process answers."""
    return LiveAnswer(ok=True, status="UP")


@router.get("/health/readyz", operation_id="get_readiness", response_model=ReadyAnswer,
            responses={503: {"model": ReadyAnswer, "description": "Something is missing."}})  # fmt: skip
def ready(request: Request, service: Here) -> Response:
    """Whether database and storage can be written and Ray answers, tried just now."""
    found = request.app.state.health.look(service)
    return _sent(found)


@router.get("/metrics", operation_id="get_metrics", response_class=Response,
            responses={200: {"content": {"text/plain": {"schema": {"type": "string"}, "example":
                             'swathe_queue_length{place="pool"} 3.0\n'}}}})  # fmt: skip
def metrics(service: Here) -> Response:
    """Numbers of this process and of the queue, for Prometheus."""
    service.meters.listeners.set(service.hub.listeners)
    return Response(service.meters.page(), media_type=CONTENT_TYPE_LATEST)
