"""How fast this machine is, as its own runs have shown: what estimates of seconds are made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.ledger import Receipt, write_whole
from swathe.card import ModelCard

START_S = {"replica": 0.0, "loop": 1.0, "pool": 0.5, "ray": 7.0}
"""Until the first chunk begins: the model is loaded, a pool of actors started. A replica answers at once."""
PRODUCTS_S_PER_MPX = 0.02
"""COG, polygons, preview, per million pixels of output."""
PX_S = 2e-8
"""Per pixel of a weight-free method, before any run was seen."""
TILE_S = 0.05
"""Per 224 x 224 pixels and date of a network of 25 MB on one core, before any run was seen."""
_WEIGHT = 0.3
"""Of the newest run in the mean: machines change, single runs are noisy."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Of one model on this machine."""

    tile_s: float
    """Seconds of one worker per tile: network and everything around it, reading over a network left out."""
    measured: bool
    """Whether a run has shown it; else it is a guess from the card."""


def guess(card: ModelCard) -> Pace:
    """From the card alone."""
    pixels = card.input.chip**2 * card.input.times
    if card.adapter == "formula":
        return Pace(PX_S * pixels * len(card.input.bands), measured=False)
    size = (card.weights.size_mb if card.weights and card.weights.size_mb else 100.0) / 25
    return Pace(TILE_S * pixels / 224**2 * max(1.0, size**0.8), measured=False)


def known(card: ModelCard, folder: Path) -> Pace:
    """What earlier runs have shown, else a guess.

    Runs are kept by the engine that they settled on. A card that leaves the choice open is taken for the one that most
    runs of it have had.
    """
    kept = _read(folder)
    found = [kept[_name(card)]] if _name(card) in kept else []
    if not found and card.runtime.engine == "auto":
        found = [one for name, one in kept.items() if _any_engine(name) == _any_engine(_name(card))]
    if not found:
        return guess(card)
    return Pace(float(max(found, key=lambda one: int(one["runs"]))["tile_s"]), measured=True)


def on_replica(card: ModelCard, folder: Path, threads: int, device: str) -> Pace | None:
    """The same for a replica that has not measured itself yet.

    None: nobody can tell, as a guess is one of a core and this is a GPU.
    """
    pace = known(card, folder)
    if pace.measured:
        return pace
    return Pace(pace.tile_s / threads, measured=False) if device == "cpu" else None


def learn(card: ModelCard, receipts: Sequence[Receipt], folder: Path) -> None:
    """Keep what a run has shown. Losing this file costs nothing but accuracy, so trouble with it is no error."""
    tiles = sum(r.tiles for r in receipts)
    if not tiles:
        return
    # What the reader's thread waited for is not the machine's pace; prediction, blending and writing are.
    worked = sum(r.seconds.get(stage, 0.0) for r in receipts for stage in ("predict", "blend"))
    kept = _read(folder)
    before = kept.get(_name(card))
    seen = worked / tiles
    mean = seen if before is None else _WEIGHT * seen + (1 - _WEIGHT) * float(before["tile_s"])
    kept[_name(card)] = {"tile_s": round(mean, 6), "runs": 1 + (0 if before is None else int(before["runs"]))}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "pace.json", json.dumps(kept, indent=1, sort_keys=True).encode())
    except OSError:
        return


def _name(card: ModelCard) -> str:
    return f"{card.id} {card.runtime.engine} {card.runtime.precision}"


def _any_engine(name: str) -> tuple[str, str]:
    id_, _, precision = name.split(" ")
    return id_, precision


def _read(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "pace.json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
