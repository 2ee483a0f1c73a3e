"""``swathe run`` and ``swathe plan``."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from swathe.errors import INCOMPLETE, InputError
from swathe.recipe import ProductSettings, Radiometry, Recipe

if TYPE_CHECKING:
    from cluster.local import ClusterSpec, Session
    from cluster.resources import ActorLayout
    from pipelines.run import Outcome
    from pipelines.runner import Runner
    from serve.settings import Settings
    from swathe.card import ModelCard
    from swathe.plan import Plan

Model = Annotated[str, typer.Option("--model", "-m", help="Id of a model card; see `swathe models`.")]
Inputs = Annotated[
    list[str],
    typer.Option("--input", "-i", help="File, folder or URL; repeat it for bands in files of their own. DATE=PATH for "
                 "methods of several dates."),
]  # fmt: skip
Sensor = Annotated[str | None, typer.Option(help="Sensor profile: what the bands are and what their numbers mean.")]
Bands = Annotated[str | None, typer.Option(help="Instead of a sensor: common names of the bands, with commas.")]
Scale = Annotated[float | None, typer.Option(help="With --bands: physical = stored * scale + offset.")]
Offset = Annotated[float | None, typer.Option(help="See --scale.")]
Nodata = Annotated[float | None, typer.Option(help="Stored number that means no data, where the file does not say.")]
Aoi = Annotated[str | None, typer.Option(help="minlon,minlat,maxlon,maxlat, GeoJSON, WKT, or a vector file.")]
ChunkSide = Annotated[int | None, typer.Option("--chunk", help="Side of a chunk in pixels. Default: chosen.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def run(  # noqa: PLR0913, PLR0917  options of a command
    context: typer.Context, model: Model, inputs: Inputs,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the products.")],
    sensor: Sensor = None, bands: Bands = None, scale: Scale = None, offset: Offset = None, nodata: Nodata = None,
    aoi: Aoi = None, chunk: ChunkSide = None,
    local: Annotated[bool, typer.Option("--local", help="A plain loop in this process, without Ray.")] = False,
    submit: Annotated[bool, typer.Option("--submit", help="Send it to a kept Ray as a job and follow it.")] = False,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16, instead of the card's.")] = None,
    min_area: Annotated[int, typer.Option(min=1, help="Smallest polygon, in pixels.")] = 4,
    simplify: Annotated[float, typer.Option(min=0, help="Tolerance of outlines in pixels; 0: exact.")] = 0.0,
    gpkg: Annotated[bool, typer.Option("--gpkg", help="Also features.gpkg.")] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also one band per class.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run in that folder.")] = False,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Run a model or a method over imagery. The same command resumes what was interrupted.

    Exits 0 for a complete result, 3 where chunks failed, 2 for bad input, 130 where it was interrupted.
    """
    recipe = Recipe(
        model, tuple(inputs), sensor, _radiometry(bands, scale, offset, nodata), aoi,
        ProductSettings(min_area, simplify, gpkg, probabilities), chunk,
    )  # fmt: skip
    settings = context.obj
    if submit:
        raise typer.Exit(_submit(recipe, settings, out, as_json=as_json))
    outcome = execute(recipe, settings, Way(out, local, overwrite, as_json, precision))
    _conclude(outcome, out, as_json=as_json)
    raise typer.Exit(0 if outcome.state == "done" else INCOMPLETE)


