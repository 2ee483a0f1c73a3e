"""A wish as JSON: what is taken, what it means, and what is refused."""

import json

import pytest
from pydantic import ValidationError

from serve.desk.asking import LONGEST_AREA, Asking, asked
from serve.desk.labels import LONGEST_LABELS
from serve.desk.wording import FIELDS, told
from swathe.aoi import AOI
from swathe.composite import Composite
from swathe.errors import AreaError, GridError, InputError, LimitError
from swathe.masking import Shapes
from swathe.postprocess import Postprocess
from swathe.recipe import ProductSettings, Radiometry, Search

SQUARE = {"type": "Polygon", "coordinates": [[[10.1, 50.2], [10.3, 50.2], [10.3, 50.4], [10.1, 50.4], [10.1, 50.2]]]}


def wish(**more):
    return Asking.model_validate({"model": "water-ndwi", "inputs": ["https://a.example/x.tif"]} | more)


def test_all_of_it_becomes_a_recipe():
    found = wish(
        sensor="sentinel-2-l2a", radiometry={"bands": ["green", "nir"], "scale": 0.0001, "nodata": 0},
        products={"min_area_px": 9, "gpkg": True}, chunk=2048, aoi=[10.1, 50.2, 10.3, 50.4],
    ).to_recipe()  # fmt: skip
    assert found.radiometry == Radiometry(("green", "nir"), 0.0001, None, 0)
    assert found.products == ProductSettings(9, gpkg=True)
    assert (found.model, found.inputs, found.sensor, found.chunk) == (
        "water-ndwi", ("https://a.example/x.tif",), "sentinel-2-l2a", 2048,
    )  # fmt: skip
    assert AOI.parse(found.aoi) == AOI.parse("10.1,50.2,10.3,50.4")


def test_steps_after_the_model_become_one():
    asked_for = {"mask": ["clouds", "water=jrc"], "mask_buffer_px": 3, "mask_files": ["scl=https://a.example/m.tif"],
                 "regularise": "buildings=3"}  # fmt: skip
    found = wish(postprocess=asked_for).to_recipe().postprocess
    assert found == Postprocess.parse("clouds,water=jrc", 3, ("scl=https://a.example/m.tif",), "buildings=3")
    assert wish().to_recipe().postprocess == Postprocess()


def test_shapes_become_a_mask_more():
    asked_for = {"mask": ["clouds"], "mask_shapes": {"url": "https://a.example/m.geojson", "buffer_m": 30, "code": 90}}
    shapes = Shapes("https://a.example/m.geojson", 30.0, 90)
    assert wish(postprocess=asked_for).to_recipe().postprocess == Postprocess.parse("clouds", shapes=shapes)
    alone = wish(postprocess={"mask_shapes": {"url": "upload://u1"}}).to_recipe().postprocess
    assert alone == Postprocess.parse(shapes=Shapes("upload://u1", 0.0, 996))


@pytest.mark.parametrize("wrong", [
    {"buffer_m": -1}, {"buffer_m": 1e6}, {"buffer_m": "x"}, {"code": 0}, {"code": 997}, {"url": ""}, {"width": 3},
])  # fmt: skip
def test_shapes_that_cannot_be_meant_are_refused(wrong):
    with pytest.raises(ValidationError):
        wish(postprocess={"mask_shapes": {"url": "https://a.example/m.geojson", **wrong}})


@pytest.mark.parametrize(("more", "field"), [
    ({"mask": ["fog"]}, "postprocess.mask"), ({"regularise": "round"}, "postprocess.regularise"),
    ({"mask": ["clouds"], "mask_files": ["a.tif"]}, "postprocess.mask_files"),
    ({"mask_buffer_px": 3}, "postprocess.mask"), ({"mask": ["shapes"]}, "postprocess.mask"),
    ({"mask_shapes": {"url": "https://a.example/m.geojson", "code": 255}}, "postprocess.mask_shapes.code"),
])  # fmt: skip
def test_steps_that_are_none_are_refused_by_name(more, field):
    with pytest.raises(InputError) as caught, told():
        wish(postprocess=more).to_recipe()
    assert caught.value.problem.field == field
    assert caught.value.problem.hint


def test_a_search_becomes_one():
    found = wish(inputs=[], aoi="33UXP", search={
        "source": "earth-search", "dates": ["2024-07-25"], "composite": "median", "max_cloud": 20, "res": 10,
        "crs": "EPSG:32633", "max_loss": 0.1, "collection": "c",
    }).to_recipe()  # fmt: skip
    assert found.search == Search("earth-search", ("2024-07-25",), "c", 20, Composite.MEDIAN, 10, "EPSG:32633", 0.1)


@pytest.mark.parametrize("aoi", [
    SQUARE, {"type": "Feature", "properties": {}, "geometry": SQUARE}, [10.1, 50.2, 10.3, 50.4],
    "10.1,50.2,10.3,50.4", "POLYGON ((10.1 50.2, 10.3 50.2, 10.3 50.4, 10.1 50.4, 10.1 50.2))", json.dumps(SQUARE),
])  # fmt: skip
def test_an_area_may_be_said_in_many_ways(aoi):
    """Bit by bit the one that the command line would take."""
    area = AOI.parse(wish(aoi=aoi).to_recipe().aoi)
    assert area.area_km2 == pytest.approx(AOI.parse("10.1,50.2,10.3,50.4").area_km2, rel=1e-12)
    assert area == AOI.parse(aoi if isinstance(aoi, str) else json.dumps(aoi) if isinstance(aoi, dict) else
                             "10.1,50.2,10.3,50.4")  # fmt: skip


