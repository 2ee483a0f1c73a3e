"""What ``swathe plan`` and ``swathe run`` show: a table before, and afterwards how it ended."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.run import Outcome
    from swathe.plan import Cost, Plan

PRODUCTS = ("result.tif", "masked.tif", "processed.tif", "score.tif", "observations.tif", "features.parquet",
            "features.geojson", "regularised.parquet", "preview.png", "item.json")  # fmt: skip


def line(console: Console, *parts: str | tuple[str, str]) -> None:
    """One line as it stands, in pieces of text or (text, style).

    What strangers wrote is no markup, and a path that was folded to the width of a pipe leads nowhere.
    """
    from rich.text import Text

    console.print(Text.assemble(*parts), soft_wrap=True)


def _joined(found: Plan) -> str:
    from swathe.mosaic import Mosaic

    imagery = found.work.imagery
    return f", {found.cost.scenes} scene(s), {imagery.composite.value}" if isinstance(imagery, Mosaic) else ""


def _fetched(cost: Cost) -> str:
    return f", {cost.fetch_mb:,.1f} MB over the network" if cost.fetch_mb else ""


def _time(cost: Cost) -> str:
    guess = "a guess: this model has not run here yet, or waits for SWATHE_LINK_MBIT_S"
    how = "as earlier runs here took" if cost.seconds_from == "measured" else guess
    return f"{cost.seconds:,.0f} s ({how})"


def _key(found: Plan) -> str:
    how = f" (another one once the engine is settled: swathe models register {found.work.card.id})"
    return found.key[:16] + (how if found.provisional else "")


def plan(found: Plan) -> None:
    """What a run would do and take."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cost, work = found.cost, found.work
    table = Table(show_header=False, box=None)
    for name, value in (
        ("model", f"{work.card.id} ({work.card.title})"),
        ("imagery", f"{work.imagery.sensor}, {len(work.imagery.dates)} date(s), {work.imagery.unit}{_joined(found)}"),
        ("grid", f"{work.shape[1]} x {work.shape[0]} px, {cost.area_km2:,.2f} km²"),
        ("chunks", f"{len(found.chunks)} of up to {found.chunk_shape[1]} x {found.chunk_shape[0]} px"),
        ("tiles", f"{cost.tiles:,} at most, {cost.repeated:.1%} of them done twice"),
        ("to read", f"{cost.read_mb:,.0f} MB uncompressed{_fetched(cost)}"),
        ("memory", f"{cost.worker_mb:,.0f} MB an actor at most"),
        ("time", _time(cost)),
        ("key", _key(found)),
    ):
        table.add_row(name, Text(value))
    console = Console()
    console.print(table)
    for text in (*found.warnings, *work.imagery.notes):
        line(console, f"note: {text}")


def conclusion(outcome: Outcome, out: str, *, as_json: bool) -> None:
    """How a run ended, and where its products lie."""
    if as_json:
        end = {"event": "end", "state": outcome.state.value, "out": out, "already": outcome.already}
        sys.stdout.write(json.dumps(end) + "\n")
        return
    from rich.console import Console

    from pipelines.report import BARREN
    from serve.cli.watch import told
    from swathe.step import Step

    console, facts = Console(), outcome.report
    valid, chunks = facts["pixels"]["valid_fraction"], facts["chunks"]
    word = "[green]done[/]" if outcome.state == "done" else "[red]incomplete[/]"
    again = " (it was there already)" if outcome.already else ""
    console.print(f"{word}{again}: {valid:.1%} of the pixels have a result; {chunks['failed']} chunks failed")
    for text in (t for t in facts.get("warnings", ()) if t.startswith(BARREN)):
        line(console, "  ", (text, "red"))
    for step in facts.get("steps", ()):
        line(console, f"  {told(Step.of(step))}")
    for name in PRODUCTS:
        if "://" not in out and (Path(out) / name).exists():
            line(console, f"  {Path(out) / name}")
    if "://" in out:
        line(console, f"  {out}")
    for lost in facts["failed"][:5]:
        line(console, "  ", ("lost", "red"), f" {lost}")
