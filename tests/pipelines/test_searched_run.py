"""Whole runs on searched imagery: the same promises as on files, and those that only scenes can break."""

import json
import shutil
from dataclasses import dataclass, replace

import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio.warp import Resampling, reproject

from pipelines import searched
from pipelines.backdrop import backdrop
from pipelines.begin import begin
from pipelines.demo import catalogue
from pipelines.imagery.gdal import Retry
from pipelines.mosaic.frame import Frame
from pipelines.mosaic.reader import MosaicReader
from pipelines.remote.network import Network
from pipelines.remote.secrets import Secrets
from pipelines.run import Request, kept_scenes, run
from pipelines.runner import Loop
from pipelines.search.sources import load_sources
from pipelines.store.blobs import StoreSettings, open_blobs
from pipelines.store.scratch import scratch
from swathe.composite import Composite
from swathe.errors import BandError, ImageryError, InputError, OutputError
from swathe.recipe import Recipe, Search
from swathe.source import Auth, AuthKind, SourceBand, SourceKind
from swathe.state import State
from swathe.window import Window
from tests.pipelines.fault_server import Every, FaultServer, Reset, Status
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server
from tests.pipelines.scenes import Place, centres, outline, write
from tests.pipelines.signed_server import WORD, SignedApi, SignedFiles
from tests.pipelines.stac_server import Answer, StacServer
from tests.pipelines.tile_server import TileServer

SIDE = 512
LATE = "2024-08-20_2024-09-10"


@pytest.fixture(scope="session")
def coast(tmp_path_factory):
    return catalogue.write(tmp_path_factory.mktemp("coast"), size=SIDE, seed=5)


@pytest.fixture(scope="session")
def sources(pytestconfig):
    return load_sources([pytestconfig.rootpath / "configs" / "sources"])


@pytest.fixture(scope="session")
def water(pytestconfig):
    from models.registry import load_cards

    return load_cards((pytestconfig.rootpath / "configs" / "models",))["water-mndwi"]


@pytest.fixture(scope="session")
def searched_run(coast, sources, water, home):
    """``searched_run(out, aoi=…, dates=…, card=…, …)`` gives (outcome, mosaic)."""

    class Silent:
        def event(self, event):
            pass

        def progress(self, done, total):
            pass

    def go(out, card=water, aoi=None, source=None, network=None, mosaic=None, *, store=None, **search):
        search.setdefault("dates", (LATE,))
        recipe = Recipe(card.id, search=Search(str(source or coast.catalog), **search), aoi=aoi or coast.aoi, chunk=512)
        network = network or Network(retry=Retry(attempts=2, base_s=0.02))
        archive = searched.Archive(sources, network)
        mosaic = mosaic or kept_scenes(out, store, recipe, sources) or searched.look(recipe, card, archive)
        made = begin(recipe, card, mosaic, actors=1)
        request = Request(out, home, network=network, store=store)
        return run(made, request, Loop(), Silent()), mosaic

    return go


def bands_of(path):
    with rasterio.open(path) as file:
        return file.read(), file.transform, file.crs


def on(path, transform, crs, shape):
    """A raster, nearest neighbour, on another grid."""
    found = np.zeros(shape, np.uint8)
    with rasterio.open(path) as file:
        reproject(rasterio.band(file, 1), found, dst_transform=transform, dst_crs=crs, resampling=Resampling.nearest)
    return found


def test_a_place_and_a_time_give_all_products(searched_run, coast, tmp_path):
    outcome, mosaic = searched_run(tmp_path)
    assert outcome.state is State.DONE
    (classes,), transform, crs = bands_of(tmp_path / "result.tif")
    truth = on(coast.water, transform, crs, classes.shape)
    valid = classes != 255
    assert valid.mean() > 0.5
    water, told = (classes == 1) & valid, (truth == 1) & valid
    assert (water & told).sum() / (water | told).sum() > 0.8
    item = json.loads((tmp_path / "item.json").read_text())
    derived = {link["href"] for link in item["links"] if link["rel"] == "derived_from"}
    assert len(derived) == len(mosaic.scenes) == 4
    assert item["properties"]["start_datetime"].startswith("2024-08-28")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["observations"]["lost"] == 0
    assert {s["number"] for s in report["imagery"]["dates"][0]["scenes"]} == {1, 2, 3, 4}


def test_its_preview_shows_what_an_eye_sees_though_the_method_looks_elsewhere(searched_run, water, coast, tmp_path):
    assert "red" not in water.input.bands
    _, mosaic = searched_run(tmp_path)
    picture = backdrop(begin(Recipe(water.id, aoi=coast.aoi), water, mosaic, 1).work, network=Network())
    colours = picture.colours
    assert colours.shape[2] == 3
    assert (colours[..., 0] != colours[..., 2]).mean() > 0.5
    with rasterio.open(tmp_path / "quicklook.tif") as file, rasterio.open(tmp_path / "result.tif") as result:
        assert np.array_equal(file.read().transpose(1, 2, 0), colours)
        assert (file.crs, file.count, file.nodata) == (result.crs, 3, 0)
        assert np.allclose(file.bounds, result.bounds, atol=2 * file.res[0])
    assert {a.name for s in mosaic.scenes for a in s.picture} == {"red", "green", "blue"}


