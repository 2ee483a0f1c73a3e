"""``swathe jobs``: jobs of a service, from any machine that can reach it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve.cli import options, work
from serve.cli.options import AsJson
from swathe.errors import INCOMPLETE
from swathe.job import JobState
from swathe.recipe import Recipe

if TYPE_CHECKING:
    from swathe.client.blocking import Client, RemoteJob

app = typer.Typer(help="Jobs of a service: list, watch, stop, fetch.", no_args_is_help=True)
Where = Annotated[str | None, typer.Option("--server", envvar="SWATHE_URL", help="Address. Default: what runs here.")]
Key = Annotated[str | None, typer.Option("--key", envvar="SWATHE_KEY", help="Key; better in the variable.")]
Id = Annotated[str, typer.Argument(metavar="JOB", help="Its id.")]


@app.command("list")
def listing(  # noqa: PLR0913, PLR0917  options of a command
    context: typer.Context,
    state: Annotated[list[JobState] | None, typer.Option(help="In this state; may be repeated.")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="With this model.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    server: Where = None, key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """List jobs, newest first."""
    with _service(context, server, key) as client:
        found = list(client.jobs(state=[s.value for s in state or ()] or None, model=model, limit=limit))
    if as_json:
        _print([_document(job) for job in found])
        return
    for job in found:
        sys.stdout.write(f"{_line(job)}\n")


@app.command()
def show(context: typer.Context, job: Id, server: Where = None, key: Key = None, as_json: AsJson = False) -> None:
    """Show one job: what was asked, where it stands, what came of it."""
    with _service(context, server, key) as client:
        found = client.job(job)
        if as_json:
            _print(_document(found))
            return
        sys.stdout.write(f"{_line(found)}\n")
        for name, value in _facts(found):
            sys.stdout.write(f"  {name:9} {value}\n")
        for file in found.files if found.ended else ():
            sys.stdout.write(f"  {file.bytes:>12,} B  {file.name}\n")


@app.command()
def watch(context: typer.Context, job: Id, server: Where = None, key: Key = None, as_json: AsJson = False) -> None:
    """Follow a job to its end; Ctrl-C leaves it running. Exits as ``swathe run`` would."""
    from serve.cli import remote

    with _service(context, server, key) as client:
        found = client.job(job)
        with remote.left_running(found, client.url):
            remote.follow(found, as_json=as_json)
        remote.expect_result(found)
    if not as_json:
        sys.stdout.write(f"{_line(found)}\n")
    raise typer.Exit(INCOMPLETE if found.state is JobState.INCOMPLETE else 0)


@app.command()
def logs(context: typer.Context, job: Id, server: Where = None, key: Key = None, as_json: AsJson = False) -> None:
    """Print what was written while it ran."""
    with _service(context, server, key) as client:
        for line in client.job(job).logs():
            text = json.dumps(asdict(line)) if as_json else f"{line.at}  {line.level:8} {line.message}"
            sys.stdout.write(f"{text}\n")


@app.command()
def cancel(context: typer.Context, job: Id, server: Where = None, key: Key = None, as_json: AsJson = False) -> None:
    """Stop a job; takes effect within a chunk, and what is done is kept."""
    with _service(context, server, key) as client:
        _show(client.job(job).cancel(), as_json=as_json)


@app.command()
def resume(context: typer.Context, job: Id, server: Where = None, key: Key = None, as_json: AsJson = False) -> None:
    """Go on with a job that failed, was cancelled, or is incomplete."""
    with _service(context, server, key) as client:
        _show(client.job(job).resume(), as_json=as_json)


@app.command()
def delete(context: typer.Context, job: Id, server: Where = None, key: Key = None, as_json: AsJson = False) -> None:
    """Remove a job that has ended, with its results and its catalogue entry."""
    with _service(context, server, key) as client:
        client.job(job).delete()
    if as_json:
        _print({"deleted": job})


@app.command()
def download(  # noqa: PLR0913, PLR0917  options of a command
    context: typer.Context, job: Id,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder.")],
    names: Annotated[list[str] | None, typer.Option("--file", help="This file alone; may be repeated.")] = None,
    server: Where = None, key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Fetch its files. What is there is kept; what broke off goes on."""
    with _service(context, server, key) as client:
        paths = client.job(job).download(out, names)
    if as_json:
        _print([str(path) for path in paths])
        return
    for path in paths:
        sys.stdout.write(f"{path}\n")


@app.command()
def estimate(  # noqa: PLR0913, PLR0917  options of a command
    context: typer.Context, model: options.Model, inputs: options.Inputs = None, source: options.Source = None,
    collection: options.Collection = None, dates: options.Dates = None, max_cloud: options.MaxCloud = None,
    composite: options.CompositeOf = None, res: options.Res = None, crs: options.Crs = None,
    max_loss: options.MaxLoss = 0.0, sensor: options.Sensor = None, bands: options.Bands = None,
    scale: options.Scale = None, offset: options.Offset = None, nodata: options.Nodata = None,
    aoi: options.Aoi = None, chunk: options.ChunkSide = None,
    server: Where = None, key: Key = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say what a job would take there, without submitting it. Files of this machine are uploaded for it."""
    from serve.cli import remote

    search = work.wanted(source, dates, composite, collection=collection, max_cloud=max_cloud, res=res, crs=crs,
                         max_loss=max_loss)  # fmt: skip
    recipe = Recipe(model, tuple(inputs or ()), sensor, work.radiometry(bands, scale, offset, nodata), aoi,
                    chunk=chunk, search=search)  # fmt: skip
    with _service(context, server, key) as client:
        found = client.estimate(model, **remote.wish_of(client, recipe))
    if as_json:
        _print(asdict(found))
        return
    seconds = "unknown" if found.seconds is None else f"{found.seconds:,.0f} s ({found.seconds_from})"
    sys.stdout.write(f"{found.place.value}: {seconds}\n")
    for name, value in found.cost.items():
        sys.stdout.write(f"  {name:14} {value}\n")
    for text in found.warnings:
        sys.stdout.write(f"note: {text}\n")


# --- pieces -----------------------------------------------------------------------------------------------------------


@contextmanager
def _service(context: typer.Context, url: str | None, key: str | None) -> Iterator[Client]:
    from serve.cli import remote

    with remote.connected(remote.server_of(url, key, context.obj.data_dir)) as client:
        yield client


def _show(job: RemoteJob, *, as_json: bool) -> None:
    if as_json:
        _print(_document(job))
    else:
        sys.stdout.write(f"{_line(job)}\n")


def _document(job: RemoteJob) -> dict[str, Any]:
    from swathe.client.values import document_of

    return document_of(job.value)


def _line(job: RemoteJob) -> str:
    value = job.value
    state = "cancelling" if value.cancelling and not job.ended else value.state.value
    columns = (value.id, f"{state:10}", f"{value.progress.share:>4.0%}", value.created[:19], value.model, value.title)
    return "  ".join(columns).rstrip()


def _facts(job: RemoteJob) -> Iterator[tuple[str, str]]:
    value = job.value
    chunks = value.progress
    yield "place", value.where.value
    yield "chunks", f"{chunks.chunks} of {chunks.of_chunks}, {chunks.failed_chunks} failed"
    yield "attempts", f"{value.attempts} (round {value.round})"
    for name, text in (("started", value.started), ("ended", value.ended), ("ray job", value.ray_job)):
        if text:
            yield name, text
    if value.problem:
        yield "problem", f"{value.problem.get('code')}: {value.problem.get('detail')}"


def _print(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1, default=str) + "\n")
