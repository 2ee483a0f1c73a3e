"""The archive of a result, taken apart over HTTP by remotezip, GDAL and zipfile, from a folder and from S3."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import datetime

import pytest
import rasterio
from remotezip import RemoteZip

from pipelines.store.checksums import NAME
from serve.desk.archives import LOG
from serve.desk.links import Kind
from serve.store import logs
from serve.store.logs import Line
from swathe.job import JobState
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server
from tests.serve.api.test_access import problem

FILES = {"report.json": b'{"a": 1}', "item.json": b"{}", "preview.png": b"\x89PNG" * 99}


@pytest.fixture
def ada(house):
    return house.person()


@pytest.fixture
def job(house, ada, image):
    return said(house, house.left(ada, FILES | {"result.tif": image.read_bytes()}))


def said(house, job):
    """With one line before its end and one after it."""
    with house.desk.store.begin() as c:
        logs.add(c, job.id, [Line(job.created, "info", "chunk done"), Line("2999-01-01T00:00:00.000Z", "info", "late")])
    return job


def link(house, person, job, **more):
    return house.client(person).post("/api/links", json={"kind": "archive", "id": job.id, **more}).json()["url"]


def here(house, url):
    return url.removeprefix("http://svc.test")


def opened(content):
    return zipfile.ZipFile(io.BytesIO(content))


def test_all_of_it_is_there_and_whole(house, ada, job, image):
    answer = house.client(ada).get(f"/api/jobs/{job.id}/archive.zip")
    assert answer.headers["content-type"] == "application/zip"
    assert answer.headers["content-length"] == str(len(answer.content))
    with opened(answer.content) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [*sorted([*FILES, "result.tif"]), LOG]
        assert archive.read("result.tif") == image.read_bytes()
        assert archive.read(LOG).decode() == f"{job.created} info    chunk done\n"
        ended = datetime.fromisoformat(job.ended)
        assert archive.infolist()[0].date_time[:5] == ended.timetuple()[:5]


def test_the_same_bytes_by_every_way_and_at_every_time(house, ada, job):
    first = house.client(ada).get(f"/api/jobs/{job.id}/archive.zip")
    house.desk.archives._laid_out.cache_clear()
    again = house.client().get(here(house, link(house, ada, job)))
    assert (first.content, first.headers["etag"]) == (again.content, again.headers["etag"])
    head = house.client().head(here(house, link(house, ada, job)))
    assert head.headers["content-length"] == str(len(first.content))
    known = {"If-None-Match": first.headers["etag"]}
    assert house.client(ada).get(f"/api/jobs/{job.id}/archive.zip", headers=known).status_code == 304


def test_every_part_is_that_of_the_whole(house, ada, job):
    to = here(house, link(house, ada, job))
    asks = house.client()
    whole = asks.get(to).content
    for start in range(0, len(whole), 997):
        answer = asks.get(to, headers={"Range": f"bytes={start}-{start + 1100}"})
        assert (answer.status_code, answer.content) == (206, whole[start : start + 1101])
    assert asks.get(to, headers={"Range": "bytes=-100"}).content == whole[-100:]
    assert asks.get(to, headers={"Range": f"bytes=-{len(whole) + 9}"}).content == whole


def served_link(house, ada, url, job):
    return url + here(house, link(house, ada, job))


def test_a_reader_of_far_archives_takes_single_members(house, ada, job, image, served):
    with served(house.app) as url, RemoteZip(served_link(house, ada, url, job)) as archive:
        assert archive.namelist() == [*sorted([*FILES, "result.tif"]), LOG]
        assert archive.read("report.json") == FILES["report.json"]
        assert archive.read("result.tif") == image.read_bytes()
        assert archive.testzip() is None


def test_a_reader_that_knows_how_little_it_wants_gets_no_more(house, ada, job, served):
    """With a first look of 100 bytes the directory is fetched by a second one."""
    with (
        served(house.app) as url,
        RemoteZip(served_link(house, ada, url, job), initial_buffer_size=100, support_suffix_range=False) as archive,
    ):
        assert archive.read("item.json") == b"{}"


def test_gdal_reads_the_map_inside(house, ada, job, image, served):
    with (
        served(house.app) as url,
        rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"),
        rasterio.open(f"/vsizip//vsicurl/{served_link(house, ada, url, job)}/result.tif") as far,
        rasterio.open(image) as near,
    ):
        assert (far.read() == near.read()).all()
        assert (far.crs, far.transform) == (near.crs, near.transform)


def test_members_are_called_as_whoever_asks_wants(house, ada, job, image):
    def naming(found):
        return {f"{found.id}_pred.tif": "result.tif", "steps/run.log": LOG, "about.json": b"{}"}

    found = house.desk.archives
    how = Kind(found.named, lambda caller, id_, name: found.content(caller, id_, name, naming))
    house.desk.links.offer("other", how)
    to = house.desk.links.make(house.desk.keys.open(ada.key), "other", job.id, "b.zip").path
    assert to.endswith("/b.zip")
    with opened(house.client().get(to).content) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{job.id}_pred.tif", "steps/run.log", "about.json"]
        assert archive.read(f"{job.id}_pred.tif") == image.read_bytes()


def test_only_what_has_ended_has_one(house, ada):
    running = house.job(ada, JobState.RUNNING)
    problem(house.client(ada).get(f"/api/jobs/{running.id}/archive.zip"), 409, "job.active")
    problem(house.client(ada).post("/api/links", json={"kind": "archive", "id": running.id}), 409, "job.active")


def test_a_job_that_failed_has_its_log(house, ada):
    failed = said(house, house.job(ada, JobState.FAILED))
    with opened(house.client(ada).get(f"/api/jobs/{failed.id}/archive.zip").content) as archive:
        assert archive.namelist() == [LOG]
        assert b"chunk done" in archive.read(LOG)


def test_a_log_without_lines_is_an_empty_member(house, ada):
    silent = house.left(ada, {"report.json": b"{}", "empty.json": b""})
    with opened(house.client(ada).get(f"/api/jobs/{silent.id}/archive.zip").content) as archive:
        assert archive.testzip() is None
        assert {info.filename: info.file_size for info in archive.infolist()} == {
            "empty.json": 0, "report.json": 2, LOG: 0,
        }  # fmt: skip


def test_a_file_that_was_lost_is_told(house, ada, job):
    (house.desk.settings.service_dir / "jobs" / job.id / "report.json").unlink()
    problem(house.client(ada).get(f"/api/jobs/{job.id}/archive.zip"), 404, "file.unknown")


def test_sums_are_read_once_and_not_believed_of_another_round(house, ada, job):
    house.client(ada).get(f"/api/jobs/{job.id}/archive.zip")
    kept = house.desk.settings.service_dir / "jobs" / job.id / NAME
    told = json.loads(kept.read_text())
    told["files"]["report.json"][1] = 7
    for version, believed in (("1", True), ("2", False)):
        kept.write_text(json.dumps(told | {"version": version}))
        house.desk.archives._laid_out.cache_clear()
        with opened(house.client(ada).get(f"/api/jobs/{job.id}/archive.zip").content) as archive:
            assert (archive.getinfo("report.json").CRC == 7) is believed


def test_an_upload_of_several_images_comes_back_as_an_archive(house, ada, image):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("B03.tif", "B08.tif"):
            archive.writestr(f"deep/{name}", image.read_bytes())
    asks = house.client(ada)
    upload = asks.post("/api/uploads", json={"name": "bands.zip"}).json()
    assert asks.put(f"/api/uploads/{upload['id']}/content", content=packed.getvalue()).json()["state"] == "ready"
    to = here(house, asks.post("/api/links", json={"kind": "upload", "id": upload["id"]}).json()["url"])
    assert to.endswith("/bands.zip")
    with opened(house.client().get(to).content) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == dict.fromkeys(
            ("B03.tif", "B08.tif"), image.read_bytes()
        )


def test_the_same_out_of_object_storage(house_of, s3_server, monkeypatch, image, served):
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    house = house_of(results=s3_server.prefix())
    ada, files = house.person(), FILES | {"result.tif": image.read_bytes() * 50}
    job = house.job(ada, JobState.DONE, result={"files": {name: len(content) for name, content in files.items()}})
    for name, content in files.items():
        house.desk.settings.blobs(f"jobs/{job.id}").put(name, content)
    with served(house.app) as url, RemoteZip(served_link(house, ada, url, said(house, job))) as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in files} == files
