"""A run on searched imagery over a link of 100 Mbit/s and 50 ms, against what cannot be avoided.

    python -m benchmarks.link [--folder out/bench] [--sizes 4096,8192] [--margin 300] [--rounds 3]
                              [--runners loop ray shared] [--out FILE]

One scene of six bands at 10 m and a classification at 20 m, one COG each (DEFLATE, blocks of 512), lies behind
``benchmarks.shaped`` as a static STAC catalogue; its corner lies on no block of the output, as those of Sentinel-2 do
not. The area leaves ``--margin`` pixels of the scene on each side. In every round two forwards on tiles that are in
memory are timed right before and right after each run, for as many batches as the run did: that of the exported
network, which the run executes (``artefact``), and that of the original in eager PyTorch with as many threads
(``eager``), by which the table of ``benchmarks/engine.py`` goes. The floor of a run is the larger of a forward and its
bytes at the rate of the link, so there are two: ``ratio_artefact`` and ``ratio_eager``. Wall: from the first chunk's
start to the last one's end, header, mask, bands, forward, blending and part files included; the search before it is
told beside it.

On two cores the server, unpacking and everything else share them with the forward; ``cores_s`` is the CPU time of all
of it, server included, over the cores: no order of doing things could take less here (``ratio_cores``: with it, beside
the artefact's forward and the link, as floor).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from affine import Affine
from pyproj import Transformer
from rasterio.enums import Resampling
from rasterio.windows import Window as RasterioWindow

from benchmarks.measured import Quiet
from benchmarks.original import Original, Question
from benchmarks.rounds import Spread, keep, shuffled
from benchmarks.scenes import ROOT, STEPS, Place, say
from benchmarks.shaped import Link
from benchmarks.traced import TracedLoop, TracedRay, told
from pipelines import searched
from pipelines.begin import begin
from pipelines.imagery.gdal import Retry
from pipelines.ledger import Receipt, read_receipt
from pipelines.remote.fetch import Fetcher
from pipelines.remote.network import Network
from pipelines.run import Request, run
from pipelines.runner import Runner
from pipelines.search.sources import load_sources
from swathe.card import ModelCard
from swathe.plan import Plan
from swathe.recipe import Recipe, Search
from swathe.state import State
from swathe.window import Window

BANDS = ("blue", "green", "red", "nir08", "swir16", "swir22")
CRS, CORNER, RES, BLOCK = "EPSG:32632", (499_980.0, 4_600_020.0), 10.0, 512
MOVED = 1000
"""Added to every number, as in Sentinel-2's products since baseline 04.00: 0 is left for nodata."""
CLEAR, CLOUD = 4, 9
CORES = 2
RUNNERS = ("loop", "ray", "shared")
"""The plain loop; Ray Data as a run with a Ray of its own has it; as one has it where others use that Ray as well."""
BATCHES = 12
"""Of tiles that lie in memory for the forward."""


# --- the scene ------------------------------------------------------------------------------------------------------


def publish(folder: Path, place: Place, size: int) -> None:
    """Bands, classification and catalogue; found again where they lie."""
    if (folder / "catalog.json").exists():
        return
    say(f"writing the scene of {size} pixels band by band")
    folder.mkdir(parents=True, exist_ok=True)
    painted = place.scene(size)
    with rasterio.open(painted.post) as file:
        seen = file.read(1) != file.nodata
        for n, band in enumerate(BANDS, 1):
            data = file.read(n)
            _write(folder / f"{band}.tif", np.where(seen, data.astype(np.int32) + MOVED, 0).astype(np.uint16), RES)
    with rasterio.open(painted.folder / "clear.tif") as file:
        scl = np.where(seen, np.where(file.read(1) == 1, CLEAR, CLOUD), 0).astype(np.uint8)
    _write(folder / "scl.tif", scl[::2, ::2], RES * 2)
    _catalogue(folder, size)


def _write(path: Path, data: np.ndarray, res: float) -> None:
    options = {"predictor": 2, "resampling": Resampling.nearest} if data.dtype == np.uint16 else {}
    with rasterio.open(
        path, "w", driver="COG", count=1, height=data.shape[0], width=data.shape[1], dtype=data.dtype, crs=CRS,
        nodata=0, transform=Affine(res, 0, CORNER[0], 0, -res, CORNER[1]), blocksize=BLOCK, compress="deflate",
        **options,
    ) as file:  # fmt: skip
        file.write(data, 1)


