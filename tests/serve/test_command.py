"""The command line: exit codes, one-line problems, nothing half-written, and a quick start."""

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import typer
from rasterio.transform import from_origin

from cluster import machine
from models.registry import load_cards
from serve.cli import main as cli
from serve.cli import work
from serve.settings import Settings
from swathe.card import Weights
from swathe.composite import Composite
from swathe.mosaic import Mosaic
from swathe.source import MaskRule, SourceMask
from tests.pipelines.conftest import ROOT, make_card, make_scene, network_card


@pytest.fixture
def swathe(capfd, monkeypatch, tmp_path):
    """Run the command in this process: (exit code, stdout, stderr)."""
    monkeypatch.setenv("SWATHE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the test's own process keeps its handlers

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["swathe", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return ended.value.code or 0, out, err

    return run


def write(path, data, **profile):
    defaults = {"driver": "GTiff", "crs": "EPSG:32633", "transform": from_origin(500_000, 4_600_000, 10, 10)}
    count, height, width = data.shape
    with rasterio.open(
        path, "w", count=count, height=height, width=width, dtype=data.dtype, **(defaults | profile)
    ) as file:  # fmt: skip
        file.write(data)
    return path


@pytest.fixture
def image(tmp_path):
    rng = np.random.default_rng(0)
    return write(tmp_path / "image.tif", rng.integers(1, 4000, (2, 60, 80)).astype("int16"))


NDWI = ("run", "--model", "water-ndwi", "--local", "--bands", "green,nir", "--scale", "0.0001", "--offset", "0")


def refused(result, out, code):
    status, _, err = result
    assert status == 2, err
    assert "Traceback" not in err
    complaint = [line for line in err.splitlines() if line.startswith("swathe: ")]
    assert len(complaint) == 1
    assert complaint[0].startswith(f"swathe: {code}"), err
    assert " — " in complaint[0]  # a hint
    assert not out.exists() or not any(p.is_file() for p in out.iterdir())


def test_a_run_and_its_products(swathe, image, tmp_path):
    status, out, _ = swathe(*NDWI, "--input", image, "--out", tmp_path / "out")
    assert status == 0
    assert "done" in out
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names >= {"result.tif", "features.parquet", "features.geojson", "item.json", "preview.png", "report.json"}


def test_shapes_that_are_not_there_are_told_before_anything_is_computed(swathe, image, tmp_path):
    shapes = ("--mask-shapes", tmp_path / "none.geojson")
    status, _, err = swathe(*NDWI, "--input", image, "--out", tmp_path / "out", *shapes)
    assert status == 2
    assert "swathe: imagery.missing: there is nothing at" in err
    assert not (tmp_path / "out" / "result.tif").exists()
    (tmp_path / "none.geojson").write_text('{"type": "Point", "coordinates": [15.001, 41.549]}')
    assert swathe(*NDWI, "--input", image, "--out", tmp_path / "out", *shapes)[0] == 0
    assert (tmp_path / "out" / "masked.tif").exists()


def test_places_are_told_whole_and_as_they_are_called(swathe, image, tmp_path):
    """Into a pipe, too: whoever copies a path has it."""
    out = tmp_path / "[old]" / ("deep" * 30)
    status, told, err = swathe(*NDWI, "--input", image, "--out", out)
    assert status == 0, err
    assert f"  {out / 'result.tif'}" in told.splitlines()


@pytest.mark.parametrize(("name", "value"), [("SWATHE_CACHE_MB", "abc"), ("RAY_AUTH_MODE", "perhaps")])
def test_a_setting_that_means_nothing_is_named(swathe, image, tmp_path, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    result = swathe(*NDWI, "--input", image, "--out", tmp_path / "out")
    refused(result, tmp_path / "out", "settings.invalid")
    assert name in result[2]


def test_an_area_that_is_no_file(swathe, image, tmp_path):
    result = swathe(*NDWI, "--input", image, "--out", tmp_path / "out", "--aoi", "nowhere/lake.geojson")
    refused(result, tmp_path / "out", "area.missing")


def burn(file, out):
    """A method that finds its threshold in the data, and has none to fall back on."""
    numbers = ("--bands", "nir,swir22", "--scale", "0.0001", "--offset", "0")
    return ("run", "--model", "burn-nbr-otsu", "--local", *numbers, "--input", file, "--out", out)


def test_a_method_that_found_nothing_does_not_keep_the_folder(swathe, tmp_path):
    flat = write(tmp_path / "flat.tif", np.full((2, 60, 80), 1000, "int16"))
    refused(swathe(*burn(flat, tmp_path / "out")), tmp_path / "out", "threshold.unimodal")
    assert swathe(*NDWI, "--input", flat, "--out", tmp_path / "out")[0] == 0


def test_a_threshold_of_nothing(swathe, tmp_path):
    empty = write(tmp_path / "empty.tif", np.zeros((2, 60, 80), "int16"), nodata=0)
    refused(swathe(*burn(empty, tmp_path / "out")), tmp_path / "out", "threshold.nodata")


def test_warnings_are_told_to_programs_too(swathe, image, tmp_path):
    _, out, _ = swathe("run", "--model", "water-ndwi-otsu", *NDWI[3:], "--input", image, "--out", tmp_path / "out",
                       "--json")  # fmt: skip
    told = [json.loads(line) for line in out.splitlines()]
    assert any(line["event"] == "warning" and "area" in line["text"] for line in told)


@pytest.mark.parametrize("written", [["--out", "x"], ["-o", "x"], ["--out=x"], ["-ox"]])
def test_a_job_is_told_where_its_folder_is(written):
    from serve.cli.work import _without_submit

    told = _without_submit(["run", *written, "--submit", "-m", "water-ndwi"], "/data/x")
    assert told == ("run", "--out", "/data/x", "-m", "water-ndwi")


def test_json_lines(swathe, image, tmp_path):
    status, out, _ = swathe(*NDWI, "--input", image, "--out", tmp_path / "out", "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    states = [line["state"] for line in lines if line["event"] == "state"]
    assert states == ["planned", "preparing", "running", "finishing", "done"]
    assert lines[-1]["event"] == "end"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda p: p.write_bytes(b""), "imagery"),
        (lambda p: p.write_bytes(b"II*\0 no image at all"), "imagery"),
        (lambda p: write(p, np.ones((2, 9, 9), "complex64")), "imagery.complex"),
        (lambda p: write(p, np.ones((2, 9, 9), "int16"), crs=None), "grid.no_crs"),
        (lambda p: write(p, np.ones((2, 9, 9), "int16"), transform=rasterio.Affine(7, 7, 5e5, 7, -7, 4e6)), "grid"),
        (lambda p: write(p, np.ones((2, 9, 9), "int16"), transform=rasterio.Affine(9, 0, 5e5, 0, 9, 4e6)), "grid"),
        (lambda p: write(p, np.ones((1, 9, 9), "int16")), "band.count"),
    ],
    ids=["empty", "garbage", "complex", "no-crs", "rotated", "south-up", "band-count"],
)
def test_bad_files_are_refused(swathe, tmp_path, make, code):
    make(tmp_path / "bad.tif")
    out = tmp_path / "out"
    refused(swathe(*NDWI, "--input", tmp_path / "bad.tif", "--out", out), out, code)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused(swathe, image, tmp_path, share):
    whole, out = image.read_bytes(), tmp_path / "out"
    (tmp_path / "cut.tif").write_bytes(whole[: int(len(whole) * share)])
    refused(swathe(*NDWI, "--input", tmp_path / "cut.tif", "--out", out), out, "imagery.unreadable")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--model", "watr-ndwi"), "model.unknown"),
        (("--aoi", "1,2,3,4"), "area.outside"),
        (("--aoi", "nonsense"), "area"),
        (("--chunk", "0"), "chunk.size"),
        (("--sensor", "sentinel-9"), "sensor.unknown"),
        (("--input", "/nowhere/at/all.tif"), "imagery"),
    ],
)
def test_bad_requests_are_refused(swathe, image, tmp_path, arguments, code):
    out = tmp_path / "out"
    refused(swathe(*NDWI, "--input", image, "--out", out, *arguments), out, code)


