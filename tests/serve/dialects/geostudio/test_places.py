"""Places that are searched: sources, advice, and inferences by box, polygon and tile on a catalogue of this machine."""

import io
import re
import zipfile
from pathlib import Path

import pytest
import rasterio
import yaml

from pipelines.demo import catalogue
from tests.serve.dialects.geostudio.conftest import Studio

ROOT = Path(__file__).resolve().parents[4]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def coast(tmp_path_factory):
    return catalogue.write(tmp_path_factory.mktemp("coast"), size=512, seed=5)


@pytest.fixture(scope="module")
def place(houses, coast, tmp_path_factory):
    """A service that knows the catalogue as a source of its own."""
    folder = tmp_path_factory.mktemp("sources")
    card = yaml.safe_load((ROOT / "configs" / "sources" / "local-catalogue.yaml").read_text())
    (folder / "coast.yaml").write_text(yaml.safe_dump(card | {"id": "coast", "url": str(coast.catalog)}))
    house = houses(front={"rate_per_minute": 10_000}, local_roots=(coast.folder,), sources_dir=folder)
    return Studio(house, house.person())


@pytest.fixture(scope="module")
def box(coast):
    west, south, east, north = (float(v) for v in str(coast.aoi).split(","))
    middle = (south + north) / 2
    return [west, middle, east, north]


def test_sources_are_told(place):
    found = place.get("data-sources?limit=100&skip=0")
    assert list(found) == ["results"]
    first = found["results"][0]
    assert (first["collection_name"], first["connector"]) == ("coast", "catalogue")
    assert {b["band_name"] for b in first["bands"]} >= {"green", "nir08"}
    assert not [one for one in found["results"] if "local-" in one["collection_name"]]
    assert place.get("data-sources?collection=swathe-demo")["results"] == [first]
    assert place.get("data-sources?connector=sentinelhub&limit=1")["results"] == [first]


def test_advice_on_what_there_is(place, box):
    assert "coast" in place.get("data-advice/sentinelhub")["results"]
    assert "msg" in place.get("data-advice/nowhere", 400)["detail"]
    body = {"collections": ["coast"], "dates": ["2024-07-04", "2024-08-20_2024-08-27"], "bbox": [box],
            "area_polygon": None, "maxcc": 90, "pre_days": 1, "post_days": 1}  # fmt: skip
    answer = place.client.post("/v2/data-advice/sentinelhub", json=body)
    assert answer.status_code == 200, answer.text
    found = answer.json()["results"][0]
    assert found["unique_dates"] == ["2024-07-04", "2024-08-28"]
    assert found["available_data"][0]["properties"]["datetime"].endswith("Z")
    nothing = place.client.post("/v2/data-advice/catalogue", json={**body, "dates": ["2023-01-01"]}).json()["results"][
        0
    ]
    assert (nothing["unique_dates"], "2024-07-04" in nothing["message"]) == ([], True)
    assert "available_data" not in nothing
    for edge in ("2020-01-01_9999-12-30", "0001-01-01"):
        answer = place.client.post("/v2/data-advice/catalogue", json={**body, "dates": [edge]})
        assert answer.status_code == 200, answer.text
    for change in ({"collections": ["nothing"]}, {"bbox": [], "area_polygon": None}, {"dates": ["x"]},
                   {"dates": ["9999-12-31"]},
                   {"bbox": [[1, 2, 3]]}):  # fmt: skip
        assert place.client.post("/v2/data-advice/catalogue", json=body | change).status_code == 422


def test_a_box_becomes_a_map(place, box):
    made = place.infer("", spatial_domain={"bbox": [box]}, temporal_domain=["2024-07-01_2024-07-10"],
                       model_display_name="water-mndwi", maxcc=60)  # fmt: skip
    place.work()
    record = place.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED", record["inference_output"]
    steps = place.get(f"inference/{made['id']}/tasks")["tasks"][1]["pipeline_steps"]
    assert [s["process_id"] for s in steps] == ["terrakit-data-fetch", "run-inference", "push-to-geoserver"]
    href = place.get(f"tasks/{made['id']}-task_0/output")["output_url"]
    with zipfile.ZipFile(io.BytesIO(place.house.client().get(href).content)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("pred.tif"))
        with rasterio.MemoryFile(archive.read(name)).open() as result:
            assert result.count == 1
            assert result.res == (10, 10)


