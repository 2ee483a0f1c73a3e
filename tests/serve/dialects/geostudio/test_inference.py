"""Inferences, from the wish to the archive, in their words."""

import io
import json
import re
import time
import zipfile
from urllib.parse import urlencode

import pytest
import rasterio

from tests.serve.dialects.geostudio.conftest import Studio

STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@pytest.fixture
def url(studio, image):
    return studio.share(image)


@pytest.fixture(scope="module")
def done(house, image):
    """Somebody, and an inference of theirs that has ended: its first record."""
    studio = Studio(house, house.person())
    made = studio.infer(studio.share(image), location="Rhodes", description="try")
    studio.work()
    return studio, made


def test_an_image_becomes_a_map_on_its_own_grid(done, image):
    studio, made = done
    assert made["status"] == "PENDING"
    assert (made["tasks_count_total"], made["tasks_count_success"], made["tasks_count_waiting"]) == (4, 0, 4)
    assert STAMP.fullmatch(made["created_at"])
    assert STAMP.fullmatch(made["updated_at"])
    record = studio.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED"
    assert (record["tasks_count_total"], record["tasks_count_success"]) == (4, 4)
    assert record["location"] == "Rhodes"
    tasks = studio.get(f"inference/{made['id']}/tasks")
    assert [t["task_id"] for t in tasks["tasks"]] == [f"{made['id']}-task_planning", f"{made['id']}-task_0"]
    steps = tasks["tasks"][1]["pipeline_steps"]
    assert [s["process_id"] for s in steps] == ["url-connector", "run-inference", "push-to-geoserver"]
    assert {s["status"] for s in steps} == {"FINISHED"}
    assert all(s["start_time"] <= s["end_time"] for s in steps)
    assert tasks["tasks"][0]["pipeline_steps"][0]["process_id"] == "inference-planner"
    output = studio.get(f"tasks/{made['id']}-task_0/output")
    assert output["url"] == output["output_url"]
    assert "archive.zip" in output["url"]
    whole = studio.house.client().get(output["url"])
    with zipfile.ZipFile(io.BytesIO(whole.content)) as archive:
        names = archive.namelist()
        assert {n.rpartition("_")[2] for n in names} >= {"pred.tif", "rgb.tif"}
        assert all(n.startswith(f"{made['id']}-task_0_2024-07-25_scene") for n in names)
        prediction = archive.read(next(n for n in names if n.endswith("pred.tif")))
    with rasterio.open(image) as given, rasterio.MemoryFile(prediction).open() as result:
        assert (result.crs, result.transform, result.shape) == (given.crs, given.transform, given.shape)


def test_an_archive_is_read_from_its_end(done):
    studio, made = done
    href = studio.get(f"tasks/{made['id']}-task_0/output-url")["url"]
    part = studio.house.client().get(href, headers={"Range": "bytes=-65536000"})
    assert part.status_code == 206
    assert part.headers["content-range"].startswith("bytes 0-")
    assert "content-encoding" not in part.headers
    last = studio.house.client().get(href, headers={"Range": "bytes=-22"})
    assert last.content[:4] == b"PK\x05\x06"


def test_logs_of_steps(done):
    studio, made = done
    task = f"{made['id']}-task_0"
    found = studio.get(f"tasks/{task}/logs/url-connector")
    assert (found["status"], found["warning"], found["step_id"]) == ("FINISHED", None, "url-connector")
    assert found["step_log_url"].endswith(f"/{task}-url-connector-stdout.log")
    text = studio.house.client().get(found["step_log_url"]).text
    assert len(text.splitlines()) >= 1
    tail = studio.get(f"tasks/{task}/logs/url-connector?tail_lines=1&allow_incomplete=false&force_refresh=true")["tail"]
    assert tail == text.splitlines(keepends=True)[-1]
    planner = studio.get(f"tasks/{made['id']}-task_planning/logs/inference-planner")
    assert "task_0: planned as j" in studio.house.client().get(planner["step_log_url"]).text
    assert "msg" in studio.get(f"tasks/{task}/logs/no-such-step", 404)["detail"]
    assert isinstance(studio.get(f"tasks/{made['id']}-task_9/logs/run-inference", 404)["detail"], str)


