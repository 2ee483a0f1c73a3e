"""Several observations of a pixel become one. Pure numpy, no file in sight.

Observations come in order of preference along the first axis. Apart from the median, no result mixes bands of
different scenes.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

NONE = -1
"""Index of a pixel that nobody sees."""
ROWS = 32
"""Rows sorted at a time: planes of this height stay in the processor's cache."""


def best(clear: NDArray[np.bool_], score: NDArray[np.float32]) -> NDArray[np.intp]:
    """(h, w) index of the clear observation with the highest score (N, h, w), of equal ones the first."""
    return np.where(clear.any(axis=0), np.where(clear, score, -1.0).argmax(axis=0), NONE)


def median(planes: NDArray[np.generic], clear: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.uint16]]:
    """(h, w) median of the clear numbers (N, h, w), of an even count the mean of the middle two; and how many.

    0 where none is clear. ``planes`` is used as scratch. Sorted by a network of comparisons of whole planes: numbers
    that are not clear are set to the type's largest, sort to the end, and are never among the middle ones (a clear one
    that equals them is the same number).
    """
    count = clear.sum(axis=0, dtype=np.uint16)
    np.copyto(planes, _largest(planes.dtype), where=~clear)
    out = np.zeros(planes.shape[1:], np.float64)
    for top in range(0, planes.shape[1], ROWS):
        rows = slice(top, top + ROWS)
        ranked = _sorted([plane[rows] for plane in planes])
        out[rows] = _middle(ranked, count[rows])
    out[count == 0] = 0.0
    return out, count


def _largest(dtype: np.dtype[np.generic]) -> np.generic:
    return dtype.type(np.inf if dtype.kind == "f" else np.iinfo(dtype.name).max)


def _sorted(planes: list[NDArray[np.generic]]) -> list[NDArray[np.generic]]:
    """Planes such that every pixel's numbers ascend along the list."""
    planes = [plane.copy() for plane in planes]
    spare = np.empty_like(planes[0])
    for low, high in network(len(planes)):
        np.minimum(planes[low], planes[high], out=spare)
        np.maximum(planes[low], planes[high], out=planes[high])
        planes[low], spare = spare, planes[low]
    return planes


def _middle(ranked: list[NDArray[np.generic]], count: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Mean of the two middle ones of the first ``count``."""
    lowest, highest = int(count.min()), int(count.max())
    if lowest == highest:
        return _mean(ranked[max(0, lowest - 1) // 2], ranked[min(lowest // 2, len(ranked) - 1)])
    low, high = np.zeros_like(ranked[0]), np.zeros_like(ranked[0])
    under, over = (np.maximum(count, 1) - 1) // 2, count // 2
    for k in range(max(0, lowest - 1) // 2, highest // 2 + 1):
        if k < len(ranked):
            np.copyto(low, ranked[k], where=under == k)
            np.copyto(high, ranked[k], where=over == k)
    return _mean(low, high)


def _mean(low: NDArray[np.generic], high: NDArray[np.generic]) -> NDArray[np.float64]:
    return (low.astype(np.float64) + high.astype(np.float64)) * 0.5


@cache
def network(n: int) -> tuple[tuple[int, int], ...]:
    """Pairs (low, high) to compare and swap, one after the other, so that any ``n`` numbers end up sorted.

    Batcher's odd-even merge sort (1968), for any ``n``: Knuth, The Art of Computer Programming 3, algorithm 5.2.2M.
    """
    pairs: list[tuple[int, int]] = []
    top = 1 << max(0, (n - 1).bit_length() - 1)
    p = top
    while p > 0:
        q, r, d = top, 0, p
        while d > 0:
            pairs += [(i, i + d) for i in range(n - d) if i & p == r]
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return tuple(pairs)
