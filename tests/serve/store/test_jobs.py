"""Jobs of the store: their states, their holders, their events, on both databases."""

from dataclasses import replace

import pytest

from serve.store import events, jobs, queue
from serve.store.jobs import Filter, Lost
from serve.store.store import clock
from swathe.errors import ConflictError, NotFoundError
from swathe.job import JobState, Progress, fold


def look(store, id_):
    with store.read() as c:
        return jobs.get(c, id_)


def told(store, id_):
    with store.read() as c:
        return events.of(c, id_)


def begun(store, id_, holder="h1", seconds=60.0):
    with store.begin() as c:
        return jobs.take(c, id_, holder, seconds)


def test_a_job_goes_its_way(store, submit):
    id_ = submit(title="fields", labels={"collection": 7})
    hold = begun(store, id_)
    with store.begin() as c:
        jobs.enter(c, hold, JobState.PREPARING)
        jobs.enter(c, hold, JobState.RUNNING, "1:4", chunks=9)
        jobs.bind(c, hold, "swathe-1")
        jobs.advance(c, hold, Progress(10, 100, 1, 9, 0))
        jobs.finish(c, hold, JobState.DONE, {"item": {"collection": "a", "id": "b"}}, 123)
    job = look(store, id_)
    assert (job.state, job.attempts, job.progress.pixels, job.ray_job) == (JobState.DONE, 1, 10, "swathe-1")
    assert job.title == "fields"
    assert job.labels == {"collection": 7}
    assert job.started
    assert job.ended
    found = told(store, id_)
    assert [e.kind for e in found] == ["state", "attempt", "state", "state", "state"]
    assert [e.seq for e in found] == [1, 2, 3, 4, 5]
    assert found[3].facts == {"state": "running", "chunks": 9}
    assert fold(found) is JobState.DONE
    assert job.last_seq == 5


def test_states_do_not_move_back(store, submit):
    id_ = submit()
    hold = begun(store, id_)
    with store.begin() as c:
        jobs.enter(c, hold, JobState.RUNNING)
        jobs.enter(c, hold, JobState.PREPARING)
        jobs.enter(c, hold, JobState.RUNNING)
        jobs.advance(c, hold, Progress(10, 100, 5, 9, 1))
        jobs.advance(c, hold, Progress(4, 100, 6, 9, 0))
    job = look(store, id_)
    assert job.state is JobState.RUNNING
    assert job.progress == Progress(10, 100, 6, 9, 1)
    assert len(told(store, id_)) == 3


def test_a_fact_of_one_key_is_noted_once(store, submit):
    hold = begun(store, submit())
    with store.begin() as c:
        first = jobs.note(c, hold, "chunk", "1:7", chunk="a")
        assert jobs.note(c, hold, "chunk", "1:7", chunk="a") is None
        again = jobs.note(c, hold, "chunk", None, chunk="a")
    assert again.seq == first.seq + 1
    with store.begin() as c:
        assert jobs.note(c, hold, "chunk", "1:7", chunk="a") is None


def test_nobody_takes_what_is_held(store, submit):
    id_ = submit()
    assert begun(store, id_, "h1")
    assert begun(store, id_, "h2") is None


def test_a_former_holder_is_refused(store, submit):
    id_ = submit()
    old = begun(store, id_, "h1", seconds=-1)
    new = begun(store, id_, "h2")
    assert (old.epoch, new.epoch) == (1, 2)
    writes = [
        lambda c: jobs.renew(c, old, 9),
        lambda c: jobs.enter(c, old, JobState.RUNNING),
        lambda c: jobs.note(c, old, "chunk"),
        lambda c: jobs.advance(c, old, Progress(1)),
        lambda c: jobs.bind(c, old, "x"),
        lambda c: jobs.release(c, old, 0),
        lambda c: jobs.finish(c, old, JobState.DONE, {}, 0),
    ]
    for write in writes:
        with pytest.raises(Lost) as refused, store.begin() as c:
            write(c)
        assert refused.value.problem.code == "job.lost"
    assert look(store, id_).state is JobState.QUEUED
    assert [e.kind for e in told(store, id_)] == ["state", "attempt", "attempt"]


