"""Searches against a local STAC API, static catalogues and folders: paging, faults, filters, what is nearest."""

import copy
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import from_origin

from pipelines.search import stac, static
from pipelines.search.find import covered, find, look
from pipelines.search.query import Query
from swathe.aoi import AOI
from swathe.errors import BandError, ImageryError, InputError, ReadError, SwatheError
from swathe.source import Auth, AuthKind, SourceCard
from swathe.when import Interval, parse_dates, read_moment
from tests.pipelines import recorded
from tests.pipelines.stac_server import CORE, FILTER, QUERY, Answer, StacServer, Wanted

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(scope="module")
def fetcher():
    door = recorded.open_door()
    yield door
    door.close()


def made(number, lon=10.0, day=1, cloud=10.0, **properties):
    """An item of one square degree, with an id that sorts as its number."""
    when = datetime(2024, 7, 1, 10, tzinfo=UTC) + timedelta(days=day - 1, seconds=number)
    ring = [[lon, 45], [lon + 1, 45], [lon + 1, 46], [lon, 46], [lon, 45]]
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": f"scene-{number:04d}", "collection": "mine", "links": [],
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [lon, 45, lon + 1, 46],
        "properties": {"datetime": when.isoformat(), "eo:cloud_cover": cloud, **properties},
        "assets": {"red": {"href": f"https://files.example/{number}/red.tif", "type": "image/tiff"}},
    }  # fmt: skip


def card(url, **more):
    return SourceCard.model_validate({
        "id": "mine", "title": "mine", "kind": "stac", "url": url, "collection": "mine",
        "bands": {"red": {"asset": "red"}}, "radiometry": {"rule": "fixed", "scale": 0.0001}, **more,
    })  # fmt: skip


def query(dates="2024-07", aoi="10.2,45.2,10.8,45.8", **more):
    return Query(AOI.parse(aoi), parse_dates(dates, NOW), **more)


def ids(found):
    return [scene.id for scene in found.scenes]


# --- searching --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by", "methods"),
    [("post", ("GET", "POST")), ("merge", ("POST",)), ("get", ("GET", "POST")), ("get", ("GET",))],
)
def test_all_pages_are_read_once(by, methods, fetcher):
    items = [made(k, day=1 + k % 30) for k in range(37)]
    with StacServer(items, next_by=by, methods=methods, page=5) as api:
        found = find(card(api.url), query(), fetcher, NOW)
        assert sorted(ids(found)) == [i["id"] for i in items]
        assert [s.when for s in found.scenes] == sorted(s.when for s in found.scenes)
        assert len(api.searches) == 8


def oracle(items, asked):
    """Which items match: by shapely and datetime, item by item."""
    kept = []
    for item in items:
        moment = read_moment(item["properties"]["datetime"])
        overlap = shapely.geometry.shape(item["geometry"]).intersection(asked.aoi.geometry).area > 0
        clear = asked.max_cloud is None or item["properties"]["eo:cloud_cover"] <= asked.max_cloud
        if overlap and clear and any(i.start <= moment <= i.end for i in asked.intervals):
            kept.append(item["id"])
    return kept


@pytest.mark.parametrize("filters", [True, False])
@pytest.mark.parametrize("conforms", [(*CORE, QUERY), (*CORE, *FILTER), CORE, ()])
def test_answers_do_not_depend_on_what_the_service_can(filters, conforms, fetcher):
    """Clouds by query, by CQL2, or by ourselves; also against a service that ignores all that was asked."""
    rng = np.random.default_rng(5)
    items = [made(k, lon=float(rng.uniform(8, 12)), day=int(rng.integers(1, 60)), cloud=float(rng.uniform(0, 100)))
             for k in range(60)]  # fmt: skip
    asked = query("2024-07-05/2024-07-20,2024-08-01,2024-08-01_2024-08-10", max_cloud=50.0)
    with StacServer(items, conforms=conforms, filters=filters, page=20) as api:
        found = find(card(api.url), asked, fetcher, NOW)
        sent = [set(a.body) for a in api.searches]
    assert sorted(ids(found)) == sorted(oracle(items, asked))
    assert len(ids(found)) > 3
    assert all(("query" in body) == (QUERY in conforms) for body in sent)
    assert all(("filter" in body) == (FILTER[0] in conforms) for body in sent)


