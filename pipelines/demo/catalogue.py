"""The invented coast as a static STAC catalogue: four dates, more or less cloudy, in two UTM zones, with masks.

What a searched run needs, small and without a network: items with projection, eo and raster metadata, one COG a band
in reflectance * 10000 + 1000 (as Sentinel-2 since baseline 04.00), a scene classification, and the truth about water.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.demo import ground, msi, sky
from pipelines.demo.spectra import BANDS
from pipelines.demo.world import SUN_AFTER, SUN_BEFORE, World, imagine
from swathe.errors import InputError, OutputError

VERSION = 1
"""Counts changes of the pixels: a folder with another version is written anew."""
COLLECTION = "swathe-demo"
CORNER = (748_020.0, 4_250_040.0)
"""Upper left corner in EPSG:32633: open Ionian Sea at 18 degrees east, where zone 33 ends and zone 34 begins."""
SMALLEST, LARGEST = 512, 4096
_CELL = 10.0
_BLOCK = 512
_MOVED = 1000
"""Added to every stored number, so that 0 is left for nodata."""
_WEST, _EAST = 0.6, 0.5
"""The western tile ends after this share of the width, the eastern one begins at that."""
_ZONES = {33: "EPSG:32633", 34: "EPSG:32634"}
_BLURRED, _SHADED, _THICK, _THIN = 0.5, 0.35, 0.75, 0.12
Progress = Callable[[float], None]
Grids = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Day:
    """One date of the catalogue."""

    when: str
    """RFC 3339."""
    late: bool
    """After the fire."""
    cover: float
    """Share of the sky that is cloud, about."""


DAYS = (
    Day("2024-07-04T09:45:31Z", late=False, cover=0.02),
    Day("2024-07-14T09:45:33Z", late=False, cover=0.45),
    Day("2024-08-28T09:45:35Z", late=True, cover=0.25),
    Day("2024-09-02T09:45:37Z", late=True, cover=0.30),
)


@dataclass(frozen=True, slots=True)
class DemoCatalogue:
    """Where the catalogue lies."""

    folder: Path
    """Holds everything below."""
    size: int
    """Pixels along a side of the whole scene."""
    seed: int
    """Of all randomness."""

    @property
    def catalog(self) -> Path:
        """What ``--source`` takes."""
        return self.folder / "catalog.json"

    @property
    def water(self) -> Path:
        """Truth, uint8 on the grid of zone 33: 1 where at least half of the pixel is water at the late dates."""
        return self.folder / "water.tif"

    @property
    def aoi(self) -> str:
        """Bounds of the middle of the scene, across both zones, as ``--aoi`` takes them."""
        from pyproj import Transformer

        turn = Transformer.from_crs(_ZONES[33], "OGC:CRS84", always_xy=True)
        side = self.size * _CELL
        x = CORNER[0] + side * np.array([0.12, 0.88])
        y = CORNER[1] - side * np.array([0.88, 0.12])
        lon, lat = turn.transform(x, y)
        return ",".join(f"{v:.4f}" for v in (lon[0], lat[0], lon[1], lat[1]))


def write(folder: Path, size: int = 2048, seed: int = 2024, progress: Progress | None = None) -> DemoCatalogue:
    """Write the catalogue into a folder, or find it there; it appears whole or not at all.

    ``progress`` hears shares 0..1. Raises InputError (``demo.size``), OutputError (the folder cannot be written).
    """
    if not SMALLEST <= size <= LARGEST or size % 4:
        raise InputError(
            f"a demo catalogue of {size} pixels cannot be made",
            hint=f"choose a multiple of 4 from {SMALLEST} to {LARGEST}", field="size", code="demo.size",
        )  # fmt: skip
    made = DemoCatalogue(Path(folder), size, seed)
    label = {"version": VERSION, "size": size, "seed": seed}
    if not _found(made.folder, label):
        try:
            _fresh(made, label, progress or (lambda _: None))
        except OSError as error:
            raise OutputError(
                f"the demo catalogue cannot be written to {folder}: {error}",
                hint="choose a new folder that you may write to", field="folder", code="output.unwritable",
            ) from error  # fmt: skip
    return made


def _found(folder: Path, label: dict[str, int]) -> bool:
    try:
        return json.loads((folder / "demo.json").read_text()) == label
    except (OSError, ValueError):
        return False


def _fresh(made: DemoCatalogue, label: dict[str, int], progress: Progress) -> None:
    """Beside the folder first, then moved; a folder that holds something else is never touched."""
    if made.folder.exists() and any(made.folder.iterdir()) and not (made.folder / "demo.json").exists():
        raise FileExistsError(f"{made.folder} holds something else")
    made.folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=".catalogue-", dir=made.folder.parent))
    try:
        _fill(place, imagine(made.size, made.seed), progress)
        (place / "demo.json").write_text(json.dumps(label))
        place.chmod(0o755)
        shutil.rmtree(made.folder, ignore_errors=True)
        place.replace(made.folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _fill(place: Path, world: World, progress: Progress) -> None:
    names: list[str] = []
    for done, (day, grids) in enumerate(_days(world)):
        for zone in _ZONES:
            names.append(_item(place / COLLECTION, day, zone, grids))
            progress((done + 0.5 * (zone == 34) + 0.5) / len(DAYS))  # noqa: PLR2004  the second zone
        if day is DAYS[-1]:
            _write_grid(place / "water.tif", grids["water"], _transform(0), _ZONES[33], 255)
    _write_catalogue(place, names)


# --- pixels -----------------------------------------------------------------------------------------------------------


def _days(world: World) -> Iterator[tuple[Day, Grids]]:
    """Each day's bands (uint16), classification and truth (uint8) on the whole grid of zone 33."""
    for number, day in enumerate(DAYS):
        rng = np.random.default_rng([world.seed, world.size, number])
        above = sky.overcast(world.size, SUN_AFTER if day.late else SUN_BEFORE, day.cover, rng)
        grids: Grids = {name: np.zeros((world.size, world.size), np.uint16) for name in BANDS}
        grids |= {name: np.zeros((world.size, world.size), np.uint8) for name in ("scl", "water")}
        for row in range(0, world.size, _BLOCK):
            for col in range(0, world.size, _BLOCK):
                _paint(world, (row, col), above, grids, day, rng)
        yield day, grids


