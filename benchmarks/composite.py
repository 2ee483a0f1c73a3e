"""A median of ten dates, ours against odc-stac and numpy: time as a ratio, and memory.

    python -m benchmarks.composite [--size 3000] [--dates 10] [--rounds 3] [--folder DIR] [--out FILE]

Scenes of six bands with a mask of 20 m lie on this machine's disk. Each measurement is a process of its own; ours and
theirs take turns in shuffled order. Theirs loads and joins band by band, which is the least memory it can do with.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer

from benchmarks.rounds import Spread, keep, shuffled

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
CRS, CORNER, RES = "EPSG:32633", (500_000.0, 4_600_320.0), 10.0
WAYS = ("ours", "odc-stac")
CLEAR = (2, 4, 5, 6, 7, 11)


def paint(folder: Path, size: int, dates: int) -> None:
    """Fields with speckle, so that they compress as imagery does, under clouds of a few kilometres."""
    for date in range(dates):
        rng = np.random.default_rng(date)
        cloud = rng.random((size // 200 + 1, size // 200 + 1)) < 0.35
        scl = np.where(np.kron(cloud, np.ones((100, 100), bool)), 9, 4)[: size // 2, : size // 2].astype(np.uint8)
        write(folder / f"{date}-scl.tif", scl, RES * 2)
        smooth = np.add.outer(np.sin(np.arange(size) / 90), np.cos(np.arange(size) / 70))
        for n, band in enumerate(BANDS):
            numbers = 2000 + 300 * n + 500 * smooth + rng.integers(0, 120, (size, size))
            write(folder / f"{date}-{band}.tif", numbers.astype(np.uint16), RES)


def write(path: Path, data: np.ndarray, res: float) -> None:
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=data.shape[0], width=data.shape[1], dtype=data.dtype, crs=CRS,
        nodata=0, transform=Affine(res, 0, CORNER[0], 0, -res, CORNER[1]), tiled=True, blockxsize=512, blockysize=512,
        compress="deflate", zlevel=6, predictor=2 if data.dtype.itemsize > 1 else 1,
    ) as file:  # fmt: skip
        file.write(data, 1)


def ours(folder: Path, size: int, dates: int, threads: int) -> np.ndarray:
    """As the engine reads: strip after strip of a mosaic, the next ones told ahead."""
    from pipelines.blocks.open import Opener
    from pipelines.mosaic.reader import MosaicReader
    from pipelines.remote.fetch import Fetcher
    from pipelines.remote.network import Network
    from swathe.mosaic import Composite, Mosaic, Slot
    from swathe.scene import Asset, AssetGrid, Scene
    from swathe.source import Auth, MaskRule, SourceMask
    from swathe.window import Window

    fine, coarse = (
        AssetGrid(CRS, (r, 0, CORNER[0], 0, -r, CORNER[1]), (int(size * RES / r),) * 2) for r in (RES, RES * 2)
    )
    outline = shapely.to_wkb(shapely.box(*lonlat(size)))
    scenes = [
        Scene(
            f"s{d}", "", f"2024-07-{d + 1:02}T10:00:00Z", outline,
            tuple(Asset(b, str(folder / f"{d}-{b}.tif"), scale=1e-4, grid=fine) for b in BANDS),
            Asset("scl", str(folder / f"{d}-scl.tif"), resampling="nearest", grid=coarse),
        )
        for d in range(dates)
    ]  # fmt: skip
    corner = (round(-CORNER[1] / RES), round(CORNER[0] / RES))
    mosaic = Mosaic(
        (Slot("2024-07", tuple((scene,) for scene in scenes)),), BANDS, Composite.MEDIAN, CRS, fine.transform,
        (size, size), corner, "reflectance", "made", SourceMask(rule=MaskRule.SCL, asset="scl"),
    )  # fmt: skip
    out = np.empty((len(BANDS), size, size), np.float32)
    strips = list(Window(0, 0, size, size).split(512))
    fetcher = Fetcher(Network())
    with Opener(fetcher, Auth()) as opener, MosaicReader(mosaic, opener, threads) as reader:
        for place, window in enumerate(strips):
            reader.ahead(strips[place:])
            out[:, window.row : window.bottom, window.col : window.right] = reader.read(window).data[0]
    fetcher.close()
    return out


def lonlat(size: int) -> tuple[float, float, float, float]:
    turn = Transformer.from_crs(CRS, "OGC:CRS84", always_xy=True)
    return turn.transform_bounds(CORNER[0], CORNER[1] - size * RES, CORNER[0] + size * RES, CORNER[1])


def odc(folder: Path, size: int, dates: int, threads: int) -> np.ndarray:
    """As their users do: load, set clouds to NaN, numpy's median; band by band."""
    import warnings

    import odc.stac
    import pystac
    from odc.geo.geobox import GeoBox

    box = GeoBox((size, size), Affine(RES, 0, CORNER[0], 0, -RES, CORNER[1]), CRS)
    shape = shapely.box(*lonlat(size))
    items = []
    for d in range(dates):
        when = pystac.utils.str_to_datetime(f"2024-07-{d + 1:02}T10:00:00Z")
        item = pystac.Item(f"s{d}", shapely.geometry.mapping(shape), list(shape.bounds), when, {"proj:code": CRS})
        for band in (*BANDS, "scl"):
            res = RES * (2 if band == "scl" else 1)
            extra = {
                "proj:shape": [int(size * RES / res)] * 2,
                "proj:transform": [res, 0, CORNER[0], 0, -res, CORNER[1]],
            }
            item.add_asset(
                band, pystac.Asset(str(folder / f"{d}-{band}.tif"), "t", None, "image/tiff", ["data"], extra)
            )
        items.append(item)
    scl = odc.stac.load(items, bands=["scl"], geobox=box, resampling="nearest", pool=threads)["scl"].values
    cloudy = ~np.isin(scl, CLEAR)
    out = np.empty((len(BANDS), size, size), np.float32)
    warnings.simplefilter("ignore", RuntimeWarning)
    for n, band in enumerate(BANDS):
        seen = odc.stac.load(items, bands=[band], geobox=box, resampling="bilinear", dtype="float32", pool=threads)
        numbers = seen[band].values
        numbers[cloudy] = np.nan
        out[n] = np.nanmedian(numbers, axis=0, overwrite_input=True) * np.float32(1e-4)
    return out


