"""One run of the engine, as a user's run is carried out, taken apart into start, steady state and products."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.scenes import Place, planned
from pipelines.ledger import Receipt, read_receipt
from pipelines.run import Request, run
from pipelines.runner import Runner
from swathe.card import ModelCard
from swathe.state import Event, State


@dataclass(frozen=True)
class Ran:
    """What a run took."""

    pixels: int
    """Of the scene."""
    tiles: int
    """Forwards of the network."""
    repeated: float
    """Share of the planned forwards that are done a second time because chunks meet."""
    chunks: int
    """Chunks."""
    start_s: float
    """From the call to the first chunk's start: pool, imports, loading, warming up."""
    load_s: float
    """Of that: loading the model, in the slowest worker."""
    steady_s: float
    """From the first chunk's start to the last chunk's end: read, predict, blend, quantise, write, trace."""
    products_s: float
    """From the last chunk to the end: mosaic, overviews, vectors, preview, STAC item, report."""
    total_s: float
    """Of the whole call."""
    cpu_s: float
    """CPU time of the workers within chunks."""
    stages: dict[str, float]
    """Seconds of the report, as they stand there."""
    runtime: dict[str, Any]
    """What ran the network."""

    @property
    def run_s(self) -> float:
        """Without the start."""
        return self.steady_s + self.products_s

    def as_dict(self) -> dict[str, Any]:
        """For the file of results."""
        return asdict(self)


class Quiet:
    """An observer that remembers when states were entered."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.entered: dict[str, float] = {}

    def event(self, event: Event) -> None:
        """Note the time."""
        if event.kind == "state":
            self.entered[event.facts["state"]] = datetime.fromisoformat(event.at).timestamp()

    def progress(self, done: int, total: int) -> None:
        """Nobody watches."""


def measured(card: ModelCard, size: int, place: Place, runner: Runner) -> Ran:
    """Run a card over the scene of that size, everything included, and remove what it left."""
    out, quiet = place.root / "run", Quiet()
    shutil.rmtree(out, ignore_errors=True)
    image = place.scene(size).post
    called, clock = time.time(), time.perf_counter()
    plan = planned(card, image, runner.actors)
    outcome = run(plan, Request(out, place.home), runner, quiet)
    total_s = time.perf_counter() - clock
    if outcome.state is not State.DONE:
        raise RuntimeError(f"the run ended {outcome.state}: {json.dumps(outcome.report['failed'])}")
    receipts = _receipts(out)
    started, ended = min(r.started for r in receipts), max(r.ended for r in receipts)
    ran = Ran(
        pixels=plan.cost.pixels, tiles=sum(r.tiles for r in receipts), repeated=plan.cost.repeated,
        chunks=len(receipts), start_s=started - called, load_s=max(r.seconds["load"] for r in receipts),
        steady_s=ended - started, products_s=quiet.entered["done"] - quiet.entered["finishing"], total_s=total_s,
        cpu_s=sum(r.cpu_s for r in receipts), stages=outcome.report["seconds"], runtime=receipts[0].runtime,
    )  # fmt: skip
    shutil.rmtree(out)
    return ran


def _receipts(out: Path) -> Sequence[Receipt]:
    found = [read_receipt(path) for path in sorted((out / ".swathe" / "parts").glob("*.json"))]
    return [receipt for receipt in found if receipt is not None]
