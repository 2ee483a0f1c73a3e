"""``--each-date``, as typed: a folder for every day, one grid, one collection, and what happens when days fail."""

import json

import numpy as np
import pystac
import pytest
import rasterio

from pipelines.demo import catalogue
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server
from tests.pipelines.test_searched_run import repainted
from tests.serve.test_command import refused, swathe  # noqa: F401  the fixture that runs the command

DAYS = ("2024-07-04", "2024-07-14", "2024-08-28", "2024-09-02")
MODEL = ("--model", "water-mndwi", "--each-date")


@pytest.fixture(scope="session")
def coast(tmp_path_factory):
    return catalogue.write(tmp_path_factory.mktemp("coast"), size=512, seed=5)


@pytest.fixture
def search(coast):
    return lambda dates="2024-07-01_2024-09-10", source=None: (
        "--source", source or coast.catalog, "--aoi", coast.aoi, "--dates", dates
    )  # fmt: skip


@pytest.fixture
def each(swathe, tmp_path):  # noqa: F811
    """``each(*arguments)`` runs a series into ``tmp_path/out``: (exit code, last line, error, collection)."""

    def go(*arguments, out=tmp_path / "out"):
        status, text, err = swathe("run", *MODEL, *arguments, "--local", "--json", "--out", out)
        lines = [json.loads(line) for line in text.splitlines()]
        path = out / "collection.json"
        return status, lines, err, json.loads(path.read_text()) if path.exists() else None

    return go


def states(collection):
    return {day["day"]: day["state"] for day in collection["swathe:days"]}


def pixels(folder):
    with rasterio.open(folder / "result.tif") as file:
        return file.read(1), tuple(file.transform)[:6], file.crs.to_string()


def test_a_map_of_each_day_on_one_grid_as_tools_of_the_field_read_it(each, search, swathe, tmp_path):  # noqa: F811
    status, lines, err, collection = each(*search())
    assert status == 0, err
    assert lines[-1] == {"event": "end", "state": "done", "out": str(tmp_path / "out"), "days": {"done": 4}}
    assert [(line["day"], line["state"]) for line in lines if line["event"] == "day"] == [
        (day, state) for day in DAYS for state in ("running", "done")
    ]
    maps = {day: pixels(tmp_path / "out" / day) for day in DAYS}
    assert {(shape.shape, at, crs) for shape, at, crs in maps.values()} == {
        (maps[DAYS[0]][0].shape, *maps[DAYS[0]][1:])
    }
    assert collection["swathe:grid"]["transform"] == pytest.approx(maps[DAYS[0]][1])
    for day in collection["swathe:days"]:
        values = maps[day["day"]][0]
        report = json.loads((tmp_path / "out" / day["day"] / "report.json").read_text())
        assert day["valid_fraction"] == report["pixels"]["valid_fraction"] == round((values != 255).mean(), 6)
        assert set(day["scenes"]) == {s["id"] for s in report["imagery"]["dates"][0]["scenes"]}
        assert day["clear"] + day["cloud"] / 100 == pytest.approx(1, abs=0.02)

    read = pystac.Collection.from_file(str(tmp_path / "out" / "collection.json"))
    items = list(read.get_items())
    assert [item.datetime.date().isoformat() for item in items] == list(DAYS)
    from odc.geo.geobox import GeoBox
    from odc.stac import load

    grid = collection["swathe:grid"]
    cube = load(items, bands=["data"], geobox=GeoBox(grid["shape"], rasterio.Affine(*grid["transform"]), grid["crs"]))
    assert cube.sizes["time"] == 4
    for n, day in enumerate(DAYS):
        np.testing.assert_array_equal(cube["data"].isel(time=n).values, maps[day][0])

    # A day by itself is what an ordinary run of it is.
    alone = tmp_path / "alone"
    ordinary = ("--crs", grid["crs"], "--res", grid["transform"][0], "--composite", "none")
    status, _, err = swathe(
        "run", "--model", "water-mndwi", *search("2024-08-28"), *ordinary, "--local", "--out", alone
    )
    assert status == 0, err
    for name in ("result.tif", "observations.tif"):
        assert (alone / name).read_bytes() == (tmp_path / "out" / "2024-08-28" / name).read_bytes()


def test_the_same_command_keeps_what_is_done_and_adds_what_is_new(each, search, tmp_path):
    status, _, err, before = each(*search("2024-07-04"), "--crs", "EPSG:32634")
    assert status == 0, err
    kept = (tmp_path / "out" / "2024-07-04" / "result.tif").stat()
    status, _, err, after = each(*search("2024-08-20_2024-08-30"), "--crs", "EPSG:32634")
    assert status == 0, err
    assert states(after) == {"2024-07-04": "done", "2024-08-28": "done"}
    assert after["swathe:grid"] == before["swathe:grid"]
    status, _, err, _ = each(*search("2024-07-01_2024-08-30"), "--crs", "EPSG:32634", "--max-cloud", "20")
    assert status == 0, err
    again = (tmp_path / "out" / "2024-07-04" / "result.tif").stat()
    assert (again.st_ino, again.st_mtime_ns) == (kept.st_ino, kept.st_mtime_ns)
    status, _, err, _ = each(*search("2024-07-04"), "--crs", "EPSG:32633")
    assert status == 2
    assert "output.taken" in err