def test_the_same_process_with_an_older_epoch_is_refused(store, submit):
    """A process that lost its hold and took the job again must not go on with the first attempt."""
    id_ = submit()
    old = begun(store, id_, "h1", seconds=-1)
    begun(store, id_, "h1")
    with pytest.raises(Lost), store.begin() as c:
        jobs.note(c, old, "chunk")


def test_a_refused_write_takes_all_of_its_transaction_with_it(store, submit):
    id_ = submit()
    hold = begun(store, id_)
    with pytest.raises(Lost), store.begin() as c:  # noqa: PT012  what came before goes with it
        jobs.note(c, hold, "chunk")
        jobs.note(c, replace(hold, epoch=7), "chunk")
    assert len(told(store, id_)) == 2


def test_a_late_renewal_counts_as_long_as_nobody_was_faster(store, submit):
    id_ = submit()
    hold = begun(store, id_, seconds=-1)
    with store.begin() as c:
        assert [job.id for job in queue.abandoned(c)] == [id_]
        assert jobs.renew(c, hold, 60) is False
        assert queue.abandoned(c) == []


def test_an_attempt_hears_that_it_is_to_stop(store, submit):
    id_ = submit()
    hold = begun(store, id_)
    with store.begin() as c:
        assert jobs.cancel(c, id_).cancelling
        jobs.cancel(c, id_)
    with store.begin() as c:
        assert jobs.renew(c, hold, 60) is True
        jobs.finish(c, hold, JobState.CANCELLED, {}, 0)
    assert [e.kind for e in told(store, id_)] == ["state", "attempt", "cancelling", "state"]
    with pytest.raises(ConflictError) as refused, store.begin() as c:
        jobs.cancel(c, id_)
    assert refused.value.problem.code == "job.ended"


@pytest.mark.parametrize("way", ["waiting", "abandoned", "released"])
def test_what_nobody_is_at_work_on_is_cancelled_at_once(store, submit, way):
    id_ = submit()
    if way != "waiting":
        hold = begun(store, id_, seconds=-1)
        with store.begin() as c:
            jobs.enter(c, hold, JobState.RUNNING)
            if way == "released":
                jobs.release(c, hold, clock() + 60)
    with store.begin() as c:
        assert jobs.cancel(c, id_).state is JobState.CANCELLED
    assert fold(told(store, id_)) is JobState.CANCELLED
    assert begun(store, id_) is None


def test_what_was_given_back_waits_until_its_time(store, submit):
    id_ = submit()
    hold = begun(store, id_)
    with store.begin() as c:
        jobs.enter(c, hold, JobState.RUNNING)
        jobs.release(c, hold, clock() + 60)
    assert begun(store, id_) is None
    with store.begin() as c:
        hold = None
        assert jobs.get(c, id_).state is JobState.RUNNING


def test_attempts_without_fruit_are_counted_until_there_is_some(store, submit):
    id_ = submit()

    def count():
        with store.read() as c:
            return jobs.fruitless(c, id_)

    def attempt(**ends):
        hold = begun(store, id_)
        with store.begin() as c:
            if ends.pop("fruit", False):
                jobs.progressed(c, hold)
            jobs.release(c, hold, 0, **ends)
        return count()

    assert [attempt(), attempt(), attempt(counts=False), attempt()] == [1, 2, 2, 3]
    assert [attempt(fruit=True), attempt(fruit=True, counts=False), attempt()] == [0, 0, 1]
    assert look(store, id_).attempts == 7
    hold = begun(store, id_)
    with store.begin() as c:
        jobs.finish(c, hold, JobState.FAILED, {}, 0)
        jobs.resume(c, id_)
    assert count() == 0


