"""Archives of strangers: imagery comes out as it went in; everything else is refused by name, and leaves nothing."""

import io
import os
import resource
import stat
import struct
import tempfile
import zipfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import from_origin

from pipelines.imagery.archive import LIMITS, Limits, Unpacking, check_image, is_archive, unpack, unpacked
from swathe.errors import ImageryError, OutputError

MB = 1_000_000


def image(path, shape=(20, 30), value=7, **more):
    with rasterio.open(
        path, "w", driver="GTiff", height=shape[0], width=shape[1], count=1, dtype="uint8", crs="EPSG:32633",
        transform=from_origin(500_000, 4_600_000, 10, 10), **more,
    ) as file:  # fmt: skip
        if value is not None:
            file.write(np.full((1, *shape), value, np.uint8))
    return path


@pytest.fixture(scope="module")
def tif(tmp_path_factory):
    return image(tmp_path_factory.mktemp("tif") / "a.tif").read_bytes()


@pytest.fixture
def pack(tmp_path):
    """``pack({"name": bytes or ZipInfo-maker})`` writes a zip."""

    def pack(entries, method=zipfile.ZIP_DEFLATED):
        path = tmp_path / "images.zip"
        with zipfile.ZipFile(path, "w", method) as file:
            for name, content in entries.items() if isinstance(entries, dict) else entries:
                file.writestr(name, content)
        return path

    return pack


def refused(archive, tmp_path, limits=LIMITS):
    """The code with which it is refused; nothing must be left."""
    target = tmp_path / "out"
    target.mkdir(exist_ok=True)
    with pytest.raises((ImageryError, OutputError)) as caught:
        unpack(archive, target / "images", limits)
    assert list(target.iterdir()) == []
    problem = caught.value.problem
    assert archive.name in problem.detail or "image." in problem.code or "imagery." in problem.code
    assert problem.hint
    assert problem.field == "--input"
    return problem.code


# --- what is taken ----------------------------------------------------------------------------------------------------


def test_imagery_comes_out_and_nothing_else(pack, tif, tmp_path):
    junk = ("readme.txt", "a/red.tif.aux.xml", "__MACOSX/a/._red.tif", ".hidden.tif", "look.vrt")
    archive = pack({"a/": b"", "a/red.tif": tif, "a/nir.TIFF": tif, **dict.fromkeys(junk, b"<junk/>")})
    found = unpack(archive, tmp_path / "out")
    assert sorted(p.relative_to(found).as_posix() for p in found.rglob("*") if p.is_file()) == [
        "a/nir.TIFF",
        "a/red.tif",
    ]
    assert (found / "a/red.tif").read_bytes() == tif
    assert not (tmp_path / "out.partial").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"images.zip", "out"}


def test_an_archive_is_unpacked_once_and_told_by_its_content(pack, tif, tmp_path):
    archive = pack({"a.tif": tif})
    room = tmp_path / "room"
    first = unpacked(archive, Unpacking(room))
    before = (first / "a.tif").stat().st_mtime_ns
    (first / "mark").touch()
    copy = tmp_path / "copy.zip"
    copy.write_bytes(archive.read_bytes())
    assert unpacked(copy, Unpacking(room)) == first
    assert (first / "mark").exists()
    other = unpacked(pack({"a.tif": tif, "b.tif": tif}), Unpacking(room))
    assert other != first
    assert len(list(room.iterdir())) == 2
    again = unpacked(copy, Unpacking(tmp_path / "elsewhere"))
    assert (again / "a.tif").stat().st_mtime_ns == before  # so that a run resumes with what was unpacked anew


def test_what_was_not_used_for_long_goes(pack, tif, tmp_path):
    room = tmp_path / "room"
    old = unpacked(pack({"a.tif": tif}), Unpacking(room))
    os.utime(old, (1, 1))
    unpacked(pack({"b.tif": tif}), Unpacking(room))
    assert not old.exists()


def test_only_a_zip_is_taken_for_an_archive():
    assert is_archive(Path("a.ZIP"))
    assert not is_archive(Path("a.tif"))


def test_a_packed_empty_image_is_no_bomb(pack, tmp_path):
    content = image(tmp_path / "zero.tif", (3000, 3000), 0).read_bytes()
    assert len(content) < 10 * MB
    assert unpack(pack({"zero.tif": content}), tmp_path / "out").is_dir()


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [
    "../evil.tif", "a/../../evil.tif", "/etc/evil.tif", "..", "a/..", "..\\evil.tif", "C:\\evil.tif", "C:evil.tif",
    "\\\\host\\share\\evil.tif", "//host/evil.tif",
])  # fmt: skip
def test_names_that_lead_out(pack, tif, tmp_path, name):
    assert refused(pack([(named(name), tif)]), tmp_path) == "archive.path"
    assert not list(tmp_path.rglob("evil.tif"))


def named(name):
    """An entry whose name nobody has tidied."""
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    return info