def test_a_day_that_fails_does_not_stop_the_others_and_is_tried_again(each, search, tmp_path):
    foreign = tmp_path / "out" / "2024-07-14" / "result.tif"
    foreign.parent.mkdir(parents=True)
    foreign.write_bytes(b"of somebody else")
    status, lines, err, collection = each(*search())
    assert status == 3, err
    assert lines[-1]["days"] == {"done": 3, "failed": 1}
    assert states(collection) == {day: "failed" if day == "2024-07-14" else "done" for day in DAYS}
    (failed,) = [day for day in collection["swathe:days"] if day["state"] == "failed"]
    assert failed["why"].startswith("output.taken")
    assert [link["title"] for link in collection["links"] if link["rel"] == "item"] == [
        day for day in DAYS if day != "2024-07-14"
    ]
    assert foreign.read_bytes() == b"of somebody else"
    foreign.unlink()
    status, _, err, collection = each(*search())
    assert status == 0, err
    assert set(states(collection).values()) == {"done"}


def test_lost_pixels_of_a_day_are_of_that_day_alone(each, search, coast, tmp_path):
    catalog = repainted(coast, tmp_path / "other", lambda _: 4)
    next(catalog.parent.rglob("*2024-09-02_33/green.tif")).unlink()
    status, _, err, collection = each(*search("2024-08-20_2024-09-10", catalog))
    assert status == 3, err
    assert states(collection) == {"2024-08-28": "done", "2024-09-02": "incomplete"}
    assert collection["swathe:days"][1]["why"] == "1 of 1 chunks failed"


def test_days_without_anything_clear_say_so_and_are_not_run(each, search, coast, tmp_path):
    catalog = repainted(coast, tmp_path / "other", lambda path: 9 if "2024-07-14" in path else 4)
    status, _, err, collection = each(*search("2024-07", catalog))
    assert status == 0, err
    assert states(collection) == {"2024-07-04": "done", "2024-07-14": "left_out"}
    assert "nothing of the area is clear" in collection["swathe:days"][1]["why"]
    assert collection["swathe:days"][1]["cloud"] == 100
    assert not (tmp_path / "out" / "2024-07-14").exists()


def test_where_no_day_can_be_run_nothing_is_begun(each, search, coast, swathe, tmp_path):  # noqa: F811
    catalog = repainted(coast, tmp_path / "other", lambda _: 9)
    out = tmp_path / "out"
    refused(swathe("run", *MODEL, *search(source=catalog), "--local", "--out", out), out, "scenes.cloudy")
    taken = tmp_path / "taken" / "2024-07-04" / "result.tif"
    taken.parent.mkdir(parents=True)
    taken.write_bytes(b"of somebody else")
    status, _, err, _ = each(*search("2024-07-04"), out=tmp_path / "taken")
    assert status == 2
    assert "output.taken" in err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--server", "http://127.0.0.1:9"), "run.place"),
        (("--submit",), "run.place"),
        (("--model", "burn-dnbr"), "when.each"),
        (("--dates", "2024-07-20_2024-07-25"), "search.nothing"),
    ],
    ids=str,
)
def test_what_makes_no_series_is_one_line_with_a_hint(swathe, search, tmp_path, arguments, code):  # noqa: F811
    local = () if "--submit" in arguments or "--server" in arguments else ("--local",)
    result = swathe("run", *MODEL, *search(), *local, *arguments, "--out", tmp_path / "out")
    refused(result, tmp_path / "out", code)


def test_files_have_no_days(swathe, tmp_path):  # noqa: F811
    result = swathe("run", *MODEL, "--input", "a.tif", "--local", "--out", tmp_path / "out")
    refused(result, tmp_path / "out", "search.source")
    refused(swathe("plan", *MODEL, "--input", "a.tif"), tmp_path / "out", "search.source")


def test_a_plan_says_which_days_there_are(swathe, search, tmp_path):  # noqa: F811
    status, text, err = swathe("plan", *MODEL, *search(), "--max-cloud", "40", "--json")
    assert status == 0, err
    plan = json.loads(text)
    assert [day["day"] for day in plan["days"]] == list(DAYS)
    limit = {day["day"]: day["cloud"] > 40 for day in plan["days"]}
    assert {day["day"]: day["plan"] is None for day in plan["days"]} == limit
    assert {tuple(day["plan"]["transform"]) for day in plan["days"] if day["plan"]} == {
        tuple(plan["grid"]["transform"])
    }
    assert all(day["plan"]["cost"]["scenes"] == 2 for day in plan["days"] if day["plan"])
    status, text, err = swathe("plan", *MODEL, *search(), "--out", tmp_path / "out")
    assert status == 0, err
    assert all(day in text for day in DAYS)
    assert not (tmp_path / "out").exists()


def test_a_series_in_object_storage(swathe, search, s3_server, monkeypatch):  # noqa: F811
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    out = s3_server.prefix()
    run = ("run", *MODEL, *search("2024-08-20_2024-09-10"), "--local", "--json", "--out", out)
    status, _, err = swathe(*run)
    assert status == 0, err
    bucket, _, prefix = out[len("s3://") :].partition("/")
    keys = {one["Key"] for one in s3_server.client().list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]}
    assert {f"{prefix}/collection.json", f"{prefix}/2024-08-28/item.json", f"{prefix}/2024-09-02/result.tif"} <= keys
    status, text, err = swathe(*run)
    assert status == 0, err
    assert json.loads(text.splitlines()[-1])["days"] == {"done": 2}
