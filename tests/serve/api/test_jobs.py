"""Jobs over HTTP, from an image in a folder that the service may read to files that are fetched in parts."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from serve.store import hooks, jobs, replies
from swathe.job import JobState
from swathe.user import Role, Scope


@pytest.fixture(scope="module")
def house(houses, image):
    return houses(front={"rate_per_minute": 10_000}, local_roots=str(image.parent))


@pytest.fixture
def ada(house):
    return house.person()


@pytest.fixture
def client(house, ada):
    return house.client(ada)


@pytest.fixture
def wish(image):
    return {"model": "water-ndwi", "inputs": [str(image)], "sensor": "sentinel-2-l2a", "title": "Lagoon",
            "labels": {"a": 1}}  # fmt: skip


def end(house, job, state=JobState.DONE):
    with house.desk.store.begin() as c:
        hold = jobs.take(c, job, "worker", 60)
        jobs.enter(c, hold, JobState.PREPARING)
        jobs.finish(c, hold, state, {}, 0)


def number_of(house, ada):
    with house.desk.store.read() as c:
        return jobs.count(c, jobs.Filter(owner=ada.user.id))


# --- submitting -----------------------------------------------------------------------------------------------------


def test_an_estimate_keeps_nothing(house, ada, client, wish):
    said = client.post("/api/estimates", json=wish).json()
    assert said["cost"]["pixels"] == 64 * 96
    assert said["place"] == "online"
    assert number_of(house, ada) == 0


def test_a_job_is_accepted_listed_and_found_unchanged(client, wish, ada):
    answer = client.post("/api/jobs", json=wish)
    assert answer.status_code == 202
    job = answer.json()
    assert answer.headers["location"] == job["links"]["self"]
    assert (job["state"], job["owner"], job["title"], job["labels"]) == ("queued", ada.user.id, "Lagoon", {"a": 1})
    assert job["request"]["model"] == "water-ndwi"
    found = client.get(job["links"]["self"])
    assert found.json() == job
    again = client.get(job["links"]["self"], headers={"If-None-Match": found.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.post(job["links"]["cancel"]).json()["state"] == "cancelled"
    changed = client.get(job["links"]["self"], headers={"If-None-Match": found.headers["etag"]})
    assert changed.status_code == 200


def test_lists_leave_out_what_is_long_of_a_request(house, ada, client):
    """A thousand areas of a megabyte each would be one answer; the job itself has all of it."""
    corner = [12.31, 45.42]
    area = {"type": "MultiPoint", "coordinates": [corner] * 500}
    colours = [{"value": n, "colour": "#0000ff", "opacity": 1.0, "label": "water"} for n in range(256)]
    publish = [{"workspace": "a", "name": "b", "files": [], "colours": colours, "kind": "values"}]
    request = {"model": "water-ndwi", "inputs": ["https://a.example/x.tif"], "publish": publish}
    long, short = house.job(ada, request=request | {"aoi": area}), house.job(ada, request={"aoi": [corner, corner]})
    listed = {job["id"]: job for job in client.get("/api/jobs").json()["jobs"]}
    assert listed[long.id]["request"] == {
        "model": "water-ndwi", "inputs": ["https://a.example/x.tif"], "publish": [{"workspace": "a", "name": "b"}],
    }  # fmt: skip
    assert listed[short.id]["request"] == {"aoi": [corner, corner]}
    whole = client.get(f"/api/jobs/{long.id}").json()
    assert whole["request"] == request | {"aoi": area}
    assert listed[long.id] == whole | {"request": listed[long.id]["request"]}


@pytest.mark.parametrize(("path", "more"), [
    ("jobs", {}), ("estimates", {}), ("predict", {}), ("uploads", {"name": "x.tif"}), ("projects", {"name": "long"}),
])  # fmt: skip
def test_long_labels_are_refused_alike(client, wish, path, more):
    body = (more or wish) | {"labels": {"a": "x" * 20_000}}
    answer = client.post(f"/api/{path}", json=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (422, "limit.labels", "labels")


def test_a_wish_that_cannot_be_met_says_why(client, wish):
    for change, status, code in (
        ({"model": "nope"}, 404, "model.unknown"), ({"inputs": ["/etc/passwd"]}, 422, "url.local"),
        ({"inputs": ["http://127.0.0.1/x.tif"]}, 422, "url."), ({"aoi": [1, 2, 3, 1]}, 422, "area"),
        ({"project": "p" + "0" * 26}, 404, "project.unknown"), ({"aoi": [-180, -90, 180, 90]}, 422, "limit.area"),
        ({"sensor": None}, 422, "band.radiometry"), ({"inputs": []}, 422, "request.invalid"),
        ({"model": "clay-v1.5-s2"}, 409, "model.disabled"), ({"inputs": ["upload://x"]}, 404, "upload.unknown"),
    ):  # fmt: skip
        answer = client.post("/api/jobs", json={**wish, **change})
        assert answer.status_code == status, (change, answer.text)
        assert answer.json()["code"].startswith(code), answer.text


def test_waiting_for_the_end(house, client, wish):
    def work():
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with house.desk.store.read() as c:
                found = [j.id for j in jobs.listed(c, jobs.Filter(state=(JobState.QUEUED,)), 5).items
                         if j.title == "waited"]  # fmt: skip
            if found:
                end(house, found[0])
                break
            time.sleep(0.02)

    threading.Thread(target=work).start()
    done = client.post("/api/jobs", json={**wish, "title": "waited"}, headers={"Prefer": "wait=20"})
    assert (done.status_code, done.json()["state"]) == (201, "done")
    assert done.headers["preference-applied"] == "wait=20"
    began = time.monotonic()
    late = client.post("/api/jobs", json=wish, headers={"Prefer": "respond-async, wait=1"})
    assert (late.status_code, late.json()["state"]) == (202, "queued")
    assert time.monotonic() - began >= 1
    at_once = client.post("/api/jobs", json=wish, headers={"Prefer": "respond-async"})
    assert at_once.headers["preference-applied"] == "respond-async"
    odd = client.post("/api/jobs", json=wish, headers={"Prefer": "wait=soon; handling=strict"})
    assert odd.status_code == 202
    assert "preference-applied" not in odd.headers


# --- sent twice -----------------------------------------------------------------------------------------------------


def test_a_wish_sent_again_is_one_job(house, ada, client, wish):
    key = {"Idempotency-Key": "one"}
    first = client.post("/api/jobs", json=wish, headers=key)
    second = client.post("/api/jobs", json=wish, headers=key)
    assert second.status_code == first.status_code == 202
    assert second.json() == first.json()
    assert second.headers["idempotent-replayed"] == "true"
    assert number_of(house, ada) == 1
    other = client.post("/api/jobs", json={**wish, "title": "other"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency.body")
    assert client.post("/api/jobs", json=wish, headers={"Idempotency-Key": "two"}).json()["id"] != first.json()["id"]
    eve = house.client(house.person())
    assert eve.post("/api/jobs", json=wish, headers=key).json()["id"] != first.json()["id"]


def test_twenty_at_once_are_one_job(house, ada, client, wish):
    with ThreadPoolExecutor(20) as pool:
        got = list(
            pool.map(lambda _: client.post("/api/jobs", json=wish, headers={"Idempotency-Key": "race"}), range(20))
        )
    assert {a.status_code for a in got} == {202}
    assert len({a.json()["id"] for a in got}) == 1
    assert number_of(house, ada) == 1


def test_a_wish_that_failed_may_be_sent_again(client, wish):
    key = {"Idempotency-Key": "failed"}
    assert client.post("/api/jobs", json={**wish, "inputs": ["/nope.tif"]}, headers=key).status_code == 422
    assert client.post("/api/jobs", json=wish, headers=key).status_code == 202


def test_an_answer_stands_with_its_job_or_not_at_all(house, ada, client, wish):
    """A later request took the key over, because this one took too long: its job does not stand beside the other's."""
    keep = replies.keep

    def late(c, user, operation, key, *answer):
        keep(c, user, operation, key, 202, {}, b"{}")
        return keep(c, user, operation, key, *answer)

    replies.keep = late
    try:
        answer = client.post("/api/jobs", json=wish, headers={"Idempotency-Key": "late"})
    finally:
        replies.keep = keep
    assert (answer.status_code, answer.json()["code"]) == (409, "idempotency.running")
    assert int(answer.headers["Retry-After"]) > 0
    assert number_of(house, ada) == 0


