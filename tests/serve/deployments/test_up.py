"""The service as it is brought up: one `swathe up` for all tests here, on ports of its own, ended by `swathe down`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import psutil
import pytest

from cluster import reach

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests" / "pipelines"))
PATIENCE_S = 600
"""The machine may have other things to do."""

pytestmark = pytest.mark.slow


def swathe(*arguments, data_dir, check=True, **variables):
    env = os.environ | {"SWATHE_DATA_DIR": str(data_dir), "RAY_ADDRESS": ""} | variables
    answer = subprocess.run(
        [sys.executable, "-m", "swathe.command", *arguments], env=env, cwd=ROOT, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert not check or answer.returncode == 0, answer.stderr + answer.stdout
    return answer


def brought_up(data_dir, cards=None):
    more = {"SWATHE_MODELS_DIR": str(cards)} if cards else {}
    said = swathe("up", "-d", "--json", "--port", str(reach.free_port()), "--cpus", "2", "--gpus", "0",
                  data_dir=data_dir, **more)  # fmt: skip
    return json.loads(said.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def up(tmp_path_factory):
    """What `swathe up -d --json` says, with a network that has a process of its own among the models."""
    from conftest import network_card, write_network

    from swathe.card import Resources

    cards = tmp_path_factory.mktemp("cards")
    write_network(cards / "net.onnx")
    card = network_card("net.onnx", id="water-net", resources=Resources(batch=4, memory_gb=1))
    (cards / "water-net.yaml").write_text(card.model_dump_json(exclude_defaults=True))
    data_dir = tmp_path_factory.mktemp("up")
    yield brought_up(data_dir, cards) | {"cards": cards}
    swathe("down", "--json", data_dir=data_dir)
    assert not (data_dir / "service" / "up.json").exists()


@pytest.fixture
def client(up):
    with httpx2.Client(base_url=up["url"], headers={"X-API-Key": up["key"]}, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    from conftest import make_scene

    return make_scene(tmp_path_factory.mktemp("scene") / "scene.tif", (300, 400)).read_bytes()


def until(look, patience=PATIENCE_S):
    limit = time.monotonic() + patience
    while time.monotonic() < limit:
        try:
            found = look()
        except httpx2.TransportError:
            found = None
        if found:
            return found
        time.sleep(0.5)
    raise AssertionError("it did not come to be")


def actor(up, name):
    """The process of a Ray actor of this service; None while there is none."""
    keeper = psutil.Process(json.loads((Path(up["data_dir"]) / "service" / "up.json").read_text())["pid"])
    return next((p for p in keeper.children(recursive=True) if _title(p).startswith(name)), None)


def _title(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


def logs(up):
    """Of all processes of the service, as far as these have them open."""
    keeper = psutil.Process(json.loads((Path(up["data_dir"]) / "service" / "up.json").read_text())["pid"])
    return {Path(f.path) for p in (keeper, *keeper.children(recursive=True)) for f in p.open_files()
            if f.path.endswith((".log", ".out", ".err", ".jsonl"))}  # fmt: skip


def test_scripts_are_told_what_they_need(up):
    assert set(up) >= {"url", "key", "dashboard", "data_dir"}
    assert up["key"].startswith("swk-")
    assert len(up["key"]) == 36
    assert httpx2.get(up["dashboard"]).status_code == 200


def test_it_listens_on_this_machine_alone(up):
    port = int(up["url"].rpartition(":")[2])
    outward = reach.outward_host()
    if outward == reach.LOOPBACK:
        pytest.skip("this machine has no other address")
    with socket.socket() as probe:
        assert probe.connect_ex((outward, port)) != 0


def test_an_idle_service_takes_less_than_two_and_a_half_gigabytes(up, client):
    until(lambda: client.get("/api/models/water-net").json()["state"] == "ready")
    until(lambda: actor(up, "ray::PoolLead"))
    keeper = psutil.Process(json.loads((Path(up["data_dir"]) / "service" / "up.json").read_text())["pid"])
    sizes = {p.pid: p.memory_full_info().pss for p in (keeper, *keeper.children(recursive=True))}
    assert sum(sizes.values()) < 2.5e9


def test_a_second_start_says_where_it_is(up):
    answer = swathe("up", "-d", "--json", data_dir=up["data_dir"], check=False)
    problem = json.loads(answer.stdout.splitlines()[-1])
    assert problem["code"] == "up.already"
    assert up["url"] in problem["detail"]
    assert answer.returncode == 2


def test_models_come_up_and_answer_as_a_run_does(up, client, image, tmp_path):
    import rasterio
    from rasterio.io import MemoryFile

    until(lambda: client.get("/api/models/water-net").json()["state"] == "ready")
    answer = client.post("/api/predict?model=water-net", content=image, headers={"Content-Type": "image/tiff"})
    assert answer.status_code == 200, answer.text
    (tmp_path / "scene.tif").write_bytes(image)
    swathe("run", "--local", "--model", "water-net", "--input", str(tmp_path / "scene.tif"), "--out",
           str(tmp_path / "out"), data_dir=up["data_dir"], SWATHE_MODELS_DIR=str(up["cards"]))  # fmt: skip
    with (
        MemoryFile(answer.content) as memory,
        memory.open() as mine,
        rasterio.open(tmp_path / "out" / "result.tif") as run,
    ):
        assert (mine.read() == run.read()).all()


def test_numbers_of_replicas_are_where_the_docs_say(up, client):
    """Ours at the API, Ray's at ports that its dashboard tells."""
    until(lambda: 'swathe_model_replicas{model="water-net"} 1.0' in client.get("/metrics").text, 120)
    found = httpx2.get(f"{up['dashboard']}/api/prometheus/sd").json()
    targets = [f"http://{target}/metrics" for group in found for target in group["targets"]]
    wanted = "ray_serve_replica_processing_queries", "ray_serve_replica_utilization_percent", 'deployment="water-net"'
    until(lambda: all(any(word in httpx2.get(url).text for url in targets) for word in wanted), 120)


