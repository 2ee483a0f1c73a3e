"""Memory does not grow with the area: a promise of the README, held here in a process of its own per size."""

import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

pytestmark = pytest.mark.slow
BANDS = ("green", "swir16")
PIECE = 512
PROGRAM = """
import json, resource, sys
from pathlib import Path
from models.registry import load_cards
from models.weights import ModelHome
from pipelines.begin import begin, look
from pipelines.run import Request, run
from pipelines.runner import Loop
from swathe.recipe import Recipe

class Silent:
    def event(self, event): ...
    def progress(self, done, total): ...

image, out, cards = map(Path, sys.argv[1:])
card = load_cards((cards,))["water-mndwi"]
recipe = Recipe(card.id, (str(image),), chunk=1024)
plan = begin(recipe, card, look(recipe, card, {}), actors=1)
outcome = run(plan, Request(out, ModelHome(out / "models"), keep_cut=False), Loop(), Silent())
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"state": outcome.state, "chunks": len(plan.chunks), "peak_mb": peak}))
"""


def a_scene(path, side):
    """Water in every second square of 64 pixels, noise in both; written piece by piece."""
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 400, (len(BANDS), PIECE, PIECE))
    wet = (np.add.outer(np.arange(PIECE) // 64, np.arange(PIECE) // 64) % 2).astype(bool)
    piece = (noise + np.where(wet, [[[1500]], [[300]]], [[[900]], [[2500]]])).astype(np.int16)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(BANDS), dtype="int16", height=side, width=side, nodata=-9999,
        crs="EPSG:32633", transform=from_origin(500_000, 4_600_000, 10, 10), tiled=True, blockxsize=PIECE,
        blockysize=PIECE, compress="zstd", zstd_level=1,
    ) as file:  # fmt: skip
        for row in range(0, side, PIECE):
            for col in range(0, side, PIECE):
                file.write(piece, window=Window(col, row, PIECE, PIECE))
        file.descriptions, file.scales, file.offsets = BANDS, (1e-4,) * len(BANDS), (0.0,) * len(BANDS)
    return path


def peak_of_a_run(folder, root, side):
    image = a_scene(folder / f"{side}.tif", side)
    command = [sys.executable, "-c", PROGRAM, str(image), str(folder / f"out-{side}"), str(root / "configs" / "models")]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=True)
    found = json.loads(answer.stdout.strip().splitlines()[-1])
    assert found["state"] == "done"
    assert found["chunks"] == (side // 1024) ** 2
    return found["peak_mb"]


def test_sixteen_times_the_area_takes_the_same_memory(tmp_path, pytestconfig):
    small = peak_of_a_run(tmp_path, pytestconfig.rootpath, 2048)
    large = peak_of_a_run(tmp_path, pytestconfig.rootpath, 8192)
    # The larger scene alone has 268 MB more pixels, its result and score 126 MB more.
    assert large < small * 1.15 + 20, f"{small:.0f} MB for 2048 x 2048, {large:.0f} MB for 8192 x 8192"
