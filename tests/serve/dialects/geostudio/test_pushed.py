"""Where a GeoServer is set, layers are pushed to it under the names that the record has."""

import re

import pytest

from pipelines.sandbox.isolation import isolation
from serve.dialects.geostudio.ids import id_of
from serve.running.publishing import publishing
from swathe.user import SCOPES_OF, Caller
from tests.serve.dialects.geostudio.conftest import Studio
from tests.serve.dialects.geostudio.test_processors import bring
from tests.serve.publishing.exchange import PASSWORD, USER, exchange


@pytest.fixture
def server():
    with exchange() as one:
        yield one


@pytest.fixture
def studio(houses, server):
    house = houses(front={"rate_per_minute": 10_000}, geoserver_url=server.url, geoserver_user=USER,
                   geoserver_password=PASSWORD)  # fmt: skip
    return Studio(house, house.person())


def layer_of(studio, made):
    return studio.get(f"inference/{made['id']}")["geoserver_layers"]["predicted_layers"][0]


def blobs_of(studio, made):
    """What the job of its only task left."""
    desk, who = studio.house.desk, Caller(studio.person.user, SCOPES_OF[studio.person.user.role])
    _, (part,) = desk.batches.get(who, id_of(made["id"], "b"))
    return desk.settings.blobs(f"jobs/{part.job.id}")


def test_a_result_is_pushed_with_the_style_that_was_wished(studio, server, image):
    push = {"workspace": "floods", "layer_name": "water map", "display_name": "Water", "file_suffix": "",
            "filepath_key": "model_output_image", "geoserver_style": {"segmentation": [
                {"color": "#0000ff", "quantity": "1", "opacity": 1, "label": "water"}]}}  # fmt: skip
    made = studio.infer(studio.share(image), geoserver_push=[push])
    studio.work()
    name = f"{made['id']}-water-map"
    layer = layer_of(studio, made)
    assert layer["uri"] == f"floods:{name}"
    assert layer["pushed"] == {"state": "waiting", "url": "", "problem": None}
    raster = blobs_of(studio, made).get("result.tif")
    names = {"lagoon": "floods", "water": name}
    server.expect("free", "first", names=names, RASTER=raster, SLD=layer["sld_body"].encode())
    desk = studio.house.desk
    assert publishing(desk.settings, desk.store).turn() == 1
    pushed = layer_of(studio, made)["pushed"]
    assert pushed == {"state": "published", "problem": None, "url": f"{server.url}/floods/wms?layers=floods:{name}"}
    server.expect("gone", names=names)
    assert studio.client.delete(f"/v2/inference/{made['id']}").status_code == 204
    assert publishing(desk.settings, desk.store).turn() == 1


def test_names_are_plain_and_tasks_have_their_own(studio, image):
    push = {"workspace": "../x", "layer_name": "a/b?c", "display_name": "", "file_suffix": "",
            "filepath_key": "model_output_image", "geoserver_style": ""}  # fmt: skip
    urls = [studio.share(image, f"image-{n}.tif") for n in (1, 2)]
    made = studio.infer(urls[0], geoserver_push=[push],
                        spatial_domain={"urls": urls}, temporal_domain=["2024-07-25", "2024-07-26"])  # fmt: skip
    studio.work()
    layers = studio.get(f"inference/{made['id']}")["geoserver_layers"]["predicted_layers"]
    assert [layer["uri"] for layer in layers] == [f"geofm:{made['id']}-task_{n}-a-b-c" for n in (0, 1)]
    assert all(layer["pushed"]["state"] == "waiting" for layer in layers)
    assert all(re.fullmatch(r"[\w:-]+", layer["uri"]) for layer in layers)


@pytest.mark.skipif(isolation().walls is None, reason="this machine cannot shut a program in")
def test_of_masks_and_a_program_the_program_has_the_last_word(studio, server, image):
    """On our maps as on the map server: one name, one raster."""
    program = bring(studio).json()["id"]
    made = studio.infer(studio.share(image), generic_processor_id=program, post_processing={"ocean_masking": "True"})
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED", record["inference_output"]
    layer = layer_of(studio, made)
    assert layer["layer_id"].endswith("-processed")
    folder = blobs_of(studio, made)
    assert folder.get("masked.tif") != folder.get("processed.tif")
    server.expect("free", "first", names={"lagoon": "geofm", "water": f"{made['id']}-pred"},
                  RASTER=folder.get("processed.tif"), SLD=layer["sld_body"].encode())  # fmt: skip
    desk = studio.house.desk
    assert publishing(desk.settings, desk.store).turn() == 1
    assert layer_of(studio, made)["pushed"]["state"] == "published"
