"""Scenes on disk whose pixels say where on Earth they are, and the plainest possible source that reads them."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import rasterio
import shapely
from affine import Affine
from pyproj import Transformer
from rasterio.windows import Window as RasterioWindow

from swathe.errors import ReadError
from swathe.mosaic import Composite, Mosaic, Slot
from swathe.scene import Asset, AssetGrid, Scene
from swathe.source import MaskRule, SourceMask
from swathe.window import Window

SCL = SourceMask(rule=MaskRule.SCL, asset="scl")
VEGETATION, CLOUD, SHADOW, NO_DATA = 4, 9, 3, 0


def field_at(lon, lat, band=0):
    """A smooth field over the Earth, about 1000..9000, no two bands alike."""
    return (
        5000 + 2500 * np.sin(np.radians(lon) * (900 + 70 * band)) + 1500 * np.cos(np.radians(lat) * (1100 + 50 * band))
    )


def centres(crs, transform, shape, target="OGC:CRS84"):
    """(lon, lat) of all pixel centres, or (x, y) in another CRS."""
    cols, rows = np.meshgrid(np.arange(shape[1]) + 0.5, np.arange(shape[0]) + 0.5)
    x, y = Affine(*transform) * (cols, rows)
    return Transformer.from_crs(crs, target, always_xy=True).transform(x, y)


def painted(crs, transform, shape, band=0, dtype="uint16"):
    """The field, sampled at pixel centres."""
    return np.floor(field_at(*centres(crs, transform, shape), band) + 0.5).astype(dtype)


def write(path, data, crs, transform, *, nodata=None, overviews=(), mask=None, blocksize=256):
    """A tiled GeoTIFF (h, w) or (n, h, w)."""
    data = data[None] if data.ndim == 2 else data
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(
        path, "w", driver="GTiff", count=data.shape[0], height=data.shape[1], width=data.shape[2], dtype=data.dtype,
        crs=crs, transform=Affine(*transform), nodata=nodata, tiled=True, blockxsize=blocksize, blockysize=blocksize,
        compress="deflate", zlevel=1,
    ) as file:  # fmt: skip
        file.write(data)
        if mask is not None:
            file.write_mask(mask)
        if overviews:
            file.build_overviews(list(overviews), rasterio.enums.Resampling.nearest)
    return path


def outline(crs, transform, shape):
    """WKB in longitude and latitude, cut at 180."""
    x0, y0 = Affine(*transform) * (0, 0)
    x1, y1 = Affine(*transform) * (shape[1], shape[0])
    ring = shapely.segmentize(shapely.box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), abs(x1 - x0) / 16)
    turn = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    xy = shapely.get_coordinates(ring)
    lon, lat = turn.transform(xy[:, 0], xy[:, 1])
    lon = np.unwrap(lon, period=360)
    polygon = shapely.make_valid(shapely.Polygon(np.column_stack([lon, lat])))
    parts = []
    for k in (-360, 0, 360):
        part = shapely.intersection(polygon, shapely.box(-180 + k, -90, 180 + k, 90))
        if not part.is_empty and part.area > 0:
            parts.append(shapely.transform(part, lambda c, k=k: c - (k, 0)))
    return shapely.to_wkb(shapely.union_all(parts))


@dataclass
class Place:
    """Where test scenes lie."""

    crs: str = "EPSG:32633"
    x: float = 500_000.0
    y: float = 4_600_000.0
    res: float = 10.0
    shape: tuple[int, int] = (600, 700)

    @property
    def transform(self):
        return (self.res, 0.0, self.x, 0.0, -self.res, self.y)

    def coarser(self, factor):
        rows, cols = self.shape
        return Place(self.crs, self.x, self.y, self.res * factor, (rows // factor, cols // factor))


def asset(path, name, place, **options):
    return Asset(name, str(path), grid=AssetGrid(place.crs, place.transform, place.shape), **options)


def make_scene(folder, name, place=None, *, data=None, scl=None, when="2024-07-01T10:00:00Z", bands=("red", "nir"),
               scl_place=None, **options):  # fmt: skip
    """A scene of one file per band, and a mask where one is given. ``data``: (C, h, w), else the field."""
    place = place or Place()
    write_options = {k: options.pop(k) for k in ("nodata", "overviews", "blocksize") if k in options}
    assets = []
    for n, band in enumerate(bands):
        numbers = painted(place.crs, place.transform, place.shape, n) if data is None else data[n]
        path = write(folder / name / f"{band}.tif", numbers, place.crs, place.transform, **write_options)
        assets.append(asset(path, band, place, **options))
    mask = None
    if scl is not None:
        other = scl_place or place
        path = write(folder / name / "scl.tif", scl.astype(np.uint8), other.crs, other.transform,
                     overviews=write_options.get("overviews", ()))  # fmt: skip
        mask = asset(path, "scl", other, resampling="nearest")
    return Scene(name, "test", when, outline(place.crs, place.transform, place.shape), tuple(assets), mask)


def slot_of(scenes):
    """A date of these scenes, those of one day (UTC) side by side."""
    days = groupby(scenes, key=lambda scene: scene.when[:10])
    return Slot(scenes[0].when[:10], tuple(tuple(day) for _, day in days))


def mosaic_of(slots, place, **options):
    """A mosaic whose grid is that of a place, unless told otherwise."""
    slots = [slots] if isinstance(slots[0], Scene) else slots
    made = tuple(map(slot_of, slots))
    corner = options.pop("corner", None) or (round(-place.y // place.res), round(place.x // place.res))
    facts = {
        "composite": Composite.NONE, "crs": place.crs, "transform": place.transform, "shape": place.shape,
        "unit": "reflectance", "sensor": "test",
    }  # fmt: skip
    bands = tuple(b.name for b in made[0].scenes[0].bands)
    return Mosaic(made, bands, corner=corner, **(facts | options))


def cropped(mosaic, window):
    """The same mosaic over another area: a window of its grid, which may reach beyond it."""
    a, b, c, d, e, f = mosaic.transform
    transform = (a, b, c + window.col * a, d, e, f + window.row * e)
    corner = (mosaic.corner[0] + window.row, mosaic.corner[1] + window.col)
    return replace(mosaic, transform=transform, corner=corner, shape=(window.height, window.width))


class RasterioSource:
    """A file, opened anew for every read: slow, and nothing in it can go wrong."""

    def __init__(self, given: Asset, opener: LocalOpener) -> None:
        self._asset, self._opener = given, opener
        with rasterio.open(given.href) as file:
            self.grid = AssetGrid(file.crs.to_string(), tuple(file.transform)[:6], file.shape)
            self.dtype, self.count, self.block = np.dtype(file.dtypes[0]), file.count, file.block_shapes[0]
            self.nodata = given.nodata if given.nodata is not None else file.nodata
            factors = file.overviews(1)
            self._own = any("per_dataset" in [f.name for f in flags] for flags in file.mask_flag_enums)
        self.overviews = tuple(self._level(n) for n in range(len(factors)))

    def _level(self, n):
        with rasterio.open(self._asset.href, overview_level=n) as file:
            return AssetGrid(self.grid.crs, tuple(file.transform)[:6], file.shape)

    def _open(self, level):
        return rasterio.open(self._asset.href, **({} if level == 0 else {"overview_level": level - 1}))

    def read(self, indexes, window, level=0):
        self._opener.note(self._asset, window, level)
        with self._open(level) as file:
            rows, cols = file.shape
            assert min(window.row, window.col) >= 0
            assert window.bottom <= rows
            assert window.right <= cols
            return file.read(list(indexes), window=RasterioWindow(window.col, window.row, window.width, window.height))

    def valid(self, window, level=0):
        if not self._own:
            return None
        with self._open(level) as file:
            return file.read_masks(1, window=RasterioWindow(window.col, window.row, window.width, window.height)) != 0

    def bytes_of(self, window, level=0):
        return window.area * self.dtype.itemsize

    def prefetch(self, window, level=0):
        self._opener.expected.append((self._asset.href, window, level))


@dataclass
class LocalOpener:
    """Opens local files; those named in ``broken`` are lost, header and all those in ``gone``."""

    broken: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    reads: list = field(default_factory=list)
    expected: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, given):
        if given.href in self.gone:
            raise ReadError(f"{Path(given.href).name} is not there", code="read.gone")
        return RasterioSource(given, self)

    def expect(self, assets):
        """Files on this disk are open at once."""

    def note(self, given, window: Window, level):
        if given.href in self.broken:
            raise ReadError(f"{Path(given.href).name} broke off", code="read.lost")
        with self.lock:
            self.reads.append((Path(given.href).parent.name, given.name, window, level))
