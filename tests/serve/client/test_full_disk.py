"""The service's disk is full: 503 and a time to come again; over without a restart when there is room."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from swathe.job import ENDED
from tests.pipelines.conftest import make_scene

ROOT = Path(__file__).resolve().parents[3]
ALONE = ("unshare", "--map-root-user", "--mount")
PATIENCE_S = 90


def _may_mount():
    return shutil.which(ALONE[0]) and subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not _may_mount(), reason="needs namespaces of users and mounts")


@contextmanager
def small_disk(folder, database=""):
    """``with small_disk(folder) as (client, say)``: ``say`` takes a word of ``small_disk.py``."""
    program = [*ALONE, sys.executable, "-m", "tests.serve.client.small_disk", str(folder), database]
    with subprocess.Popen(program, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

        def say(word):
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

        told = json.loads(process.stdout.readline())
        headers = {"Authorization": f"Bearer {told['key']}"}
        with httpx2.Client(base_url=told["url"], headers=headers, timeout=60) as client:
            yield client, say
        process.stdin.close()
    assert process.returncode == 0


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene") / "scene.tif", (600, 800)).read_bytes()


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk"


def unavailable(answer, code, disk):
    """Refused as an outage is, in words for somebody who cannot see this machine."""
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json"), answer.text
    assert int(answer.headers["retry-after"]) > 0
    problem = answer.json()
    assert problem["code"] == code
    assert "full" in problem["detail"]
    assert str(disk) not in answer.text
    assert "same command" not in answer.text


def begun(client):
    return client.post("/api/uploads", json={"name": "scene.tif"}).json()["links"]["content"]


def until(look):
    limit = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < limit
        time.sleep(0.1)
    return found


def ended(client, job):
    """The job, once it has ended."""

    def look():
        found = client.get(f"/api/jobs/{job}").json()
        return found if found["state"] in ENDED else None

    return until(look)


def met(client, job, code):
    """Whether an attempt at it ended with this code."""
    events = client.get(f"/api/jobs/{job}/events").json()["events"]
    return any(e["kind"] == "retry" and e["facts"]["problem"]["code"] == code for e in events)


def digest(client, job):
    return hashlib.sha256(client.get(f"/api/jobs/{job}/files/result.tif").content).hexdigest()


@pytest.mark.slow
def test_storage_that_is_full_refuses_bytes_and_keeps_accepted_jobs_waiting(disk, scene):
    """The database has a disk of its own, and room."""
    with small_disk(disk, f"sqlite:///{disk.parent / 'service.sqlite'}") as (client, say):
        upload = client.put(begun(client), content=scene).json()
        wish = {"model": "water-ndwi", "inputs": [f"upload://{upload['id']}"]}
        alone = client.post("/api/jobs", json=wish).json()["id"]
        assert ended(client, alone)["state"] == "done"

        say("full")
        refused = begun(client)
        unavailable(client.put(refused, content=scene), "output.full", disk)
        job = client.post("/api/jobs", json=wish)
        assert job.status_code == 202
        until(lambda: met(client, job.json()["id"], "output.full"))
        assert client.get(f"/api/jobs/{job.json()['id']}").json()["state"] not in ENDED

        say("free")
        assert client.put(refused, content=scene).json()["state"] == "ready"
        assert ended(client, job.json()["id"])["state"] == "done"
        assert digest(client, job.json()["id"]) == digest(client, alone)

        say("crowded")
        refused = begun(client)
        unavailable(client.put(refused, content=scene), "output.full", disk)
        say("free")
        assert client.put(refused, content=scene).json()["state"] == "ready"


@pytest.mark.slow
def test_a_database_whose_disk_is_full_refuses_changes_and_goes_on_afterwards(disk, scene):
    """It lies with everything else."""
    with small_disk(disk) as (client, say):
        upload = client.put(begun(client), content=scene).json()
        say("full")
        answers = (client.post("/api/projects", json={"name": f"p{n}", "description": "x" * 900}) for n in range(5000))
        unavailable(next(answer for answer in answers if answer.status_code != 201), "store.full", disk)
        assert client.get("/api/me").status_code == 200

        say("free")
        assert client.post("/api/projects", json={"name": "after"}).status_code == 201
        wish = {"model": "water-ndwi", "inputs": [f"upload://{upload['id']}"]}
        assert ended(client, client.post("/api/jobs", json=wish).json()["id"])["state"] == "done"
