"""Vectors as an upload: what becomes of them, what is fetched of them, who may name them, and what is refused."""

import geopandas as gpd
import pytest
import rasterio
from shapely.geometry import box

from pipelines.sandbox.isolation import isolation
from serve.desk.asking import Asking
from serve.desk.inputs import settled
from swathe.project import UploadState

pytestmark = pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")


@pytest.fixture
def front(hall):
    return hall


@pytest.fixture
def fields(tmp_path):
    """Two fields, and how high what grows on them is."""
    shapes = [box(10, 50, 10.1, 50.1), box(10.2, 50, 10.3, 50.1)]
    table = gpd.GeoDataFrame({"height": [1.5, 2.5], "crop": ["rye", "oats"]}, geometry=shapes, crs="EPSG:4326")
    table.to_file(tmp_path / "fields.gpkg", layer="fields", driver="GPKG")
    return tmp_path / "fields.gpkg"


def brought(front, owner, path, name=None):
    begun = front.desk.uploads.begin(owner, name or path.name)
    return front.desk.uploads.write(owner, begun.id, iter([path.read_bytes()]))


def test_each_layer_and_each_column_of_numbers_is_an_image(front, fields):
    owner = front.person()
    found = brought(front, owner, fields, "../My Fields.GPKG")
    assert found.state is UploadState.READY, found.problem
    assert found.facts["files"] == ["My-Fields.tif", "My-Fields_height.tif"]
    assert [(one["layer"], one["column"]) for one in found.facts["images"]] == [("fields", ""), ("fields", "height")]
    assert found.facts["images"][0]["crs"] == "EPSG:4326"
    where, heights = front.desk.uploads.images(owner, found.id)
    with rasterio.open(heights) as file:
        assert [next(file.sample([(x, 50.05)]))[0] for x in (10.05, 10.25)] == [1.5, 2.5]
    asking = Asking(model="shapes-as-they-are", inputs=(f"upload://{found.id}/My-Fields.tif",))
    assert settled(asking.to_recipe(), front.desk.settings, front.desk.store, owner).recipe.inputs == (where,)
    assert front.desk.uploads.content_name(owner, found.id) == "My_Fields.zip"


def test_only_who_sees_an_upload_is_told_what_its_link_leads_to(front, fields):
    owner = front.person()
    found = brought(front, owner, fields)
    link = f"https://swathe.example{front.desk.links.make(owner, 'upload', found.id).path}"
    assert [one.column for one in front.desk.uploads.drawn(owner, link)] == ["", "height"]
    assert front.desk.uploads.drawn(front.person(), link) == ()
    assert front.desk.uploads.moments(owner, link) == ()


def test_a_refusal_leaves_nothing_and_says_no_path_of_the_service(front, fields):
    owner = front.person()
    (fields.parent / "cut.gpkg").write_bytes(fields.read_bytes()[:9000])
    refused = brought(front, owner, fields.parent / "cut.gpkg")
    assert refused.state is UploadState.REFUSED
    assert refused.problem["code"].startswith("vectors.")
    assert str(front.desk.settings.service_dir) not in str(refused.problem)
    assert not (front.desk.settings.service_dir / "uploads" / refused.id).exists()
    assert not list((front.desk.settings.service_dir / "scratch").rglob("*.tif"))
