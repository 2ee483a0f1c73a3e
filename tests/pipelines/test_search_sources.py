"""Source cards: read, refused, named; and addresses that become cards."""

import json
from datetime import UTC, datetime

import pytest
import rasterio
from rasterio.transform import from_origin

from pipelines.search.discover import source_of
from pipelines.search.find import find
from pipelines.search.items import scene_of
from pipelines.search.query import Query
from pipelines.search.sources import load_sources, mistake, named
from swathe.aoi import AOI
from swathe.errors import InputError, SwatheError
from swathe.source import Auth
from swathe.when import parse_dates
from tests.pipelines import documented, recorded
from tests.pipelines.stac_server import StacServer, Wanted

NOW = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.fixture(scope="module")
def fetcher():
    door = recorded.open_door()
    yield door
    door.close()


CARD = """
id: mine
title: one's own
kind: stac
url: https://stac.example.com
collection: c
bands: {red: {asset: red}}
radiometry: {rule: fixed, scale: 0.0001}
licence: own
documentation: own
"""


def write(folder, text, name="mine.yaml"):
    (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("id: mine", "id: other", "not the file's name"),
        ("title: one's own", "title: a\ntitle: b", "given twice"),
        ("{red: {asset: red}}", "{redd: {asset: red}}", "unknown band"),
        ("{red: {asset: red}}", "{}", "names no band"),
        ("rule: fixed", "rule: guess", "radiometry.rule"),
        ("rule: fixed, scale: 0.0001", "rule: sentinel2, provider: nobody", "is none of as-processed, earth-search"),
        ("scale: 0.0001", "scale: 0", "a scale of 0"),
        ("kind: stac", "kind: ftp", "kind"),
        ("url: https://stac.example.com", "url: /data", "no http"),
        ("licence: own", "licence: own\nauth: {kind: bearer}", "needs 'secret'"),
        ("licence: own", "licence: own\nsearch_auth: {kind: query, secret: X}", "search_auth: query needs 'name'"),
        ("licence: own", "licence: own\nauth: {kind: planetary-computer}", "sas_url"),
        ("licence: own", "licence: own\nauth: {kind: s3, endpoint: s3.example.com}", "nor 'amazon'"),
        ("licence: own", "licence: own\nmask: {rule: scl}", "needs one"),
        ("licence: own", "licence: own\nmask: {rule: omnicloudmask, asset: scl}", "needs none"),
        ("licence: own", "", "licence and documentation"),
        ("licence: own", "licence: own\nsecret: abc", "Extra inputs"),
        ("kind: stac", "kind: [", "expected"),
    ],
)
def test_a_mistake_names_file_and_place(tmp_path, old, new, why):
    write(tmp_path, CARD.replace(old, new))
    with pytest.raises(InputError) as caught:
        load_sources([tmp_path])
    assert caught.value.problem.code == "source.invalid"
    assert "mine.yaml" in caught.value.detail
    assert why in caught.value.detail


def test_own_cards_replace_shipped_ones(tmp_path):
    write(tmp_path, CARD.replace("id: mine", "id: pc-naip"), "pc-naip.yaml")
    shipped = recorded.ROOT / "configs" / "sources"
    found = load_sources([shipped, tmp_path, tmp_path / "nothing"])
    assert found["pc-naip"].title == "one's own"
    assert found.keys() == recorded.shipped_cards().keys()


def test_local_addresses_count_from_the_card(tmp_path):
    text = CARD.replace("kind: stac", "kind: folder").replace("https://stac.example.com", "../files")
    home = tmp_path / "cards"
    home.mkdir()
    assert load_sources([write(home, text)])["mine"].url == str(tmp_path / "files")


@pytest.mark.parametrize(
    ("url", "hosts", "sent"),
    [
        ("https://stac.example.com", "", ("stac.example.com",)),
        ("https://stac.example.com", ", hosts: [files.example.org]", ("files.example.org", "stac.example.com")),
        ("https://stac.example.com", ", hosts: [stac.example.com]", ("stac.example.com",)),
    ],
)
def test_a_secret_is_for_the_card_s_own_host_and_those_it_names(tmp_path, url, hosts, sent):
    auth = "{kind: bearer, secret: KEY" + hosts + "}"
    card = load_sources([write(tmp_path, f"{CARD}auth: {auth}\nsearch_auth: {auth}\n")])["mine"]
    assert card.url == url
    assert card.auth.hosts == card.search_auth.hosts == sent


def test_tile_servers_that_take_turns_are_one_host(tmp_path):
    text = CARD.replace("kind: stac", "kind: tiles\ntiles: {scheme: xyz, zoom: 3}\nauth: {kind: bearer, secret: KEY}")
    text = text.replace("https://stac.example.com", "'https://{s}.tiles.example.com/{z}/{x}/{y}'")
    assert load_sources([write(tmp_path, text)])["mine"].auth.hosts == ("tiles.example.com",)


