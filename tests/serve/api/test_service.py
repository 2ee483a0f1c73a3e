"""Predictions, models, uploads, projects, people, the catalogue, health and metrics over HTTP."""

from __future__ import annotations

import io
import json
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pystac_client
import pytest
import rasterio
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update

from serve.store import catalogue, jobs, tables
from serve.store.store import text_of
from swathe.job import JobState, Progress
from swathe.user import Role

ROOT = Path(__file__).resolve().parents[3]
COLLECTION = {
    "type": "Collection", "stac_version": "1.1.0", "id": "water-ndwi", "description": "d", "license": "other",
    "links": [], "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
}  # fmt: skip


@pytest.fixture
def ada(house):
    return house.person()


@pytest.fixture
def client(house, ada):
    return house.client(ada)


# --- predictions ----------------------------------------------------------------------------------------------------


def test_an_image_is_answered_in_the_form_that_is_asked_for(client, image):
    content = image.read_bytes()
    where = "/api/predict?model=water-ndwi&sensor=sentinel-2-l2a"

    def ask(accept):
        return client.post(where, content=content, headers={"Content-Type": "image/tiff", "Accept": accept})

    tiff = ask("*/*")
    assert (tiff.status_code, tiff.headers["content-type"]) == (200, "image/tiff"), tiff.text
    assert float(tiff.headers["swathe-seconds"]) > 0
    assert tiff.headers["swathe-pixels"] == str(64 * 96)
    with rasterio.open(io.BytesIO(tiff.content)) as made, rasterio.open(image) as source:
        assert (made.shape, made.transform, made.crs) == (source.shape, source.transform, source.crs)
    assert ask("image/png").content.startswith(b"\x89PNG")
    assert ask("application/json").json()["model"] == "water-ndwi"
    assert ask("text/html, image/tiff;q=0.5, application/json;q=0.9").headers["content-type"] == "application/json"
    assert ask("text/html").json()["code"] == "predict.accept"


def test_a_prediction_of_an_upload(client, image):
    upload = client.post("/api/uploads", json={"name": "scene.tif"}).json()
    client.put(upload["links"]["content"], content=image.read_bytes())
    asking = {"model": "water-ndwi", "inputs": [f"upload://{upload['id']}"], "sensor": "sentinel-2-l2a"}
    answer = client.post("/api/predict", json=asking, headers={"Accept": "application/json"})
    assert answer.json()["pixels"]["total"] == 64 * 96


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("postprocess", {"mask": ["water"]}), ("processor", {"id": "r" + "0" * 26}), ("precision", "bf16"),
        ("products", {"gpkg": True}), ("chunk", 512), ("hook", {"url": "https://a.example/hook"}),
        ("publish", [{"workspace": "w", "name": "n"}]), ("project", "p1"), ("title", "Lagoon"), ("labels", {"a": 1}),
    ],
)  # fmt: skip
def test_a_prediction_refuses_what_only_a_job_does(client, field, value):
    asking = {"model": "water-ndwi", "inputs": ["https://a.example/x.tif"], "sensor": "sentinel-2-l2a", field: value}
    answer = client.post("/api/predict", json=asking)
    assert (answer.status_code, answer.json()["code"]) == (400, "predict.field"), answer.text
    assert answer.json()["field"] == field
    answer = client.post("/api/predict?sensor=sentinel-2-l2a", json={k: v for k, v in asking.items() if k != field})
    assert (answer.json()["code"], answer.json()["field"]) == ("predict.field", "sensor")


@pytest.mark.parametrize(
    ("query", "content", "kind", "status", "code"),
    [
        ("", b"x", "image/tiff", 400, "request.invalid"), ("model=nope", b"x", "image/tiff", 404, "model.unknown"),
        ("model=water-ndwi", b"", "image/tiff", 400, "request.empty"),
        ("model=water-ndwi", b"<VRTDataset/>", "image/tiff", 422, "imagery"),
        ("model=water-ndwi", b"II*\0" + b"\xff" * 400, "image/tiff", 422, "imagery"),
        ("model=water-ndwi", b"\0" * 65 * 2**20, "image/tiff", 413, "http.413"),
        ("", b"{", "application/json", 400, "request.invalid"),
        ("", b'{"model": "water-ndwi"}', "application/json", 400, "request.invalid"),
        ("model=water-ndwi&scale=nan", b"x", "image/tiff", 422, "request.invalid"),
        ("model=clay-v1.5-s2", b"x", "image/tiff", 409, "model.disabled"),
    ],
    ids=lambda v: str(v)[:20],
)  # fmt: skip
def test_predictions_that_are_refused(client, query, content, kind, status, code):
    answer = client.post(f"/api/predict?{query}", content=content, headers={"Content-Type": kind})
    assert answer.status_code == status, answer.text
    assert answer.json()["code"].startswith(code)
    assert "/tmp" not in answer.text


