"""How the packaged coast was made: ``python -m pipelines.masking.pack land-10m.json TARGET.topojson.gz``.

The TopoJSON of npm's world-atlas is meant for a sphere: rings run over 180 degrees and around the pole. They are cut
there, into cells of five degrees that overlap a little, brought onto whole thousandths of a degree, and made valid, so
that whoever draws them has nothing left to repair.
"""

from __future__ import annotations

import gzip
import itertools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from pipelines.masking.topojson import read_topojson

CELL = 5
"""Degrees."""
PAD = 0.002
"""Degrees by which cells overlap, so that no gap opens between two of them on a bent grid."""
QUANTUM = 0.001
"""Degrees: about a tenth of what the coast is off by."""
_TURN, _HALF = 360.0, 180.0
_COARSE = 60
_NULL = shapely.Point(0, 0)
"""An island that Natural Earth has invented, for those who look for mistakes."""


def pack(source: Path, target: Path) -> int:
    """Write the coast of a spherical TopoJSON, cut and valid; the number of polygons."""
    whole = [shapely.make_valid(flat(polygon)) for polygon in read_topojson(source) if not polygon.contains(_NULL)]
    found = list(_polygons(whole))
    arcs = [
        np.rint(np.asarray(ring.coords) / QUANTUM).astype(int) for p in found for ring in (p.exterior, *p.interiors)
    ]
    numbers = iter(range(len(arcs)))
    polygons = [[[next(numbers)] for _ in (p.exterior, *p.interiors)] for p in found]
    document: dict[str, Any] = {
        "type": "Topology",
        "transform": {"scale": [QUANTUM, QUANTUM], "translate": [0, 0]},
        "objects": {"land": {"type": "MultiPolygon", "arcs": polygons}},
        "arcs": [np.diff(arc, axis=0, prepend=[[0, 0]]).tolist() for arc in arcs],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    target.write_bytes(gzip.compress(text, 9, mtime=0))
    return len(found)


def flat(polygon: shapely.Polygon) -> shapely.Polygon:
    """A polygon of the sphere on the plane: its longitudes go on beyond 180, and around a pole it is closed below."""
    shell, *holes = [_unrolled(np.asarray(ring.coords)) for ring in (polygon.exterior, *polygon.interiors)]
    return shapely.Polygon(shell, holes)


def _unrolled(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    steps = np.diff(ring[:, 0])
    turns = -_TURN * np.cumsum(np.rint(steps / _TURN))
    lon = ring[:, 0] + np.concatenate([[0.0], turns])
    points = np.stack([lon, ring[:, 1]], axis=1)
    if abs(lon[-1] - lon[0]) < _HALF:
        return points
    pole = -90.0 if ring[:, 1].mean() < 0 else 90.0
    return np.concatenate([points, [[lon[-1], pole], [lon[0], pole], points[0]]])


def _polygons(whole: Sequence[shapely.Geometry]) -> Iterator[shapely.Polygon]:
    """Valid polygons of all cells, on whole thousandths; first cut into large cells, which goes much faster."""
    for coarse, box in _boxes(-180 - 360, -90, 3 * 360, 180, _COARSE):
        large = _clipped(whole, box)
        for corner, small in _boxes(*coarse, _COARSE, _COARSE, CELL) if large else ():
            turn = _TURN * math.floor((corner[0] + _HALF) / _TURN)
            for part in _clipped(large, small):
                moved = shapely.transform(shapely.set_precision(part, QUANTUM), lambda xy, turn=turn: xy - (turn, 0.0))
                yield from (p for p in shapely.get_parts(moved) if shapely.area(p) > 0)


def _boxes(
    west: int, south: int, width: int, height: int, side: int
) -> Iterator[tuple[tuple[int, int], shapely.Polygon]]:
    """Cells of a rectangle, each with its corner, and a little larger."""
    for x, y in itertools.product(range(west, west + width, side), range(south, south + height, side)):
        yield (x, y), shapely.box(x - PAD, y - PAD, x + side + PAD, y + side + PAD)


def _clipped(whole: Sequence[shapely.Geometry], box: shapely.Polygon) -> list[shapely.Geometry]:
    shapely.prepare(box)
    parts = [shapely.intersection(shape, box) for shape in whole if shapely.intersects(box, shape)]
    return [part for part in parts if not shapely.is_empty(part)]


if __name__ == "__main__":
    print(pack(Path(sys.argv[1]), Path(sys.argv[2])), "polygons")  # noqa: T201
