"""``swathe search``: a table for people, one object for programs, one line where something is wrong."""

import json
import sys

import pytest
import typer

from pipelines.demo import catalogue
from serve.cli import main as cli
from serve.cli.search import search
from tests.pipelines import recorded
from tests.pipelines.stac_server import StacServer, Wanted


@pytest.fixture
def swathe(capfd, monkeypatch, tmp_path):
    """Run the command in this process: (exit code, stdout, stderr)."""
    monkeypatch.setenv("SWATHE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SWATHE_ALLOW_PRIVATE_URLS", "true")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("signal.signal", lambda *_: None)  # the test's own process keeps its handlers
    app = typer.Typer()
    app.callback()(cli.settings)
    app.command()(search)
    monkeypatch.setattr(cli, "app", app)

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["swathe", "search", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return ended.value.code or 0, out, err

    return run


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return catalogue.write(tmp_path_factory.mktemp("demo") / "catalogue", 512)


def test_the_offline_command_of_the_readme(swathe, demo):
    code, out, err = swathe("--source", demo.catalog, "--aoi", demo.aoi, "--dates", "2024-07-04,2024-08-28", "--json")
    assert (code, err) == (0, "")
    answer = json.loads(out)
    assert [s["id"] for s in answer["scenes"]] == [
        f"swathe-demo_{day}_{zone}" for day in ("2024-07-04", "2024-08-28") for zone in (33, 34)
    ]
    first = answer["scenes"][0]
    assert first["when"] == "2024-07-04T09:45:31Z"
    assert first["crs"] == "EPSG:32633"
    assert 0 < first["covered"] <= 1
    assert list(first["bands"]) == ["blue", "green", "red", "nir08", "swir16", "swir22", "scl"]
    assert first["bands"]["red"]["offset"] == -0.1
    assert answer["left_out"] == []


def test_a_table_for_people(swathe, demo):
    code, out, _ = swathe("--source", demo.catalog, "--aoi", demo.aoi, "--dates", "2024", "--max-cloud", 30)
    assert code == 0
    assert "swathe-demo_2024-07-04_33" in out
    assert "swathe-demo_2024-07-14_33" not in out
    assert "numbers: the catalogue's own scale and offset" in out


def test_an_api_with_a_shipped_card_and_no_signature_in_the_answer(swathe, real_data):
    item = json.loads(json.dumps(recorded.of_collection(real_data, "planetary-computer", "sentinel-2-l2a")[0]))
    for asset in item["assets"].values():
        asset["href"] += "?sv=1&sig=SECRETSECRET"
    with StacServer([item]) as api:
        what = ("--source", api.url, "--collection", "sentinel-2-l2a", "--bands", "red,swir16")
        code, out, err = swathe(*what, "--aoi", "-148.5,60.5,-148.4,60.6", "--dates", "2019-06-29", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["source"] == "pc-s2-l2a"
    assert list(answer["scenes"][0]["bands"]) == ["red", "swir16", "scl"]
    assert "SECRETSECRET" not in out + err


def test_credentials_come_from_the_environment_and_stand_nowhere(swathe, real_data, tmp_path, monkeypatch):
    cards = tmp_path / "cards"
    cards.mkdir()
    monkeypatch.setenv("SWATHE_SOURCES_DIR", str(cards))
    monkeypatch.setenv("MY_LOGIN", "me:hunter2")
    items = recorded.of_collection(real_data, "usgs", "landsat-c2l2-sr")
    with StacServer(items, wanted=Wanted.basic("me:hunter2")) as api:
        (cards / "mine.yaml").write_text(
            f"id: mine\ntitle: mine\nkind: stac\nurl: {api.url}\ncollection: landsat-c2l2-sr\n"
            "bands: {red: {asset: red}}\nradiometry: {rule: fixed, scale: 2.75e-05, offset: -0.2}\n"
            "search_auth: {kind: basic, secret: MY_LOGIN}\nlicence: own\ndocumentation: own\n"
        )
        place = ("--aoi", "-96,43,-95.9,43.1", "--dates", "2020-01-14", "--json")
        code, out, err = swathe("--source", "mine", *place)
        monkeypatch.delenv("MY_LOGIN")
        refused, again, complaint = swathe("--source", "mine", *place)
    assert code == 0
    assert len(json.loads(out)["scenes"]) == 1
    assert refused == 2
    assert "secret.missing" in complaint
    assert "hunter2" not in out + err + again + complaint


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"--dates": "2024-09-30"}, "search.nothing"),
        ({"--dates": "2024-07-05/2024-07-01"}, "when.reversed"),
        ({"--dates": "2124-07-05"}, "when.future"),
        ({"--dates": "soon"}, "when.unreadable"),
        ({"--aoi": "10,46,11,45"}, "area.reversed"),
        ({"--aoi": "45,100,46,101"}, "area.latitude"),
        ({"--aoi": "nowhere.geojson"}, "area.missing"),
        ({"--aoi": "0,0,1,1"}, "search.nothing"),
        ({"--source": "erth-search"}, "source.unknown"),
        ({"--source": "/nothing/here.json"}, "source.unknown"),
        ({"--max-cloud": "200"}, "search.cloud"),
        ({"--max-cloud": "nan"}, "search.cloud"),
        ({"--bands": "red,thermal"}, "band.missing"),
    ],
)
def test_one_problem_each(swathe, demo, change, code):
    arguments = {"--source": demo.catalog, "--aoi": demo.aoi, "--dates": "2024-07"} | change
    status, out, err = swathe(*(word for pair in arguments.items() for word in pair), "--json")
    assert status in (1, 2)
    assert "Traceback" not in err
    assert err.startswith(f"swathe: {code}: ")
    assert " — " in err
    assert json.loads(out)["type"] == f"urn:swathe:problem:{code}"
