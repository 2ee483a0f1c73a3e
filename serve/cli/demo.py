"""``swathe demo``: the whole way on a scene with known truth, scored against it."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve.cli import show
from serve.cli.work import Way, execute, with_ray
from swathe.errors import FAILED
from swathe.postprocess import Postprocess
from swathe.recipe import Recipe

if TYPE_CHECKING:
    from pipelines.demo.files import DemoScene
    from pipelines.demo.truth import Score
    from serve.settings import Settings


@dataclass(frozen=True, slots=True)
class Mapping:
    """One of the demo's maps, and how good it has to be."""

    name: str
    """Folder of its products."""
    model: str
    """Id of the card."""
    truth: str
    """Which truth of the scene it is scored against."""
    both_dates: bool
    """Whether it compares before and after."""
    floor: float
    """Intersection over union on clear pixels, below which the demo failed."""


MAPPINGS = (
    Mapping("water", "water-mndwi", "water", both_dates=False, floor=0.95),
    Mapping("burn", "burn-dnbr", "burn", both_dates=True, floor=0.85),
)


def demo(  # noqa: PLR0913, PLR0917  options of a command
    context: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for scene and products.")] = Path("demo"),
    size: Annotated[int, typer.Option(min=512, help="Pixels along a side; what is promised holds from 4096.")] = 4096,
    seed: Annotated[int, typer.Option(help="Of the scene.")] = 2024,
    catalogue: Annotated[
        bool, typer.Option("--catalogue", help="Instead: search a STAC API of four dates, and map what it finds.")
    ] = False,
    local: Annotated[bool, typer.Option("--local", help="Without Ray.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Make a scene with known truth, map its water and its burn scar, and score the maps.

    Exits 0 where both are as good as promised, 1 where not.
    """
    if catalogue:
        from serve.cli.coast import coast

        coast(out, seed, context.obj, local=local, as_json=as_json)
    started = time.perf_counter()
    scene = _scene(out / "scene", size, seed, as_json=as_json)
    scores: dict[str, Score] = {}
    whole = True
    with with_ray(context.obj, local=local) as dashboard:
        for mapping in MAPPINGS:
            scores[mapping.name], complete = _map(mapping, scene, out, context.obj, local=local, as_json=as_json)
            whole = whole and complete
    good = whole and all(scores[m.name].iou >= m.floor for m in MAPPINGS)
    seconds = time.perf_counter() - started
    if as_json:
        line = {"event": "demo", "good": good, "complete": whole, "dashboard": dashboard, "seconds": round(seconds, 1),
                "scores": {name: asdict(found) for name, found in scores.items()}}  # fmt: skip
        sys.stdout.write(json.dumps(line) + "\n")
    else:
        _tell(scores, out, seconds, dashboard)
        if not whole:
            sys.stderr.write("swathe: chunks failed, so the demo did: see report.json\n")
    raise typer.Exit(0 if good else FAILED)


def _scene(folder: Path, size: int, seed: int, *, as_json: bool) -> DemoScene:
    from rich.console import Console
    from rich.progress import Progress

    from pipelines.demo.quicklook import quicklook
    from pipelines.demo.scene import write

    console = Console(stderr=True, quiet=as_json)
    console.print(f"An invented coast before and after a fire, {size} x {size} px, two dates, six bands")
    with Progress(console=console, disable=as_json) as progress:
        task = progress.add_task("scene", total=1.0)
        scene = write(folder, size, seed, lambda share: progress.update(task, completed=share))
    if not (folder / "scene.png").exists():
        quicklook(scene.post, folder / "scene.png")
    return scene


def _map(
    mapping: Mapping, scene: DemoScene, out: Path, settings: Settings, *, local: bool, as_json: bool
) -> tuple[Score, bool]:  # fmt: skip
    """How good the map is, and whether it is complete."""
    from pipelines.demo.truth import score

    dates = ((scene.pre_date, scene.pre), (scene.post_date, scene.post))
    inputs = tuple(f"{when}={path}" for when, path in (dates if mapping.both_dates else dates[1:]))
    hidden = Postprocess.parse("clouds", files=(f"valid={scene.clear}",))
    recipe = Recipe(mapping.model, inputs, postprocess=hidden)
    outcome = execute(recipe, settings, Way(out / mapping.name, local, overwrite=True, as_json=as_json))
    found = score(out / mapping.name / "result.tif", getattr(scene, mapping.truth), scene.clear, positive_value=1)
    return found, outcome.state == "done"


def _tell(scores: dict[str, Score], out: Path, seconds: float, dashboard: str) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("map", "IoU", "promised", "precision", "recall", "", title="Against the truth, on clear pixels")
    for mapping in MAPPINGS:
        found = scores[mapping.name]
        good = found.iou >= mapping.floor
        table.add_row(mapping.name, f"{found.iou:.3f}", f"{mapping.floor:.2f}", f"{found.precision:.3f}",
                      f"{found.recall:.3f}", "[green]good[/]" if good else "[red]FAILED[/]")  # fmt: skip
    console.print(table)
    console.print(f"Where to look ({seconds:.0f} s in all):")
    for place in _places(out, dashboard):
        show.line(console, f"  {place}")


def _places(out: Path, dashboard: str) -> list[str]:
    found: list[tuple[str, Any]] = [("the scene", out / "scene" / "scene.png")]
    for mapping in MAPPINGS:
        folder = out / mapping.name
        found += [
            (f"{mapping.name}: picture", folder / "preview.png"),
            (f"{mapping.name}: map (COG)", folder / "result.tif"),
            (f"{mapping.name}: without clouds", folder / "masked.tif"),
            (f"{mapping.name}: polygons", folder / "features.parquet"),
            (f"{mapping.name}: STAC item", folder / "item.json"),
            (f"{mapping.name}: what was done", folder / "report.json"),
        ]
    if dashboard:
        found.append(("Ray dashboard", f"{dashboard}, while it ran; `swathe cluster start` keeps one"))
    return [f"{what:22} {where}" for what, where in found]
