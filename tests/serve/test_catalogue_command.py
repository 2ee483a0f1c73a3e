"""``swathe catalog``: from a result folder to a client that loads its pixels, by the commands a person types."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import odc.stac
import pystac_client
import pytest
import rasterio
import typer
from affine import Affine
from odc.geo.geobox import GeoBox
from typer.testing import CliRunner

from pipelines.products.cog import assemble
from pipelines.products.item import ItemFacts, ModelFacts, Source, write_item
from pipelines.products.layer import Kind, LayerSpec, RasterSpec, Resampling
from pipelines.remote.network import Network
from serve.cli import catalog
from swathe.card import ClassLabel
from swathe.errors import InputError
from swathe.window import Window

ROOT = Path(__file__).resolve().parents[2]
GRID = GeoBox((300, 200), Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32633")
CLASSES = (
    ClassLabel(value=0, name="Land", colour="#d8c090", background=True),
    ClassLabel(value=1, name="Water", colour="#2060c0"),
)
LAYER = LayerSpec(Kind.CLASSES, "Water", CLASSES, RasterSpec("result", "uint8", 255, ("class",), Resampling.MODE))
PIXELS = (np.add.outer(np.arange(300), 3 * np.arange(200)) % 2).astype(np.uint8)


@pytest.fixture
def result(tmp_path):
    """A result folder whose pixels identify themselves."""
    folder = tmp_path / "my résult"
    folder.mkdir()
    profile = {"driver": "GTiff", "height": 300, "width": 200, "count": 1, "dtype": "uint8"}
    with rasterio.open(folder / "part", "w", transform=GRID.transform, **profile) as file:
        file.write(PIXELS, 1)
    assemble([(folder / "part", Window(0, 0, 300, 200))], GRID, LAYER, LAYER.result, folder / "result.tif")
    (folder / "part").unlink()
    (folder / ".swathe").mkdir()
    (folder / ".swathe" / "plan.json").write_text("{}")
    (folder / "report.json").write_text("{}")
    model = ModelFacts("water-ndwi", "Open water", "", "Apache-2.0", "McFeeters")
    made = datetime(2026, 2, 3, tzinfo=UTC)
    facts = ItemFacts("water-1", "Open water", GRID, LAYER, model, made, datetime(2024, 5, 1, tzinfo=UTC), awaited=(),
                      sources=(Source("/data/B02.tif"),), software={"swathe": "0.1.0"}, lineage="NDWI")  # fmt: skip
    write_item(facts, folder)
    return folder


@pytest.fixture
def allowed():
    """Whether addresses of this machine may be fetched."""
    return SimpleNamespace(open=False)


@pytest.fixture
def run(tmp_path, allowed):
    app = typer.Typer()
    app.add_typer(catalog.app, name="catalog")

    @app.callback()
    def settings(context: typer.Context):
        folders, network = (ROOT / "configs" / "models",), Network(allow_private=allowed.open)
        context.obj = SimpleNamespace(data_dir=tmp_path / "data", card_folders=folders, network=network)

    def go(*words, fails=None):
        answer = CliRunner().invoke(app, ["catalog", *map(str, words)])
        if fails:
            assert isinstance(answer.exception, InputError)
            assert answer.exception.problem.code == fails
        elif answer.exception:
            raise answer.exception
        return answer.stdout

    return go


def test_adding_listing_showing_removing(run, result):
    added = json.loads(run("add", result, "--json"))
    assert added["items"] == [{"collection": "results-water-ndwi", "id": "water-1"}]
    assert sorted(added["collections"]) == ["models", "results-water-ndwi"]
    assert "results-water-ndwi/water-1" in run("add", result / "item.json")
    rows = {row["id"]: row for row in json.loads(run("list", "--json"))}
    assert (rows["results-water-ndwi"]["items"], rows["models"]["items"]) == (1, 1)
    assert rows["results-water-ndwi"]["first"] == "2024-05-01T00:00:00Z"
    assert "Results of Open water" in run("list")
    (row,) = json.loads(run("list", "results-water-ndwi", "--json"))
    assert row["id"] == "water-1"
    item = json.loads(run("show", "results-water-ndwi/water-1"))
    assert item["assets"]["data"]["href"] == str(result / "result.tif")
    rels = {(k["rel"], k["href"]) for k in item["links"]}
    assert rels == {
        ("derived_from", "/data/B02.tif"), ("derived_from", "collections/models/items/water-ndwi"),
        ("via", str(result / "item.json")),
    }  # fmt: skip
    assert json.loads(run("show", "models/water-ndwi", "--json"))["properties"]["mlm:name"] == "water-ndwi"
    run("remove", "results-water-ndwi", fails="catalogue.not_empty")
    run("remove", "results-water-ndwi/water-1", "results-water-ndwi/nope", fails="catalogue.unknown")
    assert json.loads(run("list", "results-water-ndwi", "--json"))  # all or nothing
    run("remove", "results-water-ndwi/water-1", "models", "--all")
    assert [r["id"] for r in json.loads(run("list", "--json"))] == ["results-water-ndwi"]
    assert (result / "result.tif").exists()


def test_what_is_wrong_is_said(run, tmp_path):
    run("add", tmp_path / "nope", fails="catalogue.path")
    run("show", "nope", fails="catalogue.unknown")
    run("list", "nope", fails="catalogue.unknown")
    run("remove", "nope", fails="catalogue.unknown")


def test_items_at_an_address(run, allowed, tmp_path, real_data):
    """Through the one door to the network: a private address is refused unless the settings open it."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(real_data / "stac_with_local_assets"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        root = f"http://127.0.0.1:{server.server_port}"
        href = f"{root}/sub-folder/openEO_2023-06-04Z.tif.json"
        run("add", href, fails="url.private")
        allowed.open = True
        run("add", href)
        item = json.loads(run("show", "imagery/openEO_2023-06-04Z.tif"))
        assert [a["href"] for a in item["assets"].values()] == [f"{root}/sub-folder/openEO_2023-06-04Z.tif"]
        server.shutdown()


SERVE = """
import sys, typer
from pathlib import Path
from types import SimpleNamespace
from serve.cli import catalog
app = typer.Typer()
app.add_typer(catalog.app, name="catalog")
@app.callback()
def settings(context: typer.Context):
    context.obj = SimpleNamespace(data_dir=Path(sys.argv.pop()), card_folders=())
app(["catalog", "serve", "--port", "0"])
"""


def test_a_served_result_is_loaded_by_odc_stac(run, result, tmp_path):
    """The whole way: added, found by place and time, read at its pixels, served from another process."""
    run("add", result)
    program = SERVE.replace("sys.argv.pop()", repr(str(tmp_path / "data")))
    server = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        address = server.stdout.readline().strip()
        client = pystac_client.Client.open(address)
        west, south, east, north = GRID.footprint("EPSG:4326").boundingbox.bbox
        search = client.search(bbox=[west, south, east, north], datetime="2024-05", collections=["results-water-ndwi"])
        items = list(search.items())
        assert [i.id for i in items] == ["water-1"]
        loaded = odc.stac.load(items, bands=["data"])
        assert loaded.odc.geobox == GRID
        assert np.array_equal(loaded["data"].values[0], PIXELS)
        model = [k for k in items[0].links if k.rel == "derived_from" and "/models/" in k.href]
        assert client.get_collection("models").get_item("water-ndwi").get_self_href() == model[0].href
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(10) is not None