def test_outputs_that_are_not_there(studio, url):
    made = studio.infer(url)
    assert "msg" in studio.get(f"tasks/{made['id']}-task_0/output", 409)["detail"]
    assert "msg" in studio.get(f"tasks/{made['id']}-task_0/logs/run-inference", 409)["detail"]
    assert "msg" in studio.get(f"tasks/{made['id']}-task_planning/output", 404)["detail"]
    assert "msg" in studio.get(f"tasks/{made['id']}-task_7/output", 404)["detail"]
    assert "msg" in studio.get("tasks/nonsense/output", 404)["detail"]


def test_what_cannot_be_reached_fails_its_task_and_says_why(studio, url):
    gone = "https://swathe.invalid/scene_2024-06-15.tif"
    made = studio.infer(url, spatial_domain={"urls": [url, gone]}, temporal_domain=["2024-07-25", "2024-07-25"])
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED_WITH_ERRORS"
    errors = record["inference_output"]["errors"]
    assert [e["task_id"] for e in errors] == [f"{made['id']}-task_1"]
    assert errors[0]["message"].startswith("1006")
    tasks = studio.get(f"inference/{made['id']}/tasks")["tasks"]
    assert [t["status"] for t in tasks] == ["FINISHED", "FINISHED", "FAILED"]
    assert len({json.dumps([s["process_id"] for s in t["pipeline_steps"]]) for t in tasks[1:]}) == 1
    log = studio.get(f"tasks/{made['id']}-task_2/logs/url-connector", 404)
    assert log["detail"] == f"Task {made['id']}-task_2 not found"
    only = studio.infer(gone)
    studio.plan()
    assert studio.get(f"inference/{only['id']}")["status"] == "FAILED"
    assert studio.get(f"inference/{only['id']}/tasks")["tasks"][0]["status"] == "FAILED"


def test_an_upload_that_cannot_be_used_says_why_at_once_and_in_its_task(studio):
    links = studio.get("file-share?object_name=scene.tif")
    answer = studio.house.client().put(links["upload_url"], content=b"no image at all")
    assert answer.status_code == 422
    why = answer.json()["detail"]
    made = studio.infer(links["download_url"])
    studio.plan()
    (error,) = studio.get(f"inference/{made['id']}")["inference_output"]["errors"]
    assert error["message"].startswith("1009")
    assert why in error["message"]


