"""Users, keys, projects, uploads, models: what is kept of them."""

from dataclasses import replace

import pytest
from sqlalchemy import update

from serve.store import audit, ids, jobs, keys, models, projects, tables, uploads, users
from serve.store.keys import Pepper
from serve.store.store import now
from swathe.errors import ConflictError, InputError, NotFoundError
from swathe.job import JobState
from swathe.project import UploadState
from swathe.user import Caller, Quota, Role, Scope

PEPPER = Pepper(b"0123456789abcdef")


def test_ids_sort_by_age_and_differ():
    made = [ids.new("j") for _ in range(20_000)]
    assert made == sorted(set(made))
    assert all(len(id_) == 27 and ids.check(id_, "j") == id_ for id_ in made)


def test_users(store):
    with store.begin() as c:
        ada = users.add(c, " Ada@Example.org ", Role.ADMIN, "Ada", subject="https://idp|7")
        assert (ada.email, ada.role, ada.active, ada.quota) == ("ada@example.org", Role.ADMIN, True, Quota())
        assert (
            users.by_email(c, "ADA@example.org") == users.by_subject(c, "https://idp|7") == users.get(c, ada.id) == ada
        )
        assert users.by_email(c, "no") is users.by_subject(c, "no") is None
        changed = users.change(c, ada.id, name="Countess", quota=Quota(running_jobs=2), active=False)
        assert (changed.name, changed.quota, changed.active) == ("Countess", Quota(running_jobs=2), False)
        assert users.others(c, Role.ADMIN, "someone else") == 0
        users.change(c, ada.id, active=True, role=Role.MEMBER)
        assert users.count(c) == 1


def test_an_address_belongs_to_one(store, ada):
    with pytest.raises(ConflictError), store.begin() as c:
        users.add(c, ada.email)
    with pytest.raises(NotFoundError), store.begin() as c:
        users.change(c, ids.new("u"), name="x")


def test_pages_of_users_hold_everybody_once(store):
    with store.begin() as c:
        made = [users.add(c, f"u{n}@example.org").id for n in range(7)]
    found, cursor = [], None
    with store.read() as c:
        while True:
            page = users.listed(c, 3, cursor)
            found += [user.id for user in page.items]
            cursor = page.cursor
            if cursor is None:
                break
    assert found == made


@pytest.mark.parametrize("cursor", ["", "x", "'; DROP TABLE users", "9" * 40, "j" + "\0" * 26])
def test_cursors_that_are_none_are_refused(store, cursor):
    for listed in (users.listed, audit.listed, projects.listed, uploads.listed):
        with pytest.raises(InputError) as refused, store.read() as c:
            listed(c, 10, cursor)
        assert (refused.value.problem.code, refused.value.problem.field) == ("cursor.invalid", "cursor")


@pytest.mark.parametrize("form", ["swk-{}", "{}", "eyJ/{}", "user:{}", "{0:.8}-{0:.4}", "basic//{}"], ids=str)
def test_a_key_opens_in_any_form_that_ends_with_it(store, ada, form):
    with store.begin() as c:
        key, text = keys.make(c, PEPPER, ada.id, {Scope.PREDICT}, label="lab", days=3)
    shown = form.format(text) if ":." not in form else f"{text[:8]}-{text[8:20]}-{text[20:]}"
    with store.read() as c:
        assert keys.find(c, PEPPER, shown) == (key, ada)
        assert keys.find(c, Pepper(b"another pepper.."), shown) is None
    assert key.prefix == text[:8]
    assert key.expires > now()
    assert key.scopes == {Scope.PREDICT}


def test_nothing_else_opens(store, ada):
    with store.begin() as c:
        _, text = keys.make(c, PEPPER, ada.id, set(Scope))
    other = "a" if text[-1] != "a" else "b"
    with store.read() as c:
        for wrong in [
            "",
            "swk-",
            text[:-1],
            text[:-1] + other,
            text[:8],
            text[:8] + "a" * 24,
            text[::-1],
            "ü" * 40,
            "\0",
        ]:
            assert keys.find(c, PEPPER, wrong) is None


