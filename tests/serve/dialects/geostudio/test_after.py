"""What is done to a result afterwards, and layers of it."""

import io
import json
import re
import zipfile

import pytest
import rasterio
import shapely
from pyproj import Transformer
from rasterio.features import rasterize
from starlette.requests import HTTPConnection

from serve.dialects.geostudio.shared import root_of
from serve.dialects.geostudio.sockets import over_http
from tests.pipelines.remote_server import Reply, Server
from tests.serve.dialects.geostudio.conftest import Studio


@pytest.mark.parametrize("yes", [True, "True", "true", {"buffer": 1}])
def test_masks_act_however_they_are_said(studio, image, yes):
    made = studio.infer(studio.share(image), post_processing={"ocean_masking": yes, "cloud_masking": "False",
                                                              "snow_ice_masking": None})  # fmt: skip
    _, parts = studio.house.desk.batches.get(_caller(studio), _ours(made))
    assert parts[0].request["postprocess"] == {"mask": ["ocean"]}
    steps = studio.get(f"inference/{made['id']}/tasks")["tasks"][1]["pipeline_steps"]
    assert [s["process_id"] for s in steps][2] == "postprocess-generic"
    studio.client.post(f"/v2/inference/{made['id']}/cancel")


def test_what_is_switched_off_is_not_missed(studio, image):
    off = {"mask_from_url": None, "download_scripts": {"activated": "False", "plugins_list": []}}
    made = studio.infer(studio.share(image), post_processing=off)
    studio.client.post(f"/v2/inference/{made['id']}/cancel")


@pytest.mark.parametrize(
    "no", [None, "", "None", "False", {}, {"url": ""}, {"url": None, "buffer_size_m": None}, False]
)
def test_a_mask_from_nowhere_is_none(studio, image, no):
    made = studio.infer(studio.share(image), post_processing={"mask_from_url": no})
    _, parts = studio.house.desk.batches.get(_caller(studio), _ours(made))
    assert "postprocess" not in parts[0].request
    studio.client.post(f"/v2/inference/{made['id']}/cancel")


def test_the_buffer_of_a_mask_from_an_address(studio, image):
    for said, metres in (({}, 100.0), ({"buffer_size_m": None}, 100.0), ({"buffer_size_m": 0}, None),
                         ({"buffer_size_m": "12.5"}, 12.5)):  # fmt: skip
        mask = {"url": "https://a.example/roads.geojson", **said}
        made = studio.infer(studio.share(image), post_processing={"mask_from_url": mask, "ocean_masking": "True"})
        _, parts = studio.house.desk.batches.get(_caller(studio), _ours(made))
        kept = {"url": "https://a.example/roads.geojson", "buffer_m": metres, "code": 90}
        assert parts[0].request["postprocess"] == {"mask": ["ocean"], "mask_shapes": {
            name: value for name, value in kept.items() if value is not None}}  # fmt: skip
        steps = studio.get(f"inference/{made['id']}/tasks")["tasks"][1]["pipeline_steps"]
        assert [s["process_id"] for s in steps][2] == "postprocess-generic"
        studio.client.post(f"/v2/inference/{made['id']}/cancel")


ROAD = [(500_100, 5_599_900), (500_800, 5_599_500)]


def roads():
    way = Transformer.from_crs("EPSG:32633", "OGC:CRS84", always_xy=True)
    road = {"type": "LineString", "coordinates": [way.transform(*place) for place in ROAD]}
    return json.dumps({"type": "FeatureCollection",
                       "features": [{"type": "Feature", "properties": {}, "geometry": road}]}).encode()  # fmt: skip


def prediction_of(studio, made):
    href = studio.get(f"tasks/{made['id']}-task_0/output")["url"]
    with zipfile.ZipFile(io.BytesIO(studio.house.client().get(href).content)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("_pred_masked.tif"))
        with rasterio.MemoryFile(archive.read(name)) as memory, memory.open() as result:
            return result.read(1), result.transform


@pytest.fixture(scope="module")
def neighbour(houses):
    """A service that reads its own network, where the files of these tests lie."""
    house = houses(front={"rate_per_minute": 10_000}, allow_private_urls=True)
    return Studio(house, house.person())


