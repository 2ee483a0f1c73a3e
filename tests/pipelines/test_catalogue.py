"""The catalogue against brute force: a search finds what a plain loop over all items finds, page by page."""

from __future__ import annotations

import json
import multiprocessing
import random
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import cql2
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.catalogue.search import MOST, Search
from pipelines.catalogue.store import Catalogue
from swathe.errors import InputError, OutputError, SwatheError

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
COLLECTION = {
    "type": "Collection", "stac_version": "1.1.0", "description": "d", "license": "other",
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}, "links": [],
}  # fmt: skip


def collection(id_="c"):
    return {**COLLECTION, "id": id_}


def item(id_, geometry=None, collection="c", **properties):
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": id_, "collection": collection, "geometry": geometry,
        "properties": {"datetime": "2024-01-01T00:00:00Z", **properties}, "links": [], "assets": {},
    }  # fmt: skip


def point(lon, lat):
    return {"type": "Point", "coordinates": [lon, lat]}


def ring(west, south, east, north):
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


def drawn(west, south, east, north):
    """A box as GeoJSON wants it: two polygons where west > east."""
    if west <= east:
        return {"type": "Polygon", "coordinates": ring(west, south, east, north)}
    return {"type": "MultiPolygon", "coordinates": [ring(west, south, 180, north), ring(-180, south, east, north)]}


def stamp(days):
    return (EPOCH + timedelta(days=days)).isoformat().replace("+00:00", "Z")


def found(catalogue, **asked):
    """Ids on all pages, which have to agree with the count of every page."""
    ids, token = [], None
    while True:
        page = catalogue.search(Search(**asked, token=token))
        ids += [i["id"] for i in page.items]
        token = page.token
        if token is None:
            assert page.matched == len(ids)
            assert len(set(ids)) == len(ids)
            return ids


@pytest.fixture
def catalogue(tmp_path):
    with Catalogue(tmp_path / "catalogue.sqlite") as made:
        made.put_collection(collection())
        yield made


# --- brute force ----------------------------------------------------------------------------------------------------

# Whole degrees and tenths meet each other's edges often, which is where searches go wrong.
LON = st.integers(-1800, 1800).map(lambda n: n / 10) | st.sampled_from([-180, 180, 0, 179, -179, 10])
LAT = st.integers(-900, 900).map(lambda n: n / 10) | st.sampled_from([-90, 90, 0, 10])


@st.composite
def frames(draw):
    west, east = draw(LON), draw(LON)
    south, north = sorted([draw(LAT), draw(LAT)])
    return west, south, east, north


def halves(frame):
    west, south, east, north = frame
    return [frame] if west <= east else [(west, south, 180, north), (-180, south, east, north)]


def meet(one, other):
    """Whether two boxes on the globe share a point, in arithmetic alone."""
    return any(
        a[0] <= b[2] and b[0] <= a[2] and a[1] <= b[3] and b[1] <= a[3] for a in halves(one) for b in halves(other)
    )


DAYS = st.integers(0, 20)
TIMES = st.one_of(
    DAYS.map(lambda d: (d, d)), st.tuples(DAYS, DAYS).map(lambda t: tuple(sorted(t)))
)  # an instant, or a start and an end
ITEMS = st.lists(
    st.tuples(st.none() | frames(), TIMES, st.none() | st.integers(0, 5), st.sampled_from(["a", "b"])), max_size=25
)


ORDERS = st.lists(
    st.tuples(st.sampled_from(["eo:cloud_cover", "datetime", "id", "collection"]), st.booleans()), max_size=3
)


def filled(path, made):
    catalogue = Catalogue(path)
    for name in ("a", "b"):
        catalogue.put_collection(collection(name))
    items = []
    for i, (frame, (first, last), cloud, name) in enumerate(made):
        times = {"datetime": stamp(first)} if first == last else {
            "datetime": None, "start_datetime": stamp(first), "end_datetime": stamp(last)
        }  # fmt: skip
        more = {} if cloud is None else {"eo:cloud_cover": cloud}
        items.append(item(f"{i:03}", frame and drawn(*frame), name, **times, **more))
    catalogue.put_items(items)
    return catalogue


