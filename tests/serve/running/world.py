"""A service without its API: settings, a store, a user, a scene; jobs are put into the queue directly."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from serve.settings import ServiceSettings
from serve.store import events, ids, jobs, users
from serve.store.store import Store, now
from swathe.job import ENDED, Job, JobState, Where, fold

SAME = ("result.tif", "features.parquet", "features.geojson")
"""Products whose bytes do not tell when they were made."""
PATIENCE_S = 90


@dataclass(frozen=True)
class World:
    """One of them."""

    settings: ServiceSettings
    store: Store
    user: str
    scene: Path

    def submit(self, where=Where.POOL, user=None, seconds=1.0, **asked) -> str:
        """Put a job into the queue; its id."""
        request = {"model": "water-ndwi", "inputs": [str(self.scene)], "chunk": 256} | asked
        moment = now()
        job = Job(ids.new("j"), user or self.user, request, request["model"], moment, moment, where=where,
                  cost={"seconds": seconds})  # fmt: skip
        with self.store.begin() as c:
            jobs.add(c, job, 1.0)
        return job.id

    def job(self, id_) -> Job:
        """As the store has it."""
        with self.store.read() as c:
            return jobs.get(c, id_)

    def events(self, id_):
        """All of them."""
        with self.store.read() as c:
            return events.of(c, id_, 0, 100_000)

    def await_end(self, *ids_, patience=PATIENCE_S, pause_s=0.05) -> list[Job]:
        """Until all have ended."""
        limit = time.monotonic() + patience
        while any(self.job(i).state not in ENDED for i in ids_):
            assert time.monotonic() < limit, [self.told(i) for i in ids_]
            time.sleep(pause_s)
        return [self.job(i) for i in ids_]

    def await_state(self, id_, *states) -> Job:
        """Until it is in one of these."""
        limit = time.monotonic() + PATIENCE_S
        while (job := self.job(id_)).state not in states:
            assert time.monotonic() < limit, self.told(id_)
            time.sleep(0.01)
        return job

    def told(self, id_):
        """All that is known, for whoever looks at a failure."""
        from serve.store import logs

        with self.store.read() as c:
            return self.job(id_), self.events(id_), logs.of(c, id_)

    def folder(self, id_) -> Path:
        """Of its results."""
        return Path(self.settings.folder_of(id_))

    def digest(self, id_) -> dict[str, str]:
        """Of its products."""
        return {name: hashlib.sha256((self.folder(id_) / name).read_bytes()).hexdigest() for name in SAME}


def make_world(folder: Path, scene: Path, database="", **limits) -> World:
    """``limits``: of ``configs/service.yaml``."""
    (folder / "service.yaml").write_text(yaml.safe_dump({"lease_s": 15.0, **limits}))
    settings = ServiceSettings.read(
        data_dir=folder / "data", service_config=folder / "service.yaml", local_roots=(scene.parent,),
        database_url=database,
    )  # fmt: skip
    store = settings.open_store()
    with store.begin() as c:
        user = users.add(c, "someone@example.org")
    return World(settings, store, user.id, scene)


def another_user(world: World, email="another@example.org") -> World:
    """The same service, used by somebody else."""
    with world.store.begin() as c:
        return replace(world, user=users.add(c, email).id)


def right_story(world: World, id_: str, state=JobState.DONE) -> None:
    """What must hold of every ended job, whatever was done to those who carried it out."""
    job, told = world.job(id_), world.events(id_)
    assert job.state is state, world.told(id_)
    assert fold(told) is state
    assert [e.seq for e in told] == list(range(1, len(told) + 1))
    ends = [e for e in told if e.kind == "state" and JobState(e.facts["state"]) in ENDED]
    assert len(ends) == 1
    assert told[-1] is ends[0]
    states = [e.facts["state"] for e in told if e.kind == "state"]
    assert len(states) == len(set(states))
    chunks = [e.facts["chunk"] for e in told if e.kind == "chunk" and e.facts["status"] != "failed"]
    assert len(chunks) == len(set(chunks))
    if state is JobState.DONE:
        cut = json.loads((world.folder(id_) / ".swathe" / "cut.json").read_text())
        assert sorted(chunks) == sorted(key for key, *_ in cut["chunks"])
        assert job.progress.share == 1.0
        assert job.progress.chunks == job.progress.of_chunks == len(chunks)
        assert job.result["files"] == {n: (world.folder(id_) / n).stat().st_size for n in job.result["files"]}
        assert {"result.tif", "item.json", "report.json"} <= set(job.result["files"])
