"""Signed links of catalogues: found anew in their items when they expire, for the same file alone, and kept nowhere."""

import copy
import json
import os
import time

import pytest

from pipelines.imagery.gdal import Retry
from pipelines.remote.fetch import Fetcher
from pipelines.remote.links import link_in
from pipelines.remote.network import Network
from pipelines.remote.secrets import Secrets
from pipelines.saved_search import read, written
from pipelines.search.items import scene_of
from swathe.errors import ReadError
from swathe.imagery import shown
from swathe.scene import Asset, Origin, Scene
from swathe.source import Auth, SourceKind, TileService
from tests.pipelines import recorded
from tests.pipelines.remote_server import Reply, Server, part
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server
from tests.pipelines.scenes import Place, mosaic_of
from tests.pipelines.signed_server import WORD, SignedApi, SignedFiles
from tests.pipelines.stac_server import Wanted

DATA = {name: os.urandom(300_000) for name in ("red.tif", "nir.tif")}
SPANS = [(n * 30_000, n * 30_000 + 99) for n in range(9)]
ITEM = {
    "type": "Feature", "id": "one", "collection": "c", "properties": {},
    "assets": {"red": {"href": "red.tif"}, "nir": {"href": "nir.tif"}},
}  # fmt: skip
OPEN = Network(allow_private=True, retry=Retry(attempts=2, base_s=0.01, timeout_s=10))


def parts(name):
    return [DATA[name][a:b] for a, b in SPANS]


@pytest.fixture
def files():
    with SignedFiles(contents=DATA) as files:
        yield files


@pytest.fixture
def api(files):
    with SignedApi([copy.deepcopy(ITEM)], sign=files.sign) as api:
        yield api


@pytest.fixture
def fetcher():
    with Fetcher(OPEN) as fetcher:
        yield fetcher


def origin(api, asset="red", **changes):
    return Origin(**({"document": f"{api.url}/collections/c/items/one", "item": "one", "asset": asset} | changes))


def test_links_that_have_expired_are_found_anew_once_for_an_item(files, api, fetcher):
    red, nir = files.sign("red.tif"), files.sign("nir.tif")
    fetcher.remember(red, origin(api))
    fetcher.remember(nir, origin(api, "nir"))
    assert fetcher.ranges(red, SPANS) == parts("red.tif")
    assert api.items_asked == []
    for times in (1, 2):
        files.expire()
        assert fetcher.ranges(red, SPANS) == parts("red.tif")  # nine requests at once, all of them refused
        assert fetcher.ranges(nir, SPANS) == parts("nir.tif")
        assert api.items_asked == ["one"] * times
    assert 2 <= files.refused <= 2 * len(SPANS)


def test_a_link_that_was_not_kept_is_looked_up_before_its_file_is_asked_for(files, api, fetcher):
    bare = shown(files.sign("red.tif"))
    assert WORD not in bare
    fetcher.remember(bare, origin(api))
    assert fetcher.facts(bare).size == len(DATA["red.tif"])
    assert fetcher.ranges(bare, SPANS) == parts("red.tif")
    assert (files.refused, api.items_asked) == (0, ["one"])


def test_google_says_400_to_a_link_that_has_expired(files, api, fetcher):
    files.status = 400
    red = files.sign("red.tif")
    files.expire()
    with pytest.raises(ReadError) as caught:
        fetcher.ranges(red, SPANS[:1])
    assert caught.value.problem.code == "read.refused"
    assert files.refused == 1  # nobody knows where it is from
    fetcher.remember(red, origin(api))
    assert fetcher.ranges(red, SPANS) == parts("red.tif")


def test_a_real_store_refuses_what_has_expired_and_takes_the_new_link(s3_server, fetcher):
    prefix, client = s3_server.prefix().split("/", 3)[3], s3_server.client()
    client.put_object(Bucket=s3_server.bucket, Key=f"{prefix}/red.tif", Body=DATA["red.tif"])

    def presigned(name):
        place = {"Bucket": s3_server.bucket, "Key": f"{prefix}/{name}"}
        return client.generate_presigned_url("get_object", place, ExpiresIn=3)

    with SignedApi([copy.deepcopy(ITEM)], sign=presigned) as api:
        red = presigned("red.tif")
        assert fetcher.ranges(red, SPANS) == parts("red.tif")
        time.sleep(4.1)
        with pytest.raises(ReadError) as caught:
            fetcher.ranges(red, SPANS[:1])
        assert caught.value.problem.code == "read.forbidden"
        fetcher.remember(red, origin(api))
        assert fetcher.ranges(red, SPANS) == parts("red.tif")
        assert api.items_asked == ["one"]


