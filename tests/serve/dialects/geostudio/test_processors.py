"""Users' own programs in their words: brought, listed, run behind a wall, and what becomes of bad ones."""

import io
import json
import time
import zipfile

import pytest
import rasterio

from pipelines.sandbox.isolation import isolation
from serve.store import processors

HEAD = "import json, sys\n\n\ndef main(source, target, parameters):\n"
TAIL = "\n\nif __name__ == '__main__':\n    main(*sys.argv[1:4])\n"
TURNED = (
    HEAD
    + """    import rasterio

    with rasterio.open(source) as file:
        values, profile = file.read(), file.profile
    with rasterio.open(target, "w", **profile) as file:
        file.write(1 - values)
    print(json.dumps({"turned": json.load(open(parameters))["how"]}))"""
    + TAIL
)
BREAKS = HEAD + "    print('I give up'); sys.exit(1)" + TAIL


@pytest.fixture(autouse=True)
def walls():
    if isolation().walls is None:
        pytest.skip("this machine cannot shut a program in")


def bring(studio, source=TURNED, name="turn.py", field="generic_processor_metadata", **about):
    about = {"name": "turn", "description": None, "processor_parameters": {"how": 1}} | about
    return studio.client.post("/v2/generic-processor", files={"generic_processor_file": (name, source.encode())},
                              data={field: json.dumps(about)})  # fmt: skip


def test_a_program_from_its_coming_to_its_going(studio):
    assert studio.get("generic-processor") == {"total_records": 0, "page_count": 0, "results": []}
    made = bring(studio)
    assert made.status_code == 201, made.text
    one = made.json()
    assert (one["name"], one["status"], one["active"]) == ("turn", "FINISHED", True)
    assert one["processor_file_path"] == f"{one['id']}/turn.py"
    assert bring(studio, field="generic_processor").status_code == 201
    assert studio.get("generic-processor")["total_records"] == 2
    found = studio.get(f"generic-processor/{one['id']}")
    assert studio.house.client().get(found["processor_presigned_url"]).text == TURNED
    other = studio.house.client(studio.house.person())
    assert other.get(f"/v2/generic-processor/{one['id']}").status_code == 404
    assert studio.client.delete(f"/v2/generic-processor/{one['id']}").status_code == 204
    studio.get(f"generic-processor/{one['id']}", 404)
    assert studio.get("generic-processor")["total_records"] == 1


def test_how_it_is_called_may_be_said(studio):
    def call(made):
        assert made.status_code == 201, made.text
        from serve.dialects.geostudio.ids import id_of

        with studio.house.desk.store.read() as c:
            return processors.get(c, id_of(made.json()["id"], "r")).call

    assert call(bring(studio)) == "positional"
    assert call(bring(studio, call="flags")) == "flags"
    assert call(bring(studio, TURNED + "OPTION = '--input'\n")) == "flags"
    assert call(bring(studio, TURNED + "# --input\n")) == "positional"  # mentioned in passing: it reads sys.argv[1:4]
    assert call(bring(studio, TURNED.replace("load(open(parameters))", "loads(parameters)"))) == "text"
    assert call(bring(studio, TURNED + "OPTION = '--input'\n", call="text")) == "text"
    assert bring(studio, call="shell").status_code == 422


def pixels(content):
    with rasterio.MemoryFile(content) as memory, memory.open() as file:
        return file.read(1)


@pytest.mark.parametrize(
    ("given", "says"),
    [({"name": "turn.txt"}, ".py"), ({"source": "print(1)"}, "__main__"), ({"source": "def ("}, "Python")],
)
def test_what_is_no_program_is_refused(studio, given, says):
    answer = bring(studio, **given)
    assert answer.status_code == 422
    assert says.lower() in answer.text.lower()


def test_metadata_that_cannot_be_read(studio):
    for text in ("{", "[]", "{}", None):
        answer = studio.client.post("/v2/generic-processor", files={"generic_processor_file": ("a.py", b"x")},
                                    data={} if text is None else {"generic_processor_metadata": text})  # fmt: skip
        assert (answer.status_code, type(answer.json()["detail"])) == (422, str)


