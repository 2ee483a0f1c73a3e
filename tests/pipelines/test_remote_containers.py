"""Archives at addresses and folders of S3 as inputs: the pixels of the files, once over the network, nothing left."""

import zipfile

import numpy as np
import pytest

from pipelines.imagery.archive import Limits, Unpacking
from pipelines.imagery.gdal import Access, Retry
from pipelines.imagery.inspect import Declared, inspect, parse_input
from pipelines.imagery.read import Reader
from pipelines.imagery.remote_containers import RemoteContainers
from pipelines.imagery.remote_files import RemoteFiles
from pipelines.remote import listing
from pipelines.remote.address import Stored
from pipelines.remote.network import Network
from swathe.card import Input
from swathe.errors import ImageryError, ReadError, SwatheError
from swathe.recipe import Radiometry
from swathe.window import Window
from tests.pipelines.fault_server import Always, FaultServer, First, NoRange, Status, Truncate
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server
from tests.pipelines.test_read_s3 import network_of
from tests.pipelines.tiffs import write_tif

BANDS = ("red", "green")
ACCESS = Access(Retry(attempts=4, base_s=0.01, timeout_s=5))
HOME = Network(allow_private=True)


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    with FaultServer(folder) as server:
        yield server


@pytest.fixture
def room(tmp_path):
    return tmp_path / "room"


@pytest.fixture
def scene():
    return {name: np.random.default_rng(n).integers(1, 30_000, (1, 300, 400)).astype("uint16")
            for n, name in enumerate(BANDS)}  # fmt: skip


@pytest.fixture
def files(tmp_path, scene):
    return [write_tif(tmp_path / f"scene_{name}.tif", image) for name, image in scene.items()]


def packed(target, files):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as file:
        for path in files:
            file.write(path, f"inner/{path.name}")
    return target


def look(href, network=HOME, unpacking=None):
    declared = Declared((), Radiometry((), 1.0, 0.0), {})
    return inspect([parse_input(href)], Input(bands=BANDS), declared, ACCESS, unpacking or Unpacking(), network)


def pixels(imagery, network=None):
    with Reader(imagery, ACCESS, network) as reader:
        return reader.read(Window(0, 0, *imagery.shape)).data[0]


def left(room):
    return sorted(path.name for path in room.rglob("*")) if room.exists() else []


def test_an_archive_at_an_address_is_fetched_once_and_gives_the_pixels_of_its_files(served, files, scene, room):
    packed(served.folder / "bands.zip", files)
    unpacking = Unpacking(room)
    imagery = look(f"{served.url('bands.zip')}?token=secret", unpacking=unpacking)
    np.testing.assert_array_equal(pixels(imagery), np.concatenate([scene[name] for name in BANDS]))
    asked = len(served.requests)
    assert asked >= 2
    assert look(f"{served.url('bands.zip')}?token=secret", unpacking=unpacking) == imagery
    assert len(served.requests) == asked + 1
    assert "secret" not in repr(imagery)
    assert "secret" not in "".join(left(room))
    assert not [name for name in left(room) if "partial" in name]


def test_an_archive_is_known_by_its_first_bytes_where_its_address_tells_nothing(served, files, scene, room):
    packed(served.folder / "download", files)
    unpacking, href = Unpacking(room), f"{served.url('download')}?id=4&X-Amz-Signature="
    imagery = look(f"{href}secret", unpacking=unpacking)
    np.testing.assert_array_equal(pixels(imagery), np.concatenate([scene[name] for name in BANDS]))
    asked = len(served.requests)
    assert look(f"{href}another", unpacking=unpacking) == imagery
    assert len(served.requests) == asked + 1
    assert "secret" not in "".join(left(room))


def test_images_are_left_to_others_and_not_asked_for_where_their_names_say_it(served, files, room):
    for name in ("scene", "scene.tif"):
        (served.folder / name).write_bytes(files[0].read_bytes())
    with RemoteFiles(HOME, ACCESS.retry) as remote:
        containers = RemoteContainers(remote, Unpacking(room))
        assert containers.images(f"{served.url('scene.tif')}?a=1") is None
        assert served.requests == []
        assert containers.images(served.url("scene")) is None
        assert len(served.requests) == 1
    assert left(room) == []


