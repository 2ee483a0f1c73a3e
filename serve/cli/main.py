"""The ``swathe`` command: its subcommands, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import json
import signal
import sys
from typing import Annotated, Any

import typer

from serve.cli import catalog, cluster, demo, doctor, jobs, keys, models, search, up, work
from swathe.errors import BAD_INPUT, FAILED, INTERRUPTED, Problem, SwatheError, exit_code_of

app = typer.Typer(
    help="Satellite imagery in, finished map products out, on a Ray cluster.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(demo.demo)
app.command()(work.run)
app.command()(work.plan)
app.command()(search.search)
app.add_typer(catalog.app, name="catalog")
app.add_typer(models.app, name="models")
app.command()(doctor.doctor)
app.add_typer(cluster.app)
app.command()(up.up)
app.command()(up.down)
app.add_typer(keys.app)
app.add_typer(jobs.app, name="jobs")


@app.callback()
def settings(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.", hidden=True)] = False,
) -> None:
    """Read the settings once."""
    from serve.settings import Settings

    sys.tracebacklimit = 100 if debug else 0
    context.obj = Settings.from_environment()


def main() -> None:
    """Run the command line and exit."""
    signal.signal(signal.SIGTERM, _as_interrupt)
    try:
        status = app(standalone_mode=False)
    except typer.TyperException as error:
        raise SystemExit(_explain(error)) from None
    except SwatheError as error:
        _complain(error.problem)
        raise SystemExit(exit_code_of(type(error))) from None
    except KeyboardInterrupt:
        _complain(Problem("interrupted", "Interrupted.", "stopped", "run the same command again to continue"))
        raise SystemExit(INTERRUPTED) from None
    except OSError as error:
        _complain(Problem("system", "The system refused.", str(error)))
        raise SystemExit(FAILED) from None
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _complain(Problem("internal", "Something broke.", f"{type(error).__name__}: {error}",
                          "run `swathe --debug …` and report what it says; what was done is kept"))  # fmt: skip
        raise SystemExit(FAILED) from None
    raise SystemExit(status)


def _explain(error: typer.TyperException) -> int:
    """What is wrong with the words of the command; a command that only leads to others lists them."""
    if said := error.format_message():  # nothing where the help was printed instead
        context: typer.Context | None = getattr(error, "ctx", None)
        command = context.command_path if context else "swathe"
        _complain(Problem("command.usage", "The command cannot be read.", said, f"`{command} --help` says how"))
    return BAD_INPUT


def _complain(problem: Problem) -> None:
    """One line for people; with --json also one object for programs."""
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"event": "problem", **problem.as_dict()}) + "\n")
    sys.stderr.write(f"swathe: {problem.line()}\n")


def _as_interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
