"""What one file says about itself, looked at before anything is planned: header, georeferencing, a few blocks."""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp, Interleaving, MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning
from rasterio.windows import Window as RasterioWindow

from pipelines.imagery.gdal import FAILURES, MIB, Access, retried
from pipelines.imagery.limits import Limits, check_block, check_shape
from pipelines.imagery.peek import Peek, peek, refusal
from swathe.errors import GridError, ImageryError, ReadError
from swathe.imagery import is_remote, shown

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

    from pipelines.imagery.remote_files import RemoteFiles

_PROBE_BYTES = 64 * MIB
_FIELD = "--input"
_AT_ONCE = 8
_NORTH_UP = "make it north-up: gdalwarp IN.tif OUT.tif"


@dataclass(frozen=True, slots=True)
class Header:
    """One file, open and found usable."""

    href: str
    """Path or address."""
    dtypes: tuple[str, ...]
    """numpy type name per band."""
    nodata: tuple[float | None, ...]
    """Tag per band; may be NaN."""
    scales: tuple[float, ...]
    """Tag per band; 1 also where there is none."""
    offsets: tuple[float, ...]
    """Tag per band; 0 also where there is none."""
    descriptions: tuple[str, ...]
    """Per band; empty where there is none."""
    colours: tuple[str, ...]
    """What each band is in a picture: red, green, blue, alpha, palette, gray, undefined."""
    levels: tuple[float, ...]
    """Median of |stored number| of the valid pixels in the middle block, per band; NaN where there are none."""
    crs: str
    """``EPSG:n`` where that says it exactly, else WKT."""
    transform: tuple[float, float, float, float, float, float]
    """Affine, north-up."""
    shape: tuple[int, int]
    """(rows, cols)."""
    block: tuple[int, int]
    """(rows, cols) of a block."""
    by_pixel: bool
    """Whether bands are interleaved by pixel, so that GDAL decodes all of them together."""
    stamp: str
    """See ``Peek.stamp``."""
    digest: str
    """sha256 of what was read here: stands in for a stamp where there is none."""

    @property
    def indexes(self) -> list[int]:
        """All bands, from 1."""
        return list(range(1, len(self.dtypes) + 1))

    @property
    def alpha(self) -> int | None:
        """Band that is 0 where there is no data, by its colour interpretation."""
        return self.colours.index("alpha") + 1 if "alpha" in self.colours else None