@pytest.mark.parametrize(
    "name", ["a//b.tif", "./a.tif", "a\nb.tif", "a\x1b[2J.tif", "a" * 1000 + ".tif", " \u202e.tif"]
)
def test_names_that_are_none(pack, tif, tmp_path, name):
    assert refused(pack([(named(name), tif)]), tmp_path) == "archive.path"


def test_a_name_with_a_null_byte(pack, tif, tmp_path):
    archive = pack({"evil.tifXtxt": tif})
    archive.write_bytes(archive.read_bytes().replace(b"evil.tifXtxt", b"evil.tif\0txt"))
    assert refused(archive, tmp_path) == "archive.path"


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a.tif", "a.tif"), ("a.tif", "A.TIF"), ("a", "a/b.tif"), ("a/b.tif", "a"),
                                   ("a/", "a"), ("s/x.tif", "S/x.tif")])  # fmt: skip
def test_names_twice(pack, tif, tmp_path, names):
    archive = pack([(named(name), b"" if name.endswith("/") else tif) for name in names])
    assert refused(archive, tmp_path) == "archive.twice"


def test_an_old_archive_without_separate_folders_is_fine(pack, tif, tmp_path):
    archive = pack([("a/b.tif", tif), ("a/", b""), ("a/c/d.tif", tif), ("e.tif", tif)])
    assert len(list(unpack(archive, tmp_path / "out").rglob("*.tif"))) == 3


@given(st.text(st.sampled_from("./\\ab:\0é~"), min_size=1, max_size=9))
def test_no_name_writes_elsewhere(name):
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder)
        archive, out = top / "x.zip", top / "in" / "out"
        out.parent.mkdir()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(named(f"{name}.tif"), b"II*\0junk")
        with pytest.raises(ImageryError):  # no real image: always refused, at the name or at the content
            unpack(archive, out)
        assert sorted(p.name for p in top.rglob("*")) == ["in", "x.zip"]


# --- kinds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices(pack, tmp_path, kind):
    info = zipfile.ZipInfo("link.tif")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    assert refused(pack([(info, b"/etc/passwd")]), tmp_path) == "archive.link"


def test_encrypted_entries(pack, tif, tmp_path):
    archive = pack({"a.tif": tif})
    raw = bytearray(archive.read_bytes())
    for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        raw[raw.index(mark) + at] |= 1
    archive.write_bytes(raw)
    assert refused(archive, tmp_path) == "archive.encrypted"


@pytest.mark.parametrize("name", ["more.zip", "more.tar.gz", "more.7z", "MORE.ZIP"])
def test_archives_in_archives(pack, tif, tmp_path, name):
    assert refused(pack({"a.tif": tif, name: b"PK\5\6"}), tmp_path) == "archive.nested"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_are_not_read(pack, tif, tmp_path, method):
    assert refused(pack({"a.tif": tif}, method), tmp_path) == "archive.method"


@pytest.mark.parametrize(("name", "content"), [
    ("a.tif", b"<VRTDataset/>"), ("a.tif", b""), ("a.tif", b"\x89PNG\r\n\x1a\n........"), ("a.jp2", b"II*\0........"),
    ("a.tif", b"PK\3\4...."), ("a.tif", b"#!/bin/sh"),
])  # fmt: skip
def test_content_that_is_not_what_the_ending_says(pack, tif, tmp_path, name, content):
    assert refused(pack({"good.tif": tif, name: content}), tmp_path) == "image.content"


def test_an_archive_without_imagery(pack, tmp_path):
    assert refused(pack({"readme.txt": b"x", "a.vrt": b"<VRTDataset/>"}), tmp_path) == "archive.empty"
    assert refused(pack({}), tmp_path) == "archive.empty"


# --- bombs ------------------------------------------------------------------------------------------------------------


def test_an_entry_packed_too_tightly(pack, tmp_path):
    assert refused(pack({"a.tif": b"II*\0" + bytes(30 * MB)}), tmp_path) == "archive.ratio"


def test_many_entries_packed_too_tightly_together(pack, tmp_path):
    entries = {f"{n}.tif": b"II*\0" + bytes(5 * MB) for n in range(8)}
    assert refused(pack(entries), tmp_path) == "archive.ratio"


def test_too_many_entries(pack, tif, tmp_path):
    limits = replace(LIMITS, entries=10)
    assert refused(pack({f"{n}.txt": b"" for n in range(11)}), tmp_path, limits) == "archive.entries"


def test_a_directory_that_says_it_is_huge_is_not_read(pack, tif, tmp_path):
    archive = pack({"a.tif": tif})
    raw = bytearray(archive.read_bytes())
    at = raw.rindex(b"PK\5\6")
    raw[at + 12 : at + 16] = struct.pack("<I", 0xFFFFFFF0)
    archive.write_bytes(raw)
    assert refused(archive, tmp_path) == "archive.entries"


