"""Jobs at the desk: estimated, submitted within bounds, watched, stopped, repeated, removed."""

import json
import threading
from pathlib import Path

import pytest

from serve.desk.asking import Asking
from serve.store import catalogue, events, hooks, jobs
from serve.store.jobs import Filter
from swathe.errors import (
    AreaError,
    BusyError,
    ConflictError,
    ForbiddenError,
    GridError,
    ImageryError,
    InputError,
    LimitError,
    NotFoundError,
    UnknownModelError,
)
from swathe.job import JobState, Where
from swathe.user import Role

DONE = {"result.tif": b"II*\0", "item.json": b"{}"}


@pytest.fixture
def wish(open_root):
    """``wish(model=…)``: an asking for an image below the one folder that the desk may read."""

    def make(**more):
        return Asking.model_validate({"model": "water-ndwi", "inputs": [str(open_root / "scene.tif")]} | more)

    make.root = open_root
    return make


@pytest.fixture
def open_front(front_of, hall, tmp_path, open_root):
    """A desk that may read the folder of ``wish``; ``limits``: other than the shipped ones."""

    def make(**limits):
        if not limits:
            return hall
        (tmp_path / "limits.yaml").write_text("".join(f"{name}: {value}\n" for name, value in limits.items()))
        return front_of(local_roots=(open_root,), service_config=tmp_path / "limits.yaml")

    return make


def test_an_estimate_says_what_it_would_take_and_keeps_nothing(open_front, wish):
    front = open_front()
    owner = front.person()
    found = front.desk.jobs.estimate(owner, wish(inputs=[f"2024-07-25={wish.root / 'scene.tif'}"]))
    assert found.place is Where.ONLINE
    assert (found.cost["pixels"], found.cost["area_km2"]) == (64 * 96, pytest.approx(0.6144, rel=0.01))
    assert found.seconds > 0
    assert (found.plan["crs"], found.plan["shape"]) == ("EPSG:32633", [64, 96])
    assert found.plan["files"] == [f"2024-07-25={wish.root / 'scene.tif'}"]
    json.dumps([found.plan, found.cost])
    assert front.desk.jobs.listed(owner).items == ()


def test_a_job_is_in_the_queue_with_what_was_asked(open_front, wish):
    front = open_front()
    owner = front.person()
    project = front.desk.projects.add(owner, "maps")
    asking = wish(title="Lake", project=project.id, labels={"a": 1}, aoi=[15.0, 50.545, 15.005, 50.55],
                  hook={"url": "https://a.example/told", "secret": "topsecret"})  # fmt: skip
    job = front.desk.jobs.submit(owner, asking)
    assert (job.state, job.title, job.project, job.labels) == (JobState.QUEUED, "Lake", project.id, {"a": 1})
    assert job.progress.of_pixels == job.cost["pixels"] < 64 * 96
    assert "topsecret" not in json.dumps(job.request)
    with front.desk.store.read() as c:
        (first,) = events.of(c, job.id)
        (due,) = [hook for hook in hooks.due(c, 100) if hook.job == job.id]
    assert (first.seq, first.kind, first.facts["state"]) == (1, "state", "queued")
    assert (due.job, due.url, due.secret) == (job.id, "https://a.example/told", "topsecret")
    assert front.desk.jobs.get(owner, job.id) == job
    (line,) = front.desk.audit.listed(owner, 1).items
    assert (line.action, line.subject) == ("job.submit", job.id)


@pytest.mark.parametrize(("limits", "place"), [
    ({"online_s": 0, "pool_s": 600}, Where.POOL), ({"online_s": 0, "pool_s": 0}, Where.CLUSTER),
])  # fmt: skip
def test_seconds_decide_where_it_runs(open_front, wish, limits, place):
    front = open_front(**limits)
    job = front.desk.jobs.submit(front.person(), wish())
    assert job.where is place
    assert job.cost["seconds"] >= (7 if place is Where.CLUSTER else 0)  # a Ray job starts a pool of its own


@pytest.mark.parametrize(("limits", "asked", "code", "said"), [
    ({"max_area_km2": 100}, {"aoi": [10, 50, 12, 52]}, "limit.area", r"3\d,\d{3}\.\d km², 100\.0 km² are allowed"),
    ({"max_area_km2": 0.5}, {}, "limit.area", r"0\.6 km², 0\.5 km² are allowed"),
    ({"max_pixels": 6000}, {}, "limit.pixels", "6,144 pixels, 6,000 are allowed"),
    ({"area_km2_30d": 0.5}, {}, "quota.area", r"0\.6 km² more than the 0\.0 km² .* over your 0\.5 km²"),
])  # fmt: skip
def test_more_than_is_allowed_is_refused_with_both_numbers(open_front, wish, limits, asked, code, said):
    front = open_front(**limits)
    with pytest.raises(LimitError, match=said) as caught:
        front.desk.jobs.submit(front.person(), wish(**asked))
    assert (caught.value.problem.code, caught.value.field) == (code, "aoi")


