"""What ``swathe plan`` and ``swathe run`` show: a table before, and afterwards how it ended."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pipelines.products.collection import Entry, Listing
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
        event({"event": "end", "state": outcome.state.value, "out": out, "already": outcome.already})
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


def note(text: str, *, as_json: bool) -> None:
    """Something that the user should know."""
    if as_json:
        event({"event": "warning", "text": text})
    else:
        sys.stderr.write(f"  note: {text}\n")


def event(facts: dict[str, Any]) -> None:
    """For programs, on standard output."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


# --- days of a series -------------------------------------------------------------------------------------------------


def begun(entry: Entry, *, as_json: bool) -> None:
    """A day is being run: what follows is of it."""
    if as_json:
        event({"event": "day", **asdict(entry), "state": "running"})
    else:
        sys.stderr.write(f"  {entry.day}: {len(entry.scenes)} scene(s), clear: {_percent(entry.clear)}\n")


def ended(entry: Entry, *, as_json: bool) -> None:
    """What became of it."""
    if as_json:
        event({"event": "day", **asdict(entry)})
    else:
        sys.stderr.write(f"  {entry.day}: {_state(entry)}{f': {entry.why}' if entry.why else ''}\n")


def series(entries: Sequence[Entry], out: str, *, whole: bool, as_json: bool) -> None:
    """How all days ended, and where they are listed."""
    if as_json:
        counts = Counter(entry.state.value for entry in entries)
        event({"event": "end", "state": "done" if whole else "incomplete", "out": out, "days": dict(counts)})
        return
    from rich.console import Console

    console = Console()
    console.print(_table(entries, "valid", lambda e: "" if e.valid_fraction is None else f"{e.valid_fraction:.1%}"))
    line(console, f"  {out.rstrip('/')}/collection.json")


def planned(listing: Listing, plans: Mapping[str, Plan], notes: Sequence[str]) -> None:
    """The days that there are, and what each would take."""
    from rich.console import Console

    def takes(entry: Entry) -> str:
        return _time(plans[entry.day].cost) if entry.day in plans else ""

    console, (rows, cols) = Console(), listing.grid.shape
    console.print(_table(listing.entries.values(), "time", takes))
    line(console, f"{len(plans)} days of {cols} x {rows} px, {listing.grid.crs}")
    for text in dict.fromkeys((*notes, *(text for made in plans.values() for text in made.warnings))):
        line(console, f"note: {text}")


def _table(entries: Iterable[Entry], last: str, told: Callable[[Entry], str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table("day", "scenes", "clear", "cloud", "", last, "", box=None)
    for entry in entries:
        cloud = None if entry.cloud is None else entry.cloud / 100
        table.add_row(entry.day, str(len(entry.scenes)), _percent(entry.clear), _percent(cloud), _state(entry),
                      told(entry), Text(entry.why))  # fmt: skip
    return table


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.0%}"


def _state(entry: Entry) -> str:
    return "" if entry.state == "waiting" else entry.state.replace("_", " ")
