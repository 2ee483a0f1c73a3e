"""Publishing to a GeoServer, held against a transcribed exchange: the same requests, and what its answers mean."""

import socket

import pytest

from serve.publishing.geoserver import GeoServerPublisher
from swathe.errors import ConflictError, ServiceError
from swathe.publication import Publication
from tests.serve.publishing.exchange import PASSWORD, USER, replayed

WANTED = Publication("", "j", "lagoon", "water", (), (), "values")
SLD = '<?xml version="1.0" encoding="UTF-8"?><StyledLayerDescriptor version="1.0.0"/>'


@pytest.fixture
def raster(tmp_path):
    path = tmp_path / "result.tif"
    path.write_bytes(b"II*\x00" + bytes(range(256)) * 300)
    return path


def published(url, raster):
    return GeoServerPublisher(url + "/", USER, PASSWORD).publish(WANTED, raster, SLD)


@pytest.mark.parametrize("part", ["first", "again"])
def test_a_raster_becomes_a_layer_with_a_style(raster, part):
    with replayed(part, RASTER=raster.read_bytes(), SLD=SLD.encode()) as url:
        assert published(url, raster) == f"{url}/lagoon/wms?layers=lagoon:water"


@pytest.mark.parametrize("part", ["taken", "a style"])
def test_a_name_that_something_else_has_is_left_alone(part):
    with replayed("free", part) as url:
        server = GeoServerPublisher(url, USER, PASSWORD)
        server.expect_free(WANTED)
        with pytest.raises(ConflictError) as refused:
            server.expect_free(WANTED)
    assert refused.value.problem.code == "publication.taken"


def test_what_was_published_can_be_taken_away():
    with replayed("gone") as url:
        GeoServerPublisher(url, USER, PASSWORD).withdraw(WANTED)


@pytest.mark.parametrize(("part", "code", "words"), [
    ("refused", "publication.refused", "401"), ("unreadable", "publication.refused", "Failed to create reader"),
    ("led", "publication.refused", "302"), ("babble", "publication.unreachable", "JSON"),
])  # fmt: skip
def test_its_troubles_are_told(raster, part, code, words):
    with (
        replayed(part, RASTER=raster.read_bytes(), SLD=SLD.encode()) as url,
        pytest.raises(ServiceError) as trouble,
    ):
        published(url, raster)
    assert trouble.value.problem.code == code
    assert words in trouble.value.detail
    assert PASSWORD not in trouble.value.problem.line()


def test_a_server_that_is_not_there(raster):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/geoserver"
    with pytest.raises(ServiceError) as trouble:
        published(url, raster)
    assert trouble.value.problem.code == "publication.unreachable"