def test_shapes_at_an_address_are_90_in_the_masked_prediction(neighbour, image):
    with Server(lambda _: Reply(body=roads())) as server:
        mask = {"url": server.url("roads.geojson?key=s3cret"), "buffer_size_m": 50}
        made = neighbour.infer(neighbour.share(image), post_processing={"mask_from_url": mask})
        neighbour.work()
        assert [asked.target for asked in server.asked] == ["/roads.geojson?key=s3cret"]
    record = neighbour.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED", record["inference_output"]
    found, transform = prediction_of(neighbour, made)
    around = shapely.buffer(shapely.LineString(ROAD), 50)
    want = rasterize([(around, 1)], out_shape=found.shape, transform=transform).astype(bool)
    assert ((found == 90) != want).sum() <= 3
    assert want.sum() > 300
    steps = neighbour.get(f"inference/{made['id']}/tasks")["tasks"][1]["pipeline_steps"]
    assert (steps[2]["process_id"], steps[2]["status"]) == ("postprocess-generic", "FINISHED")
    log = neighbour.get(f"tasks/{made['id']}-task_0/logs/postprocess-generic")
    text = neighbour.house.client().get(log["step_log_url"]).text
    assert "pixels carry 90" in text
    assert "s3cret" not in text + json.dumps(record)
    layer = record["geoserver_layers"]["predicted_layers"][0]
    assert layer["layer_id"].endswith("-masked")
    assert 'quantity="90" label="masked shapes"' in layer["sld_body"]


def test_an_uploaded_file_of_shapes_is_named_by_its_link(neighbour, image, tmp_path):
    (tmp_path / "roads.geojson").write_bytes(roads())
    mask = {"url": neighbour.share(tmp_path / "roads.geojson")}
    made = neighbour.infer(neighbour.share(image), post_processing={"mask_from_url": mask})
    neighbour.work()
    assert neighbour.get(f"inference/{made['id']}")["status"] == "COMPLETED"
    assert (prediction_of(neighbour, made)[0] == 90).sum() > 300


@pytest.mark.parametrize(("answer", "code"), [(Reply(404), "1006"), (Reply(body=b"PK\x03\x04"), "1043")])
def test_shapes_that_cannot_be_used_fail_their_task_and_say_why(neighbour, image, answer, code):
    with Server(lambda _: answer) as server:
        mask = {"url": server.url("roads.shp?key=s3cret")}
        made = neighbour.infer(neighbour.share(image), post_processing={"mask_from_url": mask})
        neighbour.work()
    record = neighbour.get(f"inference/{made['id']}")
    assert record["status"] == "FAILED", record
    (error,) = record["inference_output"]["errors"]
    assert error["code"] == code
    assert "roads.shp" in error["message"]
    assert "s3cret" not in json.dumps(record)


def test_a_private_address_is_refused_where_it_is_planned(studio, image):
    mask = {"url": "http://127.0.0.1:1/roads.geojson"}
    made = studio.infer(studio.share(image), post_processing={"mask_from_url": mask})
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert record["status"] == "FAILED"
    assert "private" in record["inference_output"]["errors"][0]["message"]


def test_a_model_keeps_a_mask_without_secrets(studio):
    options = {"mask_from_url": {"url": "https://a.example/roads.geojson?key=s3cret"}}
    wish = {"display_name": "with-a-mask", "postprocessing_options": options}
    answer = studio.client.post("/v2/models", json=wish)
    assert answer.status_code == 422, answer.text
    assert "no query" in answer.text
    assert "s3cret" not in answer.text
    options["mask_from_url"]["url"] = "https://a.example/roads.geojson"
    assert studio.client.post("/v2/models", json=wish).status_code == 201


@pytest.mark.slow
def test_the_sea_is_masked_and_the_layer_shows_it(studio, image):
    made = studio.infer(studio.share(image), post_processing={"ocean_masking": "True"})
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED", record["inference_output"]
    steps = studio.get(f"inference/{made['id']}/tasks")["tasks"][1]["pipeline_steps"]
    assert (steps[2]["process_id"], steps[2]["status"]) == ("postprocess-generic", "FINISHED")
    assert steps[2]["start_time"] <= steps[2]["end_time"]
    layer = record["geoserver_layers"]["predicted_layers"][0]
    assert layer["layer_id"].endswith("-masked")
    assert 'color="#2f6fb0" opacity="1" quantity="997" label="ocean"' in layer["sld_body"]
    assert 'label="water"' in layer["sld_body"]
    href = studio.get(f"tasks/{made['id']}-task_0/output")["url"]
    assert b"_pred_masked.tif" in studio.house.client().get(href).content