def one(way: str, folder: Path, facts: dict[str, int]) -> None:
    """In a process of its own: seconds and peak memory, as JSON; the first run of each keeps its result."""
    began = time.perf_counter()
    made = (ours if way == "ours" else odc)(folder, **facts)
    took = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if not (kept := folder / f"{way}.npy").exists():
        np.save(kept, made)
    print(json.dumps({"seconds": took, "peak_mb": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("size", 3000), ("dates", 10), ("rounds", 3), ("threads", 4)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    parser.add_argument("--way", choices=WAYS)
    asked = parser.parse_args()
    facts = {"size": asked.size, "dates": asked.dates, "threads": asked.threads}
    if asked.way:
        one(asked.way, asked.folder, facts)
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        folder = Path(name)
        paint(folder, asked.size, asked.dates)
        found = {way: [] for way in WAYS}
        for number in range(asked.rounds):
            for way in shuffled(WAYS, number):
                options = [f"--{key}={value}" for key, value in facts.items()]
                command = [sys.executable, "-m", "benchmarks.composite", f"--way={way}", f"--folder={folder}", *options]
                answer = subprocess.run(command, check=True, capture_output=True, text=True)
                found[way].append(json.loads(answer.stdout.splitlines()[-1]))
                print(number, way, found[way][-1], flush=True)
        apart = say(folder, found)
    keep({"rounds": asked.rounds, **facts, "ways": found, "largest_difference": apart}, asked.out)


def say(folder: Path, found: dict[str, list[dict[str, float]]]) -> float:
    """Print the figures; the largest difference between both results."""
    for way, rounds in found.items():
        print(
            way, "seconds", Spread.of([r["seconds"] for r in rounds]), "MB", Spread.of([r["peak_mb"] for r in rounds])
        )
    pairs = zip(found["ours"], found["odc-stac"], strict=True)
    print("ratio", Spread.of([a["seconds"] / b["seconds"] for a, b in pairs]))
    ours_, theirs = (np.nan_to_num(np.load(folder / f"{way}.npy")) for way in WAYS)
    apart = float(np.abs(ours_ - theirs).max())
    print("largest difference in reflectance", apart)
    return apart


if __name__ == "__main__":
    main()