def test_areas_of_thirty_days_add_up_and_a_user_may_have_a_quota_of_their_own(open_front, wish):
    front = open_front()
    owner = front.person(area_km2=1.5)
    for _ in range(2):
        front.desk.jobs.submit(owner, wish())
    with pytest.raises(LimitError, match=r"over your 1\.5 km²"):
        front.desk.jobs.submit(owner, wish())
    assert front.desk.jobs.submit(front.person(), wish()).state is JobState.QUEUED
    may, has = front.desk.usage.of(owner)
    assert (may.area_km2, has.queued_jobs) == (1.5, 2)


def test_a_full_queue_says_when_to_come_again(open_front, wish):
    front = open_front(queued_per_user=2)
    owner = front.person()
    kept = [front.desk.jobs.submit(owner, wish()) for _ in range(2)]
    with pytest.raises(BusyError, match="2 of your jobs wait, 2 may") as caught:
        front.desk.jobs.submit(owner, wish())
    assert caught.value.retry_after > 0
    front.desk.jobs.cancel(owner, kept[0].id)
    front.desk.jobs.submit(owner, wish())


def test_the_last_place_is_taken_once(hall, wish):
    front = hall
    owner, ends = front.person(queued_jobs=3), []

    def submit():
        try:
            ends.append(front.desk.jobs.submit(owner, wish()).state)
        except BusyError as error:
            ends.append(error.problem.code)

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, ends)) == ["busy.queue"] * 5 + ["queued"] * 3


def test_a_user_without_room_is_refused(open_front, wish):
    front = open_front()
    owner = front.person(storage_mb=1)
    front.left(owner, {"result.tif": bytes(1_100_000)})
    with pytest.raises(LimitError, match=r"you keep 1\.1 MB, 1\.0 MB are allowed"):
        front.desk.jobs.submit(owner, wish())


@pytest.mark.parametrize(("asked", "kind", "code", "field"), [
    ({"model": "water-nwdi"}, UnknownModelError, "model.unknown", "model"),
    ({"model": "clay-v1.5-s2"}, ConflictError, "model.disabled", "model"),
    ({"inputs": ["/etc/passwd"]}, ImageryError, "url.local", "inputs"),
    ({"inputs": ["scene.tif"]}, ImageryError, "url.local", "inputs"),
    ({"inputs": ["file:///etc/passwd"]}, ImageryError, "url.local", "inputs"),
    ({"inputs": ["/vsicurl/http://a.example/x.tif"]}, ImageryError, "url.local", "inputs"),
    ({"inputs": ["https://127.0.0.1/x.tif"]}, ImageryError, "url.private", "inputs"),
    ({"inputs": ["http://169.254.169.254/latest"]}, ImageryError, "url.private", "inputs"),
    ({"inputs": ["upload://u00000000000000000000000000"]}, NotFoundError, "upload.unknown", ""),
    ({"inputs": ["item://imagery/none"]}, NotFoundError, "item.unknown", ""),
    ({"inputs": ["2024-13-01=https://a.example/x.tif"]}, InputError, "input.date", "inputs"),
    ({"aoi": [170, 10, 171, 11]}, AreaError, "area.outside", "aoi"),
    ({"sensor": "none-such"}, InputError, "sensor.unknown", "sensor"),
    ({"project": "p00000000000000000000000000"}, NotFoundError, "project.unknown", ""),
    ({"inputs": [], "aoi": [1, 1, 2, 2], "search": {"source": "/etc"}}, InputError, "source.unknown", "search.source"),
    ({"hook": {"url": "ftp://a.example"}}, InputError, "url.scheme", "hook.url"),
    ({"hook": {"url": "http://127.0.0.1:8265/api"}}, InputError, "url.private", "hook.url"),
])  # fmt: skip
def test_wishes_that_cannot_be_met_name_the_field(open_front, wish, asked, kind, code, field):
    front = open_front()
    with pytest.raises(kind) as caught:
        front.desk.jobs.submit(front.person(), wish(**asked))
    assert (caught.value.problem.code, caught.value.field) == (code, field)
    assert "swathe models" not in caught.value.hint


def test_no_link_leads_out_of_the_open_folder(open_front, wish, image):
    front = open_front()
    link = wish.root / "link.tif"
    link.unlink(missing_ok=True)
    link.symlink_to(image("other.tif"))
    for path in (link, wish.root / ".." / "x.tif", f"{wish.root}-else/x.tif"):
        with pytest.raises(ImageryError) as caught:
            front.desk.jobs.submit(front.person(), wish(inputs=[str(path)]))
        assert caught.value.problem.code == "url.local"


