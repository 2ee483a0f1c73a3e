"""``swathe run`` and ``swathe plan``."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cluster.machine import cores
from serve.cli import options, show
from serve.planning import card_of, estimated, in_precision, look, plan_of
from swathe.composite import Composite
from swathe.errors import INCOMPLETE, InputError, SwatheError
from swathe.imagery import shown_in
from swathe.masking import Shapes
from swathe.mosaic import Mosaic
from swathe.postprocess import Postprocess
from swathe.recipe import ProcessorWish, ProductSettings, Radiometry, Recipe, Search

if TYPE_CHECKING:
    from cluster.local import ClusterSpec, Session
    from cluster.resources import ActorLayout
    from pipelines.run import Outcome
    from pipelines.runner import Runner
    from pipelines.store.blobs import Blobs
    from serve.settings import Settings
    from swathe.card import ModelCard
    from swathe.imagery import Imagery
    from swathe.plan import Plan


def run(  # noqa: PLR0913, PLR0917  options of a command
    context: typer.Context, model: options.Model, out: options.Out,
    inputs: options.Inputs = None, source: options.Source = None, collection: options.Collection = None,
    dates: options.Dates = None, max_cloud: options.MaxCloud = None, composite: options.CompositeOf = None,
    res: options.Res = None, crs: options.Crs = None, max_loss: options.MaxLoss = 0.0,
    each_date: options.EachDate = False,
    sensor: options.Sensor = None, bands: options.Bands = None, scale: options.Scale = None,
    offset: options.Offset = None, nodata: options.Nodata = None, aoi: options.Aoi = None,
    chunk: options.ChunkSide = None, local: options.Local = False, submit: options.Submit = False,
    precision: options.Precision = None, min_area: options.MinArea = 4, simplify: options.Simplify = 0.0,
    gpkg: options.Gpkg = False, probabilities: options.Probabilities = False, mask: options.MaskOf = None,
    mask_buffer: options.MaskBuffer = 0, mask_files: options.MaskFiles = None, regularise: options.Regularise = None,
    mask_shapes: options.MaskShapes = None, shapes_buffer: options.ShapesBuffer = None,
    shapes_code: options.ShapesCode = None,
    overwrite: options.Overwrite = False, processor: options.Script = None, params: options.Params = None,
    server: options.Server = None, key: options.Key = None, as_json: options.AsJson = False,
) -> None:  # fmt: skip
    """Run a model or a method over imagery. The same command resumes what was interrupted.

    Exits 0 for a complete result, 3 where chunks or a step failed, 2 for bad input, 130 where it was interrupted.
    """
    search = wanted(source, dates, composite, collection=collection, max_cloud=max_cloud, res=res, crs=crs,
                    max_loss=max_loss)  # fmt: skip
    recipe = Recipe(
        model, tuple(inputs or ()), sensor, radiometry(bands, scale, offset, nodata), aoi,
        ProductSettings(min_area, simplify, gpkg, probabilities), chunk, search,
        Postprocess.parse(mask, mask_buffer, tuple(mask_files or ()), regularise,
                          shapes(mask_shapes, shapes_buffer, shapes_code)), _processor(processor, params),
    )  # fmt: skip
    settings, out = context.obj, _spelt(out)
    way = Way(out, local, overwrite, as_json, precision)
    if server and (local or submit):
        raise InputError("--server has it done elsewhere, --local and --submit do not", code="run.place",
                         field="--server", hint="leave one of them out")  # fmt: skip
    if each_date:
        raise typer.Exit(_each_date(recipe, settings, way, "--server" if server else "--submit" if submit else ""))
    if submit:
        raise typer.Exit(_submit(recipe, settings, way))
    outcome = _outcome(recipe, settings, way, (server, key))
    show.conclusion(outcome, out, as_json=as_json)
    raise typer.Exit(0 if outcome.state == "done" else INCOMPLETE)


def plan(  # noqa: PLR0913, PLR0917  options of a command
    context: typer.Context, model: options.Model, out: options.IdleOut = None,  # noqa: ARG001  see IDLE
    inputs: options.Inputs = None, source: options.Source = None, collection: options.Collection = None,
    dates: options.Dates = None, max_cloud: options.MaxCloud = None, composite: options.CompositeOf = None,
    res: options.Res = None, crs: options.Crs = None, max_loss: options.MaxLoss = 0.0,
    each_date: options.EachDate = False,
    sensor: options.Sensor = None, bands: options.Bands = None, scale: options.Scale = None,
    offset: options.Offset = None, nodata: options.Nodata = None, aoi: options.Aoi = None,
    chunk: options.ChunkSide = None, local: options.Local = False,
    submit: options.IdleSubmit = False,  # noqa: ARG001
    precision: options.Precision = None, min_area: options.MinArea = 4, simplify: options.Simplify = 0.0,
    gpkg: options.Gpkg = False, probabilities: options.Probabilities = False, mask: options.MaskOf = None,
    mask_buffer: options.MaskBuffer = 0, mask_files: options.MaskFiles = None, regularise: options.Regularise = None,
    mask_shapes: options.MaskShapes = None, shapes_buffer: options.ShapesBuffer = None,
    shapes_code: options.ShapesCode = None,
    overwrite: options.IdleOverwrite = False,  # noqa: ARG001
    processor: options.Script = None, params: options.Params = None,
    server: options.IdleServer = None, key: options.IdleKey = None,  # noqa: ARG001
    as_json: options.AsJson = False,
) -> None:  # fmt: skip
    """Say what a run would do and take, without doing it. Takes the options of `swathe run`."""
    search = wanted(source, dates, composite, collection=collection, max_cloud=max_cloud, res=res, crs=crs,
                    max_loss=max_loss)  # fmt: skip
    recipe = Recipe(
        model, tuple(inputs or ()), sensor, radiometry(bands, scale, offset, nodata), aoi,
        ProductSettings(min_area, simplify, gpkg, probabilities), chunk, search,
        Postprocess.parse(mask, mask_buffer, tuple(mask_files or ()), regularise,
                          shapes(mask_shapes, shapes_buffer, shapes_code)), _processor(processor, params),
    )  # fmt: skip
    from models.load import known
    from pipelines.estimate import Means

    settings, means = context.obj, Means("loop", 1, cores()) if local else Means("ray", cores(), 1)
    settings.treatments(recipe)  # what a run would refuse is refused here
    card = in_precision(card_of(recipe, settings), precision)
    card = known(card, settings.home) or card
    if each_date:
        from serve.cli import series

        series.plan(recipe, card, settings, means, as_json=as_json)
        return
    found = plan_of(recipe, card, settings, means)
    if as_json:
        sys.stdout.write(json.dumps(found.as_dict(), indent=1, default=str) + "\n")
    else:
        show.plan(found)


def _each_date(recipe: Recipe, settings: Settings, way: Way, elsewhere: str) -> int:
    """A run of every day, here. Raises InputError where it is wanted elsewhere."""
    if elsewhere:
        raise InputError(f"{elsewhere} makes one run of it, --each-date one a day", code="run.place",
                         field="--each-date", hint=f"leave {elsewhere} out: a kept Ray is found without")  # fmt: skip
    from serve.cli import series

    return series.run(recipe, settings, way)


def _processor(script: Path | None, params: str | None) -> ProcessorWish | None:
    """What --processor and --params say. Raises InputError (``processor.parameters``)."""
    if script is None:
        if params is not None:
            raise InputError("--params are for a --processor, and there is none", code="processor.parameters",
                             field="--params", hint="add --processor FILE.py")  # fmt: skip
        return None
    try:
        found = json.loads(params or "{}")
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InputError("--params is no JSON object", code="processor.parameters", field="--params",
                         hint='write it as \'{"threshold": 80}\'')  # fmt: skip
    return ProcessorWish(str(script.expanduser().resolve()), found)


def shapes(file: str | None, buffer_m: float | None, code: int | None) -> Shapes | None:
    """What --mask-shapes, --shapes-buffer and --shapes-code say. Raises InputError (``mask.shapes``)."""
    if file is not None:
        return Shapes.of(file, buffer_m or 0.0, code)
    if buffer_m is not None or code is not None:
        raise InputError("there are no shapes for it", code="mask.shapes", hint="add --mask-shapes FILE_OR_ADDRESS",
                         field="--shapes-code" if buffer_m is None else "--shapes-buffer")  # fmt: skip
    return None


def wanted(source: str | None, dates: str | None, composite: str | None, **more: Any) -> Search | None:
    """What the options about searching say; None where none of them was given. Raises InputError."""
    if source is None:
        given = [name for name, value in {"dates": dates, "composite": composite, **more}.items() if value]
        if given:
            raise InputError(f"--{given[0].replace('_', '-')} says how to search, but not where", code="search.source",
                             field="--source", hint="add --source, or leave it out")  # fmt: skip
        return None
    kinds = [kind.value for kind in Composite]
    if composite is not None and composite not in kinds:
        raise InputError(f"no composite {composite!r}", code="search.composite", field="--composite",
                         hint=f"one of {', '.join(kinds)}")  # fmt: skip
    spans = tuple(text.strip() for text in (dates or "").split(",") if text.strip())
    return Search(source, spans, composite=Composite(composite) if composite else None, **more)


# --- carrying out -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Way:
    """How a recipe is to be carried out."""

    out: str | Path
    """Folder of the products, or s3://bucket/prefix."""
    local: bool = False
    """The plain loop."""
    overwrite: bool = False
    """Replace what is there."""
    as_json: bool = False
    """Speak to a program."""
    precision: str | None = None
    """Instead of the card's."""


