"""The README's walk through the service, every block of it in its order and as typed, with a real `swathe up`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import rasterio

from cluster import reach
from pipelines.demo import scene

ROOT = Path(__file__).resolve().parents[3]
NEEDS = ("bash", "curl", "jq")
PATIENCE_S = 900
"""The machine may have other things to do."""
PRINTED = "# what it printed"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * PATIENCE_S)]


def typed():
    """Lines for a shell: those of consoles after their prompt, bash as it is, Python given to a Python."""
    part = re.search(r"^## As a service\n(.*?)^## ", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)[1]
    for kind, block in re.findall(r"^```(\w+)\n(.*?)^```", part, re.DOTALL | re.MULTILINE):
        if kind == "console":
            lines = block.splitlines()
            assert all(line.startswith("$ ") for line in lines), lines
            yield from (line.removeprefix("$ ") for line in lines)
        elif kind == "python":
            yield f"python - <<'PROGRAM'\n{block}PROGRAM"
        else:
            assert kind == "bash"
            yield block


@pytest.fixture
def shell(tmp_path):
    """``shell(lines)``: what they print. Somebody who has just moved in: a home of their own, and nothing set."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SWATHE_", "RAY_ADDRESS", "XDG_"))}
    (tmp_path / "home").mkdir()
    environment = inherited | {
        "HOME": str(tmp_path / "home"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT), "SWATHE_PORT": str(reach.free_port()),
    }  # fmt: skip

    def run(lines):
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", "\n".join(lines)], cwd=tmp_path, env=environment,
                              text=True, capture_output=True, timeout=PATIENCE_S, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    yield run
    run([f"SWATHE_DATA_DIR={tmp_path / 'data'} swathe down"])


def pixels(path):
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.mark.skipif(not all(map(shutil.which, NEEDS)), reason="needs bash, curl and jq")
def test_the_readmes_walk_works_as_typed_from_up_to_down(shell, tmp_path):
    scene.write(tmp_path / "demo" / "scene", 1024)
    lines = list(typed())
    printed = next(n for n, line in enumerate(lines) if line.endswith(PRINTED))
    before, told, after = lines[:printed], lines[printed], lines[printed + 1 :]
    assert [line.split()[:2] for line in before[1:]] == [["swathe", "up"]]
    assert after[-1].split()[:2] == ["swathe", "down"]

    said = shell(before)
    url, key = (re.search(rf"^  {name} +(\S+)", said, re.MULTILINE)[1] for name in ("URL", "key"))
    assert httpx2.get(f"{url}/docs").status_code == 200
    said = shell([before[0], told.replace("http://127.0.0.1:8000", url).replace("swk-…", key), *after])

    assert re.search(r"^j\S+ +done +.*water-mndwi", said, re.MULTILINE), said
    assert '"ready"' in said
    assert "event: state" in said
    assert "/tiles/{z}/{x}/{y}" in said
    assert said.endswith("stopped\n")
    assert (tmp_path / "water.png").read_bytes().startswith(b"\x89PNG")
    remote, by_curl, by_client = (pixels(tmp_path / name) for name in ("out/remote/result.tif", "water.tif",
                                                                       "out/water/result.tif"))  # fmt: skip
    assert (remote == by_curl).all()
    assert (remote == by_client).all()
    with pytest.raises(httpx2.TransportError):
        httpx2.get(f"{url}/health/livez")
    assert (tmp_path / "data" / "service" / "service.sqlite").is_file()
    assert not (tmp_path / "data" / "service" / "up.json").exists()