# --- what is not taken ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "assets",
    [
        {"red": {"href": "nir.tif"}},
        {"red": {"href": "../elsewhere/red.tif"}},
        {"nir": {"href": "red.tif"}},
        {"red": "red.tif"},
        [],
    ],
    ids=["another file", "another folder", "another key", "no asset", "no assets"],
)
def test_only_a_link_to_the_same_file_is_taken(files, fetcher, assets):
    red = files.sign("red.tif")
    item = {**ITEM, "assets": assets}
    with Server(lambda _: Reply(body=json.dumps(_signed(item, files)).encode())) as items:
        fetcher.remember(red, Origin(items.url("one.json"), "one", "red"))
        files.expire()
        with pytest.raises(ReadError) as caught:
            fetcher.ranges(red, SPANS[:1])
        assert len(items.asked) == 1
    assert caught.value.problem.code == "read.forbidden"
    assert WORD not in str(caught.value.problem)


def _signed(item, files):
    assets = item["assets"]
    for asset in assets.values() if isinstance(assets, dict) else ():
        if isinstance(asset, dict):
            asset["href"] = files.sign(asset["href"])
    return item


def test_a_link_to_another_host_is_not_taken(files, fetcher):
    with Server(lambda asked: part(DATA["red.tif"], asked)) as other:
        red = files.sign("red.tif")
        moved = {**ITEM, "assets": {"red": {"href": other.url("red.tif?x=1")}}}
        with Server(lambda _: Reply(body=json.dumps(moved).encode())) as items:
            fetcher.remember(red, Origin(items.url("one.json"), "one", "red"))
            files.expire()
            with pytest.raises(ReadError):
                fetcher.ranges(red, SPANS[:1])
        assert other.asked == []


@pytest.mark.parametrize("reply", [Reply(404), Reply(403), Reply(body=b"<html>"), Reply(body=b"[1]")], ids=str)
def test_an_item_that_says_nothing_new_is_left_alone(files, fetcher, reply):
    red = files.sign("red.tif")
    with Server(lambda _: reply) as items:
        fetcher.remember(red, Origin(items.url("one.json"), "one", "red"))
        files.expire()
        for _ in range(3):
            with pytest.raises(ReadError) as caught:
                fetcher.ranges(red, SPANS[:1])
            assert caught.value.problem.code == "read.forbidden"
        assert len(items.asked) == 1
    assert files.refused == 3


def test_the_credential_of_the_search_goes_to_the_item_alone(files, api):
    api.wanted = Wanted(header=("Authorization", "Bearer hunter2"))
    auth = Auth(kind="bearer", secret="KEY", hosts=("127.0.0.1",))
    network = Network(allow_private=True, retry=OPEN.retry, secrets=Secrets({"KEY": "hunter2"}))
    bare = shown(files.sign("red.tif"))
    with Fetcher(network) as fetcher:
        fetcher.remember(bare, origin(api, auth=auth))
        assert fetcher.ranges(bare, SPANS) == parts("red.tif")
    assert all("authorization" not in asked.headers for asked in files.asked)
    assert [asked.headers.get("authorization") for asked in api.asked] == ["Bearer hunter2"]


# --- where links are found --------------------------------------------------------------------------------------------


def test_a_catalogue_on_disk_that_was_signed_again_is_read_again(files, fetcher, tmp_path):
    path, red = tmp_path / "one.json", files.sign("red.tif")
    fetcher.remember(red, Origin(str(path), "one", "red"))
    files.expire()
    path.write_text(json.dumps(_signed(copy.deepcopy(ITEM), files)))
    assert fetcher.ranges(red, SPANS) == parts("red.tif")


def test_links_of_many_items_may_stand_in_one_document():
    other = {**ITEM, "id": "two", "assets": {"red": {"href": "https://h/two.tif?s=1"}}}
    document = {"type": "FeatureCollection", "features": [None, ITEM, other]}
    assert link_in(document, Origin("", "two", "red")) == "https://h/two.tif?s=1"
    assert link_in(document, Origin("", "one", "nir")) == "nir.tif"
    assert link_in(document, Origin("", "three", "red")) == link_in(document, Origin("", "two", "nir")) == ""


