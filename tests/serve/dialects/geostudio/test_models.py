"""Models in their words: what comes with the service, what users make, deploy, change and remove."""

import pytest

from serve.desk.adoption import Adoption
from serve.dialects.geostudio import ids
from serve.dialects.geostudio.schema import Spec
from serve.dialects.geostudio.translate import band_names
from serve.store import ids as ours
from swathe.user import Role
from tests.serve.dialects.geostudio.conftest import Studio

CONFIG = """
model:
  class_path: terratorch.tasks.SemanticSegmentationTask
  init_args:
    model_factory: EncoderDecoderFactory
    loss: ce
    model_args:
      backbone: prithvi_eo_tiny
      backbone_pretrained: false
      backbone_bands: [BLUE, GREEN, RED, NIR_NARROW, SWIR_1, SWIR_2]
      necks:
        - {name: SelectIndices, indices: [0, 1, 2, 3]}
        - {name: ReshapeTokensToImage}
        - {name: LearnedInterpolateToPyramidal}
      decoder: UperNetDecoder
      decoder_channels: 16
      num_classes: 2
    tiled_inference_parameters: {h_crop: 64, h_stride: 48, w_crop: 64, w_stride: 48, average_patches: true}
data:
  class_path: terratorch.datamodules.GenericNonGeoSegmentationDataModule
  init_args:
    output_bands: [BLUE, GREEN, RED, NIR_NARROW, SWIR_1, SWIR_2]
    means: [800.0, 900.0, 1000.0, 2500.0, 2000.0, 1500.0]
    stds: [300.0, 300.0, 300.0, 900.0, 800.0, 700.0]
    num_classes: 2
"""
PUSH = {"workspace": "geofm", "layer_name": "pred", "display_name": "Model prediction", "file_suffix": "",
        "filepath_key": "model_output_image", "geoserver_style": {"segmentation": [
            {"color": "#000000", "quantity": "0", "opacity": 0, "label": "land"},
            {"color": "#ff4500", "quantity": "1", "opacity": 1, "label": "burnt"}]}}  # fmt: skip