def test_a_name_that_is_nearly_right_is_guessed_in_the_hint():
    with pytest.raises(InputError) as caught:
        named(recorded.shipped_cards(), "earth-search-s2-l2")
    assert caught.value.problem.code == "source.unknown"
    assert "earth-search-s2-l2a" in caught.value.hint


def test_shipped_cards_hold_no_mistake():
    assert [mistake(card) for card in recorded.shipped_cards().values() if mistake(card)] == []


def test_clouds_of_modis_are_masked_by_its_state_flags():
    mask = recorded.shipped_cards()["pc-modis-09a1"].mask
    assert (mask.rule.value, mask.asset) == ("modis_state", "sur_refl_state_500m")


# --- another collection of a card's archive --------------------------------------------------------------------------


class Unasked:
    """No card of an archive has to be asked for where another one is there."""

    def json(self, href, *_, **__):
        raise AssertionError(href)


def lying(item):
    """With a footprint; where does not matter here."""
    return {**item, "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}}


@pytest.mark.parametrize(
    ("card", "of", "item", "expected"),
    [
        ("earth-search-s2-c1-l2a", "earth-search-s2-l2a",
         lambda data: recorded.of_collection(data, "earth-search", "sentinel-2-l2a")[0], ("red", "red", 0.0)),
        ("earth-search-s2-l2a", "earth-search-s2-c1-l2a", lambda _: lying(documented.earth_search_c1()),
         ("red", "red", -0.1)),
        ("pc-hls-l30", "pc-hls-s30", lambda _: lying(documented.planetary_hls("S30")), ("nir08", "B8A", 0.0)),
        ("pc-hls-s30", "pc-hls-l30", lambda _: lying(documented.planetary_hls("L30")), ("swir16", "B06", 0.0)),
    ],
)  # fmt: skip
def test_another_collection_takes_the_card_written_for_it(card, of, item, expected, real_data):
    """Sensors' tables, by hand: near infrared of HLS is B8A of Sentinel-2, short-wave infrared B06 of Landsat."""
    cards, raw, name = recorded.shipped_cards(), item(real_data), expected[0]
    found = source_of(card, cards, Unasked(), raw["collection"])
    assert (found.id, found.collection, found.auth) == (of, raw["collection"], cards[card].auth)
    (read,) = scene_of(raw, found, (name,), "https://x/item.json").bands
    assert (name, found.bands[name].asset, read.offset) == expected


def test_another_collection_is_read_with_the_credentials_of_the_card_that_was_named():
    shipped = recorded.shipped_cards()
    auth = Auth(kind="bearer", secret="KEY", hosts=("planetarycomputer.microsoft.com",))
    mine = shipped["pc-hls-l30"].model_copy(update={"id": "mine", "auth": auth, "search_auth": auth})
    found = source_of("mine", {**shipped, "mine": mine}, Unasked(), "hls2-s30")
    assert (found.id, found.auth, found.search_auth) == ("pc-hls-s30", auth, auth)


def test_another_collection_that_no_card_knows_is_read_by_its_own_words(real_data):
    """By a search with the card's credentials; the item's assets are named otherwise than the card's."""
    item = {**stactools_sentinel2(real_data), "collection": "my-own"}
    auth = Auth(kind="basic", secret="LOGIN", hosts=("127.0.0.1",))
    door = recorded.open_door({"LOGIN": "me:hunter2"})
    with StacServer([item], wanted=Wanted.basic("me:hunter2")) as api:
        shipped = recorded.shipped_cards()["pc-hls-s30"]
        mine = shipped.model_copy(update={"id": "mine", "url": api.url, "search_auth": auth})
        found = source_of("mine", {"mine": mine}, door, "my-own")
    door.close()
    assert (found.collection, found.url, found.search_auth) == ("my-own", mine.url, auth)
    assert found.bands["nir08"].asset == "nir08"
    assert found.auth == mine.auth


def test_another_collection_that_says_too_little_is_refused(fetcher):
    item = lying(documented.planetary_hls("S30")) | {"collection": "hls2-other"}
    with StacServer([item]) as api:
        mine = recorded.shipped_cards()["pc-hls-l30"].model_copy(update={"id": "mine", "url": api.url})
        with pytest.raises(InputError) as caught:
            source_of("mine", {"mine": mine}, fetcher, "hls2-other")
    assert caught.value.problem.code == "source.unclear"


def test_a_card_s_own_collection_may_be_named(fetcher):
    cards = recorded.shipped_cards()
    assert source_of("pc-naip", cards, Unasked(), "naip") == cards["pc-naip"]


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "collection", "card"),
    [
        ("earth-search", "sentinel-2-l2a", "earth-search-s2-l2a"),
        ("planetary-computer", "sentinel-2-l2a", "pc-s2-l2a"),
        ("planetary-computer", "naip", "pc-naip"),
        ("usgs", "landsat-c2l2-sr", "usgs-landsat-c2-l2"),
    ],
)
def test_an_api_with_a_known_collection_takes_its_card(service, collection, card, real_data, fetcher):
    """Three archives have a sentinel-2-l2a; the assets of their items tell them apart."""
    with StacServer(recorded.of_collection(real_data, service, collection)) as api:
        found = source_of(api.url, recorded.shipped_cards(), fetcher, collection)
    assert (found.id, found.url, found.collection) == (card, api.url, collection)


