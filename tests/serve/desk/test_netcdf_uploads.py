"""NetCDF as an upload: what becomes of it, what is fetched of it, what a job reads, and what is refused."""

from pathlib import Path

import pytest
import rasterio

from pipelines.sandbox import conversion
from pipelines.sandbox.isolation import Isolation, isolation
from serve.desk.asking import Asking
from serve.desk.inputs import settled
from swathe.errors import InputError
from swathe.project import UploadState
from tests.pipelines.netcdfs import WRITERS, classic, cube, flat

pytestmark = pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")


@pytest.fixture
def front(hall):
    return hall


def brought(front, owner, path, name=None):
    begun = front.desk.uploads.begin(owner, name or path.name)
    return front.desk.uploads.write(owner, begun.id, iter([path.read_bytes()]))


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_it_becomes_an_image_for_each_variable_and_moment(front, tmp_path, write):
    owner, stored = front.person(), cube(write, tmp_path / "cube.nc")
    found = brought(front, owner, tmp_path / "cube.nc", "../My Cube.NC")
    assert found.state is UploadState.READY, found.problem
    assert found.facts["format"] == "netcdf"
    names = [f"My-Cube_depth_2024-{day}.tif" for day in ("01-30", "01-31", "02-01")]
    assert found.facts["files"] == names
    first = found.facts["images"][0]
    assert (first["variable"], first["datetime"]) == ("depth", "2024-01-30T00:00:00Z")
    assert (first["scale"], first["offset"], first["crs"], first["dtype"]) == (0.01, 12.5, "EPSG:4326", "int16")
    images = front.desk.uploads.images(owner, found.id)
    assert [Path(image).name for image in images] == names
    for n, image in enumerate(images):
        with rasterio.open(image) as file:
            assert (file.read(1) == stored[n, ::-1]).all()
    folder = front.desk.settings.service_dir / "uploads" / found.id
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == names
    asking = Asking(model="image-as-it-is", inputs=(f"upload://{found.id}/{names[1]}",))
    recipe = settled(asking.to_recipe(), front.desk.settings, front.desk.store, owner).recipe
    assert recipe.inputs == (images[1],)


def test_a_date_chooses_among_its_moments(front, tmp_path):
    owner = front.person()
    cube(classic, tmp_path / "cube.nc")
    found = brought(front, owner, tmp_path / "cube.nc")

    def inputs(text):
        asking = Asking(model="image-as-it-is", inputs=(text,))
        return settled(asking.to_recipe(), front.desk.settings, front.desk.store, owner).recipe.inputs

    (one,) = inputs(f"2024-01-31=upload://{found.id}")
    assert one.endswith("/cube_depth_2024-01-31.tif")
    for text in (f"upload://{found.id}", f"2024-05-01=upload://{found.id}"):
        with pytest.raises(InputError) as caught:
            inputs(text)
        problem = caught.value.problem
        assert (problem.code, problem.field, "2024-01-31" in problem.hint) == ("netcdf.moments", "inputs", True)


def test_what_is_fetched_is_what_became_of_it(front, tmp_path):
    owner = front.person()
    cube(classic, tmp_path / "cube.nc")
    several = brought(front, owner, tmp_path / "cube.nc")
    assert front.desk.uploads.content_name(owner, several.id) == "cube.zip"
    content = front.desk.uploads.content(owner, several.id, "cube.nc")
    assert content.name == "cube.zip"
    numbers = flat(classic, tmp_path / "flat.nc")
    one = brought(front, owner, tmp_path / "flat.nc")
    assert front.desk.uploads.content_name(owner, one.id) == "flat.tif"
    with rasterio.open(front.desk.uploads.images(owner, one.id)[0]) as file:
        assert (file.read(1) == numbers[::-1]).all()


def test_it_is_known_by_its_bytes(front, tmp_path):
    """Under another ending, and under its own with something else inside."""
    owner = front.person()
    flat(WRITERS["netcdf4"], tmp_path / "a.nc")
    assert brought(front, owner, tmp_path / "a.nc", "download").state is UploadState.READY
    (tmp_path / "b.nc").write_bytes(b"II*\0" + bytes(99))
    refused = brought(front, owner, tmp_path / "b.nc")
    assert (refused.state, refused.problem["code"]) == (UploadState.REFUSED, "netcdf.unreadable")
    named_otherwise = brought(front, owner, tmp_path / "a.nc", "a.tif")
    assert named_otherwise.problem["code"] == "image.content"


def test_without_a_sandbox_it_is_refused_by_name(front, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion, "isolation", lambda: Isolation("none", None, "bubblewrap is not installed"))
    owner = front.person()
    flat(classic, tmp_path / "a.nc")
    refused = brought(front, owner, tmp_path / "a.nc")
    assert (refused.state, refused.problem["code"]) == (UploadState.REFUSED, "netcdf.isolation")
    assert "GeoTIFF" in refused.problem["hint"]


def test_a_refusal_leaves_nothing_and_says_no_path_of_the_service(front, tmp_path):
    owner = front.person()
    whole_file = flat(classic, tmp_path / "a.nc")
    assert whole_file.size
    (tmp_path / "cut.nc").write_bytes((tmp_path / "a.nc").read_bytes()[:-100])
    refused = brought(front, owner, tmp_path / "cut.nc")
    assert (refused.state, refused.problem["code"]) == (UploadState.REFUSED, "netcdf.unreadable")
    assert str(front.desk.settings.service_dir) not in str(refused.problem)
    assert not (front.desk.settings.service_dir / "uploads" / refused.id).exists()
    assert not list((front.desk.settings.service_dir / "scratch").rglob("*.tif"))


def test_registered_it_is_found_by_the_moments_that_it_says(front, tmp_path):
    owner = front.person()
    cube(classic, tmp_path / "release-2019-12-31.nc")
    found = brought(front, owner, tmp_path / "release-2019-12-31.nc")
    items = front.desk.catalogue.register(owner, found.id)
    assert [item["properties"]["datetime"][:10] for item in items] == ["2024-01-30", "2024-01-31", "2024-02-01"]
