"""The output grid of an area over scenes: CRS, resolution, phase and corner, from the scenes unless told otherwise."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import shapely
from shapely import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from pipelines.mosaic.frame import Frame, is_geographic, named, part_of_pixel, unit_m
from pipelines.mosaic.onto import onto
from swathe.aoi import AOI
from swathe.errors import GridError
from swathe.scene import Affine6, Asset, AssetGrid, Scene
from swathe.window import Window

LIMIT = 20_000_000_000
"""Pixels of a grid that is still believed to be meant: 1.4 million square kilometres at 10 m, 20 million at 30 m."""
_TIE = 1e-6
"""Pixels by which an area may overhang a pixel's edge without reaching into it."""
_SAME = 1e-6
"""Resolutions are equal to this relative precision."""
_WHOLE = 3
"""Phases are equal to so many decimals of a pixel."""

Look = Callable[[Asset], AssetGrid]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for."""

    crs: str | None = None
    """None: the scenes' own."""
    res: float | None = None
    """In units of the CRS; None: the finest of the bands."""
    stride: int = 1
    """Corner and shape are multiples of it (models with cells larger than a pixel)."""
    limit: int = LIMIT
    """Pixels at most."""


@dataclass(frozen=True, slots=True)
class OutputGrid:
    """A window of a frame that holds an area."""

    frame: Frame
    """The grid it is a window of."""
    window: Window
    """Its pixels, counted from the anchor."""
    area: Polygon | MultiPolygon
    """The area in the grid's CRS."""

    @property
    def transform(self) -> Affine6:
        """Of its first pixel."""
        return self.frame.transform(self.window)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, cols)."""
        return self.window.height, self.window.width

    @property
    def corner(self) -> tuple[int, int]:
        """(row, col) of its first pixel, counted from the anchor."""
        return self.window.row, self.window.col


def output_grid(scenes: Sequence[Scene], aoi: AOI, wish: Wish = Wish(), look: Look | None = None) -> OutputGrid:
    """The grid on which scenes are joined; it depends on them and on ``wish``, and of the area only takes the bounds.

    ``look`` opens a file where the catalogue does not tell its grid. Raises GridError (``grid.no_scenes``, ``.crs``,
    ``.unknown``, ``.res``, ``.too_large``) and AreaError (``area.projection``, ``.cut``).
    """
    if not scenes:
        raise GridError("there is no scene to take a grid from", code="grid.no_scenes", hint="search again")
    ordered = sorted(scenes, key=lambda s: (s.when, s.id))
    native = _native(ordered, aoi, look)
    crs = named(wish.crs) if wish.crs else native
    mine = [s for s in ordered if _crs_of(s, look) == native]
    grids = _grids(mine, look)
    finest = min(grid.transform[0] for grid in grids)
    res = wish.res if wish.res is not None else _converted(finest, native, crs)
    if not (math.isfinite(res) and res > 0):
        raise GridError(f"a pixel of {res:g} is none", code="grid.res", hint="give a positive size", field="--res")
    return grid_on(Frame(crs, res, _phase(grids, res) if crs == native else (0.0, 0.0)), aoi, wish)


def grid_on(frame: Frame, aoi: AOI, wish: Wish = Wish()) -> OutputGrid:
    """The grid of an area on a frame that is known. Raises GridError (``grid.too_large``) and AreaError."""
    area = onto(aoi, frame.crs)
    return OutputGrid(frame, _around(area, frame, wish), area)


# --- from the scenes ------------------------------------------------------------------------------------------------


def _native(scenes: Sequence[Scene], aoi: AOI, look: Look | None) -> str:
    """CRS of the scenes over the area's middle; projected ones before degrees. Ties: most scenes, then the name."""
    known = {scene.key: _crs_of(scene, look) for scene in scenes}
    projected = [s for s in scenes if not is_geographic(known[s.key])] or list(scenes)
    middle = aoi.geometry.representative_point()
    away = [shapely.from_wkb(s.footprint).distance(middle) for s in projected]
    nearest = [s for s, distance in zip(projected, away, strict=True) if distance <= min(away)]
    counted = Counter(known[s.key] for s in nearest)
    return min(counted, key=lambda crs: (-counted[crs], crs))


def _crs_of(scene: Scene, look: Look | None) -> str:
    if scene.crs is not None:
        return named(scene.crs)
    if look is None or not scene.bands:
        raise GridError(
            f"the catalogue does not say in which CRS {scene.id} lies",
            code="grid.unknown",
            hint="give --crs and --res, or a catalogue with the projection extension",
            field="--crs",
        )
    return named(look(scene.bands[0]).crs)


def _grids(scenes: Sequence[Scene], look: Look | None) -> list[AssetGrid]:
    """Grids of all bands that are known; where none is, those of the first scene, looked at."""
    found = [band.grid for scene in scenes for band in scene.bands if band.grid is not None]
    if look is not None and (not found or any(band.grid is None for band in scenes[0].bands)):
        found += [look(band) for band in scenes[0].bands]
    return found


def _converted(res: float, source: str, target: str) -> float:
    """The same size in the units of another CRS; the same number where units are the same."""
    if unit_m(source) == unit_m(target):
        return res
    return res * unit_m(source) / unit_m(target)


def _phase(grids: Sequence[AssetGrid], res: float) -> tuple[float, float]:
    """Where pixel corners lie between multiples of the resolution, if all bands of this resolution agree; else 0."""
    fine = [g.transform for g in grids if abs(g.transform[0] / res - 1) < _SAME]
    phases = [(part_of_pixel(t[2] / res), part_of_pixel(t[5] / res)) for t in fine]
    alike = {(round(x, _WHOLE) % 1.0, round(y, _WHOLE) % 1.0) for x, y in phases}
    if len(alike) != 1 or alike == {(0.0, 0.0)}:
        return 0.0, 0.0
    return phases[0]


# --- from the area --------------------------------------------------------------------------------------------------


def _around(area: BaseGeometry, frame: Frame, wish: Wish) -> Window:
    west, south, east, north = area.bounds
    (top, left), (bottom, right) = frame.pixels(west, north), frame.pixels(east, south)
    s = wish.stride
    row, col = math.floor((top + _TIE) / s) * s, math.floor((left + _TIE) / s) * s
    height = max(1, math.ceil((bottom - _TIE - row) / s)) * s
    width = max(1, math.ceil((right - _TIE - col) / s)) * s
    if height * width > wish.limit:
        raise GridError(
            f"the area's grid would have {height} x {width} pixels of {frame.res:g}",
            code="grid.too_large",
            hint=f"draw the area smaller, or give a coarser --res: at most {wish.limit:.3g} pixels",
            field="--res",
        )
    return Window(row, col, height, width)
