"""The catalogue as clients see it: pystac-client and plain HTTP against the real server on loopback."""

from __future__ import annotations

import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pystac
import pystac_client
import pytest
import requests
import shapely
import uvicorn
from fastapi import FastAPI
from pystac_client.exceptions import APIError
from starlette.testclient import TestClient

from pipelines.catalogue.store import Catalogue
from serve.catalogue.app import Front, catalogue_app

COLLECTION = {
    "type": "Collection", "stac_version": "1.1.0", "description": "d", "license": "other", "links": [],
    "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
}  # fmt: skip
START = datetime(2024, 1, 1, tzinfo=UTC)
MOUNT = "/one/stac"


def square(lon, lat, size=0.5):
    return json.loads(shapely.to_geojson(shapely.box(lon, lat, lon + size, lat + size)))


def item(i, collection="squares"):
    when = (START + timedelta(days=i)).isoformat().replace("+00:00", "Z")
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": f"i{i:02}", "collection": collection,
        "geometry": square(i, i), "bbox": [i, i, i + 0.5, i + 0.5],
        "properties": {"datetime": when, "eo:cloud_cover": (i * 37) % 100, "platform": "ab"[i % 2], "odd": bool(i % 2)},
        "links": [{"rel": "derived_from", "href": "https://e.org/x"}, {"rel": "about", "href": "collections/squares"}],
        "assets": {"data": {"href": f"/somewhere/{i}.tif", "roles": ["data"]}},
    }  # fmt: skip