def test_what_is_no_archive_after_all_is_told_as_of_an_image(served, files, room):
    packed(served.folder / "scene.tif", files)
    (served.folder / "page").write_bytes(b"<html>sign in</html>")
    cases = {"scene.tif": "imagery.unreadable", "page": "imagery.unreadable", "nothing": "imagery.missing"}
    hints = {}
    for name, code in cases.items():
        with pytest.raises(ImageryError) as caught:
            look(f"{served.url(name)}?X-Amz-Signature=secret", unpacking=Unpacking(room))
        assert (caught.value.problem.code, caught.value.field) == (code, "--input")
        assert "secret" not in caught.value.problem.line()
        hints[name] = caught.value.hint
    assert "ends in .zip" in hints["scene.tif"]
    assert left(room) == []


def test_it_is_fetched_anew_when_it_was_replaced(served, files, scene, room, tmp_path):
    packed(served.folder / "bands.zip", files)
    first = look(served.url("bands.zip"), unpacking=Unpacking(room))
    write_tif(tmp_path / "scene_red.tif", scene["red"] + 1)
    packed(served.folder / "bands.zip", files)
    second = look(served.url("bands.zip"), unpacking=Unpacking(room))
    assert first.fingerprint != second.fingerprint
    np.testing.assert_array_equal(pixels(second)[0], scene["red"][0] + 1)


@pytest.mark.parametrize("fault", [Status(503), Truncate(0.5)])
def test_what_passes_is_borne(served, files, scene, room, fault):
    packed(served.folder / "bands.zip", files)
    served.faults = First(fault, 2)
    imagery = look(served.url("bands.zip"), unpacking=Unpacking(room))
    np.testing.assert_array_equal(pixels(imagery)[0], scene["red"][0])


def test_what_stays_lost_leaves_nothing(served, files, room):
    big = packed(served.folder / "bands.zip", files)
    assert big.stat().st_size > 32 << 10
    served.faults = lambda request: Status(503) if request.start == 0 and request.stop > 32 << 10 else None
    with pytest.raises(ReadError) as caught:
        look(served.url("bands.zip"), unpacking=Unpacking(room))
    assert caught.value.problem.code == "read.lost"
    assert left(room) == []


@pytest.mark.parametrize(
    ("content", "limits", "code"),
    [
        (b"<html>sign in</html>" * 10_000, Limits(), "archive.unreadable"),
        (b"", Limits(), "archive.unreadable"),
        (None, Limits(archive_mb=0.1), "archive.size"),
        (None, Limits(file_mb=0.1), "archive.size"),
    ],
)  # fmt: skip
def test_what_is_refused_leaves_nothing(served, files, room, content, limits, code):
    path = packed(served.folder / "bands.zip", files)
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImageryError) as caught:
        look(served.url("bands.zip"), unpacking=Unpacking(room, limits))
    assert caught.value.problem.code == code
    assert "bands.zip" in caught.value.detail
    assert left(room) == []
    if limits.archive_mb < 1:
        assert max(request.stop for request in served.requests) <= 32 << 10


def test_a_server_without_ranges_is_told(served, files, room):
    packed(served.folder / "bands.zip", files)
    (served.folder / "big.zip").write_bytes((served.folder / "bands.zip").read_bytes() + bytes(2 << 20))
    served.faults = Always(NoRange())
    with pytest.raises(ImageryError) as caught:
        look(served.url("big.zip"), unpacking=Unpacking(room))
    assert caught.value.problem.code == "imagery.no_ranges"


def test_a_full_room_takes_no_further_archive(served, files, room):
    packed(served.folder / "one.zip", files)
    packed(served.folder / "two.zip", files[::-1])
    bounded = Unpacking(room, room_mb=0.1)
    look(served.url("one.zip"), unpacking=bounded)
    with pytest.raises(ImageryError) as caught:
        look(served.url("two.zip"), unpacking=bounded)
    assert caught.value.problem.code == "archive.room"
    look(served.url("one.zip"), unpacking=bounded)


def test_a_room_that_cannot_be_made_is_told_by_the_archives_name(served, files, tmp_path):
    packed(served.folder / "bands.zip", files)
    (tmp_path / "file").write_text("")
    with pytest.raises(ImageryError) as caught:
        look(served.url("bands.zip"), unpacking=Unpacking(tmp_path / "file" / "room"))
    assert caught.value.problem.code == "archive.failed"
    assert caught.value.detail.startswith("bands.zip cannot be unpacked")


