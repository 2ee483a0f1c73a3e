"""What tasks and records say of a job however it went, and that both say the same."""

import pytest

from serve.dialects.geostudio.ids import id_of, uuid_of
from serve.store import ids, jobs, processors
from swathe.job import JobState
from swathe.user import SCOPES_OF, Caller, Role

COUNTED = {"tasks_count_success": ("FINISHED",), "tasks_count_failed": ("FAILED",), "tasks_count_stopped": ("STOPPED",),
           "tasks_count_waiting": ("WAITING", "READY")}  # fmt: skip
STAGES = (JobState.PREPARING, JobState.RUNNING, JobState.FINISHING)
PROBLEM = {"code": "internal", "detail": "it broke"}


class Carried:
    """The one job of an inference, led along its way as attempts do it."""

    def __init__(self, studio, image, **wish):
        self.studio = studio
        self.made = studio.infer(studio.share(image), **wish)
        studio.plan()
        _, parts = studio.house.desk.batches.get(caller(studio), id_of(self.made["id"], "b"))
        self.job = parts[0].job.id
        self.begin()

    def begin(self):
        with self.studio.house.desk.store.begin() as c:
            self.hold = jobs.take(c, self.job, "test", 60)

    def to(self, *states):
        for state in states:
            with self.studio.house.desk.store.begin() as c:
                jobs.enter(c, self.hold, state)
        return self

    def step(self, name, state, **more):
        times = {} if state == "waiting" else {"started": "2026-01-01T00:00:01.000Z"}
        if state == "finished":
            times["ended"] = more.pop("ended", "2099-01-01T00:00:02.000Z")
        with self.studio.house.desk.store.begin() as c:
            jobs.note(c, self.hold, "step", name=name, state=state, **times)
        return self

    def end(self, state, problem=None):
        with self.studio.house.desk.store.begin() as c:
            jobs.finish(c, self.hold, state, {}, 0, problem)
        return self

    def steps(self):
        """Name -> step; the record has to count the same."""
        tasks = self.studio.get(f"inference/{self.made['id']}/tasks")["tasks"]
        told = [step["status"] for task in tasks for step in task["pipeline_steps"]]
        listed = self.studio.get("inference?limit=1")["results"][0]
        for record in (self.studio.get(f"inference/{self.made['id']}"), listed):
            assert record["tasks_count_total"] == len(told)
            assert {name: record[name] for name in COUNTED} == {
                name: sum(status in kinds for status in told) for name, kinds in COUNTED.items()
            }
        return {step["process_id"]: step for step in tasks[1]["pipeline_steps"]}

    def states(self):
        return [step["status"] for step in self.steps().values()]


def caller(studio):
    return Caller(studio.person.user, SCOPES_OF[studio.person.user.role])


MASKED = {"post_processing": {"ocean_masking": True}}


@pytest.mark.parametrize(
    ("passed", "end", "states"),
    [
        (0, JobState.FAILED, "FAILED STOPPED STOPPED STOPPED"), (1, JobState.FAILED, "FAILED STOPPED STOPPED STOPPED"),
        (2, JobState.FAILED, "FINISHED FAILED STOPPED STOPPED"),
        (3, JobState.FAILED, "FINISHED FINISHED FAILED STOPPED"),
        (0, JobState.CANCELLED, "STOPPED STOPPED STOPPED STOPPED"),
        (2, JobState.CANCELLED, "FINISHED STOPPED STOPPED STOPPED"),
        (3, JobState.CANCELLED, "FINISHED FINISHED STOPPED STOPPED"),
        (1, None, "RUNNING WAITING WAITING WAITING"), (2, None, "FINISHED RUNNING WAITING WAITING"),
        (3, None, "FINISHED FINISHED RUNNING WAITING"),
    ],
)  # fmt: skip
def test_however_far_a_job_came(studio, image, passed, end, states):
    """Steps: url-connector, run-inference, postprocess-generic, push-to-geoserver."""
    found = Carried(studio, image, **MASKED).step("mask", "waiting").to(*STAGES[:passed])
    if end:
        found.end(end, PROBLEM if end is JobState.FAILED else None)
    assert found.states() == states.split()


