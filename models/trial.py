"""One engine tried on one file: loaded as a worker loads it, compared with the reference, timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from models.artefact import Parity, Verdict
from models.parity import Tiles, compare, objection, run_all, worst
from models.predictor import Predictor
from models.runtimes import Setup, open_graph
from swathe.errors import ModelError

TIMED_S = 1.5
"""Seconds of calls per timing, of each of the two."""
ODD_BATCHES = (1, 3)
"""Tried beside the card's, where any batch may be given."""

Opens = Callable[[str, Path, Setup], Predictor]
"""Engine, file, setup -> a predictor of our shapes."""


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """What an engine has to reproduce."""

    name: str
    """eager, or for a file of the user's own the engine that defines it."""
    tiles: Tiles
    """(M, T, C, h, w), M a multiple of the batch."""
    results: Tiles
    """(M, K, h / stride, w / stride)."""
    predict: Predictor
    """To be run again beside the engine, for the timing."""
    classes: bool
    """Whether K are classes."""
    real: int = 0
    """How many of the tiles are real."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What is tried."""

    path: Path
    """The exported network."""
    setup: Setup
    """As a worker would ask for it."""
    dynamic: bool
    """Whether any batch may be given."""
    reference: Reference
    """What should come out."""
    opens: Opens = open_graph
    """How it is loaded."""

    def batches(self) -> tuple[int, ...]:
        """Batch sizes to compare."""
        own = self.setup.input[0]
        return tuple(sorted({own, *ODD_BATCHES})) if self.dynamic else (own,)


def refer(name: str, predict: Predictor, tiles: Tiles, classes: bool, batch: int) -> Reference:
    """Run the original. Raises ``ModelError``."""
    return Reference(name, tiles, run_all(predict, tiles, batch), predict, classes)


def try_engine(engine: str, trial: Trial) -> Verdict:
    """Load, compare and time; whatever fails is the verdict's reason."""
    parity, load_s, pace = None, None, Pace()
    try:
        started = time.perf_counter()
        predict = trial.opens(engine, trial.path, trial.setup)
        load_s = round(time.perf_counter() - started, 3)
        parity, reason = _compared(engine, trial, predict)
        if not reason:
            pace = race(predict, trial.reference.predict, trial.reference.tiles[: trial.setup.input[0]])
    except ModelError as error:
        reason = error.detail
    return Verdict(
        passed=not reason,
        reason=reason,
        parity=parity,
        ms_per_tile=pace.ms,
        reference_ms_per_tile=pace.reference_ms,
        times_faster=pace.ratio,
        load_s=load_s,
    )


def _compared(engine: str, trial: Trial, predict: Predictor) -> tuple[Parity, str]:
    """Figures over all tiles at the worker's batch, and over the first few at odd ones; and what is wrong with them."""
    setup, reference = trial.setup, trial.reference
    differences = []
    for n in trial.batches():
        own = n == setup.input[0]
        tiles = reference.tiles if own else reference.tiles[:n]
        shaped = replace(setup, input=(n, *setup.input[1:]), output=(n, *setup.output[1:]))
        results = run_all(predict if own else trial.opens(engine, trial.path, shaped), tiles, n)
        differences.append(compare(reference.results[: len(tiles)], results, reference.classes))
    difference = worst(differences)
    parity = Parity(
        reference=reference.name,
        tiles=len(reference.tiles),
        real_tiles=reference.real,
        batches=trial.batches(),
        max_abs_diff=difference.max_abs,
        flips_ppm=difference.flips_ppm if reference.classes else None,
        widest_margin=difference.widest_margin if reference.classes else None,
    )
    return parity, objection(difference, setup.precision)


@dataclass(frozen=True, slots=True)
class Pace:
    """Of two forwards, per tile."""

    ms: float | None = None
    """Median, in milliseconds."""
    reference_ms: float | None = None
    """Median, in milliseconds."""
    ratio: float | None = None
    """Median of the reference's time over the other's, round by round: machines drift, ratios hardly."""


def race(predict: Predictor, reference: Predictor, batch: Tiles) -> Pace:
    """Time two forwards in turns, after one of each to warm up."""
    _seconds(predict, batch)
    _seconds(reference, batch)
    rounds = []
    while sum(map(sum, rounds)) < 2 * TIMED_S:
        rounds.append((_seconds(predict, batch), _seconds(reference, batch)))
    own, other = ([1e3 * s / len(batch) for s in seconds] for seconds in zip(*rounds, strict=True))
    ratio = median(b / a for a, b in zip(own, other, strict=True))
    return Pace(round(median(own), 3), round(median(other), 3), round(ratio, 3))


def _seconds(predict: Predictor, batch: Tiles) -> float:
    started = time.perf_counter()
    predict(batch)
    return time.perf_counter() - started
