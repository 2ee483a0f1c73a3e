"""Jobs through the plain loop: their story in the store, whatever happens to those who carry them out."""

import errno
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from pipelines.runner import Loop
from serve.desk.desk import Desk
from serve.running import attempt as attempts
from serve.running.attempt import Hired, attempt
from serve.running.crews import Threads
from serve.store import jobs, logs, models, uploads, users
from serve.store.store import now
from swathe.card import Input
from swathe.errors import CardError, ClusterError, OutputError
from swathe.job import JobState
from swathe.user import SCOPES_OF, Caller, Role
from tests.models.test_weights import origin  # noqa: F401  the fixture
from tests.serve.deployments.test_steward import a_card
from tests.serve.lines import logged
from tests.serve.running.world import right_story


@contextmanager
def loop(card, held):
    yield Hired(Loop(), "loop")


class Halting(Loop):
    """A loop that stops at its n-th chunk and does what it is told there."""

    def __init__(self, after, then):
        super().__init__()
        self.after, self.then = after, then

    def map(self, hire, order, chunks):
        for number, answer in enumerate(super().map(hire, order, chunks), start=1):
            if number > self.after:
                self.then()
            yield answer


def hiring(runner):
    @contextmanager
    def give(card, held):
        yield Hired(runner, "loop")

    return give


def taken(world, id_, holder="a"):
    with world.store.begin() as c:
        return jobs.take(c, id_, holder, world.settings.limits.lease_s)


def dies():
    """Ends a thread as a killed process ends: without a word."""
    raise SystemExit


def test_a_job_is_carried_out_and_told(world, dispatch):
    id_ = world.submit()
    dispatch(world)
    (job,) = world.await_end(id_)
    right_story(world, id_)
    kinds = [e.kind for e in world.events(id_)]
    assert kinds[:3] == ["state", "attempt", "state"]
    assert kinds.count("chunk") == job.progress.of_chunks > 4
    assert job.result["item"] == {"collection": "results-water-ndwi", "id": id_}
    with world.store.read() as c:
        lines = logs.of(c, id_)
    assert all(line.facts["task"] == f"{id_}-1" for line in lines)
    assert {line.facts.get("chunk") for line in lines if line.message == "chunk"} >= {"r00000c00000"}


def test_an_attempt_that_died_is_taken_up_where_it_stopped(world):
    whole, cut = world.submit(), world.submit()
    attempt(world.settings, world.store, taken(world, whole), loop)
    with pytest.raises(SystemExit):
        attempt(world.settings, world.store, taken(world, cut), hiring(Halting(3, dies)))
    told = len(world.events(cut))
    with world.store.begin() as c:
        jobs.release(c, jobs.Hold(cut, 1, "a"), 0.0)
    attempt(world.settings, world.store, taken(world, cut, "b"), loop)
    right_story(world, whole)
    right_story(world, cut)
    assert world.digest(cut) == world.digest(whole)
    assert len(world.events(cut)) > told
    resumed = [e for e in world.events(cut) if e.kind == "attempt"]
    assert [e.facts["number"] for e in resumed] == [1, 2]


def test_a_chunk_that_was_done_but_not_told_is_told_by_the_next_attempt(world):
    id_ = world.submit()
    hold = taken(world, id_)
    with pytest.raises(SystemExit):
        attempt(world.settings, world.store, hold, hiring(Halting(0, dies)))
    assert not [e for e in world.events(id_) if e.kind == "chunk"]
    assert (world.folder(id_) / ".swathe" / "parts" / "r00000c00000.json").exists()
    with world.store.begin() as c:
        jobs.release(c, hold, 0.0)
    attempt(world.settings, world.store, taken(world, id_, "b"), loop)
    right_story(world, id_)


def test_who_has_lost_the_job_writes_nothing_more(world):
    id_ = world.submit()
    hold = taken(world, id_)
    second = []

    def overtaken():
        if not second:
            with world.store.begin() as c:
                jobs.release(c, hold, 0.0)
            second.append(taken(world, id_, "b"))

    attempt(world.settings, world.store, hold, hiring(Halting(2, overtaken)))
    job = world.job(id_)
    assert job.state is JobState.RUNNING
    assert not job.result
    attempt(world.settings, world.store, second[0], loop)
    right_story(world, id_)