def _catalogue(folder: Path, size: int) -> None:
    raster = {"data_type": "uint16", "nodata": 0, "scale": 1e-4, "offset": -MOVED * 1e-4}
    assets: dict[str, Any] = {}
    for name, res in (*((band, RES) for band in BANDS), ("scl", RES * 2)):
        bands = {"eo:bands": [{"name": name, "common_name": name}], "raster:bands": [raster]}
        assets[name] = {
            "href": f"./{name}.tif", "type": "image/tiff; application=geotiff; profile=cloud-optimized",
            "roles": ["data"], "proj:shape": [int(size * RES / res)] * 2,
            "proj:transform": [res, 0, CORNER[0], 0, -res, CORNER[1]], **({} if name == "scl" else bands),
        }  # fmt: skip
    west, south, east, north = box_of(size, 0)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    extensions = ("eo/v1.1.0", "projection/v1.1.0", "raster/v1.1.0")
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "scene", "collection": "link",
        "stac_extensions": [f"https://stac-extensions.github.io/{e}/schema.json" for e in extensions],
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [west, south, east, north],
        "properties": {"datetime": "2024-07-04T09:45:31Z", "proj:epsg": int(CRS[5:]), "eo:cloud_cover": 5},
        "assets": assets, "links": [],
    }  # fmt: skip
    extent = {"spatial": {"bbox": [item["bbox"]]}, "temporal": {"interval": [["2024-07-04T00:00:00Z", None]]}}
    catalog = {
        "type": "Collection", "stac_version": "1.0.0", "id": "link", "description": "One scene.", "license": "CC0-1.0",
        "extent": extent, "links": [{"rel": "item", "href": "./scene.json", "type": "application/geo+json"}],
    }  # fmt: skip
    (folder / "scene.json").write_text(json.dumps(item))
    (folder / "catalog.json").write_text(json.dumps(catalog))


def box_of(size: int, margin: int) -> tuple[float, float, float, float]:
    """Degrees around the scene without a margin of so many pixels."""
    turn = Transformer.from_crs(CRS, "OGC:CRS84", always_xy=True)
    west, north = CORNER[0] + margin * RES, CORNER[1] - margin * RES
    side = (size - 2 * margin) * RES
    return turn.transform_bounds(west, north - side, west + side, north)


# --- what cannot be avoided -----------------------------------------------------------------------------------------


class Artefact:
    """The exported network on tiles that lie in memory, in this process."""

    def __init__(self, card: ModelCard, place: Place, size: int) -> None:
        """Load it, and tiles of the same scene."""
        from models.load import load

        self._predict = load(card, place.home, CORES, None)
        self._batches = self._tiles(card, place, size)
        self._predict(self._batches[0])

    def _tiles(self, card: ModelCard, place: Place, size: int) -> np.ndarray:
        eats, batch = card.input, card.resources.batch
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (eats.mean, eats.std))
        stops = np.linspace(0, size - eats.chip, BATCHES * batch).astype(int)
        tiles = []
        with rasterio.open(place.scene(size).post) as file:
            for n, row in enumerate(stops):
                col = int(stops[n * 7 % len(stops)])
                window = RasterioWindow(col, int(row), eats.chip, eats.chip)  # type: ignore[call-arg]
                tiles.append((file.read(window=window).astype(np.float32) - mean) / std)
        return np.stack(tiles).reshape(BATCHES, batch, 1, len(BANDS), eats.chip, eats.chip)

    def batch_s(self) -> float:
        """Seconds of one batch, now."""
        started = time.perf_counter()
        for batch in self._batches:
            self._predict(batch)
        return (time.perf_counter() - started) / BATCHES


class Eager:
    """The original in eager PyTorch, in a process of its own: it loads once, and sleeps while a run is timed."""

    def __init__(self, original: Original, batch: int) -> None:
        """``batch``: tiles of one."""
        self._original, self._batch = original, batch

    def batch_s(self) -> float:
        """Seconds of one batch, now."""
        found = self._original.ask("forward")
        return found["seconds"] * self._batch / found["tiles"]


