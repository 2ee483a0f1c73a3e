"""Registering: result folders, STAC files of others, plain images; nothing is copied, and nothing half done."""

from __future__ import annotations

import json
import shutil

import pytest

from pipelines.catalogue.register import Wish, register
from pipelines.catalogue.search import Search
from pipelines.catalogue.store import Catalogue
from pipelines.imagery.gdal import Retry
from pipelines.imagery.remote_files import RemoteFiles
from pipelines.remote.network import Network
from swathe.errors import GridError, ImageryError, InputError, SwatheError
from tests.pipelines.fault_server import FaultServer


@pytest.fixture
def catalogue(tmp_path):
    with Catalogue(tmp_path / "catalogue.sqlite") as made:
        yield made


def stac_item(id_="x", **changes):
    return {
        "type": "Feature", "stac_version": "1.1.0", "id": id_, "geometry": {"type": "Point", "coordinates": [1, 2]},
        "bbox": [1, 2, 1, 2], "properties": {"datetime": "2024-01-01T00:00:00Z"}, "links": [], "assets": {}, **changes,
    }  # fmt: skip


def test_a_static_collection_of_others(catalogue, real_data):
    folder = real_data / "stac_with_local_assets"
    done = register(catalogue, str(folder))
    assert [c for c, _ in done.items] == ["unknown-job"] * 3
    assert done.collections == ("unknown-job",)
    item = catalogue.item("unknown-job", "openEO_2023-06-04Z.tif")
    (asset,) = item["assets"].values()
    assert asset["href"] == str(folder / "sub-folder" / "openEO_2023-06-04Z.tif")
    assert {"rel": "via", "href": str(folder / "sub-folder" / "openEO_2023-06-04Z.tif.json")}.items() <= item["links"][
        -1
    ].items()
    extent = catalogue.collection("unknown-job")["extent"]
    assert extent["temporal"]["interval"] == [["2023-06-01T00:00:00Z", "2023-06-06T00:00:00Z"]]
    assert catalogue.count("imagery") == 0  # the images are those of the items


def test_real_items_of_many_providers(catalogue, real_data):
    for name in ("stac/items_odc-stac", "stac/items_stactools", "stac/pystac-client_sample-item-collection.json"):
        register(catalogue, str(real_data / name))
    assert catalogue.search(Search()).matched == 16
    assert catalogue.collection("sentinel-2-l2a")["title"] == "Sentinel-2 Level-2A"
    page = catalogue.search(Search(filter="eo:cloud_cover < 50 AND platform = 'LANDSAT_8'"))
    assert {i["collection"] for i in page.items} == {"landsat-c2l2-sr"}


def test_again_is_the_same(catalogue, real_data):
    for _ in range(2):
        register(catalogue, str(real_data / "stac_with_local_assets"))
    assert catalogue.search(Search()).matched == 3
    assert [k["rel"] for k in catalogue.item("unknown-job", "openEO_2023-06-01Z.tif")["links"]] == ["via"]


def test_plain_images(catalogue, real_data, tmp_path):
    source = real_data / "stac_with_local_assets" / "openEO_2023-06-01Z.tif"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for place in ("a/S2_20240725T100031.tif", "b/S2_20240725T100031.tif", "b/.hidden.tif", "b/undated.tif"):
        shutil.copy(source, tmp_path / place)
    (tmp_path / "b" / "notes.json").write_text("[1, 2")
    (tmp_path / "b" / "table.json").write_text('{"type": "Feature"}')
    done = register(catalogue, str(tmp_path))
    assert len(done.items) == len(set(done.items)) == 3
    found = catalogue.search(Search(datetime="2024-07-25T10:00:31Z", bbox=(5, 51, 6, 52)))
    assert {i["properties"]["title"] for i in found.items} == {"S2_20240725T100031.tif"}
    assert len(found.items) == 2
    register(catalogue, str(tmp_path / "b" / "undated.tif"), Wish("mine", "2023-06-01"))
    (mine,) = catalogue.search(Search(("mine",))).items
    assert mine["properties"]["datetime"] == "2023-06-01T00:00:00Z"
    assert mine["assets"]["image"]["bands"][0]["nodata"] == -32768


def test_images_that_are_none_are_refused_by_name(catalogue, real_data, tmp_path):
    with pytest.raises(GridError) as caught:
        register(catalogue, str(real_data / "edge" / "rotated.tif"))
    assert caught.value.problem.code == "grid.rotated"
    shutil.copy(real_data / "stac_with_local_assets" / "openEO_2023-06-01Z.tif", tmp_path / "good.tif")
    (tmp_path / "zz.tif").write_bytes(b"no image at all")
    with pytest.raises(ImageryError):
        register(catalogue, str(tmp_path))
    assert catalogue.collections() == []


@pytest.mark.parametrize(
    ("text", "code"),
    [("{", "catalogue.item"), ("[]", "catalogue.item"), ('{"type": "Catalog", "id": "x"}', "catalogue.item"),
     ("{}", "catalogue.item"), ('{"type": "Feature"}', "catalogue.item"), ("[" * 100_000, "catalogue.item"),
     (json.dumps(stac_item(links="x")), "catalogue.item"), (json.dumps(stac_item(assets={"a": 1})), "catalogue.item"),
     (json.dumps(stac_item(properties=None)), "catalogue.item"), (json.dumps(stac_item(id="a/b")), "catalogue.item"),
     (json.dumps(stac_item(geometry={"type": "Point", "coordinates": [500, 0]})), "catalogue.geometry"),
     (json.dumps({"type": "FeatureCollection", "features": [stac_item(), stac_item(id=3)]}), "catalogue.item"),
     (json.dumps(stac_item(properties={"datetime": "soon"})), "catalogue.item")],
    ids=lambda t: t[:50],
)  # fmt: skip
def test_json_that_is_no_stac(catalogue, tmp_path, text, code):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError) as caught:
        register(catalogue, str(tmp_path / "x.json"))
    assert caught.value.problem.code == code
    assert catalogue.collections() == []