@settings(max_examples=60)
@given(ITEMS, frames(), st.tuples(st.none() | DAYS, st.none() | DAYS), st.integers(1, 7))
def test_a_search_finds_what_a_plain_loop_finds(tmp_path_factory, made, frame, days, limit):
    first, last = days
    path = tmp_path_factory.mktemp("c") / "c.sqlite"
    here = {f"{i:03}" for i, (f, *_) in enumerate(made) if f and meet(f, frame)}
    with filled(path, made) as catalogue:
        assert set(found(catalogue, bbox=frame, limit=limit)) == here
        assert set(found(catalogue, intersects=drawn(*frame), limit=limit)) == here
        if (first, last) == (None, None) or (first is not None and last is not None and first > last):
            return
        then = {
            f"{i:03}" for i, (_, (start, end), *_) in enumerate(made)
            if (first is None or end >= first) and (last is None or start <= last)
        }  # fmt: skip
        interval = "/".join(".." if d is None else stamp(d) for d in days)
        assert set(found(catalogue, datetime=interval, limit=limit)) == then
        both = {i for i in here & then if made[int(i)][3] == "a"}
        assert set(found(catalogue, bbox=frame, datetime=interval, collections=("a",), limit=limit)) == both


@settings(max_examples=40)
@given(ITEMS, ORDERS, st.integers(1, 5))
def test_the_order_is_that_of_a_plain_sort(tmp_path_factory, made, order, limit):
    def value(i, name):
        _, (first, _), cloud, group = made[i]
        return {"eo:cloud_cover": cloud, "datetime": first, "id": f"{i:03}", "collection": group}[name]

    expected = list(range(len(made)))
    keys = [*(order or [("datetime", True)]), ("collection", False), ("id", False)]
    for name, descending in reversed(keys):
        expected.sort(key=lambda i: value(i, name) if value(i, name) is not None else -1, reverse=descending)
        expected.sort(key=lambda i: value(i, name) is None)
    with filled(tmp_path_factory.mktemp("c") / "c.sqlite", made) as catalogue:
        assert found(catalogue, sortby=tuple(order), limit=limit) == [f"{i:03}" for i in expected]


@settings(max_examples=60)
@given(st.lists(st.tuples(LON, LAT), min_size=1, max_size=30), st.lists(st.tuples(LON, LAT), min_size=3, max_size=9))
def test_polygons_are_met_exactly(tmp_path_factory, points, corners):
    area = shapely.MultiPoint(corners).convex_hull
    if area.geom_type != "Polygon":
        return
    with Catalogue(tmp_path_factory.mktemp("c") / "c.sqlite") as catalogue:
        catalogue.put_collection(collection())
        catalogue.put_items(item(f"{i}", point(*p)) for i, p in enumerate(points))
        expected = {f"{i}" for i, p in enumerate(points) if shapely.intersects(area, shapely.Point(p))}
        assert set(found(catalogue, intersects=json.loads(shapely.to_geojson(area)))) == expected


# --- filters --------------------------------------------------------------------------------------------------------