def touched_bytes(folder: Path, plan: Plan, size: int) -> int:
    """Packed bytes of all source blocks under the tiles of the plan, from the files' headers."""
    from pipelines.blocks.open import Opener
    from swathe.scene import Asset
    from swathe.source import Auth

    tiles = [tile.window for row in plan.work.lattice.over(Window(0, 0, *plan.work.shape)) for tile in row]
    first, last = plan.work.pixels_of(tiles[0]), plan.work.pixels_of(tiles[-1])
    a, _, west, _, _, north = plan.work.imagery.transform
    down, across = round((CORNER[1] - north) / a), round((west - CORNER[0]) / a)
    hull = Window(first.row + down, first.col + across, last.bottom - first.row, last.right - first.col)
    hull = hull.intersection(Window(0, 0, size, size))
    assert hull is not None
    half = Window(
        hull.row // 2, hull.col // 2, -(-hull.bottom // 2) - hull.row // 2, -(-hull.right // 2) - hull.col // 2
    )
    fetcher = Fetcher(Network())
    with Opener(fetcher, Auth()) as opener:
        total = sum(opener.open(Asset(band, str(folder / f"{band}.tif"))).bytes_of(hull) for band in BANDS)
        total += opener.open(Asset("scl", str(folder / "scl.tif"))).bytes_of(half)
    fetcher.close()
    return total


# --- runs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What is measured."""

    card: ModelCard
    place: Place
    files: Path
    size: int
    margin: int
    mbit_s: float
    rtt_ms: float


