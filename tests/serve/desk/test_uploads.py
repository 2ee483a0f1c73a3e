"""Uploads: bytes of strangers, streamed, bounded, looked at; then named in a job."""

import errno
import io
import stat
import threading
import zipfile
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from serve.desk import upload_images as looking
from serve.desk.asking import Asking
from serve.desk.inputs import settled
from swathe.errors import ConflictError, ForbiddenError, ImageryError, LimitError, NotFoundError
from swathe.job import JobState
from swathe.project import UploadState
from tests.pipelines.tiffs import write_claim


@pytest.fixture
def front(hall):
    return hall


def pieces(content, size=4096):
    return (content[i : i + size] for i in range(0, len(content), size))


def brought(front, owner, name, content, **more):
    begun = front.desk.uploads.begin(owner, name, **more)
    return front.desk.uploads.write(owner, begun.id, pieces(content))


def zipped(**files):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return packed.getvalue()


def kept(front, upload):
    folder = front.desk.settings.service_dir / "uploads" / upload.id
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_an_image_is_ready_with_its_facts(front, image):
    owner, content = front.person(), image().read_bytes()
    found = brought(front, owner, "../Scene 1.TIF", content)
    assert (found.state, found.size, found.sha256) == (UploadState.READY, len(content), sha256(content).hexdigest())
    assert found.name == "../Scene 1.TIF"
    (facts,) = found.facts["images"]
    assert (facts["crs"], list(facts["shape"]), facts["bands"], facts["dtype"]) == ("EPSG:32633", [64, 96], 2, "uint16")
    assert list(facts["bounds"]) == [500_000, 5_599_360, 500_960, 5_600_000]
    assert Path(front.desk.uploads.images(owner, found.id)[0]).read_bytes() == content
    assert kept(front, found) == ["Scene_1.tif"]


def test_an_archive_becomes_its_images(front, image):
    owner = front.person()
    one, two = image("T33_B03.tif", ("green",)).read_bytes(), image("T33_B08.tif", ("nir",)).read_bytes()
    inside = {"a/T33_B03.tif": one, "a/T33_B08.tif": two, "b/T33_B08.tif": two, "a/readme.txt": b"x"}
    found = brought(front, owner, "scene.zip", zipped(**inside))
    assert found.state is UploadState.READY
    assert kept(front, found) == ["0_T33_B08.tif", "T33_B03.tif", "T33_B08.tif"]
    assert [Path(href).name for href in front.desk.uploads.images(owner, found.id)] == found.facts["files"]


def test_an_upload_is_named_in_a_job(front, image):
    owner = front.person()
    found = brought(front, owner, "scene.tif", image().read_bytes())
    asking = Asking(model="water-ndwi", inputs=(f"2024-07-25=upload://{found.id}",))
    recipe = settled(asking.to_recipe(), front.desk.settings, front.desk.store, owner).recipe
    assert recipe.inputs == (f"2024-07-25={front.desk.uploads.images(owner, found.id)[0]}",)


def test_one_image_of_an_upload_is_named_in_a_job(front, image):
    owner = front.person()
    one, two = image("one.tif").read_bytes(), image("two.tif").read_bytes()
    found = brought(front, owner, "both.zip", zipped(**{"one.tif": one, "two.tif": two}))

    def inputs(text):
        asking = Asking(model="water-ndwi", inputs=(text,))
        return settled(asking.to_recipe(), front.desk.settings, front.desk.store, owner)

    folder = inputs(f"upload://{found.id}").recipe.inputs[0]
    named = inputs(f"2024-07-25=upload://{found.id}/two.tif")
    assert named.recipe.inputs == (f"2024-07-25={folder}/two.tif",)
    assert named.names == {f"{folder}/two.tif": f"upload://{found.id}/two.tif"}
    for name in ("three.tif", "../two.tif", "..", "two.tif/"):
        with pytest.raises(ImageryError, match="holds no image") as caught:
            inputs(f"upload://{found.id}/{name}")
        assert (caught.value.problem.code, "one.tif" in caught.value.hint) == ("imagery.missing", True)


def test_images_behind_a_link_one_by_one(front, image):
    owner, other = front.person(), front.person()
    data = image().read_bytes()
    several = brought(front, owner, "both.zip", zipped(**{"a.tif": data, "b.tif": data}))
    single = brought(front, owner, "scene.tif", data)
    root, links = "https://maps.example.org", front.desk.links
    found = front.desk.uploads.one_by_one(owner, root + links.make(owner, "upload", several.id).path)
    assert found == (f"upload://{several.id}/a.tif", f"upload://{several.id}/b.tif")
    for who, href in ((owner, links.make(owner, "upload", single.id).path), (owner, "/both.zip"),
                      (other, links.make(owner, "upload", several.id).path),
                      (owner, links.make(owner, "upload", several.id, method="PUT").path),
                      (owner, links.make(owner, "upload", several.id, valid=timedelta(seconds=-1)).path)):  # fmt: skip
        assert front.desk.uploads.one_by_one(who, root + href) == ()


