"""Rounds in shuffled order, and what their numbers say together."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Spread:
    """A figure measured several times."""

    middle: float
    """Median."""
    low: float
    """Smallest."""
    high: float
    """Largest."""
    count: int
    """Rounds."""

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(median(values), min(values), max(values), len(values))


def shuffled(names: Sequence[str], number: int) -> list[str]:
    """The order of one round: another one each time, the same in every invocation."""
    order = list(names)
    random.Random(number).shuffle(order)
    return order


def bracketed(value: float, before: float, after: float) -> float:
    """Ratio of a figure to the mean of what was measured right before and right after it: drift cancels."""
    return 2 * value / (before + after)


def keep(facts: Mapping[str, Any], path: Path | None) -> None:
    """Write what was measured, for ``benchmarks/imagery.py``; nothing where no file was named."""
    if path is not None:
        path.write_text(json.dumps(facts, indent=1, default=float))