SAMPLES = [
    {"n": 1, "s": "abc", "b": True},
    {"n": 2.5, "s": "Abd", "b": False},
    {"n": None, "s": "a%c", "l": [1, 2]},
    {"s": "a*c", "n": "2"},
    {"n": -3, "d": {"e": 1}, "s": "ü[b"},
    {},
]
FILTERS = [
    "n > 1", "1 < n", "n <= 2.5", "n <> 1", "NOT n = 1", "n = '2'", "s = 'abc'", "s < 'abd'", "s LIKE 'a%'",
    "s LIKE 'a\\%c'", "s LIKE 'a*c'", "s LIKE '_b_'", "s LIKE 'ü[_'", "b = TRUE", "b <> TRUE", "n IN (1, 2.5, 7)",
    "s NOT IN ('abc')", "n BETWEEN 1 AND 2", "n IS NULL", "n IS NOT NULL", "id = '3'",
    "id LIKE '%'", "n > 1 AND s LIKE 'A%'", "n > 1 OR s = 'abc'", "NOT (n > 1 OR s = 'abc')",
    "NOT (missing = 1 AND id = '0')", "missing = 1 OR id = '0'", "n + 1 = 2", "CASEI(s) = CASEI('ABC')",
    "datetime > TIMESTAMP('2023-01-01T00:00:00Z')", "datetime = TIMESTAMP('2024-01-01T00:00:00.000Z')",
    "T_AFTER(datetime, TIMESTAMP('2025-01-01T00:00:00Z'))", "S_INTERSECTS(geometry, POINT(1 1))",
    "S_INTERSECTS(geometry, BBOX(0, 0, 2, 2))", "NOT S_INTERSECTS(geometry, BBOX(0, 0, 2, 2))",
    "S_WITHIN(geometry, POLYGON((0 0, 2 0, 2 2, 0 2, 0 0)))", "properties.n = 1", "collection = 'c'", "n = n",
]  # fmt: skip


@pytest.mark.parametrize("text", FILTERS)
def test_filters_mean_what_cql2_means(catalogue, text):
    """The oracle is cql2's own evaluation; where it has no answer, there is no match."""
    items = [item(f"{i}", point(i, i) if i != 5 else None, **p) for i, p in enumerate(SAMPLES)]
    catalogue.put_items(items)

    def match(one):
        try:
            return cql2.Expr(text).matches(one)
        except Exception:  # noqa: BLE001  what cql2 raises
            return False

    expected = {i["id"] for i in items if match(i)}
    assert set(found(catalogue, filter=text)) == expected
    assert set(found(catalogue, filter=cql2.Expr(text).to_json())) == expected


def test_filters_tell_something(catalogue):
    """So that the test above cannot pass with nothing found."""
    catalogue.put_items(item(f"{i}", point(i, i), **p) for i, p in enumerate(SAMPLES))
    assert found(catalogue, filter="s LIKE 'a%'") == ["0", "2", "3"]
    assert found(catalogue, filter="n IS NULL") == ["2", "5"]
    assert found(catalogue, filter="NOT n = 1") == ["1", "4"]
    assert found(catalogue, filter="d IS NOT NULL") == ["4"]
    # cql2 says false, not unknown, where a text is to lie between numbers; here all comparisons are alike.
    assert found(catalogue, filter="NOT (n BETWEEN 1 AND 2)") == ["1", "4"]
    assert found(catalogue, filter="S_INTERSECTS(geometry, BBOX(0, 0, 2, 2)) OR n = -3") == ["0", "1", "2", "4"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [({"n": {"gt": 1}}, {"1"}), ({"n": {"gte": 1, "lt": 2.5}}, {"0"}), ({"s": {"startsWith": "a%"}}, {"2"}),
     ({"s": {"contains": "*"}}, {"3"}), ({"s": {"endsWith": "c"}}, {"0", "2", "3"}), ({"n": {"neq": 1}}, {"1", "4"}),
     ({"s": {"in": ["abc", "Abd"]}, "b": {"eq": True}}, {"0"}), ({"id": {"eq": "5"}}, {"5"})],
)  # fmt: skip
def test_the_query_extension(catalogue, query, expected):
    catalogue.put_items(item(f"{i}", point(i, i), **p) for i, p in enumerate(SAMPLES))
    assert set(found(catalogue, query=query)) == expected