def test_an_area_across_the_antimeridian_is_asked_for_in_two(fetcher):
    items = [made(0, lon=178.5), made(1, lon=-179.5), made(2, lon=0.0), made(3, lon=-178.2)]
    asked = query(aoi="179,45.2,-179,45.8")
    with StacServer(items) as api:
        found = find(card(api.url), asked, fetcher, NOW)
        sent = [shapely.geometry.shape(a.body["intersects"]).bounds for a in api.searches]
    assert ids(found) == ["scene-0000", "scene-0001"]
    assert sorted(sent) == [(-180, 45.2, -179, 45.8), (179, 45.2, 180, 45.8)]
    assert covered(found.scenes[0], asked) == pytest.approx(0.25)
    assert covered(found.scenes[1], asked) == pytest.approx(0.25)


def test_an_area_of_many_corners_is_sent_simpler_and_sorted_out_here(fetcher):
    angles = np.linspace(0, 2 * np.pi, 20_000, endpoint=False)
    blob = shapely.Polygon(np.column_stack([10.5 + 0.3 * np.cos(angles), 45.5 + 0.3 * np.sin(angles)]))
    (sent,) = stac.shapes(AOI.of(blob))
    sent = shapely.geometry.shape(sent)
    assert shapely.count_coordinates(sent) <= 400
    assert shapely.covers(sent.buffer(1e-9), blob)
    corner = made(0)
    corner["geometry"] = shapely.geometry.mapping(shapely.box(10.2, 45.2, 10.21, 45.21))
    with StacServer([corner, made(1)], filters=False) as api:
        found = find(card(api.url), replace(query(), aoi=AOI.of(blob)), fetcher, NOW)
    assert ids(found) == ["scene-0001"]


def test_touching_is_not_covering(fetcher):
    with StacServer([made(0), made(1, lon=10.8)]) as api:
        assert ids(find(card(api.url), query(), fetcher, NOW)) == ["scene-0000"]


def test_more_than_the_limit_is_refused(fetcher):
    with StacServer([made(k) for k in range(12)], page=5) as api, pytest.raises(InputError) as caught:
        find(card(api.url), query(limit=10), fetcher, NOW)
    assert caught.value.problem.code == "search.too_many"


def test_a_band_that_the_source_lacks_is_refused_before_searching(fetcher):
    with StacServer([]) as api:
        with pytest.raises(BandError) as caught:
            find(card(api.url), query(bands=("red", "swir16")), fetcher, NOW)
        assert not api.asked
    assert "no band swir16" in caught.value.detail


def test_what_cannot_be_used_is_left_out_and_said(fetcher):
    bad = [made(k) for k in range(1, 6)]
    bad[0]["assets"] = {}
    bad[1]["geometry"] = bad[1]["bbox"] = None
    bad[2]["properties"]["datetime"] = None
    bad[3] = "nonsense"
    bad[4]["properties"].pop("eo:cloud_cover")
    with StacServer([made(0), *bad], filters=False) as api:
        found = find(card(api.url), query(max_cloud=50.0), fetcher, NOW)
    assert ids(found) == ["scene-0000"]
    assert [one.reason[:18] for one in found.left_out] == [
        "it has no usable g", "it does not say wh", "it is no STAC item", "it does not say ho", "it lacks the asset"
    ]  # fmt: skip


def test_processed_again_is_searched_once(fetcher):
    old = made(0, **{"s2:datatake_id": "GS2A_20240701T100000_1_N05.09", "s2:mgrs_tile": "32TQR"})
    new = made(1, **{"s2:datatake_id": "GS2A_20240701T100000_1_N05.11", "s2:mgrs_tile": "32TQR"})
    old["properties"]["s2:processing_baseline"], new["properties"]["s2:processing_baseline"] = "05.09", "05.11"
    with StacServer([old, new]) as api:
        found = find(card(api.url), query(), fetcher, NOW)
    assert ids(found) == ["scene-0001"]
    assert found.left_out[0].reason == "processed again since: scene-0001 is used"