def test_what_would_take_too_long_is_a_job(house_of, image):
    house = house_of(replicas=True, limits={"max_predict_s": 7})
    slow = {"water-ndwi auto fp32": {"tile_s": 100.0, "runs": 1}}
    (house.desk.settings.data_dir / "pace.json").write_text(json.dumps(slow))
    where = "/api/predict?model=water-ndwi&sensor=sentinel-2-l2a"
    answer = house.client(house.person()).post(where, content=image.read_bytes())
    assert (answer.status_code, answer.json()["code"]) == (422, "limit.seconds"), answer.text
    assert "about 100 s" in answer.json()["detail"]
    assert "7 s at most" in answer.json()["detail"]
    assert "job" in answer.json()["hint"]


def test_predictions_have_a_rate_of_their_own(house_of):
    house = house_of(front={"predict_rate_per_minute": 1})
    client = house.client(house.person())
    first, second = (client.post("/api/predict", content=b"x") for _ in range(2))
    assert (first.status_code, second.status_code) == (400, 429)
    assert client.get("/api/me").status_code == 200


def test_without_warm_models_predictions_are_refused(house_of, image):
    house = house_of()
    client = house.client(house.person())
    answer = client.post("/api/predict?model=water-ndwi&sensor=sentinel-2-l2a", content=image.read_bytes())
    assert (answer.status_code, answer.json()["code"]) == (409, "predict.off")


# --- models, uploads, projects ----------------------------------------------------------------------------------------


def test_models_are_switched_by_administrators(house, client):
    admin = house.client(house.person(Role.ADMIN))
    assert {m["id"] for m in client.get("/api/models").json()["models"]} >= {"water-ndwi", "clay-v1.5-s2"}
    assert client.patch("/api/models/snow-ndsi", json={"enabled": False}).status_code == 403
    assert admin.patch("/api/models/snow-ndsi", json={"enabled": False}).json()["enabled"] is False
    assert client.get("/api/models/snow-ndsi").json()["enabled"] is False
    assert admin.delete("/api/models/snow-ndsi").json()["code"] == "model.shipped"
    assert admin.patch("/api/models/snow-ndsi", json={"enabled": True}).json()["enabled"] is True


def test_an_upload_is_taken_in_a_stream_and_looked_at(client, house, image):
    begun = client.post("/api/uploads", json={"name": "../../scene.tif", "labels": {"a": [1]}},
                        headers={"Idempotency-Key": "up"})  # fmt: skip
    assert begun.status_code == 201
    href = begun.json()["links"]["content"]
    content = image.read_bytes()
    done = client.put(href, content=(content[i : i + 1000] for i in range(0, len(content), 1000)))
    assert (done.json()["state"], done.json()["size"]) == ("ready", len(content)), done.text
    assert client.put(href, content=b"x").json()["code"] == "upload.state"
    upload = client.get(begun.headers["location"]).json()
    (name,) = upload["facts"]["files"]
    kept = client.get(f"/api/uploads/{upload['id']}/files/{name}")
    assert kept.content == content
    stranger = house.client(house.person())
    for path in ("", f"/files/{name}"):
        assert stranger.get(f"/api/uploads/{upload['id']}{path}").status_code == 404
    assert client.delete(f"/api/uploads/{upload['id']}").status_code == 204


def test_an_upload_that_is_no_imagery_says_so(client):
    for name, content in (("x.tif", b"nothing"), ("x.zip", b"PK\x03\x04" + b"\0" * 50), ("x.tif", b"")):
        href = client.post("/api/uploads", json={"name": name}).json()["links"]["content"]
        said = client.put(href, content=content).json()
        assert said["state"] == "refused", said
        assert said["problem"]["code"].startswith(("image", "archive"))
    assert client.post("/api/uploads", json={"name": "x.vrt"}).json()["code"] == "imagery.virtual"