@pytest.mark.parametrize("methods", [("GET",), ("POST",)])
def test_an_api_that_searches_by_one_method_alone(methods, real_data, fetcher):
    """What looks at an address asks as the search after it will; whatever else answers 404 here."""
    with StacServer(recorded.of_collection(real_data, "earth-search", "sentinel-2-l2a"), methods=methods) as api:
        card = source_of(api.url, recorded.shipped_cards(), fetcher, "sentinel-2-l2a")
        query = Query(AOI.parse("-105.11,40.16,-105.10,40.17"), parse_dates("2023-10-08", NOW), bands=("red",))
        assert [scene.id for scene in find(card, query, fetcher, NOW).scenes] == ["S2A_13TDE_20231008_0_L2A"]
        assert {asked.method for asked in api.searches} == set(methods)
    assert card.id == "earth-search-s2-l2a"


def test_a_stranger_s_archive_gets_no_signature_and_no_consent_to_pay(real_data, fetcher):
    items = recorded.of_collection(real_data, "usgs", "landsat-c2l2-sr")
    with StacServer(items) as api:
        found = source_of(api.url, recorded.shipped_cards(), fetcher, "landsat-c2l2-sr")
    assert (found.id, found.auth) == ("usgs-landsat-c2-l2", Auth())


def test_an_item_of_a_card_s_own_provider_keeps_its_credentials(real_data):
    (item,) = recorded.of_collection(real_data, "usgs", "landsat-c2l2-sr")
    own = recorded.shipped_cards()["usgs-landsat-c2-l2"]

    class Documents:
        def json(self, href, auth=None, **_):
            return item

    found = source_of(f"{own.url}/collections/c/items/i", recorded.shipped_cards(), Documents())
    assert (found.id, found.auth) == (own.id, own.auth)


def test_a_card_s_own_bucket_is_its_own(tmp_path):
    text = CARD.replace("kind: stac", "kind: static").replace("https://stac.example.com", "s3://mine/catalog.json")
    card = load_sources([write(tmp_path, text)])["mine"]
    assert (card.auth.buckets, card.search_auth.buckets) == (("mine",), ("mine",))


def test_a_collection_and_an_item_of_an_api(real_data, fetcher):
    items = recorded.of_collection(real_data, "planetary-computer", "sentinel-2-l2a")
    with StacServer(items) as api:
        home = f"{api.url}/collections/sentinel-2-l2a"
        found = source_of(home, recorded.shipped_cards(), fetcher)
        assert (found.id, found.kind.value, found.url) == ("pc-s2-l2a", "stac", api.url)
        single = source_of(f"{home}/items/{items[0]['id']}", recorded.shipped_cards(), fetcher)
        assert (single.id, single.kind.value) == ("pc-s2-l2a", "static")


def stactools_sentinel2(data):
    return next(i for i in recorded.items(data)["stactools"] if i["id"].startswith("S2A"))


def test_an_unknown_collection_is_read_by_its_own_words(real_data, fetcher):
    """stactools' item: common names in eo:bands, scale and offset in raster:bands."""
    item = {**stactools_sentinel2(real_data), "collection": "my-own"}
    with StacServer([item]) as api:
        found = source_of(api.url, recorded.shipped_cards(), fetcher, "my-own")
    assert (found.radiometry.rule.value, found.radiometry.provider) == ("sentinel2", "as-processed")
    assert {name: band.asset for name, band in found.bands.items()} == {
        "coastal": "coastal", "blue": "blue", "green": "green", "red": "red", "rededge071": "rededge1",
        "rededge075": "rededge2", "rededge078": "rededge3", "nir": "nir", "nir08": "nir08", "nir09": "nir09",
        "swir16": "swir16", "swir22": "swir22",
    }  # fmt: skip
    assert (found.mask.rule.value, found.mask.asset) == ("scl", "scl")


