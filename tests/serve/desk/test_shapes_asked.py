"""Files of shapes among what a job is asked for: which are read, how they are named, and what is told of them."""

from __future__ import annotations

import json

import pytest

from serve.desk.asking import Asking
from serve.desk.inputs import settled
from swathe.errors import ConflictError, ImageryError, NotFoundError
from swathe.job import JobState
from swathe.project import UploadState

SHAPES = json.dumps({"type": "Point", "coordinates": [15.0005, 50.55]}).encode()


@pytest.fixture
def ada(hall):
    return hall.person()


def brought(front, owner, content, name="roads.geojson"):
    begun = front.desk.uploads.begin(owner, name)
    return front.desk.uploads.write(owner, begun.id, [content])


def wish(href, **more):
    return Asking.model_validate({"model": "water-ndwi", "inputs": ["https://a.example/x.tif"],
                                  "postprocess": {"mask_shapes": {"url": href, "buffer_m": 5}}, **more})  # fmt: skip


def shapes_of(front, owner, href):
    found = settled(wish(href).to_recipe(), front.desk.settings, front.desk.store, owner)
    return found.recipe.postprocess.masking.shapes, found.names


def test_an_upload_of_shapes_is_looked_at_and_named_in_a_job(hall, ada):
    found = brought(hall, ada, SHAPES)
    assert (found.state, found.facts["shapes"]) == (UploadState.READY, 1)
    shapes, names = shapes_of(hall, ada, f"upload://{found.id}")
    assert shapes.href.endswith("/roads.geojson")
    assert shapes.name == f"upload://{found.id}"
    assert names[shapes.href] == shapes.name
    with pytest.raises(NotFoundError):
        shapes_of(hall, hall.person(), f"upload://{found.id}")
    with pytest.raises(ImageryError) as caught:  # it is no imagery
        settled(
            Asking(model="m", inputs=(f"upload://{found.id}",)).to_recipe(), hall.desk.settings, hall.desk.store, ada
        )
    assert caught.value.problem.code == "upload.kind"
    job = hall.job(ada, request=wish(f"upload://{found.id}").record())
    with pytest.raises(ConflictError, match="a job works on"):
        hall.desk.uploads.drop(ada, found.id)
    hall.desk.jobs.cancel(ada, job.id)
    hall.desk.uploads.drop(ada, found.id)


@pytest.mark.parametrize(("content", "code"), [(b"{}", "mask.shapes.json"), (b"PK\x03\x04", "mask.shapes.format"),
                                               (b" " * 40_000_000, "mask.shapes.limits")])  # fmt: skip
def test_shapes_that_cannot_be_used_are_refused_when_they_come(hall, ada, content, code):
    found = brought(hall, ada, content)
    assert (found.state, found.problem["code"]) == (UploadState.REFUSED, code)
    assert "roads.geojson" in found.problem["detail"]
    with pytest.raises(ConflictError, match="was refused") as caught:
        shapes_of(hall, ada, f"upload://{found.id}")
    assert caught.value.field == "postprocess.mask_shapes.url"


def test_a_link_of_ours_is_the_upload_itself(hall, ada):
    found = brought(hall, ada, SHAPES)
    link = hall.desk.links.make(ada, "upload", found.id)
    wishes = [wish(f"http://127.0.0.1:8000{link.path}")]
    batch = hall.desk.batches.submit(ada, wishes)
    _, (part,) = hall.desk.batches.get(ada, batch.id)
    assert part.request["postprocess"]["mask_shapes"]["url"] == f"upload://{found.id}"
    hall.desk.batches.cancel(ada, batch.id)


@pytest.mark.parametrize(
    ("href", "code"),
    [("/etc/passwd", "url.local"), ("http://127.0.0.1/a.geojson", "url.private"), ("ftp://a.example/a", "url.local"),
     ("http://169.254.169.254/latest", "url.private"), ("https://u:p@a.example/a.geojson", "url.userinfo"),
     ("https://[::1]/a.geojson", "url.private"), ("item://c/i", "url.local")],
)  # fmt: skip
def test_what_the_service_does_not_read_is_refused_when_it_is_asked_for(hall, ada, image, href, code):
    imagery = hall.desk.uploads.begin(ada, "scene.tif")
    imagery = hall.desk.uploads.write(ada, imagery.id, [image().read_bytes()])
    with pytest.raises(ImageryError) as caught:
        hall.desk.jobs.submit(ada, wish(href, inputs=[f"upload://{imagery.id}"]))
    assert (caught.value.problem.code, caught.value.field) == (code, "postprocess.mask_shapes.url")
    with pytest.raises(ImageryError) as caught:  # imagery holds no shapes
        shapes_of(hall, ada, f"upload://{imagery.id}")
    assert caught.value.problem.code == "mask.shapes.format"


def test_others_see_a_shared_job_without_what_is_secret_in_its_masks(hall, ada):
    other = hall.person()
    project = hall.desk.projects.add(ada, "p", shared=True)
    after = {"mask": ["clouds"], "mask_files": ["scl=https://a.example/m.tif?sig=topsecret"],
             "mask_shapes": {"url": "https://a.example/m.geojson?sig=topsecret", "buffer_m": 5}}  # fmt: skip
    request = {"model": "water-ndwi", "inputs": ["https://a.example/x.tif"], "postprocess": after}
    job = hall.job(ada, JobState.DONE, request=request, project=project.id)
    assert hall.desk.jobs.get(ada, job.id).request == request
    seen = hall.desk.jobs.get(other, job.id).request["postprocess"]
    assert "topsecret" not in json.dumps(seen)
    assert seen["mask_files"] == ["scl=https://a.example/m.tif"]
    assert seen["mask_shapes"] == {"url": "https://a.example/m.geojson", "buffer_m": 5}
