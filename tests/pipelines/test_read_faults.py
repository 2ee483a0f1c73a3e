"""Faults of a real server: those that pass leave no trace in the pixels, those that stay are named."""

from __future__ import annotations

import time
from contextlib import suppress

import numpy as np
import pytest
import rasterio
from rasterio.errors import RasterioError

from pipelines.imagery.gdal import Access, Retry
from pipelines.imagery.inspect import Declared, inspect, parse_input
from pipelines.imagery.read import Reader
from pipelines.remote.network import Network
from pipelines.search.folder import _tagged
from swathe.card import Input
from swathe.errors import ReadError
from swathe.recipe import Radiometry
from swathe.window import Window
from tests.pipelines.fault_server import (
    Always,
    Every,
    FaultServer,
    First,
    NoRange,
    Redirect,
    Reset,
    Short,
    Slow,
    Status,
    Truncate,
    never,
)
from tests.pipelines.tiffs import write_tif

SIDE = 1200
RETRY = Retry(attempts=5, base_s=0.01, cap_s=0.05, timeout_s=2)
LOOPBACK = Network(allow_private=True)
FROM_DATA = 40_000
"""Bytes before this are headers."""
PASSING = [Status(503), Status(429), Status(500), Reset(0), Reset(3000), Truncate(0.4), Short(0.4), Slow(0.3)]


@pytest.fixture(scope="module")
def scene():
    """Noise, so that the file is long and lost bytes show."""
    return np.random.default_rng(3).integers(1, 30_000, (3, SIDE, SIDE)).astype("int16")


@pytest.fixture(params=["deflate", "none"])
def server(request, tmp_path, scene):
    """Uncompressed too: there, missing bytes would not even break a decoder."""
    options = {} if request.param == "none" else {"compress": "deflate"}
    write_tif(tmp_path / "a.tif", scene, tiled=True, blockxsize=256, blockysize=256, interleave="band", **options)
    with FaultServer(tmp_path) as running:
        yield running


@pytest.fixture
def imagery(server):
    declared = Declared((), Radiometry(("red", "green", "blue"), 1.0), {})
    return inspect(
        [parse_input(server.url("a.tif"))], Input(bands=("red", "blue")), declared, Access(RETRY), network=LOOPBACK
    )


@pytest.fixture
def reader(imagery):
    with Reader(imagery, Access(RETRY, cache_mb=64), LOOPBACK, sleep=lambda _s: None) as made:
        yield made


WINDOW = Window(130, -20, 500, 1000)


def expected(scene):
    out = np.zeros((2, 500, 1000), "int16")
    out[:, :, 20:] = scene[[0, 2], 130:630, :980]
    return out


@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_a_fault_now_and_then_leaves_no_trace(server, reader, scene, fault):
    server.faults = Every(3, fault)
    stack = reader.read(WINDOW)
    np.testing.assert_array_equal(stack.data[0], expected(scene))
    assert stack.mask[0, :, 20:].all()
    assert not stack.mask[0, :, :20].any()


@pytest.mark.parametrize("fault", [Status(503), Reset(0), Truncate(0.4)], ids=str)
def test_a_server_that_is_down_for_a_while(server, reader, scene, fault):
    server.faults = First(fault, count=4)
    np.testing.assert_array_equal(reader.read(WINDOW).data[0], expected(scene))


@pytest.mark.parametrize("fault", [Status(503), Reset(0), Truncate(0.4), Short(0.4), Status(404), Status(403)], ids=str)
def test_what_stays_lost_is_named_and_never_zeros(server, reader, fault):
    server.faults = Always(fault, start=FROM_DATA)
    with pytest.raises(ReadError) as caught:
        reader.read(WINDOW)
    problem = caught.value.problem
    assert problem.code == "read.lost"
    assert server.url("a.tif") in problem.detail
    assert "rows 130 to" in problem.detail
    assert "red, blue" in problem.detail
    assert "\n" not in problem.line()


def test_after_a_loss_the_same_reader_works_again(server, reader, scene):
    """A failure must not outlive the fault."""
    server.faults = Always(Status(503), start=FROM_DATA)
    with pytest.raises(ReadError):
        reader.read(WINDOW)
    server.faults = never
    np.testing.assert_array_equal(reader.read(WINDOW).data[0], expected(scene))