@pytest.mark.parametrize(
    ("item", "rule", "offset"),
    [
        # 1000 was taken out, and is advertised all the same
        (lambda data: recorded.of_collection(data, "earth-search", "sentinel-2-l2a")[0], "sentinel2", 0.0),
        (lambda _: lying(documented.earth_search_c1()), "sentinel2", -0.1),
        (lambda data: anonymous(stactools_sentinel2(data)), "metadata", 0.0),
        (lambda data: rescaled(stactools_sentinel2(data)), "metadata", 0.3),
    ],
)
def test_sentinel2_that_no_card_knows_goes_by_its_baseline(item, rule, offset, real_data, fetcher):
    """By hand, from the products' documents. What tells no baseline, or has its own numbers, is taken at its word."""
    raw = {**item(real_data), "collection": "my-own"}
    with StacServer([raw]) as api:
        found = source_of(api.url, recorded.shipped_cards(), fetcher, "my-own")
    assert found.radiometry.rule.value == rule
    assert scene_of(raw, found, ("red",), "https://x/item.json").bands[0].offset == offset


def anonymous(item):
    """Without a word of the satellite."""
    return {**item, "id": "some", "properties": {key: item["properties"][key] for key in ("datetime", "proj:epsg")}}


def rescaled(item):
    """Its numbers are another archive's own."""
    assets = json.loads(json.dumps(item["assets"]))
    for asset in assets.values():
        for band in asset.get("raster:bands", ()):
            band |= {"scale": 0.5, "offset": 0.3}
    return {**item, "assets": assets}


def test_names_of_sentinel2_s_bands_are_no_other_sensor_s(fetcher):
    """B05 of Landsat is near infrared, of Sentinel-2 red edge: a name alone does not tell."""
    item = lying(documented.planetary_hls("L30")) | {"collection": "my-own"}
    for asset in item["assets"].values():
        asset["raster:bands"] = [{"scale": 0.0001, "offset": 0}]
    with StacServer([item]) as api, pytest.raises(InputError) as caught:
        source_of(api.url, {}, fetcher, "my-own")
    assert "do not name the bands" in caught.value.detail


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda a: a.pop("raster:bands"), "do not say how the numbers"),
        (lambda a: a.pop("eo:bands"), "do not name the bands"),
    ],
)
def test_what_says_too_little_is_refused(change, why, real_data, fetcher):
    item = json.loads(json.dumps({**stactools_sentinel2(real_data), "collection": "my-own"}))
    for asset in item["assets"].values():
        if "eo:bands" in asset:
            change(asset)
    with StacServer([item]) as api, pytest.raises(InputError) as caught:
        source_of(api.url, recorded.shipped_cards(), fetcher, "my-own")
    assert caught.value.problem.code == "source.unclear"
    assert why in caught.value.detail


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v1", "source.collection"),
        ("/v1/nothing", "read.gone"),
        ("/plain.json", "search.not_stac"),
        ("/list.json", "search.not_stac"),
    ],
)
def test_addresses_that_are_no_source(path, code, fetcher):
    documents = {"/plain.json": {"a": 1}, "/list.json": [1]}
    with StacServer([], documents=documents) as api, pytest.raises(SwatheError) as caught:
        source_of(api.root + path, recorded.shipped_cards(), fetcher)
    assert caught.value.problem.code == code


def test_an_empty_collection_is_said(fetcher):
    with StacServer([], collections=("mine",)) as api, pytest.raises(InputError) as caught:
        source_of(api.url, recorded.shipped_cards(), fetcher, "mine")
    assert "no item in the collection mine" in caught.value.detail


def test_a_folder_that_describes_itself(tmp_path, fetcher):
    """As the demo's scene does: descriptions are common names, scale and offset are tagged."""
    with rasterio.open(
        tmp_path / "scene_2024-07-01.tif", "w", driver="GTiff", width=4, height=4, count=3, dtype="int16",
        crs="EPSG:32633", transform=from_origin(500_000, 5_000_000, 10, 10),
    ) as file:  # fmt: skip
        file.descriptions, file.scales, file.offsets = ("green", "thing", "nir"), (0.5,) * 3, (1.0,) * 3
    card = source_of(str(tmp_path), recorded.shipped_cards(), fetcher)
    assert {name: (band.asset, band.index) for name, band in card.bands.items()} == {"green": ("*", 1), "nir": ("*", 3)}
    query = Query(AOI.parse("14,44,16,46"), parse_dates("2024-07-01", NOW), bands=("nir",))
    (scene,) = find(card, query, fetcher, NOW).scenes
    assert (scene.bands[0].index, scene.bands[0].scale, scene.bands[0].offset) == (3, 0.5, 1.0)


def test_a_folder_that_says_nothing_is_refused(real_data, fetcher):
    with pytest.raises(InputError) as caught:
        source_of(str(real_data / "s2_l2a_aquileia"), recorded.shipped_cards(), fetcher)
    assert caught.value.problem.code == "source.unclear"