def test_resumed_jobs_begin_a_round(store, submit):
    id_ = submit(progress=Progress(of_pixels=100, of_chunks=4))
    hold = begun(store, id_)
    with store.begin() as c:
        jobs.enter(c, hold, JobState.RUNNING)
        jobs.advance(c, hold, Progress(50, 100, 2, 4, 1))
        jobs.finish(c, hold, JobState.INCOMPLETE, {"item": {"collection": "a", "id": "b"}}, 5)
    with store.begin() as c:
        job = jobs.resume(c, id_)
    assert (job.state, job.round, job.attempts, job.ended) == (JobState.QUEUED, 2, 0, None)
    assert job.progress == Progress(of_pixels=100, of_chunks=4)
    with pytest.raises(Lost), store.begin() as c:
        jobs.note(c, hold, "chunk")
    again = begun(store, id_, "h2")
    with store.begin() as c:
        jobs.finish(c, again, JobState.CANCELLED, {}, 5)
    assert look(store, id_).result["item"] == {"collection": "a", "id": "b"}
    assert fold(told(store, id_)) is JobState.CANCELLED


def test_what_is_done_or_at_work_is_not_resumed(store, submit):
    id_ = submit()
    with pytest.raises(ConflictError) as refused, store.begin() as c:
        jobs.resume(c, id_)
    assert refused.value.problem.code == "job.active"
    hold = begun(store, id_)
    with store.begin() as c:
        jobs.finish(c, hold, JobState.DONE, {}, 0)
    with pytest.raises(ConflictError) as refused, store.begin() as c:
        jobs.resume(c, id_)
    assert refused.value.problem.code == "job.done"


def test_only_what_has_ended_is_dropped(store, submit):
    id_ = submit()
    with pytest.raises(ConflictError), store.begin() as c:
        jobs.drop(c, id_)
    with store.begin() as c:
        jobs.cancel(c, id_)
        jobs.drop(c, id_)
    with pytest.raises(NotFoundError):
        look(store, id_)
    assert told(store, id_) == []


@pytest.mark.parametrize(
    "id_", ["", "j", "x" * 27, "j" + "0" * 26, "j" + "0" * 25 + "\0", "j" + "ü" * 26, "u" + "0" * 26]
)
def test_ids_that_are_none_are_not_found(store, id_):
    with pytest.raises(NotFoundError) as refused:
        look(store, id_)
    assert refused.value.problem.code == "job.unknown"


def test_events_are_read_in_parts(store, submit):
    id_ = submit()
    hold = begun(store, id_)
    with store.begin() as c:
        for n in range(5):
            jobs.note(c, hold, "chunk", n=n)
        assert [e.facts.get("n") for e in events.of(c, id_, after=2, limit=3)] == [0, 1, 2]
        assert [e.seq for e in events.of(c, id_, after=6)] == [7]


def test_filters(store, submit, ada):
    made = [submit(model=m, labels={"kind": k, "n": n}) for m, k, n in [("a", "x", 1), ("b", "y", 2), ("a", "y", 2)]]
    begun(store, made[0])

    def found(**wanted):
        with store.read() as c:
            page = jobs.listed(c, Filter(**wanted), 10, newest_first=False)
            assert jobs.count(c, Filter(**wanted)) == len(page.items)
        return [made.index(job.id) for job in page.items]

    assert found() == [0, 1, 2]
    assert found(model="a") == [0, 2]
    assert found(labels={"kind": "y"}) == [1, 2]
    assert found(labels={"kind": "y", "n": 2}, model="b") == [1]
    assert found(labels={"kind": "no"}) == []
    assert found(owner=ada.id, state=(JobState.QUEUED,)) == [0, 1, 2]
    assert found(state=(JobState.DONE, JobState.FAILED)) == []
    assert found(visible_to="u" + "0" * 26) == []
    assert found(since="2999") == []