def test_an_upload_has_a_limit(house_of):
    house = house_of(limits={"max_upload_mb": 0.1})
    client = house.client(house.person())
    href = client.post("/api/uploads", json={"name": "x.tif"}).json()["links"]["content"]
    answer = client.put(href, content=(b"x" * 10_000 for _ in range(100)))
    assert (answer.status_code, answer.json()["code"]) == (422, "limit.upload")


def test_a_shared_project_is_seen_and_not_changed(house, client):
    made = client.post("/api/projects", json={"name": "Venice", "labels": {"a": 1}})
    href = made.headers["location"]
    other = house.client(house.person())
    assert other.get(href).status_code == 404
    assert client.patch(href, json={"shared": True}).json()["labels"] == {"a": 1}
    assert other.get(href).json()["name"] == "Venice"
    assert other.patch(href, json={"name": "Mine"}).status_code == 403
    assert other.delete(href).status_code == 403
    assert client.post("/api/projects", json={"name": "Venice"}).status_code == 409
    assert client.delete(href).status_code == 204


# --- people -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("thing", ["projects", "users", "models", "imagery"])
def test_what_is_sent_twice_is_made_once(house, image, thing):
    admin = house.client(house.person(Role.ADMIN))
    if thing == "imagery":
        upload = admin.post("/api/uploads", json={"name": "scene.tif"}).json()
        admin.put(upload["links"]["content"], content=image.read_bytes())
    wish = {
        "projects": {"name": "Twice"}, "users": {"email": "twice@example.org"},
        "models": yaml.safe_load((ROOT / "configs" / "models" / "water-ndwi.yaml").read_text()) | {"id": "twice"},
        "imagery": {"upload": upload["id"] if thing == "imagery" else "", "datetime": "2024-07-25"},
    }[thing]  # fmt: skip
    key = {"Idempotency-Key": f"twice-{thing}"}
    first, second = (admin.post(f"/api/{thing}", json=wish, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201), first.text
    assert (second.content, second.headers.get("location")) == (first.content, first.headers.get("location"))
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    other = admin.post(f"/api/{thing}", json=wish | {"title": "x"}, headers=key)
    assert other.json()["code"] in {"idempotency.body", "request.invalid"}


def test_a_key_is_shown_once_and_never_stronger_than_its_maker(house, client, ada):
    made = client.post("/api/keys", json={"label": "n", "scopes": ["jobs:read", "keys"], "days": 1})
    assert made.headers["cache-control"] == "no-store"
    key = made.json()
    weak = house.client(None, Authorization=f"Bearer {key['secret']}")
    assert weak.get("/api/me").json()["scopes"] == ["jobs:read", "keys"]
    assert weak.post("/api/keys", json={"scopes": ["jobs:write"]}).json()["code"] == "access.scope"
    listed = client.get("/api/keys")
    assert key["secret"] not in listed.text
    assert key["secret"][4:12] == next(k["prefix"] for k in listed.json()["keys"] if k["id"] == key["id"])
    assert client.patch(f"/api/keys/{key['id']}", json={"active": False}).json()["active"] is False
    assert weak.get("/api/me").status_code == 401
    assert client.delete(f"/api/keys/{key['id']}").status_code == 204
    assert house.client(house.person()).patch(f"/api/keys/{listed.json()['keys'][0]['id']}",
                                              json={"active": False}).status_code == 404  # fmt: skip


def test_users_are_for_administrators(house, client, ada):
    admin = house.client(house.person(Role.ADMIN))
    made = admin.post("/api/users", json={"email": "new@example.org", "role": "viewer"})
    assert made.status_code == 201
    assert admin.post("/api/users", json={"email": "NEW@example.org"}).json()["code"] == "user.taken"
    href = made.headers["location"]
    assert client.get(href).status_code == 404
    assert client.get("/api/users").status_code == 403
    changed = admin.patch(href, json={"quota": {"running_jobs": 1}, "active": False}).json()
    assert (changed["quota"]["running_jobs"], changed["active"], changed["role"]) == (1, False, "viewer")
    me = f"/api/users/{ada.user.id}"
    assert client.patch(me, json={"role": "admin"}).status_code == 403
    assert client.patch(me, json={"name": "Ada"}).json()["name"] == "Ada"
    assert client.get("/api/me").json()["user"]["name"] == "Ada"


def test_every_change_is_in_the_audit_log(house, image):
    admin = house.person(Role.ADMIN)
    client = house.client(admin)
    project = client.post("/api/projects", json={"name": "p"}).headers["location"]
    client.patch(project, json={"description": "d"})
    client.delete(project)
    key = client.post("/api/keys", json={"label": "x"})
    client.patch(key.headers["location"], json={"active": False})
    client.delete(key.headers["location"])
    upload = client.post("/api/uploads", json={"name": "x.tif"}).headers["location"]
    client.put(f"{upload}/content", content=image.read_bytes())
    client.delete(upload)
    user = client.post("/api/users", json={"email": "au@example.org"}).headers["location"]
    client.patch(user, json={"name": "A"})
    client.patch("/api/models/snow-ndsi", json={"enabled": True})
    job = house.job(admin)
    client.post(f"/api/jobs/{job.id}/cancel")
    client.post(f"/api/jobs/{job.id}/resume")
    client.post(f"/api/jobs/{job.id}/cancel")
    client.delete(f"/api/jobs/{job.id}")
    log = client.get(f"/api/audit?user={admin.user.id}&limit=100")
    assert [e["action"] for e in log.json()["audit"]][::-1] == [
        "project.add", "project.change", "project.drop", "key.make", "key.change", "key.drop", "upload.begin",
        "upload.ready", "upload.drop", "user.add", "user.change", "model.change", "job.cancel", "job.resume",
        "job.cancel", "job.drop",
    ]  # fmt: skip
    assert key.json()["secret"] not in log.text
    assert house.client(house.person()).get(f"/api/audit?user={admin.user.id}").status_code == 404


# --- the catalogue ----------------------------------------------------------------------------------------------------


def put(house, owner, id_, job):
    place = house.desk.settings.place
    with house.desk.store.begin() as c:
        catalogue.put_collection(c, COLLECTION)
        catalogue.put_item(c, {
            "type": "Feature", "stac_version": "1.1.0", "id": id_, "collection": "water-ndwi",
            "geometry": {"type": "Point", "coordinates": [12, 45]}, "bbox": [12, 45, 12, 45], "links": [],
            "properties": {"datetime": "2026-07-04T10:10:31Z"},
            "assets": {"result": {"href": f"{place}/jobs/{job}/result.tif"}, "other": {"href": "/etc/hosts"}},
        }, owner)  # fmt: skip


def test_pystac_client_sees_what_its_key_may_see(house_of, served):
    house = house_of()
    ada, eve, root = house.person(), house.person(), house.person(Role.ADMIN)
    mine, theirs = house.left(ada, {"result.tif": b"x"}), house.left(eve, {"result.tif": b"y"})
    put(house, ada.user.id, "mine", mine.id)
    put(house, eve.user.id, "theirs", theirs.id)
    put(house, None, "everybodys", mine.id)

    def found(url, person):
        client = pystac_client.Client.open(f"{url}/stac/", headers=person.headers)
        by_search = {i.id for i in client.search(collections=["water-ndwi"], limit=1).items()}
        by_collection = {i.id for i in client.get_collection("water-ndwi").get_items()}
        assert by_search == by_collection
        return by_search, client

    with served(house.app) as url:
        seen, client = found(url, ada)
        assert seen == {"mine", "everybodys"}
        assert client.get_collection("water-ndwi").get_item("theirs") is None
        item = client.get_collection("water-ndwi").get_item("mine")
        assert item.assets["result"].href == f"{url}/api/jobs/{mine.id}/files/result.tif"
        assert item.assets["other"].href == "urn:swathe:file:hosts"
        assert found(url, eve)[0] == {"theirs", "everybodys"}
        assert found(url, root)[0] == {"mine", "theirs", "everybodys"}
    fetched = house.client(ada).get(f"/api/jobs/{mine.id}/files/result.tif")
    assert fetched.content == b"x"


def test_the_catalogue_answers_in_our_form(client):
    answer = client.get("/stac/collections/nope")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert client.get("/stac", follow_redirects=True).json()["type"] == "Catalog"


# --- health and metrics -----------------------------------------------------------------------------------------------


def test_readiness_tells_which_part_is_missing(house_of):
    house = house_of(replicas=True)
    client, place = house.client(), Path(house.desk.settings.place)

    def ready():
        house.app.state.health._at = float("-inf")
        answer = client.get("/health/readyz")
        assert answer.json()["status"] == ("UP" if answer.status_code == 200 else "DOWN")
        return answer.status_code, {name for name, part in answer.json()["parts"].items() if not part["ok"]}

    assert ready() == (200, set())
    kept = place / "health"
    kept.rmdir() if kept.is_dir() else None
    kept.write_text("in the way")
    assert ready() == (503, {"storage"})
    kept.unlink()
    facts = type(house.app.state.service.replicas).facts
    house.app.state.service.replicas.facts = lambda: {"ok": False, "detail": "no node answers"}
    assert ready() == (503, {"ray"})
    house.app.state.service.replicas.facts = lambda: facts(house.app.state.service.replicas)
    assert ready() == (200, set())
    assert client.get("/health/livez").json() == {"ok": True, "status": "UP"}


def test_a_database_that_is_gone_is_told_and_comes_back(house_of, away):
    house = house_of()
    ada, client = house.person(), house.client()
    with away(house.desk.store) as place:
        answer = client.get("/health/readyz")
        assert answer.status_code == 503
        assert not answer.json()["parts"]["database"]["ok"]
        refused = client.get("/api/me", headers=ada.headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert place not in answer.text + refused.text
        assert client.get("/metrics").status_code == 200
    assert client.get("/api/me", headers=ada.headers).status_code == 200


def metrics(client):
    page = client.get("/metrics")
    return {(s.name, tuple(sorted(s.labels.items()))): s.value
            for family in text_string_to_metric_families(page.text) for s in family.samples}  # fmt: skip


def test_metrics_count_requests_by_route_and_jobs_by_state(house_of):
    house = house_of()
    ada = house.person()
    client = house.client(ada)
    client.get("/metrics")
    job = house.job(ada)
    with house.desk.store.begin() as c:
        hold = jobs.take(c, job.id, "w", 60)
        jobs.enter(c, hold, JobState.RUNNING)
        jobs.advance(c, hold, Progress(3_000_000, 3_000_000, 1, 1))
        jobs.finish(c, hold, JobState.FAILED, {}, 0, {"code": "read.lost"})
    house.job(ada)
    client.get(f"/api/jobs/{job.id}")
    client.get("/api/jobs/nope")
    client.get("/nowhere/else")
    seen = metrics(client)

    def value(name, **labels):
        return seen[name, tuple(sorted(labels.items()))]

    assert value("swathe_queue_length", place="pool") == 1
    assert value("swathe_jobs", state="failed") == 1
    assert value("swathe_job_failures_total", code="read.lost") == 1
    assert value("swathe_jobs_ended_total", state="failed", place="pool") == 1
    assert value("swathe_pixels_total", place="pool") == 3_000_000
    assert value("swathe_job_stage_seconds_count", stage="running", place="pool") == 1
    assert value("swathe_job_megapixels_per_second_count", place="pool") == 1
    assert value("swathe_http_requests_total", route="/api/jobs/{id}", method="GET", status="200") == 1
    assert value("swathe_http_requests_total", route="/api/jobs/{id}", method="GET", status="404") == 1
    assert value("swathe_http_requests_total", route="none", method="GET", status="404") == 1
    assert metrics(client)["swathe_job_failures_total", (("code", "read.lost"),)] == 1
    assert not any(job.id in str(labels) or ada.key in str(labels) for _, labels in seen)


def test_a_job_whose_end_is_committed_late_is_counted_and_none_twice(house_of):
    house = house_of()
    ada, client = house.person(), house.client()
    client.get("/metrics")
    late, early, resumed = (house.job(ada) for _ in range(3))

    def end(job, at, again=False):
        with house.desk.store.begin() as c:
            if again:
                jobs.resume(c, job.id)
            jobs.finish(c, jobs.take(c, job.id, "w", 60), JobState.FAILED, {}, 0, {"code": "x"})
            c.execute(update(tables.jobs).where(tables.jobs.c.id == job.id).values(ended=text_of(at)))

    def ended():
        return metrics(client).get(("swathe_jobs_ended_total", (("place", "pool"), ("state", "failed"))), 0)

    moment = datetime.now(UTC) + timedelta(seconds=60)
    end(early, moment)
    end(resumed, moment)
    assert [ended(), ended()] == [2, 2]
    end(late, moment - timedelta(seconds=5))
    assert [ended(), ended()] == [3, 3]
    end(resumed, moment + timedelta(seconds=1), again=True)
    assert [ended(), ended()] == [4, 4]


def test_of_several_replicas_each_says_which_one_it_is(house_of):
    seen = [metrics(house_of(front={"processes": 2}).client()) for _ in range(2)]
    names = []
    for page in seen:
        own = {dict(labels).get("replica") for name, labels in page if name.startswith(("swathe_http", "process_"))}
        assert len(own) == 1
        names += own
        assert not any(
            "replica" in dict(labels) for name, labels in page if name in {"swathe_jobs", "swathe_queue_length"}
        )
    assert None not in names
    assert len(set(names)) == 2


def test_the_dashboard_asks_for_nothing_that_is_not_there(house, client, image):
    client.post("/api/predict?model=water-ndwi", content=b"x")
    client.post("/api/predict?model=water-ndwi&sensor=sentinel-2-l2a", content=image.read_bytes())
    job = house.job(house.person())
    with house.desk.store.begin() as c:
        hold = jobs.take(c, job.id, "w", 60)
        jobs.enter(c, hold, JobState.RUNNING)
        time.sleep(0.02)  # what took no time has no speed
        jobs.finish(c, hold, JobState.FAILED, {}, 0, {"code": "x"})
    known = {name for name, _ in metrics(client)}
    board = json.loads((ROOT / "configs" / "grafana" / "service.json").read_text())
    asked = {name for panel in board["panels"] for target in panel["targets"]
             for name in re.findall(r"\bswathe_\w+", target["expr"])}  # fmt: skip
    assert len(asked) >= 10
    assert asked <= known
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert metrics(client)["swathe_model_replicas", (("model", "water-ndwi"),)] == 1


def test_metrics_name_no_model_that_not_everybody_sees(house_of, image):
    house = house_of(replicas=True)
    ada = house.client(house.person())
    card = yaml.safe_load((ROOT / "configs" / "models" / "water-ndwi.yaml").read_text())
    for name in ("secret-site-a", "secret-site-b"):
        assert ada.post("/api/models", json=card | {"id": name}).status_code == 201
    for name, content in (("secret-site-a", image.read_bytes()), ("secret-site-b", b"x"), ("water-ndwi", b"x")):
        ada.post(f"/api/predict?model={name}&sensor=sentinel-2-l2a", content=content)
    seen = metrics(house.client())
    assert not any("secret" in str(labels) for _, labels in seen)
    assert seen["swathe_prediction_seconds_count", (("model", "own"),)] == 2
    assert seen["swathe_prediction_seconds_count", (("model", "water-ndwi"),)] == 1
    assert sum(value for (name, labels), value in seen.items()
               if name == "swathe_model_state" and ("model", "own") in labels) == 2  # fmt: skip
    assert seen["swathe_model_replicas", (("model", "own"),)] == 2
    assert any(name == "swathe_prediction_failures_total" and ("model", "own") in labels for name, labels in seen)


def test_predictions_at_work_are_counted(house_of, image):
    house = house_of(replicas=True)
    client, service, seen = house.client(house.person()), house.app.state.service, []
    answered = service.replicas.predict

    def count():
        page = text_string_to_metric_families(service.meters.page().decode())
        return next(s.value for family in page for s in family.samples if s.name == "swathe_predictions_in_flight")

    async def counted(*asked):
        seen.append(count())
        return await answered(*asked)

    service.replicas.predict = counted
    question = "/api/predict?model=water-ndwi&sensor=sentinel-2-l2a"
    assert client.post(question, content=image.read_bytes()).status_code == 200
    assert client.post(question, content=b"x").status_code == 422
    assert (seen, count()) == ([1, 1], 0)


def test_the_front_page_is_for_people_and_programs(house):
    client = house.client()
    assert "<h1>swathe</h1>" in client.get("/", headers={"Accept": "text/html"}).text
    for link in client.get("/").json()["links"]:
        assert client.get(link["href"]).status_code in {200, 401, 503}, link
    assert "openapi.json" in client.get("/docs").text


def test_the_page_that_explains_the_api_needs_nothing_from_elsewhere(house):
    client = house.client()
    for page in ("/docs", "/stac/api.html"):
        text = client.get(page).text
        files = re.findall(r'(?:src|href)="([^"]+)"', text)
        assert len(files) == 3
        assert not [name for name in files if "//" in name]
        for name in files:
            assert client.get(f"{page.rpartition('/')[0]}/{name}").status_code == 200, name