def test_cancelling_stops_between_chunks_and_resuming_goes_on(world, dispatch, monkeypatch):
    monkeypatch.setattr("serve.running.held.LOOK_S", 0.05)
    id_ = world.submit()
    at_third = threading.Event()

    def wait():
        at_third.set()
        time.sleep(0.3)

    crew = Threads(world.settings, world.store)
    monkeypatch.setattr(crew, "_hiring", hiring(Halting(3, wait)))
    dispatch(world, crew)
    assert at_third.wait(30)
    with world.store.begin() as c:
        jobs.cancel(c, id_)
    world.await_end(id_)
    right_story(world, id_, JobState.CANCELLED)
    done = {e.facts["chunk"] for e in world.events(id_) if e.kind == "chunk"}
    assert 3 <= len(done) <= 6
    monkeypatch.setattr(crew, "_hiring", loop)
    with world.store.begin() as c:
        jobs.resume(c, id_)
    world.await_end(id_)
    assert world.job(id_).state is JobState.DONE
    chunks = [e.facts["chunk"] for e in world.events(id_) if e.kind == "chunk"]
    assert len(chunks) == len(set(chunks)) == world.job(id_).progress.of_chunks


def test_a_job_whose_weights_drip_can_be_cancelled(world_of, dispatch, monkeypatch, origin):  # noqa: F811
    """They come from wherever a member's card says; the place of the job is free for others at once."""
    monkeypatch.setattr("serve.running.held.LOOK_S", 0.05)
    monkeypatch.setenv("SWATHE_ALLOW_PRIVATE_URLS", "true")
    world, origin.ways = world_of(), ["drips"]
    card = a_card("slow", input=Input(bands=("green",), chip=64, overlap=16),
                  network={"file": f"{origin.url}/net.onnx", "output": "values"})  # fmt: skip
    moment, document = now(), card.model_dump(mode="json", exclude_defaults=True)
    with world.store.begin() as c:
        models.put(c, models.Model(card.id, document, True, world.user, False, None, 1, moment, moment))
    id_ = world.submit(model=card.id)
    dispatch(world)
    limit = time.monotonic() + 30
    while not origin.sent and not world.job(id_).ended:
        assert time.monotonic() < limit, world.told(id_)
        time.sleep(0.01)
    with world.store.begin() as c:
        jobs.cancel(c, id_)
    world.await_end(id_)
    right_story(world, id_, JobState.CANCELLED)
    assert origin.left.wait(5)


def test_a_wrong_request_fails_at_once_in_the_users_words(world, dispatch):
    id_ = world.submit(inputs=[str(world.scene.with_name("missing.tif"))])
    dispatch(world)
    (job,) = world.await_end(id_)
    assert job.state is JobState.FAILED
    assert job.attempts == 1
    assert job.problem["code"].startswith("imagery")
    assert "--" not in job.problem["detail"] + job.problem.get("hint", "") + job.problem.get("field", "")


def test_what_the_surroundings_break_is_tried_again_and_then_given_up(world, dispatch, monkeypatch):
    monkeypatch.setattr("serve.passing._FIRST_WAIT_S", 0.01)
    calls = []

    @contextmanager
    def broken(card, held):
        calls.append(1)
        raise ClusterError("no machine", code="cluster.lost")
        yield

    crew = Threads(world.settings, world.store)
    monkeypatch.setattr(crew, "_hiring", broken)
    id_ = world.submit()
    dispatch(world, crew)
    (job,) = world.await_end(id_)
    assert (job.state, job.problem["code"]) == (JobState.FAILED, "cluster.lost")
    assert len(calls) == world.settings.limits.max_attempts == job.attempts
    assert [e.kind for e in world.events(id_)].count("retry") == len(calls) - 1


