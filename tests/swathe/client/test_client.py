"""The client against a service that misbehaves, over real sockets."""

import asyncio
import hashlib
import io
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from fastapi.responses import Response

from swathe import AsyncClient, Client, errors
from swathe.client import problems
from swathe.client.following import Following
from swathe.client.link import Patience
from swathe.client.progress import ProgressLine
from swathe.client.wish import asking
from swathe.job import JobState, Where

from .conftest import QUICK, Service, job, problem, serving

# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "job.unknown", errors.NotFoundError),
        (404, "model.unknown", errors.UnknownModelError),
        (422, "grid.rotated", errors.GridError),
        (422, "imagery.missing", errors.ImageryError),
        (409, "job.ended", errors.ConflictError),
        (401, "access", errors.AccessError),
        (403, "access.forbidden", errors.ForbiddenError),
        (403, "access.scope", errors.AccessError),
        (422, "limit.pixels", errors.LimitError),
        (429, "busy.rate", errors.BusyError),
        (503, "store.unavailable", errors.StoreError),
        (418, "teapot", errors.SwatheError),
    ],
)
def test_problems_become_the_errors_they_were(status, code, kind):
    error = problems.rebuilt({"code": code, "detail": "d", "hint": "h", "field": "f"}, status, 7.4)
    assert type(error) is kind
    assert (error.problem.code, error.detail, error.hint, error.field) == (code, "d", "h", "f")
    assert getattr(error, "retry_after", 7) == 7


def test_every_error_of_ours_comes_back_as_itself():
    for kind in problems._tree(errors.SwatheError):
        before = kind("d", hint="h", field="f")
        after = problems.rebuilt(before.problem.as_dict())
        assert (type(after), after.problem) == (kind, before.problem)


def test_what_a_proxy_says_is_told_as_such(service, client):
    service.faults = [Response("<html>Bad</html>", 502)] * 4
    with pytest.raises(errors.ServiceError, match="502"):
        client.job("j1")
    assert len(service.asked) == 4


def test_a_service_that_is_not_there_is_an_error_of_ours():
    with Client("http://127.0.0.1:9", patience=QUICK) as client, pytest.raises(errors.ServiceError) as caught:
        client.me()
    assert caught.value.problem.code == "service.unreachable"


@pytest.mark.parametrize("url", ["ftp://x", "127.0.0.1:8000", "http://", "http://user:secret@host"])
def test_addresses_that_are_none_are_refused_and_secrets_in_them_not_repeated(url):
    with pytest.raises(errors.InputError) as caught:
        Client(url)
    assert caught.value.problem.code == "service.url"
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["swk-a\r\nX-Evil: 1", "swk-ä", "swk a"])
def test_a_key_cannot_bring_a_header_of_its_own(key):
    with pytest.raises(errors.InputError) as caught:
        Client(key=key)
    assert key not in str(caught.value)


def test_what_was_pasted_along_is_cut_off():
    with Client("https://swathe.example/api/", "swk-a\n") as client:
        assert client.url == "https://swathe.example"


def test_a_newer_services_unknown_fields_do_no_harm_and_missing_ones_are_told(service, client):
    service.jobs["j1"] = job()
    assert client.job("j1").value.where is Where.POOL
    del service.jobs["j1"]["owner"]
    with pytest.raises(errors.ServiceError, match="not a job"):
        client.job("j1")


# --- sent again -------------------------------------------------------------------------------------------------------


def test_a_lost_answer_does_not_make_two_jobs(service, client):
    service.faults = ["drop", problem(503, "store.busy"), problem(409, "idempotency.running")]
    assert client.submit("m", inputs=["https://x.example/a.tif"]).id == "j1"
    assert len(service.jobs) == 1
    assert len({headers["idempotency-key"] for _, _, headers in service.asked}) == 1


def test_the_same_request_at_work_is_waited_for_however_often_it_says_so(service, client):
    service.faults = ["drop", *[problem(409, "idempotency.running")] * (QUICK.tries + 2)]
    assert client.submit("m", inputs=["https://x.example/a.tif"]).id == "j1"


@pytest.mark.parametrize("size", [6, 9 << 20])
def test_an_upload_without_a_turn_comes_again_however_often_it_is_told_so(service, client, tmp_path, size):
    """A large one asks for its turn first. This service is older and does not know that question."""
    (tmp_path / "a.tif").write_bytes(bytes(size))
    service.faults = [None, *[problem(429, "busy.turn", {"Retry-After": "0"}, detail="d")] * (QUICK.tries + 2)]
    assert client.upload(tmp_path / "a.tif").size == size
    assert service.paths("GET") == (["/api/uploads/f1/turn"] * (QUICK.tries + 3) if size > 8 << 20 else [])


