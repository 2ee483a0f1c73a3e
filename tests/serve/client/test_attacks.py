"""What somebody with a key, or without one, tries against a service that others use too."""

import asyncio
import json
import re
import socket
import threading
import time
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from serve.api.front import Front
from serve.api.hub import Hub
from serve.api.lane import Lane
from swathe import Client
from swathe.errors import BusyError
from swathe.user import Role, Scope

HOW = {"bands": "green,nir", "scale": 1e-4, "offset": 0.0}
WISH = {"model": "water-ndwi", "radiometry": {"bands": ["green", "nir"], "scale": 1e-4, "offset": 0}}


class Them:
    """One of them: a key, and requests with it."""

    def __init__(self, house, *given, **more):
        self.caller, self.key = house.person(*given, **more)
        self.http = httpx2.Client(base_url=house.url, headers={"Authorization": f"Bearer {self.key}"}, timeout=30)

    def submit(self, **wish):
        return self.http.post("/api/jobs", json={**WISH, **wish})


@pytest.fixture(scope="module")
def owner(house, image):
    """Has an upload and a job that is done."""
    them = Them(house)
    with Client(house.url, them.key) as client:
        them.upload = client.upload(image).id
        hook = {"url": "http://127.0.0.1:9/x", "secret": "HOOKSECRET"}
        them.job = client.submit("water-ndwi", inputs=f"upload://{them.upload}", hook=hook, **HOW).wait(timeout=60).id
    return them


@pytest.fixture(scope="module")
def stranger(house):
    return Them(house)


