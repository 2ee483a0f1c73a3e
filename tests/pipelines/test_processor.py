"""A user's script as the last step: what it may write, how it is called, and every way in which it can go wrong."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from pipelines.begin import begin, look
from pipelines.run import Request, run
from pipelines.runner import Loop
from pipelines.sandbox.bounds import Bounds
from pipelines.sandbox.isolation import Isolation, isolation
from pipelines.steps import processor as processors
from pipelines.steps.chosen import treatments_of
from pipelines.steps.script import Call, call_of, check_parameters, check_script, flags, last_json
from swathe.errors import InputError, LimitError
from swathe.recipe import ProcessorWish, Recipe
from swathe.state import State
from swathe.step import StepState, fold

pytestmark = pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")
BOUNDS = Bounds(seconds=120, memory_mb=2048, output_mb=32, files=50, said_mb=1)

GOOD = """
import json, sys
import numpy as np, rasterio
def main(source, target, params):
    params = json.load(open(params))
    with rasterio.open(source) as file:
        data, profile = file.read(), file.profile
    print("working")
    print("to stderr", file=sys.stderr)
    data[data == params["of"]] = params["to"]
    with rasterio.open(target, "w", **profile) as file:
        file.write(data)
    print(json.dumps({"pixels": int((data == params["to"]).sum())}))
if __name__ == "__main__":
    main(*sys.argv[1:4])
"""
WRITE = """
import sys, json, os
import numpy as np, rasterio
if __name__ == "__main__":
    with rasterio.open(sys.argv[1]) as file:
        data, profile, transform = file.read(1), file.profile, file.transform
    profile = {{"driver": "GTiff", "width": data.shape[1], "height": data.shape[0], "count": 1, "dtype": "uint8",
               "crs": profile["crs"], "transform": transform}}
    {change}
    with rasterio.open(sys.argv[2], "w", **profile) as file:
        file.write(np.broadcast_to(np.asarray(data).astype(profile["dtype"]), (profile["count"], *data.shape)))
"""
MAIN = 'import sys, os, time, json\nif __name__ == "__main__":\n    '


@pytest.fixture(scope="module")
def small(write_scene, tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("small") / "scene.tif", (96, 120))


@pytest.fixture
def processed(card, small, home, sensors, tmp_path):
    """Run a script over a small result: gives outcome, its one step, and the folder."""

    def processed(text, parameters=None, **more):
        script = tmp_path / "script.py"
        script.write_text(text)
        events, out = [], tmp_path / "out"

        class Watch:
            def event(self, event):
                events.append(event)

            def progress(self, done, total):
                pass

        wish = ProcessorWish(str(script), parameters or {}, more.pop("call", ""))
        recipe = Recipe(card.id, (str(small),), processor=wish)
        made = begin(recipe, card, look(recipe, card, sensors), 1)
        treatments = treatments_of(recipe, replace(BOUNDS, **more))
        outcome = run(made, Request(out, home, treatments=treatments), Loop(), Watch())
        return outcome, fold(events)[0], out

    return processed


def read(path):
    with rasterio.open(path) as file:
        return file.read()


def test_a_script_makes_the_result(processed):
    outcome, step, out = processed(GOOD, {"of": 1, "to": 2})
    assert (outcome.state, step.state) == (State.DONE, StepState.FINISHED)
    before, after = read(out / "result.tif"), read(out / "processed.tif")
    assert np.array_equal(after, np.where(before == 1, 2, before))
    assert (before == 1).any()
    assert step.detail["result"] == {"pixels": int((after == 2).sum())}
    assert step.detail["isolation"]["level"] == isolation().level
    assert step.detail["raster"]["classes"] == "unchanged"
    log = (out / "processor.log").read_text()
    assert "working" in log
    assert "to stderr" in log
    assert "isolation" in log
    valid, errors, _ = cog_validate(out / "processed.tif", strict=True)
    assert (valid, errors) == (True, [])
    with rasterio.open(out / "processed.tif") as file, rasterio.open(out / "result.tif") as source:
        assert (file.crs, file.transform, file.shape) == (source.crs, source.transform, source.shape)
        assert file.colormap(1) == source.colormap(1)
    assert (out / "processed.tif.aux.xml").exists()
    assert outcome.report["published"] == "processed.tif"


def test_flags_are_used_where_the_script_names_them(processed):
    outcome, step, out = processed("""
import argparse, pathlib, shutil, json
if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("input", "output", "of", "list", "text"):
        parser.add_argument(f"--{name}")
    given = parser.parse_args()
    shutil.copy(given.input, pathlib.Path(given.output) / "anything.tif")
    print(json.dumps(vars(given)))