def test_no_radiometry_no_run(swathe, image, tmp_path):
    out = tmp_path / "out"
    arguments = ("run", "-m", "water-ndwi", "--local", "-i", image, "--bands", "green,nir", "-o", out)
    refused(swathe(*arguments), out, "band.radiometry")


def test_missing_weights_are_one_clear_problem(swathe, tmp_path, monkeypatch):
    monkeypatch.setenv("SWATHE_OFFLINE", "true")
    data = np.ones((6, 30, 30), "int16")
    image = write(tmp_path / "six.tif", data)
    out = tmp_path / "out"
    result = swathe(
        "run", "-m", "prithvi-eo-v2-300m-burnscars", "--local", "-i", image, "--sensor", "prithvi-6", "-o", out
    )
    refused(result, out, "weights.missing")
    assert "huggingface.co" in result[2]


def test_an_output_that_is_a_file_is_refused(swathe, image, tmp_path):
    (tmp_path / "out").write_text("in the way")
    status, _, err = swathe(*NDWI, "--input", image, "--out", tmp_path / "out")
    assert status == 2
    assert "output.unwritable" in err
    assert (tmp_path / "out").read_text() == "in the way"


@pytest.mark.parametrize("place", ["/sys/swathe", "/proc/swathe"])
def test_an_output_where_nobody_can_write_is_refused(swathe, image, place):
    """Not even root can, on these two."""
    refused(swathe(*NDWI, "--input", image, "--out", place), Path(place), "output.unwritable")