def test_a_request_that_takes_long_is_not_taken_for_dead(house, ada, client, wish, monkeypatch):
    monkeypatch.setattr("serve.api.replay._SIGN_S", 0.05)
    monkeypatch.setattr(replies, "_GIVEN_UP_S", 0.5)
    submit = house.desk.jobs.submit

    def slowly(*given, **more):
        time.sleep(1.5)
        return submit(*given, **more)

    monkeypatch.setattr(house.desk.jobs, "submit", slowly)
    with ThreadPoolExecutor(2) as pool:
        got = list(pool.map(lambda _: client.post("/api/jobs", json=wish, headers={"Idempotency-Key": "long"}),
                            range(2)))  # fmt: skip
    assert {a.status_code for a in got} == {202}
    assert len({a.json()["id"] for a in got}) == 1


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 300, "é"])
def test_keys_that_are_none(client, wish, key):
    answer = client.post("/api/jobs", json=wish, headers={"Idempotency-Key": key.encode()})
    assert answer.status_code == 422


# --- hooks ----------------------------------------------------------------------------------------------------------


def test_its_owner_sees_how_far_a_hook_was_told(house, ada, client, wish):
    hook = {"url": "https://you.example.org/swathe?token=abc", "secret": "a long word"}
    job = client.post("/api/jobs", json={**wish, "hook": hook}).json()
    (told,) = client.get(job["links"]["hooks"]).json()["hooks"]
    assert told.pop("id")
    assert told == {"url": "https://you.example.org/swathe", "kinds": ["state"], "sent_seq": 0, "tries": 0,
                    "given_up": False, "problem": ""}  # fmt: skip
    with house.desk.store.begin() as c:
        hooks.failed(c, hooks.of_job(c, job["id"])[0].id, "it answered 502", 0.0, give_up=True)
    answer = client.get(job["links"]["hooks"])
    (told,) = answer.json()["hooks"]
    assert (told["tries"], told["given_up"], told["problem"]) == (1, True, "it answered 502")
    assert "a long word" not in answer.text
    assert "abc" not in answer.text
    assert house.client(house.person()).get(job["links"]["hooks"]).status_code == 404
    assert client.get(f"/api/jobs/{house.job(ada).id}/hooks").json() == {"hooks": []}


