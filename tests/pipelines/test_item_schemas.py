"""Every STAC document that is written here, against the schemas of STAC and of the extensions that it declares.

The core schemas come with pystac; those of the extensions lie in the test data. Of the classification extension that
has versions 1.0 and 1.1 only, and version 2.0 is what results declare: its rules for classes are those of 1.1, except
that ``name`` is demanded, so 1.1 stands in for it here, with that added.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from referencing import Registry, Resource

from models.registry import load_cards
from pipelines.catalogue.model_items import model_item, models_collection
from pipelines.catalogue.plain import image_items
from pipelines.catalogue.register import Wish, register
from pipelines.catalogue.store import Catalogue
from pipelines.products.cog import assemble
from pipelines.products.item import ItemFacts, ModelFacts, Source, write_item
from pipelines.products.layer import Kind, LayerSpec, RasterSpec, Resampling
from swathe.card import ClassLabel
from swathe.window import Window

ROOT = Path(__file__).resolve().parents[2]
CARDS = load_cards([ROOT / "configs" / "models"])
MADE = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
BASE = "https://stac-extensions.github.io"
CLASSES = (
    ClassLabel(value=0, name="No water", colour="#d8c090", background=True),
    ClassLabel(value=1, name="Water", colour="#2060c0"),
)
LAYERS = {
    "classes": LayerSpec(
        Kind.CLASSES, "Water", CLASSES, RasterSpec("result", "uint8", 255, ("class",), Resampling.MODE),
        RasterSpec("score", "uint8", 255, ("score",), Resampling.AVERAGE, 1 / 254),
    ),
    "values": LayerSpec(
        Kind.VALUES, "NDVI", (), RasterSpec("result", "float32", math.nan, ("ndvi",), Resampling.AVERAGE, unit="1")
    ),
    "embedding": LayerSpec(
        Kind.EMBEDDING, "e", (),
        RasterSpec("result", "float32", math.nan, tuple(f"e{i}" for i in range(30)), Resampling.AVERAGE),
    ),
}  # fmt: skip
GRIDS = {
    "utm": GeoBox((60, 80), Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32633"),
    "dateline": GeoBox((60, 80), Affine(1000, 0, 4.6e5 - 40_000 + 340_000, 0, -1000, 5e6), "EPSG:32601"),
    "antimeridian": GeoBox((40, 40), Affine(1000, 0, 809_000, 0, -1000, 100_000), "EPSG:32660"),
    "polar": GeoBox((60, 80), Affine(10_000, 0, -1e6, 0, -10_000, 1e6), "EPSG:3413"),
    "no code": GeoBox((60, 80), Affine(1000, 0, 0, 0, -1000, 0), "+proj=laea +lat_0=10 +lon_0=20 +datum=WGS84"),
}


@pytest.fixture(scope="module")
def schemas(real_data):
    """Every schema by its address; one that refers to another that is missing fails, nothing is fetched."""
    folder = real_data / "stac_schemas"
    if not folder.is_dir():
        pytest.skip(f"no schemas of STAC extensions at {folder}")
    found = {}
    for path in folder.glob("*.json"):
        schema = json.loads(path.read_text())
        found[schema.get("$id", "").rstrip("#")] = schema
    old = found[f"{BASE}/classification/v1.1.0/schema.json"]
    new = json.loads(json.dumps(old).replace("classification/v1.1.0", "classification/v2.0.0"))
    new["definitions"]["class_object"]["required"] = ["value", "name"]
    found[f"{BASE}/classification/v2.0.0/schema.json"] = new
    # MLM refers to one expression of processing 1.1, which 1.2 has unchanged.
    found[f"{BASE}/processing/v1.1.0/schema.json"] = json.loads(
        json.dumps(found[f"{BASE}/processing/v1.2.0/schema.json"]).replace("v1.2.0", "v1.1.0")
    )
    return found


@pytest.fixture(scope="module")
def check(schemas):
    from referencing.jsonschema import DRAFT7

    registry = Registry().with_resources(
        (url, Resource.from_contents(s, default_specification=DRAFT7)) for url, s in schemas.items()
    )

    def validate(document):
        """Raises ValidationError; gives the extensions that were checked."""
        kind = {"Feature": pystac.STACObjectType.ITEM, "Collection": pystac.STACObjectType.COLLECTION}[document["type"]]
        JsonSchemaSTACValidator().validate_core(document, kind, document["stac_version"])
        declared = document.get("stac_extensions", [])
        for url in declared:
            jsonschema.Draft7Validator(schemas[url], registry=registry).validate(document)
        if document["type"] == "Collection":
            return set()
        used = {name.split(":")[0] for name in names(document) if ":" in name} - {"swathe"}
        assert used <= {PREFIXES.get(url.split("/")[3], url.split("/")[3]) for url in declared}, "not declared"
        return {url.split("/")[3] for url in declared}

    return validate


PREFIXES = {"projection": "proj"}


def names(document):
    """Names of fields and, harmlessly, keys of assets. What MLM nests in its outputs is MLM's, and checked by it."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield key
            if key != "mlm:output":
                yield from names(value)
    elif isinstance(document, list):
        for part in document:
            yield from names(part)


def linked(item):
    """As it is served: STAC wants this link where an Item names its collection."""
    return {**item, "links": [*item["links"], {"rel": "collection", "href": "https://e.org"}]}


