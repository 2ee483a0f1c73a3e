"""The grid and the addresses of a tile service: XYZ, TMS, QUADKEY, WMS.

Sources: OGC Two Dimensional Tile Matrix Set 2.0 (by morecantile); OSGeo Tile Map Service 1.0; Microsoft's Bing Maps
Tile System for quadkeys; OGC WMS 1.1.1 and 1.3.0 (06-042, section 6.7.2: axes in the order of the CRS).
"""

from __future__ import annotations

import math
import re
from typing import Protocol
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import morecantile
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError

from swathe.errors import ImageryError
from swathe.imagery import shown
from swathe.scene import AssetGrid
from swathe.source import TileService

_MATRICES = {
    "EPSG:3857": "WebMercatorQuad",
    "EPSG:4326": "WorldCRS84Quad",
    "EPSG:3395": "WorldMercatorWGS84Quad",
    "EPSG:3035": "EuropeanETRS89_LAEAQuad",
    "EPSG:2193": "NZTM2000Quad",
    "EPSG:5041": "UPSArcticWGS84Quad",
    "EPSG:5042": "UPSAntarcticWGS84Quad",
}
_WANTED = {"xyz": ({"z"}, {"x"}, {"y", "-y"}), "tms": ({"z"}, {"x"}, {"y", "-y"}), "quadkey": ({"q"},), "wms": ()}
_KNOWN = {"z", "x", "y", "-y", "q", "s"}
_MERCATOR_M = 20037508.342789244
"""Half the side of the world in EPSG:3857."""


class Matrix(Protocol):
    """A grid cut into tiles, each with an address."""

    grid: AssetGrid
    tile: int

    def url(self, row: int, col: int) -> str:
        """Of one tile, unsigned."""
        ...


def matrix_of(href: str, service: TileService) -> Matrix:
    """Raises ImageryError: ``tiles.template``, ``tiles.crs``, ``tiles.zoom``, ``tiles.resolution``."""
    _check_template(href, service)
    return _Wms(href, service) if service.scheme == "wms" else _Pyramid(href, service)


def _check_template(href: str, service: TileService) -> None:
    names = set(re.findall(r"\{([^{}]*)\}", href))
    if names - _KNOWN:
        raise _wrong("template", f"{shown(href)} has a placeholder {{{min(names - _KNOWN)}}} that nobody knows")
    for group in _WANTED[service.scheme]:
        if not names & group:
            raise _wrong("template", f"{shown(href)} has no {{{min(group, key=len)}}}, as {service.scheme} needs")
    if service.scheme == "wms" and names - {"s"}:
        raise _wrong("template", f"{shown(href)} has placeholders of tiles, WMS asks by bounding box")


def _wrong(code: str, detail: str) -> ImageryError:
    hint = {
        "template": "xyz and tms: …/{z}/{x}/{y}, quadkey: …/{q}, wms: the address of the service alone",
        "crs": f"use one of {', '.join(_MATRICES)}; WMS knows any CRS of EPSG",
        "zoom": "name a zoom level that the service has",
        "resolution": "say res_m: units of the CRS per pixel",
    }[code]
    return ImageryError(detail, code=f"tiles.{code}", hint=hint, field="tiles")


def _address(href: str, parts: dict[str, object], row: int, col: int) -> str:
    values = {**parts, "s": "abc"[(row + col) % 3]}
    return re.sub(r"\{([^{}]*)\}", lambda m: str(values[m[1]]), href)


class _Pyramid:
    """XYZ, TMS, QUADKEY: one zoom level of a tile matrix set, as a whole."""

    def __init__(self, href: str, service: TileService) -> None:
        level, corner = _level(service)
        tile = service.tile
        step = level.cellSize * level.tileWidth / tile
        shape = (level.matrixHeight * tile, level.matrixWidth * tile)
        self.grid = AssetGrid(service.crs.upper(), (step, 0.0, corner[0], 0.0, -step, corner[1]), shape)
        self.tile = tile
        self._href, self._scheme, self._zoom, self._rows = href, service.scheme, int(level.id), level.matrixHeight

    def url(self, row: int, col: int) -> str:
        """See ``Matrix``."""
        flipped = self._rows - 1 - row
        y = flipped if self._scheme == "tms" else row
        parts = {"z": self._zoom, "x": col, "y": y, "-y": flipped, "q": quadkey(col, row, self._zoom)}
        return _address(self._href, parts, row, col)


