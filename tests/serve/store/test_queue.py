"""The queue: whose turn it is, within which limits; and that everybody's turn comes."""

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from serve.store import jobs, queue, users
from serve.store.queue import QueueLimits
from serve.store.store import clock
from serve.store.turns import Busy, Waiting, faded, turns
from swathe.job import JobState, Where
from swathe.user import Quota

USERS = ["ada", "bob", "cyd"]
WAITING = st.lists(st.tuples(st.sampled_from(USERS), st.sampled_from(Where), st.floats(0, 1e4)), max_size=30).map(
    lambda found: [Waiting(f"j{n:03}", user, place, s) for n, (user, place, s) in enumerate(found)]
)
LIMITS = st.builds(QueueLimits, st.integers(1, 4), st.dictionaries(st.sampled_from(Where), st.integers(0, 5)))
GIVEN = st.dictionaries(st.tuples(st.sampled_from(USERS), st.sampled_from(Where)), st.floats(0, 1e5), max_size=9)


def share(job):
    return job.owner, job.place is Where.ONLINE


@given(WAITING, LIMITS, GIVEN, st.dictionaries(st.sampled_from(USERS), st.integers(0, 3)))
def test_what_is_started_is_within_the_limits_and_no_more_would_be(waiting, limits, given_before, own):
    busy = Busy(defaultdict(float, given_before))
    started = list(turns(waiting, busy, limits, own))
    assert len({job.id for job in started}) == len(started)
    of_user, at_place = Counter(share(job) for job in started), Counter(job.place for job in started)
    assert all(count <= own.get(user, limits.running_per_user) for (user, _), count in of_user.items())
    assert all(count <= limits.running.get(place, 99) for place, count in at_place.items())
    for job in set(waiting) - set(started):
        full = of_user[share(job)] >= own.get(job.owner, limits.running_per_user)
        assert full or at_place[job.place] >= limits.running.get(job.place, 99)


@given(WAITING, GIVEN)
def test_each_turn_is_of_whoever_was_given_least(waiting, given_before):
    given_so_far = defaultdict(float, given_before)
    left = {job.lane: [one.id for one in waiting if one.lane == job.lane] for job in waiting}
    for job in turns(waiting, Busy(defaultdict(float, given_before))):
        assert given_so_far[job.lane] == min(given_so_far[lane] for lane, ids in left.items() if ids)
        assert job.id == left[job.lane].pop(0)
        given_so_far[job.lane] += job.weight
    assert not any(left.values())


@given(st.lists(st.floats(1, 600), min_size=1, max_size=8), st.integers(1, 4))
def test_nobody_starves(costs, slots):
    """One place; a greedy user always has jobs waiting, another one brings a few: each of those begins in time."""
    at, busy, running, begun = 0.0, Busy(), [], []
    mine = [Waiting(f"a{n}", "ada", Where.POOL, cost) for n, cost in enumerate(costs)]
    greedy = iter(Waiting(f"b{n:05}", "bob", Where.POOL, 60.0) for n in range(100_000))
    front = [next(greedy) for _ in range(slots + 1)]
    before_last = 0
    while mine:
        limits = QueueLimits(99, {Where.POOL: slots})
        busy.at_place = Counter({Where.POOL: len(running)})
        for job in list(turns([*mine, *front], busy, limits)):
            running.append((at + job.weight, job))
            if job.owner == "bob":
                front[front.index(job)] = next(greedy)
                before_last += 1
            else:
                mine.remove(job)
                begun.append(job)
        later = min(end for end, _ in running)
        busy.given = defaultdict(float, {lane: faded(s, later - at) for lane, s in busy.given.items()})
        at, running = later, [(end, job) for end, job in running if end > later]
    assert len(begun) == len(costs)
    # The greedy one had no more than about what the other one had, and what fits in while the slots were emptied.
    assert before_last <= 3 * slots + 3 * sum(costs) / 60 + 3 * len(costs)


def wait_for(store, limits=None, limit=100):
    with store.read() as c:
        return [job.id for job in queue.waiting(c, limit, limits or QueueLimits(100))]


def other(store, name="bob"):
    with store.begin() as c:
        return users.add(c, f"{name}@example.org").id


def begin(store, id_, seconds=60.0):
    with store.begin() as c:
        return jobs.take(c, id_, "h", seconds)