@pytest.mark.parametrize(
    "text",
    ["(" * 5000 + "n = 1" + ")" * 5000, "NOT " * 5000 + "n = 1", "n = 2" + " + 1" * 5000, "n = 2" + " ^ 1" * 5000,
     "n = 1" + " AND n = 1" * 20000, "n = " + "-" * 100000 + "1"],
    ids=["brackets", "nots", "sum", "powers", "ands", "minus"],
)  # fmt: skip
def test_no_filter_takes_the_process_down(catalogue, text):
    """cql2's parser overflows its stack on some of these."""
    with pytest.raises(InputError) as caught:
        catalogue.search(Search(filter=text))
    assert caught.value.problem.code == "catalogue.filter"


@pytest.mark.parametrize(
    "text",
    ["n >", "nope(n) = 1", {"op": "and", "args": []}, {"op": "=", "args": [1]}, {}, {"op": "nope", "args": [1, 2]},
     {"args": []}, {"op": "not", "args": [{"op": "nope", "args": []}]}, '{"op"', "{" * 5000, "",
     {"op": "s_intersects", "args": [{"property": "geometry"}, {"type": "Polygon", "coordinates": []}]}],
    ids=str,
)  # fmt: skip
def test_filters_that_are_none(catalogue, text):
    catalogue.put_items([item("0", point(0, 0))])
    with pytest.raises(InputError) as caught:
        catalogue.search(Search(filter=text))
    assert caught.value.problem.code in ("catalogue.filter", "catalogue.geometry")


# --- pages ----------------------------------------------------------------------------------------------------------


def test_pages_stay_right_while_items_come_and_go(catalogue):
    rng = random.Random(3)
    before = {f"{i:03}": rng.randrange(10) for i in range(60)}
    catalogue.put_items(item(i, point(0, 0), n=n, datetime=stamp(n)) for i, n in before.items())
    for order in ((), (("n", False),), (("n", True), ("id", True))):
        seen, token, new = [], None, 0
        while True:
            page = catalogue.search(Search(sortby=order, limit=7, token=token))
            seen += [i["id"] for i in page.items]
            token = page.token
            if token is None:
                break
            # New ones before and after the page's end, and the item that the token was made of goes away.
            catalogue.put_items(item(f"new-{order}-{new}-{k}".replace("/", ""), point(0, 0), n=k) for k in (0, 5, 9))
            catalogue.delete_item("c", seen[-1])
            new += 1
        assert len(seen) == len(set(seen))
        old = [i for i in seen if not i.startswith("new")]
        assert set(old) == {i for i in before if i in old or not i.startswith("new")}
        assert len(old) == len(before)
        for i in seen:
            if not i.startswith("new"):
                catalogue.put_items([item(i, point(0, 0), n=before[i], datetime=stamp(before[i]))])


def test_tokens_that_lead_nowhere(catalogue):
    catalogue.put_items(item(f"{i}", point(0, 0)) for i in range(3))
    token = catalogue.search(Search(limit=1)).token
    assert token
    for broken in ("x", "", token[:-3], token + "A", "bnVsbA", "W10", "é", "W1siLWRhdGV0aW1lIl0sWzFdXQ"):
        if not broken:
            continue
        with pytest.raises(InputError) as caught:
            catalogue.search(Search(token=broken))
        assert caught.value.problem.code == "catalogue.token"
    with pytest.raises(InputError):
        catalogue.search(Search(token=token, sortby=(("id", False),)))


def test_limits(catalogue):
    catalogue.put_items(item(f"{i:04}", point(0, 0)) for i in range(MOST + 5))
    page = catalogue.search(Search(limit=10**9))
    assert (len(page.items), page.matched) == (MOST, MOST + 5)
    for limit in (0, -1):
        with pytest.raises(InputError):
            catalogue.search(Search(limit=limit))
    assert found(catalogue, collections=()) == []
    assert found(catalogue, ids=("0007", "nope")) == ["0007"]


# --- places and times -----------------------------------------------------------------------------------------------


