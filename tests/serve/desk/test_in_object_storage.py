"""The desk where results and uploads lie in a real S3: streamed, signed, named in jobs, removed."""

import urllib.request
from dataclasses import replace

import pytest

from pipelines.layers.draw import draw
from pipelines.layers.files import Files, RasterFile
from pipelines.layers.frame import Frame
from pipelines.store.folder import FolderBlobs
from serve.desk import uploads as at_the_desk
from serve.desk.adoption import About
from serve.desk.asking import Asking
from serve.desk.uploads import ARRIVING
from serve.store import users
from swathe.errors import ConflictError, ImageryError, InputError, LimitError, NotFoundError, OutputError, StoreError
from swathe.job import JobState
from swathe.project import UploadState
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server
from tests.serve.api.results import made
from tests.serve.desk.test_adoption import CONFIG


@pytest.fixture
def front(front_of, s3_server, monkeypatch):
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return front_of(results=s3_server.prefix())


def names(front, prefix):
    return sorted(blob.name.rpartition("/")[2] for blob in front.desk.settings.blobs(prefix).list())


def test_an_upload_is_kept_there_and_read_by_a_job(front, image):
    owner, content = front.person(), image().read_bytes()
    begun = front.desk.uploads.begin(owner, "scene.tif")
    found = front.desk.uploads.write(owner, begun.id, [content])
    assert (found.state, names(front, f"uploads/{begun.id}")) == (UploadState.READY, ["scene.tif"])
    job = front.desk.jobs.submit(owner, Asking(model="water-ndwi", inputs=(f"upload://{begun.id}",)))
    assert (job.state, job.cost["pixels"]) == (JobState.QUEUED, 64 * 96)
    plain = f"{front.desk.settings.place}/uploads/{begun.id}/{found.facts['room']}/scene.tif"
    assert front.desk.uploads.images(owner, begun.id) == [plain]
    bucket = plain.removeprefix("s3://").partition("/")[0]
    for address in (plain, plain.replace("s3://", "S3://"), plain.replace(bucket, bucket.upper(), 1)):
        with pytest.raises(ImageryError, match="belongs to the service"):
            front.desk.jobs.submit(owner, Asking(model="water-ndwi", inputs=(address,)))
    front.desk.jobs.cancel(owner, job.id)
    front.desk.uploads.drop(owner, begun.id)
    assert names(front, f"uploads/{begun.id}") == []


def test_imagery_is_registered_where_it_lies(front, image):
    """Its header is read from there, and nothing of it is fetched."""
    owner, content = front.person(), image().read_bytes()
    begun = front.desk.uploads.begin(owner, "scene_20240725.tif")
    front.desk.uploads.write(owner, begun.id, [content])
    (item,) = front.desk.catalogue.register(owner, begun.id, title="Lake")
    (href,) = front.desk.uploads.images(owner, begun.id)
    assert (item["assets"]["image"]["href"], item["properties"]["proj:shape"]) == (href, [64, 96])
    assert item["properties"]["datetime"].startswith("2024-07-25")
    job = front.desk.jobs.submit(owner, Asking(model="water-ndwi", inputs=(f"item://imagery/{item['id']}",)))
    assert job.cost["pixels"] == 64 * 96
    front.desk.jobs.cancel(owner, job.id)
    undated = front.desk.uploads.begin(owner, "scene.tif")
    front.desk.uploads.write(owner, undated.id, [content])
    with pytest.raises(InputError, match="nothing tells when scene"):
        front.desk.catalogue.register(owner, undated.id)
    assert not (front.desk.settings.service_dir / "fetched").exists()


def test_a_client_writes_by_itself_to_a_signed_address(front, image):
    owner, content = front.person(), image().read_bytes()
    begun = front.desk.uploads.begin(owner, "scene.tif")
    with pytest.raises(ConflictError, match="nothing has arrived"):
        front.desk.uploads.arrived(owner, begun.id)
    address = front.desk.uploads.address(owner, begun.id)
    urllib.request.urlopen(urllib.request.Request(address, content, method="PUT"), timeout=20).close()
    found = front.desk.uploads.arrived(owner, begun.id)
    assert (found.state, found.size) == (UploadState.READY, len(content))
    assert names(front, f"uploads/{begun.id}") == ["scene.tif"]


def test_what_arrives_is_bounded_and_looked_at(front_of, front, image, tmp_path):
    (tmp_path / "limits.yaml").write_text("max_upload_mb: 0.01\n")
    small = front_of(results=front.desk.settings.results, service_config=tmp_path / "limits.yaml")
    owner = small.person()
    for content, refusal in ((image().read_bytes(), LimitError), (b"<VRTDataset/>", None)):
        begun = small.desk.uploads.begin(owner, "scene.tif")
        address = small.desk.uploads.address(owner, begun.id)
        urllib.request.urlopen(urllib.request.Request(address, content, method="PUT"), timeout=20).close()
        if refusal is None:
            assert small.desk.uploads.arrived(owner, begun.id).problem["code"] == "image.content"
        else:
            with pytest.raises(refusal):
                small.desk.uploads.arrived(owner, begun.id)
        assert names(small, f"uploads/{begun.id}") == []


def sent(front, owner, content):
    """An upload whose bytes were written to its signed address."""
    begun = front.desk.uploads.begin(owner, "scene.tif")
    address = front.desk.uploads.address(owner, begun.id)
    urllib.request.urlopen(urllib.request.Request(address, content, method="PUT"), timeout=20).close()
    return begun