def test_what_opens_is_nowhere_in_the_database(store, ada):
    with store.begin() as c:
        _, text = keys.make(c, PEPPER, ada.id, {Scope.PREDICT})
        kept = [str(tuple(row)) for table in tables.metadata.sorted_tables for row in c.execute(table.select())]
    assert kept
    assert not any(text in row or text[8:] in row for row in kept)
    assert "0123456789abcdef" not in repr(PEPPER)


def test_keys_are_switched_off_and_dropped(store, ada):
    with store.begin() as c:
        key, text = keys.make(c, PEPPER, ada.id, set())
        assert keys.change(c, key.id, active=False).active is False
        assert keys.find(c, PEPPER, text)[0].active is False
        assert [one.id for one in keys.of_user(c, ada.id)] == [key.id]
        keys.drop(c, key.id)
        assert keys.find(c, PEPPER, text) is None
        with pytest.raises(NotFoundError):
            keys.drop(c, key.id)
        with pytest.raises(NotFoundError):
            keys.get(c, key.id)


def test_use_is_noted_to_the_minute(store, ada):
    with store.begin() as c:
        key, _ = keys.make(c, PEPPER, ada.id, set())
        assert keys.get(c, key.id).used is None
        keys.touch(c, key.id)
        used = keys.get(c, key.id).used
        assert used.endswith(":00.000Z")
        keys.touch(c, key.id)
        assert keys.get(c, key.id).used >= used


def test_projects(store, ada, submit):
    with store.begin() as c:
        bob = users.add(c, "bob@example.org")
        own = projects.add(c, ada.id, "fields", labels={"a": 1})
        shared = projects.add(c, ada.id, "open", shared=True)
        assert [p.id for p in projects.listed(c, 10, visible_to=bob.id).items] == [shared.id]
        assert [p.id for p in projects.listed(c, 10, visible_to=ada.id).items] == [own.id, shared.id]
        assert len(projects.listed(c, 10).items) == 2
        assert projects.change(c, own.id, name="fields", description="d").description == "d"
        projects.add(c, bob.id, "fields")
    for taken in (lambda c: projects.add(c, ada.id, "open"), lambda c: projects.change(c, own.id, name="open")):
        with pytest.raises(ConflictError) as refused, store.begin() as c:
            taken(c)
        assert refused.value.problem.code == "project.taken"
    id_ = submit(project=own.id)
    with store.begin() as c:
        projects.drop(c, own.id)
        assert jobs.get(c, id_).project is None
        with pytest.raises(NotFoundError):
            projects.get(c, own.id)


def test_uploads_and_what_they_take(store, ada, submit):
    with store.begin() as c:
        bob = users.add(c, "bob@example.org")
        shared = projects.add(c, ada.id, "open", shared=True)
        one = uploads.add(c, ada.id, "a.tif")
        two = uploads.add(c, ada.id, "b.tif", project=shared.id, labels={"k": 1})
        assert one.state is UploadState.OPEN
        settled = uploads.settle(c, one.id, UploadState.READY, 5_000_000_000, "ab", {"crs": "EPSG:4326"})
        assert (settled.size, settled.facts) == (5_000_000_000, {"crs": "EPSG:4326"})
        refused = uploads.settle(c, two.id, UploadState.REFUSED, 7, "cd", {}, {"code": "imagery"})
        assert refused.problem == {"code": "imagery"}
        assert [u.id for u in uploads.listed(c, 10, visible_to=bob.id).items] == [two.id]
        assert [u.id for u in uploads.listed(c, 1).items] == [two.id]
        assert uploads.stored_bytes(c, ada.id) == 5_000_000_000  # refused bytes are gone
        assert uploads.stored_bytes(c, bob.id) == 0
    id_ = submit()
    with store.begin() as c:
        hold = jobs.take(c, id_, "h", 60)
        jobs.finish(c, hold, JobState.DONE, {}, 3_000_000_000)
        assert uploads.stored_bytes(c, ada.id) == 8_000_000_000
        uploads.drop(c, one.id)
        with pytest.raises(NotFoundError):
            uploads.get(c, one.id)


