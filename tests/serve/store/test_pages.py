"""Lists of ten thousand jobs: every page costs what the first one costs."""

import pytest
from sqlalchemy import event, insert, text

from serve.store import ids, jobs, projects, tables, users
from serve.store.jobs import Filter
from serve.store.rows import columns_of
from serve.store.store import now, raw
from swathe.job import Job

MANY, PAGE = 10_000, 50


@pytest.fixture
def crowd(store, ada):
    """10 000 jobs, every hundredth of Ada, every thousandth in a shared project of Bob's, who has the others."""
    with store.begin() as c:
        bob = users.add(c, "bob@example.org")
        shared, closed = projects.add(c, bob.id, "open", shared=True), projects.add(c, bob.id, "closed")
        made, rows = [ids.new("j") for _ in range(MANY)], []
        for n, id_ in enumerate(made):
            owner = ada.id if n % 100 == 0 else bob.id
            project = shared.id if n % 1000 == 1 else closed.id if n % 3 == 0 and owner == bob.id else None
            rows.append(columns_of(Job(id_, owner, {}, "m", now(), now(), project=project), 1.0))
        c.execute(insert(tables.jobs), rows)
    if not store.embedded:
        with store.engine.connect() as c:
            c.execute(text("ANALYZE jobs"))
            c.commit()
    return made


def pages(store, wanted, **more):
    found, cursor = [], None
    with store.read() as c:
        while True:
            page = jobs.listed(c, wanted, 1000, cursor, **more)
            found += [job.id for job in page.items]
            cursor = page.cursor
            if cursor is None:
                return found


def test_all_pages_together_are_the_list(store, crowd, ada):
    assert pages(store, Filter()) == crowd[::-1]
    assert pages(store, Filter(), newest_first=False) == crowd
    assert pages(store, Filter(owner=ada.id)) == crowd[::100][::-1]
    visible = [id_ for n, id_ in reversed(list(enumerate(crowd))) if n % 100 == 0 or n % 1000 == 1]
    assert pages(store, Filter(visible_to=ada.id)) == visible
    with store.read() as c:
        assert jobs.count(c, Filter(visible_to=ada.id)) == len(visible)


def effort(store, c, wanted, cursor):
    """Rows that PostgreSQL looks at, or steps that SQLite takes."""
    if store.embedded:
        steps = []
        raw(c).set_progress_handler(lambda: steps.append(1), 50)
        assert len(jobs.listed(c, wanted, PAGE, cursor).items) == PAGE
        raw(c).set_progress_handler(None, 0)
        return len(steps)
    said = []
    event.listen(c, "before_cursor_execute", lambda *call: said.append(call[2:4]))
    assert len(jobs.listed(c, wanted, PAGE, cursor).items) == PAGE
    plans = [c.exec_driver_sql("EXPLAIN (ANALYZE, FORMAT JSON) " + sql, params).scalar_one() for sql, params in said[:]]
    return sum(looked_at(plan["Plan"]) for (plan,) in plans)


def looked_at(node):
    here = 0
    if "Scan" in node["Node Type"] and "Relation Name" in node:
        here = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return here + sum(looked_at(part) for part in node.get("Plans", []))


def test_a_page_costs_the_same_at_any_depth(store, crowd, ada):
    """Own jobs are found among a hundred times as many, and a page at the end as quickly as the first."""
    deep = {"all": crowd[100], "own": crowd[8000]}
    for name, wanted in {"all": Filter(), "own": Filter(visible_to=ada.id), "mine": Filter(owner=ada.id)}.items():
        with store.read() as c:
            first = effort(store, c, wanted, None)
            last = effort(store, c, wanted, deep.get(name, crowd[8000]))
        bound = 20 * PAGE if not store.embedded else 40 * PAGE
        assert first <= bound, (name, first)
        assert last <= bound, (name, last)
        assert last <= 2 * first + PAGE, (name, first, last)