def test_private_addresses_stay_closed(served, files, room):
    packed(served.folder / "bands.zip", files)
    with pytest.raises(ImageryError) as caught:
        look(served.url("bands.zip"), Network(), Unpacking(room))
    assert caught.value.problem.code == "url.private"
    assert served.requests == []


# --- in S3 ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(s3_server, files):
    """An S3 folder with the bands, and things beside them."""
    prefix = s3_server.prefix()
    bucket, key = prefix.removeprefix("s3://").split("/", 1)
    client = s3_server.client()
    for path in files:
        client.put_object(Bucket=bucket, Key=f"{key}/a b+ü/{path.name}", Body=path.read_bytes())
    for name in ("a b+ü/readme.txt", "a b+ü/deeper/scene_red.tif", "a b+ü/"):
        client.put_object(Bucket=bucket, Key=f"{key}/{name}", Body=b"")
    return f"{prefix}/a b+ü/"


def test_a_folder_of_s3_is_listed(s3_server, folder, scene):
    network = network_of(s3_server)
    imagery = look(folder, network)
    assert {band.href for band in imagery.dates[0].bands} == {f"{folder}scene_{name}.tif" for name in BANDS}
    np.testing.assert_array_equal(pixels(imagery, network)[1], scene["green"][0])


def test_a_zip_in_s3(s3_server, files, scene, room, tmp_path):
    network, prefix = network_of(s3_server), s3_server.prefix()
    bucket, key = prefix.removeprefix("s3://").split("/", 1)
    body = packed(tmp_path / "bands.zip", files).read_bytes()
    s3_server.client().put_object(Bucket=bucket, Key=f"{key}/bands.zip", Body=body)
    np.testing.assert_array_equal(pixels(look(f"{prefix}/bands.zip", network, Unpacking(room)))[0], scene["red"][0])


def test_a_folder_of_many_pages(s3_server, files):
    prefix = s3_server.prefix()
    bucket, key = prefix.removeprefix("s3://").split("/", 1)
    client = s3_server.client()
    for n in range(1001):
        client.put_object(Bucket=bucket, Key=f"{key}/many/a{n:04}.txt", Body=b"")
    for path in files:
        client.put_object(Bucket=bucket, Key=f"{key}/many/{path.name}", Body=path.read_bytes())
    imagery = look(f"{prefix}/many/", network_of(s3_server))
    assert len(imagery.files) == 2


def test_folders_without_imagery_and_of_others(s3_server, folder):
    network = network_of(s3_server)
    bucket = folder.removeprefix("s3://").split("/")[0]
    cases = {
        f"{folder}nothing/": ("imagery.missing", network),
        folder: ("url.bucket", Network(buckets=("another",), s3_endpoint=s3_server.endpoint)),
        f"s3://{bucket}/": ("url.bucket", Network(buckets=(f"{bucket}/jobs",), s3_endpoint=s3_server.endpoint)),
        f"s3://{bucket}/jobs/": ("url.private", Network(closed=f"s3://{bucket}/jobs", s3_endpoint=s3_server.endpoint)),
        "s3:///": ("url.host", network), "s3://bucket/../a/": ("url.malformed", network),
        folder.rstrip("/") + "?list-type=2/": ("url.malformed", network),
    }  # fmt: skip
    for href, (code, reach) in cases.items():
        with pytest.raises(SwatheError) as caught:
            look(href, reach)
        assert caught.value.problem.code == code, href


@pytest.mark.parametrize(
    "document", [b"", b"<html>", b'{"a": 1}', b'<!DOCTYPE x [<!ENTITY a "b">]><ListBucketResult>&a;</ListBucketResult>']
)
def test_what_is_no_list_is_told(document):
    with pytest.raises(ReadError) as caught:
        listing.parsed(document, "s3://b/c/")
    assert caught.value.problem.code == "read.malformed"


def test_pages_follow_one_another():
    first = listing.first_page("s3://bucket/a b/", Network())
    assert first == Stored("bucket", "a b/", "delimiter=%2F&encoding-type=url&list-type=2&prefix=a%20b%2F")
    second = listing.page_after(first, "x/+=")
    assert second.query == f"continuation-token=x%2F%2B%3D&{first.query}"
    assert listing.page_after(second, "y").query == f"continuation-token=y&{first.query}"
    more = b"<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>"
    page = b"<R xmlns='http://s3'>%s<Contents><Key>a+b/c%%2B.tif</Key></Contents></R>" % more
    assert listing.parsed(page, "") == listing.Listed(("a b/c+.tif",), "t")