def test_scenes_that_lasted_for_days_say_from_when_to_when(searched_run, coast, tmp_path):
    copy = tmp_path / "catalogue"
    shutil.copytree(coast.folder, copy)
    week = {"datetime": None, "start_datetime": "2024-08-25T00:00:00Z", "end_datetime": "2024-09-02T00:00:00Z"}
    for path in copy.rglob("*2024-08-28_*.json"):
        item = json.loads(path.read_text())
        path.write_text(json.dumps({**item, "properties": {**item["properties"], **week}}))
    _, mosaic = searched_run(tmp_path / "out", source=copy / "catalog.json", dates=("2024-08-26",))
    assert {scene.when for scene in mosaic.scenes} == {"2024-08-29T00:00:00Z"}
    told = json.loads((tmp_path / "out" / "item.json").read_text())["properties"]
    assert {name: told[name] for name in week} == week


def test_the_label_tells_which_scene_made_each_pixel(searched_run, tmp_path):
    searched_run(tmp_path, composite=None)
    (number, clear), *_ = bands_of(tmp_path / "observations.tif")
    (classes,), *_ = bands_of(tmp_path / "result.tif")
    assert set(np.unique(number)) <= {0, 1, 2, 3, 4}
    assert len(np.unique(number)) >= 4
    assert ((number > 0) == (classes != 255)).all()
    assert ((clear > 0) == (number > 0)).all()
    assert clear.max() > 1


def test_values_do_not_depend_on_the_area_drawn(searched_run, card, coast, tmp_path):
    """With a network that sees its neighbours: two areas, another corner, the same pixels where they overlap."""
    wider = replace_bands(card)
    west, south, east, north = map(float, coast.aoi.split(","))
    third = (east - west) / 3
    searched_run(tmp_path / "whole", card=wider, crs="EPSG:32633")
    aoi = f"{west + third},{south},{east - 0.0007},{north - 0.0011}"
    searched_run(tmp_path / "part", card=wider, aoi=aoi, crs="EPSG:32633")
    whole, whole_at, crs = bands_of(tmp_path / "whole" / "result.tif")
    part, part_at, same_crs = bands_of(tmp_path / "part" / "result.tif")
    assert crs == same_crs
    col, row = round((part_at.c - whole_at.c) / 10), round((whole_at.f - part_at.f) / 10)
    assert col > 0
    shared = whole[0, row : row + part.shape[1], col : col + part.shape[2]]
    both = (shared != 255) & (part[0] != 255)
    assert both.sum() > 20_000
    assert (shared[both] == part[0][both]).all()
    scores = [bands_of(tmp_path / name / "score.tif")[0][0] for name in ("whole", "part")]
    assert (scores[0][row : row + part.shape[1], col : col + part.shape[2]][both] == scores[1][both]).all()


def replace_bands(card):
    """The test network looks at four bands; here they come from the demo's coast."""
    return card.model_copy(update={"input": card.input.model_copy(update={"bands": ("blue", "green", "red", "nir08")})})


def test_one_scene_gives_what_its_files_give(searched_run, go, sensors, water, coast, tmp_path):
    """The same pixels through another door: a searched scene, and its own two files."""
    _, mosaic = searched_run(tmp_path / "scene", dates=("2024-07-04",), composite=None)
    scene = max(mosaic.scenes, key=lambda s: s.clear or 0)
    single = replace(mosaic, slots=(replace(mosaic.slots[0], days=((scene,),)),), mask=None)
    searched_run(tmp_path / "single", dates=("2024-07-04",), mosaic=single)
    files = tuple(band.href for band in scene.bands)
    go(tmp_path / "files", card=water, inputs=files, aoi=coast.aoi, sensor="sentinel-2-l2a")
    one, at, _ = bands_of(tmp_path / "single" / "result.tif")
    two, there, _ = bands_of(tmp_path / "files" / "result.tif")
    col, row = round((there.c - at.c) / 10), round((at.f - there.f) / 10)
    shared = one[0, row : row + two.shape[1], col : col + two.shape[2]]
    assert (shared == two[0]).mean() > 0.99999
    assert (two[0] != 255).sum() > 20_000


def test_a_resumed_run_reads_the_scenes_it_began_with(searched_run, coast, tmp_path):
    copy = tmp_path / "catalogue"
    shutil.copytree(coast.folder, copy)
    out = tmp_path / "out"
    lost = next(copy.rglob("*2024-09-02_33/green.tif"))
    aside = lost.rename(tmp_path / "aside.tif")
    outcome, mosaic = searched_run(out, source=copy / "catalog.json")
    assert outcome.state is State.INCOMPLETE
    aside.rename(lost)
    gone = next(copy.rglob("*2024-08-28_34.json"))
    gone.unlink()  # the archive changes: without its memory, the run would now find another list
    outcome, again = searched_run(out, source=copy / "catalog.json")
    assert outcome.state is State.DONE
    assert again.scenes == mosaic.scenes


def test_a_lost_asset_fails_the_run_unless_losses_are_allowed(searched_run, coast, tmp_path):
    copy = tmp_path / "catalogue"
    shutil.copytree(coast.folder, copy)
    next(copy.rglob("*2024-09-02_33/green.tif")).unlink()
    outcome, _ = searched_run(tmp_path / "strict", source=copy / "catalog.json")
    assert outcome.state is State.INCOMPLETE
    assert "green" in json.dumps(outcome.report["failed"])
    outcome, _ = searched_run(tmp_path / "lenient", source=copy / "catalog.json", max_loss=0.9)
    assert outcome.state is State.DONE
    lost = outcome.report["observations"]["lost_assets"]
    assert [(one["scene"], one["asset"]) for one in lost] == [("swathe-demo_2024-09-02_33", "green")]
    item = json.loads((tmp_path / "lenient" / "item.json").read_text())
    assert item["properties"]["swathe:lost_assets"]