@pytest.mark.slow
def test_a_full_disk_is_one_problem_and_the_run_goes_on_when_there_is_room(swathe, tmp_path):
    """In a process of its own no file may grow beyond a few kB, which fails just as a full disk does."""
    water = np.kron(np.random.default_rng(1).random((512, 512)) < 0.5, np.ones((2, 2))).astype(bool)
    image = write(tmp_path / "image.tif", np.where(water, [[[3000]], [[1000]]], [[[1000]], [[3000]]]).astype("int16"))
    out, whole, room = tmp_path / "out", tmp_path / "whole", 6_000
    again = (*NDWI, "--chunk", "512", "--input", image, "--out")
    stopped = subprocess.run(
        [sys.executable, "-m", "swathe.command", *map(str, (*again, out))], capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (room, room)),
    )  # fmt: skip
    refused((stopped.returncode, stopped.stdout, stopped.stderr), out, "output.full")
    assert stopped.stderr.splitlines()[-1].count(" — ") == 1
    events = [json.loads(line) for line in (out / ".swathe" / "events.jsonl").read_text().splitlines()]
    assert sum(event["kind"] == "chunk" for event in events) == 1  # the others would fail as well
    assert events[-1]["facts"]["problem"]["code"] == "output.full"
    assert not list((out / ".swathe" / "parts").glob("*.tif*"))
    for folder in (out, whole):
        status, _, err = swathe(*again, folder)
        assert status == 0, err
    for name in ("result.tif", "features.parquet", "features.geojson"):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (37, 41)])
def test_small_images_give_small_results(swathe, tmp_path, shape):
    data = np.stack([np.full(shape, 3000), np.full(shape, 1000)]).astype("int16")
    image = write(tmp_path / "small.tif", data)
    status, _, err = swathe(*NDWI, "--input", image, "--out", tmp_path / "out")
    assert status == 0, err
    with rasterio.open(tmp_path / "out" / "result.tif") as result:
        assert result.shape == shape
        assert (result.read(1) == 1).all()


def test_nothing_valid_is_a_result_that_says_so(swathe, tmp_path):
    image = write(tmp_path / "void.tif", np.full((2, 40, 40), -9, "int16"), nodata=-9)
    status, out, err = swathe(*NDWI, "--input", image, "--out", tmp_path / "out")
    assert status == 0, err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["chunks"]["nodata"] == 1
    assert report["pixels"]["valid_fraction"] == 0
    (warning,) = [text for text in report["warnings"] if text.startswith("no pixel of the result has a value")]
    assert "0.0%" in out
    assert warning in out