def test_clouds_are_masked_and_water_that_nobody_tells_is_missed(place, box):
    """As their notebooks ask: all flags at once. What can be told is in the file, and what cannot, in the errors."""
    flags = {"cloud_masking": "True", "snow_ice_masking": "False", "permanent_water_masking": "True",
             "ocean_masking": "False"}  # fmt: skip
    made = place.infer("", spatial_domain={"bbox": [box]}, temporal_domain=["2024-08-20_2024-09-10"],
                       model_display_name="water-mndwi", post_processing=flags)  # fmt: skip
    place.work()
    record = place.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED_WITH_ERRORS", record
    error = record["inference_output"]["errors"][0]
    assert error["code"] == "1043"
    assert "water cannot be masked" in error["message"]
    steps = {
        s["process_id"]: s["status"] for s in place.get(f"inference/{made['id']}/tasks")["tasks"][1]["pipeline_steps"]
    }
    assert steps["postprocess-generic"] == "FAILED"
    href = place.get(f"tasks/{made['id']}-task_0/output")["output_url"]
    with zipfile.ZipFile(io.BytesIO(place.house.client().get(href).content)) as archive:
        name = next(n for n in archive.namelist() if n.endswith("_pred_masked.tif"))
        with rasterio.MemoryFile(archive.read(name)) as memory, memory.open() as result:
            found = result.read(1)
    assert (found == 999).any()
    assert not (found == 997).any()
    assert record["geoserver_layers"]["predicted_layers"][0]["layer_id"].endswith("-masked")


def test_in_the_order_of_their_plugin_for_qgis(place, box):
    root = "/studio-gateway/v2"
    models = place.client.get(f"{root}/models/", params={"limit": 1000}).json()["results"]
    model = next(m for m in models if m["display_name"] == "water-mndwi")
    wish = {"model_id": model["id"], "spatial_domain": {"bbox": [box]}, "temporal_domain": ["2024-07-01_2024-07-10"],
            "location": "from a map", "description": None}  # fmt: skip
    made = place.client.post(f"{root}/inference/", json=wish)
    assert made.status_code == 201, made.text
    place.work()
    listed = place.client.get(f"{root}/inference/", params={"limit": 100}).json()["results"]
    record = next(one for one in listed if one["id"] == made.json()["id"])
    tasks = place.client.get(f"{root}/inference/{record['id']}/tasks").json()["tasks"]
    answers = {t["task_id"]: place.client.get(f"{root}/tasks/{t['task_id']}/output") for t in tasks}
    assert {id_.rpartition("_")[2]: a.status_code for id_, a in answers.items()} == {"planning": 404, "0": 200}
    url = answers[f"{record['id']}-task_0"].json()["output_url"]
    assert "archive.zip" in url
    with zipfile.ZipFile(io.BytesIO(place.house.client().get(url).content)) as archive:
        names = [name for name in archive.namelist() if name.endswith(("pred.tif", "rgb.tif"))]
    assert {name.rpartition("_")[2] for name in names} == {"pred.tif", "rgb.tif"}
    sld = record["geoserver_layers"]["predicted_layers"][0]["sld_body"]
    entries = re.findall(r"<ColorMapEntry ([^>]*)/>", sld)
    assert len(entries) == 2
    assert all(re.findall(r"(\w+)=", entry) == ["color", "opacity", "quantity", "label"] for entry in entries)


def test_a_place_without_imagery_fails_with_the_number_they_know(place, box):
    made = place.infer(
        "", spatial_domain={"bbox": [box]}, temporal_domain=["2023-01-01"], model_display_name="water-mndwi"
    )
    place.plan()
    record = place.get(f"inference/{made['id']}")
    assert record["status"] == "FAILED"
    error = record["inference_output"]["errors"][0]
    assert error["code"] == "1001"
    assert "2024-07-04" in error["message"]
    log = place.get(f"tasks/{made['id']}-task_planning/logs/inference-planner")
    assert "1001" in place.house.client().get(log["step_log_url"]).text
