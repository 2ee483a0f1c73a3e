"""docs/api.md works as typed: its commands are run, in their order, against a whole service."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import rasterio

PAGE = Path(__file__).resolve().parents[3] / "docs" / "api.md"
NEEDS = ("bash", "curl", "jq")


@pytest.mark.skipif(not all(map(shutil.which, NEEDS)), reason="needs bash, curl and jq")
def test_the_page_works_as_typed(house, image, tmp_path):
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    script = "\n".join(blocks)
    assert script.count("curl") >= 9
    script = "\n".join(line for line in script.splitlines() if not line.startswith("export "))
    shutil.copy(image, tmp_path / "scene.tif")
    with rasterio.open(tmp_path / "scene.tif", "r+") as scene:
        scene.descriptions = ("green", "nir")
    told = {**os.environ, "SWATHE_URL": house.url, "SWATHE_KEY": house.person()[1]}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=told, text=True,
                          capture_output=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"ready"' in done.stdout
    assert '"state":"done"' in done.stdout.replace(": ", ":")
    with rasterio.open(tmp_path / "result.tif") as run, rasterio.open(tmp_path / "water.tif") as at_once:
        assert (run.read(1) == at_once.read(1)).all()
