"""What happens to an inference: as a stream that can be taken up again, and as a list."""

import json

import anyio
import pytest


@pytest.fixture(scope="module")
def done(house, image):
    """Somebody, and an inference of theirs of two tasks, of which one has failed."""
    from tests.serve.dialects.geostudio.conftest import Studio

    studio = Studio(house, house.person())
    url = studio.share(image)
    made = studio.infer(url, spatial_domain={"urls": [url, "https://swathe.invalid/x.tif"]})
    studio.work()
    return studio, made


def streamed(studio, path, **headers):
    """(id, message) of all events of a stream, which has to end by itself."""
    with studio.client.stream("GET", f"/v2/{path}", headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        text = "".join(answer.iter_text())
    found = []
    for block in text.split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in lines:
            assert "event" not in lines
            found.append((lines["id"], json.loads(lines["data"])))
    return found


@pytest.mark.parametrize("path", ["notifications", "async/notify"])
def test_a_stream_tells_all_and_ends(done, path):
    studio, made = done
    found = streamed(studio, f"{path}/{made['id']}")
    assert all(set(message) == {"detail_type", "status", "data"} for _, message in found)
    kinds = [message["detail_type"] for _, message in found]
    assert (kinds[0], kinds[-1]) == ("Inf:Task:Updated", "Inf:Task:Complete")
    first = found[0][1]["data"]  # the state that it has by now
    assert (first["id"], first["status"]) == (made["id"], "COMPLETED_WITH_ERRORS")
    assert kinds.count("Inf:Task:Error") == 1
    last = found[-1][1]["data"]
    assert (last["id"], last["status"]) == (made["id"], "COMPLETED_WITH_ERRORS")
    told = [m["data"]["status"] for _, m in found if m["detail_type"] == "Inf:Task:Notify"]
    assert told == ["queued", "preparing", "running", "finishing", "done"]


def test_a_listener_comes_back_and_misses_nothing(done):
    studio, made = done
    whole = streamed(studio, f"notifications/{made['id']}")
    for n, (place, _) in enumerate(whole[:-1]):
        rest = streamed(studio, f"notifications/{made['id']}", **{"Last-Event-ID": place})
        assert [m for _, m in rest] == [m for _, m in whole[n + 1 :]]
    strange = streamed(studio, f"notifications/{made['id']}", **{"Last-Event-ID": "no such place"})
    assert strange == whole


def test_the_same_as_a_list(done):
    studio, made = done
    answer = studio.client.get(f"/v2/notifications/{made['id']}", headers={"Accept": "application/json"}).json()
    assert answer["total_records"] == answer["page_count"] == 6
    first = answer["results"][0]
    assert set(first) == {"id", "event_id", "detail_type", "source", "timestamp", "detail"}
    assert first["event_id"] == made["id"]
    times = [one["timestamp"] for one in answer["results"]]
    assert times == sorted(times)
    page = studio.client.get(f"/v2/notifications/{made['id']}?limit=2&skip=5", headers={"Accept": "application/json"})
    assert page.json()["page_count"] == 1


def test_what_is_followed_while_it_runs(studio, image):
    """The record first, as it stands; then what happens."""
    made = studio.infer(studio.share(image))
    studio.plan()
    with studio.client.stream("GET", f"/v2/async/notify/{made['id']}") as answer:
        text, cancelled = "", False
        for piece in answer.iter_text():
            text += piece
            if "Inf:Task:Updated" in text and not cancelled:
                cancelled = True
                studio.client.post(f"/v2/inference/{made['id']}/cancel")
    assert cancelled
    last = json.loads([line for line in text.splitlines() if line.startswith("data: ")][-1].removeprefix("data: "))
    assert (last["detail_type"], last["status"], last["data"]["status"]) == ("Inf:Task:Failed", "STOPPED", "STOPPED")


def test_of_what_is_deleted_nothing_more_is_told(studio, image):
    made = studio.infer(studio.share(image))
    studio.plan()
    with studio.client.stream("GET", f"/v2/async/notify/{made['id']}") as answer:
        pieces = answer.iter_text()
        assert made["id"] in next(pieces)
        assert studio.client.delete(f"/v2/inference/{made['id']}").status_code == 204
        rest = "".join(pieces)
    assert "Inf:Task:Complete" not in rest


def test_whoever_leaves_a_websocket_is_not_waited_for(studio, image):
    """Asked as a server asks: nothing happens to the inference, and the listener goes."""
    made = studio.infer(studio.share(image))
    said, sent, told = iter(["websocket.connect", "websocket.receive", "websocket.disconnect"]), [], anyio.Event()

    async def receive():
        kind = next(said, None)
        if kind is None:
            await anyio.sleep_forever()
        if kind == "websocket.disconnect":
            await told.wait()  # accepted, and told how it stands
        return {"type": kind, "text": "hello", "code": 1006}

    async def send(message):
        sent.append(message)
        if message["type"] == "websocket.send":
            told.set()

    async def listen():
        path = f"/ws/inference/{made['id']}"
        headers = [(name.lower().encode(), value.encode()) for name, value in studio.client.headers.items()]
        scope = {"type": "websocket", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
                 "scheme": "ws", "headers": [*headers, (b"host", b"svc.test")], "client": ("127.0.0.1", 5),
                 "server": ("svc.test", 80), "subprotocols": [], "state": {}}  # fmt: skip
        with anyio.fail_after(20):
            await studio.house.app(scope, receive, send)

    anyio.run(listen)
    assert [one["type"] for one in sent[:2]] == ["websocket.accept", "websocket.send"]
    assert studio.house.app.state.service.hub.listeners == 0
    studio.client.post(f"/v2/inference/{made['id']}/cancel")


def test_reports_from_outside_are_ones_own(studio, image):
    made = studio.infer(studio.share(image))
    notice = {"event_id": made["id"], "detail_type": "Inf:Task:Notify", "source": "inference-pipeline",
              "timestamp": None, "detail": {"message": "from outside"}}  # fmt: skip
    answer = studio.client.post("/v2/notifications", json=notice)
    assert (answer.status_code, set(answer.json())) == (201, {"event_id", "id"})
    listed = studio.client.get(
        f"/v2/notifications/{made['id']}?source=pipeline", headers={"Accept": "application/json"}
    )
    assert listed.json()["results"][0]["detail"] == {"message": "from outside"}
    assert studio.client.post("/v2/notifications", json={**notice, "detail": {}}).status_code == 412
    assert studio.client.post("/v2/notifications", json={**notice, "event_id": "x"}).status_code == 422
    other = studio.house.client(studio.house.person())
    assert other.post("/v2/notifications", json=notice).status_code == 404
    assert studio.get(f"inference/{made['id']}")["status"] == "PENDING"
    studio.client.post(f"/v2/inference/{made['id']}/cancel")