# --input
""", {"of": 3, "list": [1, 2], "text": "$(id); `id` 'x'"})  # fmt: skip
    assert outcome.state is State.DONE
    assert step.detail["call"] == "flags"
    assert step.detail["result"] == {
        "input": "/in/result.tif", "output": "/out", "of": "3", "list": "[1, 2]", "text": "$(id); `id` 'x'"
    }  # fmt: skip
    assert np.array_equal(read(out / "processed.tif"), read(out / "result.tif"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "bounds", "code"),
    [
        (MAIN + "time.sleep(60)", {"seconds": 3}, "processor.time"),
        (MAIN + "while True: pass", {"cpu_s": 2}, "processor.cpu"),
        (MAIN + "while True: print('x' * 1000)", {}, "processor.said"),
        (MAIN + "pass", {}, "processor.nothing"),
        (MAIN + "sys.exit(1)", {}, "processor.failed"),
        (MAIN + "raise KeyError('mine')", {}, "processor.failed"),
        (MAIN + "sys.exit(177)", {}, "processor.stopped"),
        (MAIN + "[open(f'f{i}', 'w').close() for i in range(200)]; time.sleep(60)", {}, "processor.files"),
        (MAIN + "[open(str(i), 'wb').write(bytes(8 << 20)) for i in range(8)]; time.sleep(60)", {}, "processor.output"),
        (MAIN + "[os.fork() or time.sleep(60) for _ in range(24)]; time.sleep(60)", {"processes": 20},
         "processor.processes"),
        (MAIN + "kept = [open('f', 'w+b') for _ in range(5) if not os.path.exists('f') or not os.remove('f')]\n    "
         "[(f.write(bytes(8 << 20)), f.flush()) for f in kept]; time.sleep(60)", {}, "processor.output"),
        (MAIN + "open(sys.argv[2], 'w').write('hello')", {}, "image.content"),
        (MAIN + "open(sys.argv[2], 'wb').write(b'II*\\0' + bytes(100))", {}, "imagery.unreadable"),
        (MAIN + "os.mkdir(sys.argv[2])", {}, "processor.file"),
        (MAIN + "[open(f'{n}.tif', 'w') for n in 'ab']", {}, "processor.several"),
        (WRITE.format(change="profile['crs'] = 'EPSG:32634'"), {}, "processor.grid"),
        (WRITE.format(change="data = data[1:]; profile['height'] -= 1"), {}, "processor.grid"),
        (WRITE.format(change="profile['transform'] = transform.translation(5, 0) @ transform"), {}, "processor.grid"),
        (WRITE.format(change="profile['dtype'] = 'complex64'"), {}, "imagery.complex"),
        (WRITE.format(change="profile['dtype'] = 'int32'; data = data.astype('int32') + (1 << 30) + 1"), {},
         "processor.type"),
    ],
    ids=range(20),
)  # fmt: skip
def test_what_goes_wrong_fails_the_step_alone(processed, text, bounds, code):
    outcome, step, out = processed(text, **bounds)
    assert (outcome.state, step.state) == (State.INCOMPLETE, StepState.FAILED)
    assert step.problem["code"] == code, step.problem
    assert code in (out / "processor.log").read_text()
    assert {"result.tif", "item.json", "report.json"} <= {p.name for p in out.iterdir()}
    assert not (out / "processed.tif").exists()
    assert "/tmp/" not in json.dumps(step.problem)
    if code == "processor.grid":
        assert step.problem["detail"].count(" px of ") == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "dtype", "nodata"),
    [
        ("profile['nodata'] = 0; data[data == 255] = 0", "uint8", 255),
        ("profile |= {'dtype': 'uint16', 'nodata': 7}; data = data.astype('uint16') * 100", "uint16", 7),
        ("profile['dtype'] = 'int16'; data = data.astype('int16') - 300", "float32", math.nan),
        ("profile |= {'dtype': 'float64', 'nodata': -9999}; data = data / 3", "float32", math.nan),
        ("profile['count'] = 3", "uint8", 255),
    ],
)
def test_other_types_are_kept_as_numbers(processed, change, dtype, nodata):
    outcome, step, out = processed(WRITE.format(change=change))
    assert outcome.state is State.DONE, step.problem
    with rasterio.open(out / "processed.tif") as file:
        assert file.dtypes[0] == dtype
        assert file.nodata == pytest.approx(nodata, nan_ok=True)
        data = file.read(1)
    before = read(out / "result.tif")[0]
    if "'nodata': 7" in change:
        assert np.array_equal(data, before.astype("uint16") * 100)
    elif "- 300" in change:
        assert np.array_equal(data, before.astype("float32") - 300)
    elif "/ 3" in change:
        assert np.array_equal(data, (before / 3).astype("float32"))
    elif "'] = 0;" in change:
        assert np.array_equal(data, np.where(before == 0, 255, before))


def test_without_isolation_nothing_is_run(processed, monkeypatch):
    monkeypatch.setattr(processors, "isolation", lambda: Isolation("none", None, "bubblewrap is not installed"))
    _, step, out = processed(MAIN + "open('/out/ran', 'w')")
    assert step.problem["code"] == "processor.isolation"
    assert "bubblewrap" in step.problem["detail"]
    assert step.detail["isolation"]["level"] == "none"
    assert not (out / "processed.tif").exists()


# --- scripts, before they run -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.txt", GOOD, "processor.name"),
        ("a.py", "def x(:\n", "processor.syntax"),
        ("a.py", "print(1)", "processor.main"),
        ("a.py", "if __name__ != '__main__':\n    pass", "processor.main"),
        ("a.py", "x = '''if __name__ == \"__main__\":'''", "processor.main"),
        ("a.py", "\0", "processor.syntax"),
        ("a.py", "(" * 100_000, "processor.syntax"),
        ("a.py", "#" * 10_000_001, "limit.processor"),
        ("a.py", "x = [" + "," * 500_001, "limit.processor"),
    ],
)
def test_scripts_that_cannot_run_are_refused(name, content, code):
    with pytest.raises((InputError, LimitError)) as caught:
        check_script(name, content.encode())
    assert caught.value.problem.code == code


def test_a_main_block_counts_wherever_it_stands():
    check_script("a.py", b"if __name__ == '__main__':\n    pass")
    check_script("a.py", b"if '__main__' == __name__: pass")


def test_how_a_script_is_called():
    assert call_of(b"x") is Call.POSITIONAL
    with pytest.raises(InputError, match="30,000"):
        check_parameters({"a": "x" * 30_000}, Call.TEXT)
    check_parameters({"a": "x" * 60_000}, Call.POSITIONAL)
    assert call_of(b"add('--input')") is Call.FLAGS
    assert call_of(b"add('--input')", "positional") is Call.POSITIONAL
    with pytest.raises(InputError, match="no way"):
        call_of(b"x", "shell")
    assert list(flags({"a": 1, "b": True, "c": {"d": 1}})) == ["--a", "1", "--b", "True", "--c", '{"d": 1}']


GUIDE = """
import json, sys
import rasterio

