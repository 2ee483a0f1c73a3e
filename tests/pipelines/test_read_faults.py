"""Faults of a real server: those that pass leave no trace in the pixels, those that stay are named."""

from __future__ import annotations

import time

import numpy as np
import pytest

from pipelines.gdal import Access, Retry
from pipelines.inspect import Declared, inspect, parse_input
from pipelines.read import Reader
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
    return inspect([parse_input(server.url("a.tif"))], Input(bands=("red", "blue")), declared, Access(RETRY))


@pytest.fixture
def reader(imagery):
    with Reader(imagery, Access(RETRY, cache_mb=64), sleep=lambda _s: None) as made:
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
    """GDAL remembers failures of a URL; they must not outlive the fault."""
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
    with Reader(imagery, Access(RETRY), sleep=pauses.append) as reader:
        server.faults = Always(Status(404))
        with pytest.raises(ReadError):
            reader.read(WINDOW)
    assert pauses == []


def test_pauses_grow_and_are_bounded(server, imagery):
    pauses: list[float] = []
    retry = Retry(attempts=6, base_s=0.4, cap_s=1.0, timeout_s=2)
    with Reader(imagery, Access(retry), sleep=pauses.append) as reader:
        server.faults = Always(Reset(0))
        with pytest.raises(ReadError):
            reader.read(WINDOW)
    assert len(pauses) == 6
    for pause, most in zip(pauses[1:], (0.4, 0.8, 1.0, 1.0, 1.0), strict=True):
        assert most / 2 <= pause <= most


def test_a_stalled_server_is_given_up(server, imagery):
    retry = Retry(attempts=2, base_s=0.01, cap_s=0.01, timeout_s=1)
    with Reader(imagery, Access(retry)) as reader:
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
    again = inspect([parse_input(server.url("a.tif"))], Input(bands=("red", "blue")), declared, Access(RETRY))
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
    with Reader(inspect(typed, Input(bands=NAMES), declared, Access(RETRY)), Access(RETRY)) as reader:
        stack = reader.read(Window(-3, -4, 310, 420))
    waited = time.monotonic() - started
    np.testing.assert_array_equal(stack.data[0, :, 3:303, 4:404], data)
    np.testing.assert_array_equal(stack.mask[0, 3:303, 4:404], (data != 7).all(axis=0))
    assert waited < 0.5 * sum(0.2 for r in server.requests if r.method == "GET")


def test_one_of_several_files_is_lost_by_name(six):
    server, _, typed = six
    declared = Declared((), Radiometry(scale=1.0), {})
    imagery = inspect(typed, Input(bands=NAMES), declared, Access(RETRY))
    server.faults = lambda r: Status(503) if r.name == "red.tif" else None
    with Reader(imagery, Access(RETRY), sleep=lambda _s: None) as reader, pytest.raises(ReadError) as caught:
        reader.read(Window(0, 0, 300, 400))
    assert "red.tif" in caught.value.detail
    assert "nir.tif" not in caught.value.detail


def test_s3_forgets_its_failures_too(server, imagery, scene, monkeypatch):
    monkeypatch.setenv("AWS_S3_ENDPOINT", f"127.0.0.1:{server.port}")
    monkeypatch.setenv("AWS_HTTPS", "NO")
    monkeypatch.setenv("AWS_VIRTUAL_HOSTING", "FALSE")
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    (server.folder / "bucket").mkdir()
    (server.folder / "a.tif").rename(server.folder / "bucket" / "a.tif")
    declared = Declared((), Radiometry(("red", "green", "blue"), 1.0), {})
    imagery = inspect([parse_input("s3://bucket/a.tif")], Input(bands=("red", "blue")), declared, Access(RETRY))
    with Reader(imagery, Access(RETRY), sleep=lambda _s: None) as reader:
        server.faults = Always(Status(503), start=FROM_DATA)
        with pytest.raises(ReadError):
            reader.read(WINDOW)
        server.faults = Every(3, Reset(100))
        np.testing.assert_array_equal(reader.read(WINDOW).data[0], expected(scene))
