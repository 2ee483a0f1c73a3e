"""The client and the command line against a whole service: what comes back is what a run here leaves."""

import json
import sys
import threading
import time
import urllib.request
import zipfile
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import rasterio

from serve.api.front import Front
from serve.cli import main as cli
from swathe import errors
from swathe.errors import ConflictError
from swathe.job import JobState, Where

HOW = {"bands": "green,nir", "scale": 1e-4, "offset": 0.0}
OPTIONS = ("--bands", "green,nir", "--scale", "0.0001", "--offset", "0")
SAME = ("result.tif", "features.geojson", "result.qml", "result.tif.aux.xml")


@pytest.fixture
def swathe(capfd, monkeypatch, tmp_path):
    """Run the command in this process: (exit code, stdout, stderr)."""
    monkeypatch.setenv("SWATHE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["swathe", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture(scope="session")
def finished(house, image):
    """A job that is done, and its client."""
    with house.client() as client:
        yield client.submit("water-ndwi", inputs=image, title="lake", **HOW).wait(timeout=60), client


def test_a_job_is_done_and_its_result_is_of_use(finished, image, tmp_path):
    job, _ = finished
    assert job.state is JobState.DONE
    assert job.progress.share == 1
    job.download(tmp_path)
    assert {"result.tif", "report.json", "item.json", "preview.png"} <= {p.name for p in tmp_path.iterdir()}
    data = job.to_xarray()
    assert data.rio.crs == "EPSG:32633"
    assert float(data.sel(band=1)[80, 100]) == 1
    frame = job.to_geodataframe()
    assert len(frame) == 1
    assert job.stac_item.assets["data"].href.startswith("http")


def test_its_archive_and_links_to_it(finished, image, tmp_path):
    job, client = finished
    with zipfile.ZipFile(job.archive(tmp_path)) as archive:
        assert archive.testzip() is None
        assert {"result.tif", "item.json", "job.log"} <= set(archive.namelist())
        assert archive.read("job.log").decode().splitlines()[-1].endswith("}")
    for name in ("result.tif", ""):
        found = job.link(name, hours=1)
        answer = urllib.request.urlopen(found.url, timeout=20)
        assert answer.headers["content-type"] in {"image/tiff; application=geotiff", "application/zip"}
        assert answer.read()[:2] in {b"II", b"PK"}
    (item,) = client.register(client.upload(image).id, when="2024-07-25", title="Lake")
    assert (item["properties"]["title"], item["properties"]["datetime"][:10]) == ("Lake", "2024-07-25")


def test_an_archive_waits_for_the_end(house, image, tmp_path):
    with house.client() as client:
        job = client.submit("water-ndwi", inputs=image, **HOW)
        if not job.ended:
            with pytest.raises(ConflictError) as caught:
                job.archive(tmp_path)
            assert caught.value.problem.code == "job.active"
        assert job.wait(timeout=60).archive(tmp_path).name == "archive.zip"


def test_its_events_and_log_tell_the_whole_way(finished):
    job, client = finished
    events = list(client.job(job.id).events())
    assert [event.seq for event in events] == list(range(1, job.value.last_seq + 1))
    states = [event.facts["state"] for event in events if event.kind == "state"]
    assert (states[0], states[-1]) == ("queued", "done")
    assert len(states) == len(set(states))
    assert [found.id for found in client.jobs(state="done")] == [job.id]


def test_one_image_at_once_has_the_pixels_of_a_job(finished, image, tmp_path):
    job, client = finished
    path = client.predict(image, "water-ndwi", **HOW).save(tmp_path / "water.tif")
    with rasterio.open(path) as answer, rasterio.open(job.download(tmp_path, ["result.tif"])[0]) as result:
        assert np.array_equal(answer.read(1), result.read(1))
    summary = client.predict(image, "water-ndwi", form="json", **HOW)
    assert summary.media_type == "application/json"
    assert summary.seconds["total"] > 0


def test_models_and_oneself(finished):
    _, client = finished
    assert any(model.id == "water-ndwi" and model.enabled for model in client.models())
    assert client.me()["user"]["email"].endswith("@example.org")


def test_an_estimate_keeps_nothing(house, image):
    with house.client() as client:
        found = client.estimate("water-ndwi", inputs=image, **HOW)
        assert found.place in Where
        assert list(client.jobs()) == []


def test_mistakes_come_back_as_what_they_are(house, image):
    with house.client() as client:
        with pytest.raises(errors.UnknownModelError):
            client.submit("no-such-model", inputs=image, **HOW)
        with pytest.raises(errors.AreaError):
            client.submit("water-ndwi", inputs=image, aoi=(3, 4, 1, 2), **HOW)
        with pytest.raises(errors.NotFoundError):
            client.job("j00000000000000000000000000")
        with pytest.raises(errors.InputError) as caught:
            client.submit("water-ndwi", inputs=image, min_area=-1, **HOW)
        assert caught.value.field.endswith("min_area_px")


def test_a_wrong_key_opens_nothing(house):
    from swathe import Client

    with Client(house.url, "swk-" + "x" * 32) as client, pytest.raises(errors.AccessError):
        client.me()


def test_the_same_files_as_a_run_here(house, swathe, image, tmp_path):
    _, key = house.person()
    here, there = tmp_path / "here", tmp_path / "there"
    request = ("run", "-m", "water-ndwi", "-i", image, *OPTIONS, "--aoi", "15.0,50.5,15.03,50.56")
    assert swathe(*request, "--local", "--out", here)[0] == 0
    status, out, err = swathe(*request, "--server", house.url, "--key", key, "--out", there)
    assert status == 0, err
    assert "done" in out
    for name in SAME:
        assert (here / name).read_bytes() == (there / name).read_bytes(), name
    assert {p.name for p in here.iterdir()} == {p.name for p in there.iterdir()}
    # Once more: the job is known, nothing is done again.
    status, out, _ = swathe(*request, "--server", house.url, "--key", key, "--out", there, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (status, lines[-1]["already"]) == (0, True)
    status, _, err = swathe(*request, "--chunk", 64, "--server", house.url, "--key", key, "--out", there)
    assert (status, "output.taken" in err) == (2, True)


def test_shapes_of_this_machine_go_up_and_the_same_mask_comes_down(house, swathe, image, tmp_path):
    _, key = house.person()
    here, there, roads = tmp_path / "here", tmp_path / "there", tmp_path / "roads.json"
    road = {"type": "LineString", "coordinates": [[15.002, 50.549], [15.02, 50.54]]}
    roads.write_text(json.dumps({"type": "Feature", "properties": {}, "geometry": road}))
    request = ("run", "-m", "water-ndwi", "-i", image, *OPTIONS, "--mask-shapes", roads, "--shapes-buffer", "30",
               "--shapes-code", "90")  # fmt: skip
    assert swathe(*request, "--local", "--out", here)[0] == 0
    status, _, err = swathe(*request, "--server", house.url, "--key", key, "--out", there)
    assert status == 0, err
    assert (here / "masked.tif").read_bytes() == (there / "masked.tif").read_bytes()
    with rasterio.open(there / "masked.tif") as file:
        assert (file.read(1) == 90).any()
    (step,) = json.loads((there / "report.json").read_bytes())["steps"]
    assert step["detail"]["masks"][0]["from"]["file"].startswith("upload://")


def test_jobs_on_the_command_line(house, swathe, finished, monkeypatch, tmp_path):
    job, client = finished
    monkeypatch.setenv("SWATHE_URL", house.url)
    monkeypatch.setenv("SWATHE_KEY", client._client._link._http.headers["authorization"].removeprefix("Bearer "))
    (listed,) = json.loads(swathe("jobs", "list", "--json")[1])
    assert (listed["id"], listed["place"], listed["progress"]["share"]) == (job.id, "online", 1.0)
    assert f"{job.id}  done" in swathe("jobs", "list")[1]
    shown = swathe("jobs", "show", job.id)[1]
    assert "result.tif" in shown
    assert swathe("jobs", "watch", job.id)[0] == 0
    assert all(json.loads(line)["message"] for line in swathe("jobs", "logs", job.id, "--json")[1].splitlines())
    status, out, _ = swathe("jobs", "download", job.id, "--out", tmp_path, "--file", "preview.png", "--json")
    assert (status, json.loads(out)) == (0, [str(tmp_path / "preview.png")])
    status, _, err = swathe("jobs", "cancel", job.id)
    assert (status, "job.ended" in err) == (2, True)
    assert "water-ndwi" in swathe("jobs", "resume", job.id)[2] + shown


def test_a_job_is_stopped_resumed_and_removed(house, image):
    with house.client() as client:
        job = client.submit("water-ndwi", inputs=image, **HOW)
        try:
            job.cancel()
        except errors.ConflictError:
            pytest.skip("it was done before it could be stopped")
        with pytest.raises(errors.ConflictError, match="cancelled"):
            job.wait(timeout=60)
        assert job.resume().wait(timeout=60).state is JobState.DONE
        assert job.value.round == 2
        job.delete()
        with pytest.raises(errors.NotFoundError):
            job.refresh()


def test_no_service_is_told_so(swathe):
    status, _, err = swathe("jobs", "list")
    assert (status, "service.none" in err) == (2, True)


def test_a_hook_is_told_and_can_check_who_tells(house, image):
    heard = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append((self.headers["Swathe-Signature"], body))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    with house.client() as client:
        hook = {"url": f"http://127.0.0.1:{server.server_port}/", "secret": "word"}
        job = client.submit("water-ndwi", inputs=image, hook=hook, **HOW).wait(timeout=60)
        assert "word" not in json.dumps(job.value.request)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not any(b'"done"' in body for _, body in heard):
            time.sleep(0.1)
    server.shutdown()
    from serve.running.webhooks import signature

    assert [json.loads(body)["facts"]["state"] for _, body in heard][-1] == "done"
    for signed, body in heard:
        assert signed == signature("word", body, int(signed[2:].partition(",")[0]))


def metrics_of(house):
    return urllib.request.urlopen(f"{house.url}/metrics", timeout=10).read().decode()


def test_an_upload_comes_again_until_a_turn_is_free_for_it(house, tmp_path, monkeypatch):
    """Its user's other uploads have all turns; a large one asks before it is sent in vain."""
    write, inside, free = house.desk.uploads.write, threading.Semaphore(0), threading.Event()

    def held(caller, id_, chunks):
        inside.release()
        free.wait(60)
        return write(caller, id_, chunks)

    monkeypatch.setattr(house.desk.uploads, "write", held)
    (tmp_path / "small.ckpt").write_bytes(b"numbers")
    (tmp_path / "large.ckpt").write_bytes(bytes(100 << 20))
    turns = Front().slow_lane // 4
    with house.client() as client, ThreadPoolExecutor(turns + 1) as pool:
        small = [pool.submit(client.upload, tmp_path / "small.ckpt") for _ in range(turns)]
        assert all(inside.acquire(timeout=20) for _ in range(turns))
        large, limit = pool.submit(client.upload, tmp_path / "large.ckpt"), time.monotonic() + 30
        while 'method="GET",route="/api/uploads/{id}/turn",status="429"' not in metrics_of(house):
            assert time.monotonic() < limit
            time.sleep(0.1)
        assert not large.done()
        free.set()
        assert large.result(timeout=60).size == 100 << 20
        assert all(one.result().size == len(b"numbers") for one in small)
    assert 'method="PUT",route="/api/uploads/{id}/content",status="429"' not in metrics_of(house)