def test_two_submits_are_two_jobs(service, client):
    assert [client.submit("m", inputs=["s3://b/a.tif"]).id for _ in range(2)] == ["j1", "j2"]


def test_what_may_have_been_done_is_not_done_twice(service, client):
    service.jobs["j1"] = job(state="failed")
    found = client.job("j1")
    service.faults = ["drop"]
    with pytest.raises(errors.ServiceError):
        found.resume()
    assert service.paths("POST") == ["/api/jobs/j1/resume"]


@pytest.mark.parametrize(
    "early",
    [
        problem(503, "cluster.starting", {"Retry-After": "0"}, detail="d"),
        Response("Path '/api/jobs' not found. Ping http://.../-/routes for available routes.", 404),
    ],
    ids=["ours", "bare"],
)
def test_a_proxy_that_has_not_heard_of_the_api_yet_is_waited_for(service, client, early):
    service.jobs["j1"] = job(state="failed")
    found = client.job("j1")
    service.faults = [early, early]
    assert client.job("j1").id == "j1"
    service.faults = [early]
    with pytest.raises(errors.NotFoundError):  # this service cannot resume, but it was asked
        found.resume()
    assert service.paths("POST") == ["/api/jobs/j1/resume"] * 2


def test_a_refusal_says_when_to_come_again_and_is_heeded(service, client):
    service.jobs["j1"] = job()
    service.faults = [problem(429, "busy.rate", {"Retry-After": "0"}, detail="d")]
    assert client.job("j1").id == "j1"
    service.faults = [problem(429, "busy.rate", {"Retry-After": "3600"}, detail="d")]
    with pytest.raises(errors.BusyError) as caught:
        client.job("j1")
    assert caught.value.retry_after == 3600


def test_mistakes_are_not_repeated(service, client):
    with pytest.raises(errors.NotFoundError):
        client.job("jx")
    assert len(service.asked) == 1


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_options_become_the_apis_words():
    class Shape:
        __geo_interface__ = {"type": "Point", "coordinates": (1, 2)}  # noqa: RUF012

    body = asking("m", {"source": "s", "dates": "2024-07, 2024-08", "max_cloud": 30, "aoi": Shape(), "bands": ["red"],
                        "scale": 0.1, "min_area": 9, "gpkg": True, "title": "t", "hook": "https://h.example",
                        "sensor": None})  # type: ignore[typeddict-item]  # fmt: skip
    assert body == {
        "model": "m", "search": {"source": "s", "dates": ["2024-07", "2024-08"], "max_cloud": 30},
        "aoi": {"type": "Point", "coordinates": (1, 2)}, "radiometry": {"bands": ["red"], "scale": 0.1},
        "products": {"min_area_px": 9, "gpkg": True}, "title": "t", "hook": {"url": "https://h.example"},
    }  # fmt: skip


def test_what_a_client_asks_is_what_the_service_understands():
    """The words of ``Wish`` against the service's own description of them."""
    from serve.desk.asking import Asking

    full = asking("m", {"inputs": {"2024-07-04": "https://x.example/a.tif"}, "aoi": (1, 2, 3, 4), "sensor": "s",
                        "bands": "red,nir", "scale": 1.0, "offset": 0.0, "nodata": 0, "min_area": 1, "simplify": 0.5,
                        "gpkg": True, "probabilities": True, "precision": "fp32", "chunk": 512, "title": "t",
                        "project": "p", "labels": {"a": 1}, "mask": "clouds,water=scenes", "mask_buffer": 2,
                        "mask_files": ["scl=https://x.example/m.tif"], "regularise": "smooth",
                        "mask_shapes": "https://x.example/m.geojson",
                        "hook": {"url": "https://h.example", "secret": "x"}})  # fmt: skip
    assert Asking.model_validate(full).inputs == ("2024-07-04=https://x.example/a.tif",)
    assert Asking.model_validate(full).postprocess.mask == ("clouds", "water=scenes")
    assert Asking.model_validate(full).postprocess.mask_shapes.url == "https://x.example/m.geojson"
    shapes = {"url": "upload://u", "buffer_m": 5.0, "code": 90}
    given = asking("m", {"inputs": "s3://b/a.tif", "mask_shapes": shapes})
    assert Asking.model_validate(given).postprocess.mask_shapes.model_dump() == shapes
    searched = asking("m", {"source": "s", "dates": "2024", "collection": "c", "max_cloud": 3, "composite": "best",
                            "res": 10, "crs": "EPSG:32633", "max_loss": 0.1, "aoi": "33UXP"})  # fmt: skip
    assert Asking.model_validate(searched).search.composite == "best"