def serving(app):
    """A server in a thread, on a free port of loopback."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    bound.listen(128)  # who comes before the server is ready waits
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    bound.close()


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    with Catalogue(tmp_path_factory.mktemp("catalogue") / "c.sqlite") as made:
        made.put_collection({**COLLECTION, "id": "squares", "title": "Squares"})
        made.put_collection({**COLLECTION, "id": "other ones"})
        made.put_items([*(item(i) for i in range(40)), {**item(3, "other ones"), "geometry": None}])
        yield made


@pytest.fixture(scope="module")
def site(catalogue):
    """The application mounted below a path of another one, as the service will have it."""
    outer = FastAPI()
    outer.mount(MOUNT, catalogue_app(catalogue, lambda href: f"https://files.e.org{href}", Front(body_bytes=300_000)))
    yield from serving(outer)


@pytest.fixture(scope="module")
def root(site):
    return site + MOUNT


@pytest.fixture(scope="module")
def client(root):
    return pystac_client.Client.open(f"{root}/")


def ids(search):
    return [i.id for i in search.items()]


# --- pystac-client --------------------------------------------------------------------------------------------------


def test_a_client_finds_its_way(client, root):
    assert [c.id for c in client.get_collections()] == ["other ones", "squares"]
    squares = client.get_collection("squares")
    assert squares.title == "Squares"
    assert squares.extent.spatial.bboxes == [[0, 0, 39.5, 39.5]]
    assert squares.get_self_href() == f"{root}/collections/squares"
    one = squares.get_item("i07")
    assert one.get_self_href() == f"{root}/collections/squares/items/i07"
    assert one.get_collection().id == "squares"
    assert one.assets["data"].href == "https://files.e.org/somewhere/7.tif"
    assert [k.href for k in one.links if k.rel in ("derived_from", "about")] == [
        "https://e.org/x", f"{root}/collections/squares",
    ]  # fmt: skip
    assert len(list(squares.get_items())) == 40
    other = client.get_collection("other ones").get_item("i03")
    assert other.geometry is None


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("limit", [1, 7, 40, 1000])
def test_pages_of_any_size(client, method, limit):
    search = client.search(collections=["squares"], method=method, limit=limit)
    assert ids(search) == [f"i{i:02}" for i in reversed(range(40))]  # newest first
    assert search.matched() == 40


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_searching(client, method):
    def found(**asked):
        return ids(client.search(method=method, limit=3, collections=["squares"], **asked))

    assert found(bbox=[4.9, 4.9, 7, 7]) == ["i07", "i06", "i05"]
    triangle = {"type": "Polygon", "coordinates": [[[4.4, 4.4], [9, 4.4], [9, 9], [4.4, 4.4]]]}
    assert found(intersects=triangle) == [f"i0{i}" for i in (9, 8, 7, 6, 5, 4)]
    assert found(datetime="2024-01-03/2024-01-05") == ["i04", "i03", "i02"]
    assert found(datetime="2024-02-08T00:00:00Z/..") == ["i39", "i38"]
    assert found(datetime="../2024-01-02T12:00:00Z") == ["i01", "i00"]
    assert found(datetime="2024-01-02T00:00:00Z") == ["i01"]
    assert found(ids=["i05", "i33"]) == ["i33", "i05"]
    cloudless = {f"i{i:02}" for i in range(40) if (i * 37) % 100 < 10}
    even = {i for i in cloudless if not int(i[1:]) % 2}
    assert set(found(query={"eo:cloud_cover": {"lt": 10}, "platform": {"eq": "a"}})) == even
    assert set(found(filter="eo:cloud_cover < 10", filter_lang="cql2-text")) == cloudless
    cql2 = {"op": "<", "args": [{"property": "eo:cloud_cover"}, 10]}
    assert set(found(filter=cql2, filter_lang="cql2-json")) == cloudless
    by_cloud = sorted(range(40), key=lambda i: -((i * 37) % 100))
    assert found(sortby=[{"field": "properties.eo:cloud_cover", "direction": "desc"}]) == [f"i{i:02}" for i in by_cloud]
    assert found(sortby="+id", ids=["i02", "i01"]) == ["i01", "i02"]
    assert found(bbox=[0, 0, 20, 20], datetime="2024-01-05/..", filter="odd = TRUE", filter_lang="cql2-text") == [
        f"i{i:02}" for i in (19, 17, 15, 13, 11, 9, 7, 5)
    ]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_fields(client, method):
    search = client.search(
        method=method, ids=["i05"], fields={"include": ["properties.eo:cloud_cover", "bbox"], "exclude": ["links"]}
    )
    (only,) = search.items_as_dicts()
    assert only == {
        "type": "Feature", "stac_version": "1.1.0", "id": "i05", "collection": "squares",
        "properties": {"eo:cloud_cover": 85}, "bbox": [5, 5, 5.5, 5.5],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("id", {"type", "stac_version", "id", "collection"}),
        ("-assets,-links,-geometry,-bbox,-properties", {"type", "stac_version", "id", "collection"}),
        ("bbox,-bbox", {"type", "stac_version", "id", "collection", "bbox"}),
        ("properties.platform,-properties", {"type", "stac_version", "id", "collection", "properties"}),
        ("+nope,-id", {"type", "stac_version", "collection"}),
    ],
)
def test_which_fields_come(root, fields, expected):
    answer = requests.get(f"{root}/search", params={"ids": "i05", "fields": fields}, timeout=10).json()
    assert set(answer["features"][0]) == expected


def test_parts_of_properties(root):
    def properties(fields):
        answer = requests.get(f"{root}/search", params={"ids": "i05", "fields": fields}, timeout=10).json()
        return set(answer["features"][0]["properties"])

    assert properties("properties,-properties.platform") == {"datetime", "eo:cloud_cover", "odd"}
    assert properties("properties.platform,-properties") == {"platform"}
    assert properties("-properties.odd") == {"datetime", "eo:cloud_cover", "platform"}


def test_everything_served_is_valid_stac(client):
    from pystac.validation.stac_validator import JsonSchemaSTACValidator

    validator = JsonSchemaSTACValidator()
    for one in client.search(max_items=3).items_as_dicts():
        validator.validate_core({**one, "stac_extensions": []}, pystac.STACObjectType.ITEM, "1.1.0")
    for one in client.get_collections():
        validator.validate_core(one.to_dict(), pystac.STACObjectType.COLLECTION, "1.1.0")
    landing = requests.get(client.get_self_href(), timeout=10).json()
    validator.validate_core(landing, pystac.STACObjectType.CATALOG, "1.1.0")


def test_what_it_conforms_to(client, root):
    assert all(client.conforms_to(c) for c in pystac_client.ConformanceClasses if c.name in
               ("CORE", "ITEM_SEARCH", "FEATURES", "COLLECTIONS", "FIELDS", "SORT", "QUERY", "FILTER"))  # fmt: skip
    queryables = client.get_collection("squares").get_queryables()
    assert queryables["properties"]["eo:cloud_cover"] == {"type": "number"}
    assert queryables["$id"] == f"{root}/collections/squares/queryables"
    assert set(client.get_queryables()["properties"]) >= {"id", "datetime", "platform", "odd"}


def test_a_client_is_told_what_is_wrong(client):
    with pytest.raises(APIError, match=r"catalogue\.filter"):
        ids(client.search(filter="nope(", filter_lang="cql2-text"))
    assert client.get_collection("squares").get_item("nope") is None


# --- links and addresses --------------------------------------------------------------------------------------------


def every_href(document):
    if isinstance(document, dict):
        for key, value in document.items():
            if key == "href":
                yield value
            yield from every_href(value)
    elif isinstance(document, list):
        for part in document:
            yield from every_href(part)


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "maps.e.org"}, "https://maps.e.org/one/stac"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "maps.e.org", "X-Forwarded-Port": "8443"},
         "https://maps.e.org:8443/one/stac"),
        ({"X-Forwarded-Host": "a.e.org, b.e.org", "X-Forwarded-Proto": "https,http", "X-Forwarded-Prefix": "/x/"},
         "https://a.e.org/x/one/stac"),
        ({"Forwarded": 'for=1.2.3.4;proto=https;host="maps.e.org:444", for=5.6.7.8'}, "https://maps.e.org:444/one/stac"),
        ({"Host": "[::1]:81"}, "http://[::1]:81/one/stac"),
        ({"X-Forwarded-Host": 'evil"><script>', "X-Forwarded-Proto": "javascript", "Host": "good.e.org"},
         "http://good.e.org/one/stac"),
        ({"X-Forwarded-Prefix": "/../<b>", "Host": "good.e.org"}, "http://good.e.org/one/stac"),
    ],
)  # fmt: skip
def test_links_are_those_that_the_client_needs(root, headers, seen):
    for path in ("/", "/collections", "/collections/squares", "/collections/squares/items?limit=1", "/search?limit=2",
                 "/collections/squares/items/i01"):  # fmt: skip
        answer = requests.get(root + path, headers=headers, timeout=10)
        own = [h for h in every_href(answer.json()) if not h.startswith(("https://files.e.org", "https://e.org"))]
        assert own
        assert all(h.startswith(seen) for h in own), path


def test_links_lead_somewhere(root):
    landing = requests.get(f"{root}/", timeout=10).json()
    seen = {link["rel"] for link in landing["links"]}
    assert seen >= {"self", "root", "data", "conformance", "search", "service-desc", "service-doc", "child"}
    for link in landing["links"]:
        if link.get("method", "GET") == "GET":
            answer = requests.get(link["href"], timeout=10)
            assert answer.status_code == 200, link
            assert answer.headers["content-type"].startswith(link["type"]), link
    page = requests.get(f"{root}/search?limit=5&collections=squares&sortby=-id", timeout=10).json()
    (next_,) = [link for link in page["links"] if link["rel"] == "next"]
    assert re.search(r"limit=5&collections=squares&sortby=-id&token=", next_["href"])


def test_post_pages_keep_the_question(root):
    body = {
        "collections": ["squares"],
        "limit": 3,
        "sortby": [{"field": "id", "direction": "asc"}],
        "bbox": [0, 0, 9, 9],
    }
    seen = []
    while True:
        page = requests.post(f"{root}/search", json=body, timeout=10).json()
        seen += [f["id"] for f in page["features"]]
        links = [link for link in page["links"] if link["rel"] == "next"]
        if not links:
            break
        assert links[0]["method"] == "POST"
        body = links[0]["body"]
    assert seen == [f"i{i:02}" for i in range(10)]


def test_answers_may_be_read_by_other_sites(root):
    answer = requests.get(f"{root}/search", headers={"Origin": "https://e.org"}, timeout=10)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["content-type"] == "application/geo+json"


def test_faults_may_be_read_by_other_sites(catalogue):
    app = catalogue_app(catalogue)

    @app.get("/broken")
    async def broken():
        raise RuntimeError("nobody expected this")

    client = TestClient(app, raise_server_exceptions=False)
    answer = client.get("/broken", headers={"Origin": "https://e.org"})
    is_problem(answer, 500)
    assert answer.headers["access-control-allow-origin"] == "*"


# --- malformed requests ---------------------------------------------------------------------------------------------

DEEP = '{"filter":' + '{"op":"not","args":[' * 3000 + "true" + "]}" * 3000 + "}"


def is_problem(answer, status):
    assert answer.status_code == status, answer.text[:300]
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert all(problem[k] for k in ("type", "code", "title", "detail"))
    return problem


@pytest.mark.parametrize(
    "query",
    ["bbox=1,2", "bbox=a,b,c,d", "bbox=0,5,1,2", "bbox=nan,0,1,1", "bbox=0,0,400,1", "limit=0", "limit=-1", "limit=x",
     "datetime=yesterday", "datetime=2024-01-01", "datetime=../..",
     "datetime=2025-01-01T00:00:00Z/2024-01-01T00:00:00Z",
     "filter=((", "filter=nope(1)=1", "filter=a=1&filter-lang=cql", "filter=%7B&filter-lang=cql2-json",
     "filter=a=1&filter-crs=EPSG:3857", "intersects=%7B", "intersects=%5B%5D", "intersects=%7B%22type%22:%22Blob%22%7D",
     "query=x", "query=%7B%22a%22:1%7D", "query=%7B%22a%22:%7B%22like%22:1%7D%7D", "token=x", "token=%00",
     "sortby=a.b", "sortby=%22", "bbox=0,0,1,1&intersects=%7B%22type%22:%22Point%22,%22coordinates%22:[0,0]%7D"],
)  # fmt: skip
def test_malformed_questions(root, query):
    is_problem(requests.get(f"{root}/search?{query}", timeout=10), 400)


@pytest.mark.parametrize(
    "body",
    ["", "{", "[]", "null", "1", '"x"', '{"bbox":[NaN,0,1,1]}', '{"bbox":[1]}', '{"bbox":"x"}', '{"limit":0}',
     '{"limit":1.5}', '{"ids":"x"}', '{"ids":["\\ud800"]}', '{"collections":[1]}', '{"intersects":{"type":"Polygon"}}',
     '{"intersects":{"type":"Point","coordinates":[1e999,0]}}', '{"intersects":[]}', '{"filter":[]}', '{"filter":{}}',
     '{"filter":{"op":"=","args":[]}}', '{"filter":{"op":"nope","args":[1]}}', '{"query":[]}',
     '{"query":{"a":{"lt":[]}}}', '{"sortby":[{"field":"a","direction":"up"}]}', '{"sortby":"x"}', '{"token":1}',
     '{"fields":1}', '{"datetime":"x"}', '{"filter-lang":"cql2-text","filter":"a="}',
      DEEP, "\xff\xfe"],
    ids=lambda b: b[:40],
)  # fmt: skip
def test_malformed_bodies(root, body):
    answer = requests.post(
        f"{root}/search", data=body.encode("latin1"), headers={"Content-Type": "application/json"}, timeout=10
    )
    is_problem(answer, 400)


def test_what_is_not_there(root):
    for path in ("/collections/nope", "/collections/nope/items", "/collections/squares/items/nope", "/nope",
                 "/collections/nope/queryables", "/collections/%00",
                 "/collections/squares/items/..%2f..%2fetc"):  # fmt: skip
        is_problem(requests.get(root + path, timeout=10), 404)


def test_it_can_only_be_read(root):
    squares = "/collections/squares"
    for method, path in (("POST", "/collections"), ("PUT", squares), ("DELETE", squares), ("POST", f"{squares}/items"),
                         ("DELETE", f"{squares}/items/i01")):  # fmt: skip
        is_problem(requests.request(method, root + path, json={}, timeout=10), 405)


def test_bodies_have_a_limit(root):
    large = json.dumps({"ids": ["x" * 100] * 5000})
    headers = {"Content-Type": "application/json"}
    assert requests.post(f"{root}/search", data=large, headers=headers, timeout=10).status_code == 413
    pieces = (large[i : i + 1000].encode() for i in range(0, len(large), 1000))
    assert requests.post(f"{root}/search", data=pieces, headers=headers, timeout=10).status_code == 413
    assert requests.post(f"{root}/search", json={"ids": ["x" * 100] * 500}, timeout=10).status_code == 200


def test_many_clients_at_once(root):
    def ask(i):
        answer = requests.get(f"{root}/search?limit=7&bbox={i},{i},{i + 3},{i + 3}&collections=squares", timeout=30)
        return [f["id"] for f in answer.json()["features"]]

    with ThreadPoolExecutor(16) as pool:
        for i, found in enumerate(pool.map(ask, range(30))):
            assert found == [f"i{k:02}" for k in (i + 3, i + 2, i + 1, i)]
