"""``swathe cluster``: a Ray of one's own that stays, and the jobs on it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from cluster.head import Head
    from cluster.submit import Dashboard, Job

app = typer.Typer(
    name="cluster",
    help="A Ray that stays: start it once, run against it many times. Jobs that go on without this terminal.",
    no_args_is_help=True,
)

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Address = Annotated[
    str | None, typer.Option(help="URL of a dashboard, http://host:8265. Default: the Ray started here.")
]


@app.command()
def start(
    context: typer.Context,
    cpus: Annotated[float | None, typer.Option(min=0, help="Logical cores. Default: all.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs. Default: all that Ray finds.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port of Ray. Default: a free one.")] = None,
    dashboard_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port of the dashboard. Default: 8265 or a free one.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Start a Ray on this machine that outlives this command; runs of the same data folder find it by themselves."""
    from cluster import head

    spec = head.HeadSpec(
        data_dir=context.obj.data_dir,
        cpus=cpus,
        gpus=gpus,
        port=port,
        dashboard_port=dashboard_port,
        auth=_auth(context.obj.ray_auth_mode),
    )
    _show(_facts(head.start(spec)), as_json)


@app.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Say whether it runs, where, and what is in use. Exits 1 where it does not run."""
    from cluster import head

    running = head.living(context.obj.data_dir)
    if running is None:
        known = head.recorded(context.obj.data_dir)
        what = f"the Ray at {known.address} does not answer" if known else "none was started"
        _show({"running": False, "detail": what}, as_json)
        raise typer.Exit(1)
    _show(_facts(running) | {"in_use": _in_use(head.usage(running))}, as_json)


@app.command()
def stop(
    context: typer.Context,
    keep_logs: Annotated[bool, typer.Option("--keep-logs", help="Leave Ray's log folder behind.")] = False,
    as_json: AsJson = False,
) -> None:
    """Stop the Ray that was started here, and no other."""
    from cluster import head

    stopped = head.stop(context.obj.data_dir, keep_logs=keep_logs)
    _show({"running": False, "stopped": stopped}, as_json)


@app.command()
def jobs(context: typer.Context, address: Address = None, as_json: AsJson = False) -> None:
    """List the runs that were submitted, with their states."""
    from cluster import submit

    found = [_row(j) for j in submit.listing(_dashboard(context, address))]
    if as_json:
        _print_json(found)
        return
    for row in found:
        sys.stdout.write(f"{row['id']:34} {row['status']:10} {row['message']}\n")


@app.command()
def logs(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="Id of the job, as `jobs` lists it.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it ends; exits with its code.")] = False,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Show what a job has printed; as JSON, an object for each line."""
    from cluster import submit

    at, lines = _dashboard(context, address), _Lines()
    write = lines.take if as_json else _write
    ended = submit.follow(job, at, write) if follow else write(submit.logs(job, at))
    lines.finish()
    if ended is not None:
        raise typer.Exit(ended.exit_code)


@app.command()
def cancel(
    context: typer.Context,
    job: Annotated[str, typer.Argument(help="Id of the job, as `jobs` lists it.")],
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Stop a job; what it has done stays, and submitting the same run again resumes it."""
    from cluster import submit

    _show(_row(submit.cancel(job, _dashboard(context, address))), as_json)


def _dashboard(context: typer.Context, address: str | None) -> Dashboard:
    from cluster import submit

    return submit.dashboard(context.obj.data_dir, address or context.obj.ray_address)


def _auth(mode: str | None) -> Literal["disabled", "token"]:
    from swathe.errors import ClusterError

    if mode not in (None, "disabled", "token"):
        raise ClusterError(f"{mode!r} is no way to guard Ray", hint="disabled or token", code="cluster.auth")
    return "token" if mode == "token" else "disabled"


def _facts(running: Head) -> dict[str, Any]:
    facts: dict[str, Any] = {"running": True, "address": running.address, "dashboard": running.dashboard}
    if running.token_file:
        facts["token_file"] = str(running.token_file)
    return facts | {"auth": running.auth, "pid": running.pid, "logs": str(running.folder)}


def _in_use(usage: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    return {name: list(pair) for name, pair in usage.items() if name in ("CPU", "GPU", "memory")}


def _row(job: Job) -> dict[str, Any]:
    return {"id": job.id, "status": job.status, "message": job.message, "exit_code": job.driver_exit_code}


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


class _Lines:
    """Text that comes in pieces, as JSON lines."""

    def __init__(self) -> None:
        self._rest = ""

    def take(self, text: str) -> None:
        *whole, self._rest = (self._rest + text).split("\n")
        _write("".join(f"{json.dumps({'line': line})}\n" for line in whole))

    def finish(self) -> None:
        if self._rest:
            self.take("\n")


def _show(values: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(values)
        return
    for name, value in values.items():
        sys.stdout.write(f"{name.replace('_', ' '):12} {_plain(value)}\n")


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {used:g} of {total:g}" for k, (used, total) in value.items())
    return {True: "yes", False: "no", None: "-"}.get(value, str(value)) if not isinstance(value, list) else str(value)


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=1) + "\n")