def test_null_is_not_said(studio, url):
    """As the SDK sends it: every field that it knows, and no content type."""
    body = {
        "spatial_domain": {"bbox": [], "polygons": [], "tiles": [], "urls": [url]}, "temporal_domain": ["2024-07-25"],
        "model_input_data_spec": None, "data_connector_config": None, "geoserver_push": None, "pipeline_steps": None,
        "post_processing": None, "fine_tuning_id": None, "model_display_name": "water-ndwi", "description": None,
        "location": None, "geoserver_layers": None, "demo": None, "model_id": None, "inference_output": None,
    }  # fmt: skip
    answer = studio.client.post("/studio-gateway/v2/inference/", content=json.dumps(body))
    assert answer.status_code == 201
    without = {k: v for k, v in body.items() if k != "temporal_domain"}
    assert studio.client.post("/v2/inference", json={**without, "temporal_domain": None}).status_code == 201


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"temporal_domain": ["25.07.2024"]}, "YYYY-MM-DD"), ({"temporal_domain": ["2024-02-30"]}, "no date"),
        ({"temporal_domain": ["2024-07-25_9999-12-31"]}, "edge of the calendar"),
        ({"temporal_domain": ["2024-07-25_2024-07-01"]}, "ends before"), ({"temporal_domain": "2024-07-25"}, "list"),
        ({"spatial_domain": {}}, "At least one"), ({"spatial_domain": None}, "Field required"),
        ({"spatial_domain": {"bbox": [[1, 2, 3]]}}, "[minlon, minlat, maxlon, maxlat]"),
        ({"spatial_domain": {"bbox": [[10, 50, 10.1, 49]]}}, "not south"),
        ({"spatial_domain": {"bbox": [[10.1, 49, 10, 50]]}}, "not west"),
        ({"spatial_domain": {"bbox": [[10, 49, 190, 50]]}}, "outside"),
        ({"spatial_domain": {"tiles": ["nonsense"]}}, "no area"), ({"spatial_domain": {"tiles": [[1, 2]]}}, "no tile"),
        ({"spatial_domain": {"polygons": [{"type": "Point", "coordinates": [1, 2]}]}}, "polygon"),
        ({"spatial_domain": {"polygons": [{"type": "FeatureCollection", "features": 5}]}}, "list"),
        ({"spatial_domain": {"polygons": [{"type": "FeatureCollection", "features": [7]}]}}, "polygons"),
        ({"spatial_domain": {"bbox": [[10, 49, 30, 60]]}}, "km²"),
        ({"spatial_domain": {"urls": ["file:///etc/passwd"]}}, "url 0 is no address"),
        ({"spatial_domain": {"urls": ["https://a.example/x.tif", "scene.tif"]}}, "url 1 is no address"),
        ({"spatial_domain": {"urls": [f"https://a.example/{n}.tif" for n in range(3)]},
          "temporal_domain": ["2024-07-25", "2024-07-26"]}, "3 urls and 2 dates"),
        ({"post_processing": {"mask_from_url": {"url": "ftp://a.example/m.geojson"}}}, "no address"),
        ({"post_processing": {"mask_from_url": {"url": "http://["}}}, "no address"),
        ({"post_processing": {"mask_from_url": {"buffer_size_m": 3}}}, "Field required"),
        ({"post_processing": {"mask_from_url": "https://a.example/m.geojson"}}, "it is an object"),
        ({"post_processing": {"mask_from_url": {"url": "https://a.example/m", "buffer_size_m": -1}}}, "greater than"),
        ({"post_processing": {"mask_from_url": {"url": "https://a.example/m", "buffer_size_m": 1e9}}}, "less than"),
        ({"post_processing": {"mask_from_url": {"url": "https://a.example/m", "buffer_size_m": "far"}}}, "number"),
        ({"post_processing": {"download_scripts": {"activated": True, "plugins_list": []}}}, "generic processor"),
        ({"maxcc": 120}, "less than or equal to 100"), ({"model_display_name": None}, "model_id"),
        ({"location": "x" * 101}, "100 characters"), ({"fine_tuning_id": "x" * 101}, "100 characters"),
        ({"model_display_name": "geofm-sandbox-models"}, "fine_tuning_id"),
        ({"model_input_data_spec": [{"collection": "nowhere"}], "spatial_domain": {"bbox": [[10, 49, 10.1, 49.1]]}},
         "nowhere"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told(studio, url, change, says):
    body = {"model_display_name": "water-ndwi", "spatial_domain": {"urls": [url]}, "temporal_domain": ["2024-07-25"]}
    answer = studio.client.post("/v2/inference", json=body | change)
    assert answer.status_code == 422, answer.text
    assert says in answer.text


KEYS = {
    "id", "status", "active", "model_id", "model_display_name", "description", "location", "fine_tuning_id",
    "spatial_domain", "temporal_domain", "maxcc", "generic_processor", "generic_processor_id", "geoserver_layers",
    "demo", "inference_output", "created_by", "created_at", "updated_at", "tasks_count_total", "tasks_count_success",
    "tasks_count_failed", "tasks_count_stopped", "tasks_count_waiting",
}  # fmt: skip


def test_a_record_has_their_fields_and_what_was_left_out_says_nothing(done):
    studio, made = done
    listed = studio.get("inference?limit=1")["results"][0]
    for record in (made, listed, studio.get(f"inference/{made['id']}")):
        assert set(record) == KEYS
    assert listed["spatial_domain"].keys() == {"bbox", "polygons", "tiles", "urls"}
    tasks = studio.get(f"inference/{made['id']}/tasks")
    assert tasks.keys() == {"inference_id", "status", "tasks"}
    assert all(task.keys() == {"inference_id", "task_id", "inference_folder", "status", "pipeline_steps"} for task in
               tasks["tasks"])  # fmt: skip


def test_as_their_guide_writes_it(studio, url):
    """Slashes too many, a date more than there are addresses, fields that nobody knows."""
    wish = {"model_display_name": "water-ndwi", "name": "test_generic", "location": "Vienna, Austria", "maxcc": 80,
            "spatial_domain": {"urls": [url]}, "temporal_domain": ["2024-06-15", " 2024-06-16 "],
            "post_processing": {"cloud_masking": "False", "ocean_masking": "False", "snow_ice_masking": None,
                                "permanent_water_masking": "False"}}  # fmt: skip
    made = studio.client.post("/v2//inference", json=wish)
    assert made.status_code == 201, made.text
    _, parts = studio.house.desk.batches.get(_caller(studio), _ours(made.json()))
    assert [p.request["inputs"][0].partition("=")[0] for p in parts] == ["2024-06-15"]
    assert made.json()["temporal_domain"] == ["2024-06-15", "2024-06-16"]
    for path in ("/v2//inference/", "/studio-gateway/v2///inference//", "/v2/"):
        assert studio.client.get(path).status_code == (404 if path == "/v2/" else 200), path
    studio.client.post(f"/v2//inference//{made.json()['id']}/cancel/")
    assert studio.get(f"inference/{made.json()['id']}")["status"] == "STOPPED"


def test_a_span_dates_no_image_and_fails_none(studio, image):
    """As their notebook sends an image of one's own: with the days that it lies in."""
    span = ["2024-06-10_2024-06-20"]
    urls = [studio.share(image, name) for name in ("scene_2024-06-15.tif", "undated.tif")]
    made = studio.infer("", spatial_domain={"urls": urls}, temporal_domain=span)
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert (record["status"], record["temporal_domain"]) == ("COMPLETED", span), record["inference_output"]
    _, parts = studio.house.desk.batches.get(_caller(studio), _ours(made))
    for part, stem in zip(parts, ("scene-2024-06-15", "undated"), strict=True):
        assert part.request["inputs"][0].startswith("upload://")  # not DATE=upload://
        item = studio.client.get(f"/api/jobs/{part.job.id}/files/item.json").json()
        assert "acquisition is not known" in item["properties"]["swathe:datetime_is"]
        href = studio.get(f"tasks/{made['id']}-task_{part.number}/output")["url"]
        with zipfile.ZipFile(io.BytesIO(studio.house.client().get(href).content)) as archive:
            assert f"{made['id']}-task_{part.number}_{stem}_imputed_pred.tif" in archive.namelist()


def test_dates_of_searched_places_have_to_be_said(studio):
    for dates in ([], None):
        body = {"model_display_name": "water-ndwi", "spatial_domain": {"bbox": [[10, 49, 10.1, 49.1]]}}
        answer = studio.client.post("/v2/inference", json={**body, "temporal_domain": dates})
        assert answer.status_code == 422
        assert "when" in answer.json()["detail"]


def test_areas_and_dates_make_tasks(studio):
    """Places are searched where the data spec says; nothing is looked at before it is planned."""
    square = {"type": "Polygon", "coordinates": [[[10, 49], [10.1, 49], [10.1, 49.1], [10, 49]]]}
    body = {"model_display_name": "water-ndwi", "maxcc": 20, "temporal_domain": ["2024-07-01", "2024-07-02_2024-07-09"],
            "spatial_domain": {"bbox": [[10, 49, 10.1, 49.1]], "polygons": [square], "tiles": ["12/2200/1343"]},
            "model_input_data_spec": [{"connector": "sentinelhub", "collection": "s2_l2a"}]}  # fmt: skip
    made = studio.client.post("/v2/inference", json=body).json()
    _, parts = studio.house.desk.batches.get(_caller(studio), _ours(made))
    assert [p.request["search"]["dates"] for p in parts] == [["2024-07-01"], ["2024-07-02_2024-07-09"]] * 3
    assert {p.request["search"]["source"] for p in parts} == {"earth-search-s2-c1-l2a"}
    assert {p.request["search"]["max_cloud"] for p in parts} == {20}
    assert parts[2].request["aoi"]["type"] == "Polygon"
    assert parts[4].request["aoi"] == "12/2200/1343"
    assert studio.get(f"inference/{made['id']}")["maxcc"] == 20
    studio.client.post(f"/v2/inference/{made['id']}/cancel")


def test_a_connector_alone_names_no_source(studio):
    """The first source here that has the bands is searched, as where nothing is said."""
    body = {"model_display_name": "water-ndwi", "temporal_domain": ["2024-07-01"],
            "spatial_domain": {"bbox": [[10, 49, 10.1, 49.1]]}}  # fmt: skip

    def source(**more):
        made = studio.client.post("/v2/inference", json=body | more)
        assert made.status_code == 201, made.text
        _, parts = studio.house.desk.batches.get(_caller(studio), _ours(made.json()))
        studio.client.post(f"/v2/inference/{made.json()['id']}/cancel")
        return parts[0].request["search"]["source"]

    assert source(model_input_data_spec=[{"connector": "sentinelhub", "bands": {"0": "B03"}}]) == source()
    wrong = studio.client.post("/v2/inference", json={**body, "data_connector_config": [{"connector": "nowhere"}]})
    assert wrong.status_code == 422


def test_hundreds_of_tasks_are_all_listed(studio, url):
    """More than a page, more than the queue takes."""
    made = studio.infer(url, spatial_domain={"urls": [url] * 150}, temporal_domain=["2024-07-25"])
    tasks = studio.get(f"inference/{made['id']}/tasks")["tasks"]
    assert [t["task_id"].rpartition("_")[2] for t in tasks] == ["planning", *map(str, range(150))]
    assert studio.get(f"inference/{made['id']}")["tasks_count_total"] == 451
    studio.client.post(f"/v2/inference/{made['id']}/cancel")
    assert studio.get(f"inference/{made['id']}")["status"] == "STOPPED"


def test_cancelled_once_and_again(studio, url):
    made = studio.infer(url)
    studio.plan()
    first = studio.client.post(f"/v2/inference/{made['id']}/cancel")
    assert (first.status_code, list(first.json())) == (202, ["msg"])
    record = studio.get(f"inference/{made['id']}")
    assert (record["status"], record["tasks_count_stopped"]) == ("STOPPED", 3)
    again = studio.client.post(f"/v2/inference/{made['id']}/cancel")
    assert (again.status_code, "ended already" in again.json()["msg"]) == (202, True)
    early = studio.infer(url)
    studio.client.post(f"/v2/inference/{early['id']}/cancel")
    studio.work()
    assert studio.get(f"inference/{early['id']}")["status"] == "STOPPED"
    assert {t["status"] for t in studio.get(f"inference/{early['id']}/tasks")["tasks"]} == {"STOPPED"}


def test_a_dry_run_keeps_nothing(studio, url):
    body = {"model_display_name": "water-ndwi", "spatial_domain": {"urls": [url]}, "temporal_domain": ["2024-07-25"]}
    answer = studio.client.post("/v2/inference/dry-run", json=body)
    assert answer.status_code == 201
    assert answer.json()["tasks"][0]["seconds"] > 0
    assert studio.get("inference")["total_records"] == 0
    bad = studio.client.post("/v2/inference/dry-run", json={**body, "temporal_domain": ["x"]})
    assert bad.status_code == 422


def test_lists_and_their_filters(studio, url):
    first = studio.infer(url, location="here")
    second = studio.infer(url, demo={"demo": True, "section_name": "My Examples"})
    third = studio.client.post("/v2/async/inference", json={"model_display_name": "water-ndwi", "temporal_domain": [],
                                                            "spatial_domain": {"urls": [url]}}).json()  # fmt: skip
    assert third["event_id"] == third["id"]
    page = studio.get("inference?limit=2")
    assert ([r["id"] for r in page["results"]], page["total_records"], page["page_count"]) == (
        [third["id"], second["id"]], 3, 2)  # fmt: skip
    assert [r["id"] for r in studio.get("inference/?limit=2&skip=2")["results"]] == [first["id"]]
    for query, found in (("location=here", first), ("saved=true", second)):
        assert [r["id"] for r in studio.get(f"inference?{query}")["results"]] == [found["id"]]
    assert studio.get(f"inference?model_id={first['model_id']}")["total_records"] == 3
    assert studio.get("inference?created_by=nobody@example.org")["total_records"] == 0


def test_deleted_is_gone(studio, url):
    made = studio.infer(url)
    studio.work()
    removed = studio.client.delete(f"/v2/inference/{made['id']}")
    assert (removed.status_code, removed.content) == (204, b"")
    assert studio.get(f"inference/{made['id']}", 404)["detail"] == f"Inference {made['id']} not found"
    studio.get(f"inference/{made['id']}/tasks", 404)
    studio.get(f"tasks/{made['id']}-task_0/output", 404)
    assert studio.client.delete(f"/v2/inference/{made['id']}").status_code == 404


def test_others_see_nothing_of_it(studio, url):
    made = studio.infer(url)
    other = studio.house.client(studio.house.person())
    for path in (f"inference/{made['id']}", f"inference/{made['id']}/tasks", f"tasks/{made['id']}-task_0/output",
                 f"notifications/{made['id']}", f"async/notify/{made['id']}"):  # fmt: skip
        assert other.get(f"/v2/{path}").status_code == 404
    assert other.post(f"/v2/inference/{made['id']}/cancel").status_code == 404
    assert other.get("/v2/inference").json()["total_records"] == 0
    assert studio.get("inference/not-a-uuid", 422)["detail"][0]["loc"] == ["path", "id"]


def _caller(studio):
    from swathe.user import SCOPES_OF, Caller

    return Caller(studio.person.user, SCOPES_OF[studio.person.user.role])


def _ours(made):
    from serve.dialects.geostudio.ids import id_of

    return id_of(made["id"], "b")


STAR = [[10 + 0.001 * ((n * 7919) % 997), 49 + 0.001 * ((n * 104_729) % 991)] for n in range(4000)]
"""Corners in no order: nearly every edge crosses nearly every other."""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"spatial_domain": {"bbox": [[10, 49, 10.1, 49.1]] * 200}, "temporal_domain": ["2024-07-25"] * 1000},
         "200,000"),
        ({"spatial_domain": {"urls": ["https://a.example/x.tif"] * 5000}, "temporal_domain": []}, "5,000"),
        ({"spatial_domain": {"polygons": [{"type": "Polygon", "coordinates": [[[10.123456, 49.123456]] * 2000]}]},
          "temporal_domain": ["2024-07-25"] * 900}, "simplify"),
        ({"spatial_domain": {"polygons": [{"type": "Polygon", "coordinates": [[*STAR, STAR[0]]]}]}}, "all over"),
        ({"spatial_domain": {"polygons": [{"type": "Polygon", "coordinates": [[[10, 49], [10**400, 50], [11, 50]]]}]}},
         "GeoJSON"),
        ({"spatial_domain": {"polygons": [{"type": "Feature", "geometry": {"type": "FeatureCollection",
                                                                          "features": 5}}]}}, "no list"),
        ({"spatial_domain": {"polygons": [{"type": "Polygon", "coordinates": "everywhere"}]}}, "GeoJSON"),
        ({"spatial_domain": {"polygons": [{"type": "Polygon", "coordinates": None}, {}]}}, "GeoJSON"),
        ({"spatial_domain": {"polygons": [None]}}, "dictionary"), ({"spatial_domain": {"bbox": "10,49,11,50"}}, "list"),
        ({"spatial_domain": {"tiles": [{"z": 10**300, "x": 1, "y": 1}]}}, "no area"),
        ({"spatial_domain": {"tiles": ["99/1/1"]}}, "no tile"),
        ({"spatial_domain": {"tiles": [[3, -1, 2]]}}, "no tile"),
        ({"spatial_domain": {"urls": ["http://[bad/x.tif"]}}, "url 0 is no address"),
        ({"spatial_domain": {"urls": [None, {"url": "https://a.example"}]}}, "string"),
        ({"spatial_domain": []}, "dictionary"), ({"temporal_domain": [20240725]}, "string"),
        ({"temporal_domain": ["\u0662\u0660\u0662\u0664-\u0660\u0667-\u0662\u0665"]}, "no date"),
        ({"temporal_domain": [None]}, "string"),
        ({"maxcc": "many"}, "number"), ({"maxcc": -1}, "greater"),
        ({"post_processing": ["cloud_masking"]}, "dictionary"),
        ({"post_processing": {"cloud_masking": "perhaps"}}, "boolean"),
        ({"model_input_data_spec": [{"scaling_factor": 10**400}]}, "no positive number"),
        ({"model_input_data_spec": [{"bands": [{"band_name": "Red", "scaling_factor": "one"}]}]}, "no positive number"),
        ({"model_input_data_spec": [{"scaling_factor": [0]}]}, "no positive number"),
        ({"model_input_data_spec": [{"bands": 5}]}, "model_input_data_spec"),
        ({"geoserver_push": [{"workspace": "x"}]}, "Field required"), ({"geoserver_push": "all"}, "list"),
        ({"generic_processor_id": "../../x"}, "UUID"), ({"model_id": 5}, "UUID"), ({"demo": [1]}, "dictionary"),
        ({"description": "x" * 20_000}, "10000 characters"),
        ({"inference_output": {"a": "x" * 2_000_000}}, "characters"),
    ],
)  # fmt: skip
def test_what_is_sloppy_or_hostile_is_refused_at_once(studio, change, says):
    """No 500, nothing that takes long, nothing kept."""
    body = {"model_display_name": "water-ndwi", "spatial_domain": {"urls": ["https://a.example/x.tif"]},
            "temporal_domain": ["2024-07-25"]} | change  # fmt: skip
    began = time.monotonic()
    answer = studio.client.post("/v2/inference", json=body)
    assert answer.status_code == 422, answer.text[:500]
    assert says in answer.text
    assert time.monotonic() - began < 5
    assert studio.get("inference")["total_records"] == 0