def test_a_mask_is_an_upload_too_and_no_file_of_the_service(front, image):
    owner = front.person()
    found = brought(front, owner, "mask.tif", image().read_bytes())

    def masked(href):
        steps = {"mask": ["clouds"], "mask_files": [f"fmask={href}"]}
        asking = Asking.model_validate({"model": "m", "inputs": ["https://a.example/x.tif"], "postprocess": steps})
        return settled(asking.to_recipe(), front.desk.settings, front.desk.store, owner)

    given = masked(f"upload://{found.id}")
    path = front.desk.uploads.images(owner, found.id)[0]
    assert given.recipe.postprocess.masking.files[0].href == path
    assert given.names[path] == f"upload://{found.id}"
    with pytest.raises(ImageryError) as caught:
        masked("/etc/passwd")
    assert caught.value.problem.code == "url.local"


def hostile(image):
    good = image().read_bytes()
    tiles = write_claim(image().with_name("tiles.tif"), bands=40, side=2048, width=4096)
    link = zipfile.ZipInfo("a.tif")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    linked = io.BytesIO()
    with zipfile.ZipFile(linked, "w") as archive:
        archive.writestr(link, "/etc/passwd")
    return {
        "scene.tif": (b"", "image.content"), "a.tif": (b"GIF89a" * 9, "image.content"),
        "cut.tif": (good[:200], "imagery.unreadable"), "virtual.tif": (b"<VRTDataset/>", "image.content"),
        "notes.txt": (b"hello", "image.ending"), "out.zip": (zipped(**{"../../x.tif": good}), "archive.path"),
        "bomb.zip": (zipped(**{"a.tif": b"II*\0" + bytes(40_000_000)}), "archive.ratio"),
        "link.zip": (linked.getvalue(), "archive.link"), "none.zip": (zipped(a=b"x"), "archive.empty"),
        "broken.zip": (zipped(**{"a.tif": good})[:-30], "archive.unreadable"),
        "inner.zip": (zipped(**{"b.zip": zipped(a=b"x"), "a.tif": good}), "archive.nested"),
        "nowhere.tif": (image("nowhere.tif", crs=None).read_bytes(), "grid.no_crs"),
        "tiles.tif": (tiles.read_bytes(), "imagery.limits"),
    }  # fmt: skip


def test_hostile_files_are_refused_by_name_and_nothing_stays(front, image):
    owner = front.person()
    for name, (content, code) in hostile(image).items():
        found = brought(front, owner, name, content)
        assert (name, found.state, found.problem["code"]) == (name, UploadState.REFUSED, code)
        assert kept(front, found) == []
        assert str(front.desk.settings.data_dir) not in str(found.problem)
        assert "/tmp" not in str(found.problem)
        with pytest.raises(ConflictError):
            front.desk.uploads.images(owner, found.id)


def test_virtual_files_are_refused_by_their_name(front):
    with pytest.raises(ImageryError) as caught:
        front.desk.uploads.begin(front.person(), "scene.VRT")
    assert caught.value.problem.code == "imagery.virtual"


def test_a_stream_without_end_is_cut_off(limited):
    front, drawn = limited(max_upload_mb=1), []
    owner = front.person()
    begun = front.desk.uploads.begin(owner, "scene.tif")

    def endless():
        while True:
            drawn.append(1)
            yield b"II*\0" * 25_000

    with pytest.raises(LimitError, match=r"1\.1 MB or more, 1\.0 MB"):
        front.desk.uploads.write(owner, begun.id, endless())
    assert len(drawn) == 11
    assert front.desk.uploads.get(owner, begun.id).state is UploadState.OPEN


def test_a_connection_that_breaks_leaves_it_open(front, image):
    owner, content = front.person(), image().read_bytes()
    begun = front.desk.uploads.begin(owner, "scene.tif")

    def broken():
        yield content[:1000]
        raise ConnectionError

    with pytest.raises(ConnectionError):
        front.desk.uploads.write(owner, begun.id, broken())
    assert front.desk.uploads.write(owner, begun.id, [content]).state is UploadState.READY
    with pytest.raises(ConflictError):
        front.desk.uploads.write(owner, begun.id, [content])


