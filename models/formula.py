"""Spectral methods without weights: an index, and where a map of classes is wanted a threshold. One pass of numpy.

Numbers that are not finite are defined away here, once: reflectance below 0 (an artefact of atmospheric correction)
counts as 0, 0/0 gives 0, and every index is held to its range. A threshold found from the data is found once over the
whole area: ``measurer`` counts, histograms are merged, ``fit`` decides, and ``load`` takes what it decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from models.expression import Block, Program
from models.index import catalogue_version
from models.predictor import Predictor, RuntimeInfo
from models.spectral import MOMENTS, Formula, Limits, Range, settings
from models.threshold import BINS, Gaussians, Histogram, Split, bin_numbers, otsu, posterior, two_gaussian
from swathe.bands import OPTICAL
from swathe.card import ModelCard
from swathe.errors import InputError, ModelError

PIXELS = 1 << 16
"""Pixels worked on at once: with its scratch a block stays in the cache of a core."""


def needs_fit(card: ModelCard) -> bool:
    """Whether the threshold is found from the data, over the whole area, before the run; raise CardError."""
    return not _copies(card) and settings(card).fits


def measurer(card: ModelCard) -> Callable[[NDArray[np.float32], NDArray[np.bool_]], Histogram]:
    """Make the function that counts index values for ``fit``.

    It takes tiles (N, T, C, h, w) float32 in physical units and valid (N, h, w), True where a pixel counts (has data,
    lies in the area, was not counted in another tile), and returns their Histogram. Raises CardError, ModelError.
    """
    block = settings(card)
    result = _Result(card, block)

    def measure(tiles: NDArray[np.float32], valid: NDArray[np.bool_]) -> Histogram:
        histogram = Histogram.empty(*block.span)
        counted = np.ascontiguousarray(valid).reshape(len(tiles), -1)
        for tile, part, pixels in _blocks(tiles, card):
            histogram = histogram.add(result(pixels)[counted[tile, part]])
        return histogram

    return measure


def fit(card: ModelCard, histogram: Histogram) -> dict[str, float]:
    """Find the threshold from the histogram of the whole area.

    Returns numbers for the plan's key, for ``load`` and for the report: ``threshold``; ``pixels`` counted;
    ``separability`` and ``valley`` (see threshold.Split); ``fallback`` 1 where the card's fixed value was taken because
    the area does not show two classes; for two Gaussians also their shares, means and standard deviations.
    Raises InputError ``threshold.unimodal`` or ``threshold.nodata`` where no threshold exists and the card has no
    fallback.
    """
    threshold = settings(card).threshold
    gaussian = threshold is not None and threshold.kind == "two-gaussian"
    split, classes = (two_gaussian(histogram) or (None, None)) if gaussian else (otsu(histogram), None)
    fallback = threshold.fallback if threshold else None
    numbers = {"pixels": float(histogram.pixels), "fallback": 0.0}
    if split is not None:
        numbers |= {"separability": split.separability, "valley": split.valley}
        if split.clear or fallback is None:
            fitted = {name: float(getattr(classes, name)) for name in Gaussians.__slots__} if classes else {}
            return numbers | {"threshold": split.threshold} | fitted
    if fallback is None and not histogram.pixels:
        raise InputError(f"{card.id} finds its threshold from the data, and no pixel of the area has any",
                         hint="take an area with imagery", field="model", code="threshold.nodata")  # fmt: skip
    if fallback is None:
        raise InputError(
            f"{card.id} finds its threshold from the data, but the area does not show two classes",
            hint=f"take a larger area, or {card.sibling}, whose threshold is fixed",
            field="model",
            code="threshold.unimodal",
        )
    return numbers | {"threshold": fallback, "fallback": 1.0}


def explain(card: ModelCard, fitted: dict[str, float]) -> str:
    """One or two sentences for the report: which threshold was found and what that means."""
    pixels, threshold = fitted["pixels"], fitted["threshold"]
    if fitted["fallback"]:
        return (
            f"The {pixels:.0f} pixels of the area do not show two classes, so the fixed threshold {threshold:g} of "
            f"{card.sibling} was used."
        )
    split = Split(threshold, fitted["separability"], fitted["valley"])
    doubt = "" if split.clear else f" The two classes are not clearly apart: compare with {card.sibling}."
    return (
        f"The threshold {threshold:.3f} was found from {pixels:.0f} pixels (separability {split.separability:.2f}); "
        f"it depends on the area drawn.{doubt}"
    )


def load(card: ModelCard, fitted: dict[str, float] | None = None) -> Predictor:
    """Make the predictor of a card.

    fitted: what ``fit`` gave, for a card that ``needs_fit``; None or empty for the others. Raises CardError, and
    ModelError ``threshold.missing`` where fitted is missing or out of place.
    """
    if _copies(card):
        return Colours()
    block = settings(card)
    if bool(fitted) != block.fits:
        what = "was given no fitted threshold" if block.fits else "has a fixed threshold and takes no other"
        raise ModelError(f"{card.id} {what}", code="threshold.missing")
    return FormulaPredictor(card, block, fitted or {})


def _copies(card: ModelCard) -> bool:
    """Whether nothing is computed at all."""
    return card.input.as_it_is and card.output.picture


class Colours:
    """A picture that is handed on; see predictor.Predictor."""

    info = RuntimeInfo(engine="formula", precision="fp32", device="cpu", threads=1, versions={"numpy": np.__version__})

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 1, 3, h, w) becomes (N, 3, h, w)."""
        return tiles[:, 0].copy()


