"""Batches: accepted at once, planned one by one, each wish settled exactly once."""

import threading

import pytest

from serve.desk.asking import Asking, HookAsked
from serve.running.planner import Planner
from serve.store import batches as stored
from serve.store import hooks, jobs
from swathe.errors import (
    BusyError,
    ClusterError,
    ConflictError,
    InputError,
    LimitError,
    NotFoundError,
    OutputError,
    ReadError,
)
from swathe.job import JobState
from swathe.user import Role


def wish(path, **more):
    return Asking(model="water-ndwi", inputs=(str(path),), **more)


@pytest.fixture
def front(front_of, open_root):
    """A desk of its own: whoever plans sees the batches of everybody."""
    return front_of(local_roots=(open_root,))


@pytest.fixture
def good(open_root):
    return open_root / "scene.tif"


def test_every_wish_becomes_a_job_or_a_reason(front, good):
    ada = front.person()
    wishes = [wish(good, title="one"), wish(good.parent / "gone.tif"), wish(good)]
    batch = front.desk.batches.submit(ada, wishes, "three", {"kind": "test"})
    _, parts = front.desk.batches.get(ada, batch.id)
    assert [(p.number, p.settled, p.job) for p in parts] == [(0, None, None), (1, None, None), (2, None, None)]
    assert Planner(front.desk.batches).turn() == 3
    _, parts = front.desk.batches.get(ada, batch.id)
    assert [p.job.state if p.job else None for p in parts] == [JobState.QUEUED, None, JobState.QUEUED]
    assert parts[1].problem["code"].startswith(("imagery", "url", "read"))
    assert parts[0].job.title == "one"
    assert Planner(front.desk.batches).turn() == 0


def test_a_full_queue_makes_wishes_wait(front, good):
    ada = front.person(queued_jobs=2)
    batch = front.desk.batches.submit(ada, [wish(good)] * 3)
    planner = Planner(front.desk.batches)
    assert planner.turn() == 2
    with pytest.raises(BusyError):
        front.desk.batches.plan_next(batch)
    _, parts = front.desk.batches.get(ada, batch.id)
    front.desk.jobs.cancel(ada, parts[0].job.id)
    assert planner.turn() == 1
    assert all(p.job for p in front.desk.batches.get(ada, batch.id)[1])


def test_nobody_waits_for_a_queue_that_is_somebody_else_s(front, good):
    """However many batches of one user cannot go on: more than the planner looks at in one go."""
    ada, bob = front.person(queued_jobs=1), front.person()
    for _ in range(70):
        front.desk.batches.submit(ada, [wish(good)])
    batch = front.desk.batches.submit(bob, [wish(good)])
    assert Planner(front.desk.batches).turn() == 2
    assert front.desk.batches.get(bob, batch.id)[1][0].job.state is JobState.QUEUED


def test_users_take_turns(front, good):
    ada, bob = front.person(), front.person()
    mine = [front.desk.batches.submit(ada, [wish(good)]).id for _ in range(3)]
    his = [front.desk.batches.submit(bob, [wish(good)]).id for _ in range(2)]
    found = [batch.id for batch in front.desk.batches.waiting(10)]
    assert found == [mine[0], his[0], mine[1], his[1], mine[2]]
    assert [batch.id for batch in front.desk.batches.waiting(2)] == [mine[0], his[0]]
    assert [batch.id for batch in front.desk.batches.waiting(10, {ada.user.id})] == his


def test_cancelled_before_and_after_it_is_planned(front, good):
    ada = front.person()
    batch = front.desk.batches.submit(ada, [wish(good)] * 2)
    front.desk.batches.plan_next(batch)
    made, parts = front.desk.batches.cancel(ada, batch.id)
    assert made.cancelled
    assert parts[0].job.state is JobState.CANCELLED
    assert parts[1].problem["code"] == "batch.cancelled"
    assert not front.desk.batches.plan_next(batch)
    again, _ = front.desk.batches.cancel(ada, batch.id)
    assert again.cancelled


