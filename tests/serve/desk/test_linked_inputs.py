"""Links of the service itself among the inputs of a job: they are uploads, and nothing is asked of a network."""

from __future__ import annotations

from datetime import timedelta

import pytest

from serve.desk.asking import Asking
from swathe.errors import ConflictError, ForbiddenError, ImageryError, NotFoundError
from swathe.job import JobState


@pytest.fixture
def ada(hall):
    return hall.person()


@pytest.fixture
def upload(hall, ada, image):
    begun = hall.desk.uploads.begin(ada, "scene.tif")
    return hall.desk.uploads.write(ada, begun.id, [image().read_bytes()])


def wish(*inputs):
    return Asking(model="water-ndwi", inputs=inputs)


@pytest.mark.parametrize(
    "root",
    [
        "http://127.0.0.1:8000",
        "https://maps.example.org/swathe",
        "http://localhost",
        "HTTP://[::1]:1",
        "http://10.0.0.7",
    ],
)
@pytest.mark.parametrize("when", ["", "2024-07-25="])
def test_whatever_name_the_service_has(hall, ada, upload, root, when):
    link = hall.desk.links.make(ada, "upload", upload.id)
    assert hall.desk.jobs.estimate(ada, wish(f"{when}{root}{link.path}")).cost["pixels"] == 64 * 96
    job = hall.desk.jobs.submit(ada, wish(f"{when}{root}{link.path}?download=1"))
    assert (job.state, job.request["inputs"]) == (JobState.QUEUED, [f"{when}upload://{upload.id}"])
    assert hall.desk.predictions.of_asking(ada, wish(root + link.path)).recipe.inputs[0].endswith("/scene.tif")


def test_a_link_that_is_over_is_told_as_one(hall, ada, upload):
    link = hall.desk.links.make(ada, "upload", upload.id, valid=timedelta(seconds=-1))
    with pytest.raises(ForbiddenError, match="was good until") as caught:
        hall.desk.jobs.submit(ada, wish(f"http://127.0.0.1:8000{link.path}"))
    assert (caught.value.problem.code, caught.value.field) == ("link.expired", "inputs")


def test_a_forged_link_is_an_address_like_any_other(hall, ada, upload):
    path = hall.desk.links.make(ada, "upload", upload.id).path
    for forged in (path.replace("scene.tif", "other.tif"), path[:20] + "x" + path[20:]):
        with pytest.raises(ImageryError) as caught:
            hall.desk.jobs.submit(ada, wish(f"http://127.0.0.1:8000{forged}"))
        assert caught.value.problem.code == "url.private"


def test_what_is_somebody_else_s_stays_so(hall, ada, upload):
    link = hall.desk.links.make(ada, "upload", upload.id)
    with pytest.raises(NotFoundError):
        hall.desk.jobs.submit(hall.person(), wish(f"http://127.0.0.1:8000{link.path}"))


def test_other_links_lead_to_no_imagery(hall, ada, upload):
    job = hall.left(ada, {"result.tif": b"II*\0", "item.json": b"{}"})
    for link in (hall.desk.links.make(ada, "file", job.id, "result.tif"),
                 hall.desk.links.make(ada, "upload", upload.id, method="PUT")):  # fmt: skip
        with pytest.raises(ImageryError, match="leads to no upload") as caught:
            hall.desk.jobs.submit(ada, wish(f"http://127.0.0.1:8000{link.path}"))
        assert caught.value.problem.code == "url.link"


def test_an_upload_that_has_not_come_is_awaited(hall, ada):
    begun = hall.desk.uploads.begin(ada, "scene.tif")
    link = hall.desk.links.make(ada, "upload", begun.id)
    with pytest.raises(ConflictError, match="is open"):
        hall.desk.jobs.submit(ada, wish(f"http://127.0.0.1:8000{link.path}"))


def test_an_upload_that_was_refused_says_why(hall, ada):
    begun = hall.desk.uploads.begin(ada, "scene.tif")
    refused = hall.desk.uploads.write(ada, begun.id, [b"no image at all"])
    link = hall.desk.links.make(ada, "upload", begun.id)
    with pytest.raises(ConflictError) as caught:
        hall.desk.jobs.submit(ada, wish(f"http://127.0.0.1:8000{link.path}"))
    assert caught.value.problem.code == "upload.state"
    assert caught.value.detail == f"the upload {begun.id} was refused: {refused.problem['detail']}"
    with pytest.raises(ConflictError, match="was refused: "):
        hall.desk.uploads.images(ada, begun.id)


def test_a_wish_that_waits_outlives_its_link(hall, ada, upload):
    """Accepted is accepted: by the time it is planned the link may be over. What leads nowhere fails its part alone."""
    good = hall.desk.links.make(ada, "upload", upload.id).path
    over = hall.desk.links.make(ada, "upload", upload.id, valid=timedelta(seconds=-1)).path
    wishes = [wish(f"2024-07-25=https://a.example{good}"), wish(f"https://a.example{over}")]
    batch = hall.desk.batches.submit(ada, wishes)
    _, parts = hall.desk.batches.get(ada, batch.id)
    assert parts[0].request["inputs"] == [f"2024-07-25=upload://{upload.id}"]
    assert parts[1].request["inputs"] == [f"https://a.example{over}"]