def test_nothing_found_names_the_nearest_dates(searched_run, tmp_path):
    with pytest.raises(ImageryError) as caught:
        searched_run(tmp_path, dates=("2024-07-20_2024-07-25",))
    assert caught.value.problem.code == "search.nothing"
    assert "2024-07-14" in caught.value.hint
    assert "2024-08-28" in caught.value.hint


def repainted(coast, target, code_of):
    """A copy of the catalogue; each mask is of one class all over, which ``code_of`` says of its path."""
    shutil.copytree(coast.folder, target)
    for path in target.rglob("scl.tif"):
        with rasterio.open(path) as file:
            profile, classes = file.profile, file.read()
        path.unlink()
        profile.update(driver="GTiff", tiled=True)
        with rasterio.open(path, "w", **{k: v for k, v in profile.items() if k != "interleave"}) as file:
            file.write(np.full_like(classes, code_of(str(path))))
    return target / coast.catalog.relative_to(coast.folder)


@pytest.fixture
def overcast(coast, tmp_path):
    """The catalogue, with a mask that is cloud all over."""
    return repainted(coast, tmp_path / "overcast", lambda _: 9)


def test_a_limit_on_cloud_is_measured_over_the_area_and_not_taken_from_the_tile(coast, sources, water, tmp_path):
    """The catalogue says of the clear day that its tiles are cloudy, and of the overcast one that they are clear."""
    catalog = repainted(coast, tmp_path / "other", lambda path: 4 if "2024-08-28" in path else 9)
    for path in catalog.parent.rglob("swathe-demo_2024-*.json"):
        item = json.loads(path.read_text())
        item["properties"]["eo:cloud_cover"] = 85 if "2024-08-28" in path.name else 0
        path.write_text(json.dumps(item))
    west, south, east, north = map(float, coast.aoi.split(","))
    x, y, third = (west + east) / 2, (south + north) / 2, (east - west) / 6
    archive = searched.Archive(sources, Network())

    def look(aoi, limit):
        search = Search(str(catalog), (LATE,), max_cloud=limit)
        return searched.look(Recipe(water.id, search=search, aoi=aoi), water, archive)

    small = f"{x - third},{y - third},{x + third},{y + third}"
    assert {s.when[:10] for s in look(small, None).scenes} == {"2024-08-28", "2024-09-02"}
    mosaic = look(small, 20)
    assert {s.when[:10] for s in mosaic.scenes} == {"2024-08-28"}
    (note,) = [note for note in mosaic.notes if "more than 20 % cloud over the area" in note]
    assert "swathe-demo_2024-09-02" in note
    with pytest.raises(ImageryError) as caught:
        look(coast.aoi, 20)  # of a whole tile the catalogue's number leaves no doubt
    assert caught.value.problem.code == "search.nothing"
    assert "100 % cloud" in caught.value.hint


def test_an_area_under_cloud_is_refused_before_the_run(searched_run, overcast, tmp_path):
    with pytest.raises(InputError) as caught:
        searched_run(tmp_path / "out", source=overcast)
    assert caught.value.problem.code == "scenes.cloudy"
    assert "2024-07-14" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_a_map_without_a_pixel_says_so(searched_run, coast, overcast, tmp_path, monkeypatch):
    """As where a mask's buffer takes the little that was clear."""
    monkeypatch.setattr(searched, "checked", lambda *_: ())
    outcome, _ = searched_run(tmp_path / "out", source=overcast)
    assert outcome.report["pixels"]["valid_fraction"] == 0
    assert "no pixel of the result has a value" in outcome.report["warnings"][-1]


def test_a_model_of_two_dates_wants_two(searched_run, water, home, pytestconfig, tmp_path):
    from models.registry import load_cards

    burn = load_cards((pytestconfig.rootpath / "configs" / "models",))["burn-dnbr"]
    with pytest.raises(InputError) as caught:
        searched_run(tmp_path, card=burn, dates=("2024-07",))
    assert caught.value.problem.code == "when.count"
    outcome, mosaic = searched_run(tmp_path, card=burn, dates=("2024-07", "2024-08_2024-09"))
    assert outcome.state is State.DONE
    assert mosaic.slots[0].when < mosaic.slots[1].when
    assert rasterio.open(tmp_path / "observations.tif").descriptions == ("scene 1", "clear 1", "scene 2", "clear 2")


def test_a_folder_with_another_run_is_not_written_into(searched_run, tmp_path):
    searched_run(tmp_path, composite=None)
    with pytest.raises(OutputError):
        searched_run(tmp_path, dates=("2024-07",))


def items_at(coast, root):
    """The catalogue's items, with assets below another address."""
    found = []
    for path in coast.folder.rglob("*.json"):
        item = json.loads(path.read_text())
        if item.get("type") != "Feature":
            continue
        for asset in item["assets"].values():
            asset["href"] = f"{root}/{(path.parent / asset['href']).resolve().relative_to(coast.folder.resolve())}"
        found.append(item)
    return found


@pytest.fixture
def served(coast):
    """A STAC API with the catalogue's items, and a server of byte ranges with their files."""
    with FaultServer(coast.folder) as files, StacServer(items_at(coast, files.url("").rstrip("/"))) as api:
        yield api, files


OPEN = Network(allow_private=True, retry=Retry(attempts=4, base_s=0.02))


@pytest.fixture(scope="session")
def from_disk(searched_run, tmp_path_factory):
    """The result of the catalogue as it lies on disk: what every other way to its files has to give."""
    out = tmp_path_factory.mktemp("from-disk")
    searched_run(out)
    return out