def test_bodies_that_are_no_json_of_a_wish(studio):
    deep = '{"demo":' + "[" * 100_000 + "]" * 100_000 + "}"
    for content in ("", "null", "[]", "5", '"x"', "{", '{"maxcc": NaN}', '{"maxcc": 1e999}', '{"name": "\\u0000"}',
                    '{"name": "\\ud800"}', '{"maxcc": ' + "9" * 5000 + "}", deep, b"\xff\xfe{}"):  # fmt: skip
        answer = studio.client.post("/v2/inference", content=content)
        assert answer.status_code == 422, content[:40]
        assert isinstance(answer.json()["detail"], list)


@pytest.mark.parametrize("name", ["Überschwemmung Ω 🌊", "a\r\nSet-Cookie: x=1", "<script>1</script>", "../../etc"])
def test_names_are_texts_and_nothing_else(studio, url, name):
    style = {"segmentation": [{"color": "#0000ff", "quantity": 1, "label": name}]}
    push = {"workspace": name, "layer_name": name, "display_name": name, "file_suffix": name, "geoserver_style": style,
            "filepath_key": "model_output_image"}  # fmt: skip
    made = studio.infer(url, description=name, location=name[:100], geoserver_push=[push], name=name)
    assert (made["description"], made["location"]) == (name, name)
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED", record["inference_output"]
    layer = record["geoserver_layers"]["predicted_layers"][0]
    assert re.fullmatch(r"[\w-]+:[\w-]+", layer["uri"], re.ASCII)
    assert layer["display_name"] == name
    assert "<script>" not in layer["sld_body"]
    answer = studio.house.client().get(studio.get(f"tasks/{made['id']}-task_0/output")["url"])
    assert "set-cookie" not in answer.headers
    assert [r["id"] for r in studio.get("inference?" + urlencode({"location": name}))["results"]] == [made["id"]]


def test_words_for_no(studio, url):
    """As their pipelines take them."""
    flags = dict.fromkeys(("cloud_masking", "ocean_masking", "mask_from_url", "download_scripts"), "None")
    made = studio.infer(url, post_processing=flags | {"snow_ice_masking": "", "permanent_water_masking": "none"},
                        demo={"demo": "False"})  # fmt: skip
    _, parts = studio.house.desk.batches.get(_caller(studio), _ours(made))
    assert "postprocess" not in parts[0].request
    assert studio.get("inference?saved=true")["total_records"] == 0
    studio.client.post(f"/v2/inference/{made['id']}/cancel")


def test_factors_may_be_texts_and_be_said_once(studio, url):
    bands = [{"band_name": "green", "scaling_factor": "1e-4"}, {"band_name": "nir", "scaling_factor": ""}]
    for spec in ({"scaling_factor": "0.0001"}, {"scaling_factor": 0.0001}, {"bands": bands}):
        made = studio.infer(url, model_input_data_spec=[spec])
        _, parts = studio.house.desk.batches.get(_caller(studio), _ours(made))
        assert parts[0].request["radiometry"]["scale"] == 0.0001
        studio.client.post(f"/v2/inference/{made['id']}/cancel")
