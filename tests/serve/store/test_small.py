"""Leases, replies, hooks, logs, deleted scripts."""

import time

import pytest
from sqlalchemy import select, update

from serve.store import batches, hooks, ids, jobs, leases, logs, processors, replies, tables
from serve.store.logs import Line
from serve.store.store import clock, now
from swathe.errors import ConflictError


def test_a_lease_has_one_holder(store):
    with store.begin() as c:
        assert leases.take(c, "dispatcher", "a", 60) == 1
        assert leases.take(c, "dispatcher", "b", 60) is None
        assert leases.take(c, "other", "b", 60) == 1
        assert leases.renew(c, "dispatcher", "a", 1, 60)
        assert not leases.renew(c, "dispatcher", "b", 1, 60)
        leases.give(c, "dispatcher", "b", 1)
        assert leases.take(c, "dispatcher", "b", 60) is None
        leases.give(c, "dispatcher", "a", 1)
        assert leases.take(c, "dispatcher", "b", -1) == 2
        assert not leases.renew(c, "dispatcher", "b", 2, 60)
        assert leases.take(c, "dispatcher", "a", 60) == 3
        assert not leases.renew(c, "dispatcher", "b", 2, 60)
        assert leases.take(c, "dispatcher", "a", 60) == 4
        assert not leases.renew(c, "dispatcher", "a", 3, 60)


def test_a_request_sent_twice_gets_the_first_answer(store, ada):
    about = (ada.id, "POST /api/jobs", "k")
    with store.begin() as c:
        assert replies.begin(c, *about, "hash") is None
    for wrong, code in [("hash", "idempotency.running"), ("other", "idempotency.body")]:
        with pytest.raises(ConflictError) as refused, store.begin() as c:
            replies.begin(c, *about, wrong)
        assert refused.value.problem.code == code
    with store.begin() as c:
        replies.keep(c, *about, 202, {"location": "/x"}, b"{}")
        assert replies.begin(c, *about, "hash") == replies.Reply(202, {"location": "/x"}, b"{}")
        replies.forget(c, *about)
        assert replies.begin(c, *about, "hash").status == 202
        assert replies.begin(c, ada.id, "POST /api/jobs", "k2", "hash") is None
        replies.forget(c, ada.id, "POST /api/jobs", "k2")
        assert replies.begin(c, ada.id, "POST /api/jobs", "k2", "other") is None
        assert replies.sweep(c, clock() - 60) == 0
        assert replies.sweep(c, clock() + 60) == 2


def test_a_request_that_never_answered_may_be_sent_again(store, ada, monkeypatch):
    about = (ada.id, "POST /api/jobs", "k", "hash")
    with store.begin() as c:
        assert replies.begin(c, *about) is None
        monkeypatch.setattr(replies, "_GIVEN_UP_S", -1.0)
        assert replies.begin(c, *about) is None


def test_a_request_that_says_that_it_lives_keeps_its_key(store, ada, monkeypatch):
    about = (ada.id, "POST /api/jobs", "k")
    monkeypatch.setattr(replies, "_GIVEN_UP_S", 0.3)
    with store.begin() as c:
        assert replies.begin(c, *about, "hash") is None
    for _ in range(3):
        time.sleep(0.15)
        with store.begin() as c:
            replies.renew(c, *about)
    with pytest.raises(ConflictError) as refused, store.begin() as c:
        replies.begin(c, *about, "hash")
    assert refused.value.problem.code == "idempotency.running"
    time.sleep(0.35)
    with store.begin() as c:
        assert replies.begin(c, *about, "hash") is None
        replies.keep(c, *about, 202, {}, b"{}")
        before = c.execute(select(tables.replies.c.created)).scalar_one()
        replies.renew(c, *about)
        assert c.execute(select(tables.replies.c.created)).scalar_one() == before


def test_hooks_are_told_until_they_heard(store, submit):
    id_ = submit()
    with store.begin() as c:
        hook = hooks.add(c, id_, "https://example.org", "s3cret", ["state"])
        (due,) = hooks.due(c, 10)
        assert (due.id, due.job, due.kinds, due.sent_seq, due.tries) == (hook, id_, ("state",), 0, 0)
        assert "s3cret" not in repr(due)
        hooks.failed(c, hook, "refused", clock() + 60)
        assert hooks.due(c, 10) == []
        hooks.failed(c, hook, "refused", clock() - 60)
        assert hooks.due(c, 10)[0].tries == 2
        hooks.sent(c, hook, 1)
        assert hooks.due(c, 10) == []
        jobs.take(c, id_, "h", 60)
        assert (hooks.due(c, 10)[0].sent_seq, hooks.due(c, 10)[0].tries) == (1, 0)
        hooks.failed(c, hook, "gone", clock(), give_up=True)
        assert hooks.due(c, 10) == []
        jobs.cancel(c, id_)


def test_logs_go_on(store, submit):
    id_ = submit()
    with store.begin() as c:
        logs.add(c, id_, [Line(now(), "info", "one", {"chunk": "a"}), Line(now(), "warning", "x" * 10_000)])
        logs.add(c, id_, [Line(now(), "error", "three")])
        logs.add(c, id_, [])
        logs.add(c, "gone", [Line(now(), "error", "three")])
        found = logs.of(c, id_)
        assert [(line.seq, line.level) for line in found] == [(1, "info"), (2, "warning"), (3, "error")]
        assert found[0].facts == {"chunk": "a"}
        assert len(found[1].message) == 4000
        assert [line.message for line in logs.of(c, id_, after=2)] == ["three"]


def test_scripts_that_nothing_accepted_may_run(store, ada, submit):
    """On both databases: what a request names is found inside of its JSON."""
    job = submit()
    with store.begin() as c:
        kept, old, run, wished, young = (
            processors.add(c, ada.id, id=ids.new("r"), name="a", file="a.py", call="", deleted=deleted).id
            for deleted in (None, "2026-01-01", "2026-01-01", "2026-01-01", "2026-01-03")
        )
        c.execute(update(tables.jobs).values(request={"model": "m", "processor": {"id": run}}))
        batch = batches.add(c, ada.id, [{"model": "m"}, {"model": "m", "processor": {"id": wished}}])
        assert processors.unneeded(c, "2026-01-02") == [old]
        batches.cancel(c, batch.id, {})
        assert processors.unneeded(c, "2026-01-02") == [old, wished]
        jobs.cancel(c, job)
        jobs.drop(c, job)
        gone = processors.unneeded(c, "2026-01-02")
        assert gone == [old, run, wished]
        processors.drop(c, gone)
        assert processors.known(c, [kept, old, run, wished, young]) == {kept, young}
