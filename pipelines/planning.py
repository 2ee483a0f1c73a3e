"""From a recipe, a card and imagery that was looked at to a plan. Reads no pixel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from pyproj import CRS
from pyproj.exceptions import CRSError, ProjError
from shapely.geometry.base import BaseGeometry

from pipelines import chunking
from pipelines.mosaic.frame import turns
from pipelines.mosaic.onto import laid
from pipelines.products.ground import pixel_metres
from pipelines.products.lonlat import on_the_globe
from swathe.aoi import ellipsoid_km2
from swathe.card import Input, ModelCard
from swathe.errors import InputError
from swathe.imagery import Imagery
from swathe.lattice import Lattice
from swathe.mosaic import Mosaic
from swathe.plan import Cost, Plan, Work
from swathe.recipe import ProductSettings, Recipe
from swathe.window import Window

METRES_PER_DEGREE = 111_320.0


@dataclass(frozen=True, slots=True)
class Place:
    """Which part of the imagery is wanted."""

    window: Window
    """In pixels of the imagery."""
    geometry: BaseGeometry | None = None
    """In the imagery's CRS; None: the whole window."""


def plan(recipe: Recipe, card: ModelCard, imagery: Imagery | Mosaic, place: Place, actors: int) -> Plan:
    """Decide the grid, the tiles and the chunks. Raises InputError where they make no sense together."""
    work = _work(recipe.products, card, imagery, place)
    side = recipe.chunk
    if side is not None and side < 1:
        raise InputError(f"a chunk of {side} pixels", code="chunk.size", field="--chunk", hint="give 512 or more")
    cut = chunking.choose(work.shape, work.lattice, card, actors, side)
    cost = _cost(work, cut)
    return Plan(work, chunking.chunks(work.shape, cut), (cut.height, cut.width), cost, _warnings(card, imagery),
                recipe.asked)  # fmt: skip


def _work(products: ProductSettings, card: ModelCard, imagery: Imagery | Mosaic, place: Place) -> Work:
    """The output grid is the imagery's own, cropped outwards to whole cells; tiles stay anchored to the imagery."""
    s, window = card.output.stride, place.window
    row, col = window.row // s, window.col // s
    shape = -(-window.bottom // s) - row, -(-window.right // s) - col
    lattice = _lattice(card, imagery, (row, col))
    area = None if place.geometry is None else shapely.to_wkb(place.geometry)
    return Work(card, imagery, lattice, shape, (row * s, col * s), area, products)


def _lattice(card: ModelCard, imagery: Imagery | Mosaic, corner: tuple[int, int]) -> Lattice:
    """Tiles in output cells: of a file from its own corner on, of searched imagery from the origin of the CRS."""
    s = card.output.stride
    tile, overlap = card.input.chip // s, card.input.overlap // s
    if isinstance(imagery, Mosaic):
        return Lattice.of_grid(tile, overlap, (imagery.corner[0] // s + corner[0], imagery.corner[1] // s + corner[1]))
    full = -(-imagery.shape[0] // s), -(-imagery.shape[1] // s)
    return Lattice.of_file(tile, overlap, full, corner)


def _cost(work: Work, cut: chunking.Cut) -> Cost:
    once = work.lattice.count_over(Window(0, 0, *work.shape))
    pixels = work.shape[0] * work.shape[1]
    return Cost(
        pixels=pixels,
        area_km2=round(area_km2(work.grid, work.area), 6),
        tiles=cut.tiles,
        repeated=round(cut.tiles / once - 1, 4),
        read_mb=round(pixels * work.stride**2 * _bytes_per_pixel(work) / 1e6, 1),
        memory_mb=round(chunking.strip_mb(work.card, min(cut.width, work.shape[1])), 1),
        scenes=len(work.imagery.scenes) if isinstance(work.imagery, Mosaic) else 0,
    )


def _bytes_per_pixel(work: Work) -> float:
    """Stored bytes of all bands and dates under a pixel of imagery; of searched scenes on average."""
    imagery = work.imagery
    if isinstance(imagery, Imagery):
        return sum(np.dtype(b.dtype).itemsize for a in imagery.dates for b in a.bands)
    return depth(imagery, work) * (len(imagery.bands) * np.dtype(np.uint16).itemsize + (imagery.mask is not None))


def depth(mosaic: Mosaic, work: Work) -> float:
    """How many scenes lie over a pixel of the output grid, on average and over all dates."""
    area = work.area if work.area is not None else work.grid.extent.geom
    found = [shapely.from_wkb(scene.footprint) for slot in mosaic.slots for scene in slot.scenes]
    # In the grid's CRS, as degrees break at 180; a grid may run on behind it.
    bent = np.array([shapely.make_valid(laid(shapely.segmentize(one, 0.1), mosaic.crs)) for one in found], object)
    beside = [shapely.transform(bent, lambda xy, t=turn: xy + np.array([t, 0])) for turn in turns(mosaic.crs)]
    return float(shapely.area(shapely.intersection(beside, area)).sum()) / area.area


def area_km2(grid: GeoBox, geometry: BaseGeometry | None) -> float:
    """Geodesic area of a geometry in the grid's CRS, or of the whole grid; in its plane where it has no place on Earth.

    It is never 0 for want of knowledge, since limits and quotas rest on it.
    """
    shape = grid.extent.geom if geometry is None else geometry
    try:
        parts = on_the_globe(shape, grid)
    except (ProjError, CRSError):  # a datum that nobody knows
        parts = []
    return sum(map(ellipsoid_km2, parts)) or shape.area * (_unit_m(str(grid.crs)) or 1.0) ** 2 / 1e6


def gsd_m(imagery: Imagery | Mosaic) -> float | None:
    """Metres of a pixel on the ground, north to south in the middle; None where the CRS has no known unit."""
    if _unit_m(imagery.crs) is None:
        return None
    return pixel_metres(GeoBox(imagery.shape, Affine(*imagery.transform), imagery.crs))[1]


def _unit_m(crs: str) -> float | None:
    """Metres of its unit; of a degree, along a meridian."""
    found = CRS.from_user_input(crs)
    if found.is_geographic:
        return METRES_PER_DEGREE
    return next((axis.unit_conversion_factor for axis in found.axis_info), None)


def _warnings(card: ModelCard, imagery: Imagery | Mosaic) -> tuple[str, ...]:
    found = [_resolution_warning(card.input, gsd_m(imagery))]
    if card.area_dependent:
        found.append(
            f"{card.id} finds its threshold in the data: values depend on the area drawn; "
            f"{card.sibling} does the same with a fixed threshold"
        )
    return tuple(text for text in found if text)


def _resolution_warning(eats: Input, gsd: float | None) -> str:
    if gsd is None or eats.gsd_m is None:
        return ""
    low, high = eats.gsd_m
    if low * 0.8 <= gsd <= high * 1.25:
        return ""
    return f"the imagery has pixels of {gsd:.3g} m; the model was made for {low:g} to {high:g} m"