def test_an_api_over_http_gives_the_same_bytes(searched_run, served, tmp_path):
    api, files = served
    searched_run(tmp_path / "disk")
    files.faults = Every(7, Status(503))
    outcome, _ = searched_run(tmp_path / "http", source=api.url, collection="swathe-demo", network=OPEN)
    assert outcome.state is State.DONE
    for name in ("result.tif", "observations.tif"):
        assert (tmp_path / "http" / name).read_bytes() == (tmp_path / "disk" / name).read_bytes(), name
    told = outcome.report["observations"]
    assert told["fetched_mb"] > 0
    assert told["requests"] > 8
    assert told["retried"] > 0


@pytest.mark.slow
def test_a_server_that_breaks_off_loses_nothing_silently(searched_run, served, tmp_path):
    api, files = served
    outcome, _ = searched_run(tmp_path / "good", source=api.url, collection="swathe-demo", network=OPEN)
    assert outcome.state is State.DONE
    files.faults = lambda request: Reset(10) if "2024-09-02_33/green" in request.name else None
    outcome, _ = searched_run(tmp_path / "bad", source=api.url, collection="swathe-demo", network=OPEN)
    assert outcome.state is State.INCOMPLETE
    assert "green" in json.dumps(outcome.report["failed"])
    files.faults = lambda request: None
    outcome, _ = searched_run(tmp_path / "bad", source=api.url, collection="swathe-demo", network=OPEN)
    assert outcome.state is State.DONE
    assert (tmp_path / "bad" / "result.tif").read_bytes() == (tmp_path / "good" / "result.tif").read_bytes()


def test_private_addresses_are_refused_unless_allowed(searched_run, served, tmp_path):
    with pytest.raises(ImageryError) as caught:
        searched_run(tmp_path, source=served[0].url, collection="swathe-demo")
    assert caught.value.problem.code == "url.private"
    assert "SWATHE_ALLOW_PRIVATE_URLS" in caught.value.hint


def test_assets_on_s3_give_the_same_bytes(searched_run, coast, s3_server, monkeypatch, tmp_path):
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    prefix, client = s3_server.prefix(), s3_server.client()
    for path in coast.folder.rglob("*.tif"):
        key = f"{prefix.split('/', 3)[3]}/{path.relative_to(coast.folder)}"
        client.put_object(Bucket=s3_server.bucket, Key=key, Body=path.read_bytes())
    network = replace(OPEN, s3_endpoint=s3_server.endpoint)
    searched_run(tmp_path / "disk")
    with StacServer(items_at(coast, prefix)) as api:
        outcome, _ = searched_run(tmp_path / "s3", source=api.url, collection="swathe-demo", network=network)
    assert outcome.state is State.DONE
    assert (tmp_path / "s3" / "result.tif").read_bytes() == (tmp_path / "disk" / "result.tif").read_bytes()


def test_a_provider_s3_of_its_own_is_read_into_one_s_own(
    searched_run, sources, coast, s3_server, from_disk, monkeypatch
):
    """Two stores with two pairs of keys, in one run: the source's card names its endpoint and its pair."""
    prefix, client = s3_server.prefix(), s3_server.client()
    for path in coast.folder.rglob("*.tif"):
        key = f"{prefix.split('/', 3)[3]}/{path.relative_to(coast.folder)}"
        client.put_object(Bucket=s3_server.bucket, Key=key, Body=path.read_bytes())
    own = StoreSettings(s3_server.endpoint, "us-east-1", False, s3_server.key, s3_server.secret)
    keys = {"CDSE_ACCESS_KEY_ID": s3_server.reader_key, "CDSE_SECRET_ACCESS_KEY": s3_server.reader_secret}
    wrong = {"AWS_ACCESS_KEY_ID": s3_server.key, "AWS_SECRET_ACCESS_KEY": "of another store"}
    network = replace(OPEN, s3_endpoint="http://127.0.0.1:9", secrets=Secrets(keys | wrong))  # nobody listens there
    with StacServer(items_at(coast, prefix)) as api:
        auth = sources["cdse-s2-l2a"].auth.model_copy(update={"endpoint": s3_server.endpoint})
        card = sources["local-catalogue"].model_copy(
            update={"id": "provider", "kind": SourceKind.STAC, "url": api.url, "auth": auth}
        )
        monkeypatch.setitem(sources, "provider", card)
        store = open_blobs(s3_server.prefix(), own)
        with scratch() as out:
            outcome, _ = searched_run(out, source="provider", network=network, store=store)
    assert outcome.state is State.DONE
    assert store.get("result.tif") == (from_disk / "result.tif").read_bytes()
    kept = b"".join(store.get(blob.name) for blob in store.list(""))
    assert s3_server.reader_secret.encode() not in kept


# --- signed links ----------------------------------------------------------------------------------------------------


@pytest.fixture
def signed(coast, tmp_path):
    """A copy of the catalogue whose files are given to whoever has a link that is good now; its API signs links."""
    folder = tmp_path / "catalogue"
    shutil.copytree(coast.folder, folder)
    files = SignedFiles(folder)
    with files, SignedApi(items_at(coast, ""), sign=lambda href: files.sign(href.lstrip("/"))) as api:
        yield api, files, folder


def without_signatures(out):
    return all(WORD.encode() not in path.read_bytes() for path in out.rglob("*") if path.is_file())


