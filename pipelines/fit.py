"""Thresholds that are found in the data: once over the whole area, never per tile or chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipelines.runner import Loop, Runner
from pipelines.worker import Measurer, Order
from swathe.card import ModelCard
from swathe.errors import ReadError
from swathe.lattice import Chunk

WORTH_A_POOL = 200_000_000
"""Pixels from which on counting is given to the runner; below, starting a pool takes longer than counting."""


def fit_over_area(order: Order, chunks: Sequence[Chunk], runner: Runner) -> dict[str, float] | None:
    """Fit the card's threshold to the histogram of every valid pixel of the area; None where the card has none.

    Counts are whole numbers, so order and number of workers do not matter. Raises InputError where the area holds one
    class only and the card cannot do without two, ReadError where part of it cannot be read.
    """
    card = order.work.card
    if card.adapter != "formula":
        return None
    from models import formula
    from models.spectral import settings
    from models.threshold import Histogram

    if not formula.needs_fit(card):
        return None
    pixels = sum(c.window.area for c in chunks)
    who = runner if pixels >= WORTH_A_POOL else Loop()
    total = Histogram.empty(*settings(card).span)
    for answer in _whole(who.map(Measurer, order, chunks), card):
        if answer["histogram"] is None:
            continue
        found = answer["histogram"]
        total = total.merge(Histogram(found["low"], found["high"], np.asarray(found["counts"], np.int64)))
    return formula.fit(card, total)


def _whole(answers: Iterator[dict[str, Any]], card: ModelCard) -> Iterator[dict[str, Any]]:
    """The same; a threshold of part of the area would be another one, so a lost part ends the run, and this says so."""
    try:
        yield from answers
    except ReadError as error:
        raise ReadError(
            f"the threshold of {card.id} is found over the whole area, and part of it is lost: {error.detail}",
            code=error.problem.code, field=error.field,
            hint=f"run the same command again; or take {card.sibling}, whose threshold is fixed: it does all the rest",
        ) from error  # fmt: skip
