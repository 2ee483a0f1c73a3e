"""An image that is handed on as it is: the one place that tells a picture from numbers, and what becomes of either.

One band is numbers, whatever they mean. A picture is three bands in colours: those that a file calls red, green and
blue, else its only three, else the first three of four bytes; an alpha band says where it is. Bytes are shown as they
are, other numbers from the 2nd to the 98th percentile of each band, told from squares spread over the file.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rasterio.windows import Window as RasterioWindow

from pipelines.imagery.gdal import FAILURES, Access, retried
from pipelines.imagery.header import Header, opened
from pipelines.imagery.match import Found
from pipelines.imagery.peek import peek, refusal
from pipelines.imagery.radiometry import Units, nodata_of
from pipelines.products.layer import COLOUR_STEPS
from swathe.bands import TRUE_COLOUR
from swathe.card import ModelCard, Output
from swathe.errors import BandError, ReadError
from swathe.imagery import BandSource, Imagery, is_remote, shown
from swathe.mosaic import Mosaic
from swathe.recipe import Radiometry
from swathe.unit import DECLARED

if TYPE_CHECKING:
    from pipelines.imagery.remote_files import RemoteFiles

NUMBERS = "index"
"""What the one band is called that is no picture."""
COLOURS = "colours"
"""Unit of a picture: 0 to 254."""
_BYTE = "uint8"
_FOUR = 4
_SIDE, _ALONG = 128, 8
"""Squares in which a file is looked at, and how many lie along either side of it."""
_PERCENT = (2, 98)
_HINT = "give one band of numbers, or red, green and blue, with or without alpha"


def bands_of(headers: Sequence[Header]) -> tuple[Header, dict[str, Found]]:
    """The file, and its bands by name: ``index``, or red, green and blue. Raises BandError (``band.count``)."""
    if len(headers) > 1:
        raise BandError(f"{len(headers)} images were given together, and one is taken as it is", code="band.count",
                        hint="give each by itself", field="--input")  # fmt: skip
    header = headers[0]
    data = [index for index in header.indexes if index != header.alpha]
    if len(data) == 1:
        return header, {NUMBERS: Found(header, data[0], header.alpha)}
    colours = _colours(header, data)
    if colours is None:
        raise BandError(f"{shown(header.href)} has {len(data)} bands: neither one of numbers, nor a picture",
                        code="band.count", hint=_HINT, field="--input")  # fmt: skip
    return header, {name: Found(header, i, header.alpha) for name, i in zip(TRUE_COLOUR, colours, strict=True)}


def sources_of(
    header: Header, found: dict[str, Found], said: Radiometry, access: Access, remote: RemoteFiles | None
) -> tuple[BandSource, ...]:
    """How each band is read, so that its numbers are those of the result. Raises ImageryError where it cannot be."""
    picture = len(found) > 1
    units = _of_picture(header, found, said, access, remote) if picture else (_of_numbers(said),)
    return tuple(
        BandSource(name, header.href, f.index, header.dtypes[f.index - 1], nodata_of(f, None, said)[0], u.scale,
                   u.offset, f.mask_index, together=picture)
        for (name, f), u in zip(found.items(), units, strict=True)
    )  # fmt: skip


def unit_of(found: dict[str, Found]) -> str:
    """Of the result."""
    return COLOURS if len(found) > 1 else DECLARED


def card_for(card: ModelCard, imagery: Imagery | Mosaic) -> ModelCard:
    """The same card; of a picture, if that is what the imagery is."""
    if not card.input.as_it_is or isinstance(imagery, Mosaic) or imagery.unit != COLOURS:
        return card
    eats = card.input.model_copy(update={"bands": TRUE_COLOUR})
    gives = Output(channels=len(TRUE_COLOUR), scored=False, picture=True)
    return card.model_copy(update={"network": {}, "input": eats, "output": gives})


def _colours(header: Header, data: Sequence[int]) -> tuple[int, ...] | None:
    """Bands that are red, green and blue; None: it is no picture."""
    if set(TRUE_COLOUR) <= set(header.colours):
        return tuple(header.colours.index(name) + 1 for name in TRUE_COLOUR)
    few = len(data) == len(TRUE_COLOUR) or (len(data) == _FOUR and set(header.dtypes) == {_BYTE})
    return tuple(data[: len(TRUE_COLOUR)]) if few else None


def _of_numbers(said: Radiometry) -> Units:
    return Units(1.0 if said.scale is None else said.scale, said.offset or 0.0, DECLARED)


# --- colours ----------------------------------------------------------------------------------------------------------


def _of_picture(
    header: Header, found: dict[str, Found], said: Radiometry, access: Access, remote: RemoteFiles | None
) -> Iterator[Units]:
    """Of each band, so that stored * scale + offset is 0 to 254, or beyond."""
    places = [f.index for f in found.values()]
    if {header.dtypes[place - 1] for place in places} == {_BYTE}:
        yield from (Units(1.0, 0.0, COLOURS) for _ in places)
        return
    for band in _sampled(header, places, said, access, remote):
        low, high = _ends(band)
        scale = COLOUR_STEPS / (high - low)
        yield Units(scale, -low * scale, COLOURS)


def _sampled(
    header: Header, places: list[int], said: Radiometry, access: Access, remote: RemoteFiles | None
) -> list[NDArray[np.float64]]:
    """Of each band the valid numbers of all squares. Raises ImageryError (``imagery.*``)."""
    try:
        if is_remote(header.href):  # the door is stubborn by itself
            return _read(header, places, said, access, remote)
        return retried(lambda: _read(header, places, said, access, remote), header.href, access.retry, time.sleep)
    except (*FAILURES, ReadError) as error:
        raise refusal(header.href, error) from None


def _read(
    header: Header, places: list[int], said: Radiometry, access: Access, remote: RemoteFiles | None
) -> list[NDArray[np.float64]]:
    seen = peek(header.href, access.retry, remote)
    with access.env(header.href), opened(header.href, seen, access, remote) as file:
        squares = [file.read(places, window=square, masked=True) for square in _squares(header.shape)]
    return [np.concatenate([_valid(square[n], said.nodata) for square in squares]) for n in range(len(places))]


def _valid(band: np.ma.MaskedArray[Any, Any], nodata: float | None) -> NDArray[np.float64]:
    values = band.compressed().astype(np.float64)
    return values[np.isfinite(values) & (values != nodata)]


def _squares(shape: tuple[int, int]) -> Iterator[RasterioWindow]:
    """All of a small image; of a larger one squares spread over it."""
    rows, cols = (sorted({int(at) for at in np.linspace(0, max(0, n - _SIDE), _ALONG)}) for n in shape)
    for row in rows:
        for col in cols:
            height, width = min(_SIDE, shape[0] - row), min(_SIDE, shape[1] - col)
            yield RasterioWindow(col, row, width, height)  # type: ignore[call-arg]


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    """What most numbers lie between; never empty."""
    if not values.size:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, _PERCENT))
    return (low, high) if high > low else (low - max(abs(low), 1.0), low + max(abs(low), 1.0))