def test_links_that_expire_before_and_during_a_run_are_found_anew(searched_run, signed, from_disk, tmp_path):
    api, files, _ = signed
    _, mosaic = searched_run(tmp_path / "first", source=api.url, collection="swathe-demo", network=OPEN)
    assert WORD in mosaic.scenes[0].bands[0].href
    files.expire()
    begun, searches = len(files.asked), len(api.searches)
    files.expire_at = (begun + 12, begun + 24)
    out = tmp_path / "http"
    outcome, _ = searched_run(out, source=api.url, collection="swathe-demo", network=OPEN, mosaic=mosaic)
    assert outcome.state is State.DONE
    assert len(files.asked) > begun + 30
    assert files.refused > 3
    assert set(api.items_asked) == {scene.id for scene in mosaic.scenes}
    assert len(api.searches) == searches
    for name in ("result.tif", "observations.tif"):
        assert (out / name).read_bytes() == (from_disk / name).read_bytes(), name
    assert without_signatures(out)


def test_a_resumed_run_finds_its_links_anew(searched_run, signed, from_disk, tmp_path):
    api, files, folder = signed
    out, where = tmp_path / "out", {"source": api.url, "collection": "swathe-demo", "network": OPEN}
    lost = next(folder.rglob("*2024-09-02_33/green.tif"))
    aside = lost.rename(tmp_path / "aside.tif")
    outcome, before = searched_run(out, **where)
    assert outcome.state is State.INCOMPLETE
    assert without_signatures(out)
    aside.rename(lost)
    files.expire()
    refused, searches = files.refused, len(api.searches)
    outcome, again = searched_run(out, **where)
    assert outcome.state is State.DONE
    assert (files.refused, len(api.searches)) == (refused, searches)
    assert [scene.key for scene in again.scenes] == [scene.key for scene in before.scenes]
    assert not any("?" in band.href for scene in again.scenes for band in scene.bands)
    assert (out / "result.tif").read_bytes() == (from_disk / "result.tif").read_bytes()
    assert without_signatures(out)


def test_an_item_that_is_gone_loses_the_links_that_have_expired_and_says_so(searched_run, signed, tmp_path):
    api, files, _ = signed
    _, mosaic = searched_run(tmp_path / "first", source=api.url, collection="swathe-demo", network=OPEN)
    files.expire()
    gone = mosaic.scenes[0].id
    api.faults = lambda asked: Answer(404) if asked.path.endswith(gone) else None
    outcome, _ = searched_run(
        tmp_path / "second", source=api.url, collection="swathe-demo", network=OPEN, mosaic=mosaic
    )
    assert outcome.state is State.INCOMPLETE
    assert "may not be read (403)" in json.dumps(outcome.report["failed"])
    assert without_signatures(tmp_path / "second")


# --- pictures ---------------------------------------------------------------------------------------------------------


def own_tiles(form, url, auth):
    """A card of one's own, of the shipped form."""
    bands = {n: SourceBand(asset="tile", index=i) for n, i in (("red", 1), ("green", 2), ("blue", 3), ("nir08", 1))}
    facts = {"id": "own-tiles", "url": url, "bands": bands, "auth": auth}
    return form.model_copy(update=facts | {"tiles": form.tiles.model_copy(update={"zoom": 15})})


def test_a_tile_service_is_imagery_as_well(searched_run, sources, card, tmp_path, monkeypatch):
    """With a key, from its own picture: the pixels that the model got are the service's."""
    form = sources["private-tiles"]
    with TileServer(key="open-sesame") as service:
        auth = form.auth.model_copy(update={"kind": AuthKind.BEARER, "name": "", "hosts": ("127.0.0.1",)})
        monkeypatch.setitem(sources, "own-tiles", own_tiles(form, service.url("xyz/{z}/{x}/{y}"), auth))
        network = replace(OPEN, secrets=Secrets({"TILES_KEY": "open-sesame"}))
        outcome, mosaic = searched_run(
            tmp_path, card=replace_bands(card), source="own-tiles", aoi="10.000,50.000,10.012,50.008", dates=(),
            network=network,
        )  # fmt: skip
    assert outcome.state is State.DONE
    (classes,), transform, crs = bands_of(tmp_path / "result.tif")
    assert crs.to_epsg() == 3857
    assert transform.a == pytest.approx(156543.03392804097 / 2**15)
    assert (classes != 255).mean() > 0.95
    assert mosaic.unit == "DN"
    assert "open-sesame" not in "".join(p.read_text(errors="replace") for p in tmp_path.rglob("*.json*"))


def test_digital_numbers_are_refused_before_anything_is_searched(sources, pytestconfig):
    from models.registry import load_cards

    evi = load_cards((pytestconfig.rootpath / "configs" / "models",))["vegetation-evi"]
    recipe = Recipe(evi.id, search=Search("pc-naip", ("2023-11",)), aoi="-116.05,49.01,-116.0,49.06")
    with pytest.raises(BandError) as caught:
        searched.look(recipe, evi, searched.Archive(sources, Network(retry=Retry(attempts=1))))
    assert caught.value.problem.code == "band.unit"
    assert "comes in DN" in caught.value.detail


