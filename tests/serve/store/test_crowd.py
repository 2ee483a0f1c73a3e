"""Many at once, in threads and in processes: each job has one holder, each event one number, each end one winner."""

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from serve.store import events, jobs, leases, queue, users
from serve.store.jobs import Filter, Lost
from serve.store.queue import QueueLimits
from serve.store.store import Store
from swathe.errors import ConflictError, SwatheError
from swathe.job import ENDED, JobState, Progress, fold

ROOT = Path(__file__).resolve().parents[3]


def at_once(count, work):
    """What ``count`` threads give that begin together."""
    start = Barrier(count)

    def one(n):
        start.wait()
        return work(n)

    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(one, n) for n in range(count)]]


def take_all(store, name):
    """Ids of the jobs that this taker could have."""
    taken = []
    while True:
        with store.read() as c:
            found = queue.waiting(c, 5, QueueLimits(1000))
        if not found:
            return taken
        for job in found:
            with store.begin() as c:
                if hold := jobs.take(c, job.id, name, 60):
                    jobs.finish(c, hold, JobState.DONE, {}, 0)
                    taken.append(job.id)


def test_each_job_is_taken_once(store, submit):
    """8 takers, 200 jobs."""
    with store.begin() as c:
        made = {submit(c) for _ in range(200)}
    taken = [id_ for part in at_once(8, lambda n: take_all(store, f"t{n}")) for id_ in part]
    assert Counter(taken) == Counter(made)
    with store.read() as c:
        assert {jobs.get(c, id_).attempts for id_ in made} == {1}


TAKER = """
import sys
sys.path.insert(0, "tests/serve/store")
from test_crowd import take_all
from serve.store.store import Store

print("ready", flush=True)
sys.stdin.readline()
print(*take_all(Store(sys.argv[1]), sys.argv[2]))
"""