def test_what_opens_a_link_stands_in_no_log(up, client, image):
    """It is part of the path; logs of Serve and ours name routes by their templates."""
    upload = client.post("/api/uploads", json={"name": "scene.tif", "signed": True}).json()
    links = [upload["signed"][name] for name in ("upload_url", "download_url")]
    assert httpx2.put(links[0], content=image, timeout=60).status_code == 200
    assert httpx2.get(links[1]).content == image
    token = links[1].split("/")[-2]
    forged = links[1].replace(token, token[::-1])
    assert httpx2.get(forged).status_code in {403, 404}
    tokens = [link.split("/")[-2] for link in (*links, forged)]
    written = logs(up)
    until(lambda: any(b"/api/links/{token}/{name}" in path.read_bytes() for path in written), 60)
    assert not [path for path in written for token in tokens if token.encode() in path.read_bytes()]


def lines_about(up, job):
    written = [line for path in logs(up) for line in path.read_text(errors="replace").splitlines()]
    return [json.loads(line) for line in written if line.startswith("{") and f'"job": "{job}"' in line]


def test_lines_about_a_job_are_found_by_its_id_whichever_process_writes_them(up, client, image):
    upload = client.post("/api/uploads", json={"name": "scene.tif"}).json()
    assert client.put(upload["links"]["content"], content=image).json()["state"] == "ready"
    nobody = {"url": "https://nobody.invalid/", "secret": "s" * 32}
    wish = {"model": "water-ndwi", "inputs": [f"upload://{upload['id']}"], "hook": nobody}
    job = client.post("/api/jobs", json=wish).json()["id"]
    until(lambda: client.get(f"/api/jobs/{job}").json()["state"] == "done")
    until(lambda: {line["logger"] for line in lines_about(up, job)} >= {"swathe.jobs", "swathe.hooks"}, 60)
    found = [line for line in lines_about(up, job) if line["logger"] == "swathe.jobs"]
    assert {line["task"] for line in found} == {f"{job}-1"}
    assert {"chunk", "ends as done"} <= {line["message"] for line in found}


def test_a_model_is_added_while_it_runs_and_taken_away_again(client, image):
    from models.registry import default_folders, load_cards

    card = load_cards(default_folders())["water-ndwi"].model_dump(mode="json", exclude_defaults=True)
    assert client.post("/api/models", json=card | {"id": "my-water"}).status_code == 201
    until(lambda: client.get("/api/models/my-water").json()["state"] == "ready")
    question = "/api/predict?model=my-water"
    answer = client.post(question, content=image, headers={"Content-Type": "image/tiff", "Accept": "application/json"})
    assert answer.json()["model"] == "my-water"
    assert client.delete("/api/models/my-water").status_code == 204
    assert client.post(question, content=image, headers={"Content-Type": "image/tiff"}).status_code == 404


def test_a_key_made_beside_it_opens_it(up):
    said = swathe("keys", "create", "--user", "Me@Example.org", "--scopes", "models:read", "--json",
                  data_dir=up["data_dir"])  # fmt: skip
    made = json.loads(said.stdout)
    key = {"Authorization": f"Bearer {made['key']}"}
    assert httpx2.get(f"{up['url']}/api/models", headers=key).status_code == 200
    assert httpx2.get(f"{up['url']}/api/jobs", headers=key).status_code == 403
    listed = json.loads(swathe("keys", "list", "--user", "me@example.org", "--json", data_dir=up["data_dir"]).stdout)
    assert [row["id"] for row in listed] == [made["id"]]
    swathe("keys", "drop", made["id"], data_dir=up["data_dir"])
    assert httpx2.get(f"{up['url']}/api/models", headers=key).status_code == 401