def test_it_runs_on_the_result(studio, image):
    id_ = bring(studio).json()["id"]
    made = studio.infer(studio.share(image), generic_processor_id=id_)
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED", record["inference_output"]
    assert (record["generic_processor_id"], record["generic_processor"]["name"]) == (id_, "turn")
    task = studio.get(f"inference/{made['id']}/tasks")["tasks"][1]
    steps = {s["process_id"]: s for s in task["pipeline_steps"]}
    assert list(steps) == ["url-connector", "run-inference", "generic-python-processor", "push-to-geoserver"]
    assert steps["generic-python-processor"]["status"] == "FINISHED"
    assert steps["generic-python-processor"]["start_time"]
    href = studio.get(f"tasks/{task['task_id']}/output-url")["url"]
    with zipfile.ZipFile(io.BytesIO(studio.house.client().get(href).content)) as archive:
        found = {name.rpartition("imputed_")[2]: pixels(archive.read(name))
                 for name in archive.namelist() if name.endswith("pred.tif")}  # fmt: skip
    assert (found["processed_pred.tif"] == 1 - found["pred.tif"]).all()
    log = studio.get(f"tasks/{task['task_id']}/logs/generic-python-processor")
    assert "turned" in studio.house.client().get(log["step_log_url"]).text
    assert record["geoserver_layers"]["predicted_layers"][0]["layer_id"].endswith("-processed")


@pytest.mark.parametrize("levels", [65, 300, 900])
def test_what_it_prints_breaks_no_list(studio, image, levels):
    printed = '{"a": ' * levels + "1" + "}" * levels
    id_ = bring(studio, TURNED.replace('json.dumps({"turned": json.load(open(parameters))["how"]})', repr(printed)))
    made = studio.infer(studio.share(image), generic_processor_id=id_.json()["id"])
    studio.work()
    assert studio.get(f"inference/{made['id']}")["status"] == "COMPLETED"
    answer = studio.house.client(studio.person).get("/api/jobs")
    assert answer.status_code == 200, answer.text
    (step,) = answer.json()["jobs"][0]["result"]["steps"]
    assert (step["state"], step["detail"]["result"]) == ("finished", None)


def test_one_that_is_deleted_still_runs_in_what_was_accepted_before(studio, image):
    id_ = bring(studio).json()["id"]
    made = studio.infer(studio.share(image), generic_processor_id=id_)
    assert studio.client.delete(f"/v2/generic-processor/{id_}").status_code == 204
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED", record["inference_output"]
    steps = {s["process_id"]: s["status"] for s in _steps(studio, made)}
    assert steps["generic-python-processor"] == "FINISHED"
    assert "processor" in studio.infer(studio.share(image), 404, generic_processor_id=id_)["detail"]


def test_one_that_stops_on_purpose_is_not_called_failed(studio, image):
    id_ = bring(studio, HEAD + "    print('nothing to do here'); sys.exit(177)" + TAIL).json()["id"]
    made = studio.infer(studio.share(image), generic_processor_id=id_)
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert (record["status"], record["tasks_count_failed"], record["tasks_count_stopped"]) == (
        "COMPLETED_WITH_ERRORS", 0, 1,
    )  # fmt: skip
    steps = {s["process_id"]: s for s in _steps(studio, made)}
    assert steps["generic-python-processor"]["status"] == "STOPPED"
    assert steps["generic-python-processor"]["start_time"]


def _steps(studio, made):
    return studio.get(f"inference/{made['id']}/tasks")["tasks"][1]["pipeline_steps"]