@pytest.fixture(scope="module")
def done(house, image):
    """Somebody, and an inference of theirs that has ended."""
    studio = Studio(house, house.person())
    made = studio.infer(studio.share(image))
    studio.work()
    return studio, made


def test_layers_have_names_styles_and_addresses(done):
    studio, made = done
    found = studio.get(f"inference/{made['id']}")["geoserver_layers"]
    layer = found["predicted_layers"][0]
    assert layer["uri"] == f"geofm:{made['id']}-pred"
    assert layer["sld_body"].count("<ColorMapEntry color=") == 2
    assert re.search(r'color="#\w{6}" opacity="1" quantity="1" label="water"', layer["sld_body"])
    assert len(found["bbox_pred"][0]) == 4
    maps = "/geofm-geoserver/geoserver/geofm/wms"
    asked = {"service": "WMS", "version": "1.1.1", "request": "GetMap", "layers": layer["uri"], "styles": "",
             "bbox": ",".join(map(str, found["bbox_pred"][0])), "srs": "EPSG:4326", "width": 32, "height": 32,
             "format": "image/png"}  # fmt: skip
    led = studio.client.get(maps, params=asked)
    assert led.status_code == 307
    picture = studio.client.get(led.headers["location"])
    assert picture.content.startswith(b"\x89PNG")
    assert studio.house.client().get(maps, params=asked).status_code == 401
    assert studio.client.get(maps, params={**asked, "layers": f"geofm:{made['id']}-none"}).status_code == 404


@pytest.mark.slow
def test_a_raster_that_is_there_becomes_a_layer(studio, tmp_path):
    from tests.serve.dialects.geostudio.conftest import write_image

    url = studio.share(write_image(tmp_path / "heights.tif", scale=0, names=("",), top=1000))
    push = {"workspace": "geofm", "layer_name": "heights", "display_name": "Heights", "file_suffix": "",
            "filepath_key": "model_output_image", "geoserver_style": {"regression": [
                {"color": "#440154", "quantity": "0", "opacity": 1, "label": "low"},
                {"color": "#fde725", "quantity": "1000", "opacity": 1, "label": "high"}]}}  # fmt: skip
    wish = {"model_display_name": "add-layer-sandbox-model", "fine_tuning_id": "sandbox", "temporal_domain": [],
            "demo": {"demo": True}}  # fmt: skip
    assert "geoserver_push" in str(studio.infer(url, 400, **wish)["detail"])
    push["filepath_key"] = "original_input_image"  # as their payloads have it
    made = studio.infer(url, **wish, geoserver_push=[push])
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED", record["inference_output"]
    steps = studio.get(f"inference/{made['id']}/tasks")["tasks"][1]["pipeline_steps"]
    assert [s["process_id"] for s in steps] == ["url-connector", "push-to-geoserver"]
    layer = record["geoserver_layers"]["predicted_layers"][0]
    assert (layer["uri"], layer["display_name"]) == (f"geofm:{made['id']}-heights", "Heights")
    assert 'color="#fde725" opacity="1" quantity="1000" label="high"' in layer["sld_body"]


@pytest.mark.slow
def test_a_raster_in_a_zip_becomes_a_layer_of_the_gallery(studio, tmp_path):
    from tests.serve.dialects.geostudio.conftest import write_image

    raster = write_image(tmp_path / "heights.tif", scale=0, names=("",), top=1000)
    with zipfile.ZipFile(tmp_path / "heights.zip", "w") as archive:
        archive.write(raster, raster.name)
    push = {"workspace": "geofm", "layer_name": "heights", "display_name": "Heights", "file_suffix": "",
            "filepath_key": "original_input_image", "geoserver_style": ""}  # fmt: skip
    made = studio.infer(studio.share(tmp_path / "heights.zip"), model_display_name="add-layer-sandbox-model",
                        fine_tuning_id="sandbox", temporal_domain=[], geoserver_push=[push],
                        demo={"demo": True, "section_name": "My Examples"})  # fmt: skip
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED", record["inference_output"]
    assert record["geoserver_layers"]["predicted_layers"][0]["display_name"] == "Heights"
    assert [one["id"] for one in studio.get("inference?saved=true")["results"]] == [made["id"]]


