"""How fast the catalogue is: items put in per second, and what searches take. Prints JSON.

.venv/bin/python benchmarks/catalogue.py --items 100000
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import shapely

from benchmarks.rounds import keep
from pipelines.catalogue.search import Search
from pipelines.catalogue.store import Catalogue

START = datetime(2016, 1, 1, tzinfo=UTC)
BATCH = 1000
TIMES = 9


def items(count: int) -> Iterator[dict[str, Any]]:
    """Scenes of a degree, tilted as real ones are, over ten years; with the text of a dozen assets."""
    rng = random.Random(1)
    for i in range(count):
        west, south = rng.uniform(-180, 178), rng.uniform(-60, 75)
        corners = [(west, south + 0.1), (west + 0.9, south), (west + 1, south + 0.9), (west + 0.1, south + 1)]
        assets = {
            f"B{k:02}": {"href": f"https://e.org/{i}/B{k:02}.tif", "type": "image/tiff", "roles": ["data"],
                         "raster:bands": [{"scale": 0.0001, "offset": -0.1, "nodata": 0}], "title": f"Band {k}"}
            for k in range(12)
        }  # fmt: skip
        yield {
            "type": "Feature", "stac_version": "1.0.0", "id": f"S2_{i:07}", "collection": "scenes",
            "geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]},
            "bbox": [west, south, west + 1, south + 1],
            "properties": {"datetime": (START + timedelta(minutes=rng.randrange(60 * 24 * 3650))).isoformat(),
                           "eo:cloud_cover": round(rng.uniform(0, 100), 2), "platform": rng.choice(["s2a", "s2b"]),
                           "proj:code": f"EPSG:326{rng.randrange(1, 61):02}", "gsd": 10, "s2:tile": f"T{i % 977}"},
            "links": [{"rel": "derived_from", "href": f"https://e.org/{i}"}], "assets": assets,
        }  # fmt: skip


def searches() -> dict[str, Search]:
    """Questions of different kinds."""
    circle = json.loads(shapely.to_geojson(shapely.Point(10, 47).buffer(5, quad_segs=500)))
    may = "2020-05-01T00:00:00Z/2020-06-01T00:00:00Z"
    return {
        "newest 10": Search(),
        "box of 2° and a month": Search(bbox=(10, 45, 12, 47), datetime=may),
        "box of 2°": Search(bbox=(10, 45, 12, 47)),
        "box of 60° and a year": Search(bbox=(-30, 0, 30, 60), datetime="2020-01-01T00:00:00Z/2021-01-01T00:00:00Z"),
        "box of 60°": Search(bbox=(-30, 0, 30, 60)),
        "polygon of 2000 corners": Search(intersects=circle),
        "box, month, cloud below 20 (SQL)": Search(bbox=(-30, 0, 30, 60), datetime=may, filter="eo:cloud_cover < 20"),
        "cloud below 5, all items (SQL)": Search(filter="eo:cloud_cover < 5"),
        "sorted by cloud, all items": Search(sortby=(("eo:cloud_cover", False),)),
        "month, arithmetic (item by item)": Search(datetime=may, filter="eo:cloud_cover * 2 < 10"),
        "page of 1000": Search(limit=1000),
        "one id": Search(ids=("S2_0000500",)),
    }


def milliseconds(what: Callable[[], Any]) -> tuple[float, Any]:
    """Median of some, the first one aside."""
    taken, answer = [], what()
    for _ in range(TIMES):
        start = time.perf_counter()
        answer = what()
        taken.append(time.perf_counter() - start)
    return round(1000 * median(taken), 2), answer


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--out", type=Path, help="file for the figures, as JSON")
    asked = parser.parse_args()
    count = asked.items
    with tempfile.TemporaryDirectory() as folder, Catalogue(Path(folder) / "catalogue.sqlite") as catalogue:
        catalogue.put_collection({"type": "Collection", "stac_version": "1.0.0", "id": "scenes", "description": "d",
                                  "license": "other", "extent": {}, "links": []})  # fmt: skip
        seconds, batch = 0.0, []
        for item in items(count):
            batch.append(item)
            if len(batch) == BATCH:
                start = time.perf_counter()
                catalogue.put_items(batch)
                seconds, batch = seconds + time.perf_counter() - start, []
        one = next(items(1))
        found: dict[str, Any] = {"items": count, "put_per_second": round(count / seconds)}
        found["put one, ms"] = milliseconds(lambda: catalogue.put_items([one]))[0]
        found["file_mb"] = round(sum(p.stat().st_size for p in Path(folder).iterdir()) / 1e6)
        start = time.perf_counter()
        catalogue.collection("scenes")
        found["collection after a change, ms"] = round(1000 * (time.perf_counter() - start), 1)
        answers = {}
        for name, search in searches().items():
            ms, page = milliseconds(lambda s=search: catalogue.search(s))
            answers[name] = {"ms": ms, "matched": page.matched}
    print(json.dumps({**found, **answers}, indent=1, ensure_ascii=False))
    keep({**found, "rounds": TIMES, "searches": answers}, asked.out)


if __name__ == "__main__":
    main()