def result(folder, layer, grid, **changes):
    folder.mkdir()
    for raster in layer.rasters:
        image = np.zeros((raster.count, *grid.shape), raster.dtype)
        image[:, 10:20, 10:30] = 1
        profile = {"driver": "GTiff", "height": grid.shape[0], "width": grid.shape[1], "count": raster.count}
        with rasterio.open(folder / "part", "w", dtype=raster.dtype, transform=grid.transform, **profile) as file:
            file.write(image)
        assemble([(folder / "part", Window(0, 0, *grid.shape))], grid, layer, raster, folder / f"{raster.name}.tif")
    (folder / "part").unlink()
    (folder / "report.json").write_text("{}")
    model = ModelFacts("water-ndwi", "Water", "ab" * 32, "Apache-2.0", "McFeeters", {"paper": "https://e.org/p"})
    facts = ItemFacts(
        f"water-{folder.name}", "Water", grid, layer, model, MADE, MADE, description="Water.", awaited=(),
        sources=(Source("/data/B02.tif", "B02", "image/tiff"), Source("https://e.org/item.json")),
        software={"swathe": "0.1.0"}, lineage="NDWI over Sentinel-2", counts={0: 30, 1: 10},
        properties={"swathe:valid_fraction": 0.98, "swathe:scenes": ["a", "b"]},
    )  # fmt: skip
    write_item(replace(facts, **changes), folder)
    return folder


@pytest.mark.parametrize("kind", LAYERS)
def test_results_of_every_kind(tmp_path, check, kind):
    item = json.loads((result(tmp_path / "r", LAYERS[kind], GRIDS["utm"]) / "item.json").read_text())
    expected = {"projection", "processing", "file", "raster"} | ({"classification"} if kind == "classes" else set())
    assert check(item) == expected


@pytest.mark.parametrize("place", GRIDS)
def test_results_anywhere(tmp_path, check, place):
    item = json.loads((result(tmp_path / "r", LAYERS["values"], GRIDS[place]) / "item.json").read_text())
    check(item)
    if place == "antimeridian":
        assert item["bbox"][0] > item["bbox"][2]
        assert item["geometry"]["type"] == "MultiPolygon"


@pytest.mark.parametrize("times", [(None, None), (MADE, None), (MADE, MADE.replace(year=2027))])
def test_results_of_any_time(tmp_path, check, times):
    folder = result(tmp_path / "r", LAYERS["values"], GRIDS["utm"], start=times[0], end=times[1])
    check(json.loads((folder / "item.json").read_text()))


@pytest.mark.parametrize("model_id", CARDS)
def test_an_item_of_every_model(check, model_id):
    card = CARDS[model_id]
    item = linked(model_item(card, MADE))
    assert "mlm" in check(item)
    properties = item["properties"]
    named = [b["name"] for b in properties["bands"]]
    assert len(set(named)) == len(named)
    assert set(named) == {b for i in properties["mlm:input"] for b in i["bands"]}
    assert properties["mlm:input"][0]["input"]["shape"][-1] == card.input.chip
    assert [c["value"] for c in properties["mlm:output"][0].get("classification:classes", [])] == [
        c.value for c in card.output.classes
    ]
    assert any("mlm:model" in a["roles"] for a in item["assets"].values())
    if card.weights and card.weights.sha256:
        assert item["assets"]["weights"]["file:checksum"] == f"1220{card.weights.sha256}"


def test_what_scales_a_models_input_is_told_in_physical_units():
    card = CARDS["clay-v1.5-s2"]
    scaling = model_item(card, MADE)["properties"]["mlm:input"][0]["value_scaling"]
    assert scaling[0] == {"type": "z-score", "mean": 0.1105, "stddev": 0.1809}
    assert len(scaling) == len(card.input.bands)


def test_image_files(real_data, check):
    names = ["cog_dateline.tif", "cog_tags.tif", "nz_habitat_anticross_4326_1deg.tif", "s2_band.jp2",
             "nt_20201024_f18_nrt_s.tif"]  # fmt: skip
    paths = [real_data / "edge" / name for name in names]
    items = image_items([str(path) for path in paths])
    for path, item in zip(paths, items, strict=True):
        check(linked({**item, "collection": "c"}))
        with rasterio.open(path) as file:
            assert item["properties"]["proj:shape"] == [file.height, file.width]
            assert item["properties"]["proj:transform"] == pytest.approx(list(file.transform)[:6])
            assert [b["data_type"] for b in item["assets"]["image"]["bands"]] == list(file.dtypes)
    assert items[0]["bbox"][0] > items[0]["bbox"][2]
    assert items[4]["properties"]["datetime"] == "2020-10-24T00:00:00Z"


def test_all_that_a_catalogue_holds(tmp_path, check):
    """What is added on the way in (links, collections, the model) is as valid as what was there."""
    folder = result(tmp_path / "r", LAYERS["classes"], GRIDS["utm"])
    with Catalogue(tmp_path / "c.sqlite") as catalogue:
        register(catalogue, str(folder), Wish(cards=CARDS))
        collections = catalogue.collections()
        assert [c["id"] for c in collections] == ["models", "results-water-ndwi"]
        for collection in collections:
            check(collection)
        check(models_collection())
        for one in (catalogue.item("results-water-ndwi", "water-r"), catalogue.item("models", "water-ndwi")):
            check(linked(one))


def test_validation_would_notice(check):
    item = linked(model_item(CARDS["prithvi-eo-v2-300m-burnscars"], MADE))
    check(item)
    for path, value in [
        ("mlm:tasks", ["painting"]),
        ("mlm:input", [{"name": "x"}]),
        ("datetime", "soon"),
        ("bands", []),
    ]:
        broken = {**item, "properties": {**item["properties"], path: value}}
        with pytest.raises((jsonschema.ValidationError, pystac.STACValidationError)):
            check(broken)
    with pytest.raises(AssertionError, match="not declared"):
        check({**item, "properties": {**item["properties"], "eo:cloud_cover": 3}})