def test_a_newer_processing_that_cannot_be_used_replaces_none(real_data, fetcher):
    """Earth Search holds a tile twice, and says of the newer one alone that its offset was not applied."""
    old = recorded.of_collection(real_data, "earth-search", "sentinel-2-l2a")[0]
    new = copy.deepcopy(old)
    new["id"] = old["id"].replace("_0_L2A", "_1_L2A")
    new["properties"] |= {"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": False}
    source = recorded.shipped_cards()["earth-search-s2-l2a"]
    with StacServer([old, new]) as api:
        at = source.model_copy(update={"url": api.url})
        found = find(at, query("2023-10-08", "-105.11,40.16,-105.10,40.17"), fetcher, NOW)
    assert ids(found) == [old["id"]]
    assert [one.id for one in found.left_out] == [new["id"]]
    assert "says that the offset was not applied" in found.left_out[0].reason


def test_of_three_processings_the_newest_usable_is_used(fetcher):
    items = [made(k, **{"s2:datatake_id": f"GS2A_20240701T100000_1_N05.{k:02d}", "s2:mgrs_tile": "32TQR",
                        "s2:processing_baseline": f"05.{k:02d}"}) for k in range(3)]  # fmt: skip
    items[2]["assets"] = {}
    with StacServer(items) as api:
        found = find(card(api.url), query(), fetcher, NOW)
    assert ids(found) == ["scene-0001"]
    assert {one.id: one.reason for one in found.left_out} == {
        "scene-0000": "processed again since: scene-0001 is used", "scene-0002": "it lacks the asset red (red)"
    }  # fmt: skip


def test_clouds_that_nobody_knows_are_a_note(fetcher):
    with StacServer([made(0)]) as api:
        found = find(card(api.url, cloud_property=""), query(max_cloud=5.0), fetcher, NOW)
    assert ids(found) == ["scene-0000"]
    assert "--max-cloud was ignored" in found.notes[0]


def test_a_limit_that_will_be_measured_passes_over_what_leaves_no_room(fetcher):
    """The area is 36 % of each scene: with 64 % of cloud beside it, it may be clear, and 5 are left for doubt."""
    items = [made(0, cloud=72.0), made(1, cloud=73.0), made(2, cloud=5.0), made(3)]
    items[3]["properties"].pop("eo:cloud_cover")
    with StacServer(items) as api:
        found = find(card(api.url), query(max_cloud=10.0, measured=True), fetcher, NOW)
        assert not any({"query", "filter"} & set(a.body) for a in api.searches)
        whole = query(max_cloud=10.0, measured=True, aoi="10,45,11,46")
        assert ids(find(card(api.url), whole, fetcher, NOW)) == ["scene-0002", "scene-0003"]
        asked = query(max_cloud=10.0, measured=True)
        assert find(card(api.url, cloud_property=""), asked, fetcher, NOW).notes == ()
    assert ids(found) == ["scene-0000", "scene-0002", "scene-0003"]
    assert found.left_out == ()


# --- faults and credentials -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Answer(429, b"", retry_after="0"), Answer(503, b""), Answer(500, b"")])
def test_faults_that_pass_are_asked_again(fault, fetcher):
    hit = set()

    def sometimes(asked):
        key = (asked.path, json.dumps(asked.body))
        return None if key in hit or hit.add(key) else fault

    items = [made(k) for k in range(23)]
    with StacServer(items, page=5, faults=sometimes) as api:
        assert len(find(card(api.url), query(), fetcher, NOW).scenes) == 23


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Answer(200, b"[1, 2]"), "search.malformed"),
        (Answer(200, b'{"features": 5}'), "search.malformed"),
        (Answer(200, b"<html>"), "read.malformed"),
        (Answer(400, b'{"detail": "no"}'), "read.refused"),
        (Answer(403, b""), "read.forbidden"),
    ],
)
def test_faults_that_stay_are_one_problem(fault, code, fetcher):
    broken = lambda asked: fault if asked.path == "/v1/search" else None  # noqa: E731
    with StacServer([made(0)], faults=broken) as api, pytest.raises(SwatheError) as caught:
        find(card(api.url), query(), fetcher, NOW)
    assert caught.value.problem.code == code
    assert caught.value.problem.hint
    assert "Traceback" not in caught.value.detail


def test_a_service_that_turns_in_circles_is_left(fetcher):
    page = {"features": [made(0)], "links": []}

    def circle(asked):
        if asked.path != "/v1/search":
            return None
        links = [{"rel": "next", "method": "POST", "href": f"http://{asked.headers['host']}/v1/search", "body": {}}]
        return Answer(200, json.dumps({**page, "links": links}).encode())

    with StacServer([], faults=circle) as api, pytest.raises(ReadError) as caught:
        find(card(api.url), query(), fetcher, NOW)
    assert caught.value.problem.code == "search.malformed"
    assert "the same page again" in caught.value.detail


