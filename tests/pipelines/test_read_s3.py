"""Inputs in a real S3, signed: the same pixels as from disk, and no silence about what changes or is refused."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.imagery.gdal import Access, Retry
from pipelines.imagery.inspect import Declared, inspect, parse_input
from pipelines.imagery.read import Reader
from pipelines.remote.network import Network
from pipelines.remote.secrets import Secrets
from swathe.card import Input
from swathe.errors import ImageryError, ReadError
from swathe.recipe import Radiometry
from swathe.window import Window
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server
from tests.pipelines.tiffs import write_tif

BANDS = ("red", "green", "blue")
ACCESS = Access(Retry(attempts=3, base_s=0.01, timeout_s=5))


@pytest.fixture
def scene():
    return np.random.default_rng(6).integers(1, 30_000, (3, 700, 900)).astype("int16")


@pytest.fixture
def file(tmp_path, scene):
    return write_tif(tmp_path / "a.tif", scene, nodata=7, tiled=True, blockxsize=256, blockysize=256)


@pytest.fixture
def put(s3_server, file):
    """Store a file under the test's own key, whose address is ``put.href``."""
    bucket, key = f"{s3_server.prefix()}/a.tif".removeprefix("s3://").split("/", 1)

    def put(path=file):
        s3_server.client().put_object(Bucket=bucket, Key=key, Body=path.read_bytes())

    put()
    put.href = f"s3://{bucket}/{key}"
    return put


def network_of(s3_server, key=None):
    keys = {"AWS_ACCESS_KEY_ID": key or s3_server.key, "AWS_SECRET_ACCESS_KEY": s3_server.secret}
    return Network(s3_endpoint=s3_server.endpoint, secrets=Secrets(keys))


def look(href, network):
    declared = Declared((), Radiometry(BANDS, 1.0), {})
    return inspect([parse_input(str(href))], Input(bands=BANDS), declared, ACCESS, network=network)


def test_signed_reading_gives_what_the_disk_gives(s3_server, put, file, scene):
    network = network_of(s3_server)
    imagery = look(put.href, network)
    window = Window(-5, 200, 600, 750)
    with Reader(imagery, ACCESS, network) as far, Reader(look(file, None)) as near:
        one, other = far.read(window), near.read(window)
        assert far.counts.requests > 0
        assert near.counts is None
    np.testing.assert_array_equal(one.data, other.data)
    np.testing.assert_array_equal(one.mask, other.mask)
    np.testing.assert_array_equal(one.data[0, :, 5:, :700], scene[:, :595, 200:])


@pytest.mark.parametrize("begun", [True, False])
def test_an_object_replaced_mid_run_is_refused(s3_server, put, tmp_path, scene, begun):
    network = network_of(s3_server)
    imagery = look(put.href, network)
    with Reader(imagery, ACCESS, network) as reader:
        if begun:
            reader.read(Window(0, 0, 10, 10))
        put(write_tif(tmp_path / "b.tif", scene + 1, nodata=7, tiled=True, blockxsize=256, blockysize=256))
        with pytest.raises(ReadError) as caught:
            reader.read(Window(600, 800, 10, 10))
    assert caught.value.problem.code == "read.changed"


def test_a_key_that_is_not_known_there_is_refused_by_name(s3_server, put):
    with pytest.raises(ImageryError) as caught:
        look(put.href, network_of(s3_server, key="nobody"))
    problem = caught.value.problem
    assert problem.code == "imagery.forbidden"
    assert s3_server.secret not in problem.line()
