"""Memory does not grow with the area: a promise of the README, held here in a process of its own per size.

It is growth that is looked at, beyond a size at which libraries are loaded and caches are full: what a process has at
all says nothing.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window

BANDS = ("green", "swir16")
PIECE = 512
MIB = 1 << 20
PROGRAM = """
import json, resource, sys, tracemalloc
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

def mapped(image, number):
    out = Path(f"{image}-{number}")
    recipe = Recipe(card.id, (image,), chunk=1024)
    plan = begin(recipe, card, look(recipe, card, {}), actors=1)
    outcome = run(plan, Request(out, ModelHome(out / "models"), keep_cut=False), Loop(), Silent())
    assert outcome.state == "done"
    assert len(plan.chunks) == plan.cost.pixels >> 20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

def traced(image, number):
    tracemalloc.start()
    mapped(image, number)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak

cards, measure, *images = sys.argv[1:]
card = load_cards((Path(cards),))["water-mndwi"]
if measure == "traced":
    mapped(images[0], "first")  # modules are loaded
print(json.dumps([globals()[measure](image, number) for number, image in enumerate(images)]))
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


def peaks_of_runs(root, measure, *images):
    """Bytes at the peak of each run, one after the other in one process: ``mapped``, of that process so far;
    ``traced``, of the arrays and objects of Python that the run made."""
    command = [sys.executable, "-c", PROGRAM, str(root / "configs" / "models"), measure, *map(str, images)]
    answer = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(answer.stdout.strip().splitlines()[-1])


def test_no_array_grows_with_the_area(tmp_path, pytestconfig):
    """Not by a bit for every pixel: what is kept of each chunk is a receipt."""
    scenes = [a_scene(tmp_path / f"{side}.tif", side) for side in (2048, 4096)]
    small, large = peaks_of_runs(pytestconfig.rootpath, "traced", *scenes)
    told = f"{small / MIB:.2f} MiB, of four times the area {large / MIB:.2f} MiB"
    assert large - small < (4096**2 - 2048**2) / 8, told


@pytest.mark.slow
def test_no_process_grows_with_the_area(tmp_path, pytestconfig):
    """The largest scene has 201 MB more of the result than the one before it, and 805 MB more of imagery."""
    scenes = [a_scene(tmp_path / f"{side}.tif", side) for side in (4096, 8192, 16_384)]
    peaks = [peaks_of_runs(pytestconfig.rootpath, "mapped", scene)[0] for scene in scenes]
    assert peaks[2] - peaks[1] < 64 * MIB, [f"{peak / MIB:.0f} MiB" for peak in peaks]
