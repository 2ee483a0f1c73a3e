"""A zip at an address is an input of a service: unpacked in its own folder, within what an upload may have."""

import zipfile

import pytest

from serve.desk.asking import Asking
from swathe.errors import ImageryError
from swathe.job import JobState
from tests.pipelines.fault_server import FaultServer


@pytest.fixture
def served(tmp_path, image):
    with zipfile.ZipFile(tmp_path / "scene.zip", "w") as file:
        file.write(image(), "scenes/scene.tif")
    with FaultServer(tmp_path) as server:
        yield server


def limited(folder, **values):
    path = folder / "service.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in values.items()))
    return path


def wish(served):
    return Asking(model="water-ndwi", inputs=(served.url("scene.zip"),))


def test_its_images_are_read(front_of, served):
    front = front_of(allow_private_urls=True)
    ada = front.person()
    assert front.desk.jobs.estimate(ada, wish(served)).cost["pixels"] == 64 * 96
    assert front.desk.jobs.submit(ada, wish(served)).state is JobState.QUEUED
    room = front.desk.settings.service_dir / "archives"
    assert [path.name for path in room.rglob("*.tif")] == ["scene.tif"]
    assert sum(request.stop > 1 for request in served.requests) == 3  # a look and the archive, then a look


@pytest.mark.parametrize("limit", ["max_upload_mb", "max_archives_mb"])
def test_limits_hold(front_of, served, tmp_path, limit):
    front = front_of(allow_private_urls=True, service_config=limited(tmp_path, **{limit: 0.001}))
    ada = front.person()
    if limit == "max_archives_mb":
        front.desk.jobs.estimate(ada, wish(served))
        (tmp_path / "scene.zip").touch()  # another version of it
    with pytest.raises(ImageryError) as caught:
        front.desk.jobs.submit(ada, wish(served))
    assert caught.value.problem.code == ("archive.size" if limit == "max_upload_mb" else "archive.room")
    assert caught.value.problem.as_dict()["status"] == 422
