"""What the numbers of a mask mean, one table for all rules; and what lies near a cloud.

SCL: Sentinel-2 L2A Product Definition Document, scene classification. Fmask: HLS Product User Guide v2.0, table 9
(bits of the Fmask layer; 255 is fill). QA_PIXEL: Landsat 8-9 Collection 2 Level 2 Science Product Guide (LSDS-1619),
table 6-3 (bits of the pixel quality assessment). MODIS: MODIS Surface Reflectance User's Guide, collection 6, table of
the 500 m state flags; mixed pixels count as cloud, little cirrus as none. OmniCloudMask: the package's classes, thin
cloud being cirrus.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from swathe.errors import ImageryError
from swathe.source import MaskRule, SourceMask

NOTHING, CLEAR, CLOUDY, DROPPED = range(4)
"""States of a pixel: no data; good; cloud, or what comes with clouds; not wanted for another reason."""
WORDS = ("nodata", "defective", "cloud", "shadow", "cirrus", "snow", "water", "unclassified", "adjacent")
"""All that a mask may tell; a rule that cannot tell one of them drops nothing for it."""
NEAR = frozenset({"cloud", "shadow", "cirrus", "adjacent"})
"""Words whose neighbourhood is suspect."""

CODES: dict[MaskRule, dict[str, tuple[int, ...]]] = {
    MaskRule.SCL: {
        "nodata": (0,), "defective": (1,), "shadow": (3,), "water": (6,), "unclassified": (7,), "cloud": (8, 9),
        "cirrus": (10,), "snow": (11,),
    },
    MaskRule.FMASK: {"nodata": (255,)},
    MaskRule.QA_PIXEL: {},
    MaskRule.MODIS_STATE: {"nodata": (65535,)},
    MaskRule.VALID: {"nodata": (0,), "cloud": (0,)},
    MaskRule.OMNICLOUDMASK: {"nodata": (255,), "cloud": (1,), "cirrus": (2,), "shadow": (3,)},
}  # fmt: skip
"""Whole numbers."""
BITS: dict[MaskRule, dict[str, int]] = {
    MaskRule.FMASK: {"cirrus": 0, "cloud": 1, "adjacent": 2, "shadow": 3, "snow": 4, "water": 5},
    MaskRule.QA_PIXEL: {
        "nodata": 0, "adjacent": 1, "cirrus": 2, "cloud": 3, "shadow": 4, "snow": 5, "water": 7,
    },
    MaskRule.MODIS_STATE: {"shadow": 2, "snow": 12, "adjacent": 13},
}  # fmt: skip
"""Numbers of bits, from 0."""
FIELDS: dict[MaskRule, dict[str, tuple[int, int, tuple[int, ...]]]] = {
    MaskRule.MODIS_STATE: {"cloud": (0, 2, (1, 2)), "water": (3, 3, (0, 3, 5, 6, 7)), "cirrus": (8, 2, (2, 3))},
}
"""(first bit, how many, which numbers of them) where a word takes several bits."""
_CODES_MAX = 1 << 16


def states(codes: NDArray[np.generic], valid: NDArray[np.bool_], mask: SourceMask) -> NDArray[np.uint8]:
    """(h, w) state of each pixel from the numbers of a mask and where they are valid.

    Raises ImageryError (``mask.word``) for a word that is none, and (``mask.type``) for numbers that are no codes.
    """
    if codes.dtype.kind not in "iub":
        raise _no_codes(codes, mask.rule)
    found = table(mask.rule, mask.drop)[codes.astype(np.uint16, copy=False)]
    found[~valid] = NOTHING
    return found


def _no_codes(codes: NDArray[np.generic], rule: MaskRule) -> ImageryError:
    return ImageryError(
        f"a mask of type {codes.dtype} holds no {rule.value} codes",
        code="mask.type",
        hint="name the right asset in the source card's mask",
    )


@cache
def table(rule: MaskRule, drop: tuple[str, ...]) -> NDArray[np.uint8]:
    """(65536,) state of every code. Nodata is always dropped. Raises ImageryError (``mask.word``)."""
    unknown = sorted(set(drop) - set(WORDS))
    if unknown:
        raise ImageryError(
            f"{', '.join(unknown)}: no word of a mask", code="mask.word", hint=f"choose from {', '.join(WORDS)}"
        )
    found = np.full(_CODES_MAX, CLEAR, np.uint8)
    found[_means(rule, "nodata")] = NOTHING
    for word in sorted(set(drop) - {"nodata"}, key=NEAR.__contains__):
        found[_means(rule, word)] = CLOUDY if word in NEAR else DROPPED
    return found


def says(codes: NDArray[np.generic], rule: MaskRule, words: tuple[str, ...]) -> NDArray[np.bool_]:
    """(h, w) where the numbers of a mask say one of these words. Raises ImageryError (``mask.type``)."""
    if codes.dtype.kind not in "iub":
        raise _no_codes(codes, rule)
    return _said(rule, words)[codes.astype(np.uint16, copy=False)]


@cache
def _said(rule: MaskRule, words: tuple[str, ...]) -> NDArray[np.bool_]:
    return np.logical_or.reduce([_means(rule, word) for word in words])


def knows(rule: MaskRule, word: str) -> bool:
    """Whether masks of this rule can say it."""
    return any(word in known.get(rule, {}) for known in (CODES, BITS, FIELDS))


def _means(rule: MaskRule, word: str) -> NDArray[np.bool_]:
    """Which codes say this word."""
    codes = np.arange(_CODES_MAX)
    said = np.isin(codes, CODES.get(rule, {}).get(word, ()))
    fill = np.isin(codes, CODES.get(rule, {}).get("nodata", ()))
    bit = BITS.get(rule, {}).get(word)
    first, wide, means = FIELDS.get(rule, {}).get(word, (0, 0, ()) if bit is None else (bit, 1, (1,)))
    return said | (np.isin((codes >> first) & ((1 << wide) - 1), means) & ~fill)


def distance(found: NDArray[np.uint8], scale: tuple[float, float], cap: float) -> NDArray[np.float32]:
    """(h, w) distance from each pixel's centre to that of the nearest cloudy one, ``cap`` at most.

    ``scale`` is the size of a pixel (down, across), in the unit of ``cap``.
    """
    cloudy = found == CLOUDY
    if not cloudy.any():
        return np.full(found.shape, cap, np.float32)
    far = np.asarray(distance_transform_edt(~cloudy, sampling=scale))
    return np.minimum(far, cap).astype(np.float32)
