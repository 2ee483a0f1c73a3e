"""The catalogue inside the store: with its job or not at all; who sees what; indexes that follow."""

import pytest

from pipelines.catalogue.search import Search
from serve.store import catalogue, jobs, projects, users
from serve.store.store import Store
from swathe.errors import InputError, NotFoundError
from swathe.job import JobState
from swathe.user import Caller, Role


def collection(id_="maps", title="Maps"):
    return {
        "type": "Collection", "stac_version": "1.1.0", "id": id_, "title": title, "description": "d", "links": [],
        "license": "other",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
    }  # fmt: skip


def item(id_, lon=0.0, **properties):
    ring = [[lon, 0], [lon + 1, 0], [lon + 1, 1], [lon, 1], [lon, 0]]
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": id_, "collection": "maps", "links": [], "assets": {},
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [lon, 0, lon + 1, 1],
        "properties": {"datetime": "2026-01-02T00:00:00Z", **properties},
    }  # fmt: skip


def put(store, *items, owner=None, project=None):
    with store.begin() as c:
        catalogue.put_collection(c, collection())
        for one in items:
            catalogue.put_item(c, one, owner, project)


@pytest.fixture
def look(store, tmp_path):
    """Ids that a user sees; None: all."""

    def ids(viewer=None, **search):
        found = catalogue.seen(store, tmp_path, viewer).search(Search(**search))
        assert found.matched == len(found.items)
        return sorted(one["id"] for one in found.items)

    return ids


def test_an_entry_stands_with_its_job_or_not_at_all(store, submit, look):
    put(store)
    id_ = submit()
    with store.begin() as c:
        hold = jobs.take(c, id_, "h", 60)
    with pytest.raises(RuntimeError), store.begin() as c:  # noqa: PT012  what came before goes with it
        catalogue.put_item(c, item("a"), None)
        jobs.finish(c, hold, JobState.DONE, {}, 0)
        raise RuntimeError
    assert look() == []
    with store.begin() as c:
        catalogue.put_item(c, item("a"), None)
        jobs.finish(c, hold, JobState.DONE, {}, 0)
        assert jobs.get(c, id_).state is JobState.DONE
    assert look() == ["a"]


def test_everybody_sees_their_own_and_what_is_shared(store, ada, look):
    with store.begin() as c:
        bob = users.add(c, "bob@example.org")
        shared = projects.add(c, ada.id, "open", shared=True)
    put(store, item("free"))
    put(store, item("hers", lon=20), owner=ada.id)
    put(store, item("shared", lon=40), owner=ada.id, project=shared.id)
    assert look() == ["free", "hers", "shared"]
    assert look(ada.id) == ["free", "hers", "shared"]
    assert look(bob.id) == ["free", "shared"]
    assert look(bob.id, ids=("hers",)) == []
    assert look(bob.id, filter="\"swathe:owner\" = 'x' OR TRUE = TRUE", collections=("maps",)) == ["free", "shared"]
    with store.begin() as c:
        projects.change(c, shared.id, shared=False)
    assert look(bob.id) == ["free"]


def test_what_is_not_seen_is_in_no_summary_and_no_count(store, ada, tmp_path):
    with store.begin() as c:
        bob = users.add(c, "bob@example.org")
    put(store, item("free", secret="no"))
    put(store, item("hers", lon=20, hers=1), owner=ada.id)
    seen = catalogue.seen(store, tmp_path, bob.id)
    assert seen.collection("maps")["extent"]["spatial"]["bbox"] == [[0, 0, 1, 1]]
    assert seen.collections()[0]["extent"]["spatial"]["bbox"] == [[0, 0, 1, 1]]
    assert seen.count("maps") == 1
    assert "hers" not in seen.names()
    whole = catalogue.seen(store, tmp_path, None)
    assert whole.collection("maps")["extent"]["spatial"]["bbox"] == [[0, 0, 21, 1]]
    assert seen.collection("maps")["extent"]["spatial"]["bbox"] == [[0, 0, 1, 1]]
    with pytest.raises(InputError):
        seen.item("maps", "hers")


def test_one_item_for_a_caller(store, ada, tmp_path):
    with store.begin() as c:
        bob = users.add(c, "bob@example.org")
        root = users.add(c, "root@example.org", Role.ADMIN)
    put(store, item("hers"), owner=ada.id)
    from swathe.user import SCOPES_OF

    for who, allowed in [(ada, True), (bob, False), (root, True)]:
        caller = Caller(who, SCOPES_OF[who.role])
        if allowed:
            assert catalogue.item(store, tmp_path, "maps", "hers", caller)["id"] == "hers"
        else:
            with pytest.raises(NotFoundError) as refused:
                catalogue.item(store, tmp_path, "maps", "hers", caller)
            assert refused.value.problem.code == "item.unknown"


def test_nobody_names_an_owner_in_a_document(store, ada, look):
    put(store, item("forged", **{"swathe:owner": ada.id, "swathe:project": "p"}))
    with store.begin() as c:
        bob = users.add(c, "bob@example.org")
    assert look(bob.id) == ["forged"]


def test_replaced_and_dropped(store, look, tmp_path):
    put(store, item("a", n=1), item("b"))
    assert look() == ["a", "b"]
    put(store, item("a", n=2))
    assert catalogue.item(store, tmp_path, "maps", "a")["properties"]["n"] == 2
    with store.begin() as c:
        catalogue.drop_item(c, "maps", "b")
        catalogue.drop_item(c, "maps", "never")
    assert look() == ["a"]


def test_what_is_no_item_is_refused(store):
    put(store)
    for bad in [{"type": "Feature"}, {**item("a"), "collection": "none"}, {**item("a"), "properties": None}]:
        with pytest.raises(InputError), store.begin() as c:
            catalogue.put_item(c, bad, None)
    with pytest.raises(InputError), store.begin() as c:
        catalogue.put_collection(c, {"id": "x"})


def test_a_new_node_begins_with_all_that_was_written(store, tmp_path):
    """Also where a collection was described anew after its items."""
    put(store, item("a"), item("b"))
    with store.begin() as c:
        catalogue.put_collection(c, collection(title="Better"))
        catalogue.drop_item(c, "maps", "b")
    other = Store(store.url)
    found = catalogue.reader(other, tmp_path / "other")
    assert found.titles() == {"maps": "Better"}
    assert [one["id"] for one in found.search(Search()).items] == ["a"]
    other.close()


def test_an_index_of_another_database_is_made_anew(postgres, tmp_path):
    first, second = (Store.open(postgres.fresh()) for _ in range(2))
    put(first, item("a"), item("b"))
    found = catalogue.reader(first, tmp_path)
    assert len(found.search(Search()).items) == 2
    put(second, item("c"))
    found._store = second
    assert [one["id"] for one in found.search(Search()).items] == ["c"]
    first.close()
    second.close()