def test_a_fault_of_ours_is_told_without_its_trace(world, dispatch, monkeypatch):
    def broken(self):
        raise KeyError("a secret")

    monkeypatch.setattr(attempts._Attempt, "_run", broken)
    id_ = world.submit()
    dispatch(world)
    (job,) = world.await_end(id_)
    assert (job.state, job.problem["code"]) == (JobState.FAILED, "internal")
    assert "secret" not in str(job.problem)


def test_jobs_of_a_dispatcher_that_died_are_found(world_of, dispatch):
    world = world_of(lease_s=1.0)
    id_ = world.submit()
    with pytest.raises(SystemExit):
        attempt(world.settings, world.store, taken(world, id_), hiring(Halting(2, dies)))
    assert world.job(id_).state is JobState.RUNNING
    dispatch(world)
    world.await_end(id_)
    right_story(world, id_)


def test_a_job_whose_workers_are_lost_again_and_again_is_given_up(world_of, dispatch, monkeypatch):
    monkeypatch.setattr("serve.passing._FIRST_WAIT_S", 0.01)
    world = world_of(max_attempts=3)

    class Dying(Threads):
        def start(self, job, hold):
            self._under_way[hold] = self._pool.submit(lambda: None)

    id_ = world.submit()
    dispatch(world, Dying(world.settings, world.store))
    (job,) = world.await_end(id_)
    assert (job.state, job.problem["code"]) == (JobState.FAILED, "job.given_up")
    right_story(world, id_, JobState.FAILED)


def test_a_job_that_is_told_to_go_again_and_again_is_not_given_up(world_of):
    """As rollouts tell it; one attempt is all that this service allows a job that does not move."""
    world = world_of(max_attempts=1)
    id_ = world.submit()

    def told_to_go():
        raise KeyboardInterrupt

    for name in "abc":
        attempt(world.settings, world.store, taken(world, id_, name), hiring(Halting(0, told_to_go)))
    with world.store.read() as c:
        assert jobs.fruitless(c, id_) == 0
    attempt(world.settings, world.store, taken(world, id_, "d"), loop)
    assert world.job(id_).attempts == 4
    right_story(world, id_)


def test_whoever_makes_progress_is_not_given_up(world_of, dispatch, monkeypatch):
    monkeypatch.setattr("serve.passing._FIRST_WAIT_S", 0.01)
    world = world_of(max_attempts=2)
    lost = []

    def lose():
        if len(lost) < 5:
            lost.append(1)
            raise ClusterError("no machine", code="cluster.lost")

    crew = Threads(world.settings, world.store)
    monkeypatch.setattr(crew, "_hiring", hiring(Halting(1, lose)))
    id_ = world.submit()
    dispatch(world, crew)
    world.await_end(id_)
    assert world.job(id_).attempts == 6
    right_story(world, id_)


def test_a_folder_that_a_dead_attempt_seems_to_hold_is_waited_for(world_of, dispatch, monkeypatch):
    monkeypatch.setattr("serve.running.ending._BUSY_S", 0.01)
    world = world_of(max_attempts=1)
    run, refused = attempts._Attempt._run, []

    def busy(self):
        if len(refused) < 4:
            refused.append(1)
            raise OutputError("another run is writing there", code="output.busy")
        return run(self)

    monkeypatch.setattr(attempts._Attempt, "_run", busy)
    id_ = world.submit()
    dispatch(world)
    (job,) = world.await_end(id_)
    assert (job.state, job.attempts) == (JobState.DONE, 5)


def test_a_disk_that_was_full_where_nobody_expected_it_is_waited_for(world, dispatch, monkeypatch):
    monkeypatch.setattr("serve.passing._ROOM_S", 0.01)
    full = [OSError(errno.ENOSPC, "No space left on device", "/srv/parts")]

    def meet():
        if full:
            raise full.pop()

    crew = Threads(world.settings, world.store)
    monkeypatch.setattr(crew, "_hiring", hiring(Halting(1, meet)))
    id_ = world.submit()
    dispatch(world, crew)
    (job,) = world.await_end(id_)
    right_story(world, id_)
    assert job.attempts == 2
    (problem,) = (e.facts["problem"] for e in world.events(id_) if e.kind == "retry")
    assert problem["code"] == "output.full"
    assert "/srv" not in str(world.told(id_))