def main(source, target, parameters):
    with rasterio.open(source) as file:
        data, profile = file.read(), file.profile
    data[data == parameters["of"]] = parameters["to"]
    with rasterio.open(target, "w", **profile) as file:
        file.write(data)
    print(json.dumps(parameters))

if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("Usage: python script.py --input <input> --output <output> <parameters>")
    try:
        parameters = json.loads(sys.argv[3])
    except json.JSONDecodeError:
        parameters = {}
    main(sys.argv[1], sys.argv[2], parameters)
"""
"""As a published template has it: flags are mentioned in passing, and parameters that cannot be read are none."""


def test_a_script_that_reads_its_parameters_as_text_gets_them(processed):
    outcome, step, out = processed(GUIDE, {"of": 1, "to": 2, "text": 'a "b" $(id)'})
    assert outcome.state is State.DONE, step.problem
    assert step.detail["call"] == "text"
    assert step.detail["result"] == {"of": 1, "to": 2, "text": 'a "b" $(id)'}
    before, after = read(out / "result.tif"), read(out / "processed.tif")
    assert np.array_equal(after, np.where(before == 1, 2, before))


@pytest.mark.parametrize(
    ("source", "call"),
    [
        (GUIDE, Call.TEXT), (GOOD, Call.POSITIONAL), ("p.add_argument('-i', '--input')", Call.FLAGS),
        ("parse(sys.argv[1:], '--input=')", Call.FLAGS), ("# --input\nparser.parse_args(sys.argv[1:])", Call.FLAGS),
        ("# --input\nmain(sys.argv[1], sys.argv[2])", Call.POSITIONAL),
        ("# --input\nmain(*argv[1:4])", Call.POSITIONAL),
        ("json.loads(Path(sys.argv[3]).read_text())", Call.POSITIONAL),
        ("json.loads(open(sys.argv[3]).read())", Call.POSITIONAL),
        ("json.loads(Path(sys.argv[3]).open().read())", Call.POSITIONAL),
        ("rasterio.open(sys.argv[1]); json.loads(sys.argv[3])", Call.TEXT),
    ],
)  # fmt: skip
def test_the_source_tells_how_it_is_called(source, call):
    assert call_of(source.encode()) is call


def nested(levels):
    """A JSON object of so many, lists and objects by turns."""
    begin = "".join('{"a": ' if i % 2 == 0 else "[" for i in range(levels))
    return begin + "1" + "".join("]" if i % 2 else "}" for i in reversed(range(levels)))


@pytest.mark.parametrize(("levels", "kept"), [(2, True), (64, True), (65, False), (300, False), (900, False)])
def test_what_a_record_does_not_take_is_no_result(processed, levels, kept):
    outcome, step, out = processed(GOOD.replace('json.dumps({"pixels": int((data == params["to"]).sum())})',
                                                repr(nested(levels))), {"of": 1, "to": 2})  # fmt: skip
    assert (outcome.state, step.state) == (State.DONE, StepState.FINISHED)
    assert step.detail["result"] == (json.loads(nested(levels)) if kept else None)
    told = json.loads((out / "report.json").read_text())["steps"][0]["detail"]
    assert told["result"] == step.detail["result"]


def test_a_result_has_a_size():
    assert last_json(json.dumps({"a": "x" * 30_000}))
    assert last_json(json.dumps({"a": "x" * 40_000})) is None
    assert last_json(f'{{"first": 1}}\n{nested(100)}') is None


def test_the_last_json_object_counts():
    assert last_json('{"a": 1}\nnoise\n[1]\n') == {"a": 1}
    assert last_json("noise") is None