def read_headers(
    hrefs: Sequence[str], access: Access, remote: RemoteFiles | None = None, limits: Limits | None = None
) -> list[Header]:
    """Open files and check them. Raises ImageryError or GridError whose code names what is wrong with one of them.

    Files at addresses are opened through ``remote``, side by side, because a look is mostly waiting. ``limits``: of
    files that strangers made, held against shape and tiles before one of those is decoded.
    """
    pool = ThreadPoolExecutor(_AT_ONCE if any(map(is_remote, hrefs)) else 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # refused by name below
            return list(pool.map(lambda href: _look(href, access, remote, limits), hrefs))
    finally:
        pool.shutdown(cancel_futures=True)


def _look(href: str, access: Access, remote: RemoteFiles | None, limits: Limits | None) -> Header:
    seen = peek(href, access.retry, remote)
    try:
        if is_remote(href):  # the door is stubborn by itself
            return _open(href, seen, access, remote, limits)
        return retried(lambda: _open(href, seen, access, remote, limits), href, access.retry, time.sleep)
    except (*FAILURES, ReadError) as error:
        raise refusal(href, error) from None


def _open(href: str, seen: Peek, access: Access, remote: RemoteFiles | None, limits: Limits | None) -> Header:
    with access.env(href), opened(href, seen, access, remote) as dataset:
        if remote is not None and is_remote(href):  # a file of one's own may be as large as it likes
            check_shape(href, dataset.shape, dataset.count, remote.limits)
        if limits is not None:
            check_shape(href, dataset.shape, dataset.count, limits)
            if dataset.block_shapes[0][1] < dataset.width:  # a giant strip is how some programs write: not decoded here
                check_block(href, dataset.block_shapes[0], _pixel_bytes(dataset), limits)
        _refuse(dataset, shown(href))
        return _header(dataset, href, seen.stamp, _probe(dataset))


def opened(href: str, seen: Peek, access: Access, remote: RemoteFiles | None) -> AbstractContextManager[DatasetReader]:
    """The dataset, for a ``with`` block inside ``access.env``. Raises one of ``FAILURES``, or as ``remote`` does."""
    if remote is not None and is_remote(href):
        return remote.opened(href, seen.driver, seen.size)
    return access.open(href, seen.driver)


# --- what is refused ------------------------------------------------------------------------------------------------


def _refuse(dataset: DatasetReader, name: str) -> None:
    if dataset.count == 0 or 0 in dataset.shape:
        raise ImageryError(f"{name} has no pixels", code="imagery.unreadable", hint="give an image", field=_FIELD)
    if any(dtype.startswith("complex") for dtype in dataset.dtypes):
        raise ImageryError(
            f"{name} holds complex numbers",
            code="imagery.complex",
            hint="turn them into amplitude, intensity or dB first (gdal_calc.py, SNAP)",
            field=_FIELD,
        )
    if dataset.crs is None and dataset.gcps[0]:
        what = f"{name} is placed by {len(dataset.gcps[0])} ground control points, not by a grid"
        raise _grid("gcps", what, "warp it onto one: gdalwarp -tps -t_srs EPSG:4326 IN.tif OUT.tif")
    if dataset.crs is None and dataset.rpcs:
        what = f"{name} is placed by a camera model (RPC), not by a grid"
        raise _grid("rpcs", what, "warp it onto one: gdalwarp -rpc -t_srs EPSG:4326 IN.tif OUT.tif")
    _refuse_transform(dataset, name)
    _refuse_crs(dataset, name)


def _refuse_transform(dataset: DatasetReader, name: str) -> None:
    a, b, _, d, e, _ = list(dataset.transform)[:6]
    slack = 1e-9 * max(abs(a), abs(e))
    if abs(b) > slack or abs(d) > slack:
        angle = math.degrees(math.atan2(d, a))
        raise _grid(
            "rotated",
            f"the grid of {name} is rotated or sheared (by {angle:.3g}°)",
            _NORTH_UP,
        )
    if dataset.crs is None:
        return
    if e > 0 and a > 0:
        raise _grid(
            "south_up",
            f"{name} is stored south-up (first row in the south)",
            _NORTH_UP,
        )
    if a <= 0 or e >= 0:
        raise _grid(
            "mirrored",
            f"{name} is stored mirrored (pixel size {a:g}, {e:g})",
            _NORTH_UP,
        )


def _refuse_crs(dataset: DatasetReader, name: str) -> None:
    if dataset.crs is None:
        what = f"{name} does not say where it lies (no CRS)"
        raise _grid("no_crs", what, "say it: gdal_translate -a_srs EPSG:… -a_ullr ULX ULY LRX LRY IN.tif OUT.tif")
    if not (dataset.crs.is_projected or dataset.crs.is_geographic):
        what = f"the CRS of {name} is a local one without a place on Earth"
        raise _grid("local_crs", what, "say the true one: gdal_translate -a_srs EPSG:… IN.tif OUT.tif")


def _grid(code: str, detail: str, hint: str) -> GridError:
    return GridError(detail, code=f"grid.{code}", hint=hint, field=_FIELD)


# --- a look at the pixels -------------------------------------------------------------------------------------------


def _probe(dataset: DatasetReader) -> tuple[str, tuple[float, ...]]:
    """Read the first, the middle and the last block where blocks are small, so that damage shows before a run."""
    digest = hashlib.sha256()
    middle: NDArray[np.generic] | None = None
    for indexes, window in _samples(dataset):
        data = dataset.read(indexes, window=window)
        digest.update(np.ascontiguousarray(data).tobytes())
        if len(indexes) == dataset.count:
            middle = data
    if middle is None:
        return digest.hexdigest(), (math.nan,) * dataset.count
    return digest.hexdigest(), tuple(map(_level, middle, dataset.nodatavals))


def _samples(dataset: DatasetReader) -> Iterator[tuple[list[int], RasterioWindow]]:
    (rows, cols), (h, w) = dataset.block_shapes[0], dataset.shape
    one = rows * cols * _pixel_bytes(dataset)
    if one > _PROBE_BYTES:
        return
    down, across = -(-h // rows), -(-w // cols)
    corner = [(0, 0, [1]), (down - 1, across - 1, [dataset.count])]
    if (one if _by_pixel(dataset) else one * dataset.count) <= _PROBE_BYTES:
        corner.insert(1, (down // 2, across // 2, list(range(1, dataset.count + 1))))
    for i, j, indexes in corner:
        yield indexes, RasterioWindow(j * cols, i * rows, min(cols, w - j * cols), min(rows, h - i * rows))  # type: ignore[call-arg]


def _by_pixel(dataset: DatasetReader) -> bool:
    return dataset.count > 1 and dataset.interleaving == Interleaving.pixel


def _pixel_bytes(dataset: DatasetReader) -> int:
    """Of what is decoded together: one band, or all of them where they are interleaved."""
    return np.dtype(dataset.dtypes[0]).itemsize * (dataset.count if _by_pixel(dataset) else 1)


def _level(band: NDArray[np.generic], nodata: float | None) -> float:
    values = band.astype(np.float64).ravel()
    good = np.isfinite(values)
    if nodata is not None and not math.isnan(nodata):
        good &= values != float(band.dtype.type(nodata)) if band.dtype.kind == "f" else values != nodata
    return float(np.median(np.abs(values[good]))) if good.any() else math.nan


def _header(dataset: DatasetReader, href: str, stamp: str, probed: tuple[str, tuple[float, ...]]) -> Header:
    return Header(
        href=href,
        dtypes=tuple(dataset.dtypes),
        nodata=tuple(dataset.nodatavals),
        scales=tuple(dataset.scales),
        offsets=tuple(dataset.offsets),
        descriptions=tuple(text or "" for text in dataset.descriptions),
        colours=tuple(colour.name for colour in dataset.colorinterp),
        levels=probed[1],
        crs=_crs(dataset),
        transform=tuple(float(x) for x in list(dataset.transform)[:6]),  # type: ignore[arg-type]
        shape=dataset.shape,
        block=tuple(dataset.block_shapes[0]),
        by_pixel=_by_pixel(dataset),
        stamp=stamp,
        digest=probed[0],
    )


def _crs(dataset: DatasetReader) -> str:
    try:
        epsg = dataset.crs.to_epsg()
        if epsg is not None and type(dataset.crs).from_epsg(epsg) == dataset.crs:
            return f"EPSG:{epsg}"
    except CRSError:
        pass
    return dataset.crs.to_wkt()


def has_own_mask(dataset: DatasetReader, index: int) -> bool:
    """Whether a mask beside the pixels (not a nodata number, not an alpha band) says which of a band are valid."""
    flags = dataset.mask_flag_enums[index - 1]
    known = (MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha)
    return not any(flag in flags for flag in known) and ColorInterp.alpha not in dataset.colorinterp