def test_another_part_of_the_file_is_read_while_one_is_lost(server, reader, scene):
    size = (server.folder / "a.tif").stat().st_size
    server.faults = Always(Status(503), start=size * 9 // 10)
    np.testing.assert_array_equal(reader.read(Window(0, 0, 200, 200)).data[0, 0], scene[0, :200, :200])
    with pytest.raises(ReadError):
        reader.read(Window(1000, 0, 200, 1200))


def test_a_file_that_is_gone_is_not_asked_for_again_and_again(server, imagery):
    pauses: list[float] = []
    with Reader(imagery, Access(RETRY), LOOPBACK, sleep=pauses.append) as reader:
        server.faults = Always(Status(404))
        with pytest.raises(ReadError):
            reader.read(WINDOW)
    assert pauses == []


def test_pauses_grow_and_are_bounded(server, imagery):
    pauses: list[float] = []
    retry = Retry(attempts=6, base_s=0.4, cap_s=1.0, timeout_s=2)
    with Reader(imagery, Access(retry), LOOPBACK, sleep=pauses.append) as reader:
        server.faults = Always(Reset(0))
        with pytest.raises(ReadError):
            reader.read(WINDOW)
    assert len(pauses) == 5
    for pause, most in zip(pauses, (0.4, 0.8, 1.0, 1.0, 1.0), strict=True):
        assert most / 2 <= pause <= most


def test_a_stalled_server_is_given_up(server, imagery):
    retry = Retry(attempts=2, base_s=0.01, cap_s=0.01, timeout_s=1)
    with Reader(imagery, Access(retry), LOOPBACK) as reader:
        server.faults = Always(Slow(20), start=16)
        started = time.monotonic()
        with pytest.raises(ReadError):
            reader.read(WINDOW)
    assert time.monotonic() - started < 15


def test_a_file_replaced_mid_run_is_refused(server, imagery, reader):
    reader.read(Window(0, 0, 10, 10))
    reader.close()
    server.etag_suffix = "another"
    with pytest.raises(ReadError) as caught:
        reader.read(Window(0, 0, 10, 10))
    assert caught.value.problem.code == "read.changed"


def test_a_server_that_stops_serving_ranges(server, reader):
    server.faults = Always(NoRange())
    with pytest.raises(ReadError):
        reader.read(WINDOW)


def test_a_strip_of_many_requests_gets_through_where_one_in_five_fails(server, reader, scene):
    """Started from nothing each time, it would never arrive: pieces that came are kept."""
    flaky = np.random.default_rng(5)
    server.faults = lambda request: Reset(100) if request.start and flaky.random() < 0.2 else None
    stack = reader.read(Window(0, 0, SIDE, SIDE))
    np.testing.assert_array_equal(stack.data[0], scene[[0, 2]])


@pytest.mark.parametrize("fault", [Status(503), Reset(0), Truncate(0.4)], ids=str)
def test_looking_at_a_file_is_stubborn_too(server, imagery, fault):
    server.faults = Every(2, fault)
    declared = Declared((), Radiometry(("red", "green", "blue"), 1.0), {})
    again = inspect(
        [parse_input(server.url("a.tif"))], Input(bands=("red", "blue")), declared, Access(RETRY), network=LOOPBACK
    )
    assert again == imagery


NAMES = ("coastal", "blue", "green", "red", "nir", "swir16")


@pytest.fixture
def six(tmp_path):
    """Six files of one band."""
    data = np.random.default_rng(4).integers(1, 30_000, (6, 300, 400)).astype("int16")
    for name, band in zip(NAMES, data, strict=True):
        write_tif(tmp_path / f"{name}.tif", band[None], nodata=7, tiled=True, blockxsize=256, blockysize=256)
    with FaultServer(tmp_path) as running:
        typed = [parse_input(running.url(f"{name}.tif")) for name in NAMES]
        yield running, data, typed


def test_files_are_read_side_by_side(six):
    server, data, typed = six
    server.faults = Always(Slow(0.2))
    declared = Declared((), Radiometry(scale=1.0), {})
    started = time.monotonic()
    imagery = inspect(typed, Input(bands=NAMES), declared, Access(RETRY), network=LOOPBACK)
    with Reader(imagery, Access(RETRY), LOOPBACK) as reader:
        stack = reader.read(Window(-3, -4, 310, 420))
    waited = time.monotonic() - started
    np.testing.assert_array_equal(stack.data[0, :, 3:303, 4:404], data)
    np.testing.assert_array_equal(stack.mask[0, 3:303, 4:404], (data != 7).all(axis=0))
    assert waited < 0.5 * sum(0.2 for r in server.requests if r.method == "GET")


def test_one_of_several_files_is_lost_by_name(six):
    server, _, typed = six
    declared = Declared((), Radiometry(scale=1.0), {})
    imagery = inspect(typed, Input(bands=NAMES), declared, Access(RETRY), network=LOOPBACK)
    server.faults = lambda r: Status(503) if r.name == "red.tif" else None
    with Reader(imagery, Access(RETRY), LOOPBACK, sleep=lambda _s: None) as reader, pytest.raises(ReadError) as caught:
        reader.read(Window(0, 0, 300, 400))
    assert "red.tif" in caught.value.detail
    assert "nir.tif" not in caught.value.detail


def test_a_file_replaced_while_it_is_being_read_is_refused(server, reader):
    reader.read(Window(0, 0, 10, 10))
    server.etag_suffix = "another"
    with pytest.raises(ReadError) as caught:
        reader.read(Window(1100, 1100, 10, 10))
    assert caught.value.problem.code == "read.changed"


def test_a_throttling_server_is_waited_for(server, imagery):
    with Reader(imagery, Access(RETRY), LOOPBACK) as reader:
        reader.read(Window(0, 0, 10, 10))
        server.faults = First(Status(429, "1"), count=1)
        started = time.monotonic()
        reader.read(Window(1100, 1100, 10, 10))
    assert 1 <= time.monotonic() - started < 4


def test_a_redirect_into_the_clouds_own_network_is_refused(server, reader):
    server.faults = Always(Redirect("http://169.254.169.254/latest"), start=FROM_DATA)
    with pytest.raises(ReadError) as caught:
        reader.read(WINDOW)
    assert "169.254.169.254" in caught.value.detail
    assert "red, blue" in caught.value.detail


def test_one_reads_without_leave_from_no_private_address(server, imagery):
    before = len(server.requests)
    with Reader(imagery, Access(RETRY)) as reader, pytest.raises(ReadError) as caught:
        reader.read(WINDOW)
    assert "SWATHE_ALLOW_PRIVATE_URLS" in caught.value.hint
    assert len(server.requests) == before


@pytest.mark.parametrize("href", ["/vsicurl/{url}", "{url}"])
def test_gdal_cannot_reach_the_network_by_itself(server, href):
    address = href.format(url=server.url("a.tif"))
    access = Access(RETRY)
    with access.env("a.tif"), pytest.raises(RasterioError):
        access.open(address, "GTiff")
    assert server.requests == []


def test_nor_for_a_virtual_file_in_a_folder_of_scenes(server, tmp_path):
    (tmp_path / "scenes").mkdir()
    trojan = tmp_path / "scenes" / "B04.tif"
    trojan.write_text(
        '<VRTDataset rasterXSize="9" rasterYSize="8" subClass="VRTWarpedDataset">'
        '<VRTRasterBand dataType="Int16" band="1" subClass="VRTWarpedRasterBand"/>'
        f"<GDALWarpOptions><SourceDataset>/vsicurl/{server.url('a.tif')}</SourceDataset></GDALWarpOptions></VRTDataset>"
    )
    assert _tagged(trojan) is None
    assert server.requests == []
    with suppress(RasterioError):
        rasterio.open(trojan)
    assert server.requests != []  # anyone else's GDAL asks


def test_nor_while_a_file_at_an_address_is_read(server, reader, scene):
    """With GDAL's network taken away altogether, nothing is missing."""
    with rasterio.Env(CPL_VSIL_CURL_ALLOWED_EXTENSIONS=".none", GDAL_HTTP_PROXY="127.0.0.1:1"):
        np.testing.assert_array_equal(reader.read(WINDOW).data[0], expected(scene))


def test_what_was_fetched_is_counted(server, reader):
    reader.read(Window(0, 0, 10, 10))
    assert reader.counts.requests == sum(r.method == "GET" for r in server.requests[-reader.counts.requests :])
    assert reader.counts.bytes > 0


@pytest.fixture
def stored(server):
    """The server speaks enough of S3 for anonymous reading: GET /bucket/key."""
    (server.folder / "bucket").mkdir()
    (server.folder / "a.tif").rename(server.folder / "bucket" / "a.tif")
    network = Network(s3_endpoint=f"http://127.0.0.1:{server.port}", s3_anonymous=True)
    declared = Declared((), Radiometry(("red", "green", "blue"), 1.0), {})
    typed = [parse_input("s3://bucket/a.tif")]
    imagery = inspect(typed, Input(bands=("red", "blue")), declared, Access(RETRY), network=network)
    with Reader(imagery, Access(RETRY), network, sleep=lambda _s: None) as reader:
        yield reader


def test_s3_is_read_as_stubbornly(server, stored, scene):
    server.faults = Always(Status(503), start=FROM_DATA)
    with pytest.raises(ReadError):
        stored.read(WINDOW)
    server.faults = Every(3, Reset(100))
    np.testing.assert_array_equal(stored.read(WINDOW).data[0], expected(scene))


@pytest.mark.parametrize("begun", [True, False])
def test_an_object_in_s3_that_was_replaced_is_refused(server, stored, begun):
    if begun:
        stored.read(Window(0, 0, 10, 10))
    server.etag_suffix = "another"
    with pytest.raises(ReadError) as caught:
        stored.read(Window(1100, 1100, 10, 10))
    assert caught.value.problem.code == "read.changed"
