"""A plain folder of image files, made into STAC items: one file a band, or one file a scene (asset ``*``)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from pyproj import CRS, Transformer

from pipelines.imagery.gdal import FAILURES, Access
from pipelines.imagery.header import Header, read_headers
from pipelines.imagery.inputs import IMAGES
from pipelines.search import names
from pipelines.search.query import LeftOut
from swathe.errors import ImageryError
from swathe.source import SourceCard
from swathe.when import Interval

Json = dict[str, Any]
WHOLE = "*"
"""Asset of a card whose scenes are single files of several bands."""
FILES = 20_000
"""Files of one folder that are looked through."""
_DEPTH = 8
_AT_ONCE = 8
_EDGE_STEPS = 21
_DATETIME = "TIFFTAG_DATETIME"


@dataclass
class _Scene:
    """Files that belong together."""

    name: str
    when: datetime
    files: dict[str, Path] = field(default_factory=dict)
    """By asset."""


def items_of(card: SourceCard, intervals: Sequence[Interval]) -> Iterator[tuple[Json, str] | LeftOut]:
    """STAC items of a folder and the folders in it, opened only where their dates fall into ``intervals``.

    Raises ImageryError (``imagery.missing``, ``search.too_many``).
    """
    scenes, left_out = _scenes(card)
    yield from left_out
    wanted = [scene for scene in scenes if any(i.holds(scene.when) for i in intervals)]
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="folder") as pool:
        yield from pool.map(_item, wanted)


def _scenes(card: SourceCard) -> tuple[list[_Scene], list[LeftOut]]:
    assets = {band.asset for band in card.bands.values()} | (
        {card.mask.asset} if card.mask and card.mask.asset else set()
    )
    tokens = {key: names.words(key) for key in assets if key != WHOLE}
    found: dict[tuple[str, datetime], _Scene] = {}
    left_out: list[LeftOut] = []
    for path in files_of(Path(card.url)):
        asset = names.band_in(path.stem, tokens) or (WHOLE if WHOLE in assets else None)
        if asset is None:
            continue
        when = names.time_in(path.relative_to(Path(card.url).parent)) or _tagged(path)
        if when is None:
            left_out.append(LeftOut(path.name, "neither its name nor its tags say when it was acquired"))
            continue
        name = names.product_in(path.stem, None if asset == WHOLE else asset)
        scene = found.setdefault((name, when), _Scene(name, when))
        before = scene.files.get(asset)
        if before is None or names.metres_in(path) < names.metres_in(before):
            scene.files[asset] = path
        elif names.metres_in(path) == names.metres_in(before):
            left_out.append(LeftOut(path.name, f"{before} is the same band of the same scene"))
    return _distinct(list(found.values())), left_out


def _distinct(scenes: list[_Scene]) -> list[_Scene]:
    """Names that stand for several dates get them added."""
    times: dict[str, int] = defaultdict(int)
    for scene in scenes:
        times[scene.name] += 1
    for scene in scenes:
        if times[scene.name] > 1:
            scene.name = f"{scene.name}_{scene.when:%Y%m%dT%H%M%S}"
    return sorted(scenes, key=lambda s: (s.when, s.name))


def files_of(folder: Path) -> list[Path]:
    """Images of a folder and the folders in it. Raises ImageryError (``imagery.missing``, ``search.too_many``)."""
    if not folder.is_dir():
        raise ImageryError(
            f"there is no folder {folder}", code="imagery.missing", hint="check the path", field="--source"
        )
    found: list[Path] = []
    level = [folder]
    for _ in range(_DEPTH):
        below: list[Path] = []
        for place in level:
            inside = sorted(place.iterdir())
            found += [p for p in inside if p.suffix.lower() in IMAGES and p.is_file()]
            below += [p for p in inside if p.is_dir() and not p.is_symlink() and not p.name.startswith(".")]
        if len(found) > FILES:
            raise ImageryError(
                f"{folder} holds more than {FILES} images",
                code="search.too_many",
                hint="give one of the folders in it, or make a STAC catalogue of it",
                field="--source",
            )
        level = below
    if not found:
        raise ImageryError(
            f"{folder} holds no imagery ({', '.join(sorted(IMAGES))})",
            code="imagery.missing",
            hint="check the path",
            field="--source",
        )
    return found


def _tagged(path: Path) -> datetime | None:
    """The TIFF tag DateTime, which has no time zone: taken for UTC."""
    import rasterio

    try:
        with rasterio.open(path, driver="GTiff") as dataset:  # no other: a VRT of that name would ask whom it likes
            text = str(dataset.tags().get(_DATETIME, ""))
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
    except (*FAILURES, ValueError):
        return None


# --- one item -------------------------------------------------------------------------------------------------------


def _item(scene: _Scene) -> tuple[Json, str] | LeftOut:
    keys = sorted(scene.files)
    try:
        headers = read_headers([str(scene.files[key]) for key in keys], Access())
        outline = _outline(headers[0])
    except ImageryError as error:
        return LeftOut(scene.name, error.detail)
    first = scene.files[keys[0]]
    assets = {key: _asset(scene.files[key], header) for key, header in zip(keys, headers, strict=True)}
    properties = {"datetime": scene.when.isoformat(), "s2:product_uri": str(first)}
    item = {
        "type": "Feature", "id": scene.name, "properties": properties, "links": [], "assets": assets,
        "geometry": shapely.geometry.mapping(outline),
    }  # fmt: skip
    return item, str(first)


def _asset(path: Path, header: Header) -> Json:
    bands = []
    for nodata, scale, offset in zip(header.nodata, header.scales, header.offsets, strict=True):
        tagged = {"scale": scale, "offset": offset} if (scale, offset) != (1.0, 0.0) else {}
        bands.append({**tagged, **({} if nodata is None else {"nodata": nodata})})
    place = {"proj:code": header.crs} if header.crs.startswith("EPSG:") else {"proj:wkt2": header.crs}
    return {
        "href": str(path), "raster:bands": bands, "proj:transform": list(header.transform),
        "proj:shape": list(header.shape), **place,
    }  # fmt: skip


def _outline(header: Header) -> shapely.Polygon:
    """Of the whole file, in longitude and latitude, with points along its edges."""
    rows, cols = header.shape
    a, _, c, _, e, f = header.transform
    steps = np.linspace(0, 1, _EDGE_STEPS)
    ring = [(s, 0.0) for s in steps] + [(1.0, s) for s in steps] + [(s, 1.0) for s in steps[::-1]]
    ring += [(0.0, s) for s in steps[::-1]]
    x, y = (np.array(v) for v in zip(*ring, strict=True))
    turn = Transformer.from_crs(CRS(header.crs), CRS("OGC:CRS84"), always_xy=True)
    lon, lat = turn.transform(c + a * x * cols, f + e * y * rows)
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        raise ImageryError(
            "its place on Earth cannot be computed", code="grid.place", hint="check its CRS", field="--source"
        )
    return shapely.Polygon(np.column_stack([lon, lat]))
