"""Training, datasets, templates, groups: what this service does not do yet, said in their shape."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from serve.dialects.geostudio.problems import Refusal
from serve.dialects.geostudio.records import listing
from serve.dialects.geostudio.shared import Route, Who

router = APIRouter(tags=["not here"], route_class=Route)
_NO_TRAINING = (
    "This service does not train models yet. Bring a network that was trained elsewhere (POST upload-completed-tunes)"
    " and try it out."
)
_NO_GROUPS = "This service has no groups. What administrators mark as sharable is seen by all users."
_NO_AMO = "Models need no onboarding here: deploy one (POST models/{id}/deploy), and it is kept."
LISTS = ("base-models", "tune-templates", "datasets")
"""Lists that are there, and empty."""
MISSING = (
    ("POST", "submit-tune", _NO_TRAINING), ("POST", "submit-tune/dry-run", _NO_TRAINING),
    ("POST", "submit-hpo-tune", _NO_TRAINING),
    ("POST", "base-models", _NO_TRAINING), ("PATCH", "base-models/{id}/model-params", _NO_TRAINING),
    ("POST", "tune-templates", _NO_TRAINING), ("DELETE", "tune-templates/{id}", _NO_TRAINING),
    ("GET", "tune-templates/{id}/template", _NO_TRAINING), ("PUT", "tune-templates/{id}/template", _NO_TRAINING),
    ("PUT", "tune-templates/{id}/schema", _NO_TRAINING), ("GET", "tune-templates/{id}/test-render", _NO_TRAINING),
    ("GET", "tune-templates/{id}/test-render-user-defined-task", _NO_TRAINING),
    ("POST", "datasets/onboard", _NO_TRAINING), ("POST", "datasets/pre-scan", _NO_TRAINING),
    ("PATCH", "datasets/{id}", _NO_TRAINING), ("DELETE", "datasets/{id}", _NO_TRAINING),
    ("GET", "datasets/{id}/sample", _NO_TRAINING),
    ("GET", "amo-tasks", _NO_AMO), ("POST", "amo-tasks", _NO_AMO), ("GET", "amo-tasks/{id}", _NO_AMO),
    ("DELETE", "amo-tasks/{id}", _NO_AMO),
    ("GET", "groups", _NO_GROUPS), ("POST", "groups", _NO_GROUPS), ("GET", "groups/{id}", _NO_GROUPS),
    ("DELETE", "groups/{id}", _NO_GROUPS), ("GET", "groups/{id}/members", _NO_GROUPS),
    ("POST", "groups/{id}/members", _NO_GROUPS), ("GET", "artifacts", _NO_GROUPS),
)  # fmt: skip
"""What is answered with 501, and why."""


def _empty(_: Who) -> dict[str, Any]:
    """There are none."""
    return listing([], 0)


def _absent(kind: str) -> Any:
    def answer(_: Who, id: str) -> None:  # noqa: A002  their word
        raise Refusal(404, f"{kind} {id[:80]} not found")

    return answer


def _refusal(why: str, *, with_id: bool) -> Any:
    def of_one(_: Who, id: str) -> None:  # noqa: A002, ARG001  their word
        raise Refusal(501, {"msg": why})

    def of_all(_: Who) -> None:
        raise Refusal(501, {"msg": why})

    return of_one if with_id else of_all


def _add() -> None:
    for name in LISTS:
        router.add_api_route(f"/{name}", _empty, methods=["GET"], name=f"list {name}")
        router.add_api_route(f"/{name}/{{id}}", _absent(name.removesuffix("s")), methods=["GET"], name=f"get {name}")
    for method, path, why in MISSING:
        router.add_api_route(f"/{path}", _refusal(why, with_id="{id}" in path), methods=[method], status_code=501,
                             name=f"{method} {path}")  # fmt: skip


_add()
