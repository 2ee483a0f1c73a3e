"""How fast tiles of a class raster are drawn: in process, and over HTTP by eight clients at once. Prints JSON.

.venv/bin/python benchmarks/tiles.py --side 4096 --tiles 400
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import morecantile
import numpy as np
import rasterio
import uvicorn
from affine import Affine
from odc.geo.geobox import GeoBox

from pipelines.layers.draw import draw
from pipelines.layers.encode import Form, blank, encoded
from pipelines.layers.files import Files, RasterFile
from pipelines.layers.frame import tile
from pipelines.layers.published import Of, layers_of
from pipelines.products.cog import assemble
from pipelines.products.item import ItemFacts, ModelFacts, write_item
from pipelines.products.layer import CLASS_NODATA, Kind, LayerSpec, RasterSpec, Resampling
from pipelines.store.folder import FolderBlobs
from serve.api.app import api
from serve.desk.desk import Desk
from serve.settings import ServiceSettings
from serve.store import ids, jobs, keys, users
from serve.store.keys import Pepper
from serve.store.store import now
from swathe.card import ClassLabel
from swathe.job import Job, JobState
from swathe.user import SCOPES_OF, Role
from swathe.window import Window

COLOURS = ("#d8c090", "#2060c0", "#30a030", "#c03020", "#808080", "#e0e040")
CLASSES = tuple(ClassLabel(value=i, name=f"class {i}", colour=colour) for i, colour in enumerate(COLOURS))
RESULT = RasterSpec("result", "uint8", CLASS_NODATA, ("class",), Resampling.MODE)
CLIENTS = 8


def result(folder: Path, side: int) -> None:
    """Patches of all sizes in six classes, as a COG with its item."""
    rng = np.random.default_rng(1)
    image = np.kron(rng.integers(0, 6, (side // 16, side // 16)), np.ones((16, 16))).astype(np.uint8)
    noisy = rng.random((side, side)) < 0.02
    image[noisy] = rng.integers(0, 6, int(noisy.sum()))
    grid = GeoBox((side, side), Affine(10, 0, 5e5, 0, -10, 5_600_000), "EPSG:32633")
    layer = LayerSpec(Kind.CLASSES, "Bench", CLASSES, RESULT)
    with rasterio.open(folder / "part", "w", driver="GTiff", width=side, height=side, count=1, dtype="uint8") as file:
        file.write(image, 1)
    assemble([(folder / "part", Window(0, 0, side, side))], grid, layer, RESULT, folder / "result.tif")
    (folder / "part").unlink()
    when = datetime(2024, 5, 1, tzinfo=UTC)
    write_item(ItemFacts("bench", "Bench", grid, layer, ModelFacts("m", "M"), when, when), folder)


def places(bbox: tuple[float, ...], zooms: tuple[int, int], count: int) -> list[tuple[int, int, int]]:
    """Tiles over the layer, from the coarsest zoom to two beyond its finest."""
    rng, web = random.Random(1), morecantile.tms.get("WebMercatorQuad")
    found = []
    for _ in range(count):
        one = web.tile(
            rng.uniform(bbox[0], bbox[2]), rng.uniform(bbox[1], bbox[3]), rng.randint(zooms[0], zooms[1] + 2)
        )
        found.append((one.z, one.x, one.y))
    return found


def told(seconds: list[float]) -> dict[str, float]:
    """Milliseconds."""
    p50, p90, p99 = np.percentile(np.array(seconds) * 1e3, (50, 90, 99))
    return {"p50_ms": round(p50, 1), "p90_ms": round(p90, 1), "p99_ms": round(p99, 1)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=4096)
    parser.add_argument("--tiles", type=int, default=400)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        settings = ServiceSettings.read(data_dir=Path(scratch))
        store = settings.open_store()
        desk = Desk(settings, store)
        with store.begin() as c:
            user = users.add(c, "bench@example.org", Role.MEMBER)
            _, secret = keys.make(c, Pepper(settings.pepper.encode()), user.id, SCOPES_OF[Role.MEMBER])
            job = Job(ids.new("j"), user.id, {}, "bench", now(), now())
            jobs.add(c, job, 1.0)
        folder = Path(settings.folder_of(job.id))
        folder.mkdir(parents=True)
        result(folder, asked.side)
        names = {path.name: path.stat().st_size for path in folder.iterdir()}
        with store.begin() as c:
            hold = jobs.take(c, job.id, "bench", 60)
            jobs.enter(c, hold, JobState.PREPARING)
            jobs.finish(c, hold, JobState.DONE, {"files": names}, sum(names.values()))
        layer = layers_of(json.loads((folder / "item.json").read_text()), Of(job.id, user.id, "bench"))[0]
        wanted = places(layer.bbox, (layer.minzoom, layer.maxzoom), asked.tiles)
        found = {"side": asked.side, "tiles": asked.tiles, "zooms": [layer.minzoom, layer.maxzoom + 2]}
        print(json.dumps(found | {"in_process": inside(layer, folder, wanted)}), flush=True)
        print(json.dumps({"http": outside(desk, f"swk-{secret}", layer.id, wanted)}), flush=True)
        store.close()


def inside(layer, folder: Path, wanted: list[tuple[int, int, int]]) -> dict[str, float]:
    """One thread, one tile after the other: opened, warped, coloured, encoded."""
    files, file, seconds, size = Files(), RasterFile(FolderBlobs(folder), layer.file, layer.version), [], 0
    for place in wanted:
        began = time.perf_counter()
        drawn = draw(files, file, layer, tile(*place))
        size += len(blank(256, 256, Form.PNG) if drawn is None else encoded(drawn))
        seconds.append(time.perf_counter() - began)
    return told(seconds) | {"kb_per_tile": round(size / len(wanted) / 1e3, 1)}


def outside(desk: Desk, key: str, layer: str, wanted: list[tuple[int, int, int]]) -> dict[str, float]:
    """Eight clients at once, on connections that stay."""
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(api(desk), log_level="error"))
    thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
    thread.start()
    root = f"http://127.0.0.1:{bound.getsockname()[1]}/api/layers/{layer}/tiles"
    with httpx2.Client(headers={"X-API-Key": key}, timeout=120) as client:

        def ask(place: tuple[int, int, int]) -> float:
            began = time.perf_counter()
            client.get("{}/{}/{}/{}.png".format(root, *place)).raise_for_status()
            return time.perf_counter() - began

        ask(wanted[0])
        began = time.perf_counter()
        with ThreadPoolExecutor(CLIENTS) as pool:
            seconds = list(pool.map(ask, wanted))
        whole = time.perf_counter() - began
    server.should_exit = True
    thread.join(10)
    return told(seconds) | {"tiles_per_s": round(len(wanted) / whole, 1), "clients": CLIENTS}


if __name__ == "__main__":
    main()
