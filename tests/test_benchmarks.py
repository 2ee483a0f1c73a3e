"""Benchmarks are run by hand and seldom: that they still fit the engine is seen here."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import hot_path, imagery, table

ROOT = Path(__file__).resolve().parents[1]


def test_the_stages_of_the_hot_path_are_there():
    for stage, (owner, name) in hot_path.places().items():
        assert callable(getattr(owner, name)), stage


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_it_can_be_loaded(path):
    """In a Python of its own: what one of them brings in is none of the others' business."""
    done = subprocess.run([sys.executable, "-c", f"import benchmarks.{path.stem}"], cwd=ROOT, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


# --- searched imagery -------------------------------------------------------------------------------------------------

MEASURED = {
    "reading": {"rounds": 2, "places": {"ZSTD, S3": {"swathe": [1.0, 1.2], "async-geotiff": [1.0, 1.0],
                                                     "rasterio": [1.5, 1.8]}}},
    "composite": {"rounds": 1, "ways": {"ours": [{"seconds": 8.0, "peak_mb": 1024.0}],
                                        "odc-stac": [{"seconds": 10.0, "peak_mb": 3000.0}]}},
    "link": {"rounds": 1, "runners": {"loop": [{"ratio": 1.11, "bytes_ratio": 1.0}]}},
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
    assert found["median composite: ours / odc-stac and numpy"] == ("0.80", "aim met")
    assert found["median composite: peak memory"] == ("1.00 GB", "aim met")
    assert found["narrow link, loop: wall / max(forward, bytes ÷ bandwidth)"] == ("1.11", "**missed**")
    assert found["narrow link, loop: fetched / blocks under the tiles"] == ("1.00", "aim met")
    assert found["catalogue: box of 60° and a year"] == ("41.0 ms", "")


def test_what_was_not_measured_is_said():
    """Aims of all parts are named, measured or not."""
    found = told(imagery.render({"composite": MEASURED["composite"]}))
    assert {name.partition(":")[0].partition(",")[0] for name in found} == {
        "windows", "median composite", "narrow link", "catalogue",
    }  # fmt: skip
    missing = [name for name, (figure, _) in found.items() if figure == "not measured"]
    assert len(missing) == len(found) - 2


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
        "median composite: ours / odc-stac and numpy", "median composite: peak memory",
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
