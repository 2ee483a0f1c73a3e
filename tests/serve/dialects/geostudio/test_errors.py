"""Every row of their table of errors, in its own shape: ``detail`` is a text, an object with ``msg``, or a list."""

import re

import pytest

from serve.dialects.geostudio import problems, routes
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
        (404, str, "GET", f"async/notify/{NOBODY}", {}),
        (404, str, "GET", f"inference/{NOBODY}/tasks", {}),
        (404, str, "POST", f"inference/{NOBODY}/cancel", {}),
        (404, str, "DELETE", f"inference/{NOBODY}", {}),
        (404, str, "DELETE", f"models/{NOBODY}", {}),
        (404, str, "POST", f"models/{NOBODY}/deploy",
         {"json": {"model_configs_url": "x", "model_checkpoint_url": "y"}}),
        (404, str, "GET", f"generic-processor/{NOBODY}", {}),
        (404, str, "DELETE", f"generic-processor/{NOBODY}", {}),
        (404, str, "DELETE", f"auth/api-keys?apikey_id={NOBODY}", {}),
        (404, str, "PATCH", f"auth/api-keys?apikey_id={NOBODY}", {"json": {"active": False}}),
        (422, list, "PATCH", f"auth/api-keys?apikey_id={NOBODY}", {"json": {"active": "perhaps"}}),
        (422, list, "GET", "models?limit=many", {}),
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


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("search.nothing", 1001), ("scenes.cloudy", 1001), ("source.unknown", 1001), ("when.none", 1001),
        ("imagery.missing", 1006), ("imagery.forbidden", 1006), ("read.lost", 1006), ("link.expired", 1006),
        ("imagery.unreadable", 1007), ("image.content", 1007), ("band.missing", 1009), ("imagery.complex", 1009),
        ("image.size", 1009), ("grid.no_crs", 1009), ("upload.state", 1009), ("url.private", 1011),
        ("imagery.scheme", 1011), ("imagery.virtual", 1012), ("image.ending", 1012), ("archive.empty", 1012),
        ("model.not_finite", 1030), ("threshold.unimodal", 1030), ("cluster.lost", 1032), ("output.full", 1033),
        ("weights.missing", 1041), ("card.config", 1041), ("internal", 1042), ("processor.failed", 1043),
        ("mask.unanswered", 1043), ("regularise.classes", 1043), ("limit.area", 1044), ("quota.area", 1044),
    ],
)  # fmt: skip
def test_what_goes_wrong_in_a_task_has_the_number_they_know(code, number):
    said = problems.shown({"code": code, "detail": "why", "hint": "what to do"})
    assert said["code"] == str(number)
    assert re.fullmatch(rf"{number}: [A-Za-z ]+: why \(what to do\)", said["message"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bbox": [[10, 49, 10.1, 49.1]] * 51}, "50"), ({"collections": ["a"] * 20, "bbox": [[10, 49, 10.1, 49.1]] * 3},
                                                       "60 searches"),
        ({"bbox": None, "area_polygon": {"type": "FeatureCollection", "features": 5}}, "no list"),
        ({"bbox": None, "area_polygon": "/etc/passwd"}, "no area"), ({"bbox": [[10, 50, 11, 49]]}, "not south"),
        ({"dates": "2024-07-25"}, "list"), ({"collections": []}, "at least 1"), ({"pre_days": "many"}, "integer"),
        ({"pre_days": 10**30}, "less than"), ({"collections": [None]}, "string"),
    ],
)  # fmt: skip
def test_what_cannot_be_advised_on(studio, change, says):
    body = {"collections": ["earth-search-s2-c1-l2a"], "dates": ["2024-07-25"], "bbox": [[10, 49, 10.1, 49.1]]}
    answer = studio.client.post("/v2/data-advice/sentinelhub", json=body | change)
    assert answer.status_code == 422, answer.text
    assert says in answer.text