def test_a_polygon_that_was_not_cut_is_cut_where_its_box_says_so(catalogue):
    uncut = {"type": "Polygon", "coordinates": [[[179, 0], [-179, 0], [-179, 1], [179, 1], [179, 0]]]}
    catalogue.put_items(
        [{**item("across", uncut), "bbox": [179, 0, -179, 1]}, {**item("around", uncut), "bbox": [-179, 0, 179, 1]}]
    )
    beyond = {"type": "Polygon", "coordinates": ring(179, 0, 181, 1)}
    catalogue.put_items([item("beyond", beyond)])
    assert found(catalogue, bbox=(179.5, 0, 179.6, 1)) == ["across", "beyond"]
    assert found(catalogue, bbox=(-179.6, 0, -179.5, 1)) == ["across", "beyond"]
    assert found(catalogue, bbox=(0, 0, 1, 1)) == ["around"]
    assert catalogue.item("c", "beyond")["bbox"] == [179, 0, -179, 1]


def test_an_item_that_is_wide_and_cut_stays_as_it_is(catalogue):
    """A map that begins at 5 W and goes round the Earth to 10 W: one of its parts is wider than half of it."""
    parts = [ring(-5, 0, 180, 10), ring(-180, 0, -10, 10)]
    wide = item("wide", {"type": "MultiPolygon", "coordinates": parts})
    catalogue.put_items([{**wide, "bbox": [-5, 0, -10, 10]}])
    assert found(catalogue, bbox=(-4, 1, 1, 2)) == found(catalogue, bbox=(-20, 1, -15, 2)) == ["wide"]
    assert found(catalogue, bbox=(-8, 1, -7, 2)) == []


@pytest.mark.parametrize(
    "bbox",
    [(1, 2), (0, 1, 2, 0), (0, 0, 361, 1), (0, -91, 1, 1), (0, 0, float("nan"), 1), (0, 0, float("inf"), 1),
     (0, 0, 1, 1, 1), ("0", 0, 1, 1), (True, 0, 1, 1)],
    ids=str,
)  # fmt: skip
def test_boxes_that_are_none(catalogue, bbox):
    with pytest.raises(InputError) as caught:
        catalogue.search(Search(bbox=bbox))
    assert (caught.value.problem.code, caught.value.problem.field) == ("catalogue.bbox", "bbox")


@pytest.mark.parametrize(
    "time", ["yesterday", "2024-01-01", "2024-13-01T00:00:00Z", "../..", "/", "",
             "2024-01-02T00:00:00Z/2024-01-01T00:00:00Z",
             "a/b/c", "2024-01-01T00:00:00"],
)  # fmt: skip
def test_times_that_are_none(catalogue, time):
    with pytest.raises(InputError) as caught:
        catalogue.search(Search(datetime=time))
    assert caught.value.problem.code == "catalogue.datetime"


def test_ends_of_intervals_count(catalogue):
    catalogue.put_items([item("x", point(0, 0), datetime="2024-05-01T12:00:00.000001Z")])
    for time, hit in {
        "2024-05-01T12:00:00.000001Z": True, "2024-05-01T12:00:00Z": False, "2024-05-01T14:00:00.000001+02:00": True,
        "../2024-05-01T12:00:00.000001Z": True, "2024-05-01T12:00:00.000001Z/..": True,
        "/2024-05-01T12:00:00Z": False, "2024-05-01T12:00:00.000002Z/": False, "0001-01-01T00:00:00Z/..": True,
    }.items():  # fmt: skip
        assert bool(found(catalogue, datetime=time)) == hit, time