@pytest.mark.slow
def test_each_job_is_taken_once_by_processes(store, submit):
    """4 takers, 200 jobs."""
    with store.begin() as c:
        made = {submit(c) for _ in range(200)}
    started = [
        subprocess.Popen([sys.executable, "-c", TAKER, store.url, f"p{n}"], cwd=ROOT, text=True,
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in range(4)
    ]  # fmt: skip
    assert [process.stdout.readline() for process in started] == ["ready\n"] * 4
    for process in started:
        process.stdin.write("\n")
        process.stdin.flush()
    taken = []
    for process in started:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        taken += out.split()
    assert Counter(taken) == Counter(made)


def test_events_have_no_gaps_under_many_writers(store, submit):
    """Eight threads of one attempt write at once, half of them the same facts."""
    id_ = submit()
    with store.begin() as c:
        hold = jobs.take(c, id_, "h", 60)

    def write(n):
        for i in range(15):
            with store.begin() as c:
                jobs.note(c, hold, "chunk", f"1:{i}" if n % 2 else None, n=n, i=i)
                jobs.advance(c, hold, Progress(pixels=n * i))

    at_once(8, write)
    with store.read() as c:
        found = events.of(c, id_, limit=1000)
        job = jobs.get(c, id_)
    assert [event.seq for event in found] == list(range(1, 2 + 4 * 15 + 15 + 1))
    assert job.last_seq == found[-1].seq
    assert job.progress.pixels == 7 * 14


def test_a_reader_never_sees_a_number_before_the_ones_below_it(store, submit):
    id_ = submit()
    with store.begin() as c:
        hold = jobs.take(c, id_, "h", 60)

    def work(n):
        seen = []
        for _ in range(20):
            if n:
                with store.begin() as c:
                    jobs.note(c, hold, "chunk")
            else:
                with store.read() as c:
                    seen.append([event.seq for event in events.of(c, id_)])
        return seen

    for numbers in at_once(4, work)[0]:
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_last_of_a_job_is_a_cancel_or_a_finish(store, submit):
    """Whichever comes first decides; the other is told."""
    for _ in range(10):
        id_ = submit()
        with store.begin() as c:
            hold = jobs.take(c, id_, "h", 60)

        def race(n, id_=id_, hold=hold):
            try:
                with store.begin() as c:
                    if n:
                        jobs.cancel(c, id_)
                    else:
                        jobs.finish(c, hold, JobState.DONE, {}, 0)
            except ConflictError as refused:
                return refused.problem.code
            return None

        said = at_once(2, race)
        with store.read() as c:
            job, found = jobs.get(c, id_), events.of(c, id_)
        assert said in ([None, None], [None, "job.ended"])
        assert job.state is fold(found) is JobState.DONE
        assert sum(event.facts.get("state") in ENDED for event in found) == 1
        assert job.cancelling == (said == [None, None])


def test_a_renewal_and_a_new_taker_do_not_both_win(store, submit):
    for _ in range(10):
        id_ = submit()
        with store.begin() as c:
            old = jobs.take(c, id_, "old", -1)

        def race(n, id_=id_, old=old):
            with store.begin() as c:
                if n:
                    return jobs.take(c, id_, "new", 60)
                try:
                    jobs.renew(c, old, 60)
                except Lost:
                    return None
                return old

        renewed, taken = at_once(2, race)
        assert (renewed is None) != (taken is None)


def test_one_of_many_has_the_lease(store):
    def take(n):
        with store.begin() as c:
            return leases.take(c, "dispatcher", f"h{n}", 60)

    assert Counter(at_once(8, take)) == {None: 7, 1: 1}


def test_the_last_place_is_given_once(store, ada, submit):
    """Of eight requests that count first and submit then, as many get in as there is room for."""

    def ask(_):
        with store.begin() as c:
            users.hold(c, ada.id)
            if queue.queued_of(c, ada.id) >= 3:
                return False
            submit(c)
            return True

    assert sum(at_once(8, ask)) == 3


def test_of_two_administrators_one_stays(store):
    with store.begin() as c:
        two = [users.add(c, f"a{n}@example.org", "admin") for n in range(2)]

    def step_down(n):
        try:
            with store.begin() as c:
                users.change(c, two[n].id, role="member")
                if not users.others(c, "admin", two[n].id):
                    raise ConflictError("the last one")
        except SwatheError:
            return False
        return True

    assert sum(at_once(2, step_down)) <= 1
    with store.read() as c:
        assert any(user.role == "admin" for user in users.listed(c, 10).items)


@pytest.mark.slow
def test_a_killed_writer_leaves_whole_transactions(store, submit):
    """Each transaction notes two events; whenever its process is killed, their number is even."""
    program = """
import sys
from serve.store import jobs
from serve.store.jobs import Hold
from serve.store.store import Store
store = Store(sys.argv[1])
hold = Hold(sys.argv[2], 1, "h")
print("ready", flush=True)
while True:
    with store.begin() as c:
        jobs.note(c, hold, "chunk")
        jobs.note(c, hold, "chunk")
"""
    for pause in (0.05, 0.11, 0.2, 0.33):
        id_ = submit()
        with store.begin() as c:
            jobs.take(c, id_, "h", 60)
        process = subprocess.Popen([sys.executable, "-c", program, store.url, id_], cwd=ROOT, stdout=subprocess.PIPE)
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(pause)
        process.kill()
        process.wait()
        with store.begin() as c:
            found = events.of(c, id_, limit=100_000)
            assert [event.seq for event in found] == list(range(1, len(found) + 1))
            assert len(found) % 2 == 0
            assert jobs.get(c, id_).last_seq == len(found)


def test_a_store_goes_to_another_process_as_its_address(store, submit):
    import pickle

    id_ = submit()
    there = pickle.loads(pickle.dumps(store))
    assert isinstance(there, Store)
    with there.read() as c:
        assert jobs.count(c, Filter()) == 1
        assert jobs.get(c, id_).id == id_
    there.close()
