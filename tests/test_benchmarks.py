"""Benchmarks are run by hand and seldom: that they still fit the engine is seen here."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import hot_path, table

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


def test_tiles_done_twice_count_against_us_where_the_scene_is_compared():
    bound = {"seconds": 20.0, "tiles": 100}
    facts = {"rounds": [{"runs": {"fp32": {"steady_s": 15.75, "tiles": 105, "repeated": 0.05}}, "bounds": [bound] * 2}]}
    assert table.per_forward("fp32")(facts) == pytest.approx([0.75])
    assert table.per_scene("fp32")(facts) == pytest.approx([15.75 / 20.0])
    assert table.per_scene("bf16")(facts) == []
