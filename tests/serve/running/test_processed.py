"""A job whose last step is a user's script: told, failed, resumed; its chunks are done once."""

import pytest

from pipelines.sandbox.isolation import Isolation, isolation
from serve.desk.processors import Processors
from serve.store import jobs, users
from swathe.job import JobState
from swathe.step import StepState, fold
from swathe.user import SCOPES_OF, Caller, Role

SCRIPT = b'import shutil, sys\nif __name__ == "__main__":\n    shutil.copy(sys.argv[1], sys.argv[2])\n'
pytestmark = pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")


def test_a_step_that_fails_is_tried_again_and_nothing_else(world, dispatch, monkeypatch):
    with world.store.read() as c:
        caller = Caller(users.get(c, world.user), SCOPES_OF[Role.ADMIN])
    made = Processors(world.settings, world.store).add(caller, "copy.py", SCRIPT)
    aoi = [15.0, 41.53, 15.02, 41.55]
    with monkeypatch.context() as broken:
        none = Isolation("none", None, "bubblewrap is gone")
        broken.setattr("pipelines.steps.processor.isolation", lambda: none)
        dispatch(world)
        id_ = world.submit(processor={"id": made.id}, aoi=aoi)
        (job,) = world.await_end(id_)
    assert job.state is JobState.INCOMPLETE, world.told(id_)
    assert job.problem["code"] == "processor.isolation"
    assert {"result.tif", "processor.log", "item.json"} <= set(job.result["files"])
    assert job.result["steps"][0]["state"] == "failed"
    assert job.result["published"] == "result.tif"
    (step,) = fold(world.events(id_))
    assert (step.state, step.problem["code"]) == (StepState.FAILED, "processor.isolation")

    chunks = sum(e.kind == "chunk" for e in world.events(id_))
    with world.store.begin() as c:
        jobs.resume(c, id_)
    (job,) = world.await_end(id_)
    assert job.state is JobState.DONE, world.told(id_)
    assert job.problem is None
    assert {"processed.tif", "processor.log"} <= set(job.result["files"])
    assert job.result["published"] == "processed.tif"
    (step,) = fold(world.events(id_))
    assert (step.state, step.detail["id"]) == (StepState.FINISHED, made.id)
    assert sum(e.kind == "chunk" for e in world.events(id_)) == chunks
