"""``swathe run --submit`` from a terminal to products, on a Ray that is kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(500)]


@pytest.fixture
def swathe(tmp_path):
    env = os.environ | {"SWATHE_DATA_DIR": str(tmp_path / "data"), "RAY_ADDRESS": ""}

    def run(*arguments):
        program = str(Path(sys.executable).with_name("swathe"))
        return subprocess.run(
            [program, *map(str, arguments)], env=env, capture_output=True, text=True, cwd=tmp_path, check=False
        )  # fmt: skip

    return run


def test_a_submitted_run_leaves_its_products(swathe, tmp_path):
    data = np.random.default_rng(0).integers(1, 4000, (2, 300, 300)).astype("int16")
    profile = {"driver": "GTiff", "crs": "EPSG:32633", "transform": from_origin(5e5, 46e5, 10, 10), "dtype": "int16"}
    with rasterio.open(tmp_path / "image.tif", "w", count=2, height=300, width=300, **profile) as file:
        file.write(data)
    wanted = (
        "run",
        "-m",
        "water-ndwi",
        "-i",
        "image.tif",
        "--bands",
        "green,nir",
        "--scale",
        "0.0001",
        "--offset",
        "0",
    )
    started = swathe("cluster", "start", "--json")
    assert started.returncode == 0, started.stderr
    try:
        job = swathe(*wanted, "--out", "out", "--submit")
        assert job.returncode == 0, job.stderr + job.stdout
        listed = json.loads(swathe("cluster", "jobs", "--json").stdout)
        assert [j["status"] for j in listed] == ["succeeded"]
        bad = swathe(*wanted[:2], "water-mndwi", *wanted[3:], "--out", "bad", "--submit")
        assert bad.returncode == 2
    finally:
        stopped = swathe("cluster", "stop", "--json")
    assert stopped.returncode == 0
    assert swathe(*wanted, "--out", "local", "--local").returncode == 0
    for name in ("result.tif", "features.parquet"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