def test_lines_of_the_process_about_a_job_name_it_and_the_attempt_as_fields(world, dispatch, monkeypatch):
    living = [dies]

    def meet():
        if living:
            living.pop()()

    crew = Threads(world.settings, world.store)
    monkeypatch.setattr(crew, "_hiring", hiring(Halting(1, meet)))
    id_ = world.submit()
    with logged() as lines:
        dispatch(world, crew)
        world.await_end(id_)
        told = [line for line in lines() if id_ in str(line)]
    assert {line["job"] for line in told} == {id_}
    assert {line["task"] for line in told} == {f"{id_}-1", f"{id_}-2"}
    assert {line["logger"] for line in told} == {"swathe.crews", "swathe.dispatcher", "swathe.jobs"}
    assert not [line for line in told if id_ in line["message"]]
    assert all("chunk" in line for line in told if line["message"] == "chunk")


def weighed(world, id_):
    with world.store.read() as c:
        return uploads.stored_bytes(c, world.job(id_).owner)


@pytest.mark.parametrize("way", ["failed", "cancelled", "nobody is at work"])
def test_what_an_unfinished_job_keeps_counts(world, way, monkeypatch):
    id_ = world.submit()

    def ends():
        if way == "failed":
            raise CardError("no such model", code="card.invalid")
        with world.store.begin() as c:
            if way == "cancelled":
                jobs.cancel(c, id_)
        time.sleep(0.3)
        raise KeyboardInterrupt if way == "cancelled" else SystemExit

    monkeypatch.setattr("serve.running.held.LOOK_S", 0.05)
    hold = taken(world, id_)
    with suppress(SystemExit):
        attempt(world.settings, world.store, hold, hiring(Halting(4, ends)))
    if way == "nobody is at work":
        with world.store.begin() as c:
            jobs.release(c, hold, 0.0)
            who = Caller(users.get(c, world.user), SCOPES_OF[Role.MEMBER])
        Desk(world.settings, world.store).jobs.cancel(who, id_)
    assert world.job(id_).state in {JobState.FAILED, JobState.CANCELLED}
    lies = sum(path.stat().st_size for path in world.folder(id_).rglob("*") if path.is_file())
    assert weighed(world, id_) == lies > 1000


@pytest.mark.slow
def test_two_dispatchers_one_works(world, dispatch):
    ids_ = [world.submit() for _ in range(3)]
    first, second = dispatch(world), dispatch(world)
    world.await_end(*ids_)
    for id_ in ids_:
        right_story(world, id_)
        assert world.job(id_).attempts == 1
    assert first.leading != second.leading
    leader, other = (first, second) if first.leading else (second, first)
    leader.stop()
    id_ = world.submit()
    world.await_end(id_)
    assert other.leading
    right_story(world, id_)


def test_the_database_may_go_away_for_a_while(world, dispatch, monkeypatch):
    """The run goes on without it, and what it had to say is said, once and in order, when it is back."""
    from swathe.errors import StoreError

    id_, away = world.submit(), threading.Event()
    begin = type(world.store).begin

    def gone(self):
        if away.is_set():
            raise StoreError("gone", code="store.unavailable")
        return begin(self)

    monkeypatch.setattr(type(world.store), "begin", gone)

    def cut():
        if not away.is_set():
            away.set()
            threading.Timer(1.0, away.clear).start()

    crew = Threads(world.settings, world.store)
    monkeypatch.setattr(crew, "_hiring", hiring(Halting(2, cut)))
    dispatch(world, crew)
    world.await_end(id_)
    right_story(world, id_)
    assert world.job(id_).attempts == 1


def test_two_jobs_may_share_a_plan(world, dispatch):
    """Two jobs of one plan have entries of their own in the catalogue."""
    one, other = world.submit(), world.submit()
    dispatch(world)
    first, second = world.await_end(one, other)
    assert first.result["item"]["id"] != second.result["item"]["id"]
    assert world.digest(one) == world.digest(other)