@pytest.mark.parametrize("trouble", [
    OutputError("the disk is full", code="output.full"), StoreError("gone", code="store.unavailable"),
])  # fmt: skip
def test_what_arrived_survives_trouble_that_passes(front, image, monkeypatch, trouble):
    """10 GB are not to be sent again because a disk was full for a moment."""
    owner, content, left = front.person(), image().read_bytes(), [trouble]
    look = at_the_desk.looked_at

    def meets(*given):
        if left:
            raise left.pop()
        return look(*given)

    monkeypatch.setattr(at_the_desk, "looked_at", meets)
    begun = sent(front, owner, content)
    with pytest.raises(type(trouble)):
        front.desk.uploads.arrived(owner, begun.id)
    assert names(front, f"uploads/{begun.id}") == [ARRIVING]
    assert front.desk.uploads.arrived(owner, begun.id).state is UploadState.READY
    assert names(front, f"uploads/{begun.id}") == ["scene.tif"]


def test_what_arrived_waits_for_room_in_the_quota(front, image):
    owner = front.person(storage_mb=0.001)
    begun = sent(front, owner, image().read_bytes())
    with pytest.raises(LimitError) as caught:
        front.desk.uploads.arrived(owner, begun.id)
    assert caught.value.problem.code == "quota.storage"
    with front.desk.store.begin() as c:
        users.change(c, owner.user.id, quota=replace(owner.user.quota, storage_mb=10))
    assert front.desk.uploads.arrived(owner, begun.id).state is UploadState.READY


def test_what_was_sent_and_never_settled_goes_with_its_upload(front, image):
    owner = front.person()
    begun = sent(front, owner, image().read_bytes())
    assert names(front, f"uploads/{begun.id}") == [ARRIVING]
    front.desk.uploads.expire(begun.id)
    assert names(front, f"uploads/{begun.id}") == []
    with pytest.raises(NotFoundError):
        front.desk.uploads.arrived(owner, begun.id)


def test_what_arrived_second_does_not_stay(front, image, monkeypatch):
    """While it is looked at, the same upload is written another way."""
    owner, content = front.person(), image().read_bytes()
    begun, settle = sent(front, owner, content), front.desk.uploads._settle
    others = [content]

    def after_another(*given):
        if others:
            front.desk.uploads.write(owner, begun.id, [others.pop()])
        return settle(*given)

    monkeypatch.setattr(front.desk.uploads, "_settle", after_another)
    with pytest.raises(ConflictError):
        front.desk.uploads.arrived(owner, begun.id)
    assert front.desk.uploads.get(owner, begun.id).state is UploadState.READY
    assert names(front, f"uploads/{begun.id}") == ["scene.tif"]


def test_results_are_opened_by_a_signed_address_and_go_with_their_job(front):
    owner = front.person()
    files = {"result.tif": b"II*\0result", "item.json": b'{"type": "Feature"}'}
    job = front.job(owner, JobState.DONE, result={"files": {name: len(content) for name, content in files.items()}})
    blobs = front.desk.settings.blobs(f"jobs/{job.id}")
    for name, content in files.items():
        blobs.put(name, content)
    blobs.put(".swathe/events.jsonl", b"{}")
    address = front.desk.jobs.open(owner, job.id, "result.tif")
    assert urllib.request.urlopen(address, timeout=20).read() == files["result.tif"]
    assert front.desk.jobs.item(owner, job.id) == {"type": "Feature"}
    front.desk.jobs.drop(owner, job.id)
    assert names(front, f"jobs/{job.id}") == []


def test_layers_are_drawn_from_there_page_by_page(front, tmp_path):
    (tmp_path / "here").mkdir()
    result, owner = made(tmp_path / "here"), front.person()
    job = front.job(owner, JobState.DONE, result={"files": {n: len(b) for n, b in result.files.items()}})
    blobs = front.desk.settings.blobs(f"jobs/{job.id}")
    for name, content in result.files.items():
        blobs.put(name, content)
    layer = front.desk.layers.get(owner, f"{job.id}-result")
    frame = Frame("EPSG:32633", layer.bounds, 900, 700)
    twice = [front.desk.layers.draw(layer, frame).rgba for _ in range(2)]  # then from pages that were kept
    here = draw(Files(), RasterFile(FolderBlobs(tmp_path / "here"), "result.tif", ""), layer, frame).rgba
    assert here[..., 3].any()
    assert all((found == here).all() for found in twice)
    assert front.desk.layers.read(layer, "EPSG:32633", (500_005.0, 5_593_005.0)).name
    blobs.delete(["result.tif"])
    with pytest.raises(NotFoundError, match="not there any more"):
        front.desk.layers.draw(replace(layer, version="other"), frame)


def test_a_network_s_config_is_not_read_where_others_things_are_kept(front):
    """The address is a stranger's, the credentials that open it are the service's."""
    owner, place = front.person(), front.desk.settings.place
    config = CONFIG.format(task="SemanticSegmentationTask", mean=0.1, more="")
    front.desk.settings.blobs("jobs/j1").put("config.yaml", config.encode())
    weights = front.desk.uploads.begin(owner, "w.ckpt")
    front.desk.uploads.write(owner, weights.id, [b"numbers"])
    with pytest.raises(ImageryError, match="belongs to the service"):
        front.desk.adoption.adopt(owner, About("their-net", "n"), f"{place}/jobs/j1/config.yaml",
                                  f"upload://{weights.id}")  # fmt: skip
    mine = front.desk.uploads.begin(owner, "c.yaml")
    front.desk.uploads.write(owner, mine.id, [config.encode()])
    own = front.desk.adoption.adopt(owner, About("own-net", "n"), f"upload://{mine.id}", f"upload://{weights.id}")
    assert own.card.weights.uri.startswith(place)
