"""Benchmarks are run by hand and seldom: that they still fit the engine is seen here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import hot_path, imagery, table

ROOT = Path(__file__).resolve().parents[1]


def test_the_stages_of_the_hot_path_are_there():
    for stage, (owner, name) in hot_path.places().items():
        assert callable(getattr(owner, name)), stage


LOADED = """
import importlib, os, sys, traceback
import pipelines.begin, pipelines.run, pipelines.searched  # what most of them need is loaded once
for name in sys.argv[1:]:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(f"benchmarks.{name}")
        except BaseException:
            print(name, traceback.format_exc())
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""


def test_each_can_be_loaded():
    """In a process of its own: what one of them brings in is none of the others' business."""
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py"))
    assert len(names) > 15
    done = subprocess.run([sys.executable, "-c", LOADED, *names], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == ""


# --- searched imagery -------------------------------------------------------------------------------------------------

MEASURED = {
    "reading": {"rounds": 2, "places": {"ZSTD, S3": {"swathe": [1.0, 1.2], "async-geotiff": [1.0, 1.0],
                                                     "rasterio": [1.5, 1.8]}}},
    "composite": {"rounds": 1, "size": 3000, "dates": 10, "ways": {"ours": [{"seconds": 8.0, "peak_mb": 1024.0}],
                                        "odc-stac": [{"seconds": 10.0, "peak_mb": 3000.0}]}},
    "link": {"rounds": 1, "sizes": {
        "8192": {"loop": [{"ratio_artefact": 1.2, "ratio_eager": 1.08, "bytes_ratio": 1.2}]},
        "4096": {"loop": [{"ratio_artefact": 1.11, "ratio_eager": 1.1, "bytes_ratio": 1.0}], "ray": []},
    }},
    "catalogue": {"rounds": 9, "searches": {
        name: {"ms": 41.0, "matched": 1}
        for name in ("box of 2° and a month", "box of 60° and a year", "cloud below 5, all items (SQL)")}},
}  # fmt: skip


def told(text):
    """What is measured -> figure and verdict."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()[2:]]
    return {row[0]: (row[3], row[5]) for row in cells}


def test_an_aim_is_met_or_missed_by_the_median():
    found = told(imagery.render(MEASURED))
    assert found["windows, ZSTD, S3: ours / async-geotiff"] == ("1.10", "aim met")
    assert found["windows, ZSTD, S3: ours / rasterio"] == ("0.67", "**missed**")
    composite = "median composite of 10 dates, 3000²"
    assert found[f"{composite}: ours / odc-stac and numpy"] == ("0.80", "aim met")
    assert found[f"{composite}: peak memory"] == ("1.00 GB", "aim met")
    narrow = {name.removeprefix("narrow link, "): told for name, told in found.items() if name.startswith("narrow")}
    assert list(narrow.items()) == [
        ("4096², loop: wall / max(eager forward, bytes ÷ bandwidth)", ("1.10", "aim met")),
        ("4096², loop: wall / max(forward of the artefact, bytes ÷ bandwidth)", ("1.11", "**missed**")),
        ("4096², loop: fetched / blocks under the tiles", ("1.00", "aim met")),
        ("4096², ray: wall / max(eager forward, bytes ÷ bandwidth)", ("not measured", "")),
        ("4096², ray: wall / max(forward of the artefact, bytes ÷ bandwidth)", ("not measured", "")),
        ("4096², ray: fetched / blocks under the tiles", ("not measured", "")),
        ("8192², loop: wall / max(eager forward, bytes ÷ bandwidth)", ("1.08", "aim met")),
        ("8192², loop: wall / max(forward of the artefact, bytes ÷ bandwidth)", ("1.20", "**missed**")),
        ("8192², loop: fetched / blocks under the tiles", ("1.20", "**missed**")),
    ]
    assert found["catalogue: box of 60° and a year"] == ("41.0 ms", "")


def test_what_was_not_measured_is_said():
    """Aims of all parts are named, measured or not."""
    found = told(imagery.render({"composite": MEASURED["composite"]}))
    assert {name.partition(":")[0].partition(",")[0] for name in found} == {
        "windows", "median composite of 10 dates", "narrow link", "catalogue",
    }  # fmt: skip
    missing = [name for name, (figure, _) in found.items() if figure == "not measured"]
    assert len(missing) == len(found) - 2


def test_figures_of_an_older_form_are_not_measured():
    composite = {name: fact for name, fact in MEASURED["composite"].items() if name not in ("size", "dates")}
    found = told(
        imagery.render({"link": {"rounds": 1, "runners": {"loop": [{"ratio": 1.11}]}}, "composite": composite})
    )
    assert found["narrow link, 4096², loop: wall / max(eager forward, bytes ÷ bandwidth)"] == ("not measured", "")
    assert found["median composite: peak memory"] == ("1.00 GB", "aim met")


def test_a_part_that_breaks_does_not_stop_the_others(tmp_path, monkeypatch, capsys):
    """What it had measured before is not shown as if it were of now."""
    options = {"composite": ["--rounds", "none"], "catalogue": ["--items", "1000"]}
    monkeypatch.setattr(imagery, "PARTS", {name: lambda _out, o=given: o for name, given in options.items()})
    (tmp_path / "imagery").mkdir()
    (tmp_path / "imagery" / "composite.json").write_text(json.dumps(MEASURED["composite"]))
    monkeypatch.setattr(sys, "argv", ["imagery", "--part", "composite,catalogue", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="composite ended with an error"):
        imagery.main()
    found = told(capsys.readouterr().out.strip())
    assert found["median composite: peak memory"] == ("not measured", "")
    assert found["catalogue: box of 2° and a month"][0].endswith(" ms")


@pytest.mark.slow
def test_the_small_parts_of_searched_imagery_run(tmp_path, monkeypatch):
    """Programs, figures and rows belong together; at this size the figures say nothing."""
    small = {"composite": ["--size", "600", "--dates", "2", "--rounds", "1"], "catalogue": ["--items", "2000"]}
    monkeypatch.setattr(imagery, "PARTS", {name: lambda _out, o=options: o for name, options in small.items()})
    for name in small:
        imagery.measure(name, tmp_path)
    parts = imagery.kept_in(tmp_path)
    assert parts["composite"]["largest_difference"] < 1e-6
    found = told(imagery.render(parts))
    assert [name for name, (figure, _) in found.items() if figure != "not measured"] == [
        "median composite of 2 dates, 600²: ours / odc-stac and numpy",
        "median composite of 2 dates, 600²: peak memory",
        "catalogue: box of 2° and a month", "catalogue: box of 60° and a year",
        "catalogue: cloud below 5, all items (SQL)",
    ]  # fmt: skip


# --- the engine -------------------------------------------------------------------------------------------------------


def test_tiles_done_twice_count_against_us_where_the_scene_is_compared():
    bound = {"seconds": 20.0, "tiles": 100}
    facts = {"rounds": [{"runs": {"fp32": {"steady_s": 15.75, "tiles": 105, "repeated": 0.05}}, "bounds": [bound] * 2}]}
    assert table.per_forward("fp32")(facts) == pytest.approx([0.75])
    assert table.per_scene("fp32")(facts) == pytest.approx([15.75 / 20.0])
    assert table.per_scene("bf16")(facts) == []
