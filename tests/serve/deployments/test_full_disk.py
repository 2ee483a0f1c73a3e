"""Ray dies while the disk of the data folder is full: the keeper stays, and brings it back when there is room."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
ALONE = ("unshare", "--map-root-user", "--mount")
PATIENCE_S = 900


def _may_mount():
    return shutil.which(ALONE[0]) and subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S)
@pytest.mark.skipif(not _may_mount(), reason="needs namespaces of users and mounts")
def test_a_ray_that_dies_on_a_full_disk_comes_back_when_there_is_room(tmp_path):
    """Until then nothing runs that nobody knows of, and afterwards `stop` ends all of it."""
    command = [*ALONE, sys.executable, "-m", "tests.serve.deployments.small_disk", str(tmp_path)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert said.returncode == 0, said.stderr
    found = json.loads(said.stdout.splitlines()[-1])
    assert found["alive"], said.stderr
    assert found["beside"] == 0
    assert found["left"] == 0