def test_a_wish_that_is_stopped_while_it_is_planned_leaves_no_job(front, good, monkeypatch):
    """The job and the note of it stand or fall together."""
    ada = front.person()
    batch = front.desk.batches.submit(ada, [wish(good)])
    plan = front.desk.jobs._planned

    def slowly(*given):
        front.desk.batches.cancel(ada, batch.id)
        return plan(*given)

    monkeypatch.setattr(front.desk.jobs, "_planned", slowly)
    assert front.desk.batches.plan_next(batch)
    assert front.desk.jobs.listed(ada).items == ()
    with pytest.raises(ConflictError), front.desk.store.begin() as c:
        stored.settle(c, batch.id, 0)


def test_a_fault_of_ours_settles_its_wish_and_keeps_nobody_waiting(front, good, monkeypatch, caplog):
    ada = front.person()
    batch = front.desk.batches.submit(ada, [wish(good)] * 2)
    plan, calls = front.desk.jobs._planned, []

    def once(*given):
        calls.append(given)
        if len(calls) == 1:
            raise OverflowError("date value out of range")
        return plan(*given)

    monkeypatch.setattr(front.desk.jobs, "_planned", once)
    assert Planner(front.desk.batches).turn() == 2
    _, parts = front.desk.batches.get(ada, batch.id)
    assert (parts[0].problem["code"], parts[1].job.state) == ("internal", JobState.QUEUED)
    assert "OverflowError" in parts[0].problem["detail"]
    assert "date value out of range" in caplog.text  # for us; not for users
    assert "out of range" not in str(parts[0].problem)


FULL = OutputError("no room in /srv/secret", code="output.full")


def meeting(front, monkeypatch, troubles):
    """Planning what is called "one" meets these, one after another; how often it was tried, as a list."""
    plan, tried = front.desk.jobs._planned, []

    def planned(caller, asking, *more):
        if asking.title == "one":
            tried.append(asking)
            if len(tried) <= len(troubles):
                raise troubles[len(tried) - 1]
        return plan(caller, asking, *more)

    monkeypatch.setattr("serve.passing._FIRST_WAIT_S", 60.0)
    monkeypatch.setattr(front.desk.jobs, "_planned", planned)
    return tried


def wait(front):
    """Until whatever is to be tried again is tried."""
    with front.desk.store.begin() as c:
        c.exec_driver_sql("UPDATE wishes SET not_before = 0")


@pytest.mark.parametrize("trouble", [ReadError("down", code="read.lost"), FULL, ClusterError("lost")])
def test_a_wish_that_meets_what_passes_waits_and_keeps_nobody_waiting(front, good, monkeypatch, trouble):
    ada, planner = front.person(), Planner(front.desk.batches)
    tried = meeting(front, monkeypatch, [trouble] * 2)
    batch = front.desk.batches.submit(ada, [wish(good, title="one"), wish(good)])
    assert (planner.turn(), len(tried)) == (2, 1)
    one, other = front.desk.batches.get(ada, batch.id)[1]
    assert (one.settled, one.problem, other.job.state) == (None, None, JobState.QUEUED)
    assert (planner.turn(), len(tried)) == (0, 1)  # it is not yet time
    wait(front)
    assert (planner.turn(), len(tried)) == (1, 2)
    wait(front)
    assert (planner.turn(), len(tried)) == (1, 3)
    assert front.desk.batches.get(ada, batch.id)[1][0].job.state is JobState.QUEUED


def test_a_wish_is_given_up_as_a_job_is(front, good, monkeypatch):
    ada, planner, most = front.person(), Planner(front.desk.batches), front.desk.settings.limits.max_attempts
    tried = meeting(front, monkeypatch, [FULL] * 99)
    batch = front.desk.batches.submit(ada, [wish(good, title="one")])
    for _ in range(most):
        assert front.desk.batches.get(ada, batch.id)[1][0].settled is None
        assert planner.turn() == 1
        wait(front)
    assert planner.turn() == 0
    (part,) = front.desk.batches.get(ada, batch.id)[1]
    assert (part.job, part.problem["code"], len(tried)) == (None, "output.full", most)
    assert "secret" not in str(part.problem)