def _paint(
    world: World, corner: tuple[int, int], above: sky.Sky, grids: Grids, day: Day, rng: np.random.Generator
) -> None:
    rows, cols = (np.arange(c - msi.HALO, min(c + _BLOCK, world.size) + msi.HALO) for c in corner)
    block, clouds = ground.survey(world, rows, cols), sky.weather(above, rows, cols)
    surface = block.after if day.late else block.before
    light = sky.sunlight(above.sun, block.lie.slope, clouds.shade)
    inner = (slice(msi.HALO, -msi.HALO),) * 2
    place = (slice(rows[0] + msi.HALO, rows[-1] + 1 - msi.HALO), slice(cols[0] + msi.HALO, cols[-1] + 1 - msi.HALO))
    stored = {}
    for band, name in enumerate(BANDS):
        seen = msi.expose(sky.lit(ground.painted(surface, band), band, light, clouds), band, rng)
        stored[name] = seen
        grids[name][place] = (seen.astype(np.int32) + _MOVED).astype(np.uint16)
    water = surface.water[inner] >= ground.HALF
    grids["water"][place] = water
    grids["scl"][place] = _classified(clouds.opacity[inner], clouds.shade[inner], water, stored)


def _classified(opacity: Any, shade: Any, water: Any, stored: Grids) -> NDArray[np.uint8]:
    """Sentinel-2's classes: 3 shadow, 4 vegetation, 5 bare, 6 water, 8 and 9 cloud, 10 cirrus."""
    red, nir = stored["red"].astype(np.float32), stored["nir08"].astype(np.float32)
    green = (nir - red) / np.maximum(nir + red, 1) > 0.4  # noqa: PLR2004  NDVI of growing plants
    classes = np.where(water, 6, np.where(green, 4, 5))
    classes = np.where(shade > _SHADED, 3, classes)
    classes = np.where(opacity > _THIN, 10, classes)
    classes = np.where(opacity > _BLURRED, 8, classes)
    return np.where(opacity > _THICK, 9, classes).astype(np.uint8)