def plan(  # noqa: PLR0913, PLR0917  options of a command
    context: typer.Context, model: Model, inputs: Inputs, sensor: Sensor = None, bands: Bands = None,
    scale: Scale = None, offset: Offset = None, nodata: Nodata = None, aoi: Aoi = None, chunk: ChunkSide = None,
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say what a run would do and take, without doing it."""
    recipe = Recipe(model, tuple(inputs), sensor, _radiometry(bands, scale, offset, nodata), aoi, chunk=chunk)
    found = _plan(recipe, _card(recipe, context.obj), context.obj, actors=_cores())
    if as_json:
        sys.stdout.write(json.dumps(found.as_dict(), indent=1, default=str) + "\n")
    else:
        _show_plan(found)


# --- carrying out -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """How a recipe is to be carried out."""

    out: Path
    """Folder of the products."""
    local: bool = False
    """The plain loop."""
    overwrite: bool = False
    """Replace what is there."""
    as_json: bool = False
    """Speak to a program."""
    precision: str | None = None
    """Instead of the card's."""


def execute(recipe: Recipe, settings: Settings, way: Way) -> Outcome:
    """Plan and run; what the demo and ``swathe run`` share."""
    from models.load import ensure
    from pipelines.run import Request, run
    from serve.cli.watch import watching

    card = _in_precision(_card(recipe, settings), way.precision)
    imagery = _look(recipe, card, settings)
    card = ensure(card, settings.home, say=_say(way)).card
    with _runner(card, settings, way) as (runner, facts):
        from pipelines.begin import begin

        made = begin(recipe, card, imagery, runner.actors)
        _warn(made, way)
        request = Request(
            way.out.resolve(), settings.home, overwrite=way.overwrite, keep_cut=recipe.chunk is None,
            context={"command": sys.argv[1:], "cluster": facts},
        )  # fmt: skip
        with watching(as_json=way.as_json, title=card.id) as observer:
            return run(made, request, runner, observer)


@contextmanager
def _runner(card: ModelCard, settings: Settings, way: Way) -> Iterator[tuple[Runner, dict[str, Any]]]:
    from pipelines.runner import Loop

    if way.local:
        yield Loop(threads=_cores()), {"kind": "loop"}
        return
    from cluster.local import connect
    from cluster.resources import layout
    from pipelines.ray_data import RayData

    with connect(spec_of(settings)) as session:
        pool = layout(card.resources, session.nodes)
        _tell_dashboard(session, way)
        yield RayData(pool), _facts(session, pool)


def _facts(session: Session, pool: ActorLayout) -> dict[str, Any]:
    return {
        "kind": "ray", "nodes": len(session.nodes), "cpus": session.cpus, "gpus": session.gpus,
        "dashboard": session.dashboard, "actors": pool.actors, "threads": pool.threads, "note": pool.note,
    }  # fmt: skip


@contextmanager
def with_ray(settings: Settings, *, local: bool = False) -> Iterator[None]:
    """One Ray for several runs: what runs inside finds the connection and uses it."""
    if local:
        yield
        return
    from cluster.local import connect

    with connect(spec_of(settings)):
        yield


def spec_of(settings: Settings) -> ClusterSpec:
    """The Ray that these settings name."""
    from cluster.local import ClusterSpec

    return ClusterSpec(settings.data_dir, settings.ray_address, auth=settings.ray_auth_mode)


def _tell_dashboard(session: Session, way: Way) -> None:
    if session.dashboard and not way.as_json:
        sys.stderr.write(f"  Ray dashboard: {session.dashboard}\n")


def _submit(recipe: Recipe, settings: Settings, out: Path, *, as_json: bool) -> int:
    from cluster import submit

    card = _card(recipe, settings)
    made = _plan(recipe, card, settings, actors=_cores())
    to = submit.dashboard(settings.data_dir, settings.ray_address)
    arguments = _without_submit(sys.argv[1:], out)
    request = submit.JobRequest(arguments, key=made.key, metadata={"model": card.id, "out": str(out)})
    job = submit.submit(request, to, again=not (out / "report.json").exists())
    if not as_json:
        sys.stderr.write(f"  job {job.id} on {to.url}\n")
    return submit.follow(job.id, to, sys.stdout.write).exit_code


def _without_submit(arguments: Sequence[str], out: Path) -> tuple[str, ...]:
    """The same command for the cluster, with the output folder spelt out."""
    kept = [a for a in arguments if a != "--submit"]
    spelt = [str(out.resolve()) if kept[i - 1 : i] in (["--out"], ["-o"]) else a for i, a in enumerate(kept)]
    return tuple(spelt)


# --- pieces -----------------------------------------------------------------------------------------------------------


def _card(recipe: Recipe, settings: Settings) -> ModelCard:
    from models.registry import load_cards

    return load_cards(settings.card_folders)[recipe.model]


def _in_precision(card: ModelCard, precision: str | None) -> ModelCard:
    if precision is None:
        return card
    if precision not in ("fp32", "bf16"):
        raise InputError(f"no precision {precision!r}", code="precision", field="--precision", hint="fp32 or bf16")
    runtime = card.runtime.model_copy(update={"precision": precision})
    return card.model_copy(update={"runtime": runtime})


def _look(recipe: Recipe, card: ModelCard, settings: Settings) -> Any:
    from pipelines.begin import look
    from pipelines.sensors import load_sensors

    return look(recipe, card, load_sensors(settings.sensors_dir))


def _plan(recipe: Recipe, card: ModelCard, settings: Settings, actors: int) -> Plan:
    from pipelines.begin import begin

    return begin(recipe, card, _look(recipe, card, settings), actors)


def _radiometry(bands: str | None, scale: float | None, offset: float | None, nodata: float | None) -> Radiometry:
    names = tuple(name.strip() for name in (bands or "").split(",") if name.strip())
    return Radiometry(names, scale, offset, nodata)


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0))