def test_not_a_number_is_no_data(swathe, tmp_path):
    data = np.full((2, 20, 20), 0.3, "float32")
    data[1] = 0.1
    data[0, 4, 5], data[1, 7, 8] = np.nan, np.inf
    image = write(tmp_path / "nan.tif", data)
    status, _, err = swathe(*NDWI[:4], "--sensor", "reflectance", "--bands", "green,nir", "--input", image, "--out",
                            tmp_path / "out")  # fmt: skip
    assert status == 0, err
    with rasterio.open(tmp_path / "out" / "result.tif") as result:
        assert [tuple(p) for p in np.argwhere(result.read(1) == 255)] == [(4, 5), (7, 8)]


def test_plan_and_models_speak_json(swathe, image):
    arguments = [a for a in NDWI[1:] if a != "--local"]
    status, out, _ = swathe("plan", *arguments, "--input", image, "--json")
    plan = json.loads(out)
    assert status == 0
    assert (plan["shape"], plan["chunks"]) == ([60, 80], 1)
    assert plan["cost"]["area_km2"] == pytest.approx(0.48, rel=0.01)
    status, out, _ = swathe("models", "--json")
    assert status == 0
    assert "water-ndwi" in out


def test_plan_takes_every_option_of_a_run():
    """Whoever has typed one puts `plan` in place of `run`, and gets an answer."""
    from serve.cli.main import app

    commands = typer.main.get_command(app).commands
    options = {name: {tuple(p.opts): (p.is_flag, p.multiple) for p in commands[name].params}
               for name in ("run", "plan")}  # fmt: skip
    assert options["plan"] == options["run"]
    idle = {p.name for p in commands["plan"].params if "change nothing" in (getattr(p, "rich_help_panel", "") or "")}
    assert idle == {"out", "submit", "overwrite", "server", "key"}


def test_plan_refuses_what_a_run_would_and_tells_the_same_key(swathe, image, tmp_path):
    more = ("--input", image, "--out", tmp_path / "out", "--gpkg", "--min-area", "9", "--overwrite", "--json")
    status, out, err = swathe("plan", *NDWI[1:], *more)
    assert status == 0, err
    assert not (tmp_path / "out").exists()
    status, _, err = swathe("run", *NDWI[1:], *more)
    assert status == 0, err
    assert json.loads((tmp_path / "out" / "report.json").read_text())["key"] == json.loads(out)["key"]
    for wrong in (("--mask", "fog"), ("--precision", "int8"), ("--params", "{}"), ("--shapes-buffer", "3"),
                  ("--shapes-code", "90"), ("--mask-shapes", "a.geojson", "--shapes-code", "255"),
                  ("--mask-shapes", "a.geojson", "--shapes-buffer", "1e6")):  # fmt: skip
        assert swathe("plan", *NDWI[1:], *more, *wrong)[0] == 2


@pytest.mark.slow
def test_plan_tells_the_key_of_a_network_once_its_engine_is_settled(swathe, tmp_path, monkeypatch):
    monkeypatch.setenv("SWATHE_MODELS_DIR", str(tmp_path / "cards"))
    what = ("--model", make_card(tmp_path / "cards"), "--input", make_scene(tmp_path / "scene.tif", (150, 200)))
    before = json.loads(swathe("plan", *what, "--json")[1])
    assert before["provisional"]
    assert "swathe models register test-net" in " ".join(swathe("plan", *what)[1].split())
    status, _, err = swathe("run", *what, "--local", "--out", tmp_path / "out")
    assert status == 0, err
    key = json.loads((tmp_path / "out" / "report.json").read_text())["key"]
    after = json.loads(swathe("plan", *what, "--json")[1])
    assert (after["key"], after["provisional"]) == (key, False)
    assert after["key"] != before["key"]
    assert (before["cost"]["seconds_from"], after["cost"]["seconds_from"]) == ("guess", "measured")


