"""A picture of the imagery to draw a result on: true colour where the bands are there, else grey. Never dear."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from pipelines.imagery.gdal import FAILURES, Access
from pipelines.imagery.header import opened
from pipelines.imagery.peek import glance
from pipelines.imagery.readers import SceneReader
from pipelines.mosaic.frame import Frame
from pipelines.remote.network import Network
from swathe.bands import TRUE_COLOUR
from swathe.errors import SwatheError
from swathe.imagery import BandSource, Imagery, is_remote
from swathe.mosaic import Mosaic, Slot
from swathe.plan import Work
from swathe.scene import Asset, Scene
from swathe.window import Window

if TYPE_CHECKING:
    from rasterio import DatasetReader

    from pipelines.imagery.remote_files import RemoteFiles

SIDE = 1024
"""Pixels of the longer side."""
CHEAP_PX = 40_000_000
"""Files without overviews are read whole for a picture; beyond this size there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class Backdrop:
    """The imagery in colours, shrunk."""

    colours: NDArray[np.uint8]
    """(h, w, 3), stretched for the eye: 1 to 255, and 0 where there is nothing."""
    transform: tuple[float, float, float, float, float, float]
    """Affine, in the CRS of the result."""


def backdrop(work: Work, access: Access | None = None, network: Network | None = None) -> Backdrop | None:
    """The last date under the output grid; None where it would cost too much."""
    if isinstance(work.imagery, Mosaic):
        return _of_scenes(work, work.imagery, network)
    if not any(is_remote(source.href) for source in _sources(work.imagery)):
        return _of_files(work, work.imagery, access or Access(), None)
    from pipelines.imagery.remote_files import RemoteFiles

    with RemoteFiles(network, (access or Access()).retry) as remote:
        return _of_files(work, work.imagery, access or Access(), remote)


def _of_files(work: Work, imagery: Imagery, access: Access, remote: RemoteFiles | None) -> Backdrop | None:
    window = work.pixels_of(Window(0, 0, *work.shape))
    shrink = max(1.0, max(window.height, window.width) / SIDE)
    shape = max(1, round(window.height / shrink)), max(1, round(window.width / shrink))
    try:
        channels = [_channel(source, window, shape, access, remote) for source in _sources(imagery)]
    except (*FAILURES, SwatheError):
        return None
    drawn = [c for c in channels if c is not None]
    if len(drawn) < len(channels):
        return None
    across, down = window.width / shape[1], window.height / shape[0]
    begin = Affine(*imagery.transform) * Affine.translation(window.col, window.row) * Affine.scale(across, down)
    return Backdrop(_coloured(drawn), _six(begin))


def _of_scenes(work: Work, mosaic: Mosaic, network: Network | None) -> Backdrop | None:
    """The last date, joined anew on a coarser grid: overviews are read, if the files have them."""
    coarse = _coarser(mosaic, work)
    reader = SceneReader(coarse, network or Network(), cache_mb=64)
    try:
        stack = reader.read(Window(0, 0, *coarse.shape))
    except SwatheError:
        return None
    finally:
        reader.close()
    hidden = ~stack.mask[0]
    colours = _coloured([_stretched(np.ma.masked_array(band, hidden)) for band in stack.data[0]])
    return Backdrop(colours, _six(Affine(*coarse.transform)))


def _coarser(mosaic: Mosaic, work: Work) -> Mosaic:
    """The output grid's extent in at most ``SIDE`` pixels a side, of the bands that are drawn, last date only."""
    window = work.pixels_of(Window(0, 0, *work.shape))
    factor = max(1, math.ceil(max(window.height, window.width) / SIDE))
    frame = Frame.of(mosaic)
    coarse = Frame(frame.crs, frame.res * factor, (frame.phase[0] / factor, frame.phase[1] / factor))
    row, col = (mosaic.corner[0] + window.row) // factor, (mosaic.corner[1] + window.col) // factor
    height, width = -(-window.height // factor), -(-window.width // factor)
    last, drawn = _drawn(mosaic, mosaic.slots[-1])
    return replace(
        mosaic, slots=(last,), bands=drawn, transform=coarse.transform(Window(row, col, height, width)),
        shape=(height, width), corner=(row, col), max_loss=1.0,
    )  # fmt: skip


def _drawn(mosaic: Mosaic, slot: Slot) -> tuple[Slot, tuple[str, ...]]:
    """The scenes with the bands that are drawn: true colour where there is any way to have it, else the first band."""
    if all(s.picture for s in slot.scenes) and mosaic.conversion is None:
        return _showing(slot, lambda s: s.picture), TRUE_COLOUR
    drawn = TRUE_COLOUR if set(TRUE_COLOUR) <= set(mosaic.bands) else mosaic.bands[:1]
    bands = [mosaic.bands.index(name) for name in drawn]
    return _showing(slot, lambda s: tuple(s.bands[n] for n in bands)), tuple(drawn)


def _showing(slot: Slot, bands: Callable[[Scene], tuple[Asset, ...]]) -> Slot:
    """The same scenes with other bands."""
    return replace(slot, days=tuple(tuple(replace(s, bands=bands(s)) for s in day) for day in slot.days))


def _coloured(drawn: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.stack(drawn if len(drawn) == len(TRUE_COLOUR) else drawn[:1] * 3, axis=-1)


def _sources(imagery: Imagery) -> tuple[BandSource, ...]:
    """Red, green and blue where they are there, else the first band that the model looks at."""
    return imagery.picture or imagery.dates[-1].bands[:1]


def _channel(
    source: BandSource, window: Window, shape: tuple[int, int], access: Access, remote: RemoteFiles | None
) -> NDArray[np.uint8] | None:
    seen = glance(source.href, remote)
    with access.env(source.href), opened(source.href, seen, access, remote) as file:
        shrink = window.height / shape[0]
        if window.area > CHEAP_PX and not any(f <= shrink * 2 for f in file.overviews(source.index)):
            return None
        part = ((window.row, window.bottom), (window.col, window.right))
        values = file.read(
            source.index, window=part, out_shape=shape, boundless=_overhangs(window, file), masked=True, fill_value=0
        )
    return _stretched(values)


def _overhangs(window: Window, file: DatasetReader) -> bool:
    return window.bottom > file.height or window.right > file.width


def _stretched(values: np.ma.MaskedArray) -> NDArray[np.uint8]:
    """2nd to 98th percentile to 1..255, with the dark half lifted; 0 where there is nothing."""
    seen = values.compressed()
    seen = seen[np.isfinite(seen)] if seen.dtype.kind == "f" else seen
    if not seen.size:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(seen, (2, 98))
    numbers = values.filled(low).astype(np.float32)
    there = ~np.ma.getmaskarray(values) & np.isfinite(numbers)
    share = np.clip((np.nan_to_num(numbers, nan=float(low)) - low) / max(float(high - low), 1e-9), 0, 1)
    return np.where(there, 1 + 254 * share**0.6, 0).astype(np.uint8)


def _six(transform: Affine) -> tuple[float, float, float, float, float, float]:
    return transform.a, transform.b, transform.c, transform.d, transform.e, transform.f
