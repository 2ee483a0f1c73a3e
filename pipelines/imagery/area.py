"""An area of interest on a grid: from a file, cropped to pixels, and as a mask of any window. Pixel centres decide."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from pyproj.exceptions import CRSError, ProjError
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from pipelines.mosaic.frame import beside, named, period
from swathe.aoi import AOI, ellipsoid_km2
from swathe.errors import AreaError
from swathe.imagery import Imagery
from swathe.window import Window

TEXT = frozenset({".json", ".geojson", ".wkt", ".txt"})
_MAGIC = {".gpkg": b"SQLite format 3", ".shp": b"\x00\x00\x27\x0a", ".fgb": b"fgb\x03", ".parquet": b"PAR1"}
_FILE = re.compile(r"\.[A-Za-z]{2,8}$")
"""How the name of a file ends."""
Line = NDArray[np.float64]
_LONLAT = "OGC:CRS84"
_STEPS = 256
"""Points along the longest side of an area before it is bent into another CRS."""
_MARGIN = 0.02
"""The image's outline is widened by this share before areas are clipped to it."""
_FEW = 1 << 20
"""Up to so many pixels it is checked at once that an area holds the centre of any."""
_MANY = 5000
"""From so many corners on, an area is clipped to the window before it is drawn."""
_PREPARED = threading.Lock()
"""A prepared geometry makes its index at the first question, and two threads that ask at once crash GEOS."""


@dataclass(frozen=True, slots=True)
class Crop:
    """An area on an imagery's grid."""

    window: Window
    """The pixels of the grid whose centres lie in the area's bounds."""
    geometry: Polygon | MultiPolygon
    """In the grid's CRS, cut at the image's edge."""
    covered: float
    """Share of the area that the imagery covers, 0..1."""


# --- reading --------------------------------------------------------------------------------------------------------


def _parsed(text: str) -> AOI:
    """What names no file of this machine; where it looks like one, that is what is wrong with it."""
    try:
        return AOI.parse(text)
    except AreaError as error:
        if error.problem.code == "area.unreadable" and _FILE.search(text):
            raise AreaError(f"there is no file {text[:200]!r}", code="area.missing", field="--aoi",
                            hint="check the path") from None  # fmt: skip
        raise