def test_a_collection_that_is_not_there_names_near_ones(fetcher):
    there = ("sentinel-2-l2a", "sentinel-2-l1c", "landsat")
    with StacServer([], collections=there) as api, pytest.raises(InputError) as caught:
        find(card(api.url, collection="sentinel2-l2a"), query(), fetcher, NOW)
    assert caught.value.problem.code == "search.collection"
    assert "sentinel-2-l2a" in caught.value.hint
    assert "landsat" not in caught.value.hint


def test_an_address_that_is_no_api_is_said(fetcher):
    static_one = {"type": "Catalog", "id": "x", "description": "", "links": []}
    with StacServer([], documents={"/catalog.json": static_one}) as api, pytest.raises(ImageryError) as caught:
        find(card(f"{api.root}/catalog.json"), query(), fetcher, NOW)
    assert caught.value.problem.code == "search.not_stac"


def test_huge_answers_are_read(fetcher):
    """2000 items with 13 assets each: megabytes a page."""
    items = []
    for k in range(1500):
        item = made(k)
        item["assets"] |= {
            f"B{b:02d}": {"href": f"https://x.example/{k}/{b}.tif", "title": "x" * 80} for b in range(13)
        }
        items.append(item)
    with StacServer(items, page=1500) as api:
        assert len(find(card(api.url), query(), fetcher, NOW).scenes) == 1500


# --- nothing found ----------------------------------------------------------------------------------------------------


def test_nothing_found_names_the_nearest_dates(fetcher):
    items = [made(0, day=1, cloud=12), made(1, day=3, cloud=80), made(2, day=40, cloud=33), made(3, day=90, cloud=0)]
    with StacServer(items) as api, pytest.raises(ImageryError) as caught:
        find(card(api.url), query("2024-07-20"), fetcher, NOW)
    problem = caught.value.problem
    assert (problem.code, problem.status) == ("search.nothing", 422)
    assert "no scene" in problem.detail
    assert "2024-07-20" in problem.detail
    assert "2024-07-03 (80 % cloud) and 2024-08-09 (33 % cloud)" in problem.hint


def test_where_clouds_are_the_reason_they_are_named(fetcher):
    items = [made(0, day=5, cloud=60), made(1, day=6, cloud=40), made(2, day=20, cloud=0)]
    with StacServer(items) as api, pytest.raises(ImageryError) as caught:
        find(card(api.url), query("2024-07-05/2024-07-06", max_cloud=10.0), fetcher, NOW)
    assert "raise --max-cloud: there are 2024-07-06 (40 % cloud), 2024-07-05 (60 % cloud)" in caught.value.hint
    assert "at most 10 % cloud" in caught.value.detail


def test_what_cannot_be_used_is_no_nearest_date(fetcher):
    """Nearer days lack a band, or do not say how cloudy they are; neither another date nor more clouds would help."""
    items = [made(0, day=1), made(1, day=18), made(2, day=22), made(3, day=30)]
    items[1]["assets"] = items[2]["assets"] = {}
    with StacServer(items) as api, pytest.raises(ImageryError) as caught:
        find(card(api.url), query("2024-07-20"), fetcher, NOW)
    assert "2024-07-01 (10 % cloud) and 2024-07-30 (10 % cloud): give one of those dates" in caught.value.hint


@pytest.mark.parametrize("spoil", [lambda i: i["assets"].clear(), lambda i: i["properties"].pop("eo:cloud_cover")])
def test_more_clouds_are_not_advised_where_they_are_not_the_reason(spoil, fetcher):
    items = [made(0, day=5, cloud=60), made(1, day=9, cloud=50)]
    spoil(items[0])
    with StacServer(items) as api, pytest.raises(ImageryError) as caught:
        find(card(api.url), query("2024-07-05", max_cloud=20.0), fetcher, NOW)
    assert "raise --max-cloud" not in caught.value.hint
    assert "2024-07-09 (50 % cloud): give one of those dates, with a higher --max-cloud" in caught.value.hint


def test_a_date_that_is_clear_enough_needs_no_higher_limit(fetcher):
    with StacServer([made(0, day=9, cloud=5)]) as api, pytest.raises(ImageryError) as caught:
        find(card(api.url), query("2024-07-05", max_cloud=20.0), fetcher, NOW)
    assert caught.value.hint == "the nearest are 2024-07-09 (5 % cloud): give one of those dates"