@pytest.mark.slow
def test_of_several_rasters_each_has_the_layer_of_its_number(studio, tmp_path):
    from tests.serve.dialects.geostudio.conftest import write_image

    names = ("before", "after")
    urls = [studio.share(write_image(tmp_path / f"{n}-is.tif", scale=0, names=("",), top=900)) for n in names]
    pushes = [{"workspace": "geofm", "layer_name": name, "display_name": name.title(), "file_suffix": "",
               "filepath_key": "original_input_image", "geoserver_style": {"regression": [
                   {"color": "#440154", "quantity": n, "label": name}]}} for n, name in enumerate(names)]  # fmt: skip
    made = studio.infer("", model_display_name="add-layer-sandbox-model", fine_tuning_id="sandbox", temporal_domain=[],
                        spatial_domain={"urls": urls}, geoserver_push=pushes)  # fmt: skip
    studio.work()
    layers = studio.get(f"inference/{made['id']}")["geoserver_layers"]["predicted_layers"]
    assert [(one["uri"], one["display_name"]) for one in layers] == [
        (f"geofm:{made['id']}-task_0-before", "Before"), (f"geofm:{made['id']}-task_1-after", "After")]  # fmt: skip
    assert [f'label="{name}"' in one["sld_body"] for name, one in zip(names, layers, strict=True)] == [True, True]
    assert len({one["layer_id"] for one in layers}) == 2


def test_the_imagery_is_a_layer_beneath_the_result(studio, image):
    push = {"workspace": "geofm", "file_suffix": "", "geoserver_style": ""}
    pushes = [
        {**push, "layer_name": "rgb", "display_name": "", "filepath_key": "model_input_original_image_rgb"},
        {**push, "layer_name": "pred", "display_name": "Water", "filepath_key": "model_output_image"},
    ]
    made = studio.infer(studio.share(image), geoserver_push=pushes)
    studio.work()
    picture, result = studio.get(f"inference/{made['id']}")["geoserver_layers"]["predicted_layers"]
    assert (picture["uri"], picture["display_name"], picture["z_index"]) == (f"geofm:{made['id']}-rgb", "Imagery", 1)
    assert "ColorMapEntry" not in picture["sld_body"]
    assert (result["display_name"], result["z_index"]) == ("Water", 2)
    layers = {one["id"]: one for one in studio.client.get("/api/layers").json()["layers"]}
    assert {picture["layer_id"], result["layer_id"]} <= layers.keys()


def test_notices_by_websocket_for_whoever_has_a_key(done):
    studio, made = done
    for root in ("", "/studio-gateway"):
        with studio.client.websocket_connect(f"{root}/ws/inference/{made['id']}") as socket:
            kinds = [socket.receive_json()["detail_type"]]
            while kinds[-1] != "Inf:Task:Complete":
                kinds.append(socket.receive_json()["detail_type"])
        assert len(kinds) > 3
    with studio.house.client().websocket_connect(f"/ws/inference/{made['id']}") as socket:
        assert socket.receive()["code"] == 4401


def test_by_websocket_nobody_says_whose_address_it_is(done):
    studio, made = done
    said = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Port": "8443"}
    with studio.client.websocket_connect(f"/ws/inference/{made['id']}", headers=said) as socket:
        layers = socket.receive_json()["data"]["geoserver_layers"]["predicted_layers"]
    assert layers[0]["wms_url"].startswith("http://testserver/api/layers/wms")


@pytest.mark.parametrize(
    ("scheme", "headers", "root"),
    [
        ("ws", {"host": "svc.test"}, "http://svc.test"), ("wss", {"host": "news.example.org"}, "https://news.example.org"),
        ("ws", {"x-forwarded-proto": "https", "x-forwarded-host": "news.example.org"}, "https://news.example.org"),
        ("ws", {"x-forwarded-host": "ws.example.org", "x-forwarded-port": "8443"}, "http://ws.example.org:8443"),
        ("wss", {"host": "svc.test", "x-forwarded-port": "443"}, "https://svc.test"),
    ],
)  # fmt: skip
def test_addresses_of_whoever_came_by_a_websocket(scheme, headers, root):
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "websocket", "scheme": scheme, "path": "/ws/inference/x", "root_path": "/ws", "headers": pairs,
             "query_string": b"", "server": ("127.0.0.1", 8000)}  # fmt: skip
    assert over_http(root_of(HTTPConnection(scope))) == root


def _caller(studio):
    from swathe.user import SCOPES_OF, Caller

    return Caller(studio.person.user, SCOPES_OF[studio.person.user.role])


def _ours(made):
    from serve.dialects.geostudio.ids import id_of

    return id_of(made["id"], "b")
