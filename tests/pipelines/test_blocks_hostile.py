"""Damaged and hostile files: refused by name before anything is decoded, never a crash, never zeros."""

import struct
import subprocess
import sys
import threading
import time
import zlib
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pytest
import rasterio

from pipelines.blocks.open import Opener
from pipelines.imagery.limits import Limits
from pipelines.remote.fetch import Fetcher
from pipelines.remote.network import Network
from swathe.errors import ImageryError, ReadError, SwatheError
from swathe.scene import Asset, AssetGrid
from swathe.source import Auth
from swathe.window import Window
from tests.pipelines.fault_server import FaultServer
from tests.pipelines.tiffs import pixels, write_tif

LONG, SLONG = 4, 9
GRID = AssetGrid("EPSG:32632", (10, 0, 500_000, 0, -10, 5_000_000), (512, 512))


@pytest.fixture(scope="module")
def opener():
    fetcher = Fetcher(Network(allow_private=True))
    with Opener(fetcher, Auth(), threads=2) as opener:
        yield opener
    fetcher.close()


def tiff(changes=(), following=0, block=b"\0" * 100, strips=False):
    """A TIFF of 512 x 512 bytes in one block, with tags of one's own; ``changes`` are (tag, type, count, value)."""
    blocks = {273: 400, 278: 512, 279: len(block)} if strips else {322: 512, 323: 512, 324: 400, 325: len(block)}
    facts = {256: 512, 257: 512, 258: 8, 259: 1, 262: 1, 277: 1, **blocks}
    entries = {tag: (tag, LONG, 1, value) for tag, value in facts.items()} | {c[0]: c for c in changes}
    body = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, kind, count, value in sorted(entries.values()):
        body += struct.pack("<HHII", tag, kind, count, value)
    return (body + struct.pack("<I", following)).ljust(400, b"\0") + block


