"""Polygons as well-known binary, straight from flat arrays."""

from __future__ import annotations

import itertools
import struct

import numpy as np
from numpy.typing import NDArray

from pipelines.products.corners import Outlines

Floats = NDArray[np.float64]
_LITTLE_ENDIAN, _POLYGON = 1, 3
_POINT_BYTES = 16


def wkb(points: Floats, outlines: Outlines) -> list[bytes]:
    """Each polygon of ``outlines`` with its vertices at ``points``, (n, 2) x and y."""
    view = memoryview(np.ascontiguousarray(points, "<f8").data).cast("B")
    rings, polygons = outlines.rings.tolist(), outlines.polygons.tolist()
    count = [struct.pack("<I", rings[i + 1] - rings[i]) for i in range(len(rings) - 1)]
    found = []
    for first, last in itertools.pairwise(polygons):
        pieces: list[bytes | memoryview] = [struct.pack("<BII", _LITTLE_ENDIAN, _POLYGON, last - first)]
        for ring in range(first, last):
            pieces += (count[ring], view[rings[ring] * _POINT_BYTES : rings[ring + 1] * _POINT_BYTES])
        found.append(b"".join(pieces))
    return found


def bounds(points: Floats, outlines: Outlines) -> Floats:
    """(n, 4) least x and y, greatest x and y of each polygon."""
    if not len(outlines):
        return np.empty((0, 4))
    first = outlines.rings[outlines.polygons[:-1]]
    return np.hstack([np.minimum.reduceat(points, first), np.maximum.reduceat(points, first)])