def test_a_request_whose_process_is_killed_is_told_to_come_again(up, client, image):
    """Half of its body has been read by then."""
    upload = client.post("/api/uploads", json={"name": "half.tif"}).json()
    with closing(HTTPConnection(up["url"].removeprefix("http://"), timeout=PATIENCE_S)) as link:
        link.putrequest("PUT", upload["links"]["content"].removeprefix(up["url"]))
        for name, value in {"X-API-Key": up["key"], "Content-Length": len(image)}.items():
            link.putheader(name, value)
        link.endheaders(image[: len(image) // 2])
        reader = actor(up, "ray::ServeReplica:swathe:api")
        until(lambda: any(file.path.endswith("/half.tif") for file in reader.open_files()), 60)
        reader.kill()
        answer = link.getresponse()
        told = json.loads(answer.read())
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert told["code"] == "cluster.replica"
    assert int(answer.headers["Retry-After"]) > 0

    def sent_again():
        return client.put(upload["links"]["content"], content=image).json().get("state") == "ready"

    until(sent_again)


@pytest.mark.parametrize("victim", ["ray::ServeReplica:swathe:api", "ray::ServeController", "ray::ProxyActor"])
def test_what_is_killed_comes_back(up, client, image, victim):
    killed = actor(up, victim)
    killed.kill()
    question = "/api/predict?model=water-ndwi"
    until(lambda: client.post(question, content=image, headers={"Content-Type": "image/tiff"}).status_code == 200)
    until(lambda: (found := actor(up, victim)) and found.pid != killed.pid)


@pytest.mark.parametrize("victim", ["ray::ServeReplica:model-water-net", "ray::ServeReplica:swathe:caretaker"])
def test_a_model_is_neither_unknown_nor_broken_while_what_was_killed_comes_back(up, client, image, victim):
    """Whoever asks is answered, or told to come again."""
    question, answers, states = "/api/predict?model=water-net", [], set()
    until(lambda: client.get("/api/models/water-net").json()["state"] == "ready")
    killed = actor(up, victim)
    killed.kill()

    def is_back():
        states.add(client.get("/api/models/water-net").json()["state"])
        answers.append(client.post(question, content=image, headers={"Content-Type": "image/tiff"}))
        found = actor(up, victim)
        return answers[-1].status_code == 200 and found is not None and found.pid != killed.pid

    until(is_back)
    until(lambda: client.get("/api/models/water-net").json()["state"] == "ready")
    told = [(a.status_code, a.json()["code"], a.headers.get("Retry-After")) for a in answers if a.status_code != 200]
    assert {status for status, _, _ in told} <= {503}, told
    assert all(int(later or 0) > 0 for _, _, later in told), told
    assert states <= {"ready", "starting"}


def test_a_dead_ray_is_started_again_at_the_same_address(up, client, image):
    head = json.loads((Path(up["data_dir"]) / "service" / "cluster" / "head.json").read_text())
    psutil.Process(head["pid"]).kill()
    until(lambda: json.loads((Path(up["data_dir"]) / "service" / "up.json").read_text())["restarts"] == 1)
    until(lambda: client.get("/health/readyz").status_code == 200)
    question = "/api/predict?model=water-ndwi"
    until(lambda: client.post(question, content=image, headers={"Content-Type": "image/tiff"}).status_code == 200)


def test_a_killed_keeper_leaves_the_service_to_the_next_start(up, client):
    folder = Path(up["data_dir"]) / "service"
    head = json.loads((folder / "cluster" / "head.json").read_text())
    psutil.Process(json.loads((folder / "up.json").read_text())["pid"]).kill()
    assert client.get("/health/livez").status_code == 200
    port = up["url"].rpartition(":")[2]
    said = swathe("up", "-d", "--json", "--port", port, "--cpus", "2", "--gpus", "0", data_dir=up["data_dir"],
                  SWATHE_MODELS_DIR=str(up["cards"]))  # fmt: skip
    assert json.loads(said.stdout)["url"] == up["url"]
    assert json.loads(said.stdout)["key"] is None
    assert json.loads((folder / "cluster" / "head.json").read_text())["pid"] == head["pid"]


def test_two_services_do_not_collide(up, tmp_path):
    other = brought_up(tmp_path)
    try:
        assert other["url"] != up["url"]
        assert other["dashboard"] != up["dashboard"]
        strangers = httpx2.get(f"{other['url']}/api/me", headers={"X-API-Key": up["key"]})
        assert strangers.status_code == 401
    finally:
        swathe("down", data_dir=tmp_path)
    assert httpx2.get(f"{up['url']}/health/livez").status_code == 200
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"{other['url']}/health/livez")