@pytest.mark.parametrize(
    ("method", "path", "more", "code"),
    [
        ("GET", "models?internal_name=%00", {}, 400), ("GET", "models?limit=0", {}, 422),
        ("GET", f"models?limit={10**30}", {}, 422), ("GET", "inference?skip=-1", {}, 422),
        ("GET", "inference?saved=perhaps", {}, 422), ("GET", "inference?model_id=x", {}, 422),
        ("GET", "inference?location=%F0%9F%8C%8A", {}, 200), ("GET", "inference?tune_id=" + "x" * 101, {}, 422),
        ("GET", "inference/%2e%2e%2f", {}, 422), ("GET", "tasks/../output", {}, 404),
        ("GET", f"tasks/{NOBODY}-task_{10**6}/output", {}, 404), ("GET", f"tasks/{NOBODY}-task_-1/output", {}, 404),
        ("GET", f"tasks/{NOBODY}-task_\u0660/output", {}, 404), ("GET", "tasks/" + "x" * 200 + "/output", {}, 422),
        ("GET", f"tasks/{NOBODY}-task_0/logs/{'x' * 101}", {}, 422),
        ("GET", f"tasks/{NOBODY}-task_0/logs/a?tail_lines=0", {}, 422), ("GET", "tunes/geotune-%00", {}, 400),
        ("GET", "tunes/geotune-" + "Z" * 22, {}, 404), ("GET", "tunes/geotune-" + "\u00e9" * 22, {}, 404),
        ("GET", "generic-processor/{0}", {}, 422), ("GET", "data-advice/" + "x" * 101, {}, 422),
        ("GET", "file-share?object_name=../../passwd.tif", {}, 422),
        ("GET", "file-share?object_name=a.tif%0d%0a", {}, 422),
        ("GET", "file-share?object_name=" + "a" * 57 + ".tif", {}, 422), ("GET", "file-share", {}, 422),
        ("PATCH", "auth/api-keys?apikey_id=%7b%7d", {"json": {"active": True}}, 404),
        ("PATCH", "auth/api-keys", {"json": {"active": True}}, 422), ("DELETE", "auth/api-keys?apikey_id=", {}, 404),
        ("POST", "auth/api-keys", {"content": "{"}, 422),
        ("POST", "models", {"json": {"display_name": "a b"}}, 422),
        ("POST", "models", {"json": {"display_name": ""}}, 422),
        ("POST", "models", {"json": {"display_name": "a\n"}}, 422), ("POST", "models", {"json": [1]}, 422),
        ("POST", "models", {"json": {"display_name": "a", "version": "many"}}, 422),
        ("POST", "models", {"json": {"display_name": "a", "version": 1e300}}, 422),
        ("POST", "models", {"json": {"display_name": "a", "model_url": "http://["}}, 422),
        ("POST", "models", {"json": {"display_name": "a", "description": "x" * 10_001}}, 422),
        ("POST", "models", {"json": {"display_name": "a", "pipeline_steps": [{}] * 201}}, 422),
        ("POST", "models", {"json": {"display_name": "a", "geoserver_push": [{"workspace": 5}]}}, 422),
        ("POST", "models", {"json": {"display_name": "a", "model_input_data_spec": [{"x": "y" * 300_000}]}}, 422),
        ("POST", "models", {"json": {"display_name": "a",
                                   "postprocessing_options": {"cloud_masking": "perhaps"}}}, 422),
        ("POST", "upload-completed-tunes", {"json": {"name": "a", "tune_config_url": "http://[",
                                                     "tune_checkpoint_url": "http://["}}, 422),
        ("POST", "upload-completed-tunes", {"json": {"name": "a", "tune_config_url": "/etc/passwd",
                                                     "tune_checkpoint_url": "file:///etc/passwd"}}, 422),
        ("POST", "upload-completed-tunes", {"json": {"name": "a", "tune_config_url": "upload://x/../y",
                                                     "tune_checkpoint_url": "upload://"}}, 404),
        ("POST", "notifications", {"json": {"event_id": NOBODY, "detail_type": "x" * 101, "source": "y",
                                            "detail": {"a": 1}}}, 422),
        ("POST", "notifications", {"json": {"event_id": NOBODY, "detail_type": "x", "source": "y",
                                            "detail": [1]}}, 422),
        ("POST", f"tunes/geotune-{'0' * 22}/try-out",
         {"json": {"spatial_domain": {"urls": ["https://a.example/x"]}}}, 404),
        ("PATCH", f"tunes/geotune-{'0' * 22}", {"json": {"train_options": [1]}}, 422),
        ("DELETE", "tunes/../../x", {}, 404),
    ],
)  # fmt: skip
def test_what_nobody_would_ask_is_refused_in_their_form(studio, method, path, more, code):
    answer = asked(studio, method, path, **more)
    assert answer.status_code == code, answer.text[:300]
    if code not in (200, 400):
        assert answer.json()["detail"]
    assert "Traceback" not in answer.text
