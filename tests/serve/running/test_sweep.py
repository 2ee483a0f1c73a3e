"""Results go when their time has come, and not before."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text, update

from pipelines.store.folder import FolderBlobs
from pipelines.store.scratch import scratch
from serve.desk.desk import Desk
from serve.desk.uploads import ARRIVING, Uploads
from serve.planning import cards_of
from serve.running import orphans
from serve.running import sweep as sweeping
from serve.running.sweep import sweep
from serve.settings import ServiceSettings
from serve.store import audit, batches, catalogue, ids, jobs, processors, tables, uploads, users
from serve.store.store import text_of
from swathe.errors import NotFoundError, OutputError
from swathe.job import JobState
from swathe.project import UploadState
from swathe.user import SCOPES_OF, Caller, Role


@pytest.fixture
def kept(world_of):
    return world_of(keep_days=3)


def test_only_what_has_expired_is_dropped(kept, dispatch):
    old, fresh = kept.submit(), kept.submit()
    dispatch(kept)
    kept.await_end(old, fresh)
    with kept.store.begin() as c:
        c.execute(text("UPDATE jobs SET ended = '2020-01-01T00:00:00.000Z' WHERE id = :id"), {"id": old})
    sweep(kept.settings, kept.store)
    with kept.store.read() as c:
        with pytest.raises(NotFoundError):
            jobs.get(c, old)
        assert jobs.get(c, fresh).result["files"]
    assert not kept.folder(old).exists()
    assert kept.folder(fresh).exists()
    with pytest.raises(NotFoundError):
        catalogue.item(kept.store, kept.settings.service_dir, "results-water-ndwi", old)
    assert catalogue.item(kept.store, kept.settings.service_dir, "results-water-ndwi", fresh)["id"] == fresh
    with kept.store.read() as c:
        assert [(e.subject, e.user) for e in audit.listed(c, 100).items if e.action == "job.expire"] == [(old, None)]


def test_what_its_user_removes_or_resumes_meanwhile_is_no_trouble(kept, monkeypatch, caplog):
    """Both were found to have expired a moment before."""
    gone, resumed = kept.submit(), kept.submit()
    with kept.store.begin() as c:
        for id_ in (gone, resumed):
            jobs.cancel(c, id_)
    found = [kept.job(gone), kept.job(resumed)]
    Desk(kept.settings, kept.store).jobs.clear(gone)
    with kept.store.begin() as c:
        jobs.resume(c, resumed)
    monkeypatch.setattr(sweeping, "expired", lambda *_: found)
    sweep(kept.settings, kept.store)
    assert kept.job(resumed).state is JobState.QUEUED
    assert "not removed" not in caplog.text
    with kept.store.read() as c:
        assert not [e for e in audit.listed(c, 100).items if e.action == "job.expire"]


def left(folder, name, days):
    """A folder of a job or an upload that did not change for so long."""
    path = folder / name / "parts" / "a.tif"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"bytes")
    at = time.time() - days * 86400
    for each in (path, path.parent, path.parent.parent):
        os.utime(each, (at, at))
    return folder / name


def test_files_whose_row_is_gone_go_after_a_day(world):
    top = Path(world.settings.place)
    with world.store.begin() as c:
        upload = uploads.add(c, world.user, "scene.tif")
    kept = [left(top / "jobs", world.submit(), 9), left(top / "uploads", upload.id, 9),
            left(top / "jobs", ids.new("j"), 0.5), left(top / "jobs", "something else", 9)]  # fmt: skip
    gone = [left(top / "jobs", ids.new("j"), 1.5), left(top / "uploads", ids.new("f"), 1.5)]
    sweep(world.settings, world.store)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)
    later = left(top / "jobs", ids.new("j"), 1.5)
    sweep(world.settings, world.store)
    assert later.exists()  # it is looked at once a day
    assert orphans.remove_orphans(world.settings, world.store) == 1


def test_what_another_database_knows_is_left_alone(world):
    """As after a restart with the address of the wrong one."""
    left(Path(world.settings.place) / "jobs", ids.new("j"), 9)
    assert orphans.remove_orphans(world.settings, world.store) == 0


SCRIPT = b"#" * 1000


def script(world, days=None):
    """A processor, deleted so many days ago, as the desk keeps it; its id."""
    id_ = ids.new("r")
    deleted = None if days is None else text_of(datetime.now(UTC) - timedelta(days=days))
    with world.store.begin() as c:
        processors.add(c, world.user, id=id_, name="a", description="", file="a.py", call="", parameters={},
                       size=len(SCRIPT), sha256="", labels={}, deleted=deleted)  # fmt: skip
    world.settings.blobs(f"processors/{id_}").put("script.py", SCRIPT)
    return id_


def scripts(world):
    return {blob.name.partition("/")[0] for blob in world.settings.blobs("processors").list()}


def stored(world):
    with world.store.read() as c:
        return uploads.stored_bytes(c, world.user)


def test_a_deleted_script_counts_until_it_goes_and_then_is_gone(world):
    own, fresh, old = script(world), script(world, 0.5), script(world, 1.5)
    assert stored(world) == 3 * len(SCRIPT)
    assert orphans.remove_orphans(world.settings, world.store) == 1
    assert scripts(world) == {own, fresh}
    assert stored(world) == 2 * len(SCRIPT)
    assert not (Path(world.settings.place) / "processors" / old).exists()
    assert orphans.remove_orphans(world.settings, world.store) == 0


def test_a_deleted_script_stays_as_long_as_something_accepted_may_run_it(world):
    named = [script(world, 9) for _ in range(5)]
    wishes = [{"processor": {"id": id_}} for id_ in named]
    waits, stopped, done = (world.submit(**wish) for wish in wishes[:3])
    with world.store.begin() as c:
        batch = batches.add(c, world.user, wishes[3:])
        batches.settle(c, batch.id, 1, problem={"code": "no"})
        jobs.cancel(c, stopped)
        hold = jobs.take(c, done, "a", 60)
        jobs.enter(c, hold, JobState.RUNNING)
        jobs.finish(c, hold, JobState.DONE, {}, 0)
    assert orphans.remove_orphans(world.settings, world.store) == 2
    assert scripts(world) == {named[0], named[1], named[3]}  # queued, to be resumed, in a wish that waits
    with world.store.begin() as c:
        jobs.drop(c, stopped)
        jobs.cancel(c, waits)
        batches.cancel(c, batch.id, {"code": "no"})
    assert orphans.remove_orphans(world.settings, world.store) == 2
    assert scripts(world) == {named[0]}


def test_a_script_whose_row_never_came_to_be_goes_after_a_day(world):
    script(world)
    lost, fresh = (left(Path(world.settings.place) / "processors", ids.new("r"), days) for days in (1.5, 0.5))
    assert orphans.remove_orphans(world.settings, world.store) == 1
    assert not lost.exists()
    assert fresh.exists()


def test_in_object_storage_too(world, monkeypatch):
    bucket = world.folder("x").parent.parent / "bucket"
    monkeypatch.setattr(ServiceSettings, "place", "s3://bucket/maps")
    monkeypatch.setattr(ServiceSettings, "blobs", lambda _, prefix: FolderBlobs(bucket).below(prefix))
    kept, fresh, gone = world.submit(), ids.new("j"), ids.new("j")
    for name, days in ((kept, 9), (fresh, 0), (gone, 2)):
        left(bucket / "jobs", name, days)
    script(world, 2)
    assert orphans.remove_orphans(world.settings, world.store) == 2
    assert sorted(blob.name for blob in FolderBlobs(bucket).list()) == sorted(
        f"jobs/{name}/parts/a.tif" for name in (kept, fresh)
    )


def test_what_a_killed_process_left_of_an_upload_is_swept(kept):
    root = kept.settings.service_dir / "scratch"
    with scratch(root) as alive:
        dead = root / "1-dead"
        dead.mkdir()
        (dead / "scene.tif").write_bytes(bytes(100))
        for folder in (alive, dead):
            (folder / ".lock").touch()
            os.utime(folder / ".lock", (1, 1))
        sweep(kept.settings, kept.store)
        assert [path.name for path in root.iterdir()] == [alive.name]


def test_uploads_that_never_came_go_after_a_day(world, monkeypatch, caplog):
    """With what was written to their signed addresses, which counts in no quota."""
    desk = Desk(world.settings, world.store)
    with world.store.begin() as c:
        late, stuck, fresh, ready = (uploads.add(c, world.user, "scene.tif").id for _ in range(4))
        uploads.settle(c, ready, UploadState.READY, 5, "", {})
        for days, some in ((1.1, (late, stuck, ready)), (0.9, (fresh,))):
            at = text_of(datetime.now(UTC) - timedelta(days=days))
            c.execute(update(tables.uploads).where(tables.uploads.c.id.in_(some)).values(created=at))
    for id_ in (late, stuck, fresh, ready):
        world.settings.blobs(f"uploads/{id_}").put(ARRIVING, b"bytes")
    expire = Uploads.expire

    def troubled(self, id_):
        if id_ == stuck:
            raise OutputError("no storage", code="output.unavailable")
        expire(self, id_)

    with monkeypatch.context() as trouble:
        trouble.setattr(Uploads, "expire", troubled)
        sweep(world.settings, world.store)
    lying = {blob.name for blob in world.settings.blobs("uploads").list()}
    assert lying == {f"{id_}/{ARRIVING}" for id_ in (stuck, fresh, ready)}
    assert "not removed" in caplog.text
    sweep(world.settings, world.store)
    with world.store.read() as c:
        assert uploads.known(c, [late, stuck, fresh, ready]) == {fresh, ready}
        told = {(e.subject, e.user) for e in audit.listed(c, 100).items if e.action == "upload.expire"}
        caller = Caller(users.get(c, world.user), SCOPES_OF[Role.MEMBER])
    assert told == {(late, None), (stuck, None)}
    with pytest.raises(NotFoundError) as caught:
        desk.uploads.write(caller, late, [b"bytes"])
    assert caught.value.problem.code == "upload.unknown"


def test_models_that_no_card_names_go_after_their_days(world):
    """Those of shipped cards stay, whether they are on or not."""
    (_, shipped), *_ = sorted(
        (id_, c) for id_, c in cards_of(world.settings).cards.items() if c.weights and c.weights.sha256
    )
    folders = {name: world.settings.home.cache / "weights" / name for name in (shipped.weights.sha256, "0" * 64)}
    for folder in folders.values():
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))
    assert orphans.remove_models(world.settings, world.store) == 1
    assert [folder.exists() for folder in folders.values()] == [True, False]