def test_nothing_usable_anywhere_is_said(fetcher):
    item = made(0)
    item["assets"] = {}
    with StacServer([item]) as api, pytest.raises(ImageryError) as caught:
        find(card(api.url), query("2024-08-05"), fetcher, NOW)
    assert "none that can be used" in caught.value.hint


def test_elsewhere_there_is_nothing_at_all(fetcher):
    with StacServer([made(0)]) as api, pytest.raises(ImageryError) as caught:
        find(card(api.url), query(aoi="-70,-30,-69,-29"), fetcher, NOW)
    assert "check the area" in caught.value.hint


def test_where_there_is_very_much_the_nearest_is_still_named(fetcher):
    """More items within the first stretch than are looked at."""
    items = [made(k, day=10, cloud=1) for k in range(310)] + [made(400, day=50, cloud=2)]
    with StacServer(items) as api:
        found = look(card(api.url), query("2024-07-12"), fetcher, NOW)
    assert [n.when[:10] for n in found.nearest] == ["2024-07-10", "2024-08-19"]


def test_a_service_that_fails_at_other_dates_does_not_hide_that_nothing_was_found(fetcher):
    tired = lambda asked: Answer(400, b"{}") if asked.path == "/v1/search" and asked.number > 3 else None  # noqa: E731
    with StacServer([made(0)], faults=tired) as api, pytest.raises(ImageryError) as caught:
        find(card(api.url), query("2024-09-20"), fetcher, NOW)
    assert caught.value.problem.code == "search.nothing"
    assert "could not be asked" in caught.value.hint


def test_nothing_before_or_nothing_after(fetcher):
    with StacServer([made(0, day=1)]) as api:
        before = look(card(api.url), query("2024-09-01"), fetcher, NOW)
        after = look(card(api.url), query("2024-05-01"), fetcher, NOW)
    assert [n.when[:10] for n in before.nearest] == [n.when[:10] for n in after.nearest] == ["2024-07-01"]


def test_what_was_left_out_is_part_of_nothing(fetcher):
    item = made(0)
    item["assets"] = {}
    with StacServer([item]) as api, pytest.raises(ImageryError) as caught:
        find(card(api.url), query(), fetcher, NOW)
    assert "scene-0000 was left out: it lacks the asset red (red)" in caught.value.detail


# --- recorded services ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "of", "place", "expected"),
    [
        ("earth-search-s2-l2a", ("earth-search", "sentinel-2-l2a"), ("2023-10-08", "-105.11,40.16,-105.10,40.17"),
         ["S2A_13TDE_20231008_0_L2A"]),
        ("pc-s2-l2a", ("planetary-computer", "sentinel-2-l2a"), ("2019-06", "-148.5,60.5,-148.4,60.6"),
         ["S2B_MSIL2A_20190629T212529_R043_T06VVN_20201006T080531"]),
        ("usgs-landsat-c2-l2", ("usgs", "landsat-c2l2-sr"), ("2020-01-14", "-96,43,-95.9,43.1"),
         ["LC08_L2SP_028030_20200114_20200824_02_T1_SR"]),
        ("pc-naip", ("planetary-computer", "naip"), ("2023-11", "-116.05,49.01,-116.0,49.06"),
         ["mt_m_4911557_sw_11_060_20231117_20240103", "mt_m_4911664_se_11_060_20231117_20240103"]),
    ],
)  # fmt: skip
def test_shipped_sources_over_recorded_items(name, of, place, expected, real_data, fetcher):
    """The shipped card as it is, but for the address."""
    source = recorded.shipped_cards()[name]
    with StacServer(recorded.of_collection(real_data, *of)) as api:
        found = find(source.model_copy(update={"url": api.url}), query(*place), fetcher, NOW)
    assert ids(found) == expected