def _outcome(recipe: Recipe, settings: Settings, way: Way, service: tuple[str | None, str | None]) -> Outcome:
    url, key = service
    if not url:
        return execute(recipe, settings, way)
    from serve.cli import remote

    return remote.run(recipe, way, remote.Server(url, key))


def execute(recipe: Recipe, settings: Settings, way: Way, imagery: Mosaic | None = None) -> Outcome:
    """Plan and run; what the demo and ``swathe run`` share. ``imagery``: where it was searched already."""
    from pipelines.store.place import working_folder

    with working_folder(str(way.out), settings.store) as (out, store):
        return _execute(recipe, settings, way, (out, store), imagery)


def _execute(
    recipe: Recipe, settings: Settings, way: Way, where: tuple[Path, Blobs | None], found: Mosaic | None
) -> Outcome:  # fmt: skip
    from models.load import ensure
    from pipelines.begin import begin
    from pipelines.estimate import Means
    from pipelines.real_tiles import real_tiles
    from pipelines.run import Request, kept_scenes, run
    from serve.cli.watch import watching

    out, store = where
    treatments = settings.treatments(recipe)
    card = in_precision(card_of(recipe, settings), way.precision)
    # A run that goes on reads the scenes it began with, whatever the archive has gained since.
    kept = kept_scenes(out, store, recipe, settings.sources) if recipe.search and not way.overwrite else None
    imagery = kept or found or look(recipe, card, settings)
    wished, network = card.resources.gpu, settings.network_for(recipe)
    with real_tiles(lambda: begin(recipe, card, imagery, 1).work, network) as tiles:
        ready = ensure(card, settings.home, say=_say(way), tiles=tiles)
    card = ready.card
    with _runner(card, settings, way, imagery) as (runner, facts):
        if wished and not card.resources.gpu and facts.get("gpus"):
            show.note(
                f"{card.id} runs on cores: it asks for a GPU, which the cluster has, but not this process",
                as_json=way.as_json,
            )
        means = Means(facts["kind"], runner.actors, runner.threads)
        made = estimated(begin(recipe, card, imagery, runner.actors), settings, means)
        _warn(made, way)
        request = Request(
            out, settings.home, overwrite=way.overwrite, keep_cut=recipe.chunk is None, store=store,
            network=network, pace=settings.data_dir,
            context={"command": list(map(shown_in, sys.argv[1:])), "cluster": facts}, treatments=treatments,
            model=ready.content,
        )  # fmt: skip
        with watching(as_json=way.as_json, title=card.id) as observer:
            outcome = run(made, request, runner, observer)
    _catalogue(str(out) if store is None else f"{str(way.out).rstrip('/')}/item.json", settings, way)
    return outcome