def read_area(text: str) -> AOI:
    """From ``minlon,minlat,maxlon,maxlat``, GeoJSON, WKT, or a file: GeoJSON, GeoPackage, FlatGeobuf, GeoParquet, shp.

    Raises AreaError.
    """
    path = Path(text.strip()).expanduser() if len(text) < 4096 else None  # noqa: PLR2004  longer than any path
    if path is None or not path.suffix or text.lstrip().startswith("{") or not _is_file(path):
        return _parsed(text)
    if path.suffix.lower() in TEXT:
        try:
            return AOI.parse(path.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise _error("unreadable", f"{path} cannot be read: {error}", "check the file") from None
    return _read_layer(path)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _read_layer(path: Path) -> AOI:
    """A vector file of a format that cannot point at other files."""
    import geopandas as gpd

    magic = _MAGIC.get(path.suffix.lower())
    with path.open("rb") as file:
        head = file.read(16)
    if magic is None or not head.startswith(magic):
        raise _error(
            "unreadable", f"{path} is none of {', '.join(sorted({*TEXT, *_MAGIC}))}", "convert it with ogr2ogr"
        )
    try:
        frame = gpd.read_parquet(path) if path.suffix.lower() == ".parquet" else gpd.read_file(path)
    except Exception as error:  # noqa: BLE001  drivers raise what they like; all of it means the same
        raise _error("unreadable", f"{path} cannot be read: {' '.join(str(error).split())[:200]}", "check it") from None
    shapes = [s for s in getattr(frame, "geometry", []) if s is not None and not s.is_empty]
    if not shapes:
        raise _error("empty", f"{path} holds no geometry", "give polygons")
    if frame.crs is None:
        raise _error("no_crs", f"{path} does not say its CRS", "ogr2ogr -a_srs EPSG:… OUT.gpkg IN")
    return AOI.of(_to_lonlat(shapely.GeometryCollection(shapes), CRS(frame.crs)))


def _to_lonlat(geometry: BaseGeometry, crs: CRS) -> BaseGeometry:
    """Bend into longitude and latitude; where that breaks at the antimeridian, let longitudes run on past 180."""
    if crs.equals(CRS(_LONLAT), ignore_axis_order=True):
        return geometry
    turned = _transform(geometry, crs, CRS(_LONLAT))
    if not _breaks(turned):
        return turned
    middle = shapely.get_coordinates(_transform(shapely.Point(*_middle(geometry)), crs, CRS(_LONLAT)))[0, 0]
    turned = shapely.transform(turned, lambda xy: np.column_stack([_near(xy[:, 0], middle), xy[:, 1]]))
    if _breaks(turned):
        raise _error("pole", "the area runs around a pole", "give it in longitude and latitude, cut at ±180°")
    return turned


def _middle(geometry: BaseGeometry) -> tuple[float, float]:
    west, south, east, north = geometry.bounds
    return (west + east) / 2, (south + north) / 2


def _near(lon: NDArray[np.float64], middle: float) -> NDArray[np.float64]:
    return middle + (lon - middle + 180) % 360 - 180


def _breaks(geometry: BaseGeometry) -> bool:
    xy, ring = shapely.get_coordinates(shapely.get_rings(shapely.get_parts(geometry)), return_index=True)
    steps = np.abs(np.diff(xy[:, 0]))[np.diff(ring) == 0]
    return bool((steps > 180).any())  # noqa: PLR2004  degrees


@lru_cache(maxsize=16)
def _transformer(source: CRS, target: CRS) -> Transformer:
    """Kept, because looking up the ways between two unusual datums takes half a second."""
    return Transformer.from_crs(source, target, always_xy=True)


def _transform(
    geometry: BaseGeometry, source: CRS, target: CRS, moved: Callable[[Line, Line], Line] | None = None
) -> BaseGeometry:
    """Densified, so that straight edges bend as they must. Raises AreaError (``area.projection``).

    ``moved``: from x in the target, and x in the source, to the x that are meant.
    """
    west, south, east, north = geometry.bounds
    side = max(east - west, north - south)
    dense = shapely.segmentize(geometry, side / _STEPS) if side > 0 else geometry
    try:
        turn = _transformer(source, target)
        bent = shapely.transform(dense, lambda xy: _placed(xy, turn, moved))
    except (ProjError, CRSError) as error:
        raise _error(
            "projection", f"the area cannot be brought onto the image's grid: {error}", "check both CRS"
        ) from None
    if not np.isfinite(shapely.get_coordinates(bent)).all():
        raise _error(
            "projection", "part of the area cannot exist in the image's CRS", "draw the area closer to the image"
        )
    return bent


def _placed(xy: Line, turn: Transformer, moved: Callable[[Line, Line], Line] | None) -> Line:
    x, y = turn.transform(xy[:, 0], xy[:, 1])
    return np.column_stack([x if moved is None or not np.isfinite(x).all() else moved(x, xy[:, 0]), y])


# --- cropping -------------------------------------------------------------------------------------------------------


def crop(imagery: Imagery, aoi: AOI) -> Crop:
    """The part of the imagery's grid that lies in the area.

    Raises AreaError: ``area.outside`` where they do not meet, ``area.too_small`` where no pixel centre lies inside.
    """
    crs, transform = CRS.from_user_input(imagery.crs), Affine(*imagery.transform)
    outline = _outline(imagery.shape, transform, crs)
    near = _clip_to(outline, aoi.geometry)
    image = _rectangle(Window(0, 0, *imagery.shape), transform)
    whole = _onto_grid(near, crs, _about(image, outline, crs)) if not near.is_empty else Polygon()
    part = _polygonal(shapely.intersection(whole, image))
    if part.is_empty:
        raise _outside(imagery, aoi, crs, image)
    window = _window(part, transform, imagery.shape)
    small = window is not None and window.area <= _FEW
    if window is None or (small and (mask := inside(part, transform, window)) is not None and not mask.any()):
        size = f"{abs(transform.a):g} x {abs(transform.e):g}"
        hint = f"draw it larger: a pixel measures {size} units of the CRS"
        raise _error("too_small", "the area lies between the centres of pixels, so that it holds none", hint)
    seen = ellipsoid_km2(near) / aoi.area_km2
    return Crop(window, part, min(1.0, seen * part.area / whole.area))


def _outline(shape: tuple[int, int], transform: Affine, crs: CRS) -> BaseGeometry | None:
    """The image with a margin, in longitude and latitude that may run past ±180; None where it has none."""
    rows, cols = shape
    margin = max(2.0, _MARGIN * max(shape))
    edge = shapely.box(-margin, -margin, cols + margin, rows + margin)
    dense = shapely.segmentize(edge.exterior, max(shape) / 64)
    xy = _to_crs(shapely.get_coordinates(dense), transform)
    if not crs.is_geographic:
        turn = _transformer(crs, CRS(_LONLAT))
        xy = np.column_stack(turn.transform(xy[:, 0], xy[:, 1]))
    if not np.isfinite(xy).all():
        return None
    lon = np.unwrap(xy[:, 0], period=360) if not crs.is_geographic else xy[:, 0]
    if abs(lon[-1] - lon[0]) > 180:  # noqa: PLR2004  the outline runs around a pole
        south = xy[:, 1].mean() < 0
        return shapely.box(-540, -90, 540, xy[:, 1].max()) if south else shapely.box(-540, xy[:, 1].min(), 540, 90)
    return _polygonal(shapely.make_valid(Polygon(np.column_stack([lon, xy[:, 1]]))))


def _clip_to(outline: BaseGeometry | None, geometry: BaseGeometry) -> BaseGeometry:
    """The part near the image, moved by full turns to the longitudes in which the image lies."""
    if outline is None:
        return geometry
    west, _, east, _ = outline.bounds
    polar = east - west > 720  # noqa: PLR2004  the band around a pole, where one turn is enough
    turns = (0,) if polar else (-360, 0, 360)
    parts = [shapely.transform(geometry, lambda xy, t=turn: xy + np.array([t, 0])) for turn in turns]
    return _polygonal(shapely.union_all([shapely.intersection(part, outline) for part in parts]))


def _about(image: Polygon, outline: BaseGeometry | None, crs: CRS) -> tuple[float, float]:
    """Easting in the middle of an image, and its longitude in the turn in which the outline is counted."""
    x, y = _middle(image)
    lon = _transformer(crs, CRS(_LONLAT)).transform(x, y)[0]
    return x, lon if outline is None else float(_near(np.array(lon), _middle(outline)[0]))


def _onto_grid(near: BaseGeometry, crs: CRS, about: tuple[float, float]) -> BaseGeometry:
    """Into the grid's CRS. Grids keep the turn they are counted in; parts cut at ±180° are joined."""
    if crs.equals(CRS(_LONLAT), ignore_axis_order=True):
        return near
    parts = [shapely.make_valid(_bend(part, crs, about)) for part in shapely.get_parts(near)]
    return _polygonal(shapely.union_all(parts))


def _bend(part: BaseGeometry, crs: CRS, about: tuple[float, float]) -> BaseGeometry:
    whole = period(named(crs.to_wkt()))
    return _transform(part, CRS(_LONLAT), crs, (lambda x, lon: beside(x, lon, whole, about)) if whole else None)


def _polygonal(geometry: BaseGeometry) -> Polygon | MultiPolygon:
    parts = [p for p in shapely.get_parts(geometry) if isinstance(p, Polygon | MultiPolygon) and p.area > 0]
    merged = shapely.union_all(parts)
    return merged if isinstance(merged, Polygon | MultiPolygon) else Polygon()


def _rectangle(window: Window, transform: Affine) -> Polygon:
    corners = np.array([(window.col, window.row), (window.right, window.bottom)], float)
    (west, north), (east, south) = _to_crs(corners, transform)
    return shapely.box(west, south, east, north)


def _to_crs(pixels: NDArray[np.float64], transform: Affine) -> NDArray[np.float64]:
    """(n, 2) column, row to x, y of a north-up grid."""
    return pixels * (transform.a, transform.e) + (transform.c, transform.f)


def _to_pixels(xy: NDArray[np.float64], transform: Affine) -> NDArray[np.float64]:
    """(n, 2) x, y to column, row of a north-up grid."""
    return (xy - (transform.c, transform.f)) / (transform.a, transform.e)


def _window(part: BaseGeometry, transform: Affine, shape: tuple[int, int]) -> Window | None:
    """Pixels whose centres lie in the bounds; None where there are none."""
    west, south, east, north = part.bounds
    (left, top), (right, bottom) = _to_pixels(np.array([(west, north), (east, south)]), transform)
    tie = 1e-6
    col, row = max(0, int(np.ceil(left - 0.5 - tie))), max(0, int(np.ceil(top - 0.5 - tie)))
    stop = min(shape[0], int(np.floor(bottom - 0.5 + tie)) + 1), min(shape[1], int(np.floor(right - 0.5 + tie)) + 1)
    return Window(row, col, stop[0] - row, stop[1] - col) if stop[0] > row and stop[1] > col else None


def _outside(imagery: Imagery, aoi: AOI, crs: CRS, image: Polygon) -> AreaError:
    outline = _outline(imagery.shape, Affine(*imagery.transform), crs)
    west, south, east, north = (image if outline is None else outline).bounds
    round_a_pole = east - west > 360  # noqa: PLR2004  degrees
    about = _corners((-180, south, 180, north) if round_a_pole else (west, south, east, north))
    detail = f"the area {_corners(aoi.bounds)} lies outside the image, which covers about {about}"
    return _error("outside", detail, "longitude comes first, then latitude, in degrees")


def _corners(bounds: tuple[float, ...]) -> str:
    return ",".join(f"{x:.4f}".rstrip("0").rstrip(".") for x in bounds)


def _error(code: str, detail: str, hint: str) -> AreaError:
    return AreaError(detail, code=f"area.{code}", hint=hint, field="--aoi")


# --- masks ----------------------------------------------------------------------------------------------------------


def inside(geometry: BaseGeometry | None, transform: Affine, window: Window) -> NDArray[np.bool_] | None:
    """(h, w) True where a pixel's centre lies in ``geometry`` (in the grid's CRS); None: all of them do.

    ``transform`` is the grid's. Corners are brought into the grid's pixels before the window's corner is taken off,
    so that a pixel's answer does not depend on the window it is asked in.
    """
    if geometry is None:
        return None
    frame = _rectangle(window, transform)
    with _PREPARED:
        shapely.prepare(geometry)
        covers, meets = shapely.covers(geometry, frame), shapely.intersects(geometry, frame)
    if covers:
        return None
    if not meets:
        return np.zeros((window.height, window.width), bool)
    from rasterio.features import rasterize

    pixels = _in_pixels(geometry, transform, window)
    burnt = np.zeros((window.height, window.width), np.uint8)
    rasterize([(pixels, 1)], out=burnt, transform=Affine.identity())
    return burnt.astype(bool)


def _in_pixels(geometry: BaseGeometry, transform: Affine, window: Window) -> BaseGeometry:
    corner = np.array([window.col, window.row])
    pixels = shapely.transform(geometry, lambda xy: _to_pixels(xy, transform) - corner)
    if shapely.get_num_coordinates(pixels) > _MANY:
        pixels = shapely.clip_by_rect(pixels, -2, -2, window.width + 2, window.height + 2)
    return pixels
