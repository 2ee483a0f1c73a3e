"""What the proxy says by itself; the apps here answer as Serve's own does (``ray.serve._private.proxy``)."""

from importlib import import_module

import pytest
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.testclient import TestClient

from serve.deployments.proxy import HOOK, middlewares


def asked(app):
    (told,) = middlewares()
    return TestClient(told.cls(app, *told.args, **told.kwargs)).get("/api/jobs")


def refused(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    return answer.status_code, answer.json()["code"]


def test_a_request_whose_process_is_lost_is_told_to_come_again():
    async def lost(scope, receive, send):
        await receive()

    assert refused(asked(lost)) == (503, "cluster.replica")


@pytest.mark.parametrize(("status", "said"), [(404, "Path '/api/jobs' not found. Ping http://.../-/routes"),
                                              (503, "Deployment is unavailable")])  # fmt: skip
def test_one_that_comes_too_early_too(status, said):
    assert refused(asked(PlainTextResponse(said, status))) == (503, "cluster.starting")


@pytest.mark.parametrize("answer", [
    JSONResponse({"code": "job.unknown"}, 404, media_type="application/problem+json"),
    JSONResponse({"code": "store.busy"}, 503, {"Retry-After": "7"}, "application/problem+json"),
    PlainTextResponse("one 1.0"), JSONResponse({"detail": "no"}, 404),
])  # fmt: skip
def test_what_the_api_says_is_left_as_it_is(answer):
    found = asked(answer)
    assert (found.status_code, found.content) == (answer.status_code, answer.body)
    assert found.headers.multi_items() == [(k.decode(), v.decode()) for k, v in answer.raw_headers]


def test_ray_finds_it_by_its_path():
    (path,) = HOOK.values()
    module, _, name = path.rpartition(".")
    assert getattr(import_module(module), name) is middlewares