HOSTILE = {
    "four billion blocks": (tiff([(324, LONG, 0xFFFFFFF0, 400)]), "read.corrupt"),
    "a table beyond the end": (tiff([(325, LONG, 5000, 400)]), "read.corrupt"),
    "a circle of directories": (tiff(following=8), "read.corrupt"),
    "tags without end": (b"II*\0" + struct.pack("<IH", 8, 0xFFFF) + bytes(100), "imagery.limits"),
    "sides of four billion": (tiff([(256, LONG, 1, 0xFFFFFFFF), (257, LONG, 1, 0xFFFFFFFF)]), "imagery.limits"),
    "no rows": (tiff([(257, LONG, 1, 0)]), "imagery.unreadable"),
    "65535 bands": (tiff([(277, LONG, 1, 65535)]), "imagery.limits"),
    "blocks of 16 gigabytes": (tiff([(322, LONG, 1, 1 << 17), (323, LONG, 1, 1 << 17)]), "imagery.limits"),
    "blocks without pixels": (tiff([(322, LONG, 1, 0)]), "imagery.limits"),
    "strips of no rows": (tiff([(278, LONG, 1, 0)], strips=True), "imagery.limits"),
    "strips of less than no rows": (tiff([(278, SLONG, 1, 0xFFFFFFFF)], strips=True), "imagery.limits"),
    "more strips than are there": (tiff([(278, LONG, 1, 1)], strips=True), "read.corrupt"),
    "a strip too short": (tiff(strips=True), "read.corrupt"),
    "a strip beyond the end": (tiff([(273, LONG, 1, 100_000)], strips=True), "read.corrupt"),
    "fewer blocks than pixels": (tiff([(322, LONG, 1, 64)]), "read.corrupt"),
    "a directory beyond the end": (b"II*\0" + struct.pack("<I", 99999) + bytes(50), "read.corrupt"),
    "no directory": (b"II*\0" + bytes(60), "read.corrupt"),
    "four bytes": (b"II*\0", "read.corrupt"),
    "nothing": (b"", "imagery.unreadable"),
    "a web page": (b"<html><body>Sign in</body></html>", "imagery.unreadable"),
    "a virtual raster": (b'<VRTDataset rasterXSize="1"/>', "imagery.unreadable"),
    "a codec nobody knows": (tiff([(259, LONG, 1, 40000)]), "read.corrupt"),
    "a block beyond the end": (tiff([(324, LONG, 1, 100_000)]), "read.corrupt"),
    "a block of negative place": (tiff([(325, LONG, 1, 0xFFFFFFFF)]), "read.corrupt"),
    "a block too short": (tiff(), "read.corrupt"),
    "a block of noise": (tiff([(259, LONG, 1, 8)], block=bytes(range(256)) * 4), "read.corrupt"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_it_is_refused_by_name(name, tmp_path, opener):
    data, code = HOSTILE[name]
    path = tmp_path / "hostile.tif"
    path.write_bytes(data)
    begun = time.monotonic()
    with pytest.raises(SwatheError) as caught:
        opener.open(Asset("x", str(path), grid=GRID)).read((1,), Window(0, 0, 512, 512))
    assert caught.value.problem.code == code, caught.value.problem
    assert isinstance(caught.value, ReadError if code.startswith("read") else ImageryError)
    assert caught.value.problem.hint
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(("block_mb", "by"), [(2, "CogSource"), (1, "GdalSource")])
def test_a_giant_strip_of_an_overview_is_not_decoded_as_a_block(tmp_path, opener, block_mb, by):
    """However harmless the image itself is: such a file goes to GDAL, as one does whose own strip is giant."""
    path, data = tmp_path / "a.tif", pixels(1, 2048, 2048, "uint16")
    write_tif(path, data, tiled=True, blockxsize=256, blockysize=256, compress="deflate")
    raw, body = bytearray(path.read_bytes()), zlib.compress(bytes(2 * 1024 * 1024))
    strip = {273: len(raw), 278: 1024, 279: len(body)}
    facts = {254: 1, 256: 1024, 257: 1024, 258: 16, 259: 8, 262: 1, 277: 1, **strip}
    raw += body + bytes(len(body) % 2)
    (first,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, first)
    struct.pack_into("<I", raw, first + 2 + 12 * count, len(raw))  # where the next directory is
    entries = (struct.pack("<HHII", tag, LONG, 1, value) for tag, value in sorted(facts.items()))
    path.write_bytes(raw + struct.pack("<H", len(facts)) + b"".join(entries) + bytes(4))
    with rasterio.open(path) as file:
        assert file.overviews(1) == [2]
    with Opener(opener._shared.fetcher, Auth(), limits=Limits(block_mb=block_mb)) as bounded:
        source = bounded.open(Asset("x", str(path)))
        assert type(source).__name__ == by
        assert np.array_equal(source.read((1,), Window(0, 0, 300, 300))[0], data[0, :300, :300])


class Resident:
    """Watches how much memory this process holds; decoding lets go of Python's lock."""

    def __enter__(self):
        self.begun = self.most = self._now()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _now(self):
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    def _watch(self):
        while not self._stop.wait(0.001):
            self.most = max(self.most, self._now())

    def __exit__(self, *_exc):
        self._stop.set()
        self._thread.join()

    @property
    def grown_mb(self):
        return (self.most - self.begun) / 2**20


@pytest.mark.parametrize(("codec", "name"), [(8, "deflate"), (50000, "zstd"), (5, "lzw")])
def test_a_block_unpacks_to_no_more_than_it_says(codec, name, tmp_path, opener):
    """A bomb of 400 MB in a block of 256 kB: libtiff stops where the block is full."""
    path = tmp_path / "bomb.tif"
    path.write_bytes(tiff([(259, LONG, 1, codec)], block=bomb(name, tmp_path)))
    source = opener.open(Asset("x", str(path), grid=GRID))
    with Resident() as memory:
        try:
            refused, got = "", source.read((1,), Window(0, 0, 512, 512))
        except ReadError as error:
            refused, got = error.problem.code, np.zeros(1)
    assert refused in ("", "read.corrupt")
    assert not got.ravel()[:-258].any()  # libtiff leaves what a last match would have filled, as everywhere in GDAL
    assert memory.grown_mb < 50


def bomb(name, folder):
    """One block of 20000 x 20000 zeros, written by a process of its own so that ours stays small."""
    program = f"""
import numpy as np, rasterio
from rasterio.transform import from_origin
n, path = 20_000, {str(folder / "large.tif")!r}
options = dict(count=1, height=n, width=n, dtype="uint8", compress={name!r}, blockysize=n)
with rasterio.open(path, "w", driver="GTiff", transform=from_origin(0, 9, 1, 1), **options) as file:
    file.write(np.zeros((1, n, n), "uint8"))
with rasterio.open(path) as file:
    print(*(file.get_tag_item(f"BLOCK_{{word}}_0_0", "TIFF", bidx=1) for word in ("OFFSET", "SIZE")))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    place, size = map(int, answer.stdout.split())
    return (folder / "large.tif").read_bytes()[place : place + size]


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_said_to_be_one(share, tmp_path, opener):
    data = np.random.default_rng(2).integers(0, 3000, (2, 600, 600)).astype("uint16")
    whole = write_tif(tmp_path / "whole.tif", data, tiled=True, blockxsize=128, blockysize=128, compress="zstd")
    path = tmp_path / "short.tif"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    with pytest.raises(ReadError) as caught:
        opener.open(Asset("x", str(path))).read((1, 2), Window(0, 0, 600, 600))
    assert caught.value.problem.code == "read.corrupt"


def test_one_damaged_block_costs_only_the_windows_that_touch_it(tmp_path, opener):
    data = np.random.default_rng(2).integers(0, 3000, (1, 512, 512)).astype("uint16")
    path = write_tif(tmp_path / "a.tif", data, tiled=True, blockxsize=128, blockysize=128, compress="deflate")
    with rasterio.open(path) as file:
        at = int(file.get_tag_item("BLOCK_OFFSET_2_1", "TIFF", bidx=1))
    raw = bytearray(path.read_bytes())
    raw[at : at + 300] = bytes(b ^ 0x5A for b in raw[at : at + 300])
    path.write_bytes(raw)
    source = opener.open(Asset("x", str(path)))
    with pytest.raises(ReadError, match="block 1/2") as caught:
        source.read((1,), Window(0, 0, 512, 512))
    assert caught.value.problem.code == "read.corrupt"
    np.testing.assert_array_equal(source.read((1,), Window(0, 0, 128, 512)), data[:, :128])


def test_any_byte_of_a_header_may_be_wrong(tmp_path, opener):
    """Whatever a flipped byte does, it ends in pixels or in one of our errors, soon."""
    whole = write_tif(
        tmp_path / "whole.tif", pixels(2, 64, 64, "uint16"), tiled=True, blockxsize=32, blockysize=32, compress="zstd"
    ).read_bytes()
    rng, path = np.random.default_rng(5), tmp_path / "flipped.tif"
    for n in range(150):
        raw = bytearray(whole)
        for at in rng.integers(0, 420, rng.integers(1, 4)):
            raw[at] = rng.integers(0, 256)
        path = tmp_path / f"{n}.tif"
        path.write_bytes(raw)
        begun = time.monotonic()
        try:
            source = opener.open(Asset("x", str(path)))
            rows, cols = (min(n, 64) for n in source.grid.shape)
            source.read((1,), Window(0, 0, rows, cols))
        except SwatheError:
            pass
        assert time.monotonic() - begun < 2


def test_a_read_of_absurd_size_is_refused(tmp_path, opener):
    path = write_tif(tmp_path / "a.tif", pixels(1, 64, 64))
    fetcher = opener._shared.fetcher
    with (
        Opener(fetcher, Auth(), limits=Limits(window_mb=0)) as strict,
        pytest.raises(ImageryError, match="at once") as caught,
    ):
        strict.open(Asset("x", str(path))).read((1,), Window(0, 0, 64, 64))
    assert "gdal_translate -of COG" in caught.value.hint  # nothing that is set would raise the bound


@pytest.mark.parametrize(("bound", "setting"), [("side", "SWATHE_MAX_IMAGE_SIDE"), ("block_mb", "SWATHE_MAX_BLOCK_MB")])
def test_bounds_that_are_set_are_those_of_the_network_and_named(tmp_path, bound, setting):
    path = write_tif(tmp_path / "a.tif", pixels(4, 1024, 1024, "uint32"), tiled=True, blockxsize=1024, blockysize=1024)
    with FaultServer(tmp_path) as server, ExitStack() as stack:
        for limits, refused in ((Limits(), False), (Limits(**{bound: 1}), True)):
            fetcher = Fetcher(Network(allow_private=True, limits=limits))
            stack.callback(fetcher.close)
            opener = stack.enter_context(Opener(fetcher, Auth()))
            asset = Asset("x", server.url(path.name))
            if not refused:
                assert opener.open(asset).grid.shape == (1024, 1024)
                continue
            with pytest.raises(ImageryError) as caught:
                opener.open(asset)
            assert caught.value.problem.code == "imagery.limits"
            assert f"set {setting} higher" in caught.value.hint


def test_an_image_that_is_decoded_whole_has_a_bound_that_is_set(tmp_path):
    path = tmp_path / "a.png"
    with rasterio.open(path, "w", driver="PNG", width=40, height=30, count=3, dtype="uint8") as file:
        file.write(pixels(3, 30, 40, "uint8"))
    for most, refused in ((3600, False), (3599, True)):
        fetcher = Fetcher(Network(limits=Limits(pixels=most)))
        with closing(fetcher), Opener(fetcher, Auth()) as opener:
            asset = Asset("x", str(path), grid=AssetGrid("EPSG:32632", (10, 0, 500_000, 0, -10, 5_000_000), (30, 40)))
            if not refused:
                assert opener.open(asset).count == 3
                continue
            with pytest.raises(ImageryError, match="decoded as a whole") as caught:
                opener.open(asset)
            assert "SWATHE_MAX_WHOLE_PIXELS" in caught.value.hint


def test_messages_hold_no_secrets(tmp_path, opener):
    (tmp_path / "a.tif").write_bytes(HOSTILE["a block beyond the end"][0])
    with FaultServer(tmp_path) as server:
        source = opener.open(Asset("x", server.url("a.tif") + "?sig=SECRET", grid=GRID))
        with pytest.raises(ReadError) as caught:
            source.read((1,), Window(0, 0, 512, 512))
    assert "SECRET" not in str(caught.value.problem)