def item_of(real_data, query):
    item = copy.deepcopy(recorded.of_collection(real_data, "planetary-computer", "sentinel-2-l2a")[0])
    for asset in item["assets"].values():
        asset["href"] += query
    return item


def test_what_has_a_query_knows_where_it_is_from(real_data):
    auth = Auth(kind="bearer", secret="KEY")
    card = recorded.shipped_cards()["pc-s2-l2a"].model_copy(update={"search_auth": auth})
    item = item_of(real_data, "?sig=hunter2")
    self = next(link["href"] for link in item["links"] if link["rel"] == "self")
    scene = scene_of(item, card, ("red",), card.url)
    assert scene.bands[0].href.endswith("B04_10m.tif?sig=hunter2")
    assert scene.bands[0].origin == Origin(self, item["id"], "B04", auth)
    assert scene.mask.origin == Origin(self, item["id"], "SCL", auth)
    item["links"] = []  # an API gives items out at a place that is agreed on
    alone = scene_of(item, card, ("red",), card.url).bands[0].origin
    assert alone.document == f"{card.url}/collections/sentinel-2-l2a/items/{item['id']}"
    static = card.model_copy(update={"kind": SourceKind.STATIC})
    assert scene_of(item, static, ("red",), "/data/all.json").bands[0].origin.document == "/data/all.json"
    assert scene_of(item_of(real_data, ""), card, ("red",), card.url).bands[0].origin is None


# --- nothing of it is kept --------------------------------------------------------------------------------------------


def signed_scene(document):
    def asset(name):
        return Asset(name, f"https://h/{name}.tif?X-Amz-Signature=hunter2", origin=Origin(document, "one", name))

    bands, looks = (asset("red"), asset("nir")), (asset("green"),)
    return Scene("one", "c", "2024-07-01T10:00:00Z", b"", bands, asset("scl"), looks, (asset("blue"),))


def test_scenes_are_kept_without_signatures():
    mosaic = mosaic_of([signed_scene("https://h/one.json?X-Amz-Signature=hunter2")], Place())
    text = written("asked", mosaic)
    assert b"hunter2" not in text
    assert b"?" not in text
    kept = read(text, "asked")
    assert kept.fingerprint == mosaic.fingerprint
    (scene,) = kept.scenes
    assets = (*scene.bands, scene.mask, *scene.looks, *scene.picture)
    assert [a.href for a in assets] == [f"https://h/{a.name}.tif" for a in assets]
    assert [a.origin for a in assets] == [Origin("https://h/one.json", "one", a.name) for a in assets]


def test_an_item_that_was_named_by_a_signed_link_is_found_by_it_again():
    source = "https://h/one.json?X-Amz-Signature=hunter2"
    text = written("asked", mosaic_of([signed_scene(source)], Place()))
    assert {b.origin.document for b in read(text, "asked", source).scenes[0].bands} == {source}
    other = "https://h/two.json?X-Amz-Signature=hunter2"
    assert {b.origin.document for b in read(text, "asked", other).scenes[0].bands} == {"https://h/one.json"}


def test_where_a_link_is_found_is_no_other_run():
    one, two = (mosaic_of([signed_scene(document)], Place()) for document in ("https://h/1.json", "https://h/2.json"))
    assert one.fingerprint == two.fingerprint


def test_the_key_of_a_tile_service_is_that_of_its_card():
    template = "https://h/{z}/{x}/{y}.png?api_key="
    bands = tuple(Asset(name, f"{template}hunter2", i) for i, name in enumerate(("red", "nir"), 1))
    scene = Scene("tiles", "", "1970-01-01T00:00:00Z", b"", bands, looks=bands[:1])
    mosaic = mosaic_of([scene], Place(), tiles=TileService(scheme="xyz", zoom=3))
    text = written("asked", mosaic)
    assert b"hunter2" not in text
    assert read(text, "asked", f"{template}hunter2") == mosaic
    changed = read(text, "asked", f"{template}another")
    assert {a.href for s in changed.scenes for a in (*s.bands, *s.looks)} == {f"{template}another"}
    assert changed.fingerprint == mosaic.fingerprint
    (other,) = read(text, "asked", "https://elsewhere/{z}/{x}/{y}.png?api_key=hunter2").scenes
    assert {a.href for a in other.bands} == {"https://h/{z}/{x}/{y}.png"}