@pytest.fixture
def trained(studio, tmp_path):
    """Links to a config and to something that stands for a checkpoint."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "state-dict.ckpt").write_bytes(b"not yet looked at")
    return [studio.share(tmp_path / name) for name in ("config.yaml", "state-dict.ckpt")]


def post(studio, path, body, status):
    answer = studio.client.post(f"/v2/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


@pytest.mark.parametrize("letter", list("bfjks"))
def test_their_ids_are_ours_in_another_spelling(letter):
    for _ in range(20):
        id_ = ours.new(letter)
        assert ids.id_of(ids.uuid_of(id_), letter) == id_
        assert ids.id_of_tune(ids.tune_id(id_), letter) == id_
        assert len(ids.tune_id(id_)) == len("geotune-") + 22


def test_what_comes_with_the_service(studio):
    found = studio.get("models?limit=1000&skip=0")
    names = {m["display_name"]: m for m in found["results"]}
    assert {"water-ndwi", "geofm-sandbox-models", "add-layer-sandbox-model"} <= set(names)
    water = names["water-ndwi"]
    assert (water["status"], water["latest"], water["created_by"]) == ("COMPLETED", True, "system@ibm.com")
    assert [b["band_name"] for b in water["model_input_data_spec"][0]["bands"]] == ["green", "nir"]
    assert studio.get(f"models/{water['id']}") == water
    assert names["clay-v1_5-s2"]["status"] == "UNAVAILABLE"
    assert studio.get("models?internal_name=water-ndwi-v1")["total_records"] == 1
    page = studio.get("models?limit=2&skip=1")
    assert (page["page_count"], page["total_records"]) == (2, found["total_records"])
    for method in ("patch", "delete"):
        answer = getattr(studio.client, method)(
            f"/v2/models/{water['id']}", **({"json": {}} if method == "patch" else {})
        )
        assert answer.status_code == 422


def test_a_model_of_ones_own(studio, trained):
    wish = {"display_name": "burn_demo", "description": None, "model_url": None, "geoserver_push": [PUSH],
            "sharable": False, "latest": None, "version": 1.0}  # fmt: skip
    made = post(studio, "models", wish, 201)
    assert made["status"] == "PENDING"
    assert made["internal_name"].startswith("burn-demo-v1-")
    refused = studio.infer("https://a.example/x.tif", 422, model_display_name="burn_demo")
    assert "deploy" in refused["detail"]["msg"]
    config, checkpoint = trained
    deployed = post(studio, f"models/{made['id']}/deploy", {"fine_tuned_model_id": None, "model_configs_url": config,
                                                            "model_checkpoint_url": checkpoint}, 200)  # fmt: skip
    assert set(deployed) == {"id", "internal_name", "display_name", "status"}
    model = studio.get(f"models/{made['id']}")
    assert model["status"] == "COMPLETED"
    card = studio.house.desk.models.get(_caller(studio), deployed["internal_name"]).card
    assert [c.name for c in card.output.classes] == ["land", "burnt"]
    assert (card.input.chip, card.input.overlap, card.input.scale) == (64, 16, 10_000)
    assert card.input.bands == ("blue", "green", "red", "nir08", "swir16", "swir22")
    again = studio.client.post(f"/v2/models/{made['id']}/deploy", json={"model_configs_url": config,
                                                                       "model_checkpoint_url": checkpoint})  # fmt: skip
    assert again.status_code == 422
    asked = studio.infer("https://a.example/x.tif", model_display_name="burn_demo")
    assert asked["model_id"] == made["id"]
    studio.client.post(f"/v2/inference/{asked['id']}/cancel")
    assert studio.client.delete(f"/v2/models/{made['id']}").status_code == 204
    studio.get(f"models/{made['id']}", 404)
    assert deployed["internal_name"] not in [m["internal_name"] for m in studio.get("models?limit=1000")["results"]]


def test_who_sees_a_model_sees_its_network_and_nobody_else_does(house, trained):
    admin, other = (Studio(house, house.person(role)) for role in (Role.ADMIN, Role.MEMBER))
    config, checkpoint = trained
    made = post(admin, "models", {"display_name": "of_an_admin", "sharable": False}, 201)
    post(admin, f"models/{made['id']}/deploy", {"model_configs_url": config, "model_checkpoint_url": checkpoint}, 200)

    def seen():
        return {m["internal_name"]: m["status"] for m in other.get("models?limit=1000")["results"]}

    name = made["internal_name"]
    assert not [one for one in seen() if "of-an-admin" in one]
    assert admin.client.patch(f"/v2/models/{made['id']}", json={"sharable": True}).status_code == 201
    assert seen()[name] == "COMPLETED"
    assert admin.client.patch(f"/v2/models/{made['id']}", json={"sharable": False}).status_code == 201
    assert not [one for one in seen() if "of-an-admin" in one]
    tune = post(admin, "upload-completed-tunes", {"name": "admins-tune", "tune_config_url": config,
                                                  "tune_checkpoint_url": checkpoint}, 201)  # fmt: skip
    other.get(f"tunes/{tune['tune_id']}", 404)
    assert not [one for one in seen() if "admins-tune" in one]


def own_cards(studio):
    return [s.card.id for s in studio.house.desk.models.listed(_caller(studio)) if s.owner == studio.person.user.id]


def test_a_shared_model_is_deployed_by_its_owner_alone(studio, trained):
    """Who may not leaves nothing behind."""
    admin = Studio(studio.house, studio.house.person(Role.ADMIN))
    made = post(admin, "models", {"display_name": "for_all", "sharable": True}, 201)
    body = dict(zip(("model_configs_url", "model_checkpoint_url"), trained, strict=True))
    assert "owner" in post(studio, f"models/{made['id']}/deploy", body, 403)["detail"]
    assert own_cards(studio) == []
    assert studio.get(f"models/{made['id']}")["status"] == "PENDING"


def test_a_model_that_goes_while_it_is_deployed_leaves_no_network(studio, trained, monkeypatch):
    made = post(studio, "models", {"display_name": "short_lived"}, 201)
    adopt, presets = Adoption.adopt, studio.house.desk.presets

    def adopted(*given, **more):
        state = adopt(*given, **more)
        assert own_cards(studio) == [state.card.id]
        presets.drop(_caller(studio), ids.id_of(made["id"], "s"))
        return state

    monkeypatch.setattr(Adoption, "adopt", adopted)
    body = dict(zip(("model_configs_url", "model_checkpoint_url"), trained, strict=True))
    post(studio, f"models/{made['id']}/deploy", body, 404)
    assert own_cards(studio) == []


def test_what_is_said_in_a_change_counts_and_null_says_nothing(studio):
    made = post(studio, "models", {"display_name": "mine", "description": "first", "geoserver_push": [PUSH],
                                   "postprocessing_options": {"cloud_masking": "True"}}, 201)  # fmt: skip
    answer = studio.client.patch(f"/v2/models/{made['id']}", json={
        "description": "", "latest": False, "geoserver_push": [], "postprocessing_options": {}, "display_name": None,
    })  # fmt: skip
    assert answer.status_code == 201
    changed = {name: answer.json()[name] for name in ("description", "latest", "geoserver_push", "display_name",
                                                      "postprocessing_options")}  # fmt: skip
    assert changed == {"description": "", "latest": False, "geoserver_push": [], "display_name": "mine",
                       "postprocessing_options": {}}  # fmt: skip


def test_a_change_as_their_client_sends_it_wipes_nothing(studio):
    """It names all fields that it knows, null where its user said nothing."""
    made = post(studio, "models", {
        "display_name": "kept", "description": "first", "model_url": "https://here/v2/models/water-ndwi",
        "geoserver_push": [PUSH], "model_input_data_spec": [{"bands": {"0": "B03"}, "collection": "s2_l2a"}],
        "postprocessing_options": {"cloud_masking": "True"}, "pipeline_steps": [{"process_id": "x"}],
    }, 201)  # fmt: skip
    answer = studio.client.patch(f"/v2/models/{made['id']}", json={
        "display_name": "renamed", "description": "second", "model_url": None, "pipeline_steps": None,
        "geoserver_push": None, "model_input_data_spec": None, "postprocessing_options": None, "sharable": False,
        "model_onboarding_config": None, "latest": None,
    })  # fmt: skip
    assert answer.status_code == 201
    moved = ("display_name", "description", "internal_name", "updated_at")
    assert {k: v for k, v in answer.json().items() if k not in moved} == {
        k: v for k, v in made.items() if k not in moved
    }
    assert (answer.json()["display_name"], answer.json()["description"]) == ("renamed", "second")
    assert answer.json()["status"] == "COMPLETED"


def test_the_same_name_again_is_a_new_version(studio):
    first = post(studio, "models", {"display_name": "twice", "model_url": "https://here/v2/models/water-ndwi"}, 201)
    second = post(studio, "models", {"display_name": "twice", "model_url": "https://here/water-mndwi/"}, 201)
    assert (first["version"], second["version"]) == (1.0, 2.0)
    assert studio.get(f"models/{first['id']}")["latest"] is False
    assert studio.infer("https://a.example/x.tif", model_display_name="twice")["model_id"] == second["id"]
    by_id = studio.infer("https://a.example/x.tif", model_display_name=None, model_id=first["id"])
    assert by_id["model_id"] == first["id"]


def test_one_of_several_versions_is_the_latest(studio):
    first = post(studio, "models", {"display_name": "one", "model_url": "water-ndwi"}, 201)
    second = post(studio, "models", {"display_name": "one", "model_url": "water-ndwi", "latest": False}, 201)
    third = post(studio, "models", {"display_name": "one", "model_url": "water-ndwi", "latest": False}, 201)

    def latest():
        return [studio.get(f"models/{m['id']}")["latest"] for m in (first, second, third)]

    assert [m["version"] for m in (first, second, third)] == [1.0, 2.0, 3.0]
    assert latest() == [True, False, False]
    assert studio.infer("https://a.example/x.tif", model_display_name="one")["model_id"] == first["id"]
    assert studio.client.patch(f"/v2/models/{third['id']}", json={"latest": True}).status_code == 201
    assert latest() == [False, False, True]


def test_settings_that_an_older_service_kept_are_refused_when_they_are_used(studio, trained):
    """What cannot be used is refused when it is sent; before, it was kept."""
    made = post(studio, "models", {"display_name": "older", "model_url": "water-ndwi"}, 201)
    presets, bad = studio.house.desk.presets, {"cloud_masking": "maybe"}
    preset = presets.get(_caller(studio), ids.id_of(made["id"], "s"))
    fields = {**preset.labels["fields"], "postprocessing_options": bad}
    presets.change(_caller(studio), preset.id, labels={**preset.labels, "fields": fields})
    refused = studio.infer("https://a.example/x.tif", 422, model_display_name="older")
    assert "cloud_masking" in str(refused["detail"])
    body = {"name": "older", "tune_config_url": trained[0], "tune_checkpoint_url": trained[1], "post_processing": bad}
    assert "cloud_masking" in str(post(studio, "upload-completed-tunes", body, 422)["detail"])
    tune = post(studio, "upload-completed-tunes", {**body, "post_processing": None}, 201)["tune_id"]
    for options in ({"post_processing": bad}, {"geoserver_push": [{}]}):
        assert studio.client.patch(f"/v2/tunes/{tune}", json={"train_options": options}).status_code == 422
    preset = presets.get(_caller(studio), ids.id_of_tune(tune, "s"))
    fields = {**preset.labels["fields"], "train_options": {"post_processing": bad}}
    presets.change(_caller(studio), preset.id, labels={**preset.labels, "fields": fields})
    tried = {"location": "x", "temporal_domain": [], "spatial_domain": {"urls": ["https://a.example/x.tif"]}}
    assert "cloud_masking" in str(post(studio, f"tunes/{tune}/try-out", tried, 422)["detail"])


@pytest.mark.parametrize(
    ("body", "says"),
    [({"display_name": "no spaces"}, "letters"), ({}, "display_name"), ({"display_name": "x" * 101}, "100"),
     ({"display_name": "x", "model_url": "https://far.example/predict"}, "no model of this service"),
     ({"display_name": "x", "geoserver_push": [{"workspace": "w"}]}, "layer_name"),
     ({"display_name": "x", "postprocessing_options": {"cloud_masking": "maybe"}}, "cloud_masking"),
     ({"display_name": "x", "geoserver_push": [PUSH] * 17}, "16")],
)  # fmt: skip
def test_models_that_cannot_be_made(studio, body, says):
    assert says in str(post(studio, "models", body, 422)["detail"])


def test_models_that_are_not_there(studio):
    assert isinstance(studio.get("models/11111111-2222-3333-4444-555555555555", 404)["detail"], str)
    assert studio.get("models/nonsense", 422)["detail"][0]["loc"] == ["path", "id"]
    assert studio.infer("https://a.example/x.tif", 404, model_display_name="nobody")["detail"]
    other = studio.house.client(studio.house.person())
    made = post(studio, "models", {"display_name": "hidden"}, 201)
    assert other.get(f"/v2/models/{made['id']}").status_code == 404


@pytest.mark.parametrize(
    ("config", "says"),
    [("- 1", "no mapping"), ("model: !!python/object/apply:os.system [ls]", "tag"),
     (CONFIG.replace("terratorch.tasks.SemanticSegmentationTask", "os.system"), "os.system"),
     (CONFIG.replace("num_classes: 2", ""), "how many classes"),
     (CONFIG.replace("BLUE, GREEN", "INDIGO, GREEN"), "INDIGO"), (CONFIG.replace("800.0, ", ""), "5 means"),
     (CONFIG.replace("    means:", "    constant_scale: 0\n    means:"), "input.scale"),
     (CONFIG.replace("    means:", f"    constant_scale: {10**400}\n    means:"), "constant_scale is no number"),
     (CONFIG.replace("800.0", str(10**400)), "one number per band"), (CONFIG.replace("800.0", ".nan"), "one number"),
     (CONFIG.replace("300.0, 300.0", "300.0, 0"), "std must be positive"),
     (CONFIG + "#" * 300_000, "more than"), (CONFIG + "x: &x [*x]", "aliases"), (CONFIG + "x: 2024-13-45", "no YAML"),
     (CONFIG.replace("h_crop: 64", f"h_crop: {10**30}"), "input.chip")],
)  # fmt: skip
def test_configs_of_strangers(studio, tmp_path, trained, config, says):
    (tmp_path / "config.yml").write_text(config)
    body = {"name": "bad", "description": "", "tune_config_url": studio.share(tmp_path / "config.yml"),
            "tune_checkpoint_url": trained[1]}  # fmt: skip
    answer = studio.client.post("/v2/upload-completed-tunes", json=body)
    assert answer.status_code in (403, 422), answer.text
    assert says in answer.json()["detail"]
    assert studio.get("tunes")["total_records"] == 0


def test_a_tune_from_its_upload_to_its_removal(studio, trained):
    config, checkpoint = trained
    body = {"name": "burn-tune", "description": "tiny", "tune_config_url": config, "tune_checkpoint_url": checkpoint,
            "model_input_data_spec": None, "data_connector_config": None, "geoserver_push": [PUSH],
            "post_processing": None}  # fmt: skip
    made = post(studio, "upload-completed-tunes", body, 201)
    assert made["tune_id"].startswith("geotune-")
    tune = studio.get(f"tunes/{made['tune_id']}")
    assert (tune["status"], tune["name"]) == ("Finished", "burn-tune")
    assert tune["train_options"]["geoserver_push"][0]["layer_name"] == "pred"
    assert studio.get("tunes?name=burn&status=Finished")["total_records"] == 1
    together = studio.get("tunes-and-models?limit=1000")["results"]
    assert (together[0]["id"], len(together)) == (made["tune_id"], 1 + studio.get("models?limit=1")["total_records"])
    links = studio.get(f"tunes/{made['tune_id']}/download")
    anybody = studio.house.client()
    assert anybody.get(links["config_url"]).text == CONFIG
    assert anybody.get(links["checkpoint_url"]).content == b"not yet looked at"
    assert studio.get(f"tunes/{made['tune_id']}/metrics")["runs"] == []
    tried = post(studio, f"tunes/{made['tune_id']}/try-out", {"location": "there", "temporal_domain": ["2024-07-25"],
                 "spatial_domain": {"urls": ["https://a.example/x.tif"]}, "model_display_name": ""}, 200)  # fmt: skip
    assert (tried["model_display_name"], tried["fine_tuning_id"]) == ("geofm-sandbox-models", made["tune_id"])
    assert studio.get(f"models/{tried['model_id']}")["display_name"] == "geofm-sandbox-models"
    assert studio.get(f"tunes/{made['tune_id']}") == tune
    steps = studio.get(f"inference/{tried['id']}/tasks")["tasks"][1]["pipeline_steps"]
    assert [s["process_id"] for s in steps] == ["url-connector", "terratorch-inference", "push-to-geoserver"]
    assert studio.get(f"inference?tune_id={made['tune_id']}")["total_records"] == 1
    changed = studio.client.patch(f"/v2/tunes/{made['tune_id']}", json={"name": "other", "description": None})
    assert (changed.status_code, list(changed.json())) == (200, ["message"])
    renamed = studio.get(f"tunes/{made['tune_id']}")
    assert (renamed["name"], renamed["description"]) == ("other", "tiny")
    for options, kept in (({"post_processing": {"cloud_masking": "True"}}, True), ({}, True),
                          ({"post_processing": None}, False)):  # fmt: skip
        body = {"name": None, "description": None, "train_options": options}  # their client sends {} with every change
        assert studio.client.patch(f"/v2/tunes/{made['tune_id']}", json=body).status_code == 200
        shown = studio.get(f"tunes/{made['tune_id']}")
        assert bool(shown["train_options"]["post_processing"]) is kept
        assert shown["name"] == "other"
    studio.client.patch(f"/v2/tunes/{made['tune_id']}", json={"description": ""})
    assert studio.get(f"tunes/{made['tune_id']}")["description"] == ""
    studio.client.post(f"/v2/inference/{tried['id']}/cancel")
    assert studio.client.delete(f"/v2/tunes/{made['tune_id']}").status_code == 204
    studio.get(f"tunes/{made['tune_id']}", 404)
    studio.get("tunes/geotune-nonsense", 404)


def test_bands_of_the_older_form_are_in_the_order_of_their_numbers():
    bands = {str(n): f"B{n:02d}" for n in (10, 2, 1, 0, 11)}
    assert band_names([Spec(bands=bands)]) == ["B00", "B01", "B02", "B10", "B11"]


def test_training_is_not_here_and_says_so(studio):
    for method, path in (("post", "submit-tune"), ("post", "datasets/onboard"), ("get", "groups"),
                         ("get", "artifacts"), ("delete", "datasets/geodata-x")):  # fmt: skip
        answer = getattr(studio.client, method)(f"/v2/{path}")
        assert answer.status_code == 501
        assert answer.json()["detail"]["msg"]
    assert studio.get("base-models") == {"total_records": 0, "page_count": 0, "results": []}
    studio.get("tune-templates/x", 404)


def _caller(studio):
    from swathe.user import SCOPES_OF, Caller

    return Caller(studio.person.user, SCOPES_OF[studio.person.user.role])