@pytest.mark.parametrize("aoi", ["12/2200/1343", "33UXP", [170, -10, -170, 10], [179.5, 60, 181, 61]])
def test_tiles_and_the_date_line_survive(aoi):
    found = wish(aoi=aoi)
    assert AOI.parse(found.to_recipe().aoi).area_km2 == pytest.approx(found.area().area_km2, rel=1e-9)


def test_an_area_is_never_the_name_of_a_file(tmp_path, monkeypatch):
    (tmp_path / "area.geojson").write_text(json.dumps(SQUARE))
    monkeypatch.chdir(tmp_path)
    for name in ("area.geojson", str(tmp_path / "area.geojson"), "~/area.geojson"):
        with pytest.raises(AreaError) as caught:
            wish(aoi=name).to_recipe()
        assert caught.value.problem.code == "area.unreadable"


@pytest.mark.parametrize(("aoi", "code"), [
    ([10, 51, 11, 50], "area.reversed"), ([0, 0, 0, 0], "area.empty"), ("", "area.unreadable"),
    ({"type": "Point", "coordinates": [1, 2]}, "area.not_polygon"), ({"type": "Polygon"}, "area.unreadable"),
    ({}, "area.unreadable"), ([10, 91, 11, 92], "area.latitude"),
])  # fmt: skip
def test_what_is_no_area_is_refused(aoi, code):
    with pytest.raises(AreaError) as caught, told():
        wish(aoi=aoi).to_recipe()
    assert caught.value.problem.code == code
    assert caught.value.field == "aoi"


def test_areas_as_long_as_a_book_are_refused_with_both_numbers():
    with pytest.raises(LimitError, match=f"{LONGEST_AREA:,}"):
        wish(aoi="1" * (LONGEST_AREA + 1)).area()


def test_areas_nested_without_end_are_refused():
    deep = {"type": "Feature"}
    for _ in range(5000):
        deep = {"type": "Feature", "geometry": deep}
    with pytest.raises(AreaError):
        Asking.model_construct(aoi=deep).area()


@pytest.mark.parametrize("more", [
    {"inputs": []}, {"search": {"source": "x"}}, {"inputs": [], "search": {"source": "x"}}, {"modle": "x"},
    {"model": ""}, {"model": None}, {"inputs": ["x"] * 1001}, {"chunk": 1}, {"chunk": 8193}, {"precision": "int8"},
    {"title": "x" * 201}, {"aoi": [1, 2, 3]}, {"aoi": [1, 2, 3, "north"]},
    {"hook": {"url": ""}}, {"hook": {"url": "https://a.example", "kinds": []}}, {"products": {"min_area_px": 0}},
    {"radiometry": {"scale": "nan"}}, {"search": {"source": "x", "max_cloud": 101}, "inputs": []},
])  # fmt: skip
def test_what_makes_no_sense_is_refused(more):
    with pytest.raises(ValidationError):
        wish(**more)


def test_long_labels_are_refused_with_both_numbers():
    with pytest.raises(LimitError, match=f"20,009 characters, {LONGEST_LABELS:,} are allowed") as caught:
        wish(labels={"a": "x" * 20_000})
    assert (caught.value.problem.code, caught.value.field) == ("limit.labels", "labels")


def test_a_record_comes_back_without_the_secret():
    given = wish(hook={"url": "https://a.example/told", "secret": "topsecret"}, aoi=SQUARE, labels={"a": [1]})
    record = given.record()
    assert "topsecret" not in json.dumps(record) + repr(given)
    again = asked(json.loads(json.dumps(record)))
    assert again.to_recipe() == given.to_recipe()
    assert (again.hook.url, again.hook.secret, again.labels) == ("https://a.example/told", "", {"a": [1]})


def test_a_record_of_another_time_is_a_problem_not_a_crash():
    with pytest.raises(InputError) as caught:
        asked({"model": "x", "inputs": ["a"], "gone": 1})
    assert caught.value.problem.code == "job.request"


def test_problems_speak_of_fields_and_of_what_was_asked():
    with pytest.raises(GridError) as caught, told({"/srv/u/1": "upload://u1", "/srv/u/1/x.tif": "upload://u1x"}):
        raise GridError("/srv/u/1/x.tif and /srv/u/1/y.tif differ: --aoi, --max-cloud", field="--input",
                        hint="add --min-area or --input")  # fmt: skip
    error = caught.value
    assert error.detail == "upload://u1x and upload://u1/y.tif differ: aoi, search.max_cloud"
    assert (error.field, error.hint) == ("inputs", "add products.min_area_px or inputs")
    assert str(error) == error.problem.detail == error.detail


def test_fields_of_the_wording_exist():
    fields = {name: Asking.model_fields[name].annotation for name in Asking.model_fields}
    for field in FIELDS.values():
        top, _, below = field.partition(".")
        assert top in fields
        described = json.dumps(Asking.model_json_schema())
        assert all(f'"{name}": {{' in described for name in below.split(".") if name)
