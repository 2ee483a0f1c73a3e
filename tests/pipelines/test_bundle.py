"""Archives that are nowhere, read by Python's own zipfile as if they were somewhere."""

from __future__ import annotations

import io
import itertools
import random
import zipfile
import zlib
from datetime import UTC, datetime, timedelta, timezone

import pytest

from pipelines.bundle import BlobSource, Bundle, Member, TextSource, crc32_of
from pipelines.store.blobs import open_blobs
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server

AT = datetime(2026, 11, 28, 20, 30, 12, tzinfo=UTC)
GIB = 1 << 30


class Opened(io.RawIOBase):
    """A bundle as a file that can be sought in; counts what is read."""

    def __init__(self, bundle):
        self.bundle, self.at, self.taken = bundle, 0, 0

    def seekable(self):
        return True

    def readable(self):
        return True

    def tell(self):
        return self.at

    def seek(self, offset, whence=io.SEEK_SET):
        self.at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.at, io.SEEK_END: self.bundle.size}[whence]
        return self.at

    def readinto(self, buffer):
        piece = b"".join(self.bundle.read(self.at, self.at + len(buffer)))
        buffer[: len(piece)] = piece
        self.at += len(piece)
        self.taken += len(piece)
        return len(piece)


def member(name, content, at=AT):
    return Member(name, len(content), zlib.crc32(content), at, TextSource(content))


def lying(path):
    return BlobSource(open_blobs(path.parent), path.name)


def whole(bundle):
    return b"".join(bundle.read(0, bundle.size))


CONTENTS = {"result.tif": bytes(range(256)) * 40, "empty.json": b"", "a/b/Rhône ∆.txt": b"text\n", "x": b"x"}


def test_it_is_a_zip_with_everything_in_it():
    bundle = Bundle([member(name, content) for name, content in CONTENTS.items()])
    text = whole(bundle)
    assert len(text) == bundle.size
    with zipfile.ZipFile(io.BytesIO(text)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(CONTENTS)
        for info in archive.infolist():
            assert archive.read(info) == CONTENTS[info.filename]
            assert (info.compress_type, info.date_time) == (zipfile.ZIP_STORED, (2026, 11, 28, 20, 30, 12))
            assert info.external_attr >> 16 == 0o100644


def test_any_part_is_that_of_the_whole():
    bundle = Bundle([member(name, content) for name, content in CONTENTS.items()])
    text, chance = whole(bundle), random.Random(4)
    cuts = [(chance.randrange(len(text)), chance.randrange(len(text) + 9)) for _ in range(400)]
    edges = sorted({*bundle._starts, len(text)})
    cuts += [(a + d, b + e) for a, b in itertools.pairwise(edges) for d in (-1, 0, 1) for e in (-1, 0, 1) if a + d >= 0]
    for start, stop in cuts:
        assert b"".join(bundle.read(start, stop)) == text[start:stop]


def test_the_same_members_are_the_same_bytes():
    one, two = (Bundle([member("a", b"1"), member("b", b"2")]) for _ in range(2))
    assert (whole(one), one.tag) == (whole(two), two.tag)
    paris = AT.astimezone(timezone(timedelta(hours=1)))
    assert whole(Bundle([member("a", b"1", paris), member("b", b"2")])) == whole(one)
    others = [[member("a", b"1")], [member("b", b"2"), member("a", b"1")], [member("a", b"1"), member("b", b"3")],
              [member("a", b"1"), member("c", b"2")]]  # fmt: skip
    assert len({one.tag, *(Bundle(members).tag for members in others)}) == 5


@pytest.mark.parametrize("at", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2500, 6, 1, tzinfo=UTC)])
def test_times_that_dos_has_not_are_told_as_near_as_may_be(at):
    with zipfile.ZipFile(io.BytesIO(whole(Bundle([member("x", b"x", at)])))) as archive:
        assert archive.infolist()[0].date_time[0] in {1980, 2107}


@pytest.mark.parametrize("name", ["", "/x", "a//b", "../x", "a/../b", "a\\b", "x\n", "x\0", "c:/x", "./x", "a/"])
def test_names_that_lead_away_are_refused(name):
    with pytest.raises(ValueError, match="cannot be the name"):
        Bundle([member(name, b"x")])


def test_a_name_stands_once():
    with pytest.raises(ValueError, match="twice"):
        Bundle([member("x", b"1"), member("x", b"2")])


def test_files_are_read_where_they_lie(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(random.Random(1).randbytes(100_000))
    source = lying(path)
    found = Member("a.bin", 100_000, crc32_of(source, 100_000), AT, source)
    opened = Opened(Bundle([member("first", b"1" * 50_000), found]))
    with zipfile.ZipFile(opened) as archive:
        assert archive.testzip() is None
        before = opened.taken
        with archive.open("a.bin") as file:
            assert file.read(10) == path.read_bytes()[:10]
        assert opened.taken - before < 10_000
    path.write_bytes(b"cut short")
    with pytest.raises(FileNotFoundError):
        whole(Bundle([found]))


def test_objects_of_a_store_are_read_where_they_lie(s3_server, monkeypatch):
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    from serve.settings import Settings

    blobs, content = open_blobs(s3_server.prefix(), Settings().store), random.Random(2).randbytes(9 << 20)
    blobs.put("a.bin", content)
    source = BlobSource(blobs, "a.bin")
    found = Member("a.bin", len(content), crc32_of(source, len(content)), AT, source)
    with zipfile.ZipFile(Opened(Bundle([found, member("log", b"x")]))) as archive:
        assert archive.testzip() is None
        assert archive.read("a.bin") == content


def sparse(folder, name, size):
    """A file of zeros with a mark at each end, that takes no room."""
    path = folder / name
    with path.open("wb") as file:
        file.write(b"begin")
        file.seek(size - 3)
        file.write(b"end")
    assert path.stat().st_blocks * 512 < 1 << 20
    return path


@pytest.mark.parametrize("size", [0xFFFFFFFE, 0xFFFFFFFF, 5 * GIB])
def test_more_than_32_bits(tmp_path, size):
    large = Member("large.tif", size, 0, AT, lying(sparse(tmp_path, "large", size)))
    opened = Opened(Bundle([member("first.txt", b"first"), large, member("last.txt", b"last")]))
    with zipfile.ZipFile(opened) as archive:
        assert [info.file_size for info in archive.infolist()] == [5, size, 4]
        assert (archive.read("last.txt"), archive.read("first.txt")) == (b"last", b"first")
        info = archive.getinfo("large.tif")
        with archive.open(info) as file:
            assert file.read(5) == b"begin"
    start = info.header_offset + 30 + len("large.tif") + (20 if size >= 0xFFFFFFFF else 0)
    assert b"".join(opened.bundle.read(start + size - 3, start + size)) == b"end"
    assert opened.taken < 1 << 20


@pytest.mark.slow
def test_more_than_32_bits_are_whole(tmp_path):
    source = lying(sparse(tmp_path, "large", 5 * GIB))
    large = Member("large.tif", 5 * GIB, crc32_of(source, 5 * GIB), AT, source)
    with zipfile.ZipFile(Opened(Bundle([large, member("last.txt", b"last")]))) as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("count", [0, 0xFFFF])
def test_many_members(count):
    bundle = Bundle([member(f"m{n}", b"%d" % n) for n in range(count)])
    with zipfile.ZipFile(io.BytesIO(whole(bundle))) as archive:
        assert len(archive.namelist()) == count
        if count:
            assert archive.read(f"m{count - 1}") == b"%d" % (count - 1)