@pytest.mark.parametrize(("limits", "code"), [
    (Limits(archive_mb=0.0001), "archive.size"), (Limits(file_mb=0.01), "archive.size"),
    (Limits(total_mb=0.1), "archive.size"), (Limits(side=250), "image.size"), (Limits(pixels=1000), "image.size"),
    (Limits(bands=0), "image.size"),
])  # fmt: skip
def test_sizes(pack, tmp_path, limits, code):
    content = image(tmp_path / "x.tif", (200, 300)).read_bytes()
    archive = pack({"a.tif": content, "b.tif": content})
    assert refused(archive, tmp_path, limits) == code
    unpack(archive, tmp_path / "fine", replace(Limits(), side=300, pixels=60_000, bands=1))


def test_entries_that_share_their_bytes(pack, tif, tmp_path):
    """Two names for one piece of the archive, as the flat bombs have thousands."""
    archive = pack({"a.tif": tif, "b.tif": tif})
    raw = bytearray(archive.read_bytes())
    second = raw.rindex(b"PK\1\2")
    raw[second + 42 : second + 46] = struct.pack("<I", 0)
    archive.write_bytes(raw)
    assert refused(archive, tmp_path) == "archive.overlap"


def test_an_entry_longer_than_it_says_is_cut_and_told(pack, tmp_path):
    archive = pack({"a.tif": b"II*\0" + os.urandom(5000)})
    raw = bytearray(archive.read_bytes())
    for mark, at in ((b"PK\3\4", 22), (b"PK\1\2", 24)):
        start = raw.index(mark) + at
        raw[start : start + 4] = struct.pack("<I", 100)
    archive.write_bytes(raw)
    assert refused(archive, tmp_path) == "archive.unreadable"


def test_an_image_that_says_it_is_absurdly_large(tmp_path):
    image(tmp_path / "a.tif", (400_000, 400_000), None, sparse_ok=True, tiled=True)
    assert (tmp_path / "a.tif").stat().st_size < 400 * MB
    with pytest.raises(ImageryError) as caught:
        check_image(tmp_path / "a.tif")
    assert caught.value.problem.code == "image.size"
    assert "400000 x 400000" in caught.value.detail


# --- damage -----------------------------------------------------------------------------------------------------------


def test_what_is_no_zip(tmp_path, tif):
    for content in (b"", b"hello", tif, b"PK\5\6"):
        (tmp_path / "images.zip").write_bytes(content)
        assert refused(tmp_path / "images.zip", tmp_path) == "archive.unreadable"


@given(st.data())
def test_damage_is_told_or_harmless(data):
    raw = bytearray(small_archive())
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw
    with tempfile.TemporaryDirectory() as folder:
        archive, out = Path(folder, "x.zip"), Path(folder, "out")
        archive.write_bytes(raw)
        try:
            unpack(archive, out)
        except ImageryError:
            assert not out.exists()
        assert {p.name for p in Path(folder).iterdir()} <= {"x.zip", "out"}


@cache
def small_archive():
    packed = io.BytesIO()
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        content = image(Path(folder, "a.tif"), (8, 8)).read_bytes()
        file.writestr("a.tif", content)
        file.writestr("b/c.tif", content)
    return packed.getvalue()


def test_a_damaged_image_in_a_sound_archive(pack, tif, tmp_path):
    assert refused(pack({"a.tif": tif[:60]}), tmp_path) == "imagery.unreadable"


def test_a_full_disk_leaves_nothing(pack, tmp_path):
    image(tmp_path / "x.tif", (400, 400))
    archive = pack({"a.tif": (tmp_path / "x.tif").read_bytes()})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        code = refused(archive, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert code == "output.full"


def test_a_locked_disk_is_told(pack, tif):
    with pytest.raises(ImageryError) as caught:
        unpacked(pack({"a.tif": tif}), Unpacking(Path("/proc/no/room")))
    assert caught.value.problem.code == "archive.failed"


# --- as input ---------------------------------------------------------------------------------------------------------


def test_an_archive_is_an_input(go, scene, tmp_path, monkeypatch):
    """The bands of a scene as files of a zip give the pixels of the scene."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with rasterio.open(scene) as source, zipfile.ZipFile(tmp_path / "bands.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for index, name in enumerate(source.descriptions, start=1):
            path = tmp_path / f"scene_{name}.tif"
            with rasterio.open(path, "w", **(source.profile | {"count": 1})) as band:
                band.write(source.read(index), 1)
                band.descriptions, band.scales, band.offsets = (name,), (1e-4,), (0.0,)
            file.write(path, f"inner/{path.name}")
            path.unlink()
    whole, zipped = tmp_path / "whole", tmp_path / "zipped"
    go(whole, chunk=512)
    go(zipped, inputs=(str(tmp_path / "bands.zip"),), chunk=512)
    assert (whole / "result.tif").read_bytes() == (zipped / "result.tif").read_bytes()


def test_a_hostile_archive_is_no_input(go, pack, tif, tmp_path):
    with pytest.raises(ImageryError) as caught:
        go(tmp_path / "out", inputs=(str(pack([(named("../x.tif"), tif)])),))
    assert caught.value.problem.code == "archive.path"
    assert not (tmp_path / "out").exists()