def test_a_wish_that_nobody_would_hear_is_refused(client):
    with pytest.raises(errors.InputError) as caught:
        client.submit("m", inputs=["s3://b/a.tif"], max_clouds=3)
    assert (caught.value.problem.code, caught.value.field) == ("client.wish", "max_clouds")


def test_files_of_this_machine_are_uploaded_first(service, client, tmp_path):
    path = tmp_path / "ä b.tif"
    path.write_bytes(bytes(range(256)) * 20_000)
    job = client.submit("m", inputs={"2024-07-04": path, "2024-08-04": "https://x.example/b.tif"})
    assert job.value.request["inputs"] == ["2024-07-04=upload://f1", "2024-08-04=https://x.example/b.tif"]
    upload = service.uploads["f1"]
    assert (upload["name"], upload["sha256"]) == ("ä b.tif", hashlib.sha256(path.read_bytes()).hexdigest())


def test_an_upload_whose_answer_is_lost_is_sent_again_whole(service, client, tmp_path):
    path = tmp_path / "a.tif"
    path.write_bytes(b"x" * 3_000_000)
    service.faults = [None, "drop"]
    assert client.upload(path).size == 3_000_000
    assert len(service.paths("PUT")) == 2


def test_an_upload_that_is_no_imagery_is_told_at_once(client, tmp_path):
    (tmp_path / "a.tif").write_bytes(b"bad")
    with pytest.raises(errors.ImageryError, match="no image"):
        client.upload(tmp_path / "a.tif")


def test_a_missing_file_is_told_before_anything_is_sent(service, client, tmp_path):
    with pytest.raises(errors.ImageryError):
        client.submit("m", inputs=tmp_path / "none.tif")
    assert service.asked == []


def test_jobs_come_page_by_page(service, client):
    service.jobs = {f"j{i}": job(f"j{i}") for i in range(250)}
    assert [found.id for found in client.jobs()] == list(service.jobs)
    service.asked.clear()
    assert len(list(client.jobs(limit=120))) == 120
    assert len(service.asked) == 2


def test_a_small_image_is_answered(client):
    answer = client.predict(b"abc", "m", form="png")
    assert (answer.content, answer.media_type) == (b"cba", "image/png")
    assert answer.seconds == {"total": 2.5, "read": 0.5}


# --- following --------------------------------------------------------------------------------------------------------


def events(count):
    return [{"seq": i + 1, "at": "t", "kind": "chunk", "facts": {"chunk": i}} for i in range(count)]


@pytest.mark.parametrize("streams", [[], [0, 2, 0, 3, 1], "never"])
def test_every_event_comes_once_and_in_order_however_often_it_breaks(service, client, streams):
    service.jobs["j1"], service.events, service.streams = job(state="done", last_seq=9), events(9), streams
    assert [event.seq for event in client.job("j1").events()] == list(range(1, 10))
    if streams == "never":
        assert service.paths().count("/api/jobs/j1/events") < 10


def test_progress_between_events_moves_the_job_and_is_no_event(service, client):
    service.events = events(2)
    service.jobs["j1"] = job(state="done", last_seq=2, progress={"pixels": 7, "of_pixels": 10})
    seen = [(news.event.seq if news.event else None, news.job.progress.pixels if news.job else None)
            for news in client.job("j1").news()]  # fmt: skip
    assert seen == [(None, 7), (1, None), (None, 7), (2, None), (None, 7), (None, 7)]


def test_a_job_never_seems_to_go_back_where_a_stream_lags():
    def message(kind, **document):
        return httpx2.ServerSentEvent(event=kind, data=json.dumps(document))

    def far(seq, state, pixels):
        return message("progress", seq=seq, facts={"state": state, "pixels": pixels, "of_pixels": 10})

    following = Following(SimpleNamespace(patience=Patience()), "j1")
    first = job(state="running", last_seq=5, progress={"pixels": 6, "of_pixels": 10})
    told = [message("job", job=first), far(4, "preparing", 9), far(5, "running", 4), far(5, "running", 7),
            far(8, "finishing", 10), message("job", job=first)]  # fmt: skip
    seen = [following._read(one).job for one in told]
    assert [one.progress.pixels for one in seen] == [6, 6, 6, 7, 10, 10]
    assert [one.state for one in seen] == ["running"] * 4 + ["finishing"] * 2