def _say(way: Way) -> Any:
    def say(text: str) -> None:
        if way.as_json:
            sys.stdout.write(json.dumps({"event": "model", "text": text}) + "\n")
        else:
            sys.stderr.write(f"  {text}\n")
        sys.stdout.flush()

    return say


def _warn(made: Plan, way: Way) -> None:
    for text in (*made.warnings, *made.work.imagery.notes):
        if not way.as_json:
            sys.stderr.write(f"  note: {text}\n")


def _show_plan(found: Plan) -> None:
    from rich.console import Console
    from rich.table import Table

    cost, work = found.cost, found.work
    table = Table(show_header=False, box=None)
    for name, value in (
        ("model", f"{work.card.id} ({work.card.title})"),
        ("imagery", f"{work.imagery.sensor}, {len(work.imagery.dates)} date(s), {work.imagery.unit}"),
        ("grid", f"{work.shape[1]} x {work.shape[0]} px, {cost.area_km2:,.2f} km²"),
        ("chunks", f"{len(found.chunks)} of up to {found.chunk_shape[1]} x {found.chunk_shape[0]} px"),
        ("tiles", f"{cost.tiles:,} at most, {cost.repeated:.1%} of them done twice"),
        ("to read", f"{cost.read_mb:,.0f} MB uncompressed"),
        ("memory", f"{cost.memory_mb:,.0f} MB an actor, and the model"),
        ("key", found.key[:16]),
    ):
        table.add_row(name, value)
    console = Console()
    console.print(table)
    for text in (*found.warnings, *work.imagery.notes):
        console.print(f"note: {text}")


def _conclude(outcome: Outcome, out: Path, *, as_json: bool) -> None:
    if as_json:
        line = {"event": "end", "state": outcome.state.value, "out": str(out.resolve()), "already": outcome.already}
        sys.stdout.write(json.dumps(line) + "\n")
        return
    from rich.console import Console

    console, facts = Console(), outcome.report
    valid, chunks = facts["pixels"]["valid_fraction"], facts["chunks"]
    word = "[green]done[/]" if outcome.state == "done" else "[red]incomplete[/]"
    again = " (it was there already)" if outcome.already else ""
    console.print(f"{word}{again}: {valid:.1%} of the pixels have a result; {chunks['failed']} chunks failed")
    for name in ("result.tif", "score.tif", "features.parquet", "features.geojson", "preview.png", "item.json"):
        if (out / name).exists():
            console.print(f"  {out / name}")
    for lost in facts["failed"][:5]:
        console.print(f"  [red]lost[/] {lost}")
