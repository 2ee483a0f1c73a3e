"""How requests are read: problems, strict JSON, sizes, slow bodies, addresses behind proxies, other sites."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import urlsplit

import httpx2
import pytest

JSON = {"Content-Type": "application/json"}


def is_problem(answer, status):
    assert answer.status_code == status, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["status"] == status
    assert all(said[name] for name in ("type", "code", "title", "detail"))
    return said


@pytest.fixture
def ada(house):
    return house.client(house.person())


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422), (b"{", 422), (b"[]", 422), (b"null", 422), (b'"x"', 422), (b"\xff\xfe", 422), (b"1" * 5000, 422),
        (b'{"name": NaN}', 422), (b'{"name": "a\\u0000b"}', 422), (b'{"name": "\\ud800"}', 422),
        (b'{"name": "x", "labels": {"a": 1e999}}', 422),
        (b'{"name": "x", "labels": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}", 422),
        (b'{"name": "x", "nme": 1}', 422), (b'{"name": null}', 422), (b'{"name": ""}', 422),
        (b'{"name": "' + b"x" * 9_000_000 + b'"}', 413),
    ],
    ids=lambda b: str(b)[:30],
)  # fmt: skip
def test_bodies_that_cannot_be_read(ada, body, status):
    is_problem(ada.post("/api/projects", content=body, headers=JSON), status)


def test_a_body_has_to_say_that_it_is_json(ada):
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "image/tiff"):
        is_problem(ada.post("/api/projects", content=b'{"name": "x"}', headers={"Content-Type": kind}), 422)


def test_every_mistake_is_named(ada):
    said = is_problem(ada.post("/api/jobs", json={"model": 1, "bogus": 2, "chunk": 3, "inputs": ["x"]}), 422)
    assert {e["field"] for e in said["errors"]} == {"model", "bogus", "chunk"}
    assert said["field"] in {"model", "bogus", "chunk"}


@pytest.mark.parametrize(
    "path",
    ["/nope", "/api/nope", "/api/jobs/x", "/api/jobs/..%2f..%2fetc", "/api/jobs/%20", "/api/uploads/u1", "/api/x/y",
     "/api/projects/%F0%9F%98%80", "/api/jobs/x/files/..%2f..%2fpepper", "/api/users/nobody", "/api/models/nope"],
)  # fmt: skip
def test_what_is_not_there(ada, path):
    is_problem(ada.get(path), 404)


def test_what_cannot_be_done_there(ada):
    is_problem(ada.put("/api/jobs"), 405)
    is_problem(ada.get("/api/jobs/x/cancel"), 405)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "limit=x", "state=nope", "cursor=x", "cursor=%27", "since=x"]
)
def test_questions_that_cannot_be_read(ada, query):
    assert is_problem(ada.get(f"/api/jobs?{query}"), 400 if "cursor" in query else 422)["field"].startswith(
        query.split("=")[0]
    )


@pytest.mark.parametrize("path", ["/api/jobs/%00", "/api/jobs?model=%00", "/stac/search?ids=%00"])
def test_nul_is_refused_at_the_door(ada, path):
    is_problem(ada.get(path), 400)


# --- addresses ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "headers", "seen"),
    [
        ({}, {}, "http://svc.test"),
        ({}, {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}, "http://svc.test"),
        ({}, {"Forwarded": "proto=https;host=evil.example"}, "http://svc.test"),
        ({}, {"Host": 'e"><script>'}, "http://svc.test"),
        ({"trusted_proxies": "127.0.0.0/8"}, {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "maps.e.org",
                                              "X-Forwarded-Prefix": "/eo"}, "https://maps.e.org/eo"),
        ({"trusted_proxies": "10.0.0.0/8"}, {"X-Forwarded-Host": "evil.example"}, "http://svc.test"),
        ({"public_url": "https://maps.e.org/eo/"}, {"X-Forwarded-Host": "evil.example"}, "https://maps.e.org/eo"),
        ({"public_url": "https://maps.e.org", "trusted_proxies": "127.0.0.1"}, {"X-Forwarded-Host": "evil.example"},
         "https://maps.e.org"),
    ],
)  # fmt: skip
def test_links_are_those_of_the_address_that_is_believed(house_of, settings, headers, seen):
    house = house_of(**settings)
    client = house.client(house.person())
    client._transport.client = ("127.0.0.1", 5000)
    landing = client.get("/", headers=headers).json()
    assert all(link["href"].startswith(seen + "/") for link in landing["links"])
    assert client.get("/openapi.json", headers=headers).json()["servers"] == [{"url": seen}]
    project = client.post("/api/projects", json={"name": "x"}, headers=headers)
    assert project.headers["location"].startswith(f"{seen}/api/projects/")
    for link in client.get("/stac/", headers=headers).json()["links"]:
        assert link["href"].startswith(f"{seen}/stac/")


def test_the_client_behind_a_proxy_is_the_one_that_is_counted(house_of):
    house = house_of(trusted_proxies="127.0.0.1,10.0.0.0/8")
    client = house.client()
    client._transport.client = ("127.0.0.1", 5000)

    def guess(chain):
        return client.get("/api/me", headers={"X-API-Key": "x", "X-Forwarded-For": chain}).status_code

    assert {guess(f"1.2.3.{i}, 9.9.9.9, 10.0.0.7") for i in range(60)} == {401}
    assert guess("8.8.8.8, 9.9.9.9, 10.1.2.3") == 429
    assert guess("9.9.9.9, 8.8.8.8") == 401


def test_other_sites_may_use_it_where_they_are_named(house_of):
    house = house_of(cors_origins="https://maps.example")
    client = house.client(house.person())
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,idempotency-key"}
    good = client.options("/api/jobs", headers={"Origin": "https://maps.example", **asks})
    assert good.status_code == 200
    assert good.headers["access-control-allow-origin"] == "https://maps.example"
    assert client.options("/api/jobs", headers={"Origin": "https://evil.example", **asks}).status_code == 400
    answer = client.get("/api/me", headers={"Origin": "https://maps.example"})
    assert "ETag" in answer.headers["access-control-expose-headers"]
    assert (
        "access-control-allow-origin" not in client.get("/api/me", headers={"Origin": "https://evil.example"}).headers
    )


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [("/api/jobs/%00", b"", 400), ("/api/projects", b"x" * 9_000_000, 413), ("/nope", b"", 404)],
)  # fmt: skip
def test_other_sites_may_read_refusals_of_the_door(house_of, path, body, status):
    house = house_of(cors_origins="https://maps.example")
    client = house.client(house.person(), Origin="https://maps.example")
    answer = client.post(path, content=body, headers=JSON)
    is_problem(answer, status)
    assert answer.headers["access-control-allow-origin"] == "https://maps.example"


def test_other_sites_may_read_faults(house_of):
    house = house_of(cors_origins="https://maps.example")

    @house.app.get("/broken")
    async def broken():
        raise RuntimeError("nobody expected this")

    answer = house.client(Origin="https://maps.example").get("/broken")
    assert is_problem(answer, 500)["code"] == "internal"
    assert answer.headers["access-control-allow-origin"] == "https://maps.example"
    assert "access-control-allow-origin" not in house.client(Origin="https://evil.example").get("/broken").headers


def test_no_site_may_where_none_is_named(ada):
    for path in ("/api/me", "/stac/"):
        assert "access-control-allow-origin" not in ada.get(path, headers={"Origin": "https://a.example"}).headers


# --- bodies that come slowly ------------------------------------------------------------------------------------------


@contextmanager
def line_of(url, path, person):
    """A connection on which a body of a thousand bytes was announced, and nothing of it sent."""
    at = urlsplit(url)
    with socket.create_connection((at.hostname, at.port), timeout=10) as line:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {person.key}\r\n"
        line.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n".encode())
        yield line


@pytest.mark.parametrize("path", ["/api/projects", "/api/predict?model=water-ndwi"])
def test_a_silent_body_is_given_up(house_of, served, path):
    house = house_of(front={"silence_s": 0.5})
    ada = house.person()
    with served(house.app) as url, line_of(url, path, ada) as line:
        line.sendall(b"{")
        began = time.monotonic()
        answer = line.recv(4096).decode()
        assert time.monotonic() - began < 5
    assert answer.startswith("HTTP/1.1 408")
    assert "application/problem+json" in answer


def test_a_body_that_drips_is_given_up(house_of, served, monkeypatch):
    monkeypatch.setattr("serve.api.doorway._GRACE_S", 0.5)
    house = house_of(front={"slowest_bytes_s": 1000})
    ada = house.person()
    with served(house.app) as url, line_of(url, "/api/projects", ada) as line:
        answer = dripped(line, 5)
    assert answer.startswith("HTTP/1.1 408")


def dripped(line, seconds):
    """What is answered to a byte every tenth of a second."""
    line.settimeout(0.1)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        line.sendall(b" ")
        try:
            return line.recv(4096).decode()
        except TimeoutError:
            continue
    return ""


def begun(http, name="weights.ckpt"):
    """Where the content of a new upload is sent; of this kind any content is taken."""
    return http.post("/api/uploads", json={"name": name}).json()["links"]["content"]


def test_time_that_we_take_is_no_slowness_of_the_client(house_of, served, monkeypatch):
    """A disk of ours stalls for a second, in which a line of a megabyte a second brings more than may be waiting."""
    monkeypatch.setattr("serve.api.doorway._GRACE_S", 0.5)
    house = house_of(front={"slowest_bytes_s": 1_000_000})
    write = house.desk.uploads.write

    def late(caller, id_, chunks):
        time.sleep(1)
        return write(caller, id_, chunks)

    monkeypatch.setattr(house.desk.uploads, "write", late)
    with served(house.app) as url, httpx2.Client(base_url=url, headers=house.person().headers) as http:
        answer = http.put(begun(http), content=bytes(2 << 20))
    assert (answer.status_code, answer.json()["state"]) == (200, "ready"), answer.text


def test_a_large_body_is_refused_unread_where_no_turn_is_free(house_of, served, monkeypatch):
    """A small one waits for its turn: a proxy before us holds either in its memory until it is read."""
    house = house_of(front={"slow_lane": 4})  # a turn for each of four users
    write, inside, free = house.desk.uploads.write, threading.Event(), threading.Event()

    def held(caller, id_, chunks):
        inside.set()
        free.wait(30)
        return write(caller, id_, chunks)

    monkeypatch.setattr(house.desk.uploads, "write", held)
    ada = house.person()
    with (
        served(house.app) as url,
        httpx2.Client(base_url=url, headers=ada.headers, timeout=30) as http,
        ThreadPoolExecutor(2) as pool,
    ):
        turn = f"/api/uploads/{http.post('/api/uploads', json={'name': 'x.tif'}).json()['id']}/turn"
        assert http.get(turn).status_code == 204
        first = pool.submit(http.put, begun(http), content=b"numbers")
        assert inside.wait(10)
        second = pool.submit(http.put, begun(http), content=b"numbers")
        refused = is_problem(http.get(turn), 429)
        assert refused["code"] == "busy.turn"
        assert http.get(turn).headers["retry-after"] == "5"
        for length in (f"Content-Length: {10 << 30}", "Transfer-Encoding: chunked"):
            answer = answered_early(urlsplit(begun(http)), ada.key, length)
            assert answer.startswith("HTTP/1.1 429")
            assert "retry-after: 5" in answer
        assert not second.done()
        free.set()
        assert [one.result().json()["state"] for one in (first, second)] == ["ready", "ready"]
        assert http.put(begun(http), content=bytes(9 << 20)).json()["state"] == "ready"


def answered_early(to, key, length):
    """What is said to the head of a request whose body does not come."""
    with socket.create_connection((to.hostname, to.port), timeout=10) as line:
        head = f"PUT {to.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{length}\r\n\r\n"
        line.sendall(head.encode())
        return line.recv(4096).decode()