def _level(service: TileService) -> tuple[morecantile.models.TileMatrix, tuple[float, float]]:
    """The matrix of the zoom level, and its upper left corner as (x, y)."""
    name, zoom = _MATRICES.get(service.crs.upper()), service.zoom
    if name is None or (service.scheme == "quadkey" and name != "WebMercatorQuad"):
        raise _wrong("crs", f"tiles in {service.crs} have no agreed matrix for {service.scheme}")
    known = morecantile.tms.get(name)
    least = 1 if service.scheme == "quadkey" else known.minzoom
    if zoom is None or not least <= zoom <= known.maxzoom:
        raise _wrong("zoom", f"zoom is {zoom}, {name} has {least} to {known.maxzoom}")
    level = known.matrix(zoom)
    if level.variableMatrixWidths:
        raise _wrong("crs", f"the rows of {name} have different numbers of tiles")
    bounds = known.xy_bounds(morecantile.Tile(0, 0, zoom))
    return level, (bounds.left, bounds.top)


def quadkey(x: int, y: int, zoom: int) -> str:
    """One digit per zoom level: bit of x + 2 * bit of y, from the coarsest."""
    return "".join(str((x >> n & 1) + 2 * (y >> n & 1)) for n in reversed(range(zoom)))


class _Wms:
    """WMS: tiles of our own, counted from the origin of the CRS."""

    def __init__(self, href: str, service: TileService) -> None:
        res = service.res_m
        if not res or not math.isfinite(res) or res <= 0:
            raise _wrong("resolution", f"the resolution of {shown(href)} is not said")
        lonlat = service.crs.upper() == "CRS:84"
        name = "EPSG:4326" if lonlat else service.crs
        try:
            crs = CRS.from_user_input(name)
        except CRSError:
            raise _wrong("crs", f"{service.crs!r} is no CRS") from None
        self.grid, self.tile = _anchored(name, crs, res, service.tile), service.tile
        self._href, self._service, self._flip = href, service, _north_first(crs) and not lonlat

    def url(self, row: int, col: int) -> str:
        """GetMap of one tile. What the template says already (its version, a token) stays as it is."""
        parts = urlsplit(_address(self._href, {}, row, col))
        said = parse_qsl(parts.query, keep_blank_values=True)
        names = {key.upper() for key, _ in said}
        version = next((value for key, value in said if key.upper() == "VERSION"), "1.3.0")
        asked = self._asked(version, row, col)
        query = [*said, *((key, value) for key, value in asked.items() if key not in names)]
        return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote, safe=":,/")))

    def _asked(self, version: str, row: int, col: int) -> dict[str, str]:
        newer = not version.startswith(("1.0", "1.1"))
        grid, tile, service = self.grid, self.tile, self._service
        a, _, c, _, e, f = grid.transform
        west, south = c + a * tile * col, f + e * tile * (row + 1)
        east, north = c + a * tile * (col + 1), f + e * tile * row
        flip = newer and self._flip
        box = (south, west, north, east) if flip else (west, south, east, north)
        return {
            "SERVICE": "WMS",
            "VERSION": version,
            "REQUEST": "GetMap",
            "LAYERS": service.layers,
            "STYLES": service.style,
            "CRS" if newer else "SRS": service.crs,
            "BBOX": ",".join(repr(float(v)) for v in box),
            "WIDTH": str(tile),
            "HEIGHT": str(tile),
            "FORMAT": service.format,
            "TRANSPARENT": "TRUE" if service.format != "image/jpeg" else "FALSE",
        }


def _north_first(crs: CRS) -> bool:
    """Whether the CRS itself names latitude or northing first, as EPSG:4326 does."""
    return bool(re.search("lat|north", crs.axis_info[0].name, re.IGNORECASE)) if crs.axis_info else False


def _anchored(name: str, crs: CRS, res: float, tile: int) -> AssetGrid:
    """A grid over the area of use whose tiles are counted from the origin of the CRS."""
    west, south, east, north = _extent(crs)
    side = res * tile
    left, top = math.floor(west / side + 1e-9), math.ceil(north / side - 1e-9)
    right, bottom = math.ceil(east / side - 1e-9), math.floor(south / side + 1e-9)
    shape = ((top - bottom) * tile, (right - left) * tile)
    return AssetGrid(name, (res, 0.0, left * side, 0.0, -res, top * side), shape)


def _extent(crs: CRS) -> tuple[float, float, float, float]:
    if crs.to_epsg() == 3857:  # noqa: PLR2004  its area of use ends a little before its square does
        return -_MERCATOR_M, -_MERCATOR_M, _MERCATOR_M, _MERCATOR_M
    area = crs.area_of_use
    if area is None:
        raise _wrong("crs", f"{crs.name} does not say where it may be used")
    if crs.is_geographic:
        return -180.0, -90.0, 180.0, 90.0
    to = Transformer.from_crs(crs.geodetic_crs, crs, always_xy=True)
    return to.transform_bounds(area.west, area.south, area.east, area.north)
