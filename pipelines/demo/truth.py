"""How good a map is, held against the truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipelines.demo.files import UNSCORED
from swathe.errors import GridError, ImageryError

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

ROWS = 512
"""Read at once."""


@dataclass(frozen=True, slots=True)
class Score:
    """Agreement on one class; all shares 0..1, and 1 where there was nothing to find and nothing was found."""

    iou: float
    """Intersection over union."""
    precision: float
    """Share of what was found that is true."""
    recall: float
    """Share of what is true that was found."""
    f1: float
    """Harmonic mean of precision and recall."""
    pixels: int
    """How many pixels were compared."""


def score(result: Path, truth: Path, clear: Path, positive_value: float) -> Score:
    """Compare band 1 of a result with the truth where the truth says 0 or 1 and ``clear`` is not 0.

    A pixel is found where the result equals ``positive_value``; a result without data there has missed it.
    Reads 512 rows at a time. Raises GridError where the three are not on one grid, ImageryError where a file cannot be
    read.
    """
    import rasterio
    from rasterio.errors import RasterioIOError

    try:
        with rasterio.open(result) as r, rasterio.open(truth) as t, rasterio.open(clear) as c:
            _same_grid(r, t, "truth")
            _same_grid(r, c, "clear")
            counts = sum(_compared(r, t, c, row, positive_value) for row in range(0, r.height, ROWS))
    except RasterioIOError as e:
        raise ImageryError(f"a file to compare cannot be read: {e}", code="imagery.unreadable") from e
    return _score(*(int(x) for x in np.broadcast_to(counts, 4)))


def _same_grid(result: DatasetReader, other: DatasetReader, what: str) -> None:
    same = result.shape == other.shape and result.crs == other.crs
    if not (same and result.transform.almost_equals(other.transform, precision=1e-6)):
        raise GridError(
            f"{Path(result.name).name} and {Path(other.name).name} are not on one grid",
            hint="compare a result of the whole demo scene with the truth of the same scene",
            field=what,
            code="grid.mixed",
        )


def _compared(
    result: DatasetReader, truth: DatasetReader, clear: DatasetReader, row: int, positive: float
) -> NDArray[np.int64]:
    """Found and true, found but untrue, missed, rightly not found."""
    from rasterio.windows import Window

    window: Any = Window(0, row, result.width, min(ROWS, result.height - row))  # pyright: ignore[reportCallIssue]
    found = (result.read(1, window=window) == positive) & (result.read_masks(1, window=window) > 0)
    real = truth.read(1, window=window)
    scored = (real != UNSCORED) & (clear.read(1, window=window) != 0)
    return _counted(found, real == 1, scored)


def compare(found: NDArray[np.bool_], real: NDArray[np.bool_], scored: NDArray[np.bool_]) -> Score:
    """Arrays on one grid, where ``scored``."""
    return _score(*(int(n) for n in _counted(found, real, scored)))


def _counted(found: NDArray[np.bool_], real: NDArray[np.bool_], scored: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.bincount(2 * found[scored] + real[scored], minlength=4)[[3, 2, 1, 0]]


def _score(both: int, only_found: int, only_real: int, neither: int) -> Score:
    either = both + only_found + only_real
    iou, precision, recall = (_share(both, n, either) for n in (either, both + only_found, both + only_real))
    return Score(iou, precision, recall, _share(2 * both, either + both, either), either + neither)


def _share(part: int, whole: int, either: int) -> float:
    """Of nothing: 0, or 1 where nothing was found and nothing was to be found."""
    return part / whole if whole else float(either == 0)