def test_what_was_not_tried_yet_goes_ahead_of_what_met_trouble(front, good, monkeypatch):
    ada = front.person()
    tried = meeting(front, monkeypatch, [ReadError("down", code="read.lost")])
    batch = front.desk.batches.submit(ada, [wish(good, title="one"), *[wish(good)] * 2])
    for _ in range(3):
        front.desk.batches.plan_next(batch)
        wait(front)
    assert [bool(part.job) for part in front.desk.batches.get(ada, batch.id)[1]] == [False, True, True]
    assert len(tried) == 1
    assert front.desk.batches.plan_next(batch)
    assert front.desk.batches.get(ada, batch.id)[1][0].job


def test_two_planners_make_one_job(front, good):
    ada = front.person()
    batch = front.desk.batches.submit(ada, [wish(good)])
    threads = [threading.Thread(target=front.desk.batches.plan_next, args=(batch,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(front.desk.jobs.listed(ada).items) == 1


def test_others_do_not_see_it(front, good):
    ada, bob, admin = front.person(), front.person(), front.person(Role.ADMIN)
    batch = front.desk.batches.submit(ada, [wish(good)])
    for call in (front.desk.batches.get, front.desk.batches.cancel, front.desk.batches.drop):
        with pytest.raises(NotFoundError):
            call(bob, batch.id)
    assert front.desk.batches.get(admin, batch.id)[0] == batch
    assert front.desk.batches.listed(bob).total == 0


def test_listed_by_labels_newest_first(front, good):
    ada = front.person()
    made = [front.desk.batches.submit(ada, [wish(good)], labels={"n": str(n % 2), "kept": n > 2}) for n in range(4)]
    found = front.desk.batches.listed(ada, {"n": "1"})
    assert [b.id for b, _ in found.batches] == [made[3].id, made[1].id]
    assert found.total == 2
    assert [b.id for b, _ in front.desk.batches.listed(ada, {"kept": True}).batches] == [made[3].id]
    assert [b.id for b, _ in front.desk.batches.listed(ada, limit=2, skip=1).batches] == [made[2].id, made[1].id]
    assert front.desk.batches.label(ada, made[0].id, {"n": "7"}).labels == {"n": "7"}


def test_dropped_with_its_jobs(front, good):
    ada = front.person()
    batch = front.desk.batches.submit(ada, [wish(good)])
    front.desk.batches.plan_next(batch)
    job = front.desk.batches.get(ada, batch.id)[1][0].job
    front.desk.batches.drop(ada, batch.id)
    with pytest.raises(NotFoundError):
        front.desk.batches.get(ada, batch.id)
    with pytest.raises(NotFoundError):
        front.desk.jobs.get(ada, job.id)


def test_dropped_while_it_runs_it_goes_when_its_jobs_have_stopped(front, good):
    ada = front.person()
    batch = front.desk.batches.submit(ada, [wish(good)] * 2, labels={"n": "1"})
    planner = Planner(front.desk.batches)
    planner.turn()
    first, second = (part.job.id for part in front.desk.batches.get(ada, batch.id)[1])
    with front.desk.store.begin() as c:
        hold = jobs.take(c, first, "test", 60)
        jobs.enter(c, hold, JobState.RUNNING)
    folder = front.desk.settings.service_dir / "jobs" / first
    (folder / ".swathe").mkdir(parents=True)
    (folder / ".swathe" / "events.jsonl").write_text("{}")
    front.desk.batches.drop(ada, batch.id)
    for call in (front.desk.batches.get, front.desk.batches.cancel, front.desk.batches.drop):
        with pytest.raises(NotFoundError):
            call(ada, batch.id)
    assert front.desk.batches.listed(ada, {"n": "1"}).total == 0
    with pytest.raises(NotFoundError):
        front.desk.jobs.get(ada, second)
    planner.turn()  # it has not stopped yet
    assert front.desk.jobs.get(ada, first).cancelling
    assert folder.exists()
    with front.desk.store.begin() as c:
        jobs.finish(c, hold, JobState.CANCELLED, {}, 0)
    planner.turn()
    with pytest.raises(NotFoundError):
        front.desk.jobs.get(ada, first)
    assert not folder.exists()
    with front.desk.store.read() as c:
        assert c.exec_driver_sql("SELECT count(*) FROM batches").scalar_one() == 0


def test_of_jobs_of_many_chunks_what_counts_is_told(front, good):
    ada = front.person()
    batch = front.desk.batches.submit(ada, [wish(good)])
    front.desk.batches.plan_next(batch)
    _, parts = front.desk.batches.get(ada, batch.id)
    with front.desk.store.begin() as c:
        hold = jobs.take(c, parts[0].job.id, "test", 60)
        jobs.enter(c, hold, JobState.RUNNING)
        for n in range(1200):
            jobs.note(c, hold, "chunk", chunk=f"c{n}", status="done")
        jobs.note(c, hold, "step", name="mask", state="waiting")
        jobs.enter(c, hold, JobState.FINISHING)
    told = [event.facts.get("state") for _, event in front.desk.batches.events(ada, batch.id)]
    assert told == ["queued", "running", "waiting", "finishing"]
    assert [e.facts["state"] for e in front.desk.batches.milestones(parts)[0]] == told
    last = front.desk.jobs.get(ada, parts[0].job.id).last_seq
    assert front.desk.batches.events(ada, batch.id, {0: last}) == []
    assert len(front.desk.batches.events(ada, batch.id, {0: last - 1})) == 1


def test_events_come_with_their_part(front, good):
    ada = front.person()
    batch = front.desk.batches.submit(ada, [wish(good)] * 2)
    Planner(front.desk.batches).turn()
    front.desk.batches.cancel(ada, batch.id)
    found = front.desk.batches.events(ada, batch.id)
    assert {(n, e.facts["state"]) for n, e in found} == {(n, s) for n in (0, 1) for s in ("queued", "cancelled")}
    assert [e.at for _, e in found] == sorted(e.at for _, e in found)
    assert [(n, e.facts["state"]) for n, e in front.desk.batches.events(ada, batch.id, {0: 1, 1: 2})] == [
        (0, "cancelled")
    ]


def test_too_many_or_too_much(front, good):
    ada = front.person()
    with pytest.raises(LimitError) as refused:
        front.desk.batches.submit(ada, [wish(good)] * 1001)
    assert refused.value.problem.code == "limit.wishes"
    with pytest.raises(LimitError) as refused:
        front.desk.batches.submit(ada, [wish(good)], labels={"x": "y" * (1 << 20)})
    assert refused.value.problem.code == "limit.labels"


def test_a_hook_whose_secret_would_be_lost_is_refused(front, good):
    """Its calls would be signed with nothing, and nobody would be told."""
    ada, url = front.person(), "https://hooks.example.org/a"
    signed, plain = (wish(good, hook=HookAsked(url=url, secret=secret)) for secret in ("s3cret", ""))
    with pytest.raises(InputError) as refused:
        front.desk.batches.submit(ada, [wish(good), signed])
    assert (refused.value.problem.code, refused.value.problem.field) == ("batch.secret", "hook.secret")
    assert front.desk.batches.listed(ada).total == 0
    batch = front.desk.batches.submit(ada, [plain])
    front.desk.batches.plan_next(batch)
    (part,) = front.desk.batches.get(ada, batch.id)[1]
    with front.desk.store.read() as c:
        (hook,) = hooks.of_job(c, part.job.id)
    assert (hook.url, hook.secret) == (url, "")