def test_a_file_that_is_no_grid_is_a_problem_about_what_was_asked(front, image):
    """An upload that was good turns bad on the disk: the problem names the upload, not the folder."""
    owner = front.person()
    begun = front.desk.uploads.begin(owner, "scene.tif")
    upload = front.desk.uploads.write(owner, begun.id, [image().read_bytes()])
    path = Path(front.desk.uploads.images(owner, upload.id)[0])
    path.write_bytes(image("nowhere.tif", crs=None).read_bytes())
    with pytest.raises(GridError) as caught:
        front.desk.jobs.submit(owner, Asking(model="water-ndwi", inputs=(f"upload://{upload.id}",)))
    assert f"upload://{upload.id}" in caught.value.detail
    assert str(front.desk.settings.data_dir) not in caught.value.detail


def test_a_result_is_the_input_of_another_job(open_front, wish, image):
    front = open_front()
    owner = front.person()
    made = front.left(owner, {"result.tif": image().read_bytes()})
    href = str(front.desk.settings.service_dir / "jobs" / made.id / "result.tif")
    entry = {
        "type": "Feature", "stac_version": "1.1.0", "id": made.id, "collection": "results-x", "geometry": None,
        "properties": {"datetime": "2024-07-25T00:00:00Z", "swathe:model": {"id": "x"}}, "links": [],
        "assets": {"score": {"href": href.replace("result", "score"), "type": "image/tiff", "roles": ["data"]},
                   "data": {"href": href, "type": "image/tiff", "roles": ["data"]}},
    }  # fmt: skip
    with front.desk.store.begin() as c:
        catalogue.put_collection(c, {"type": "Collection", "id": "results-x", "stac_version": "1.1.0", "links": [],
                                     "description": "", "license": "other", "extent": {
                                         "spatial": {"bbox": [[-180, -90, 180, 90]]},
                                         "temporal": {"interval": [[None, None]]}}})  # fmt: skip
        catalogue.put_item(c, entry, owner.user.id)
    asked = wish(inputs=[f"item://results-x/{made.id}"])
    assert front.desk.jobs.submit(owner, asked).cost["pixels"] == 64 * 96
    with pytest.raises(NotFoundError):
        front.desk.jobs.submit(front.person(), asked)


# --- afterwards ------------------------------------------------------------------------------------------------------


def test_files_are_those_of_the_job_s_own_list(front):
    owner = front.person()
    sums = {"assets": {"result": {"href": "./result.tif", "file:checksum": "1220" + "ab" * 32}}}
    job = front.left(owner, {"result.tif": b"II*\0", "item.json": json.dumps(sums).encode()})
    (front.desk.settings.service_dir / "jobs" / job.id / "secret.txt").write_text("x")
    found = {file.name: file for file in front.desk.jobs.files(owner, job.id)}
    assert list(found) == ["item.json", "result.tif"]
    assert (found["result.tif"].bytes, found["result.tif"].sha256) == (4, "ab" * 32)
    assert found["item.json"].media_type == "application/geo+json"
    assert front.desk.jobs.open(owner, job.id, "result.tif").read_bytes() == b"II*\0"
    assert front.desk.jobs.item(owner, job.id) == sums
    for name in ("secret.txt", "../result.tif", "", "/etc/passwd", "result.tif/", "x" * 5000):
        with pytest.raises(NotFoundError):
            front.desk.jobs.open(owner, job.id, name)


def test_a_job_goes_with_its_folder(front):
    owner = front.person()
    job = front.left(owner, DONE)
    folder = front.desk.settings.service_dir / "jobs" / job.id
    assert folder.exists()
    front.desk.jobs.drop(owner, job.id)
    assert not folder.exists()
    with pytest.raises(NotFoundError):
        front.desk.jobs.get(owner, job.id)


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.RUNNING])
def test_a_job_that_is_not_at_its_end_is_not_removed(front, state):
    owner = front.person()
    with pytest.raises(ConflictError) as caught:
        front.desk.jobs.drop(owner, front.job(owner, state).id)
    assert caught.value.problem.code == "job.active"


def test_cancel_and_resume(front):
    owner = front.person()
    job = front.job(owner)
    assert front.desk.jobs.cancel(owner, job.id).state is JobState.CANCELLED
    with pytest.raises(ConflictError):
        front.desk.jobs.cancel(owner, job.id)
    again = front.desk.jobs.resume(owner, job.id)
    assert (again.state, again.round) == (JobState.QUEUED, 2)
    with pytest.raises(ConflictError):
        front.desk.jobs.resume(owner, front.job(owner, JobState.DONE).id)


