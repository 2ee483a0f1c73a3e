"""A cluster that loses a machine, a worker or the driver in the middle of a run loses nothing of the result."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import rasterio
from rasterio.transform import from_origin

from cluster.head import HeadSpec, start, stop

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(500)]
SAME = ("result.tif", "score.tif", "features.parquet", "features.geojson")


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """Water and land, green and short-wave infrared, each with its own spread, so that two classes are found."""
    rng = np.random.default_rng(5)
    wet, side = rng.random((128, 128)) < 0.4, (128, 128)
    green = np.where(wet, rng.normal(900, 100, side), rng.normal(700, 100, side))
    swir = np.where(wet, rng.normal(300, 100, side), rng.normal(1500, 400, side))
    coarse = np.stack([green, swir]).clip(20, 4000).astype("int16")
    data = np.repeat(np.repeat(coarse, 48, axis=1), 48, axis=2)
    path = tmp_path_factory.mktemp("image") / "image.tif"
    with rasterio.open(
        path, "w", driver="GTiff", count=2, height=6144, width=6144, dtype="int16", crs="EPSG:32633", tiled=True,
        transform=from_origin(500_000, 4_600_000, 10, 10), compress="zstd",
    ) as file:  # fmt: skip
        file.write(data)
    return path


def command(out, image, *more):
    swathe = str(Path(sys.executable).with_name("swathe"))
    return [swathe, "run", "-m", "water-mndwi-two-gaussian", "-i", str(image), "--bands", "green,swir16",
            "--scale", "0.0001", "--offset", "0", "-o", str(out), "--chunk", "512", "--json", *more]  # fmt: skip


def wait_for(condition, what, patience=240):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError(f"waited in vain for {what}")


def receipts(out):
    return len(list((out / ".swathe" / "parts").glob("*.json")))


def test_one_of_three_nodes_dies(nodes, image, tmp_path):
    env = os.environ | {"SWATHE_DATA_DIR": str(tmp_path / "data"), "RAY_AUTH_MODE": "disabled"}
    whole, out = tmp_path / "whole", tmp_path / "out"
    subprocess.run(command(whole, image, "--local"), env=env, check=True, capture_output=True)
    with nodes({"num_cpus": 1}, {"num_cpus": 1}, {"num_cpus": 1}) as cluster:
        victim = cluster.list_all_nodes()[-1]
        with subprocess.Popen(
            command(out, image), env=env | {"RAY_ADDRESS": cluster.address}, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            wait_for(lambda: receipts(out) >= 6 or process.poll() is not None, "the first chunks")
            cluster.remove_node(victim, allow_graceful=False)
            said, complained = process.communicate(timeout=400)
    assert process.returncode == 0, complained
    assert json.loads(said.splitlines()[-1])["state"] == "done"
    report = json.loads((out / "report.json").read_text())
    assert report["chunks"]["done"] == 144
    assert not report["model"]["fitted"]["fallback"]  # two classes were found, so that scores are of some use
    for name in SAME:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


def workers(out):
    found = (json.loads(path.read_text()) for path in sorted((out / ".swathe" / "parts").glob("*.json")))
    return {int(receipt["worker"].rpartition(":")[2]) for receipt in found}


def test_a_worker_and_then_the_driver_die(image, tmp_path):
    env = os.environ | {"SWATHE_DATA_DIR": str(tmp_path / "data"), "RAY_ADDRESS": ""}
    whole, out = tmp_path / "whole", tmp_path / "out"
    subprocess.run(command(whole, image, "--local"), env=env, check=True, capture_output=True)
    with subprocess.Popen(command(out, image), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_for(lambda: receipts(out) >= 3 or process.poll() is not None, "the first chunks")
        os.kill(min(workers(out)), signal.SIGKILL)
        before = receipts(out)
        wait_for(lambda: receipts(out) >= min(before + 6, 144) or process.poll() is not None, "chunks after that")
        process.kill()
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    done = receipts(out)
    assert done >= 9
    again = subprocess.run(command(out, image, "--local"), env=env, check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in again.stdout.splitlines()]
    assert next(line for line in lines if line.get("state") == "running")["resumed"] >= done
    for name in SAME:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


def test_the_only_raylet_dies(image, tmp_path):
    """With it go all workers; the same command on a new Ray goes on.

    Ray's own library takes minutes to give the raylet up; whoever waits for it in vain stops the driver as well.
    """
    data = tmp_path / "data"
    env = os.environ | {"SWATHE_DATA_DIR": str(data), "RAY_ADDRESS": "", "RAY_AUTH_MODE": "disabled"}
    whole, out = tmp_path / "whole", tmp_path / "out"
    subprocess.run(command(whole, image, "--local"), env=env, check=True, capture_output=True)
    head = start(HeadSpec(data, cpus=2, gpus=0))
    try:
        with subprocess.Popen(
            command(out, image), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            wait_for(lambda: receipts(out) >= 3 or process.poll() is not None, "the first chunks")
            raylet(head).kill()
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
            process.kill()
            _, complained = process.communicate(timeout=60)
    finally:
        stop(data, grace_s=5)
    done = receipts(out)
    assert process.returncode != 0
    assert "Traceback" not in complained
    assert 3 <= done < 144
    again = subprocess.run(command(out, image), env=env, check=True, capture_output=True, text=True)
    lines = [json.loads(line) for line in again.stdout.splitlines()]
    assert next(line for line in lines if line.get("state") == "running")["resumed"] >= done
    for name in SAME:
        assert (out / name).read_bytes() == (whole / name).read_bytes(), name


def raylet(head):
    """The process of Ray's node manager."""
    family = psutil.Process(head.pid).children(recursive=True)
    return next(process for process in family if process.name() == "raylet")