def _catalogue(result: str, settings: Settings, way: Way) -> None:
    """Into the catalogue of this machine. The result stands by itself, so trouble here is told and no failure."""
    if not settings.catalogue:
        return
    import sqlite3

    from models.registry import load_cards
    from pipelines.catalogue.register import Wish, register
    from pipelines.catalogue.store import Catalogue
    from pipelines.imagery.remote_files import RemoteFiles

    try:
        network = settings.network
        with (
            Catalogue(settings.data_dir / "catalogue.sqlite") as catalogue,
            RemoteFiles(network, network.retry) as remote,
        ):
            register(catalogue, result, Wish(cards=load_cards(settings.card_folders), remote=remote))
    except (SwatheError, sqlite3.Error, OSError) as error:
        if not way.as_json:
            sys.stderr.write(f"  note: the result is not in the catalogue: {error}\n")


@contextmanager
def _runner(
    card: ModelCard, settings: Settings, way: Way, imagery: Imagery | Mosaic | None = None
) -> Iterator[tuple[Runner, dict[str, Any]]]:
    from pipelines.runner import Loop

    if way.local:
        yield Loop(threads=cores()), {"kind": "loop"}
        return
    from cluster.local import connect
    from cluster.resources import in_pairs, layout
    from pipelines.ray_data import RayData

    with connect(spec_of(settings)) as session:
        # A Ray that was there before may have other tenants.
        pairs = session.started and _in_pairs(card, imagery)
        pool = layout(in_pairs(card.resources, session.nodes) if pairs else card.resources, session.nodes)
        _tell_dashboard(session, way)
        yield RayData(pool), _facts(session, pool)


