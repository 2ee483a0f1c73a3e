"""``run`` and ``plan`` on searched imagery, as typed: files left behind, and one clear problem for each mistake."""

import json

import pytest

from pipelines.catalogue.store import Catalogue
from pipelines.demo import catalogue
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server
from tests.pipelines.signed_server import WORD, SignedApi, SignedFiles
from tests.pipelines.stac_server import Wanted
from tests.pipelines.test_searched_run import items_at
from tests.serve.test_command import refused, swathe  # noqa: F401  the fixture that runs the command

DATES = "2024-08-20_2024-09-10"


@pytest.fixture(scope="session")
def coast(tmp_path_factory):
    return catalogue.write(tmp_path_factory.mktemp("coast"), size=512, seed=5)


@pytest.fixture
def search(coast):
    return ["--source", coast.catalog, "--aoi", coast.aoi, "--dates", DATES]


def test_a_run_leaves_the_files_that_others_rely_on_and_is_in_the_catalogue(swathe, search, tmp_path):  # noqa: F811
    out = tmp_path / "out"
    status, text, err = swathe("run", "--model", "water-mndwi", *search, "--local", "--json", "--out", out)
    assert status == 0, err
    assert json.loads(text.splitlines()[-1])["state"] == "done"
    names = ("result.tif", "observations.tif", "features.parquet", "features.geojson", "item.json", "preview.png",
             "report.json")  # fmt: skip
    assert all((out / name).is_file() for name in names)
    assets = json.loads((out / "item.json").read_text())["assets"]
    assert assets["observations"]["href"] == "./observations.tif"
    status, text, _ = swathe("catalog", "list", "results-water-mndwi", "--json")
    assert status == 0
    assert "water-mndwi-" in text
    status, text, err = swathe("run", "--model", "water-mndwi", *search, "--local", "--json", "--out", out)
    assert status == 0, err
    assert json.loads(text.splitlines()[-1])["already"]


def test_a_result_in_object_storage_is_in_the_catalogue_too(swathe, search, s3_server, monkeypatch, tmp_path):  # noqa: F811
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    out = s3_server.prefix()
    status, _, err = swathe("run", "--model", "water-mndwi", *search, "--local", "--json", "--out", out)
    assert status == 0, err
    status, text, err = swathe("catalog", "list", "results-water-mndwi", "--json")
    assert status == 0, err
    with Catalogue(tmp_path / "data" / "catalogue.sqlite") as kept:
        item = kept.item("results-water-mndwi", json.loads(text)[0]["id"])
    assert item["assets"]["data"]["href"] == f"{out}/result.tif"


def test_signed_links_are_read_and_stand_nowhere_afterwards(swathe, coast, monkeypatch, tmp_path):  # noqa: F811
    """A collection of items named by a signed link, with signed links to files: as private archives are handed over."""
    monkeypatch.setenv("SWATHE_ALLOW_PRIVATE_URLS", "true")
    items = {"type": "FeatureCollection", "features": items_at(coast, "")}
    with SignedFiles(coast.folder) as files, SignedApi([], documents={"/all.json": items}) as api:
        api.sign = lambda href: files.sign(href.lstrip("/"))
        api.wanted = Wanted(query=(WORD, "hunter2"))
        search = ("--source", f"{api.root}/all.json?{WORD}=hunter2", "--aoi", coast.aoi, "--dates", DATES)
        out = tmp_path / "out"
        run = ("run", "--model", "water-mndwi", *search, "--local", "--json", "--out", out)
        status, text, err = swathe(*run)
        assert status == 0, err
        assert json.loads(text.splitlines()[-1])["state"] == "done"
        files.expire()
        (out / "result.tif").unlink()  # a result that is not whole is made anew, from the scenes that it began with
        refused = files.refused
        status, text, err = swathe(*run)
        assert status == 0, err
        assert json.loads(text.splitlines()[-1])["state"] == "done"
        assert files.refused == refused
    command = json.loads((out / "report.json").read_text())["command"]
    assert f"{api.root}/all.json" in command
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(kept) > 12
    assert [path for path, content in kept.items() if WORD.encode() in content or b"hunter2" in content] == []


def test_a_plan_tells_scenes_bytes_seconds_and_memory(swathe, search):  # noqa: F811
    status, text, err = swathe("plan", "--model", "water-mndwi", *search, "--json")
    assert status == 0, err
    plan = json.loads(text)
    assert len(plan["scenes"]) == 4
    assert all(0 <= scene["clear"] <= 1 for scene in plan["scenes"])
    cost = plan["cost"]
    assert cost["scenes"] == 4
    assert cost["fetch_mb"] == 0  # files on this machine
    assert cost["seconds"] > 0
    assert cost["seconds_from"] == "guess"
    assert cost["worker_mb"] > cost["memory_mb"] > 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"--source": "no-such-source"}, "source.unknown"),
        ({"--dates": None}, "when.none"),
        ({"--dates": "2024-09-10_2024-08-20"}, "when.reversed"),
        ({"--dates": "2031-01"}, "when.future"),
        ({"--dates": "2024-07-20_2024-07-25"}, "search.nothing"),
        ({"--aoi": None}, "area.none"),
        ({"--aoi": "17.9,38.4,17.8,38.2"}, "area.reversed"),
        ({"--aoi": "38.28,17.85,38.35,17.94"}, "search.nothing"),
        ({"--aoi": "1,1,1,1"}, "area.empty"),
        ({"--composite": "mean"}, "search.composite"),
        ({"--crs": "EPSG:999999"}, "grid.crs"),
        ({"--res": "-10"}, "grid.res"),
        ({"--res": "0.00001"}, "grid.too_large"),
        ({"--model": "burn-dnbr"}, "when.count"),
        ({"--model": "water-mndwi", "--source": "pc-naip"}, "band.missing"),
        ({"--model": "vegetation-evi", "--source": "pc-naip"}, "band.unit"),
        ({"--input": "a.tif"}, "input.both"),
        ({"--source": "http://127.0.0.1:9/stac"}, "url.private"),
        ({"--source": "http://169.254.169.254/latest"}, "url.private"),
        ({"--source": "ftp://example.com/stac"}, "source.unknown"),
        ({"--source": None}, "search.source"),
    ],
    ids=str,
)
def test_mistakes_are_one_line_with_a_hint(swathe, search, tmp_path, change, code):  # noqa: F811
    given = dict(zip(search[::2], search[1::2], strict=True)) | {"--model": "water-mndwi"} | change
    arguments = [part for name, value in given.items() if value is not None for part in (name, value)]
    out = tmp_path / "out"
    refused(swathe("run", *arguments, "--local", "--out", out), out, code)