def test_a_result_without_a_pixel_is_told_at_the_end(swathe, tmp_path):
    image = write(tmp_path / "nothing.tif", np.zeros((2, 20, 20), "uint16"))
    arguments = ("--nodata", "0", "--input", image, "--out", tmp_path / "out")
    status, out, err = swathe(*NDWI, *arguments)
    assert status == 0, err
    assert "no pixel of the result has a value" in out


def test_real_flood_reaches_its_figure(swathe, real_data, tmp_path):
    folder = real_data / "flood_sen1floods11"
    status, _, err = swathe("run", "-m", "water-mndwi-otsu", "--local", "-i", folder / "Spain_7370579_S2Hand.tif",
                            "--sensor", "sen1floods11-s2", "-o", tmp_path / "out")  # fmt: skip
    assert status == 0, err
    with (
        rasterio.open(tmp_path / "out" / "result.tif") as result,
        rasterio.open(folder / "Spain_7370579_LabelHand.tif") as label,
    ):
        found, truth = result.read(1), label.read(1)
    seen = truth >= 0
    both, either = ((found == 1) & (truth == 1) & seen).sum(), (((found == 1) | (truth == 1)) & seen).sum()
    assert both / either >= 0.70


def test_help_loads_next_to_nothing():
    """What it loads is what its half second is made of; times themselves decide no test."""
    program = (
        "import sys\nfrom serve.cli.main import main\nsys.argv = ['swathe', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *said, loaded = answer.stdout.strip().splitlines()
    assert any("swathe" in line and "OPTIONS" in line for line in said)
    heavy = {"numpy", "rasterio", "odc", "shapely", "pyproj", "pandas", "pyarrow", "fastapi", "sqlalchemy", "aiohttp",
             "httpx2", "ray", "torch", "pystac", "pystac_client", "botocore", "yaml"}  # fmt: skip
    assert not heavy & set(loaded.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "-m", "x", "-i", "a.tif", "-o", "out", "--chunk", "abc"), "--chunk"),
        (("run", "--colour", "red"), "--colour"),
        (("run",), "--model"),
        (("ruin",), "ruin"),
    ],
    ids=" ".join,
)
def test_words_that_cannot_be_read_are_a_problem_like_any_other(swathe, tmp_path, words, said):
    status, out, err = swathe(*words, "--json")
    assert status == 2
    (line,) = out.splitlines()
    problem = json.loads(line)
    assert (problem["event"], problem["code"]) == ("problem", "command.usage")
    assert said in problem["detail"]
    assert "--help" in problem["hint"]
    assert err.startswith("swathe: command.usage: ")
    assert err.count("\n") == 1


def test_a_command_that_leads_to_others_lists_them(swathe):
    for words in ((), ("models", "--help"), ("jobs",)):
        status, out, err = swathe(*words)
        assert status == (0 if "--help" in words else 2)
        assert "Usage" in out + err
        assert "command.usage" not in err


def test_a_run_in_this_process_has_the_cores_that_a_container_may_use(monkeypatch):
    monkeypatch.setattr(machine, "_quota", lambda _: 1.0)
    with work._runner(network_card("net.onnx"), Settings(), work.Way("out", local=True)) as (runner, _):
        assert runner.threads == 1


def test_workers_that_would_share_a_link_are_paired():
    place = {"crs": "EPSG:32632", "transform": (10.0, 0.0, 0.0, 0.0, -10.0, 0.0), "shape": (1, 1), "corner": (0, 0)}
    mosaic = Mosaic((), (), Composite.NONE, unit="reflectance", sensor="test", **place)
    clouds = replace(mosaic, mask=SourceMask(rule=MaskRule.OMNICLOUDMASK, networks=(Weights(uri="a.onnx"),)))
    network = network_card("net.onnx")
    assert work._in_pairs(network, mosaic)
    assert not work._in_pairs(network, clouds)
    assert not work._in_pairs(network, None)
    assert not work._in_pairs(load_cards((ROOT / "configs" / "models",))["water-mndwi"], mosaic)