def test_recorded_pages_of_the_planetary_computer_are_followed(real_data, fetcher):
    """The recorded answers byte for byte, but for the host; its conformance says how clouds are asked for."""
    said = [(p, b, a) for s, _, p, b, a in recorded.exchanges(real_data) if s == "planetary-computer"]
    landing = next(a for p, _, a in said if p.endswith("v1"))
    pages = [(b, a) for p, b, a in said if p.endswith("search") and "query" not in b]
    assert len(pages) == 2
    host = "https://planetarycomputer.microsoft.com/api/stac/v1"

    def replay(asked):
        here = f"http://{asked.headers['host']}/v1"
        if asked.path == "/v1/search":
            body = {k: v for k, v in asked.body.items() if k == "token"}
            answer = next((a for b, a in pages if b.get("token") == body.get("token")), {"features": [], "links": []})
        else:
            answer = landing
        return Answer(200, json.dumps(answer).replace(host, here).encode())

    source = recorded.shipped_cards()["pc-naip"]
    with StacServer([], faults=replay) as api:
        found = find(source.model_copy(update={"url": api.url}), query("2023-11", "-117,44,-113,50"), fetcher, NOW)
        assert len(api.searches) == 3
    assert sorted(ids(found)) == sorted(i["id"] for _, a in pages for i in a["features"])
    assert len(found.scenes) == 20


# --- static catalogues ------------------------------------------------------------------------------------------------


def openeo(url):
    return SourceCard.model_validate({
        "id": "openeo", "title": "x", "kind": "static", "url": url, "cloud_property": "",
        "bands": {"red": {"asset": "FILE", "index": 1}}, "radiometry": {"rule": "fixed", "scale": 0.0001},
    })  # fmt: skip


@pytest.fixture
def catalogue(real_data, tmp_path):
    """The real nested collection with its files, whose assets are named alike so that one card can name them."""
    home = tmp_path / "catalogue"
    shutil.copytree(real_data / "stac_with_local_assets", home)
    for path in [*home.glob("*.json"), *home.glob("*/*.json")]:
        path.chmod(0o644)
        document = json.loads(path.read_text())
        if document["type"] == "Feature":
            document["assets"] = {"FILE": next(iter(document["assets"].values()))}
            path.write_text(json.dumps(document))
    return home


def test_a_real_static_collection(catalogue, fetcher):
    found = find(openeo(str(catalogue / "collection.json")), query("2023-06", "5.07,51.21,5.08,51.22"), fetcher, NOW)
    assert [s.when[:10] for s in found.scenes] == ["2023-06-01", "2023-06-04", "2023-06-06"]
    assert all(Path(s.bands[0].href).is_file() for s in found.scenes)
    with rasterio.open(found.scenes[1].bands[0].href) as file:
        assert file.count == 3


def test_an_item_and_an_item_collection(catalogue, fetcher, tmp_path):
    item = catalogue / "sub-folder" / "openEO_2023-06-04Z.tif.json"
    asked = query("2023-06", "5.07,51.21,5.08,51.22")
    assert [s.id for s in find(openeo(str(item)), asked, fetcher, NOW).scenes] == ["openEO_2023-06-04Z.tif"]
    several = catalogue / "sub-folder" / "all.json"
    several.write_text(json.dumps({"type": "FeatureCollection", "features": [json.loads(item.read_text())] * 2}))
    found = find(openeo(str(several)), asked, fetcher, NOW)
    assert Path(found.scenes[0].bands[0].href).is_file()


def web(documents, api):
    """Documents with relative links, below one address."""
    api.documents |= {f"/web/{name}": document for name, document in documents.items()}
    return f"{api.root}/web/catalog.json"


def linked(kind, name, *links):
    return {"type": kind, "id": name, "links": [{"rel": rel, "href": href} for rel, href in links]}


def test_nested_catalogues_on_the_web_with_circles_and_holes(fetcher):
    item = made(0)
    item["assets"]["red"]["href"] = "./red.tif"
    documents = {
        "catalog.json": linked("Catalog", "top", ("child", "./a/catalog.json"), ("child", "gone.json"), ("self", "x")),
        "a/catalog.json": linked("Catalog", "a", ("child", "../catalog.json"), ("child", "b/mine.json")),
        "a/b/mine.json": linked("Collection", "mine", ("item", "i/item.json"), ("item", "i/item.json#again"),
                                ("item", "broken.json"), ("child", "other.json")),
        "a/b/i/item.json": item,
        "a/b/broken.json": b"{",
        "a/b/other.json": linked("Collection", "other", ("item", "i/not-mine.json")),
        "a/b/i/not-mine.json": {**made(1), "collection": "other"},
    }  # fmt: skip
    with StacServer([]) as api:
        source = card(web(documents, api), kind="static")
        found = find(source, query(), fetcher, NOW)
        assert ids(found) == ["scene-0000"]
        assert found.scenes[0].bands[0].href == f"{api.root}/web/a/b/i/red.tif"
        asked = [a.path for a in api.asked]
        assert "/web/a/b/i/not-mine.json" not in asked
        assert len([p for p in asked if p.endswith("item.json")]) == 1
    assert sorted(one.id.rpartition("/")[2] for one in found.left_out) == ["broken.json", "gone.json"]


