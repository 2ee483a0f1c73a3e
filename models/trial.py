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
"""Seconds of calls per timing."""
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
    ms_per_tile: float
    """Its own time."""
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
    """Run and time the original. Raises ``ModelError``."""
    results = run_all(predict, tiles, batch)
    return Reference(name, tiles, results, timed(predict, tiles[:batch]), classes)


def try_engine(engine: str, trial: Trial) -> Verdict:
    """Load, compare and time; whatever fails is the verdict's reason."""
    parity, load_s, ms = None, None, None
    try:
        started = time.perf_counter()
        predict = trial.opens(engine, trial.path, trial.setup)
        load_s = round(time.perf_counter() - started, 3)
        parity, reason = _compared(engine, trial, predict)
        if not reason:
            ms = timed(predict, trial.reference.tiles[: trial.setup.input[0]])
    except ModelError as error:
        reason = error.detail
    return Verdict(passed=not reason, reason=reason, parity=parity, ms_per_tile=ms, load_s=load_s)


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


def timed(predict: Predictor, batch: Tiles) -> float:
    """Milliseconds per tile, the median of calls during 1.5 s after one to warm up."""
    predict(batch)
    calls: list[float] = []
    while sum(calls) < TIMED_S:
        started = time.perf_counter()
        predict(batch)
        calls.append(time.perf_counter() - started)
    return round(1e3 * median(calls) / len(batch), 3)
