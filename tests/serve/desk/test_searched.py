"""Jobs on searched imagery: what strangers' catalogues may make a service read, and what not."""

import json

import pytest

from pipelines.demo import catalogue
from serve.desk.asking import Asking
from swathe.errors import SwatheError
from swathe.job import JobState
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server
from tests.pipelines.stac_server import StacServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def coast(tmp_path_factory):
    return catalogue.write(tmp_path_factory.mktemp("coast"), size=512, seed=5)


def items_at(coast, root):
    """The demo's items, their files below ``root``."""
    for path in sorted(coast.folder.rglob("*.json")):
        item = json.loads(path.read_text())
        if item.get("type") == "Feature":
            for asset in item["assets"].values():
                asset["href"] = f"{root}/{(path.parent / asset['href']).resolve().relative_to(coast.folder.resolve())}"
            yield item


def submitted(front, coast, root):
    with StacServer(list(items_at(coast, root))) as api:
        search = {"source": api.url, "collection": "swathe-demo", "dates": ["2024-08-20_2024-09-10"]}
        asking = Asking.model_validate({"model": "water-mndwi", "aoi": str(coast.aoi), "search": search})
        return front.desk.jobs.submit(front.person(), asking)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_items_do_not_make_a_service_read_its_own_files(front_of, coast, scheme):
    """A path is one of the server that said it; another scheme is none that is read."""
    with pytest.raises(SwatheError) as caught:
        submitted(front_of(allow_private_urls=True), coast, f"{scheme}{coast.folder.resolve()}")
    assert ("there is nothing at http://127.0.0.1" in caught.value.detail) == (scheme == "")
    assert (caught.value.problem.code == "search.unreadable") == (scheme == "")


def test_items_do_not_make_a_service_read_what_it_keeps_for_others(front_of, coast, s3_server, monkeypatch):
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    prefix, client = s3_server.prefix(), s3_server.client()
    for path in coast.folder.rglob("*.tif"):
        key = f"{prefix.split('/', 3)[3]}/jobs/j1/{path.relative_to(coast.folder)}"
        client.put_object(Bucket=s3_server.bucket, Key=key, Body=path.read_bytes())
    with pytest.raises(SwatheError) as caught:
        submitted(front_of(allow_private_urls=True, results=prefix), coast, f"{prefix}/jobs/j1")
    assert "belongs to the service" in caught.value.detail
    beside = front_of(allow_private_urls=True, results=f"{prefix}/maps", s3_buckets=(s3_server.bucket,))
    assert submitted(beside, coast, f"{prefix}/jobs/j1").state is JobState.QUEUED
