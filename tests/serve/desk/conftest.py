"""A desk on a real store and real files, and people of every kind in front of it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import rasterio
from affine import Affine

from serve.desk.desk import Desk
from serve.settings import ServiceSettings
from serve.store import ids, jobs, users
from serve.store.store import now
from swathe.job import Job, JobState
from swathe.user import SCOPES_OF, Caller, Role

_numbers = itertools.count()


@dataclass
class Front:
    """A desk, and what tests do in front of it."""

    desk: Desk

    def person(self, role=Role.MEMBER, **quota):
        """Somebody new, with all that their role allows."""
        with self.desk.store.begin() as c:
            user = users.add(c, f"p{next(_numbers)}@example.org", role)
            if quota:
                user = users.change(c, user.id, quota=replace(user.quota, **quota))
        return Caller(user, SCOPES_OF[role])

    def job(self, owner, state=JobState.QUEUED, **more):
        """A job as the store has it, brought to a state the way attempts do it."""
        made = Job(ids.new("j"), owner.user.id, {"model": "water-ndwi", "inputs": ["https://a.example/x.tif"]},
                   "water-ndwi", now(), now())  # fmt: skip
        result = more.pop("result", {})
        with self.desk.store.begin() as c:
            jobs.add(c, replace(made, **more), 1.0)
            if state is not JobState.QUEUED:
                hold = jobs.take(c, made.id, "test", 60)
                jobs.enter(c, hold, JobState.PREPARING)
                if state in {JobState.DONE, JobState.FAILED, JobState.INCOMPLETE, JobState.CANCELLED}:
                    jobs.finish(c, hold, state, result, sum(result.get("files", {}).values()))
                elif state is not JobState.PREPARING:
                    jobs.enter(c, hold, state)
            return jobs.get(c, made.id)

    def left(self, owner, files, **more):
        """A job that is done and left these files (name -> bytes)."""
        made = self.job(owner, JobState.DONE, result={"files": {n: len(b) for n, b in files.items()}}, **more)
        folder = self.desk.settings.service_dir / "jobs" / made.id
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        return made


@pytest.fixture(scope="session")
def open_root(tmp_path_factory, image):
    """A folder of this machine that a service may read, with one image in it."""
    root = tmp_path_factory.mktemp("open")
    (root / "scene.tif").write_bytes(image().read_bytes())
    return root


@pytest.fixture(scope="session")
def hall(tmp_path_factory, open_root, new_database):
    """One with the shipped limits for all tests that look at things of their own alone."""
    folder = tmp_path_factory.mktemp("hall")
    settings = ServiceSettings.read(data_dir=folder, local_roots=(open_root,), database_url=new_database())
    store = settings.open_store()
    yield Front(Desk(settings, store))
    store.close()


@pytest.fixture
def front_of(tmp_path, new_database):
    """``front_of(**settings)``: a desk; those of one test share their folder and database."""
    opened, url = [], new_database()

    def make(**given):
        settings = ServiceSettings.read(data_dir=tmp_path / "data", database_url=url, **given)
        opened.append(settings.open_store())
        return Front(Desk(settings, opened[-1]))

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def front(front_of):
    """One with the limits that are shipped."""
    return front_of()


@pytest.fixture
def limited(front_of, tmp_path):
    """``limited(queued_per_user=1)``: one with other limits."""

    def make(**limits):
        (tmp_path / "limits.yaml").write_text("".join(f"{name}: {value}\n" for name, value in limits.items()))
        return front_of(service_config=tmp_path / "limits.yaml")

    return make


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """``image(name, bands=2)``: a GeoTIFF of 64 x 96 pixels of 10 m, reflectance times 10 000."""
    folder = tmp_path_factory.mktemp("images")

    def make(name="scene.tif", bands=("green", "nir"), crs="EPSG:32633", side=(64, 96)):
        path = folder / name
        rng = np.random.default_rng(7)
        with rasterio.open(path, "w", driver="GTiff", width=side[1], height=side[0], count=len(bands), dtype="uint16",
                           crs=crs, transform=Affine(10, 0, 500_000, 0, -10, 5_600_000), nodata=0) as file:  # fmt: skip
            file.scales = [1e-4] * len(bands)
            for i, band in enumerate(bands, 1):
                file.write(rng.integers(200, 6000, side, dtype="uint16"), i)
                file.set_band_description(i, band)
        return path

    return make