def once(case: Case, link: Link, runner: Runner, forwards: tuple[Artefact, Eager]) -> dict[str, Any]:
    """One run and its floors."""
    artefact, eager = forwards
    with tempfile.TemporaryDirectory(dir=case.place.root) as name:
        folder = Path(name)
        network = Network(allow_private=True, retry=Retry(), cache_dir=folder / "kept", cache_mb=512)
        aoi = ",".join(f"{v:.7f}" for v in box_of(case.size, case.margin))
        recipe = Recipe(case.card.id, search=Search(link.url("catalog.json"), ("2024-07-04",)), aoi=aoi)
        archive = searched.Archive(load_sources([ROOT / "configs" / "sources"]), network)
        before, clock = link.counts(), time.perf_counter()
        plan = begin(recipe, case.card, searched.look(recipe, case.card, archive), runner.actors)
        search_s, found = time.perf_counter() - clock, link.counts()
        eager_s, artefact_s = [eager.batch_s()], [artefact.batch_s()]
        server = link.cpu_s()
        outcome = run(plan, Request(folder / "out", case.place.home, network=network), runner, Quiet())
        server = link.cpu_s() - server
        artefact_s.append(artefact.batch_s())
        eager_s.append(eager.batch_s())
        after = link.counts()
        if outcome.state is not State.DONE:
            raise RuntimeError(f"the run ended {outcome.state}: {json.dumps(outcome.report['failed'])}")
        receipts = _receipts(folder / "out")
        batches = sum(-(-r.tiles // case.card.resources.batch) for r in receipts)
        wall = max(r.ended for r in receipts) - min(r.started for r in receipts)
        chunks, whole = sum(r.reading["fetched_mb"] for r in receipts), (after.bytes - before.bytes) / 1e6
        touched = touched_bytes(case.files, plan, case.size) / 1e6
        own = sum(r.cpu_s for r in receipts)
        forward_s, original_s = (batches * sum(pair) / 2 for pair in (artefact_s, eager_s))
        link_s = chunks * 8 / case.mbit_s
        return {
            "cpu_s": own, "server_cpu_s": server, "cores_s": (own + server) / CORES,
            "ratio_cores": wall / max(forward_s, link_s, (own + server) / CORES), "wall_s": wall, "link_s": link_s,
            "forward_artefact_s": forward_s, "ratio_artefact": wall / max(forward_s, link_s),
            "forward_eager_s": original_s, "ratio_eager": wall / max(original_s, link_s),
            "tiles": sum(r.tiles for r in receipts), "chunks": len(receipts), "touched_mb": touched,
            "fetched_mb": chunks, "bytes_ratio": chunks / touched, "whole_run_mb": whole,
            "kept_mb": sum(r.reading["from_cache"] for r in receipts) / 1e6, "search_s": search_s,
            "requests": sum(r.reading["requests"] for r in receipts),
            "connections": after.connections - found.connections,
            "peak_mb": max(r.peak_mb for r in receipts), "chunks_apart_s": _apart(receipts), **told(folder / "out"),
            **{f"{k}_s": round(sum(r.seconds[k] for r in receipts), 2) for k in ("read", "predict", "blend", "write")},
        }  # fmt: skip


def _apart(receipts: list[Receipt]) -> float:
    """Between the first chunk's end and the last one's: a worker without work."""
    return max(r.ended for r in receipts) - min(r.ended for r in receipts)


def _receipts(out: Path) -> list[Receipt]:
    found = [read_receipt(path) for path in sorted((out / ".swathe" / "parts").glob("*.json"))]
    return [receipt for receipt in found if receipt is not None]


@contextmanager
def runners(names: list[str], card: ModelCard) -> Iterator[dict[str, Runner]]:
    """Those of ``RUNNERS`` that are asked for; on two cores ``ray`` has one worker for both, ``shared`` one a core."""
    with ExitStack() as stack:
        made: dict[str, Runner] = {}
        if "loop" in names:
            made["loop"] = TracedLoop(CORES)
        if len(names) > len(made):
            from cluster.local import ClusterSpec, connect
            from cluster.resources import in_pairs, layout

            data = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            session = stack.enter_context(connect(ClusterSpec(data, cpus=CORES, gpus=0)))
            pools = {"ray": in_pairs(card.resources, session.nodes), "shared": card.resources}
            made |= {name: TracedRay(layout(pools[name], session.nodes)) for name in names if name in pools}
        yield made


def sides(text: str) -> list[int]:
    """Numbers with commas."""
    return [int(side) for side in text.split(",")]


def measured(
    case: Case, made: dict[str, Runner], forwards: tuple[Artefact, Eager], rounds: int
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """All rounds over one scene, by runner."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in made}
    with Link(case.files, case.mbit_s, case.rtt_ms) as link:
        for number in range(rounds):
            for name in shuffled(list(made), number):
                found[name].append(once(case, link, made[name], forwards))
                told = {k: round(v, 3) for k, v in found[name][-1].items()}
                print(case.size, number, name, json.dumps(told), flush=True)
    return found


def earlier(path: Path | None) -> dict[str, Any]:
    """What was measured of other sizes before."""
    return json.loads(path.read_text()).get("sizes", {}) if path is not None and path.exists() else {}


def asked_for() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=sides, default=[4096], help="sides of the scenes, with commas; default: 4096")
    for name, value in (("margin", 300), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--folder", type=Path, default=Path("out/bench"))
    parser.add_argument("--files", type=Path, help="where the published scenes lie; default: in the folder")
    parser.add_argument("--mbit-s", type=float, default=100.0)
    parser.add_argument("--rtt-ms", type=float, default=50.0)
    parser.add_argument("--runners", nargs="+", choices=RUNNERS, default=list(RUNNERS))
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON; those of other sizes in it are kept")
    return parser.parse_args()


def main() -> None:
    """Measure and say."""
    asked = asked_for()
    place = Place(asked.folder.resolve())
    place.prepare(STEPS, max(asked.sizes))
    files = {size: (asked.files or place.root / "link").resolve() / str(size) for size in asked.sizes}
    for size, folder in files.items():
        publish(folder, place, size)
    card, sizes, least = place.card("fp32"), earlier(asked.out), min(asked.sizes)
    batch = card.resources.batch
    question = Question(str(place.root), least, CORES, BATCHES * batch)
    with Original(question) as original, runners(asked.runners, card) as made:
        forwards = Artefact(card, place, least), Eager(original, batch)
        for size, folder in files.items():
            case = Case(card, place, folder, size, asked.margin, asked.mbit_s, asked.rtt_ms)
            sizes[str(size)] = measured(case, made, forwards, asked.rounds)
            keep({"rounds": asked.rounds, "sizes": sizes}, asked.out)
    for size in asked.sizes:
        for name, rounds in sizes[str(size)].items():
            for key in rounds[0]:
                spread = Spread.of([r[key] for r in rounds])
                print(f"{size:5} {name:5} {key:24} {spread.middle:9.3f}  {spread.low:9.3f} .. {spread.high:9.3f}")


if __name__ == "__main__":
    main()