# --- files ------------------------------------------------------------------------------------------------------------


def _transform(col: int, cell: float = _CELL) -> Any:
    from rasterio.transform import from_origin

    return from_origin(CORNER[0] + col * _CELL, CORNER[1], cell, cell)


def _item(home: Path, day: Day, zone: int, grids: Grids) -> str:
    """Files and item of one date in one zone; gives the item's name."""
    from rasterio.warp import transform_bounds

    name = f"{COLLECTION}_{day.when[:10]}_{zone}"
    folder = home / name
    folder.mkdir(parents=True)
    assets: dict[str, Any] = {}
    place: dict[str, Any] = {}
    classes = np.zeros((1, 1), np.uint8)
    for key in (*BANDS, "scl"):
        data, transform = _tile(grids[key], zone, nearest=key == "scl")
        if key == "scl":
            data, transform = data[::2, ::2], transform @ transform.scale(2)
            classes = data
        _write_grid(folder / f"{key}.tif", data, transform, _ZONES[zone], 0)
        place = {"proj:shape": list(data.shape), "proj:transform": list(transform)[:6]}
        assets[key] = {"href": f"./{key}.tif", "type": _COG, "roles": ["data"], **place, **_described(key)}
    height, width = place["proj:shape"]
    west, north = place["proj:transform"][2], place["proj:transform"][5]
    bounds = (west, north - 20 * height, west + 20 * width, north)
    box = transform_bounds(_ZONES[zone], "OGC:CRS84", *bounds)
    seen = classes > 0
    cloud = round(100 * float(np.isin(classes[seen], (8, 9, 10)).mean()), 2)
    (folder / f"{name}.json").write_text(json.dumps(_described_item(name, day, zone, (box, cloud, assets)), indent=1))
    return name


def _tile(grid: NDArray[Any], zone: int, *, nearest: bool) -> tuple[NDArray[Any], Any]:
    """A zone's part of the scene: as it is in zone 33, warped in zone 34."""
    from rasterio.enums import Resampling
    from rasterio.transform import from_origin
    from rasterio.warp import reproject, transform_bounds

    size = grid.shape[0]
    if zone == 33:  # noqa: PLR2004  where the scene was painted
        return grid[:, : _even(_WEST * size)], _transform(0)
    start = _even(_EAST * size)
    left, top = CORNER[0] + start * _CELL, CORNER[1]
    bounds = (left, top - size * _CELL, CORNER[0] + size * _CELL, top)
    west, south, east, north = (round(v / 20) * 20 for v in transform_bounds(_ZONES[33], _ZONES[34], *bounds))
    target = np.zeros((_even((north - south) / _CELL), _even((east - west) / _CELL)), grid.dtype)
    transform = from_origin(west, north, _CELL, _CELL)
    reproject(
        np.ascontiguousarray(grid[:, start:]), target, src_transform=_transform(start), src_crs=_ZONES[33],
        dst_transform=transform, dst_crs=_ZONES[34], src_nodata=0, dst_nodata=0,
        resampling=Resampling.nearest if nearest else Resampling.bilinear,
    )  # fmt: skip
    return target, transform