def test_uploads_whose_bytes_are_awaited(store, ada):
    with store.begin() as c:
        bob = users.add(c, "bob@example.org")
        one, two, three = (uploads.add(c, ada.id, f"{n}.tif") for n in range(3))
        long_ago = update(tables.uploads).values(created="2020-01-01T00:00:00.000Z")
        c.execute(long_ago.where(tables.uploads.c.id.in_([one.id, two.id])))
        uploads.settle(c, two.id, UploadState.READY, 7, "ab", {})
        assert (uploads.awaited(c, ada.id), uploads.awaited(c, bob.id)) == (2, 0)
        assert uploads.awaited_since(c, "2020-01-01T00:00:00.000Z") == []
        assert uploads.awaited_since(c, "2020-01-01T00:00:00.001Z") == [one.id]
        assert uploads.awaited_since(c, "2999-01-01T00:00:00.000Z") == [one.id, three.id]


def test_keys_and_projects_are_counted(store, ada):
    with store.begin() as c:
        bob = users.add(c, "bob@example.org")
        off, *_ = (keys.make(c, PEPPER, ada.id, set(), days=days)[0] for days in (None, 1, -1))
        keys.change(c, off.id, False)
        assert (keys.count(c, ada.id), keys.count(c, bob.id)) == (2, 0)
        projects.add(c, ada.id, "fields", shared=True)
        assert (projects.count(c, ada.id), projects.count(c, bob.id)) == (1, 0)


def test_models_count_their_changes(store, ada):
    moment = now()
    card = models.Model("mine", {"id": "mine"}, True, ada.id, False, None, 1, moment, moment)
    seen = []
    steps = [
        lambda c: models.put(c, card),
        lambda c: models.put(c, replace(card, version=2, problem={"code": "x"})),
        lambda c: models.enable(c, "mine", False),
        lambda c: models.enable(c, "shipped", True),
        lambda c: models.drop(c, "mine"),
    ]
    for step in steps:
        with store.begin() as c:
            step(c)
            seen.append(models.revision(c))
    assert seen == sorted(set(seen))
    with store.begin() as c:
        (left,) = models.listed(c)
        assert (left.id, left.card, left.enabled) == ("shipped", None, True)
        with pytest.raises(NotFoundError):
            models.get(c, "mine")
        with pytest.raises(NotFoundError):
            models.drop(c, "mine")


def test_the_audit_log_says_who(store, ada):
    with store.begin() as c:
        audit.note(c, None, "service.start")
        audit.note(c, Caller(ada, frozenset(), "k1"), "job.submit", "j1", model="m")
        assert [e.action for e in audit.listed(c, 10).items] == ["job.submit", "service.start"]
        (mine,) = audit.listed(c, 10, user=ada.id).items
        assert (mine.user, mine.key, mine.subject, mine.facts) == (ada.id, "k1", "j1", {"model": "m"})
        first = audit.listed(c, 1)
        assert [e.action for e in audit.listed(c, 1, first.cursor).items] == ["service.start"]


@pytest.mark.parametrize("text", ["a\0b", "\ud800"], ids=ascii)
def test_text_that_a_database_does_not_keep_is_refused(store, ada, text):
    """SQLite keeps a NUL, PostgreSQL does not; neither keeps half a surrogate pair."""
    if store.embedded and "\0" in text:
        with store.begin() as c:
            assert projects.add(c, ada.id, text).name == text
        return
    with pytest.raises(InputError) as refused, store.begin() as c:
        projects.add(c, ada.id, text)
    assert refused.value.problem.code == "store.value"


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "🛰"], ids=ascii)
def test_json_is_kept_whatever_is_in_it(store, ada, text):
    with store.begin() as c:
        made = projects.add(c, ada.id, "p", labels={text: text})
        assert projects.get(c, made.id).labels == {text: text}