def test_who_sees_a_shared_job_does_not_see_its_hooks(house, ada, client, wish):
    project = client.post("/api/projects", json={"name": "maps", "shared": True}).json()["id"]
    hook = {"url": "https://you.example.org/swathe"}
    job = client.post("/api/jobs", json={**wish, "hook": hook, "project": project}).json()
    eve = house.client(house.person())
    assert "hooks" not in eve.get(f"/api/jobs/{job['id']}").json()["links"]
    assert eve.get(f"/api/jobs/{job['id']}/hooks").json() == {"hooks": []}
    client.delete(f"/api/projects/{project}")  # others of this module see what is shared


# --- steering -------------------------------------------------------------------------------------------------------


def test_an_ended_job_is_resumed_repeated_and_removed(house, client, ada, wish):
    job = client.post("/api/jobs", json=wish).json()
    end(house, job["id"], JobState.FAILED)
    links = client.get(job["links"]["self"]).json()["links"]
    assert "cancel" not in links
    assert client.post(f"{job['links']['self']}/cancel").json()["code"] == "job.ended"
    assert client.post(links["resume"]).json()["round"] == 2
    assert client.delete(job["links"]["self"]).status_code == 409
    again = client.post(f"{job['links']['self']}/again", headers={"Idempotency-Key": "again"})
    assert again.json()["id"] != job["id"]
    assert again.json()["request"] == job["request"]
    client.post(f"{job['links']['self']}/cancel")
    assert client.delete(job["links"]["self"]).status_code == 204
    assert client.get(job["links"]["self"]).status_code == 404


def test_pages_hold_every_job_once(house, ada, client):
    made = [house.job(ada).id for _ in range(7)]
    seen, href = [], "/api/jobs?limit=3&state=queued&model=water-ndwi"
    while href:
        page = client.get(href).json()
        seen += [job["id"] for job in page["jobs"]]
        href = next((link["href"] for link in page["links"] if link["rel"] == "next"), None)
        assert href is None or ("limit=3" in href and "state=queued" in href)
    assert seen == made[::-1]
    assert client.get("/api/jobs?state=done&state=failed").json()["jobs"] == []


def test_a_key_in_the_query_is_not_in_the_links(house, ada):
    for _ in range(3):
        house.job(ada)
    page = house.client().get("/api/jobs", params={"limit": 1, "api_key": ada.key}).json()
    assert page["links"][0]["rel"] == "next"
    assert ada.key not in json.dumps(page)


