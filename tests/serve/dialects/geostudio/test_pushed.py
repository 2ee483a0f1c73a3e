"""Where a GeoServer is set, layers are pushed to it under the names that the record has."""

import re

import pytest

from serve.dialects.geostudio.ids import id_of
from serve.running.publishing import publishing
from swathe.user import SCOPES_OF, Caller
from tests.serve.dialects.geostudio.conftest import Studio
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
    desk = studio.house.desk
    who = Caller(studio.person.user, SCOPES_OF[studio.person.user.role])
    _, parts = desk.batches.get(who, id_of(made["id"], "b"))
    raster = desk.settings.blobs(f"jobs/{parts[0].job.id}").get("result.tif")
    names = {"lagoon": "floods", "water": name}
    server.expect("free", "first", names=names, RASTER=raster, SLD=layer["sld_body"].encode())
    assert publishing(desk.settings, desk.store).turn() == 1
    pushed = layer_of(studio, made)["pushed"]
    assert pushed == {"state": "published", "problem": None, "url": f"{server.url}/floods/wms?layers=floods:{name}"}
    server.expect("gone", names=names)
    assert studio.client.delete(f"/v2/inference/{made['id']}").status_code == 204
    assert publishing(desk.settings, desk.store).turn() == 1


def test_names_are_plain_and_tasks_have_their_own(studio, image):
    push = {"workspace": "../x", "layer_name": "a/b?c", "display_name": "", "file_suffix": "",
            "filepath_key": "model_output_image", "geoserver_style": ""}  # fmt: skip
    urls = [studio.share(image, f"{n}.tif") for n in (1, 2)]
    made = studio.infer(urls[0], geoserver_push=[push],
                        spatial_domain={"urls": urls}, temporal_domain=["2024-07-25", "2024-07-26"])  # fmt: skip
    studio.work()
    layers = studio.get(f"inference/{made['id']}")["geoserver_layers"]["predicted_layers"]
    assert [layer["uri"] for layer in layers] == [f"geofm:{made['id']}-task_{n}-a-b-c" for n in (0, 1)]
    assert all(layer["pushed"]["state"] == "waiting" for layer in layers)
    assert all(re.fullmatch(r"[\w:-]+", layer["uri"]) for layer in layers)


def push_of(name="water", key="model_output_image", style=""):
    return {"workspace": "floods", "layer_name": name, "display_name": name, "file_suffix": "", "filepath_key": key,
            "geoserver_style": style}  # fmt: skip


def wished(studio, made):
    """What each task of an inference is to push, before anything is planned."""
    who = Caller(studio.person.user, SCOPES_OF[studio.person.user.role])
    _, parts = studio.house.desk.batches.get(who, id_of(made["id"], "b"))
    studio.client.post(f"/v2/inference/{made['id']}/cancel")
    return [[(one["name"].removeprefix(made["id"]), tuple(one.get("files", ()))) for one in part.request["publish"]]
            for part in parts]  # fmt: skip


def test_what_is_no_result_is_not_pushed_as_one(studio, image):
    url = studio.share(image)
    others = [push_of(key, key) for key in ("original_input_image", "model_input_original_image_rgb", "imputed")]
    masked = push_of("masked", "model_output_image_masked")
    result = ("processed.tif", "result.tif")
    assert wished(studio, studio.infer(url, geoserver_push=[*others, push_of(), masked])) == [[("-water", result)]]
    assert wished(studio, studio.infer(url, geoserver_push=others)) == [[("-pred", ())]]
    both = studio.infer(url, geoserver_push=[push_of(), masked], post_processing={"ocean_masking": True})
    assert wished(studio, both) == [[("-water", result), ("-masked", ("masked.tif",))]]


def test_ready_made_layers_have_one_push_per_address(studio, image):
    urls = [studio.share(image, f"one-{n}.tif") for n in (1, 2)]
    wish = {"model_display_name": "add-layer-sandbox-model", "fine_tuning_id": "sandbox", "temporal_domain": [],
            "spatial_domain": {"urls": urls}}  # fmt: skip
    pushes = [push_of("before", "original_input_image"), push_of("after", "original_input_image")]
    result = ("processed.tif", "result.tif")
    paired = wished(studio, studio.infer(urls[0], **wish, geoserver_push=pushes))
    assert paired == [[("-task_0-before", result)], [("-task_1-after", result)]]
    crossed = wished(studio, studio.infer(urls[0], **wish, geoserver_push=pushes[:1]))
    assert crossed == [[("-task_0-before", result)], [("-task_1-before", result)]]


def test_styles_of_any_kind_are_pushed_or_passed_over(studio, image):
    rows = [
        {"color": "#f00", "quantity": "1", "opacity": 100, "label": "x" * 500}, {"color": "red", "quantity": "2"},
        {"color": "#00ff0080", "quantity": 3, "opacity": "50", "label": None}, {"color": "#0000ff", "quantity": "many"},
        {"color": "#0000FF", "quantity": 4, "opacity": -1}, {"color": "#0000ff"}, {"quantity": "1e999"}, "nonsense",
    ]  # fmt: skip
    made = studio.infer(studio.share(image), geoserver_push=[push_of(style={"segmentation": rows})])
    who = Caller(studio.person.user, SCOPES_OF[studio.person.user.role])
    _, parts = studio.house.desk.batches.get(who, id_of(made["id"], "b"))
    colours = parts[0].request["publish"][0]["colours"]
    assert [(c["value"], c["colour"], round(c.get("opacity", 1.0), 3)) for c in colours] == [
        (1, "#ff0000", 1.0), (3, "#00ff00", 0.251), (4, "#0000ff", 0.0)]  # fmt: skip
    assert [len(c.get("label", "")) for c in colours] == [200, 0, 0]
    studio.client.post(f"/v2/inference/{made['id']}/cancel")
    many = [{"color": "#123456", "quantity": n} for n in range(1000)]
    for style in ({"regression": many}, {"segmentation": 5}, {"segmentation": {"a": 1}}, {"rgb": []}, {}):
        made = studio.infer(studio.share(image), geoserver_push=[push_of(style=style)])
        studio.client.post(f"/v2/inference/{made['id']}/cancel")


def test_more_layers_than_a_task_can_have_are_refused(studio, image):
    url = studio.share(image)
    refused = studio.infer(url, 422, geoserver_push=[push_of(f"n{n}") for n in range(17)])
    assert "16" in refused["detail"]["msg"]
    made = studio.infer(url, geoserver_push=[push_of(f"n{n}") for n in range(16)])
    assert len(wished(studio, made)[0]) == 16
