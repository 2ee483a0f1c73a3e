"""The standing pool: how long a job of 25 Mpx waits for its first pixels, and what it costs beyond its own work.

    python benchmarks/pool.py --rounds 7

A Ray of its own, a pool of one hand per core, the queue in SQLite, and a weight-free method over a scene on disk. Times
count from the moment at which the job is accepted. *Begun*: the first hand begins its first chunk. *First pixels*: the
first part file is whole, and the store says so. *Cost*: all of the job, less its chunks and products.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import rasterio
from rasterio.transform import from_origin

from cluster.local import ClusterSpec, connect
from serve.running.crews import OnPool
from serve.running.dispatcher import Dispatcher
from serve.running.pool import open_pool
from serve.running.service import shape_of
from serve.settings import ServiceSettings
from serve.store import events, ids, jobs, users
from serve.store.store import Store, now
from swathe.job import ENDED, Job, Where

SIDE = 5000
BANDS = ("green", "nir")


def scene(path: Path) -> Path:
    """Two bands of reflectance, 25 Mpx, in tiles of 512."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(200, 4000, (len(BANDS), SIDE // 50, SIDE // 50))
    data = coarse.repeat(50, 1).repeat(50, 2).astype(np.int16) + rng.integers(0, 100, (SIDE, SIDE)).astype(np.int16)
    with rasterio.open(path, "w", driver="GTiff", count=len(BANDS), dtype="int16", height=SIDE, width=SIDE,
                       crs="EPSG:32633", transform=from_origin(5e5, 46e5, 10, 10), tiled=True, blockxsize=512,
                       blockysize=512, compress="deflate", nodata=-9999) as file:  # fmt: skip
        file.write(data)
        file.descriptions = BANDS
        file.scales, file.offsets = (1e-4,) * len(BANDS), (0.0,) * len(BANDS)
    return path


def submit(store: Store, user: str, image: Path) -> str:
    """A job for the pool; its id."""
    moment = now()
    request = {"model": "water-ndwi", "inputs": [str(image)]}
    job = Job(ids.new("j"), user, request, "water-ndwi", moment, moment, where=Where.ONLINE, cost={"seconds": 5.0})
    with store.begin() as c:
        jobs.add(c, job, 2500.0)
    return job.id


def await_end(store: Store, id_: str) -> Job:
    """Once it is done."""
    while True:
        with store.read() as c:
            job = jobs.get(c, id_)
        if job.state in ENDED:
            return job
        time.sleep(0.02)


def measured(settings: ServiceSettings, store: Store, id_: str) -> dict[str, float]:
    """Seconds of one job."""
    job = await_end(store, id_)
    with store.read() as c:
        told = events.of(c, id_, 0, 10_000)
    folder = Path(settings.folder_of(id_))
    report = json.loads((folder / "report.json").read_text())
    receipts = [json.loads(p.read_text()) for p in (folder / ".swathe" / "parts").glob("*.json")]
    accepted, ended = _s(job.created), _s(job.ended or "")
    own = sum(report["seconds"][stage] for stage in ("fit", "chunks", "products", "preview"))
    return {
        "begun": min(r["started"] for r in receipts) - accepted,
        "first pixels": _s(next(e.at for e in told if e.kind == "chunk")) - accepted,
        "chunks": report["seconds"]["chunks"],
        "all": ended - accepted,
        "cost": ended - accepted - own,
    }


def _s(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        image = scene(Path(folder) / "scene.tif")
        settings = ServiceSettings.read(data_dir=Path(folder) / "data", local_roots=(Path(folder),))
        store = settings.open_store()
        with store.begin() as c:
            user = users.add(c, "bench@example.org").id
        with connect(ClusterSpec(settings.data_dir, dashboard=False)):
            pool = open_pool(settings, shape_of(settings))
            pool.await_ready(300)
            crew = OnPool(settings, lambda: pool)
            crew.open()
            dispatcher = Dispatcher(settings, store, dict.fromkeys(Where, crew))
            dispatcher.start()
            await_end(store, submit(store, user, image))  # the disk's cache, and what is loaded at first use
            found = [measured(settings, store, submit(store, user, image)) for _ in range(rounds)]
            dispatcher.stop()
            pool.close()
    for name in found[0]:
        values = [one[name] for one in found]
        sys.stdout.write(f"{name:14s} {statistics.median(values):6.2f} s   "
                         f"({min(values):.2f} .. {max(values):.2f})\n")  # fmt: skip


if __name__ == "__main__":
    main()