def test_events_go_on_after_one_that_is_known(service, client):
    service.jobs["j1"], service.events = job(state="done", last_seq=5), events(5)
    assert [event.seq for event in client.job("j1").events(after=3)] == [4, 5]


def test_waiting_outlives_an_outage(service, client):
    service.jobs["j1"] = job()
    found = client.job("j1")
    service.faults = [problem(503, "store.unavailable", detail="d")] * 9

    def end():
        time.sleep(0.5)
        service.jobs["j1"] = job(state="done", last_seq=1)
        service.events = events(1)

    threading.Thread(target=end).start()
    seen = []
    assert found.wait(progress=lambda job: seen.append(job.state)).state is JobState.DONE
    assert seen[0] == "running"
    assert seen[-1] == "done"


def test_a_service_that_stays_away_is_given_up(service):
    service.jobs["j1"] = job()
    with Client(service.url, patience=type(QUICK)(tries=1, first_s=0.01, outage_s=1)) as client:
        found = client.job("j1")
        service.faults = [problem(503, "store.unavailable", detail="gone")] * 1000
        with pytest.raises(errors.SwatheError, match="gone"):
            found.wait()


def test_a_job_that_is_gone_ends_the_waiting(service, client):
    service.jobs["j1"] = job()
    found = client.job("j1")
    del service.jobs["j1"]
    service.streams = "never"
    with pytest.raises(errors.NotFoundError):
        found.wait()


def test_a_failed_job_raises_its_own_error(service, client):
    service.jobs["j1"] = job(
        state="failed", problem={"code": "grid.rotated", "detail": "d", "hint": "h", "status": 422}
    )
    with pytest.raises(errors.GridError, match="d"):
        client.job("j1").wait()
    assert client.job("j1").wait(check=False).state is JobState.FAILED
    service.jobs["j1"] = job(state="cancelled")
    with pytest.raises(errors.ConflictError, match="cancelled"):
        client.job("j1").wait()


def test_waiting_has_an_end_where_one_is_set(service, client):
    service.jobs["j1"] = job()
    with pytest.raises(TimeoutError):
        client.job("j1").wait(timeout=0.3)
    assert client.job("j1").state is JobState.RUNNING


def test_whoever_stops_listening_can_go_on_asking(service, client):
    service.jobs["j1"], service.events = job(last_seq=5), events(5)
    found = client.job("j1")
    for event in found.events():
        if event.seq == 2:
            break
    assert found.refresh().state is JobState.RUNNING


def test_an_interrupt_ends_the_waiting_at_once(service, tmp_path):
    service.jobs["j1"] = job()
    program = tmp_path / "program.py"
    program.write_text(
        "import signal, threading, os\nfrom swathe import Client\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it\n"
        "threading.Timer(1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        f"job = Client({service.url!r}).job('j1')\n"
        "try:\n    for _ in job.events(): pass\nexcept KeyboardInterrupt:\n    print('stopped', job.refresh().state)\n"
    )
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=20, check=False,
                          env={"PYTHONPATH": str(Path.cwd()), "PATH": ""})  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("stopped running", "")


def test_a_bar_is_one_line_on_a_terminal_and_states_alone_in_a_log():
    from swathe.client.values import job_of

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    told = [job_of(job(state=s, progress={"pixels": p, "of_pixels": 10})) for s, p in
            (("queued", 0), ("running", 3), ("running", 6), ("done", 10))]  # fmt: skip
    terminal, log = Terminal(), io.StringIO()
    for out in (terminal, log):
        line = ProgressLine(out)
        for one in told:
            line(one)
    assert terminal.getvalue().count("\n") == 1
    assert "100%" in terminal.getvalue()
    assert log.getvalue().splitlines() == ["j1 queued", "j1 running", "j1 done"]


# --- results ----------------------------------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 5000


def finished(service, **files):
    service.jobs["j1"], service.files = job(state="done"), {f"{name}.tif": content for name, content in files.items()}


