"""Event streams: current state first, every event once and in order, to hundreds of listeners, until the end."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import httpx2
import pytest
from sqlalchemy import event

from serve.store import jobs
from swathe.job import JobState, Progress


def read(answer, until=lambda _: False):
    """(id, kind, data) of a stream, to its end."""
    found = []
    for message in httpx2.EventSource(answer):
        found.append((message.id, message.event, json.loads(message.data)))
        if until(found[-1]):
            break
    return found


def listen(url, person, job, **headers):
    return httpx2.stream("GET", f"{url}/api/jobs/{job}/events", timeout=20,
                         headers={"Accept": "text/event-stream", **person.headers, **headers})  # fmt: skip


def numbers(messages):
    return [data["seq"] for _, kind, data in messages if kind not in {"job", "progress"}]


@pytest.fixture(scope="module")
def url(house, served):
    with served(house.app) as at:
        yield at


def wait_for(true):
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def carry_out(house, job, notes=20, pause=0.0):
    """The life of a job, as an attempt writes it."""
    store = house.desk.store
    with store.begin() as c:
        hold = jobs.take(c, job, "worker", 60)
    with store.begin() as c:
        jobs.enter(c, hold, JobState.PREPARING)
        jobs.enter(c, hold, JobState.RUNNING)
    for i in range(notes):
        with store.begin() as c:
            jobs.note(c, hold, "chunk", f"1:{i}", chunk=f"c{i}")
            jobs.advance(c, hold, Progress(i + 1, notes, i + 1, notes))
        time.sleep(pause)
    with store.begin() as c:
        jobs.finish(c, hold, JobState.DONE, {}, 0)


def test_a_stream_begins_with_the_job_and_ends_with_it(house, url):
    ada = house.person()
    job = house.job(ada)
    with listen(url, ada, job.id) as answer:
        threading.Thread(target=carry_out, args=(house, job.id)).start()
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = read(answer)
    first, last = found[0], found[-1]
    assert first[1] == "job"
    assert first[2]["job"]["state"] == "queued"
    assert numbers(found) == list(range(1, 26))
    assert [int(id_) for id_, kind, _ in found if kind not in {"job", "progress"}] == numbers(found)
    assert (last[1], last[2]["facts"]["state"]) == ("state", "done")
    shares = [data["facts"]["share"] for _, kind, data in found if kind == "progress"]
    assert shares == sorted(shares)


def test_who_comes_back_misses_nothing_and_sees_nothing_twice(house, url):
    ada = house.person()
    job = house.job(ada)
    work = threading.Thread(target=carry_out, args=(house, job.id, 30, 0.03))
    work.start()
    seen, last = [], 0
    while True:
        with listen(url, ada, job.id, **{"Last-Event-ID": str(last)}) as answer:
            if answer.status_code == 204:
                break
            part = numbers(read(answer, lambda m: m[1] == "chunk" and m[2]["seq"] % 7 == 0))
        seen += part
        last = seen[-1] if seen else 0
    work.join()
    assert seen == list(range(1, 36))


def test_after_the_end_all_is_told_at_once(house, url):
    ada = house.person()
    job = house.job(ada)
    carry_out(house, job.id, notes=600)
    with listen(url, ada, job.id) as answer:
        found = read(answer)
    assert found[0][2]["job"]["state"] == "done"
    assert numbers(found) == list(range(1, 606))
    with listen(url, ada, job.id, **{"Last-Event-ID": "605"}) as answer:
        assert answer.status_code == 204
    answer = httpx2.get(f"{url}/api/jobs/{job.id}/events?after=603", headers=ada.headers)
    assert [e["seq"] for e in answer.json()["events"]] == [604, 605]
    page = httpx2.get(f"{url}/api/jobs/{job.id}/events?limit=100", headers=ada.headers).json()
    following = httpx2.get(page["links"][0]["href"], headers=ada.headers).json()
    assert following["events"][0]["seq"] == 101


def test_strangers_hear_nothing(house, url):
    ada, eve = house.person(), house.person()
    job = house.job(ada)
    with listen(url, eve, job.id) as answer:
        assert answer.status_code == 404


def test_a_removed_job_ends_its_streams(house, url):
    ada = house.person()
    job = house.job(ada, JobState.QUEUED)
    with listen(url, ada, job.id) as answer:
        messages = httpx2.EventSource(answer)
        stream = iter(messages)
        assert next(stream).event == "job"
        with house.desk.store.begin() as c:
            jobs.cancel(c, job.id)
            jobs.drop(c, job.id)
        assert all(m.event in {"state", "progress"} for m in stream)


def test_a_quiet_stream_shows_that_it_lives(house_of, served):
    house = house_of(front={"keep_alive_s": 0.2})
    ada = house.person()
    job = house.job(ada)
    with served(house.app) as url, listen(url, ada, job.id) as answer:
        lines = []
        for line in answer.iter_lines():
            lines.append(line)
            if lines.count(": ping") == 3:
                break


def test_two_hundred_listeners_cost_one_look_per_tick(house_of):
    """And when they are gone, nobody looks any more."""
    house = house_of(front={"rate_per_minute": 10_000})
    ada = house.person()
    some = [house.job(ada).id for _ in range(4)]
    hub = house.app.state.service.hub
    looks = []

    def counted(_c, _cursor, statement, *_):
        if "jobs.progress" in statement and " IN " in statement:
            looks.append(time.monotonic())

    event.listen(house.desk.store.engine, "before_cursor_execute", counted)

    async def one(job):
        return [news.seq async for news in hub.follow(job, 0) if hasattr(news, "at")]

    async def all_of_them():
        tasks = [asyncio.create_task(one(some[i % 4])) for i in range(200)]
        await asyncio.sleep(1.0)
        assert hub.listeners == 200
        began, before = time.monotonic(), len(looks)
        await asyncio.sleep(1.0)
        ticks = (time.monotonic() - began) / house.app.state.service.front.tick_s
        assert 1 <= len(looks) - before <= ticks + 2
        gone = tasks[:50]
        for task in gone:
            task.cancel()
        await asyncio.to_thread(lambda: [carry_out(house, job, notes=5) for job in some])
        told = await asyncio.gather(*tasks, return_exceptions=True)
        assert hub.listeners == 0
        await asyncio.sleep(0.6)
        after = len(looks)
        await asyncio.sleep(0.6)
        assert len(looks) == after
        return told

    told = asyncio.run(all_of_them())
    assert sum(isinstance(t, asyncio.CancelledError) for t in told) == 50
    assert all(t == list(range(1, 11)) for t in told if not isinstance(t, BaseException))


def test_listeners_have_a_limit_and_leave_room_when_they_go(house_of, served):
    house = house_of(front={"listeners": 8})
    ada, hub = house.person(), house.app.state.service.hub
    job = house.job(ada)
    with served(house.app) as url:
        with listen(url, ada, job.id) as one, listen(url, ada, job.id) as two:
            lines = one.iter_lines(), two.iter_lines()
            assert [next(line) for line in lines] == ["event: job"] * 2
            wait_for(lambda: hub.listeners == 2)
            refused = httpx2.get(f"{url}/api/jobs/{job.id}/events", headers={**ada.headers,
                                                                            "Accept": "text/event-stream"})  # fmt: skip
            assert refused.status_code == 429
            assert refused.json()["code"] == "busy.listeners"
        wait_for(lambda: hub.listeners == 0)


def test_a_store_that_is_away_for_a_while_loses_nobody(house_of):
    house = house_of()
    ada = house.person()
    job = house.job(ada)
    hub, whole = house.app.state.service.hub, house.desk.store.read
    broken = threading.Event()

    def read():
        from swathe.errors import StoreError

        if broken.is_set():
            raise StoreError("away")
        return whole()

    house.desk.store.read = read

    async def story():
        heard = asyncio.create_task(_all(hub, job.id))
        await asyncio.sleep(0.5)
        broken.set()
        await asyncio.sleep(0.6)
        broken.clear()
        await asyncio.to_thread(carry_out, house, job.id, 3)
        return await asyncio.wait_for(heard, 10)

    assert asyncio.run(story()) == list(range(1, 9))


async def _all(hub, job):
    return [news.seq async for news in hub.follow(job, 0) if hasattr(news, "at")]