def _in_pairs(card: ModelCard, imagery: Imagery | Mosaic | None) -> bool:
    """Whether workers would share a link; formulas, and networks that find clouds, keep no more than one core busy."""
    if not isinstance(imagery, Mosaic) or card.adapter == "formula":
        return False
    return imagery.mask is None or not imagery.mask.networks


def _facts(session: Session, pool: ActorLayout) -> dict[str, Any]:
    return {
        "kind": "ray", "nodes": len(session.nodes), "cpus": session.cpus, "gpus": session.gpus,
        "dashboard": session.dashboard, "actors": pool.actors, "threads": pool.threads, "note": pool.note,
    }  # fmt: skip


@contextmanager
def with_ray(settings: Settings, *, local: bool = False) -> Iterator[str]:
    """One Ray for several runs: what runs inside finds the connection and uses it. Gives the dashboard's address."""
    if local:
        yield ""
        return
    from cluster.local import connect

    with connect(spec_of(settings)) as session:
        yield session.dashboard or ""


def spec_of(settings: Settings) -> ClusterSpec:
    """The Ray that these settings name."""
    from cluster.local import ClusterSpec

    return ClusterSpec(settings.data_dir, settings.ray_address, auth=settings.ray_auth_mode)


def _tell_dashboard(session: Session, way: Way) -> None:
    if not session.dashboard:
        return
    if way.as_json:
        show.event({"event": "dashboard", "url": session.dashboard})
    else:
        sys.stderr.write(f"  Ray dashboard: {session.dashboard}\n")


def _spelt(out: str) -> str:
    """The same place from any working directory."""
    return out if "://" in out else str(Path(out).expanduser().resolve())


def _stands(out: str, settings: Settings) -> bool:
    """Whether a run has finished there."""
    from pipelines.store.blobs import is_stored, open_blobs

    if not is_stored(out):
        return (Path(out) / "report.json").exists()
    return open_blobs(out, settings.store).look("report.json") is not None


def _submit(recipe: Recipe, settings: Settings, way: Way) -> int:
    from cluster import submit
    from pipelines.begin import begin

    out = str(way.out)
    card = in_precision(card_of(recipe, settings), way.precision)
    made = begin(recipe, card, look(recipe, card, settings), cores())
    to = submit.dashboard(settings.data_dir, settings.ray_address)
    arguments = _without_submit(sys.argv[1:], out)
    request = submit.JobRequest(
        arguments, key=_named(made, arguments), metadata={"model": card.id, "out": out},
        environment=settings.as_environment() if to.here else {},
    )  # fmt: skip
    job = submit.submit(request, to, again=way.overwrite or not _stands(out, settings))
    if way.as_json:
        show.event({"event": "submitted", "job": job.id, "dashboard": to.url, "fresh": job.fresh})
    else:
        sys.stderr.write(f"  job {job.id} on {to.url}\n")
    return submit.follow(job.id, to, sys.stdout.write).exit_code


def _named(made: Plan, arguments: Sequence[str]) -> str:
    """What makes two submissions one job: the same plan, and the same command, whatever it says of the products."""
    return hashlib.sha256("\0".join((made.key, *arguments)).encode()).hexdigest()


def _without_submit(arguments: Sequence[str], out: str) -> tuple[str, ...]:
    """The same command for the cluster, with the output folder spelt out, however it was written."""
    kept: list[str] = []
    rest = iter(a for a in arguments if a != "--submit")
    for argument in rest:
        if argument in ("--out", "-o"):
            next(rest, None)
        if argument in ("--out", "-o") or argument.startswith("--out=") or _is_short_out(argument):
            kept += ["--out", out]
        else:
            kept.append(argument)
    return tuple(kept)


def _is_short_out(argument: str) -> bool:
    """``-oDIR``."""
    return argument.startswith("-o") and not argument.startswith("--")


# --- pieces -----------------------------------------------------------------------------------------------------------


def radiometry(bands: str | None, scale: float | None, offset: float | None, nodata: float | None) -> Radiometry:
    """What --bands, --scale, --offset and --nodata say."""
    names = tuple(name.strip() for name in (bands or "").split(",") if name.strip())
    return Radiometry(names, scale, offset, nodata)


def _say(way: Way) -> Any:
    def say(text: str) -> None:
        if way.as_json:
            show.event({"event": "model", "text": text})
        else:
            sys.stderr.write(f"  {text}\n")

    return say


def _warn(made: Plan, way: Way) -> None:
    for text in (*made.warnings, *made.work.imagery.notes):
        show.note(text, as_json=way.as_json)