def test_large_polygons(catalogue):
    """Of 20 000 corners exactly, of a million not at all."""
    catalogue.put_items(item(f"{i}", point(i / 10, 45)) for i in range(100))
    circle = shapely.Point(5, 45).buffer(2, quad_segs=5000)
    ids = found(catalogue, intersects=json.loads(shapely.to_geojson(circle)), limit=1000)
    assert {int(i) for i in ids} == set(range(30, 71))
    line = {"type": "LineString", "coordinates": [[i % 90, 1] for i in range(300_000)]}
    with pytest.raises(InputError) as caught:
        catalogue.search(Search(intersects=line))
    assert caught.value.problem.code == "catalogue.geometry"


# --- keeping --------------------------------------------------------------------------------------------------------


def test_documents_come_back_as_they_were(catalogue):
    original = item("x", drawn(1, 2, 3, 4), title="Grüße", nested={"a": [1, None, 1e300, "∅"]})
    original |= {"bbox": [1, 2, 3, 4], "assets": {"a": {"href": "/a.tif", "x:y": 1}}, "own": "kept"}
    links = [{"rel": "derived_from", "href": "/b"}, {"rel": "self", "href": "gone"}, {"rel": "root", "href": "gone"}]
    catalogue.put_items([{**original, "links": links}])
    assert catalogue.item("c", "x") == {**original, "links": links[:1]}


def test_putting_again_replaces(catalogue):
    catalogue.put_items([item("x", point(1, 1), n=1)])
    catalogue.put_items([item("x", drawn(179, 0, -179, 1), n=2)])
    catalogue.put_items([item("x", point(5, 5), n=3)])
    assert found(catalogue, bbox=(1, 1, 1, 1)) == found(catalogue, bbox=(179.5, 0, 180, 1)) == []
    assert found(catalogue, bbox=(5, 5, 5, 5)) == ["x"]
    assert catalogue.count("c") == 1
    catalogue.put_collection(collection("d"))
    catalogue.put_items([item("x", point(1, 1), "d")])
    assert (catalogue.count("c"), catalogue.count("d")) == (1, 1)


def test_what_is_deleted_is_gone_from_the_index(catalogue, tmp_path):
    catalogue.put_items(item(f"{i}", drawn(170, 0, -170, 1)) for i in range(3))
    catalogue.delete_item("c", "1")
    with pytest.raises(InputError) as caught:
        catalogue.delete_item("c", "1")
    assert caught.value.problem.code == "catalogue.unknown"
    assert found(catalogue, bbox=(175, 0, 176, 1)) == ["0", "2"]
    catalogue.delete_collection("c")
    assert catalogue.collections() == []
    with sqlite3.connect(tmp_path / "catalogue.sqlite") as file:
        assert file.execute("SELECT count(*) FROM stac_boxes").fetchone() == (0,)
        assert file.execute("SELECT count(*) FROM stac_items").fetchone() == (0,)


@pytest.mark.parametrize(
    "broken",
    [{"type": "X"}, {"id": None}, {"id": "a/b"}, {"id": ""}, {"id": ".."}, {"id": "\ud800"}, {"collection": None},
     {"properties": None}, {"properties": {}}, {"properties": {"datetime": "soon"}}, {"properties": {"datetime": 5}},
     {"properties": {"datetime": None, "start_datetime": "2024-01-01T00:00:00Z"}},
     {"properties": {"start_datetime": "2024-01-02T00:00:00Z", "end_datetime": "2024-01-01T00:00:00Z"}},
     {"geometry": {"type": "Point"}}, {"geometry": {"type": "Point", "coordinates": [0, 91]}},
     {"geometry": "POINT (0 0)"},
     {"geometry": {"type": "Polygon", "coordinates": []}}, {"links": [1]}, {"assets": {"a": {}}}, {"assets": []},
     {"properties": {"datetime": "2024-01-01T00:00:00Z", "x": float("nan")}}, {"bbox": [1]},
     {"geometry": {"type": "Point", "coordinates": [float("nan"), 1]}}],
    ids=str,
)  # fmt: skip
def test_items_that_are_none_leave_nothing_behind(catalogue, broken):
    with pytest.raises(InputError) as caught:
        catalogue.put_items([item("good", point(0, 0)), {**item("bad", point(0, 0)), **broken}])
    assert caught.value.problem.code.startswith("catalogue.")
    assert catalogue.count("c") == 0