PUBLISH = {"workspace": "lagoon", "name": "water"}


def test_a_publication_waits_with_its_job_and_is_not_repeated(front_of, open_root, wish):
    front = front_of(local_roots=(open_root,), geoserver_url="https://maps.example.org/geoserver")
    owner, other = front.person(), front.person()
    first = front.desk.jobs.submit(owner, wish(publish=[PUBLISH]))
    (found,) = front.desk.jobs.publications(owner, first.id)
    assert (found.full_name, found.state, found.url) == ("lagoon:water", "waiting", "")
    with pytest.raises(NotFoundError):
        front.desk.jobs.publications(other, first.id)
    second = front.desk.jobs.again(owner, first.id)
    assert front.desk.jobs.publications(owner, second.id) == []
    with pytest.raises(ConflictError) as refused:
        front.desk.jobs.submit(owner, wish(publish=[PUBLISH]))
    assert refused.value.problem.code == "publication.taken"
    with pytest.raises(InputError) as refused:
        front.desk.jobs.submit(owner, wish(publish=[PUBLISH, PUBLISH]))
    assert refused.value.problem.code == "publication.twice"


def test_a_service_without_a_map_server_takes_no_publications(open_front, wish):
    front = open_front()
    with pytest.raises(InputError) as refused:
        front.desk.jobs.submit(front.person(), wish(publish=[PUBLISH]))
    assert (refused.value.problem.code, refused.value.problem.field) == ("publication.none", "publish")


def test_again_is_a_new_job_without_the_hook(open_front, wish):
    front = open_front()
    owner = front.person()
    first = front.desk.jobs.submit(owner, wish(title="Lake", hook={"url": "https://a.example/told"}))
    second = front.desk.jobs.again(owner, first.id)
    assert second.id != first.id
    assert {**first.request, "hook": None} == {**second.request, "hook": None}
    with front.desk.store.read() as c:
        assert {hook.job for hook in hooks.due(c, 100)} & {first.id, second.id} == {first.id}


def test_again_by_somebody_else_is_their_own_job_without_the_owner_s_secrets(open_front, wish):
    front = open_front()
    owner, other = front.person(), front.person()
    project = front.desk.projects.add(owner, "maps", shared=True)
    asked_for = wish(project=project.id)
    request = {**asked_for.record(), "hook": {"url": "https://a.example/topsecret"}}
    job = front.job(owner, project=project.id, request=request)
    second = front.desk.jobs.again(other, job.id)
    assert (second.owner, second.project) == (other.user.id, None)
    assert "topsecret" not in json.dumps(second.request)


def test_others_see_a_shared_job_without_its_secrets(front):
    owner, other = front.person(), front.person()
    project = front.desk.projects.add(owner, "maps", shared=True)
    request = {"model": "water-ndwi", "inputs": ["2024-01-01=https://a.example/x.tif?sig=topsecret"],
               "hook": {"url": "https://a.example/topsecret"}}  # fmt: skip
    job = front.job(owner, project=project.id, request=request)
    assert front.desk.jobs.get(owner, job.id).request == request
    seen = front.desk.jobs.get(other, job.id)
    assert seen.request == {"model": "water-ndwi", "inputs": ["2024-01-01=https://a.example/x.tif"]}
    (listed,) = front.desk.jobs.listed(other).items
    assert listed == seen
    with pytest.raises(ForbiddenError):
        front.desk.jobs.cancel(other, job.id)


def test_a_listing_is_one_s_own_and_pages(front):
    owner, other, admin = front.person(), front.person(), front.person(Role.ADMIN)
    mine = [front.job(owner).id for _ in range(5)]
    front.job(other)
    seen, cursor = [], None
    while True:
        page = front.desk.jobs.listed(owner, limit=2, cursor=cursor)
        seen += [job.id for job in page.items]
        cursor = page.cursor
        if cursor is None:
            break
    assert seen == mine[::-1]
    assert len(front.desk.jobs.listed(admin).items) == 6
    assert [j.id for j in front.desk.jobs.listed(admin, Filter(owner=other.user.id)).items] != mine
    assert front.desk.jobs.listed(other, Filter(owner=owner.user.id)).items == ()


def test_the_store_s_own_facts_are_seen_through_the_desk(front):
    owner = front.person()
    job = front.job(owner, JobState.FAILED)
    kinds = [event.facts.get("state") for event in front.desk.jobs.events(owner, job.id) if event.kind == "state"]
    assert kinds == ["queued", "preparing", "failed"]
    assert front.desk.jobs.events(owner, job.id, after=job.last_seq) == []
    assert front.desk.jobs.logs(owner, job.id) == []
    with front.desk.store.read() as c:
        assert jobs.get(c, job.id) == job