def test_of_several_writers_one_counts_and_its_bytes_are_kept(front, image):
    owner = front.person()
    contents = [image(f"{n}.tif", side=(64 + n, 96)).read_bytes() for n in range(4)]
    begun, ends = front.desk.uploads.begin(owner, "scene.tif"), []

    def write(content):
        try:
            ends.append(front.desk.uploads.write(owner, begun.id, [content]).state)
        except ConflictError as error:
            ends.append(error.problem.code)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ends) == ["ready", "upload.state", "upload.state", "upload.state"]
    found = front.desk.uploads.get(owner, begun.id)
    assert sha256(Path(front.desk.uploads.images(owner, begun.id)[0]).read_bytes()).hexdigest() == found.sha256
    assert kept(front, found) == ["scene.tif"]


def test_storage_is_bounded_and_both_numbers_are_told(front, image):
    content = image("large.tif", side=(800, 800)).read_bytes()
    owner = front.person(storage_mb=1)
    begun = front.desk.uploads.begin(owner, "scene.tif")
    with pytest.raises(LimitError, match=r"2\.6 MB more, 1\.0 MB are allowed") as caught:
        front.desk.uploads.write(owner, begun.id, [content])
    assert caught.value.problem.code == "quota.storage"
    assert kept(front, begun) == []


def test_uploads_side_by_side_do_not_exceed_the_storage_together(front, image, monkeypatch):
    """While one is looked at, the other is settled and takes the room of both."""
    content = image("large.tif", side=(800, 800)).read_bytes()
    owner = front.person(storage_mb=4)
    first, second = (front.desk.uploads.begin(owner, "scene.tif") for _ in range(2))
    look, others = looking._images, [second]

    def meanwhile(*given):
        if others:
            front.desk.uploads.write(owner, others.pop().id, [content])
        return look(*given)

    monkeypatch.setattr(looking, "_images", meanwhile)
    with pytest.raises(LimitError, match=r"you keep 2\.6 MB and 2\.6 MB more, 4\.0 MB are allowed") as caught:
        front.desk.uploads.write(owner, first.id, [content])
    assert caught.value.problem.code == "quota.storage"
    assert (front.desk.uploads.get(owner, first.id).state, kept(front, first)) == (UploadState.OPEN, [])
    assert front.desk.uploads.get(owner, second.id).state is UploadState.READY


def test_refused_uploads_take_no_room(front, image):
    owner = front.person(storage_mb=4)
    refused = brought(front, owner, "scene.tif", b"GIF89a" * 600_000)
    assert (refused.state, refused.size) == (UploadState.REFUSED, 3_600_000)
    assert front.desk.usage.of(owner)[1].storage_mb == 0
    content = image("large.tif", side=(800, 800)).read_bytes()
    assert brought(front, owner, "scene.tif", content).state is UploadState.READY
    assert front.desk.usage.of(owner)[1].storage_mb == round(len(content) / 1e6, 3)


def test_so_many_uploads_may_await_their_bytes(limited, image):
    front = limited(open_uploads_per_user=2)
    owner, other = front.person(), front.person()
    first, second = (front.desk.uploads.begin(owner, "scene.tif") for _ in range(2))
    with pytest.raises(LimitError, match="you have 2 uploads that await their bytes, 2 are allowed") as caught:
        front.desk.uploads.begin(owner, "scene.tif")
    assert caught.value.problem.code == "limit.uploads"
    assert front.desk.uploads.begin(other, "scene.tif").state is UploadState.OPEN
    front.desk.uploads.write(owner, first.id, [image().read_bytes()])
    front.desk.uploads.begin(owner, "scene.tif")
    front.desk.uploads.drop(owner, second.id)
    front.desk.uploads.begin(owner, "scene.tif")


def test_what_is_settled_does_not_expire(front, image):
    owner = front.person()
    found = brought(front, owner, "scene.tif", image().read_bytes())
    with pytest.raises(ConflictError) as caught:
        front.desk.uploads.expire(found.id)
    assert caught.value.problem.code == "upload.state"
    assert front.desk.uploads.get(owner, found.id).state is UploadState.READY
    assert kept(front, found) == ["scene.tif"]


def test_whoever_writes_to_one_that_expires_finds_it_gone(front, image, monkeypatch):
    owner, look = front.person(), looking._images
    begun = front.desk.uploads.begin(owner, "scene.tif")

    def meanwhile(*given):
        front.desk.uploads.expire(begun.id)
        return look(*given)

    monkeypatch.setattr(looking, "_images", meanwhile)
    with pytest.raises(NotFoundError) as caught:
        front.desk.uploads.write(owner, begun.id, [image().read_bytes()])
    assert (caught.value.problem.code, kept(front, begun)) == ("upload.unknown", [])