def test_users_take_turns(store, submit):
    bob = other(store)
    ada = [submit(seconds=10) for _ in range(4)]
    bobs = [submit(owner=bob, seconds=10) for _ in range(2)]
    assert wait_for(store) == [ada[0], bobs[0], ada[1], bobs[1], ada[2], ada[3]]
    with store.read() as c:
        assert [queue.standing(c, id_) for id_ in (ada[0], bobs[0], ada[1], ada[3])] == [1, 2, 3, 6]
    begin(store, ada[0])
    assert wait_for(store, limit=2) == [bobs[0], bobs[1]]
    with store.read() as c:
        assert queue.standing(c, ada[0]) == 0


def test_what_was_given_counts_when_it_is_over(store, submit):
    bob = other(store)
    long = submit(seconds=1000)
    hold = begin(store, long)
    with store.begin() as c:
        jobs.finish(c, hold, JobState.DONE, {}, 0)
    mine, bobs = submit(seconds=1), [submit(owner=bob, seconds=100) for _ in range(3)]
    assert wait_for(store) == [*bobs, mine]


def test_another_attempt_is_not_charged_again(store, submit):
    bob = other(store)
    mine = submit(seconds=100)
    for _ in range(3):
        hold = begin(store, mine)
        with store.begin() as c:
            jobs.release(c, hold, 0)
    bobs = [submit(owner=bob, seconds=60) for _ in range(3)]
    assert wait_for(store) == [bobs[0], bobs[1], mine, bobs[2]]


def test_limits_of_users_and_places(store, submit):
    bob = other(store)
    pool = [submit(seconds=1) for _ in range(3)]
    big = [submit(owner=bob, seconds=9999, place=Where.CLUSTER) for _ in range(2)]
    limits = QueueLimits(2, {Where.POOL: 5, Where.CLUSTER: 1})
    assert sorted(wait_for(store, limits)) == sorted([pool[0], pool[1], big[0]])
    begin(store, pool[0])
    begin(store, big[0])
    assert wait_for(store, limits) == [pool[1]]
    with store.begin() as c:
        owner = jobs.get(c, pool[0]).owner
        users.change(c, owner, quota=Quota(running_jobs=1))
    assert wait_for(store, limits) == []


def test_small_jobs_wait_for_no_others(store, submit):
    """Neither other users', who may fill the pool, nor one's own."""
    bob = other(store)
    large = [submit(owner=owner, seconds=600) for owner in (None, bob) for _ in range(4)]
    small = [submit(owner=owner, seconds=1, place=Where.ONLINE) for owner in (None, bob) for _ in range(3)]
    limits = QueueLimits(2, {Where.POOL: 4, Where.ONLINE: 3})
    for id_ in (large[0], large[1], large[4], large[5]):
        begin(store, id_)
    assert wait_for(store, limits) == [small[0], small[3], small[1]]
    begin(store, small[0])
    begin(store, small[1])
    assert wait_for(store, limits) == [small[3]]
    with store.begin() as c:
        assert queue.running_of(c, bob) == 2
        users.change(c, bob, quota=Quota(running_jobs=0))
    assert wait_for(store, limits) == []


def test_what_is_held_waits_for_nobody_and_what_is_released_waits_for_its_time(store, submit):
    id_ = submit()
    hold = begin(store, id_, seconds=-1)
    assert wait_for(store) == []
    with store.read() as c:
        assert [job.id for job in queue.abandoned(c)] == [id_]
    with store.begin() as c:
        jobs.release(c, hold, clock() + 60)
    assert wait_for(store) == []
    with store.begin() as c:
        hold = jobs.take(c, id_, "h", 60)
        assert hold is None
        assert queue.abandoned(c) == []


def test_what_users_have(store, ada, submit):
    first, second = submit(area_km2=2.5), submit(area_km2=4)
    with store.begin() as c:
        assert (queue.queued_of(c, ada.id), queue.running_of(c, ada.id), queue.area_of(c, ada.id, "2000")) == (
            2,
            0,
            6.5,
        )
    hold = begin(store, first)
    with store.begin() as c:
        assert (queue.queued_of(c, ada.id), queue.running_of(c, ada.id)) == (1, 1)
        jobs.enter(c, hold, JobState.RUNNING)
        jobs.release(c, hold, 0)
        assert (queue.queued_of(c, ada.id), queue.running_of(c, ada.id)) == (1, 1)
        jobs.cancel(c, second)
        assert queue.area_of(c, ada.id, "2000") == 2.5
        assert queue.area_of(c, ada.id, "2999") == 0
