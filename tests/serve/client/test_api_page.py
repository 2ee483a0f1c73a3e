"""docs/api.md and the service's part of the README work as typed, in their order, against a whole service."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import rasterio
from rasterio.warp import transform_bounds

from pipelines.demo import scene
from swathe.masking import CODES, Mask

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "api.md"
NEEDS = ("bash", "curl", "jq")


def typed(script, house, folder):
    """What somebody with a key of this service gets who types it there."""
    lines = [line for line in script.splitlines() if not line.startswith("export ")]
    told = {**os.environ, "SWATHE_URL": house.url, "SWATHE_KEY": house.person()[1]}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], cwd=folder, env=told, text=True,
                          capture_output=True, timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.skipif(not all(map(shutil.which, NEEDS)), reason="needs bash, curl and jq")
def test_the_page_works_as_typed(house, image, tmp_path):
    blocks = re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    script = "\n".join(blocks)
    assert script.count("curl") >= 9
    shutil.copy(image, tmp_path / "scene.tif")
    with rasterio.open(tmp_path / "scene.tif", "r+") as scene:
        scene.descriptions = ("green", "nir")
        west, south, east, north = transform_bounds(scene.crs, "OGC:CRS84", *scene.bounds)
    road = {"type": "LineString", "coordinates": [[west, south], [east, north]]}
    (tmp_path / "roads.geojson").write_text(json.dumps(road))
    done = typed(script, house, tmp_path)
    assert '"ready"' in done.stdout
    assert '"state":"done"' in done.stdout.replace(": ", ":")
    with rasterio.open(tmp_path / "masked.tif") as masked:
        assert (masked.read(1) == CODES[Mask.SHAPES]).any()
    with rasterio.open(tmp_path / "result.tif") as run, rasterio.open(tmp_path / "water.tif") as at_once:
        assert (run.read(1) == at_once.read(1)).all()


@pytest.fixture
def part():
    """The README's part about the service."""
    return re.search(r"^## As a service\n(.*?)^## ", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)[1]


@pytest.mark.skipif(not all(map(shutil.which, NEEDS)), reason="needs bash, curl and jq")
def test_the_readmes_walk_works_as_typed_without_a_network(house, part, tmp_path, monkeypatch):
    scene.write(tmp_path / "demo" / "scene", 1024)
    done = typed("\n".join(re.findall(r"```bash\n(.*?)```", part, re.DOTALL)), house, tmp_path)
    assert '"ready"' in done.stdout
    assert "event: state" in done.stdout
    assert "/tiles/{z}/{x}/{y}" in done.stdout
    assert (tmp_path / "water.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWATHE_URL", house.url)
    monkeypatch.setenv("SWATHE_KEY", house.person()[1])
    for program in re.findall(r"```python\n(.*?)```", part, re.DOTALL):
        exec(program, {})
    water, downloaded = (rasterio.open(tmp_path / name) for name in ("water.tif", "out/water/result.tif"))
    with water, downloaded:
        assert (water.read(1) == downloaded.read(1)).all()