def _even(pixels: float) -> int:
    return int(pixels // 2 * 2)


_COG = "image/tiff; application=geotiff; profile=cloud-optimized"


def _write_grid(path: Path, data: NDArray[Any], transform: Any, crs: str, nodata: int) -> None:
    import rasterio

    packing: dict[str, Any] = {"compress": "deflate", "predictor": "YES", "blocksize": _BLOCK}
    packing |= {"overview_resampling": "nearest" if data.dtype == np.uint8 else "average"}
    with rasterio.open(
        path, "w", driver="COG", height=data.shape[0], width=data.shape[1], count=1, dtype=data.dtype, crs=crs,
        transform=transform, nodata=nodata, **packing,
    ) as file:  # fmt: skip
        file.write(np.ascontiguousarray(data), 1)


# --- documents --------------------------------------------------------------------------------------------------------


def _described(key: str) -> dict[str, Any]:
    if key == "scl":
        return {"gsd": 20, "raster:bands": [{"data_type": "uint8", "nodata": 0}]}
    raster = {"data_type": "uint16", "nodata": 0, "scale": msi.SCALE, "offset": -_MOVED * msi.SCALE}
    return {"gsd": 10, "eo:bands": [{"name": key, "common_name": key}], "raster:bands": [raster]}


def _described_item(
    name: str, day: Day, zone: int, facts: tuple[tuple[float, float, float, float], float, dict[str, Any]]
) -> dict[str, Any]:
    box, cloud, assets = facts
    west, south, east, north = (round(v, 6) for v in box)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    properties = {
        "datetime": day.when, "eo:cloud_cover": cloud, "proj:epsg": int(_ZONES[zone].partition(":")[2]),
        "platform": "invented", "instruments": ["msi"], "gsd": 10,
        "title": "swathe demo: invented ground, no place on Earth",
    }  # fmt: skip
    links = [("root", "../../catalog.json"), ("parent", "../collection.json"), ("collection", "../collection.json")]
    return {
        "type": "Feature", "stac_version": "1.0.0", "id": name, "collection": COLLECTION,
        "stac_extensions": [f"https://stac-extensions.github.io/{e}/schema.json"
                            for e in ("eo/v1.1.0", "projection/v1.1.0", "raster/v1.1.0")],
        "geometry": {"type": "Polygon", "coordinates": [ring]}, "bbox": [west, south, east, north],
        "properties": properties, "assets": assets,
        "links": [{"rel": rel, "href": href, "type": "application/json"} for rel, href in links],
    }  # fmt: skip


def _write_catalogue(place: Path, names: list[str]) -> None:
    items = [json.loads((place / COLLECTION / name / f"{name}.json").read_text()) for name in names]
    boxes = np.array([item["bbox"] for item in items])
    box = [*(float(v) for v in boxes[:, :2].min(0)), *(float(v) for v in boxes[:, 2:].max(0))]
    extent = {
        "spatial": {"bbox": [box]},
        "temporal": {"interval": [[DAYS[0].when, DAYS[-1].when]]},
    }
    collection = {
        "type": "Collection", "stac_version": "1.0.0", "id": COLLECTION, "license": "CC0-1.0", "extent": extent,
        "title": "An invented coast, four dates", "description": "Synthetic imagery of the swathe demo.",
        "links": [
            {"rel": "root", "href": "../catalog.json"}, {"rel": "parent", "href": "../catalog.json"},
            *({"rel": "item", "href": f"./{name}/{name}.json", "type": "application/geo+json"} for name in names),
        ],
    }  # fmt: skip
    catalog = {
        "type": "Catalog", "stac_version": "1.0.0", "id": "swathe-demo-catalogue",
        "description": "A static STAC catalogue to try searched imagery on, without a network.",
        "links": [
            {"rel": "root", "href": "./catalog.json"},
            {"rel": "child", "href": f"./{COLLECTION}/collection.json", "title": COLLECTION},
        ],
    }  # fmt: skip
    (place / COLLECTION / "collection.json").write_text(json.dumps(collection, indent=1))
    (place / "catalog.json").write_text(json.dumps(catalog, indent=1))
