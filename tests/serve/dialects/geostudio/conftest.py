"""The dialect over a real desk in this process; jobs are carried out by the plain loop where a test wants results."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest
import rasterio
from affine import Affine

from pipelines.runner import Loop
from serve.running.attempt import Hired, attempt
from serve.running.planner import Planner
from serve.store import jobs
from serve.store.jobs import Filter
from swathe.job import JobState
from tests.serve.api.conftest import House, Person, house_of, houses, served  # noqa: F401  fixtures


@dataclass
class Studio:
    """A service, and somebody who speaks this dialect to it."""

    house: House
    person: Person

    @property
    def client(self):
        """With a key in their form."""
        return self.house.client(**{"X-API-Key": "pak-" + self.person.key.removeprefix("swk-")})

    def plan(self):
        """What the service does in the background: wishes become jobs."""
        return Planner(self.house.desk.batches).turn()

    def work(self):
        """Plan, and carry out all that is queued, in this process."""
        self.plan()
        desk = self.house.desk
        with desk.store.read() as c:
            waiting = jobs.listed(c, Filter(state=(JobState.QUEUED,)), 1000).items
        for job in waiting:
            with desk.store.begin() as c:
                hold = jobs.take(c, job.id, "test", 60)
            assert hold is not None
            attempt(desk.settings, desk.store, hold, _loop)

    def share(self, path, name=None):
        """A file of ours, sent to where the service says; its download_url."""
        links = self.client.get(f"/v2/file-share?object_name={name or path.name}").json()
        assert self.house.client().put(links["upload_url"], content=path.read_bytes()).status_code == 200
        return links["download_url"]

    def infer(self, url, status=201, **more):
        """An inference by address; its record."""
        body = {"model_display_name": "water-ndwi", "spatial_domain": {"urls": [url]},
                "temporal_domain": ["2024-07-25"]} | more  # fmt: skip
        answer = self.client.post("/v2/inference", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path, status=200):
        """As JSON."""
        answer = self.client.get(f"/v2/{path}")
        assert answer.status_code == status, answer.text
        return answer.json()


@contextmanager
def _loop(card, held):
    yield Hired(Loop(), "loop")


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """A GeoTIFF of 64 x 96 pixels of 10 m with green and nir: reflectance, and its tags say so."""
    return write_image(tmp_path_factory.mktemp("images") / "scene.tif")


def write_image(path, *, scale=1e-4, names=("green", "nir"), side=(64, 96), seed=7, top=6000):
    """Random numbers, the same each time."""
    rng = np.random.default_rng(seed)
    form = {"driver": "GTiff", "width": side[1], "height": side[0], "count": len(names), "dtype": "uint16", "nodata": 0}
    grid = {"crs": "EPSG:32633", "transform": Affine(10, 0, 500_000, 0, -10, 5_600_000)}
    with rasterio.open(path, "w", **form, **grid) as file:
        if scale:
            file.scales = [scale] * len(names)
        for i, name in enumerate(names, 1):
            file.write(rng.integers(200, top, side, dtype="uint16"), i)
            if name:
                file.set_band_description(i, name)
    return path


@pytest.fixture(scope="module")
def house(houses):  # noqa: F811
    """One that tests of a module share: they meet as strangers."""
    return houses(front={"rate_per_minute": 10_000})


@pytest.fixture
def studio(house):
    """Somebody new."""
    return Studio(house, house.person())
