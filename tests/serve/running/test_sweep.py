"""Results go when their time has come, and not before."""

import pytest

from serve.running.sweep import sweep
from serve.store import catalogue, jobs
from swathe.errors import NotFoundError
from tests.serve.running.world import make_world


@pytest.fixture
def kept(tmp_path, scene):
    return make_world(tmp_path, scene, keep_days=3)


def test_only_what_has_expired_is_dropped(kept, dispatch):
    old, fresh = kept.submit(), kept.submit()
    dispatch(kept)
    kept.await_end(old, fresh)
    with kept.store.begin() as c:
        c.exec_driver_sql("UPDATE jobs SET ended = '2020-01-01T00:00:00.000Z' WHERE id = ?", (old,))
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
