"""Whole runs that mask by shapes: fetched once, kept, told, and what other products make of their code."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.features import rasterize

from pipelines.begin import begin, look
from pipelines.layers.published import Of, layers_of
from pipelines.masking.geojson import ShapeLimits
from pipelines.masking.shapes_file import Reach
from pipelines.run import Request, run
from pipelines.runner import Loop
from pipelines.sandbox.isolation import isolation
from pipelines.steps.chosen import treatments_of
from pipelines.steps.treatment import Made
from swathe.errors import ImageryError, InputError, ReadError
from swathe.layer import Look
from swathe.masking import CodeLabel, Shapes
from swathe.postprocess import Postprocess
from swathe.recipe import ProcessorWish, Recipe
from swathe.state import State
from tests.pipelines.remote_server import Reply, Server
from tests.pipelines.test_masking_by_shapes import QUICK, collection, lonlat

SQUARE = shapely.box(500_202, 4_599_408, 500_603, 4_599_802)
BESIDE = shapely.box(500_802, 4_599_403, 500_908, 4_599_907)
REACH = Reach(QUICK)


class Later:
    """A step after the masks that fails as long as it is told to."""

    name, key = "processor", "1"

    def __init__(self, times):
        self.times = times

    def carry_out(self, bench):
        if self.times:
            self.times -= 1
            raise ImageryError("not yet")
        (bench.out / "processed.tif").write_bytes((bench.out / "result.tif").read_bytes())
        return Made(("processed.tif",), "processed.tif")


@pytest.fixture(scope="module")
def small(write_scene, tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("small") / "scene.tif", (96, 120))


@pytest.fixture
def go(card, small, home, sensors):
    """``go(out, wish)``: outcome, and the kinds of events."""

    def carry_out(out, wish, reach=REACH, later=None, processor=None, **options):
        kinds = []

        class Watch:
            def event(self, event):
                kinds.append(event.kind if event.kind != "state" else event.facts["state"])

            def progress(self, done, total):
                pass

        recipe = Recipe(card.id, (str(small),), postprocess=wish, processor=processor)
        steps = (*treatments_of(recipe, reach=reach), *([later] if later else []))
        made = begin(recipe, card, look(recipe, card, sensors), 1)
        try:
            return run(made, Request(out, home, treatments=steps, **options), Loop(), Watch()), kinds
        finally:
            carry_out.kinds = kinds

    return carry_out


def wish(href, metres=0.0, code=None, **more):
    return Postprocess.parse(shapes=Shapes.of(href, metres, code), **more)


def body(*shapes):
    return json.dumps(collection(*(lonlat(shape) for shape in shapes))).encode()


def raster(path):
    with rasterio.open(path) as file:
        return file.read(1), file.transform


def under(shape, metres, result, transform):
    around = shapely.buffer(shape, metres, quad_segs=32)
    return rasterize([(around, 1)], out_shape=result.shape, transform=transform).astype(bool) & (result != 255)


def test_shapes_at_an_address_are_masked_and_told_without_what_is_secret(go, tmp_path):
    content = body(SQUARE)
    with Server(lambda _: Reply(body=content)) as server:
        href = server.url("roads.geojson?key=s3cret")
        outcome, kinds = go(tmp_path, wish(href, 100, 90, regularise="smooth"))
    assert outcome.state is State.DONE
    (result, transform), (found, _) = raster(tmp_path / "result.tif"), raster(tmp_path / "masked.tif")
    inside = under(SQUARE, 100, result, transform)
    assert np.array_equal(found == 90, inside)
    assert inside.sum() > 100
    assert np.array_equal(found[~inside], np.where(result == 255, -9999, result.astype(np.int16))[~inside])
    step = json.loads((tmp_path / "report.json").read_bytes())["steps"][0]
    (mask,) = step["detail"]["masks"]
    assert (mask["mask"], mask["code"], mask["pixels"]) == ("shapes", 90, int(inside.sum()))
    assert mask["from"] == {
        "kind": "shapes", "file": server.url("roads.geojson"), "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content), "shapes": 1, "buffer_m": 100.0,
    }  # fmt: skip
    assert f"shapes: {inside.sum():,} pixels carry 90" in (tmp_path / "mask.log").read_text()
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"s3cret" not in path.read_bytes(), path
    assert [asked.target for asked in server.asked] == ["/roads.geojson?key=s3cret"]
    assert kinds.index("preparing") < kinds.index("running")


def test_the_code_is_no_class_for_polygons_maps_and_styles(go, tmp_path):
    """Though it is a number that a class could have."""
    (tmp_path / "a.geojson").write_bytes(body(SQUARE))
    go(tmp_path / "out", wish(str(tmp_path / "a.geojson"), 0, 90, regularise="smooth"))
    import geopandas

    found, _ = raster(tmp_path / "out" / "masked.tif")
    table = geopandas.read_parquet(tmp_path / "out" / "regularised.parquet")
    assert table["pixels"].sum() <= (found > 0).sum() - (found == 90).sum()
    item = json.loads((tmp_path / "out" / "item.json").read_bytes())
    classes = {c["value"]: c for c in item["assets"]["masked"]["classification:classes"]}
    assert [value for value, entry in classes.items() if entry.get("swathe:mask")] == [90]
    layer = next(one for one in layers_of(item, Of("j", "u", "m")) if one.file == "masked.tif")
    assert [c.value for c in layer.style.labels if isinstance(c, CodeLabel)] == [90]
    assert layer.style.look is Look.CLASSES
    numbers = json.loads(json.dumps(item))
    numbers["assets"]["masked"]["classification:classes"] = [classes[90], classes[-9999]]
    layer = next(one for one in layers_of(numbers, Of("j", "u", "m")) if one.file == "masked.tif")
    assert (layer.style.look, [c.value for c in layer.style.codes]) == (Look.VALUES, [90])


KEEPS = """
import sys
import rasterio
if __name__ == "__main__":
    with rasterio.open(sys.argv[1]) as file:
        data, profile = file.read(), file.profile
    with rasterio.open(sys.argv[2], "w", **profile) as file:
        file.write(data)