@pytest.mark.parametrize("role", [Role.MEMBER, Role.VIEWER])
def test_other_peoples_jobs_do_not_exist(house, ada, role):
    job, eve = house.left(ada, {"result.tif": b"x"}), house.client(house.person(role, set(Scope)))
    absent = "j" + "0" * 26
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/resume"), ("POST", "/again"),
                         ("GET", "/events"), ("GET", "/logs"), ("GET", "/files"), ("GET", "/files/result.tif"),
                         ("GET", "/item")):  # fmt: skip
        theirs, nobodys = (eve.request(method, f"/api/jobs/{id_}{path}") for id_ in (job.id, absent))
        assert theirs.status_code == nobodys.status_code, (method, path)
        assert theirs.status_code in {403, 404}
        assert theirs.text.replace(job.id, absent) == nobodys.text


# --- results --------------------------------------------------------------------------------------------------------

TIFF = bytes(range(256)) * 4


@pytest.fixture
def left(house, ada):
    item = {"type": "Feature", "id": "x", "collection": "water-ndwi", "geometry": None, "properties": {}, "links": [
        {"rel": "self", "href": "item.json"}, {"rel": "derived_from", "href": "https://a.example/x"}],
        "assets": {"result": {"href": "./result.tif", "file:checksum": "1220" + hashlib.sha256(TIFF).hexdigest()},
                   "far": {"href": "https://a.example/y.tif"}}}  # fmt: skip
    return house.left(ada, {"result.tif": TIFF, "report.json": b"{}", "item.json": json.dumps(item).encode(),
                            "page.html": b"<script>1</script>"})  # fmt: skip


def test_files_are_listed_with_sums_and_fetched(client, left):
    files = {f["name"]: f for f in client.get(f"/api/jobs/{left.id}/files").json()["files"]}
    assert set(files) == {"result.tif", "report.json", "item.json", "page.html"}
    assert files["result.tif"]["sha256"] == hashlib.sha256(TIFF).hexdigest()
    answer = client.get(files["result.tif"]["href"])
    assert answer.content == TIFF
    assert answer.headers["content-type"].startswith("image/tiff")
    assert answer.headers["content-disposition"] == 'attachment; filename="result.tif"'
    assert client.get(files["page.html"]["href"]).headers["content-disposition"].startswith("attachment")
    assert client.get(files["report.json"]["href"]).headers["x-content-type-options"] == "nosniff"


def test_parts_of_files(client, left):
    href = f"/api/jobs/{left.id}/files/result.tif"
    for asked, content, said in (("bytes=2-5", TIFF[2:6], "2-5/1024"), ("bytes=-4", TIFF[-4:], "1020-1023/1024"),
                                 ("bytes=1000-", TIFF[1000:], "1000-1023/1024")):  # fmt: skip
        answer = client.get(href, headers={"Range": asked})
        assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, content, f"bytes {said}")
    assert client.get(href, headers={"Range": "bytes=5000-"}).status_code == 416
    head = client.head(href)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "1024")
    tag = head.headers["etag"]
    assert client.get(href, headers={"If-None-Match": tag}).status_code == 304
    assert client.get(href, headers={"Range": "bytes=0-1", "If-Range": tag}).status_code == 206
    assert client.get(href, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).status_code == 200


@pytest.mark.parametrize(
    "name",
    ["../../pepper", "..%2f..%2fpepper", "%2e%2e%2fservice.sqlite", "%2fetc%2fpasswd", "result.tif%00", "RESULT.TIF",
     "result.tif/", "result.tif%2f..%2freport.json"],
)  # fmt: skip
def test_names_lead_nowhere_else(client, left, name):
    answer = client.get(f"/api/jobs/{left.id}/files/{name}")
    assert answer.status_code in {400, 404}


def test_the_item_is_at_home(client, left):
    item = client.get(f"/api/jobs/{left.id}/item")
    assert item.headers["content-type"] == "application/geo+json"
    found = item.json()
    assert found["assets"]["result"]["href"] == f"http://svc.test/api/jobs/{left.id}/files/result.tif"
    assert found["assets"]["far"]["href"] == "https://a.example/y.tif"
    links = {link["rel"]: link["href"] for link in found["links"]}
    assert links["collection"] == "http://svc.test/stac/collections/water-ndwi"
    assert links["derived_from"] == "https://a.example/x"
    assert all("://" in href for href in links.values())
    assert client.get(found["assets"]["result"]["href"]).content == TIFF


def test_a_job_without_results(client, house, ada):
    job = house.job(ada)
    assert client.get(f"/api/jobs/{job.id}/files").json() == {"files": []}
    assert client.get(f"/api/jobs/{job.id}/item").status_code == 404
    assert client.get(f"/api/jobs/{job.id}/logs").json() == {"logs": [], "links": []}