def test_an_upload_goes_with_its_bytes_but_not_from_under_a_job(front, image):
    owner = front.person()
    found = brought(front, owner, "scene.tif", image().read_bytes())
    job = front.job(owner, request={"model": "water-ndwi", "inputs": [f"2024-01-01=upload://{found.id}"]})
    with pytest.raises(ConflictError, match="a job works on"):
        front.desk.uploads.drop(owner, found.id)
    front.desk.jobs.cancel(owner, job.id)
    assert front.desk.jobs.get(owner, job.id).state is JobState.CANCELLED
    front.desk.uploads.drop(owner, found.id)
    assert kept(front, found) == []
    with pytest.raises(NotFoundError):
        front.desk.uploads.get(owner, found.id)


@pytest.mark.parametrize("request_of", [
    lambda id_: {"inputs": [f"item://imagery/{id_}"]},
    lambda id_: {"inputs": [f"UPLOAD://{id_}"]},
    lambda id_: {"inputs": ["https://a.example/x.tif"], "postprocess": {"mask_files": [f"land=upload://{id_}"]}},
])  # fmt: skip
def test_however_a_job_names_an_upload_it_stays(front, image, request_of):
    """And whoever's job it is, among however many."""
    owner, other = front.person(), front.person()
    found = brought(front, owner, "scene.tif", image().read_bytes())
    front.job(other, request={"model": "water-ndwi", **request_of(found.id)})
    with pytest.raises(ConflictError, match="a job works on"):
        front.desk.uploads.drop(owner, found.id)


def test_an_upload_stays_as_long_as_a_batch_waits_to_use_it(front, image):
    """It was accepted with it, as a job is."""
    owner = front.person()
    found = brought(front, owner, "scene.tif", image().read_bytes())
    batch = front.desk.batches.submit(owner, [Asking(model="water-ndwi", inputs=(f"upload://{found.id}",))])
    with pytest.raises(ConflictError, match="a batch waits") as caught:
        front.desk.uploads.drop(owner, found.id)
    assert caught.value.problem.code == "upload.used"
    front.desk.batches.cancel(owner, batch.id)
    front.desk.uploads.drop(owner, found.id)


def test_a_shared_project_shows_uploads_but_its_owner_alone_fills_it(front, image):
    owner, other = front.person(), front.person()
    project = front.desk.projects.add(owner, "maps", shared=True)
    found = brought(front, owner, "scene.tif", image().read_bytes(), project=project.id)
    assert front.desk.uploads.get(other, found.id).id == found.id
    with pytest.raises(ForbiddenError):
        front.desk.uploads.drop(other, found.id)
    with pytest.raises(ForbiddenError):
        front.desk.uploads.begin(other, "x.tif", project=project.id)
    front.desk.projects.change(owner, project.id, shared=False)
    with pytest.raises(NotFoundError):
        front.desk.uploads.get(other, found.id)


def test_uploads_pass_through_the_services_own_disk_and_are_written_once(front, image, monkeypatch, tmp_path):
    """The system's folder for temporary files may be memory."""
    usual = tmp_path / "tmp"
    usual.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(usual))
    scratch, begun = front.desk.settings.service_dir / "scratch", front.person()
    content, seen = image().read_bytes(), []

    def watched():
        yield content[:1000]
        seen.extend(path.stat().st_ino for path in scratch.rglob("scene.tif"))
        assert not list(usual.rglob("scene.tif"))
        yield content[1000:]

    upload = front.desk.uploads.begin(begun, "scene.tif")
    found = front.desk.uploads.write(begun, upload.id, watched())
    path = Path(front.desk.uploads.images(begun, found.id)[0])
    assert path.read_bytes() == content
    assert [path.stat().st_ino] == seen  # the same file, renamed
    packed = brought(front, begun, "scene.zip", zipped(**{"a/one.tif": content, "b/one.tif": content}))
    assert (kept(front, packed), packed.size) == (["0_one.tif", "one.tif"], 2 * len(content))
    assert not list(usual.iterdir())
    assert not list(scratch.iterdir())


def test_where_results_lie_on_another_disk_uploads_are_copied(front, image, monkeypatch):
    replace = Path.replace

    def elsewhere(self, target):
        if "scratch" in self.parts and "scratch" not in Path(target).parts:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", elsewhere)
    owner, content = front.person(), image().read_bytes()
    found = brought(front, owner, "scene.tif", content)
    assert Path(front.desk.uploads.images(owner, found.id)[0]).read_bytes() == content
    assert not list((front.desk.settings.service_dir / "scratch").iterdir())