def test_a_tile_service_across_180_is_not_read_round_the_world(searched_run, sources, card, tmp_path, monkeypatch):
    """Fiji: pixels are the service's on either side, and no tile is fetched that lies under none of the blocks."""
    where = {"aoi": "179.95,-16.9,-179.95,-16.8", "crs": "EPSG:32660", "dates": (), "source": "own-tiles"}
    with TileServer() as service:
        made = own_tiles(sources["private-tiles"], service.url("xyz/{z}/{x}/{y}"), Auth())
        nearest = {name: band.model_copy(update={"resampling": "nearest"}) for name, band in made.bands.items()}
        tiles = made.tiles.model_copy(update={"zoom": 12})
        monkeypatch.setitem(sources, "own-tiles", made.model_copy(update={"bands": nearest, "tiles": tiles}))
        outcome, mosaic = searched_run(tmp_path, card=replace_bands(card), network=OPEN, **where)
        asked = {tuple(v // 256 for v in service.asked(path)) for path in service.paths}
        with (
            searched.fetching(OPEN) as fetcher,
            searched.opening(fetcher, Auth(), tiles, 64) as opener,
            MosaicReader(mosaic, opener) as reader,
        ):
            stack = reader.read(Window(0, 0, *mosaic.shape))
    assert outcome.state is State.DONE
    (classes,), _, crs = bands_of(tmp_path / "result.tif")
    assert crs.to_epsg() == 32660
    assert (classes != 255).mean() > 0.95
    rows, cols = tile_pixels(mosaic.crs, mosaic.transform, mosaic.shape)
    assert (cols < 256).any()
    assert (cols >= 4095 * 256).any()
    assert stack.mask.all()
    order = mosaic.bands.index("red")
    np.testing.assert_array_equal(stack.data[0, order], (rows * 7 + cols * 3) % 251 + 1)
    frame = Frame.of(mosaic)
    held = set()
    for block in frame.blocks(Window(*mosaic.corner, *mosaic.shape)):
        # one pixel more on each side, as pixels here are centres and tiles may begin between two of them
        wider = Window(block.row - 1, block.col - 1, block.height + 2, block.width + 2)
        rows, cols = tile_pixels(mosaic.crs, frame.transform(wider), (wider.height, wider.width))
        held |= set(zip((rows // 256).ravel().tolist(), (cols // 256).ravel().tolist(), strict=True))
    assert asked <= held
    assert len(asked) < 50


def tile_pixels(crs, transform, shape):
    """(rows, cols) of zoom 12 of web Mercator at the centres of a grid's pixels, by PROJ."""
    half, res = 20037508.342789244, 156543.03392804097 / 2**12
    x, y = (np.asarray(v) for v in centres(crs, transform, shape, "EPSG:3857"))
    return np.floor((half - y) / res).astype(int), np.floor((x + half) / res).astype(int)


def test_a_key_in_the_address_of_a_tile_service_is_kept_nowhere(searched_run, sources, card, tmp_path, monkeypatch):
    """A run that goes on has it from the card again."""
    where = {"card": replace_bands(card), "source": "own-tiles", "aoi": "10.000,50.000,10.012,50.008", "dates": ()}
    with TileServer(key="another way in") as service:
        own = own_tiles(sources["private-tiles"], service.url("xyz/{z}/{x}/{y}?api_key=hunter2"), Auth())
        monkeypatch.setitem(sources, "own-tiles", own)
        outcome, _ = searched_run(tmp_path, network=OPEN, **where)
        assert outcome.state is State.INCOMPLETE
        service.key = ""
        monkeypatch.setattr(searched, "look", None)  # nothing is searched again
        outcome, mosaic = searched_run(tmp_path, network=OPEN, **where)
    assert outcome.state is State.DONE
    assert {band.href for scene in mosaic.scenes for band in scene.bands} == {own.url}
    assert all(path.endswith("?api_key=hunter2") for path in service.paths)
    assert b"hunter2" not in b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


# --- across zones ---------------------------------------------------------------------------------------------------


def ripples(lon, lat, band):
    """A field of waves of one to two kilometres, the same on both sides of 180 degrees; about 1000..9000."""
    east, north = np.radians(lon) * (14_000 + 1500 * band), np.radians(lat) * (20_000 + 1700 * band)
    return 5000 + 2500 * np.sin(east) + 1500 * np.cos(north)


@dataclass(frozen=True)
class Border:
    """A place where two UTM zones meet, and the two instants of one pass over it, one tile after the other."""

    zones: tuple[str, str]
    """Western and eastern."""
    lon: float
    lat: float
    passed: tuple[str, str]
    aoi: str

    def tile(self, crs, west, east):
        """A grid of 5 km down around the place, from so many metres beside it to so many."""
        x, y = Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(self.lon, self.lat)
        return Place(crs, round(x, -1) + west, round(y, -1) + 2500, 10, (500, (east - west) // 10))


BORDERS = {
    "two zones": Border(("EPSG:32633", "EPSG:32634"), 18.0, 41.5, ("2024-07-01T09:50:00Z", "2024-07-01T09:50:20Z"),
                        "17.98,41.49,18.02,41.51"),
    "antimeridian": Border(("EPSG:32660", "EPSG:32601"), 180.0, 52.3, ("2024-07-01T23:59:50Z", "2024-07-02T00:00:10Z"),
                           "179.975,52.29,-179.975,52.31"),
}  # fmt: skip
EARLIER = "2024-06-26T23:50:00Z"


def rippled(folder, name, when, place, more=0, *, field=ripples, around=None):
    """An item of a field on a grid, its numbers higher by ``more``. ``around``: its outline, where a pole is in it."""
    assets = {}
    lon, lat = centres(place.crs, place.transform, place.shape)
    for n, band in enumerate(("blue", "green", "red", "nir08")):
        numbers = np.floor(field(lon, lat, n) + more + 0.5).astype(np.uint16)
        path = write(folder / name / f"{band}.tif", numbers, place.crs, place.transform, nodata=0)
        assets[band] = {
            "href": str(path), "type": "image/tiff; application=geotiff", "roles": ["data"], "gsd": 10,
            "eo:bands": [{"name": band, "common_name": band}],
            "raster:bands": [{"data_type": "uint16", "nodata": 0, "scale": 1e-4, "offset": 0}],
            "proj:shape": list(place.shape), "proj:transform": list(place.transform),
        }  # fmt: skip
    geometry = around or shapely.from_wkb(outline(place.crs, place.transform, place.shape))
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "geometry": shapely.geometry.mapping(geometry),
        "bbox": list(geometry.bounds), "links": [], "assets": assets,
        "properties": {"datetime": when, "proj:epsg": int(place.crs.partition(":")[2])},
    }  # fmt: skip


def collected(folder, *items):
    path = folder / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": items}))
    return path


@pytest.mark.parametrize("border", BORDERS.values(), ids=BORDERS)
def test_across_a_border_of_zones_a_run_gives_what_it_gives_in_one(searched_run, card, border, tmp_path):
    """The field in two tiles of two zones against the same field in one tile, through a network and a median.

    Five days before, there was a tile in the west only: where the two tiles overlap, the later day still counts once.
    """
    west, east = border.zones
    before = rippled(tmp_path, "before", EARLIER, border.tile(west, -4000, 1000), more=300)
    tiles = (
        rippled(tmp_path, "west", border.passed[0], border.tile(west, -4000, 1000)),
        rippled(tmp_path, "east", border.passed[1], border.tile(east, -1000, 4000)),
    )
    whole = rippled(tmp_path, "whole", border.passed[0], border.tile(west, -4500, 4500))
    found = {}
    for name, items in (("two", tiles), ("one", [whole])):
        (tmp_path / name).mkdir()
        outcome, mosaic = searched_run(
            tmp_path / name / "out", card=replace_bands(card), source=collected(tmp_path / name, before, *items),
            aoi=border.aoi, dates=("2024-06-20_2024-07-10",), composite=Composite.MEDIAN, crs=west,
        )  # fmt: skip
        assert outcome.state is State.DONE
        assert [len(day) for day in mosaic.slots[0].days] == [len(items), 1]
        found[name] = {p: bands_of(tmp_path / name / "out" / f"{p}.tif") for p in ("result", "score", "observations")}
    (one, at, crs), (two, there, same) = found["one"]["result"], found["two"]["result"]
    assert (at, crs, one.shape) == (there, same, two.shape)
    valid = one != 255
    assert valid.mean() > 0.9
    assert len(np.unique(one[valid])) > 1
    np.testing.assert_array_equal(two != 255, valid)
    score = [found[name]["score"][0].astype(int) for name in ("one", "two")]
    assert np.abs(score[0] - score[1])[valid].max() <= 3
    assert (one == two)[valid].mean() > 0.999
    (numbers, clear), (_, alone) = (found[name]["observations"][0] for name in ("two", "one"))
    np.testing.assert_array_equal(clear, alone)
    assert set(np.unique(clear[valid[0]])) == {1, 2}
    assert set(np.unique(numbers[valid[0]])) == {3, 65535}  # the eastern tile alone, and both days


@pytest.mark.parametrize("border", BORDERS.values(), ids=BORDERS)
def test_across_a_border_of_zones_the_pixels_are_the_fields(searched_run, border, pytestconfig, tmp_path):
    """One day, the grid left to itself: NDVI of every pixel as the field itself has it, whichever zone it is from."""
    from models.registry import load_cards

    west, east = border.zones
    source = collected(
        tmp_path,
        rippled(tmp_path, "west", border.passed[0], border.tile(west, -4000, 1000)),
        rippled(tmp_path, "east", border.passed[1], border.tile(east, -1000, 4000)),
    )
    ndvi = load_cards((pytestconfig.rootpath / "configs" / "models",))["vegetation-ndvi"]
    out = tmp_path / "out"
    outcome, mosaic = searched_run(out, card=ndvi, source=source, aoi=border.aoi, dates=("2024-07-01_2024-07-02",))
    assert outcome.state is State.DONE
    assert [len(day) for day in mosaic.slots[0].days] == [2]
    (values,), transform, crs = bands_of(out / "result.tif")
    assert crs.to_string() in border.zones
    lon, lat = centres(crs.to_string(), tuple(transform)[:6], values.shape)
    red, nir = ripples(lon, lat, 2), ripples(lon, lat, 3)
    valid = np.isfinite(values)
    assert valid.mean() > 0.9
    # In units of the stored numbers: halves are rounded twice, and between pixels waves are bent by one at most. On the
    # outermost half pixel of the tile that goes first, there is nothing to interpolate with: one pixel of a row.
    off = np.where(valid, np.abs(values - (nir - red) / (nir + red)) * (nir + red) / 2, 0)
    assert (off > 2).sum(axis=1).max() <= 1
    assert off.max() <= 12
    (number, count), *_ = bands_of(out / "observations.tif")
    assert set(np.unique(number[valid])) == {1, 2}
    assert (count[valid] == 1).all()


# --- over 180 degrees on planes that are cut there ------------------------------------------------------------------

ANTIMERIDIAN, HALF = BORDERS["antimeridian"], np.pi * 6_378_137


@pytest.fixture(scope="module")
def ndvi(pytestconfig):
    from models.registry import load_cards

    return load_cards((pytestconfig.rootpath / "configs" / "models",))["vegetation-ndvi"]


@pytest.fixture(scope="module")
def two_zones(tmp_path_factory):
    """One pass over 180 degrees: a tile of zone 60, and one of zone 1."""
    folder = tmp_path_factory.mktemp("zones")
    west, east = ANTIMERIDIAN.zones
    return collected(
        folder,
        rippled(folder, "west", ANTIMERIDIAN.passed[0], ANTIMERIDIAN.tile(west, -4000, 1000)),
        rippled(folder, "east", ANTIMERIDIAN.passed[1], ANTIMERIDIAN.tile(east, -1000, 4000)),
    )


CUT = {"EPSG:3857": 16.0, "EPSG:4326": 0.0001, "EPSG:3395": 16.0, "EPSG:6933": 10.0}
"""Planes that are cut at 180 degrees, and pixels on which scenes are sampled; those of 40 m and more are averaged."""


@pytest.mark.parametrize("coarser", [1, 4])
@pytest.mark.parametrize("crs", CUT)
def test_the_pixels_are_the_fields_on_either_side(searched_run, ndvi, two_zones, crs, coarser, tmp_path):
    outcome, _ = searched_run(
        tmp_path, card=ndvi, source=two_zones, aoi=ANTIMERIDIAN.aoi, dates=("2024-07-01_2024-07-02",), crs=crs,
        res=CUT[crs] * coarser,
    )  # fmt: skip
    assert outcome.state is State.DONE
    (values,), transform, found = bands_of(tmp_path / "result.tif")
    assert found.to_string() == crs
    lon, lat = centres(crs, tuple(transform)[:6], values.shape)
    wide = np.asarray(lon) % 360
    assert wide.min() == pytest.approx(179.975, abs=2e-3)
    assert wide.max() == pytest.approx(180.025, abs=2e-3)
    east = 180.0 if crs == "EPSG:4326" else Transformer.from_crs("OGC:CRS84", crs, always_xy=True).transform(180, 0)[0]
    assert transform.c < east < transform.c + transform.a * values.shape[1]
    assert transform.a * values.shape[1] < 0.001 * east
    red, nir = ripples(lon, lat, 2), ripples(lon, lat, 3)
    valid = np.isfinite(values)
    assert valid.mean() > 0.95
    off = np.where(valid, np.abs(values - (nir - red) / (nir + red)) * (nir + red) / 2, 0)
    if coarser == 1:  # what the same run in a UTM zone keeps to
        assert (off > 2).sum(axis=1).max() <= 1
        assert off.max() <= 12
    else:  # a mean over a pixel is not its middle; a tenth of a pixel to the side would be as much
        assert off.mean() < 4
        assert off.max() < 32
    (number, count), *_ = bands_of(tmp_path / "observations.tif")
    assert set(np.unique(number[valid])) == {1, 2}
    assert (count[valid] == 1).all()
    item = json.loads((tmp_path / "item.json").read_text())
    assert item["geometry"]["type"] == "MultiPolygon"
    shape = shapely.geometry.shape(item["geometry"])
    assert [part.bounds[::2] for part in shape.geoms] == [
        (pytest.approx(179.975, abs=1e-3), 180), (-180, pytest.approx(-179.975, abs=1e-3))
    ]  # fmt: skip
    assert item["bbox"] == pytest.approx([179.975, 52.29, -179.975, 52.31], abs=1e-3)
    assert item["properties"]["proj:bbox"][2] > east


# --- moved half-way round the world ---------------------------------------------------------------------------------

RES = HALF / (512 * 2441)
"""Pixels of which half the world is whole blocks: what lies at 180 degrees can be moved to 0 and stays what it is."""


def mercator(folder, name, west, cols, numbers, res=RES):
    """An item in web Mercator from so many pixels of ``RES`` east of where ``west`` says, with these numbers."""
    place = Place("EPSG:3857", west, 1_200_000 // RES * RES, res, numbers.shape[1:])
    return rippled(folder, name, ANTIMERIDIAN.passed[0], place, field=lambda lon, lat, band: numbers[band] + 0 * lon)


@pytest.mark.parametrize(
    ("finer", "beside"), [(1, 0.3), (0.97, 0.3), (2, 0.0), (2.5, 0.2)], ids=["copied", "sampled", "halved", "averaged"]
)
@pytest.mark.parametrize("ends", ["at both ends", "beyond the end"])
def test_what_lies_at_the_end_of_the_world_is_what_it_would_be_in_its_middle(
    searched_run,
    ndvi,
    tmp_path,
    finer,
    beside,
    ends,
):
    """The same numbers at 180 degrees and at 0: in two files that meet there, and in one that runs over it."""
    rng = np.random.default_rng(1)
    rows, cols = int(300 * finer), int(250 * finer)
    numbers = rng.integers(500, 9000, (4, rows, 2 * cols))
    found = {}
    for name, (west, east) in {"end": (HALF, -HALF), "middle": (0.0, 0.0)}.items():
        (folder := tmp_path / name).mkdir()
        res = RES / finer
        left, shift = west - cols * res + beside * RES, beside * RES
        if ends == "at both ends":
            items = (
                mercator(folder, "west", left, cols, numbers[..., :cols], res),
                mercator(folder, "east", east + shift, cols, numbers[..., cols:], res),
            )
        else:
            items = (mercator(folder, "whole", left, 2 * cols, numbers, res),)
        aoi = "179.98,10.69,-179.98,10.71" if name == "end" else "-0.02,10.69,0.02,10.71"
        outcome, mosaic = searched_run(
            folder / "out", card=ndvi, source=collected(folder, *items), aoi=aoi, dates=("2024-07-01_2024-07-02",),
            crs="EPSG:3857", res=RES,
        )  # fmt: skip
        assert outcome.state is State.DONE
        found[name] = [*bands_of(folder / "out" / "result.tif"), mosaic]
    (one, here, _, first), (other, there, _, second) = found["end"], found["middle"]
    assert here.c - there.c == pytest.approx(HALF, abs=1e-6)
    assert first.corner == (second.corner[0], second.corner[1] + 512 * 2441)
    assert np.isfinite(one).mean() > 0.98  # all but the edge
    np.testing.assert_allclose(one, other, atol=2e-4)  # a stored number more or less where a half is rounded
    assert ((one == other) | np.isnan(one)).mean() > 0.99