def nested(depth):
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("depth", [65, 250, 256, 300, 900, 5000, 200_000])
@pytest.mark.parametrize("field", ["labels", "aoi"])
def test_deep_json_is_refused_and_poisons_no_list(owner, depth, field):
    """Answers are written by a library that gives up at 255 levels: a job that is deeper would spoil every list."""
    body = json.dumps({**WISH, "inputs": [f"upload://{owner.upload}"]})[:-1] + f',"{field}":{nested(depth)}}}'
    answer = owner.http.post("/api/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert owner.http.get("/api/jobs").status_code == 200


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e400", '"\\u0000"', '"\\ud800"', "9" * 5000])
def test_what_no_database_stores_is_refused(owner, value):
    body = json.dumps({**WISH, "inputs": [f"upload://{owner.upload}"]})[:-1] + f',"labels":{{"a":{value}}}}}'
    answer = owner.http.post("/api/jobs", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_what_is_somebody_elses_is_not_there(house, owner, stranger):
    """Word for word the answer that an id gets which was never given."""
    paths = [("GET", b) for b in ("", "/events", "/logs", "/files", "/files/result.tif", "/item")]
    paths += [("DELETE", ""), ("POST", "/cancel"), ("POST", "/resume"), ("POST", "/again")]
    never = "j" + "0" * 26
    for method, below in paths:
        theirs = stranger.http.request(method, f"/api/jobs/{owner.job}{below}")
        nobodys = stranger.http.request(method, f"/api/jobs/{never}{below}")
        assert (theirs.status_code, theirs.text) == (404, nobodys.text.replace(never, owner.job)), (method, below)
    assert stranger.submit(inputs=[f"upload://{owner.upload}"]).status_code == 404
    assert stranger.submit(inputs=[f"item://results-water-ndwi/{owner.job}"]).status_code == 404
    assert owner.job not in stranger.http.get("/stac/search").text
    assert stranger.http.get(f"/stac/collections/results-water-ndwi/items/{owner.job}").status_code == 404


def test_a_jobs_item_is_where_it_says_that_it_is(owner):
    item = owner.http.get(f"/api/jobs/{owner.job}/item").json()
    own = next(link["href"] for link in item["links"] if link["rel"] == "self")
    assert owner.http.get(own).json()["id"] == item["id"]
    assert owner.http.get(item["assets"]["preview"]["href"]).content.startswith(b"\x89PNG")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_no_secret_is_told_or_kept(house, owner, image):
    """Neither keys nor hooks' secrets, nor what stands behind the question mark of an address that others may see."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(image.parent)))
    threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
    project = owner.http.post("/api/projects", json={"name": "shared", "shared": True}).json()["id"]
    href = f"http://127.0.0.1:{web.server_port}/{image.name}?sig=SIGNATURE"
    made = owner.http.post("/api/jobs", json={**WISH, "inputs": [href], "project": project},
                           headers={"Prefer": "wait=30"}).json()  # fmt: skip
    assert made["state"] == "done", made
    stranger = Them(house)
    told = [stranger.http.get(f"/api/jobs/{made['id']}{below}") for below in
            ("", "/events", "/logs", "/item", "/files/report.json", "/files/item.json")]  # fmt: skip
    told += [stranger.http.post(f"/api/jobs/{made['id']}/again"), owner.http.get(f"/api/jobs/{owner.job}")]
    told.append(Them(house, Role.ADMIN).http.get("/api/audit"))
    web.shutdown()
    for answer in told:
        for secret in (owner.key, "SIGNATURE", "HOOKSECRET", str(house.settings.data_dir)):
            assert secret not in answer.text, (answer.url.path, secret)
    owner.http.delete(f"/api/projects/{project}")
    kept = b"".join(path.read_bytes() for path in house.settings.service_dir.glob("service.sqlite*"))
    assert owner.key.removeprefix("swk-").encode() not in kept


def test_an_answer_belongs_to_who_got_it(house, owner, stranger):
    """Idempotency keys of one user are nothing to another, nor to a key of theirs that may less."""
    wish, headers = {**WISH, "inputs": [f"upload://{owner.upload}"]}, {"Idempotency-Key": "same"}
    first = owner.http.post("/api/jobs", json=wish, headers=headers)
    assert owner.http.post("/api/jobs", json=wish, headers=headers).json()["id"] == first.json()["id"]
    assert stranger.http.post("/api/jobs", json=wish, headers=headers).status_code == 404
    weak = owner.http.post("/api/keys", json={"scopes": [Scope.PREDICT]}).json()["secret"]
    answer = httpx2.post(f"{house.url}/api/jobs", json=wish, headers={**headers, "X-API-Key": weak})
    assert answer.status_code in {403, 422}
    assert first.json()["id"] not in answer.text


@pytest.mark.parametrize(
    "href",
    [
        "file:///etc/passwd",
        "/etc/passwd",
        "/vsicurl/http://127.0.0.1/a.tif",
        "http://169.254.169.254/latest/a.tif",
        "http://2130706433/a.tif",
        "http://127.1/a.tif",
        "upload://../../service.sqlite",
        "item://a/../../b",
        "2024-01-01=file:///etc/passwd",
        "vrt://x",
        "https://x/a.tif\r\nX: y",
    ],
)
def test_no_input_reads_this_machine(owner, href):
    answer = owner.submit(inputs=[href])
    assert answer.status_code in {404, 422}
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "name", ["..%2freport.json", "%2e%2e/%2e%2e/service.sqlite", ".swathe/plan.json", "%2fetc%2fpasswd", "a" * 300]
)
def test_files_are_those_of_the_list(owner, name):
    assert owner.http.get(f"/api/jobs/{owner.job}/files/{name}").status_code in {404, 422}


def test_an_archive_cannot_write_beside_its_upload_nor_explode(house, owner, image, tmp_path):
    for n, entries in enumerate(({"../../../out.tif": image.read_bytes()}, {"a.tif": b"II*\0" + bytes(100_000_000)})):
        packed = tmp_path / f"{n}.zip"
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        begun = owner.http.post("/api/uploads", json={"name": packed.name}).json()["id"]
        answer = owner.http.put(f"/api/uploads/{begun}/content", content=packed.read_bytes())
        assert answer.json()["state"] == "refused"
    assert not list(house.settings.data_dir.rglob("out.tif"))


# --- taking all there is ----------------------------------------------------------------------------------------------


def dripping(house, owner, end):
    """An upload that comes in drops."""
    begun = owner.http.post("/api/uploads", json={"name": "x.tif"}).json()["id"]
    host, port = re.fullmatch(r"http://(.*):(\d+)", house.url).groups()
    with socket.create_connection((host, int(port))) as connection:
        head = (f"PUT /api/uploads/{begun}/content HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {owner.key}\r\n"
                "Content-Length: 1000000\r\n\r\n")  # fmt: skip
        connection.sendall(head.encode() + b"x")
        end.wait(30)


def test_nobody_keeps_the_others_from_uploading_and_asking(house, owner):
    end, greedy = threading.Event(), Them(house)
    crowd = [threading.Thread(target=dripping, args=(house, greedy, end), daemon=True) for _ in range(24)]
    for one in crowd:
        one.start()
    time.sleep(0.3)
    began = time.monotonic()
    wish = {**WISH, "inputs": [f"upload://{owner.upload}"]}
    assert owner.http.post("/api/estimates", json=wish).status_code == 200
    assert owner.http.post("/api/uploads", json={"name": "a.tif"}).status_code == 201
    assert time.monotonic() - began < 5
    end.set()
    for one in crowd:
        one.join(10)


def test_nobody_takes_a_whole_lane():
    """Somebody whose servers never answer waits for them; others go on, and too much of it is refused."""
    lane, end = Lane(at_once=4, queue=8), threading.Event()

    async def crowded():
        stuck = [asyncio.create_task(lane.run("greedy", end.wait)) for _ in range(3)]
        await asyncio.sleep(0.05)
        with pytest.raises(BusyError):
            await lane.run("greedy", end.wait)
        assert await asyncio.wait_for(lane.run("other", lambda: 7), 5) == 7
        end.set()
        await asyncio.gather(*stuck)
        return await lane.run("greedy", lambda: 8)

    assert asyncio.run(crowded()) == 8


def test_nobody_takes_all_places_of_listeners(house):
    hub = Hub(house.desk.store, Front(listeners=8))

    async def crowded():
        with hub._joined("j1", "greedy"), hub._joined("j2", "greedy"):
            with pytest.raises(BusyError):
                hub.expect_room("greedy")
            hub.expect_room("other")
        hub.expect_room("greedy")

    asyncio.run(crowded())


def test_a_job_is_accepted_even_where_nobody_may_wait_for_it(house, owner, monkeypatch):
    """Whoever were told to come again would submit it twice."""
    monkeypatch.setattr(Hub, "expect_room", lambda *_: (_ for _ in ()).throw(BusyError("full")))
    wish = {**WISH, "inputs": [f"upload://{owner.upload}"]}
    assert owner.http.post("/api/jobs", json=wish, headers={"Prefer": "wait=5"}).status_code == 202
