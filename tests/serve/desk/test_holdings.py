"""The catalogue as callers see it: imagery of their own, results, and what is shared."""

from pathlib import Path

import pytest

from pipelines.catalogue.search import Search
from serve.desk.asking import Asking
from serve.store import catalogue
from swathe.errors import ConflictError, InputError, NotFoundError
from swathe.user import Role
from tests.serve.desk.test_uploads import brought, zipped


@pytest.fixture
def front(hall):
    return hall


def ids(front, caller):
    return {item["id"] for item in front.desk.catalogue.view(caller).search(Search(limit=1000)).items}


def test_imagery_of_one_s_own_is_seen_by_its_owner_and_administrators(front, image):
    owner, other, admin = front.person(), front.person(), front.person(Role.ADMIN)
    upload = brought(front, owner, "scene.tif", image().read_bytes())
    (item,) = front.desk.catalogue.register(owner, upload.id, when="2024-07-25", title="Lake")
    assert (item["id"], item["collection"], item["properties"]["title"]) == (upload.id, "imagery", "Lake")
    assert item["assets"]["image"]["href"] == front.desk.uploads.images(owner, upload.id)[0]
    assert ids(front, owner) == {upload.id}
    assert upload.id in ids(front, admin)
    assert ids(front, other) == set()
    with pytest.raises(NotFoundError):
        front.desk.catalogue.item(other, "imagery", upload.id)


def test_what_a_collection_says_of_itself_is_of_what_its_reader_sees(front, image):
    owner, other = front.person(), front.person()
    upload = brought(front, owner, "scene.tif", image().read_bytes())
    front.desk.catalogue.register(owner, upload.id, when="2019-03-04")
    (own,) = front.desk.catalogue.view(owner).collection("imagery")["extent"]["temporal"]["interval"]
    (others,) = front.desk.catalogue.view(other).collection("imagery")["extent"]["temporal"]["interval"]
    assert own[0].startswith("2019-03-04")
    assert others == [None, None]


def test_an_archive_becomes_an_item_per_image_and_all_go_with_the_upload(front, image):
    owner = front.person()
    inside = {"a_20240725.tif": image().read_bytes(), "b_20240726.tif": image().read_bytes()}
    upload = brought(front, owner, "scenes.zip", zipped(**inside))
    items = front.desk.catalogue.register(owner, upload.id)
    assert [item["properties"]["datetime"][:10] for item in items] == ["2024-07-25", "2024-07-26"]
    assert ids(front, owner) == {upload.id, f"{upload.id}-1"}
    assert front.desk.catalogue.register(owner, upload.id, when="2020-01-01")[1]["properties"]["datetime"][:4] == "2020"
    assert ids(front, owner) == {upload.id, f"{upload.id}-1"}
    front.desk.uploads.drop(owner, upload.id)
    assert ids(front, owner) == set()


def test_an_item_is_the_input_of_a_job(front, image):
    owner = front.person()
    upload = brought(front, owner, "scene.tif", image().read_bytes())
    front.desk.catalogue.register(owner, upload.id, when="2024-07-25")
    asking = Asking(model="water-ndwi", inputs=(f"item://imagery/{upload.id}",))
    assert front.desk.jobs.estimate(owner, asking).cost["pixels"] == 64 * 96
    with pytest.raises(NotFoundError):
        front.desk.jobs.estimate(front.person(), asking)


def test_what_lies_in_a_shared_project_is_seen_as_long_as_it_is_shared(front, image):
    owner, other = front.person(), front.person(Role.VIEWER)
    project = front.desk.projects.add(owner, "maps", shared=True)
    upload = brought(front, owner, "scene.tif", image().read_bytes(), project=project.id)
    front.desk.catalogue.register(owner, upload.id, when="2024-07-25")
    assert upload.id in ids(front, other)
    front.desk.projects.change(owner, project.id, shared=False)
    assert upload.id not in ids(front, other)


def test_an_entry_is_forgotten_and_the_upload_stays(front, image):
    owner = front.person()
    upload = brought(front, owner, "scene.tif", image().read_bytes())
    front.desk.catalogue.register(owner, upload.id, when="2024-07-25")
    front.desk.catalogue.drop(owner, "imagery", upload.id)
    assert ids(front, owner) == set()
    assert Path(front.desk.uploads.images(owner, upload.id)[0]).is_file()
    with pytest.raises(NotFoundError):
        front.desk.catalogue.drop(owner, "imagery", upload.id)


def test_a_result_leaves_the_catalogue_with_its_job_alone(front):
    owner = front.person()
    job = front.left(owner, {"item.json": b"{}"})
    entry = {"type": "Feature", "stac_version": "1.1.0", "id": job.id, "collection": "imagery", "geometry": None,
             "properties": {"datetime": "2024-07-25T00:00:00Z"}, "links": [], "assets": {}}  # fmt: skip
    from pipelines.catalogue.register import stub

    with front.desk.store.begin() as c:
        catalogue.put_collection(c, stub("imagery"))
        catalogue.put_item(c, entry, owner.user.id)
    with pytest.raises(ConflictError) as caught:
        front.desk.catalogue.drop(owner, "imagery", job.id)
    assert caught.value.problem.code == "item.result"


def test_a_time_that_is_none_is_refused_and_nothing_is_registered(front, image):
    owner = front.person()
    upload = brought(front, owner, "scene.tif", image().read_bytes())
    with pytest.raises(InputError) as caught:
        front.desk.catalogue.register(owner, upload.id, when="yesterday")
    assert caught.value.problem.code == "catalogue.datetime"
    assert ids(front, owner) == set()