"""


@pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")
def test_a_script_after_the_masks_leaves_the_code_what_it_is(go, tmp_path):
    (tmp_path / "a.geojson").write_bytes(body(SQUARE))
    (tmp_path / "keeps.py").write_text(KEEPS)
    script = ProcessorWish(str(tmp_path / "keeps.py"), {}, "")
    outcome, _ = go(tmp_path / "out", wish(str(tmp_path / "a.geojson"), 0, 90), processor=script)
    assert outcome.state is State.DONE
    masked, processed = raster(tmp_path / "out" / "masked.tif")[0], raster(tmp_path / "out" / "processed.tif")[0]
    assert np.array_equal(masked, processed)
    assert (processed == 90).any()
    classes = json.loads((tmp_path / "out" / "item.json").read_bytes())["assets"]["processed"]["classification:classes"]
    assert [c["value"] for c in classes if c.get("swathe:mask")] == [90]
    assert len({c["value"] for c in classes}) == len(classes)


def test_a_resumed_run_masks_by_the_shapes_it_began_with(go, tmp_path):
    served = {"body": body(SQUARE)}
    with Server(lambda _: Reply(body=served["body"])) as server:
        asked, later = wish(server.url("a.geojson"), 50), Later(2)
        assert go(tmp_path, asked, later=later)[0].state is State.INCOMPLETE
        first = raster(tmp_path / "masked.tif")[0]
        served["body"] = body(BESIDE)
        (tmp_path / "masked.tif").write_bytes(b"cut short")  # so that it is masked again
        assert go(tmp_path, asked, later=later)[0].state is State.INCOMPLETE
        assert np.array_equal(raster(tmp_path / "masked.tif")[0], first)
        assert len(server.asked) == 1
        (tmp_path / "masked.tif").write_bytes(b"cut short")
        (tmp_path / ".swathe" / "shapes.geojson").write_bytes(b"cut short")  # nothing to go on with
        assert go(tmp_path, asked, later=later)[0].state is State.DONE
        assert len(server.asked) == 2
        second = raster(tmp_path / "masked.tif")[0]
        assert (second == 996).any()
        assert not np.array_equal(second, first)
        again, _ = go(tmp_path, asked, later=later)
        assert again.already
        assert len(server.asked) == 2


def test_other_shapes_are_another_step(go, tmp_path):
    files = [tmp_path / "a.geojson", tmp_path / "b.geojson"]
    for path, shape in zip(files, (SQUARE, BESIDE), strict=True):
        path.write_bytes(body(shape))
    go(tmp_path / "out", wish(str(files[0])), later=Later(1))
    outcome, _ = go(tmp_path / "out", wish(str(files[1])), later=Later(0))
    assert outcome.state is State.DONE
    result, transform = raster(tmp_path / "out" / "result.tif")
    found, _ = raster(tmp_path / "out" / "masked.tif")
    assert np.array_equal(found == 996, under(BESIDE, 0, result, transform))


@pytest.mark.parametrize(
    ("answer", "code"),
    [(Reply(404), "imagery.missing"), (Reply(body=b"<html>"), "mask.shapes.format"),
     (Reply(body=b'{"type": "FeatureCollection", "features": []}'), "mask.shapes.empty"),
     (Reply(body=b" " * 3_000_000), "mask.shapes.limits")],
)  # fmt: skip
def test_shapes_that_cannot_be_used_end_the_run_before_anything_is_computed(go, tmp_path, answer, code):
    said = [answer, Reply(body=body(SQUARE))]
    with Server(lambda _: said.pop(0) if len(said) > 1 else said[0]) as server:
        asked = wish(server.url("a.geojson?key=s3cret"))
        with pytest.raises((InputError, ReadError)) as caught:
            go(tmp_path, asked, replace(REACH, limits=ShapeLimits(mb=1)))
        assert caught.value.problem.code == code
        assert "s3cret" not in str(caught.value.problem.as_dict())
        assert go.kinds[-1] == "failed"
        assert "chunk" not in go.kinds
        outcome, _ = go(tmp_path, asked)
    assert outcome.state is State.DONE


def test_a_code_that_is_a_class_is_refused_at_once(go, tmp_path):
    (tmp_path / "a.geojson").write_bytes(body(SQUARE))
    with pytest.raises(InputError) as caught:
        go(tmp_path / "out", wish(str(tmp_path / "a.geojson"), 0, 2))
    assert caught.value.problem.code == "mask.code"
    assert "chunk" not in go.kinds


def test_shapes_elsewhere_mask_nothing_and_it_is_told(go, tmp_path):
    (tmp_path / "a.geojson").write_bytes(json.dumps(collection(shapely.Point(0, 0))).encode())
    outcome, _ = go(tmp_path / "out", wish(str(tmp_path / "a.geojson"), 1000))
    assert outcome.state is State.DONE
    (mask,) = outcome.report["steps"][0]["detail"]["masks"]
    assert (mask["pixels"], mask["found"]) == (0, 0)
    assert "0 pixels carry 996" in (tmp_path / "out" / "mask.log").read_text()


def test_in_object_storage_the_shapes_go_with_the_run(go, tmp_path):
    """The driver's folder is gone between two attempts; what the run keeps is not."""
    from pipelines.store.folder import FolderBlobs

    served = {"body": body(SQUARE)}
    with Server(lambda _: Reply(body=served["body"])) as server:
        asked, store, later = wish(server.url("a.geojson")), FolderBlobs(tmp_path / "store"), Later(1)
        go(tmp_path / "one", asked, store=store, later=later)
        served["body"] = body(BESIDE)
        (tmp_path / "store" / "masked.tif").write_bytes(b"cut short")
        outcome, _ = go(tmp_path / "two", asked, store=store, later=later)
        assert outcome.state is State.DONE
        assert len(server.asked) == 1
    result, transform = raster(tmp_path / "two" / "result.tif")
    assert np.array_equal(raster(tmp_path / "two" / "masked.tif")[0] == 996, under(SQUARE, 0, result, transform))