def test_a_catalogue_from_the_web_names_no_local_file(fetcher, tmp_path):
    (tmp_path / "secret.json").write_text(json.dumps(made(0)))
    documents = {"catalog.json": linked("Catalog", "top", ("item", f"file://{tmp_path}/secret.json"))}
    with StacServer([]) as api:
        found = look(card(web(documents, api), kind="static"), query(), fetcher, NOW)
    assert not found.scenes


def test_a_catalogue_without_end_is_left(fetcher):
    with StacServer([]) as api:
        api.answer = lambda asked: linked("Catalog", "x", ("child", f"{asked.path}x"))
        found = look(card(f"{api.root}/c", kind="static"), query(), fetcher, NOW)
        assert len(api.asked) == static.DEPTH + 1
    assert "nested more than" in found.left_out[0].reason


# --- folders ----------------------------------------------------------------------------------------------------------


def write_tif(path, value, bands=1, dtype="uint16", **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=40, height=30, count=bands, dtype=dtype, crs="EPSG:32633",
        transform=from_origin(500_000, 5_000_000, 10, 10), nodata=0,
    ) as file:  # fmt: skip
        file.write(np.full((bands, 30, 40), value, dtype))
        file.update_tags(**tags)
    return path


HERE = "15.0,45.1,15.1,45.2"


def test_a_folder_of_sentinel2_as_esa_names_it(tmp_path, fetcher):
    safe = tmp_path / "S2B_MSIL2A_20240725T100029_N0510_R122_T33TWL_20240725T130000.SAFE/GRANULE/L2A/IMG_DATA"
    for metres in (10, 20, 60):
        for band in ("B02", "B03", "B04", "TCI"):
            write_tif(safe / f"R{metres}m" / f"T33TWL_20240725T100029_{band}_{metres}m.tif", metres)
    write_tif(safe / "R20m" / "T33TWL_20240725T100029_SCL_20m.tif", 4, dtype="uint8")
    source = recorded.shipped_cards()["local-folder"].model_copy(update={"url": str(tmp_path)})
    found = find(source, query("2024-07-25", HERE, bands=("blue", "red")), fetcher, NOW)
    (scene,) = found.scenes
    assert (scene.id, scene.when) == ("T33TWL_20240725T100029", "2024-07-25T10:00:29Z")
    assert [Path(b.href).name for b in scene.bands] == [
        "T33TWL_20240725T100029_B02_10m.tif", "T33TWL_20240725T100029_B04_10m.tif"
    ]  # fmt: skip
    assert scene.bands[0].offset == -0.1
    assert scene.mask.name == "scl"
    assert scene.bands[0].grid.crs == "EPSG:32633"


def folder(path, bands, **more):
    return SourceCard.model_validate({
        "id": "folder", "title": "x", "kind": "folder", "url": str(path), "cloud_property": "", "bands": bands,
        "radiometry": {"rule": "fixed", "scale": 0.0001}, **more,
    })  # fmt: skip


def test_a_folder_of_landsat(tmp_path, fetcher):
    for name in ("SR_B4", "SR_B5", "QA_PIXEL", "ST_B10"):
        write_tif(tmp_path / f"LC08_L2SP_028030_20200114_20200824_02_T1_{name}.TIF", 1)
    source = folder(tmp_path, {"red": {"asset": "SR_B4"}, "nir08": {"asset": "SR_B5"}},
                    mask={"rule": "qa_pixel", "asset": "QA_PIXEL"})  # fmt: skip
    (scene,) = find(source, query("2020-01-14", HERE), fetcher, NOW).scenes
    assert scene.id == "LC08_L2SP_028030_20200114_20200824_02_T1"
    assert scene.when == "2020-01-14T00:00:00Z"
    assert scene.mask.href.endswith("QA_PIXEL.TIF")


