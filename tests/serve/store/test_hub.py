"""Who follows a job hears each event once and in order, whatever is written while the store is looked at."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

import pytest

from serve.api.hub import Hub
from serve.store import jobs, pulse
from serve.store.pulse import Pulse
from swathe.job import JobState, Progress


@dataclass(frozen=True)
class Front:
    """What a hub asks of it."""

    tick_s: float = 0.01
    keep_alive_s: float = 5.0
    listeners: int = 100


@pytest.fixture
def taken(store, submit):
    """A job, and the hold on it."""
    job = submit()
    with store.begin() as c:
        hold = jobs.take(c, job, "worker", 60)
        jobs.enter(c, hold, JobState.RUNNING)
    return hold


def note(store, hold, count=1):
    with store.begin() as c:
        for _ in range(count):
            jobs.note(c, hold, "chunk")


def finish(store, hold):
    with store.begin() as c:
        jobs.finish(c, hold, JobState.DONE, {}, 0)


async def heard(hub, hold, **more):
    return [news async for news in hub.follow(hold.job, 0, **more) if news is not None]


def numbers(found):
    return [news.seq for news in found if not isinstance(news, Pulse)]


def followed(store, hold, work):
    """What somebody heard who listened while this was done."""

    async def story():
        listening = asyncio.create_task(heard(Hub(store, Front()), hold))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(work)
        return await asyncio.wait_for(listening, 20)

    return asyncio.run(story())


def test_an_event_written_between_the_two_questions_of_a_look_comes_once(store, taken, monkeypatch):
    asked, looks = pulse.of, []

    def then_written(c, ids):
        found = asked(c, ids)
        looks.append(found)
        if 1 < len(looks) < 12:
            with suppress(jobs.Lost):  # it has ended
                note(store, taken)
        return found

    monkeypatch.setattr(pulse, "of", then_written)
    found = followed(store, taken, lambda: finish(store, taken))
    assert len(looks) > 2
    assert numbers(found) == list(range(1, found[-1].seq + 1))


def test_more_events_at_once_than_a_look_fetches_leave_no_hole(store, taken):
    def work():
        for count in (1, 700, 3):
            note(store, taken, count)
        finish(store, taken)

    found = followed(store, taken, work)
    assert numbers(found) == list(range(1, 709))


def test_what_is_older_than_what_was_told_is_not_told(store, taken):
    with store.begin() as c:
        jobs.advance(c, taken, Progress(5, 10, 1, 2))
    known = Pulse(9, JobState.FINISHING, Progress(9, 10, 2, 2))

    async def story():
        hub = Hub(store, Front())
        listening = asyncio.create_task(heard(hub, taken, known=known))
        await asyncio.sleep(0.2)
        return listening, await asyncio.to_thread(finish, store, taken), await asyncio.wait_for(listening, 20)

    found = asyncio.run(story())[-1]
    assert numbers(found) == list(range(1, found[-1].seq + 1))
    assert not [news for news in found if isinstance(news, Pulse)]


def test_a_pulse_comes_after_the_events_before_it(store, taken):
    note(store, taken, 3)
    with store.begin() as c:
        jobs.advance(c, taken, Progress(5, 10, 1, 2))
    finish(store, taken)
    found = asyncio.run(heard(Hub(store, Front()), taken))
    assert [news.seq for news in found] == [*range(1, found[-1].seq), found[-1].seq, found[-1].seq]
    assert isinstance(found[-2], Pulse)


def test_a_look_that_stumbles_silences_nobody(store, taken, monkeypatch):
    asked, looks = pulse.of, []

    def stumbling(c, ids):
        looks.append(ids)
        if len(looks) == 2:
            raise RuntimeError("what nobody thought of")
        return asked(c, ids)

    monkeypatch.setattr(pulse, "of", stumbling)
    found = followed(store, taken, lambda: finish(store, taken))
    assert len(looks) > 2
    assert numbers(found) == list(range(1, found[-1].seq + 1))
