"""The grid of an asset as its catalogue says it (projection extension 1.x and 2.x), before any file is opened."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError

from swathe.scene import AssetGrid

Json = Mapping[str, Any]
_LARGEST = 10_000_000
"""Pixels along a side beyond which a catalogue is mistaken."""


def grid_of(item: Json, asset: Json) -> AssetGrid | None:
    """Of an asset, from itself and its item; None where they do not say all of it, or say what no file can be.

    An item's transform and shape belong to assets that say nothing of their own, and to those only. A grid that lies
    elsewhere than the item itself is not believed: the file will say.
    """
    properties = item.get("properties") or {}
    own = any(f"proj:{word}" in asset for word in ("transform", "shape"))
    source = asset if own else properties
    crs, transform, shape = _crs(asset) or _crs(properties), _transform(source), _shape(source)
    if own and shape and transform is None:
        transform = _from_box(asset.get("proj:bbox") or properties.get("proj:bbox"), shape)
    if crs is None or transform is None or shape is None:
        return None
    grid = AssetGrid(crs, transform, shape)
    return grid if _there(grid, item.get("bbox")) else None


def _there(grid: AssetGrid, box: Any) -> bool:
    """Whether a grid reaches the latitudes of its item; True where the item has no usable bounds.

    Many HLS items of the Planetary Computer name the UTM zone of the other hemisphere (PlanetaryComputer issue 486).
    """
    if not isinstance(box, list) or len(box) not in (4, 6) or not all(_finite(x) for x in box):
        return True
    south, north = float(box[1]), float(box[len(box) // 2 + 1])
    low, high = _latitudes(grid)
    return low <= north and south <= high


@lru_cache(maxsize=4096)
def _latitudes(grid: AssetGrid) -> tuple[float, float]:
    """Of corners and middle, as far as they lie on the Earth: (inf, -inf) if none does, all where nobody can tell."""
    a, _, x, _, e, y = grid.transform
    rows, cols = grid.shape
    xs, ys = (x, x + a * cols), (y, y + e * rows)
    try:
        turn = _to_lonlat(grid.crs)
    except ProjError:
        return -math.inf, math.inf
    points = [*((i, j) for i in xs for j in ys), (sum(xs) / 2, sum(ys) / 2)]
    found = [lat for lat in (turn.transform(*point)[1] for point in points) if math.isfinite(lat)]
    return min(found, default=math.inf), max(found, default=-math.inf)


@lru_cache(maxsize=256)
def _to_lonlat(crs: str) -> Transformer:
    """Kept: a search has many scenes of few zones."""
    return Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)


def _crs(source: Json) -> str | None:
    """``EPSG:n`` where there is a code, else WKT."""
    code = source.get("proj:code")
    if code is None and isinstance(source.get("proj:epsg"), int):
        code = f"EPSG:{source['proj:epsg']}"
    said = (code, source.get("proj:wkt2"), source.get("proj:projjson"))
    texts = (json.dumps(one) if isinstance(one, Mapping) else one for one in said)
    return next((crs for text in texts if isinstance(text, str) and (crs := _named(text))), None)


@lru_cache(maxsize=256)
def _named(text: str) -> str | None:
    """Of a code, WKT or PROJJSON; None where it is none. Kept, because a search tells the same few over and over."""
    try:
        crs = CRS.from_user_input(text)
    except (CRSError, TypeError, ValueError):
        return None
    number = crs.to_epsg()
    return f"EPSG:{number}" if number else crs.to_wkt()


def _transform(source: Json) -> tuple[float, float, float, float, float, float] | None:
    raw = source.get("proj:transform")
    if not isinstance(raw, list) or len(raw) not in (6, 9) or not all(_finite(x) for x in raw):
        return None
    a, b, c, d, e, f = (float(x) for x in raw[:6])
    return (a, b, c, d, e, f) if b == d == 0 and a > 0 > e else None


def _shape(source: Json) -> tuple[int, int] | None:
    raw = source.get("proj:shape")
    if not isinstance(raw, list) or len(raw) != 2 or not all(_finite(x) for x in raw):  # noqa: PLR2004  rows, cols
        return None
    rows, cols = (int(x) for x in raw)
    return (rows, cols) if 0 < rows <= _LARGEST and 0 < cols <= _LARGEST else None


def _from_box(raw: Any, shape: tuple[int, int]) -> tuple[float, float, float, float, float, float] | None:
    if not isinstance(raw, list) or len(raw) != 4 or not all(_finite(x) for x in raw):  # noqa: PLR2004  corners
        return None
    west, south, east, north = (float(x) for x in raw)
    if west >= east or south >= north:
        return None
    return (east - west) / shape[1], 0.0, west, 0.0, (south - north) / shape[0], north


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