@pytest.mark.slow
def test_one_that_fails_says_so_and_the_rest_stays(studio, image):
    id_ = bring(studio, BREAKS).json()["id"]
    made = studio.infer(studio.share(image), generic_processor_id=id_)
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert record["status"] == "COMPLETED_WITH_ERRORS"
    assert record["inference_output"]["errors"][0]["code"] == "1043"
    task = studio.get(f"inference/{made['id']}/tasks")["tasks"][1]
    steps = {s["process_id"]: s["status"] for s in task["pipeline_steps"]}
    assert steps["generic-python-processor"] == "FAILED"
    assert (record["tasks_count_failed"], record["tasks_count_stopped"]) == (1, 0)
    log = studio.get(f"tasks/{task['task_id']}/logs/generic-python-processor")
    assert "I give up" in studio.house.client().get(log["step_log_url"]).text
    assert studio.get(f"tasks/{task['task_id']}/output")["url"]


def test_one_that_is_not_there(studio, image):
    answer = studio.infer(studio.share(image), 404, generic_processor_id="11111111-2222-3333-4444-555555555555")
    assert "processor" in answer["detail"]


def test_one_that_was_not_reached_is_not_called_finished(studio, image):
    id_ = bring(studio, BREAKS).json()["id"]
    # a bare image brings no mask of clouds, so the step before it fails
    made = studio.infer(studio.share(image), generic_processor_id=id_, post_processing={"cloud_masking": "True"})
    studio.work()
    record = studio.get(f"inference/{made['id']}")
    assert (record["status"], record["tasks_count_failed"], record["tasks_count_stopped"]) == (
        "COMPLETED_WITH_ERRORS", 1, 1,
    )  # fmt: skip
    steps = {s["process_id"]: s for s in studio.get(f"inference/{made['id']}/tasks")["tasks"][1]["pipeline_steps"]}
    assert steps["postprocess-generic"]["status"] == "FAILED"
    assert steps["generic-python-processor"] == {
        "status": "STOPPED", "process_id": "generic-python-processor",
        "step_number": steps["generic-python-processor"]["step_number"],
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        '{"name": "a", "processor_parameters": {"x": NaN}}', '{"name": "a", "processor_parameters": {"x": 1e999}}',
        '{"name": "a\\u0000"}', '{"name": "a", "description": "\\ud800"}',
        '{"name": "a", "processor_parameters": ' + '{"x":' * 100 + "1" + "}" * 101,
        '{"name": "a", "processor_parameters": ' + "[" * 100_000, '{"name": "a", "processor_parameters": [1]}',
        '{"name": ""}', '{"name": ["a"]}', '{"name": "' + "a" * 101 + '"}',
    ],
)  # fmt: skip
def test_metadata_that_no_database_keeps_are_refused_and_the_list_stays(studio, text):
    answer = studio.client.post("/v2/generic-processor", files={"generic_processor_file": ("a.py", TURNED.encode())},
                                data={"generic_processor_metadata": text})  # fmt: skip
    assert (answer.status_code, type(answer.json()["detail"])) == (422, str), answer.text
    assert studio.get("generic-processor")["total_records"] == 0


@pytest.mark.parametrize("name", ["фильтр.py", 'a"b\\c.py', "..\\..\\passwd.py", "../../.py", "a b 🌊.py"])
def test_a_file_of_any_name_can_be_fetched_again(studio, name):
    made = bring(studio, name=name)
    if made.status_code == 422:  # a dot alone is no name
        assert ".py" in made.json()["detail"]
        return
    found = studio.get(f"generic-processor/{made.json()['id']}")
    answer = studio.house.client().get(found["processor_presigned_url"])
    assert (answer.status_code, answer.text) == (200, TURNED)
    assert "/" not in answer.headers["content-disposition"]
    assert answer.headers["content-disposition"].startswith('attachment; filename="')


def test_a_script_that_is_mostly_signs_is_not_parsed(studio):
    began = time.monotonic()
    answer = bring(studio, "x = (" + "1," * 2_000_000 + ")\n" + TURNED)
    assert (answer.status_code, "punctuation" in answer.json()["detail"]) == (422, True)
    assert time.monotonic() - began < 5
    data = "x = '" + "QUJD" * 1_000_000 + "'\n"
    assert bring(studio, data + TURNED).status_code == 201