def test_items_need_a_collection(catalogue):
    with pytest.raises(InputError) as caught:
        catalogue.put_items([item("x", point(0, 0)), item("y", point(0, 0), "nope")])
    assert caught.value.problem.code == "catalogue.unknown"
    assert catalogue.count("c") == 0


def test_extents_and_summaries_are_those_of_the_items(catalogue):
    empty = catalogue.collection("c")
    assert empty["extent"] == COLLECTION["extent"]
    catalogue.put_items([
        item("a", drawn(10, -5, 20, 5), datetime=stamp(3), platform="s2a", **{"eo:cloud_cover": 5}),
        item("b", point(30, 40), datetime=None, start_datetime=stamp(1), end_datetime=stamp(2), platform="s2b"),
        item("c", None, datetime=stamp(9), **{"eo:cloud_cover": 80.5}),
    ])  # fmt: skip
    full = catalogue.collection("c")
    assert full["extent"]["spatial"]["bbox"] == [[10, -5, 30, 40]]
    assert full["extent"]["temporal"]["interval"] == [[stamp(1), stamp(9)]]
    assert full["summaries"] == {"platform": ["s2a", "s2b"], "eo:cloud_cover": {"minimum": 5, "maximum": 80.5}}
    assert catalogue.collection("c") == full  # now from what was kept
    catalogue.delete_item("c", "b")
    assert catalogue.collection("c")["extent"]["spatial"]["bbox"] == [[10, -5, 20, 5]]
    catalogue.put_items([item("d", drawn(170, 0, -170, 1), datetime=stamp(3))])
    assert catalogue.collection("c")["extent"]["spatial"]["bbox"] == [[10, -5, -170, 5]]
    catalogue.put_items([item("e", drawn(-175, 0, 15, 1), datetime=stamp(3))])
    assert catalogue.collection("c")["extent"]["spatial"]["bbox"] == [[-180, -5, 180, 5]]


# --- several at once ------------------------------------------------------------------------------------------------


def _write(path, name, count):
    with Catalogue(path) as catalogue:
        for i in range(count):
            catalogue.put_items([item(f"{name}-{i}", point(i % 90, 1)), item("shared", point(i % 90, 2), by=name)])


def test_two_processes_write_while_one_reads(tmp_path):
    path, count = tmp_path / "c.sqlite", 150
    with Catalogue(path) as catalogue:
        catalogue.put_collection(collection())
        context = multiprocessing.get_context("spawn")
        writers = [context.Process(target=_write, args=(path, name, count)) for name in ("a", "b")]
        for writer in writers:
            writer.start()
        sizes = []
        while any(w.is_alive() for w in writers):
            page = catalogue.search(Search(limit=1000))
            # One state of the file: what a page holds and what was counted agree.
            assert len(page.items) == page.matched
            sizes.append(page.matched)
        for writer in writers:
            writer.join(30)
            assert writer.exitcode == 0
        assert sizes == sorted(sizes)
        assert catalogue.count("c") == 2 * count + 1
        assert len(found(catalogue, bbox=(0, 0, 90, 3), limit=1000)) == 2 * count + 1


def test_threads_share_a_catalogue(catalogue):
    errors = []

    def work(name):
        try:
            for i in range(30):
                catalogue.put_items([item(f"{name}-{i}", point(1, 1))])
                assert f"{name}-{i}" in found(catalogue, bbox=(1, 1, 1, 1), limit=1000)
        except BaseException as error:  # noqa: BLE001  told to the test
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert catalogue.count("c") == 120