def test_a_download_goes_on_where_it_broke_off(service, client, tmp_path):
    finished(service, result=CONTENT)
    service.cuts = [500_000, 0, 300_000]
    told = []
    (path,) = client.job("j1").download(tmp_path, tell=lambda *facts: told.append(facts))
    assert path.read_bytes() == CONTENT
    assert [p.name for p in tmp_path.iterdir()] == ["result.tif"]
    ranges = [headers.get("range") for _, path, headers in service.asked if path.endswith("result.tif")]
    assert ranges == [None, "bytes=500000-", "bytes=500000-", "bytes=800000-"]
    assert told[-1] == ("result.tif", len(CONTENT), len(CONTENT))


def test_what_is_there_and_right_is_not_fetched_again(service, client, tmp_path):
    finished(service, result=CONTENT, score=b"")
    client.job("j1").download(tmp_path)
    (tmp_path / "result.tif").write_bytes(CONTENT[:-1] + b"?")
    service.asked.clear()
    client.job("j1").download(tmp_path)
    assert [path for path in service.paths() if "/files/" in path] == ["/api/jobs/j1/files/result.tif"]
    assert (tmp_path / "result.tif").read_bytes() == CONTENT
    assert (tmp_path / "score.tif").read_bytes() == b""


def test_the_rest_of_another_result_is_not_joined_to_this_one(service, client, tmp_path):
    finished(service, result=CONTENT)
    (tmp_path / ".result.tif.part").write_bytes(b"other" * 1000)
    client.job("j1").download(tmp_path)
    assert (tmp_path / "result.tif").read_bytes() == CONTENT


def test_bytes_that_are_not_what_was_described_are_not_kept(service, client, tmp_path):
    finished(service, result=CONTENT)
    service.claimed["result.tif"] = b"something else"
    with pytest.raises(errors.ServiceError) as caught:
        client.job("j1").download(tmp_path)
    assert caught.value.problem.code == "service.checksum"
    assert not (tmp_path / "result.tif").exists()


@pytest.mark.parametrize("name", ["../up.tif", "/etc/passwd", "a/../../b", "a\\b", "a\nb", "C:b", ""])
def test_no_service_writes_outside_the_folder(service, client, tmp_path, name):
    service.jobs["j1"], service.files = job(state="done"), {name: b"x"}
    with pytest.raises(errors.ServiceError) as caught:
        client.job("j1").download(tmp_path / "inside")
    assert caught.value.problem.code == "service.file"
    assert list(tmp_path.rglob("*")) == []


def test_the_key_is_not_taken_along_to_where_files_are_stored(service, client, tmp_path):
    with serving(Service()) as storage:
        storage.files = {"result.tif": CONTENT}
        finished(service, result=CONTENT)
        service.elsewhere = storage.url
        client.job("j1").download(tmp_path)
        assert "swk-secret" not in str(storage.asked)
    assert service.asked[-1][2]["authorization"] == "Bearer swk-secret"


def test_a_file_that_is_not_there_is_told_with_those_that_are(service, client, tmp_path):
    finished(service, result=CONTENT)
    with pytest.raises(errors.NotFoundError) as caught:
        client.job("j1").download(tmp_path, ["score.tif"])
    assert "result.tif" in caught.value.hint


# --- awaiting, and staying light --------------------------------------------------------------------------------------


def test_many_jobs_are_awaited_side_by_side(service):
    async def all_of_them():
        async with AsyncClient(service.url, "swk-secret", QUICK) as client:
            found = await asyncio.gather(*(client.submit("m", inputs=["s3://b/a.tif"]) for _ in range(5)))
            for one in list(service.jobs.values()):
                one |= {"state": "done"}
            await asyncio.gather(*(job.wait() for job in found))
            return {job.state for job in found}

    assert asyncio.run(all_of_them()) == {JobState.DONE}


def test_the_key_is_never_shown(client):
    assert "secret" not in repr(client) + str(vars(client))


def test_nothing_heavy_is_loaded():
    """In a Python of its own: errors without httpx2, the client without anything that reads imagery."""
    program = (
        "import sys, swathe.errors, swathe.job; assert 'httpx2' not in sys.modules\n"
        "from swathe import Client; Client.from_environment().close()\n"
        "print(sorted({'rasterio', 'fastapi', 'numpy', 'xarray', 'geopandas', 'rich', 'shapely'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_the_environment_names_the_service(monkeypatch):
    monkeypatch.setenv("SWATHE_URL", "https://swathe.example")
    with Client.from_environment() as client:
        assert client.url == "https://swathe.example"