def test_the_publication_begins_when_the_last_treatment_has_ended(studio, image):
    found = Carried(studio, image, **MASKED).step("mask", "waiting").step("regularise", "waiting").to(*STAGES)
    assert found.step("mask", "running").states() == ["FINISHED", "FINISHED", "RUNNING", "WAITING"]
    found.step("mask", "finished")
    assert found.step("regularise", "running").states() == ["FINISHED", "FINISHED", "RUNNING", "WAITING"]
    steps = found.step("regularise", "finished", ended="2099-01-01T00:00:09.000Z").steps()
    assert (steps["postprocess-generic"]["status"], steps["push-to-geoserver"]["status"]) == ("FINISHED", "RUNNING")
    assert steps["push-to-geoserver"]["start_time"] == steps["postprocess-generic"]["end_time"] == "2099-01-01T00:00:09"


def test_a_treatment_that_was_cut_off_has_ended_with_its_job(studio, image):
    found = Carried(studio, image, **MASKED).step("mask", "waiting").to(*STAGES).step("mask", "running")
    found.end(JobState.FAILED, PROBLEM)
    steps = found.steps()
    assert [step["status"] for step in steps.values()] == ["FINISHED", "FINISHED", "FAILED", "STOPPED"]
    assert steps["postprocess-generic"]["end_time"]


def test_thousands_of_chunks_hide_no_step(studio, image):
    found = Carried(studio, image)
    with studio.house.desk.store.begin() as c:
        for n in range(2100):
            jobs.note(c, found.hold, "chunk", chunk=f"c{n:05d}", status="done")
    found.to(*STAGES).end(JobState.FAILED, PROBLEM)
    assert found.states() == ["FINISHED", "FINISHED", "FAILED"]
    task = f"{found.made['id']}-task_0"
    assert studio.get(f"tasks/{task}/logs/push-to-geoserver")["status"] == "FAILED"
    answer = studio.client.get(f"/v2/notifications/{found.made['id']}", headers={"Accept": "application/json"}).json()
    assert answer["results"][-1]["detail"]["error"].endswith("it broke")


def test_a_task_that_cannot_be_planned_failed_in_its_first_step(studio):
    made = studio.infer("https://swathe.invalid/x.tif")
    studio.plan()
    record = studio.get(f"inference/{made['id']}")
    assert (record["status"], record["tasks_count_failed"], record["tasks_count_stopped"]) == ("FAILED", 2, 2)
    first, *rest = studio.get(f"inference/{made['id']}/tasks")["tasks"][1]["pipeline_steps"]
    assert (first["status"], {step["status"] for step in rest}) == ("FAILED", {"STOPPED"})
    assert first["start_time"]
    log = studio.get(f"tasks/{made['id']}-task_0/logs/url-connector")
    assert "1006" in studio.house.client().get(log["step_log_url"]).text


def test_the_maker_of_a_program_is_named_whoever_looks(studio):
    """Put into the store by hand: a machine that cannot shut a program in takes none."""
    owner = studio.person.user

    def added(**labels):
        with studio.house.desk.store.begin() as c:
            return processors.add(c, owner.id, id=ids.new("r"), name="turn", description="", file="turn.py", size=1,
                                  call="", parameters={}, labels=labels, sha256="0" * 64).id  # fmt: skip

    said, unsaid = (uuid_of(id_) for id_ in (added(created_by=owner.email), added()))
    admin = studio.house.client(studio.house.person(Role.ADMIN))
    listed = {one["id"]: one["created_by"] for one in admin.get("/v2/generic-processor?limit=1000").json()["results"]}
    assert (listed[said], listed[unsaid]) == (owner.email, owner.id)
    mine = {one["id"]: one["created_by"] for one in studio.get("generic-processor")["results"]}
    assert mine == {said: owner.email, unsaid: owner.email}