def test_a_killed_writer_leaves_whole_batches(tmp_path):
    path = tmp_path / "c.sqlite"
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from pipelines.catalogue.store import Catalogue
catalogue = Catalogue(Path({str(path)!r}))
catalogue.put_collection({collection()!r})
for i in range(10**6):
    catalogue.put_items([{item("x", point(1, 1))!r} | {{"id": f"{{i}}-{{k}}"}} for k in range(10)])
    print(i, flush=True)
"""
    writer = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    for _ in range(20):
        writer.stdout.readline()
    writer.kill()
    writer.communicate()
    with Catalogue(path) as catalogue:
        count = catalogue.count("c")
        assert count >= 200
        assert count % 10 == 0
        assert len(found(catalogue, bbox=(1, 1, 1, 1), limit=1000)) == count


def test_a_callers_transaction_is_the_callers(tmp_path):
    """A job and its item are written together, or neither."""
    file = sqlite3.connect(tmp_path / "c.sqlite", isolation_level=None)
    file.execute("CREATE TABLE jobs (id TEXT)")
    file.execute("BEGIN")
    catalogue = Catalogue(file)
    catalogue.put_collection(collection())
    file.execute("COMMIT")
    file.execute("BEGIN")
    file.execute("INSERT INTO jobs VALUES ('lost')")
    catalogue.put_items([item("lost", point(0, 0))])
    with pytest.raises(InputError):  # undoes itself, and nothing else
        catalogue.put_items([item("half", point(0, 0)), item("bad", point(0, 0), "nope")])
    assert [i["id"] for i in catalogue.search(Search()).items] == ["lost"]
    open_cursor = file.execute("SELECT 1 UNION SELECT 2")  # SQLite minds some things while one is being read
    open_cursor.fetchone()
    assert found(catalogue, bbox=(0, 0, 1, 1), filter="1 + 1 = 2") == ["lost"]
    open_cursor.close()
    file.execute("ROLLBACK")
    assert catalogue.count("c") == 0
    file.execute("BEGIN")
    file.execute("INSERT INTO jobs VALUES ('kept')")
    catalogue.put_items([item("kept", point(0, 0))])
    file.execute("COMMIT")
    file.close()
    with Catalogue(tmp_path / "c.sqlite") as again:
        assert found(again) == ["kept"]
    with sqlite3.connect(tmp_path / "c.sqlite") as other:
        assert other.execute("SELECT id FROM jobs").fetchall() == [("kept",)]


# --- the file -------------------------------------------------------------------------------------------------------


def test_files_that_are_no_catalogue(tmp_path):
    (tmp_path / "text").write_text("this is text, and long enough to be told from an empty file\n" * 100)
    with pytest.raises(OutputError) as caught:
        Catalogue(tmp_path / "text")
    assert caught.value.problem.code == "catalogue.unreadable"
    assert "long enough" in (tmp_path / "text").read_text()
    (tmp_path / "file").write_text("")
    with pytest.raises(SwatheError) as caught:
        Catalogue(tmp_path / "file" / "c.sqlite")
    assert caught.value.problem.code == "catalogue.unwritable"


def test_a_newer_catalogue_is_left_alone(tmp_path):
    Catalogue(tmp_path / "c.sqlite").close()
    with sqlite3.connect(tmp_path / "c.sqlite") as file:
        file.execute("UPDATE stac_schema SET version = 99")
    with pytest.raises(InputError) as caught:
        Catalogue(tmp_path / "c.sqlite")
    assert caught.value.problem.code == "catalogue.newer"


def test_a_search_that_takes_too_long_is_given_up(tmp_path):
    with Catalogue(tmp_path / "c.sqlite") as catalogue:
        catalogue.put_collection(collection())
        catalogue.put_items(item(f"{i}", point(0, 0), n=i) for i in range(3000))
    with Catalogue(tmp_path / "c.sqlite", seconds=0.01) as catalogue, pytest.raises(InputError) as caught:
        catalogue.search(Search(filter="n + 1 = 0"))
    assert caught.value.problem.code == "catalogue.slow"
