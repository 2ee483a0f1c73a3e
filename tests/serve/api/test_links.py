"""Links: one thing, for one deed, for a while, without a key; and nothing else."""

from __future__ import annotations

import io
import time
import urllib.request
import zipfile
from datetime import timedelta
from urllib.parse import unquote

import pytest

from serve.desk.links import LONGEST
from serve.store import keys, users
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server
from tests.serve.api.test_access import problem

RESULT = bytes(range(256)) * 9
WHOLE = slice(None)


@pytest.fixture
def ada(house):
    return house.person()


@pytest.fixture
def job(house, ada):
    return house.left(ada, {"result.tif": RESULT, "report.json": b"{}", "item.json": b"{}"})


def made(house, person, **asked):
    answer = house.client(person).post("/api/links", json=asked)
    assert answer.status_code == 201, answer.text
    return answer.json()["url"].removeprefix("http://svc.test")


def linked(house, job, ada, name="result.tif"):
    return made(house, ada, kind="file", id=job.id, name=name)


def test_whoever_holds_it_reads_the_file(house, job, ada):
    link = linked(house, job, ada)
    answer = house.client().get(link)
    assert (answer.status_code, answer.content) == (200, RESULT)
    assert link.endswith("/result.tif")
    assert answer.headers["accept-ranges"] == "bytes"
    assert "content-encoding" not in house.client().get(link, headers={"Accept-Encoding": "gzip, br"}).headers
    head = house.client().head(link)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(RESULT))


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-0", 206, slice(1)), ("bytes=10-19", 206, slice(10, 20)), ("bytes=2000-", 206, slice(2000, None)),
        ("bytes=-22", 206, slice(-22, None)), ("bytes=2300-99999", 206, slice(2300, None)),
        ("bytes=-99999", 206, WHOLE), ("bytes=0-", 206, WHOLE), ("bytes=0-1,5-6", 200, WHOLE),
        ("bytes=9-3", 200, WHOLE), ("pages=1-2", 200, WHOLE), ("bytes=", 200, WHOLE), ("bytes=-", 200, WHOLE),
    ],
)  # fmt: skip
def test_parts_are_those_of_the_file(house, job, ada, asked, status, part):
    answer = house.client().get(linked(house, job, ada), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (status, RESULT[part])
    if status == 206:
        said, _, whole = answer.headers["content-range"].removeprefix("bytes ").partition("/")
        first, last = map(int, said.split("-"))
        assert (RESULT[first : last + 1], int(whole)) == (answer.content, len(RESULT))


@pytest.mark.parametrize("asked", ["bytes=2304-", "bytes=99999-100000", "bytes=-0"])
def test_a_part_that_is_not_there_is_refused(house, job, ada, asked):
    answer = house.client().get(linked(house, job, ada), headers={"Range": asked})
    problem(answer, 416, "range.unsatisfiable")
    assert answer.headers["content-range"] == f"bytes */{len(RESULT)}"


def test_a_part_of_another_version_is_not_sent(house, job, ada):
    link, asks = linked(house, job, ada), house.client()
    tag = asks.get(link).headers["etag"]
    parts = {"Range": "bytes=0-9"}
    assert asks.get(link, headers={**parts, "If-Range": tag}).status_code == 206
    assert asks.get(link, headers={**parts, "If-Range": '"another"'}).content == RESULT
    assert asks.get(link, headers={"If-None-Match": tag}).status_code == 304


def test_a_file_is_brought_by_a_link_and_read_again(house, ada, image):
    upload = house.client(ada).post("/api/uploads", json={"name": "Scene of today.tif"}).json()
    to = made(house, ada, kind="upload", id=upload["id"], method="PUT")
    assert to.endswith("/Scene_of_today.tif")
    content = image.read_bytes()
    answer = house.client().put(to, content=content, headers={"Content-Type": "image/tiff"})
    assert (answer.status_code, answer.json()["state"]) == (200, "ready")
    back = house.client().get(made(house, ada, kind="upload", id=upload["id"]))
    assert back.content == content
    problem(house.client().put(to, content=content), 409, "upload.state")


def begun(house, person, **asked):
    answer = house.client(person).post("/api/uploads", json={"name": "scene.tif", "signed": True, **asked})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_place_for_a_file_comes_with_links(house, ada, image):
    upload = begun(house, ada, valid_s=60)
    to, back = (upload["signed"][name].removeprefix("http://svc.test") for name in ("upload_url", "download_url"))
    assert (to.rpartition("/")[2], upload["signed"]["direct_url"]) == ("scene.tif", None)
    problem(house.client().get(back), 409, "upload.state")
    assert house.client().put(to, content=image.read_bytes()).status_code == 200
    assert house.client().get(back).content == image.read_bytes()
    assert house.client(ada).get(f"/api/uploads/{upload['id']}").json()["signed"] is None
    job = {"model": "water-ndwi", "sensor": "sentinel-2-l2a", "inputs": [upload["signed"]["download_url"]]}
    assert house.client(ada).post("/api/jobs", json=job).json()["request"]["inputs"] == [f"upload://{upload['id']}"]


def test_links_are_not_kept_for_a_repetition(house, ada):
    asked = {"name": "scene.tif", "signed": True}
    once = {"Idempotency-Key": ada.user.id}
    first, again = (house.client(ada).post("/api/uploads", json=asked, headers=once) for _ in range(2))
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json()["id"] == again.json()["id"]
    assert again.json()["signed"]["upload_url"]
    with house.desk.store.read() as c:
        kept = [str(row) for row in c.exec_driver_sql("select * from replies")]
    assert any(first.json()["id"] in row for row in kept)
    assert not any("/api/links/" in row for row in kept)


def test_what_comes_by_a_link_is_bounded_and_looked_at(house_of, house, image):
    ada = house.person()
    upload = begun(house, ada, name="x.vrt.tif")
    to = upload["signed"]["upload_url"].removeprefix("http://svc.test")
    said = problem(house.client().put(to, content=b"<VRTDataset/>"), 422, "image.content")
    kept = house.client(ada).get(f"/api/uploads/{upload['id']}").json()
    assert (kept["state"], kept["problem"]["detail"]) == ("refused", said["detail"])
    problem(house.client().put(to, content=image.read_bytes()), 409, "upload.state")
    small = house_of(limits={"max_upload_mb": 0.01})
    to = begun(small, small.person())["signed"]["upload_url"].removeprefix("http://svc.test")
    problem(small.client().put(to, content=image.read_bytes()), 422, "limit.upload")
    poor = house_of(limits={"storage_mb": 0.001})
    to = begun(poor, poor.person())["signed"]["upload_url"].removeprefix("http://svc.test")
    problem(poor.client().put(to, content=image.read_bytes()), 422, "quota.storage")


def test_where_there_is_object_storage_bytes_may_go_past_the_service(house_of, s3_server, monkeypatch, image):
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    house = house_of(results=s3_server.prefix())
    ada = house.person()
    upload = begun(house, ada)
    settle = f"/api/uploads/{upload['id']}/arrived"
    problem(house.client(ada).post(settle), 409, "upload.state")
    sent = urllib.request.Request(upload["signed"]["direct_url"], image.read_bytes(), method="PUT")
    urllib.request.urlopen(sent, timeout=20).close()
    assert house.client(ada).post(settle).json()["state"] == "ready"
    back = house.client().get(upload["signed"]["download_url"].removeprefix("http://svc.test"))
    assert back.status_code == 307
    assert urllib.request.urlopen(back.headers["location"], timeout=20).read() == image.read_bytes()
    head = house.client().head(upload["signed"]["download_url"].removeprefix("http://svc.test"))
    assert head.headers["content-length"] == str(image.stat().st_size)


def test_one_image_of_many_is_opened_where_it_lies(house_of, s3_server, monkeypatch, image):
    """Whoever opens one of a hundred scenes does not wait for a copy of all of them; none is made."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    house, packed = house_of(results=s3_server.prefix()), io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("a.tif", "b.tif"):
            archive.write(image, name)
    ada = house.person()
    asks, upload = house.client(ada), house.client(ada).post("/api/uploads", json={"name": "scenes.zip"}).json()
    found = asks.put(f"/api/uploads/{upload['id']}/content", content=packed.getvalue()).json()
    assert found["facts"]["files"] == ["a.tif", "b.tif"]
    here = f"/api/uploads/{upload['id']}/files"
    answer = asks.get(f"{here}/b.tif")
    assert answer.status_code == 307
    assert urllib.request.urlopen(answer.headers["location"], timeout=20).read() == image.read_bytes()
    assert asks.head(f"{here}/b.tif").headers["content-length"] == str(image.stat().st_size)
    problem(asks.get(f"{here}/c.tif"), 404, "file.unknown")
    problem(house.client(house.person()).get(f"{here}/b.tif"), 404, "upload.unknown")
    assert not (house.desk.settings.service_dir / "fetched").exists()


def test_one_image_is_sent_from_a_folder_too(house, ada, image):
    asks, upload = house.client(ada), begun(house, ada)
    asks.put(upload["links"]["content"].removeprefix("http://svc.test"), content=image.read_bytes())
    to = f"/api/uploads/{upload['id']}/files/scene.tif"
    answer = asks.get(to, headers={"Range": "bytes=0-9"})
    assert (answer.status_code, answer.content) == (206, image.read_bytes()[:10])
    problem(asks.get(to.replace("scene", "other")), 404, "file.unknown")


def test_imagery_of_one_s_own_is_registered_and_forgotten(house, ada, image):
    asks, upload = house.client(ada), begun(house, ada)
    problem(asks.post("/api/imagery", json={"upload": upload["id"]}), 409, "upload.state")
    asks.put(upload["links"]["content"].removeprefix("http://svc.test"), content=image.read_bytes())
    wrong = problem(asks.post("/api/imagery", json={"upload": upload["id"], "datetime": "soon"}), 400,
                    "catalogue.datetime")  # fmt: skip
    assert wrong["field"] == "datetime"
    answer = asks.post("/api/imagery", json={"upload": upload["id"], "datetime": "2024-07-25", "title": "Lake"})
    (item,) = answer.json()["items"]
    assert (answer.status_code, item["properties"]["title"], item["collection"]) == (201, "Lake", "imagery")
    seen = asks.get(f"/stac/collections/imagery/items/{item['id']}").json()
    for href in (item["assets"]["image"]["href"], seen["assets"]["image"]["href"]):
        assert asks.get(href.removeprefix("http://svc.test")).content == image.read_bytes()
    wish = {"model": "water-ndwi", "sensor": "sentinel-2-l2a", "inputs": [f"item://imagery/{item['id']}"]}
    assert asks.post("/api/estimates", json=wish).json()["cost"]["pixels"] == 64 * 96
    problem(house.client(house.person()).delete(f"/api/imagery/{item['id']}"), 404, "item.unknown")
    problem(house.client(house.person()).post("/api/imagery", json={"upload": upload["id"]}), 404, "upload.unknown")
    assert asks.delete(f"/api/imagery/{item['id']}").status_code == 204
    problem(asks.delete(f"/api/imagery/{item['id']}"), 404, "item.unknown")
    assert asks.get(f"/api/uploads/{upload['id']}").json()["state"] == "ready"


def test_it_is_for_one_deed(house, job, ada):
    upload = house.client(ada).post("/api/uploads", json={"name": "x.tif"}).json()
    link, asks = linked(house, job, ada), house.client()
    problem(asks.put(link, content=b"x"), 403, "link.method")
    problem(asks.get(made(house, ada, kind="upload", id=upload["id"], method="PUT")), 403, "link.method")
    problem(house.client(ada).post("/api/links", json={"kind": "file", "id": job.id, "name": "result.tif",
                                                      "method": "PUT"}), 400, "link.kind")  # fmt: skip
    assert asks.post(link).status_code == 405
    assert asks.delete(link).status_code == 405


def test_it_opens_nothing_else(house, job, ada):
    other = house.left(ada, {"result.tif": b"other", "secret.json": b"{}"})
    link, asks = linked(house, job, ada), house.client()
    _, _, _, token, name = link.split("/")
    foreign = linked(house, other, ada).split("/")[3]
    said, signature = token.split(".")
    for forged in (
        f"/api/links/{token}/report.json", f"/api/links/{foreign.split('.')[0]}.{signature}/{name}",
        f"/api/links/{said}.{foreign.split('.')[1]}/{name}", f"/api/links/{said}/{name}", f"/api/links/{said}./{name}",
        f"/api/links/{token[:-1]}{'A' if token[-1] != 'A' else 'B'}/{name}", f"/api/links/{token}A/{name}",
        f"/api/links/.{signature}/{name}", f"/api/links/{token}/%2e%2e", f"/api/links/{token}/..%5cresult.tif",
        f"/api/links/{token}/Result.tif", f"/api/links/é/{name}",
    ):  # fmt: skip
        problem(asks.get(forged), 403, "link.invalid")
    for away in (f"/api/links/{token}/a/{name}", f"/api/links/{token}/..%2f{name}", f"/api/links/{token}"):
        assert asks.get(away).status_code in {403, 404}
    assert asks.get("/api/jobs", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_it_ends(house, job, ada):
    links = house.desk.links
    caller = house.desk.keys.open(ada.key)
    old = links.make(caller, "file", job.id, "result.tif", valid=timedelta(seconds=-1))
    answer = problem(house.client().get(old.path), 403, "link.expired")
    assert old.expires in answer["detail"]
    longest = links.make(caller, "file", job.id, "result.tif", valid=timedelta(days=900))
    assert longest.link.expires <= time.time() + LONGEST.total_seconds()
    for seconds in (0, -5, 8 * 86_400):
        asked = {"kind": "file", "id": job.id, "name": "result.tif", "valid_s": seconds}
        problem(house.client(ada).post("/api/links", json=asked), 422, "request.invalid")


def test_it_goes_with_its_user_and_with_their_key(house, job, ada):
    link, asks = linked(house, job, ada), house.client()
    with house.desk.store.begin() as c:
        key = keys.of_user(c, ada.user.id)[0].id
        keys.change(c, key, False)
    problem(asks.get(link), 403, "link.withdrawn")
    with house.desk.store.begin() as c:
        keys.change(c, key, True)
    assert asks.get(link).status_code == 200
    with house.desk.store.begin() as c:
        users.change(c, ada.user.id, active=False)
    problem(asks.get(link), 403, "link.withdrawn")
    with house.desk.store.begin() as c:
        users.change(c, ada.user.id, active=True)
        keys.drop(c, key)
    problem(asks.get(link), 403, "link.withdrawn")


def test_what_is_gone_is_gone(house, job, ada):
    link = linked(house, job, ada)
    house.client(ada).delete(f"/api/jobs/{job.id}")
    problem(house.client().get(link), 404, "job.unknown")


def test_nobody_links_to_what_they_do_not_see(house, job):
    bob = house.client(house.person())
    for kind in ("file", "log"):
        problem(bob.post("/api/links", json={"kind": kind, "id": job.id, "name": "result.tif"}), 404, "job.unknown")


@pytest.mark.parametrize(
    "name", ["../report.json", "", "nothing.tif", ".swathe/plan.json", "/etc/passwd", "result.tif/"]
)
def test_names_are_those_of_the_list(house, job, ada, name):
    problem(
        house.client(ada).post("/api/links", json={"kind": "file", "id": job.id, "name": name}), 404, "file.unknown"
    )


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("result.zip", 'attachment; filename="result.zip"'),
        ("洪水 é.zip", "attachment; filename=\"__ _.zip\"; filename*=UTF-8''%E6%B4%AA%E6%B0%B4%20%C3%A9.zip"),
        ("50%'s.zip", "attachment; filename=\"50_'s.zip\"; filename*=UTF-8''50%25%27s.zip"),
    ],
)
def test_names_in_any_alphabet_are_kept(house, job, ada, name, header):
    link = made(house, ada, kind="archive", id=job.id, name=name)
    for answer in (house.client().get(link), house.client().head(link)):
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-disposition"] == header
    assert unquote(link.rpartition("/")[2]) == name


@pytest.mark.parametrize("name", ["a/b.zip", "a\\b.zip", 'a"b.zip', "a\nb.zip", "a\x7fb.zip", "..", "水" * 150])
def test_names_that_no_file_can_have_are_refused(house, job, ada, name):
    for kind in ("archive", "log"):
        asked = {"kind": kind, "id": job.id, "name": name}
        assert problem(house.client(ada).post("/api/links", json=asked), 400, "link.name")["field"] == "name"


def test_the_longest_name_is_opened(house, job, ada):
    assert house.client().get(made(house, ada, kind="archive", id=job.id, name="水" * 133)).status_code == 200


def test_a_log_is_a_text(house, job, ada):
    with house.desk.store.begin() as c:
        from serve.store import logs
        from serve.store.logs import Line

        logs.add(c, job.id, [Line("2026-11-28T10:00:00.000Z", "info", "chunk done", {"chunk": "c00000"})])
    answer = house.client().get(made(house, ada, kind="log", id=job.id))
    assert answer.text == '2026-11-28T10:00:00.000Z info    chunk done {"chunk": "c00000"}\n'
    assert answer.headers["content-type"].startswith("text/plain")


def test_strangers_grow_tired(house_of):
    house = house_of()
    asks = house.client()
    answers = {asks.get("/api/links/forged.forged/x.tif").status_code for _ in range(70)}
    assert answers == {403, 429}


def test_another_installation_does_not_know_it(house, house_of, job, ada):
    problem(house_of().client().get(linked(house, job, ada)), 403, "link.invalid")
