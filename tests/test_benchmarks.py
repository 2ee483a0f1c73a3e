"""Benchmarks are run by hand and seldom: that they still fit the engine is seen here."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import hot_path

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