def test_paths_that_lead_nowhere(catalogue, tmp_path):
    (tmp_path / "empty").mkdir()
    for what in (tmp_path / "nope", tmp_path / "empty", tmp_path / "nope.json", "https://e.org/item.json"):
        with pytest.raises(InputError) as caught:
            register(catalogue, str(what))
        assert caught.value.problem.code == "catalogue.path"


@pytest.fixture
def far(tmp_path):
    """A server of this machine, and the door to it."""
    folder = tmp_path / "far"
    folder.mkdir()
    with FaultServer(folder) as server, RemoteFiles(Network(allow_private=True), Retry()) as remote:
        yield server, remote


def test_documents_at_addresses(catalogue, far):
    """Relative hrefs are meant from the address."""
    server, remote = far
    (server.folder / "one" / "two").mkdir(parents=True)
    item = stac_item(assets={"a": {"href": "../b.tif"}, "s": {"href": "s3://bucket/c.tif"}}, collection="far")
    (server.folder / "one" / "two" / "item.json").write_text(json.dumps(item))
    register(catalogue, server.url("one/two/item.json"), Wish(remote=remote))
    assets = catalogue.item("far", "x")["assets"]
    assert (assets["a"]["href"], assets["s"]["href"]) == (server.url("one/b.tif"), "s3://bucket/c.tif")


def test_no_signature_of_a_document_is_kept(catalogue, far, tmp_path):
    server, remote = far
    signature = "X-Amz-Signature=secret&X-Amz-Expires=60"
    assets = {
        "near": {"href": f"b.tif?{signature}", "alternate": {"s3": {"href": f"https://h/b.tif?v=2&{signature}"}}},
        "azure": {"href": "https://h/c.tif?se=2024&sp=r&sig=secret"},
        "odd": {"href": "https://h/d.tif?id=4", "alternate": "none"},
    }
    links = [{"rel": "license", "href": "https://h/terms?a=1#b"}, {"rel": "thumbnail", "href": f"t.png?{signature}"}]
    item = stac_item(collection="far", assets=assets, links=links)
    (server.folder / "item.json").write_text(json.dumps(item))
    register(catalogue, f"{server.url('item.json')}?{signature}", Wish(remote=remote))
    kept = catalogue.item("far", "x")
    assert "secret" not in json.dumps(kept)
    assert {key: asset["href"] for key, asset in kept["assets"].items()} == {
        "near": server.url("b.tif"), "azure": "https://h/c.tif", "odd": "https://h/d.tif?id=4",
    }  # fmt: skip
    assert kept["assets"]["near"]["alternate"]["s3"]["href"] == "https://h/b.tif?v=2"
    assert {link["rel"]: link["href"] for link in kept["links"]} == {
        "license": "https://h/terms?a=1#b", "thumbnail": server.url("t.png"), "via": server.url("item.json"),
    }  # fmt: skip
    (tmp_path / "a?sig=1.json").write_text(json.dumps({**item, "id": "y"}))
    register(catalogue, str(tmp_path / "a?sig=1.json"))
    here = catalogue.item("far", "y")
    assert "secret" not in json.dumps(here["assets"]["azure"])
    assert here["links"][-1]["href"] == str(tmp_path / "a?sig=1.json")


def test_images_at_addresses(catalogue, far, real_data):
    server, remote = far
    source = real_data / "stac_with_local_assets" / "openEO_2023-06-01Z.tif"
    for name in ("S2_20240725.tif", "undated.tif"):
        shutil.copy(source, server.folder / name)
    href = server.url("S2_20240725.tif")
    (first,) = register(catalogue, f"{href}?a=1&X-Amz-Signature=secret", Wish(remote=remote)).items
    (second,) = register(catalogue, f"{href}?a=1&X-Amz-Signature=another", Wish(remote=remote)).items
    assert first == second
    item = catalogue.item(*first)
    assert item["assets"]["image"]["href"] == f"{href}?a=1"
    assert item["assets"]["image"]["file:size"] == source.stat().st_size
    assert item["properties"]["datetime"] == "2024-07-25T00:00:00Z"
    assert "secret" not in json.dumps(item)
    with pytest.raises(InputError, match=r"when undated\.tif was taken") as caught:
        register(catalogue, server.url("undated.tif"), Wish(remote=remote))
    assert caught.value.problem.code == "catalogue.datetime"
    register(catalogue, server.url("undated.tif"), Wish(when="2023-06-01", remote=remote))
    with pytest.raises(SwatheError) as caught:
        register(catalogue, server.url("nowhere.tif"), Wish(when="2023-06-01", remote=remote))
    assert caught.value.problem.code == "imagery.missing"


def test_a_described_collection_is_not_overwritten_by_a_guess(catalogue, tmp_path, real_data):
    register(catalogue, str(real_data / "stac/items_odc-stac/sentinel-2-l2a.collection.json"))
    (tmp_path / "x.json").write_text(json.dumps(stac_item(collection="sentinel-2-l2a")))
    assert register(catalogue, str(tmp_path / "x.json")).collections == ()
    assert catalogue.collection("sentinel-2-l2a")["title"] == "Sentinel-2 Level-2A"