def test_files_of_several_bands_dated_by_name_folder_or_tag(tmp_path, fetcher):
    write_tif(tmp_path / "scene_2024-07-01.tif", 1, bands=3)
    write_tif(tmp_path / "2024-07-02" / "scene.tif", 1, bands=3)
    write_tif(tmp_path / "third.tif", 1, bands=3, TIFFTAG_DATETIME="2024:07:03 10:11:12")
    write_tif(tmp_path / "undated.tif", 1, bands=3)
    source = folder(tmp_path, {"blue": {"asset": "*", "index": 3}, "red": {"asset": "*", "index": 1}})
    found = find(source, query("2024-07", HERE), fetcher, NOW)
    assert [s.when for s in found.scenes] == ["2024-07-01T00:00:00Z", "2024-07-02T00:00:00Z", "2024-07-03T10:11:12Z"]
    assert [b.index for b in found.scenes[0].bands] == [3, 1]
    assert [(one.id, one.reason) for one in found.left_out] == [
        ("undated.tif", "neither its name nor its tags say when it was acquired")
    ]


def test_a_folder_with_damage(tmp_path, fetcher):
    write_tif(tmp_path / "a_2024-07-01_red.tif", 1)
    write_tif(tmp_path / "b_2024-07-02_red.tif", 1)
    write_tif(tmp_path / "sub" / "b_2024-07-02_red.tif", 2)
    (tmp_path / "c_2024-07-03_red.tif").write_bytes(b"II*\0" + b"\0" * 50)
    found = find(folder(tmp_path, {"red": {"asset": "red"}}), query("2024-07", HERE), fetcher, NOW)
    assert [s.id for s in found.scenes] == ["a_2024-07-01", "b_2024-07-02"]
    assert sorted(one.id for one in found.left_out) == ["b_2024-07-02_red.tif", "c_2024-07-03"]


def test_a_folder_outside_the_area_names_its_dates(tmp_path, fetcher):
    write_tif(tmp_path / "a_2024-07-01_red.tif", 1)
    with pytest.raises(ImageryError) as caught:
        find(folder(tmp_path, {"red": {"asset": "red"}}), query("2024-07-09", HERE), fetcher, NOW)
    assert "2024-07-01" in caught.value.hint
    with pytest.raises(ImageryError) as caught:
        find(folder(tmp_path / "none", {"red": {"asset": "red"}}), query("2024-07-09", HERE), fetcher, NOW)
    assert caught.value.problem.code == "imagery.missing"


# --- tiles ------------------------------------------------------------------------------------------------------------


def test_a_tile_service_is_one_scene(fetcher):
    asked = query("2024-07-01", "8.5,47.3,8.6,47.4")
    source = recorded.shipped_cards()["private-tiles"]
    (scene,) = find(source, asked, fetcher, NOW).scenes
    assert [b.index for b in scene.bands] == [1, 2, 3]
    assert "{z}/{x}/{y}" in scene.bands[0].href
    assert covered(scene, asked) == pytest.approx(1)


def test_credentials_reach_the_search(secret_fetcher):
    """The secret travels in the header and stands in no message."""
    wanted = Wanted.basic("me:hunter2")
    auth = Auth(kind=AuthKind.BASIC, secret="PROVIDER_LOGIN", hosts=("127.0.0.1", "localhost"))
    with StacServer([made(0)], wanted=wanted) as api:
        assert ids(find(card(api.url, search_auth=auth), query(), secret_fetcher, NOW)) == ["scene-0000"]
        with pytest.raises(ReadError) as caught:
            find(card(api.url), query(), secret_fetcher, NOW)
    assert caught.value.problem.code == "read.forbidden"
    assert "hunter2" not in str(caught.value)


@pytest.fixture
def secret_fetcher():
    door = recorded.open_door({"PROVIDER_LOGIN": "me:hunter2"})
    yield door
    door.close()


def test_intervals_of_a_query_may_overlap(fetcher):
    intervals = (*parse_dates("2024-07-01/2024-07-20", NOW), *parse_dates("2024-07-10", NOW), Interval(None, NOW))
    with StacServer([made(0, day=10)]) as api:
        assert ids(find(card(api.url), replace(query(), intervals=intervals), fetcher, NOW)) == ["scene-0000"]
        assert len(api.searches) == 1


def test_nothing_is_changed_in_what_was_recorded(real_data):
    """The other tests share these items: none may have touched them."""
    again = copy.deepcopy(recorded.items(real_data))
    recorded.items.cache_clear()
    recorded.exchanges.cache_clear()
    assert recorded.items(real_data) == again
