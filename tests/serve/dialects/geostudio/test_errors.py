"""Every row of their table of errors, in its own shape: ``detail`` is a text, an object with ``msg``, or a list."""

import pytest

from serve.dialects.geostudio import routes
from tests.serve.dialects.geostudio.conftest import Studio

NOBODY = "11111111-2222-3333-4444-555555555555"
MODEL = {"model_display_name": "water-ndwi", "temporal_domain": ["2024-07-25"],
         "spatial_domain": {"urls": ["https://a.example/x.tif"]}}  # fmt: skip


def asked(studio, method, path, **more):
    return studio.client.request(method, f"/v2/{path}", **more)


@pytest.fixture
def made(studio, image):
    """An inference whose task has not begun."""
    found = studio.infer(studio.share(image))
    studio.plan()
    yield found
    studio.client.post(f"/v2/inference/{found['id']}/cancel")


@pytest.mark.parametrize(
    ("code", "shape", "method", "path", "more"),
    [
        (400, dict, "GET", "data-advice/nowhere", {}),
        (400, dict, "POST", "inference", {"json": MODEL | {"model_display_name": "add-layer-sandbox-model",
                                                           "fine_tuning_id": "sandbox"}}),
        (404, str, "GET", f"inference/{NOBODY}", {}),
        (404, str, "GET", f"models/{NOBODY}", {}),
        (404, str, "GET", "tunes/geotune-0123456789012345678901", {}),
        (404, str, "POST", "inference", {"json": MODEL | {"model_display_name": "none-such"}}),
        (404, str, "POST", "inference", {"json": MODEL | {"generic_processor_id": NOBODY}}),
        (404, dict, "GET", f"tasks/{NOBODY}-task_0/output", {}),
        (404, str, "GET", f"tasks/{NOBODY}-task_0/logs/run-inference", {}),
        (404, str, "GET", f"notifications/{NOBODY}", {}),
        (422, list, "GET", "inference/no-uuid", {}),
        (422, list, "POST", "inference", {"json": {}}),
        (422, list, "POST", "inference", {"content": "{", "headers": {"Content-Type": "application/json"}}),
        (422, dict, "POST", "inference", {"json": MODEL | {"model_display_name": "geofm-sandbox-models"}}),
        (422, list, "GET", "file-share?object_name=a%20b.tif", {}),
        (501, dict, "POST", "submit-tune", {"json": {}}),
    ],
)  # fmt: skip
def test_of_what_is_asked(studio, code, shape, method, path, more):
    answer = asked(studio, method, path, **more)
    assert (answer.status_code, type(answer.json()["detail"])) == (code, shape), answer.text
    if shape is dict:
        assert {"msg", "message"} & set(answer.json()["detail"])
    if shape is list:
        assert all({"msg", "loc", "type"} <= set(one) for one in answer.json()["detail"])


def test_of_whoever_asks(studio):
    answer = studio.house.client().get("/v2/models")
    assert (answer.status_code, type(answer.json()["detail"])) == (401, str)


def test_of_what_has_not_happened_yet(studio, made):
    waits = asked(studio, "GET", f"tasks/{made['id']}-task_0/output")
    assert (waits.status_code, bool(waits.json()["detail"])) == (409, True)
    silent = asked(studio, "GET", f"tasks/{made['id']}-task_0/logs/run-inference")
    assert (silent.status_code, bool(silent.json()["detail"])) == (409, True)


def test_of_what_is_too_much_or_too_little(studio, made):
    for _ in range(2):
        assert asked(studio, "POST", "auth/api-keys", json={}).status_code == 200
    third = asked(studio, "POST", "auth/api-keys", json={})
    assert (third.status_code, type(third.json()["detail"])) == (412, str)
    empty = {"event_id": made["id"], "detail_type": "Inf:Task:Notify", "source": "x", "detail": {}}
    assert asked(studio, "POST", "notifications", json=empty).status_code == 412


def test_of_a_fault_of_ours(studio, monkeypatch):
    """Nothing of it is told: no traceback, no path."""

    def broken(*_):
        raise RuntimeError("a secret place")

    monkeypatch.setattr(routes.keys, "_shown", broken)
    asked(studio, "POST", "auth/api-keys", json={})
    answer = asked(studio, "GET", "auth/api-keys")
    assert (answer.status_code, type(answer.json()["detail"])) == (500, str)
    assert "secret" not in answer.text


def test_of_a_database_that_is_away(house_of, away):
    """503, which their client tries again, where theirs says 500."""
    house = house_of()
    studio = Studio(house, house.person())
    with away(house.desk.store) as place:
        answer = studio.client.get("/v2/models")
    assert (answer.status_code, type(answer.json()["detail"])) == (503, str)
    assert int(answer.headers["retry-after"]) > 0
    assert place not in answer.text
    assert studio.client.get("/v2/models").status_code == 200