class FormulaPredictor:
    """A formula at work; see predictor.Predictor."""

    def __init__(self, card: ModelCard, block: Formula, fitted: dict[str, float]) -> None:
        """Compile the card's formulas; ``fitted`` as ``fit`` gave it, or empty."""
        self._card = card
        self._result = _Result(card, block)
        self._output = np.empty((0, card.output.depth, 0), np.float32)
        if block.threshold is None:
            self._write = _numbers
        elif "low_mean" in fitted:
            self._write = _chances(_Tests(card, block), block, fitted)
        else:
            levels = (fitted["threshold"],) if fitted else block.threshold.levels
            self._write = _steps(_Tests(card, block), levels, above=block.threshold.above)

    @property
    def info(self) -> RuntimeInfo:
        """What runs here."""
        versions = {"numpy": np.__version__, "spyndex": catalogue_version()}
        return RuntimeInfo(engine="formula", precision="fp32", device="cpu", threads=1, versions=versions)

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn (N, T, C, h, w) in physical units into (N, K, h, w): one-hot, probabilities, or index values.

        The output buffer is reused by the next call. Raises ModelError ``model.shape``.
        """
        n, h, w = len(tiles), *tiles.shape[-2:]
        if self._output.shape[::2] != (n, h * w):
            self._output = np.empty((n, self._card.output.depth, h * w), np.float32)
        for tile, part, pixels in _blocks(tiles, self._card):
            self._write(self._result(pixels), pixels, self._output[tile, :, part])
        return self._output.reshape(n, -1, h, w)


Write = Callable[[Block, Block, Block], None]
"""From a result (P,) and its pixels (T, C, P) to output (K, P)."""


def _numbers(value: Block, _: Block, out: Block) -> None:
    np.copyto(out[0], value)


def _steps(tests: _Tests, levels: tuple[float, ...], *, above: bool) -> Write:
    """One-hot: class k is above k of the levels."""
    reaches = np.greater if above else np.less

    def write(value: Block, pixels: Block, out: Block) -> None:
        out[0] = 1
        for k, level in enumerate(levels):
            reached = reaches(value, np.float32(level))
            tests.narrow(reached, pixels)
            np.copyto(out[k + 1], reached)
            out[k] -= out[k + 1]

    return write


def _chances(tests: _Tests, block: Formula, fitted: dict[str, float]) -> Write:
    """Probabilities of two Gaussian classes, looked up in a table of as many bins as the threshold was found in."""
    low, high = block.span
    classes = Gaussians(**{name: fitted[name] for name in Gaussians.__slots__})
    table = posterior(classes, fitted["threshold"], Histogram.empty(low, high))
    if block.threshold and not block.threshold.above:
        table = 1 - table

    def write(value: Block, pixels: Block, out: Block) -> None:
        np.take(table, bin_numbers(value, low, high, BINS), out=out[1], mode="clip")
        passed = np.ones(value.shape, np.bool_)
        tests.narrow(passed, pixels)
        out[1] *= passed
        np.subtract(1, out[1], out=out[0])

    return write


def _blocks(tiles: NDArray[np.float32], card: ModelCard) -> Iterator[tuple[int, slice, Block]]:
    """Cut (N, T, C, h, w) into (tile, slice of its h * w pixels, pixels (T, C, P)); raise ModelError."""
    expected = (card.input.times, len(card.input.bands))
    if tiles.ndim != 5 or tiles.shape[1:3] != expected:  # noqa: PLR2004  N, T, C, h, w
        raise ModelError(
            f"tiles are {tiles.shape}, expected (N, {expected[0]}, {expected[1]}, h, w)", code="model.shape"
        )
    flat = np.ascontiguousarray(tiles, np.float32).reshape(*tiles.shape[:3], -1)
    for tile, pixels in enumerate(flat):
        for start in range(0, flat.shape[-1], PIXELS):
            part = slice(start, min(start + PIXELS, flat.shape[-1]))
            yield tile, part, pixels[..., part]


class _Bound:
    """A program bound to the bands of a card, with its scratch."""

    def __init__(self, card: ModelCard, program: Program) -> None:
        self._program = program
        self._places = [card.input.bands.index(name) for name in program.operands]
        self._reflects = [name in OPTICAL for name in program.operands]
        self._inputs = np.empty((len(program.operands), PIXELS), np.float32)
        self._scratch = np.empty((program.depth, PIXELS), np.float32)

    def __call__(self, bands: Block) -> Block:
        """(C, P) to (P,), valid until the next call; not finite where the arithmetic is not."""
        count = bands.shape[-1]
        operands = [
            np.maximum(bands[place], 0, out=clean[:count]) if reflects else bands[place]
            for place, reflects, clean in zip(self._places, self._reflects, self._inputs, strict=True)
        ]
        return self._program.run(operands, [row[:count] for row in self._scratch])


class _Result:
    """The number that a card makes of a pixel: an index or its change; finite and within its range."""

    def __init__(self, card: ModelCard, block: Formula) -> None:
        index, self._change, _ = block.programs()
        self._index = _Bound(card, index)
        self._range, self._span = block.range, block.span
        self._moments = np.empty((len(MOMENTS), PIXELS), np.float32)
        self._scratch = np.empty((self._change.depth if self._change else 0, PIXELS), np.float32)

    def __call__(self, pixels: Block) -> Block:
        """(T, C, P) to (P,), valid until the next call."""
        with np.errstate(all="ignore"):
            if self._change is None:
                return _tamed(self._index(pixels[0]), self._range)
            count = pixels.shape[-1]
            for moment, bands in zip(self._moments, pixels, strict=True):
                np.copyto(moment[:count], _tamed(self._index(bands), self._range))
            moments = [self._moments[MOMENTS.index(name), :count] for name in self._change.operands]
            return _tamed(self._change.run(moments, [row[:count] for row in self._scratch]), self._span)


class _Tests:
    """Further conditions on the last date."""

    def __init__(self, card: ModelCard, block: Formula) -> None:
        self._tests: list[tuple[_Bound, Limits]] = [(_Bound(card, p), limits) for p, limits in block.programs()[2]]

    def narrow(self, passed: NDArray[np.bool_], pixels: Block) -> None:
        """Clear ``passed`` (P,) in place where the pixels (T, C, P) fail a test; what is not a number fails."""
        for bound, limits in self._tests:
            with np.errstate(all="ignore"):
                value = bound(pixels[-1])
            if limits.above is not None:
                passed &= value > np.float32(limits.above)
            if limits.below is not None:
                passed &= value < np.float32(limits.below)


def _tamed(value: Block, allowed: Range) -> Block:
    """In place: NaN (0/0) becomes 0, and everything is held to the range."""
    lost = np.isnan(value)
    if lost.any():
        value[lost] = 0
    np.maximum(value, np.float32(allowed[0]), out=value)
    return np.minimum(value, np.float32(allowed[1]), out=value)
