"""Results go when their time has come, and not before."""

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from pipelines.store.folder import FolderBlobs
from serve.running import orphans
from serve.running.sweep import sweep
from serve.settings import ServiceSettings
from serve.store import catalogue, ids, jobs, uploads
from swathe.errors import NotFoundError


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


def test_in_object_storage_too(world, monkeypatch):
    bucket = world.folder("x").parent.parent / "bucket"
    monkeypatch.setattr(ServiceSettings, "place", "s3://bucket/maps")
    monkeypatch.setattr(ServiceSettings, "blobs", lambda _, prefix: FolderBlobs(bucket).below(prefix))
    kept, fresh, gone = world.submit(), ids.new("j"), ids.new("j")
    for name, days in ((kept, 9), (fresh, 0), (gone, 2)):
        left(bucket / "jobs", name, days)
    assert orphans.remove_orphans(world.settings, world.store) == 1
    assert sorted(blob.name for blob in FolderBlobs(bucket).list()) == sorted(
        f"jobs/{name}/parts/a.tif" for name in (kept, fresh)
    )
