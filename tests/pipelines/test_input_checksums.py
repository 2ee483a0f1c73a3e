"""Files that were read, told by content; those of the network by their version, and no secret with them."""

import hashlib

from pipelines.input_checksums import files_of
from swathe.imagery import Acquisition, BandSource, Imagery


def imagery(*hrefs, stamps=()):
    bands = tuple(BandSource(name=f"b{i}", href=href, index=1, dtype="uint16", nodata=None, scale=1.0, offset=0.0)
                  for i, href in enumerate(hrefs))  # fmt: skip
    return Imagery((Acquisition(None, bands),), "EPSG:32633", (10.0, 0, 0, 0, -10.0, 0), (1, 1), "tags", "", (1, 1), "",
                   stamps)  # fmt: skip


def test_each_file_once_by_its_content(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"first")
    (tmp_path / "b.tif").write_bytes(b"second")
    a, b = str(tmp_path / "a.tif"), str(tmp_path / "b.tif")
    assert files_of(imagery(b, a, a)) == [
        {"file": a, "sha256": hashlib.sha256(b"first").hexdigest()},
        {"file": b, "sha256": hashlib.sha256(b"second").hexdigest()},
    ]


def test_others_by_their_version_where_one_is_known(tmp_path):
    signed, unknown, gone = "https://e.org/a.tif?sig=secret", "s3://bucket/b.tif", str(tmp_path / "gone.tif")
    told = files_of(imagery(signed, unknown, gone, stamps=((signed, '12 "etag"'), (gone, "12 34"))))
    assert told == [
        {"file": gone, "version": "12 34"},
        {"file": "https://e.org/a.tif", "version": '12 "etag"'},
        {"file": "s3://bucket/b.tif"},
    ]
