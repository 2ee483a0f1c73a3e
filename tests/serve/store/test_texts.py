"""What attempts tell is written whatever it holds, and nothing that is refused stands in the way of the rest."""

import math

import pytest

from serve.running.write_queue import WriteQueue
from serve.store import events, hooks, jobs, logs
from serve.store.logs import Line
from serve.store.store import clock, now
from serve.store.texts import keepable
from swathe.job import JobState

BAD = "no file a\0b\udcff.tif"
GOOD = "no file ab.tif"


def test_what_no_database_keeps_is_left_out():
    told = {"a\0": [BAD, (1, math.nan, -math.inf)], "b": {"c": "ü\U0001f30d"}, "d": None, "e": True}
    assert keepable(told) == {"a": [GOOD, [1, None, None]], "b": {"c": "ü\U0001f30d"}, "d": None, "e": True}


def test_errors_of_any_text_are_told(store, submit):
    id_ = submit()
    with store.begin() as c:
        hook = hooks.add(c, id_, "https://example.org", "s")
        hold = jobs.take(c, id_, "worker", 60)
        jobs.note(c, hold, "chunk", key="chunk:a\0", error=BAD, share=math.nan)
        logs.add(c, id_, [Line(now(), "error", BAD, {"path": BAD})])
        hooks.failed(c, hook, BAD, clock())
        jobs.finish(c, hold, JobState.FAILED, {}, 0, {"detail": BAD})
    with store.read() as c:
        assert jobs.get(c, id_).problem == {"detail": GOOD}
        assert [e.facts for e in events.of(c, id_) if e.kind == "chunk"] == [{"error": GOOD, "share": None}]
        assert [(line.message, line.facts) for line in logs.of(c, id_)] == [(GOOD, {"path": GOOD})]


def test_a_step_that_is_refused_for_its_value_does_not_stop_the_others(store, submit, caplog):
    id_ = submit()
    with store.begin() as c:
        hold = jobs.take(c, id_, "worker", 60)
    writes = WriteQueue(store, hold, lambda: pytest.fail("it is held"))
    for number, model in enumerate(("a", "b" * 9 + "\ud800", "c")):
        writes.keep(lambda c, number=number: jobs.note(c, hold, "chunk", key=f"{number}"))
        if not model.isascii():
            writes.keep(lambda c, model=model: jobs.bind(c, hold, model))
    assert writes.flush()
    with store.read() as c:
        assert [e.kind for e in events.of(c, id_)].count("chunk") == 3
        assert jobs.get(c, id_).ray_job is None
    assert "left out" in caplog.text
