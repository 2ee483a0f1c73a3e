"""``swathe up`` and ``swathe down``: the whole service on this machine."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psutil
import typer

from cluster import atomic
from serve.deployments import record
from swathe.errors import ClusterError, StoreError, SwatheError

if TYPE_CHECKING:
    from serve.deployments.keeper import KeepSpec
    from serve.deployments.record import Up
    from serve.settings import ServiceSettings

AsJson = Annotated[bool, typer.Option("--json", help="One object for programs, when it is ready.")]
FIRST = "admin@localhost"
"""Whom the first key belongs to."""
_ROOT = Path(__file__).resolve().parents[2]
_END_S = 90
_STORE_S = 20.0
"""For a database that starts with the machine; a wrong address is told after that."""


def up(  # noqa: PLR0913, PLR0917  options of a command
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Come back when it is ready; it stays.")] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of the API. Default: SWATHE_PORT or 8000.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Interface to listen on. Default: SWATHE_HOST or 127.0.0.1: this machine alone.")
    ] = None,
    dashboard_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Of Ray's dashboard. Default: 8265 or a free one.")
    ] = None,
    cpus: Annotated[float | None, typer.Option(min=0, help="Logical cores. Default: all.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs. Default: all that Ray finds.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring up the service: Ray, the API, the models. Prints the address, and at the first start an admin's key."""
    settings = _settings(port=port, host=host)
    spec = _spec(settings, dashboard_port=dashboard_port, cpus=cpus, gpus=gpus)
    running = record.living(settings.data_dir)
    if running:
        raise record.already(running)
    _expect_store(settings)
    if detach:
        _show(_detached(spec), settings, as_json=as_json)
        return
    _in_front(spec, settings, as_json=as_json)


def down(as_json: AsJson = False) -> None:
    """Stop the service of this data folder, and no other. Jobs that are at work go on at the next start."""
    settings = _settings()
    stopped = _stop(settings.data_dir)
    if as_json:
        sys.stdout.write(json.dumps({"stopped": stopped, "data_dir": str(settings.data_dir)}) + "\n")
    else:
        sys.stdout.write("stopped\n" if stopped else f"nothing runs in {settings.data_dir}\n")


def _settings(**given: Any) -> ServiceSettings:
    from serve.settings import ServiceSettings

    settings = ServiceSettings.read(**{name: value for name, value in given.items() if value is not None})
    return settings.model_copy(update={"data_dir": settings.data_dir.expanduser().absolute()})


def _spec(settings: ServiceSettings, **more: Any) -> KeepSpec:
    """The processes of the service find by their environment what was settled here."""
    from serve.deployments.keeper import KeepSpec

    told = {"SWATHE_DATA_DIR": str(settings.data_dir), "SWATHE_HOST": settings.host, "SWATHE_PORT": str(settings.port)}
    auth = settings.ray_auth_mode or "disabled"
    return KeepSpec(settings.data_dir, settings.host, settings.port, auth=auth, environment=told, **more)


def _expect_store(settings: ServiceSettings) -> None:
    """Raises StoreError where the database cannot be had: the service would wait for it, and whoever starts it too."""
    from serve.deployments.waiting import waited_for

    try:
        waited_for(settings.open_store, _STORE_S).close()
    except StoreError as error:
        away = error.problem.code == "store.unavailable"
        hint = "nothing was started: see whether it runs, and SWATHE_DATABASE_URL" if away else error.hint
        raise StoreError(error.detail, hint=hint, code=error.problem.code) from error


def _in_front(spec: KeepSpec, settings: ServiceSettings, *, as_json: bool) -> None:
    """Keep it here, until Ctrl-C."""
    from serve.deployments.keeper import Keeper

    def announce(ready: Up) -> None:
        _show(ready, settings, as_json=as_json)
        if not as_json:
            sys.stdout.write("  Ctrl-C stops it; jobs go on at the next start\n")
            sys.stdout.flush()

    keeper = Keeper(spec, announce)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, keeper.stop)
    if not as_json:
        sys.stderr.write("  starting; this takes about half a minute\n")
    keeper.run()


def _detached(spec: KeepSpec) -> Up:
    """Start a keeper that outlives this command, and wait until it says that all is well."""
    folder = record.folder_of(spec.data_dir)
    with record.alone(spec.data_dir):  # tells whether the folder can be written, and that nobody is starting here
        record.forget(spec.data_dir)
        atomic.expect_room(folder)  # without any, the keeper could not say how it fares
    with (folder / "keeper.log").open("ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "serve.deployments.keeper"], cwd=_ROOT, stdin=subprocess.PIPE, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
    assert child.stdin is not None
    with child.stdin as pipe:
        pipe.write(json.dumps(spec.as_dict()).encode())
    try:
        return _await(child, spec.data_dir, folder / "keeper.log")
    except BaseException:
        with suppress(ProcessLookupError):
            child.terminate()
        raise


def _await(child: subprocess.Popen[bytes], data_dir: Path, log: Path) -> Up:
    while True:
        known = record.read(data_dir)
        if known and known.pid == child.pid and known.state == record.READY:
            return known
        if known and known.problem:
            raise _told(known.problem)
        if child.poll() is not None:
            raise ClusterError(f"the keeper ended with status {child.returncode}", hint=f"see {log}", code="up.failed")
        time.sleep(0.2)


def _told(problem: Mapping[str, Any]) -> SwatheError:
    """A keeper's problem as an error of this process."""
    return ClusterError(str(problem["detail"]), hint=str(problem.get("hint", "")), field=str(problem.get("field", "")),
                        code=str(problem["code"]))  # fmt: skip


def _stop(data_dir: Path) -> bool:
    """The keeper ends, and its Ray with it; what a dead keeper left is ended here."""
    from cluster import head

    known = record.living(data_dir)
    if known:
        keeper = psutil.Process(known.pid)
        with suppress(psutil.Error):
            keeper.terminate()
            keeper.wait(_END_S)
        with suppress(psutil.Error):
            keeper.kill()
    left = head.stop(record.folder_of(data_dir), grace_s=6) if record.folder_of(data_dir).is_dir() else False
    record.forget(data_dir)
    return bool(known) or left


def _show(ready: Up, settings: ServiceSettings, *, as_json: bool) -> None:
    key = first_key(settings)
    if as_json:
        sys.stdout.write(json.dumps(record.facts(ready, settings.data_dir, key)) + "\n")
    else:
        rows = {"URL": ready.url, "docs": f"{ready.url}/docs", "dashboard": ready.dashboard,
                "data": str(settings.data_dir)}  # fmt: skip
        for name, value in rows.items():
            sys.stdout.write(f"  {name:10} {value}\n")
        if key:
            sys.stdout.write(f"  {'key':10} {key}   (of {FIRST}; it is shown this once)\n")
    sys.stdout.flush()


def first_key(settings: ServiceSettings) -> str | None:
    """A key of a first admin, where the service has no users yet; else None."""
    from serve.store import keys, users
    from swathe.user import SCOPES_OF, Role

    store = settings.open_store()
    try:
        with store.begin() as c:
            if users.count(c):
                return None
            admin = users.add(c, FIRST, Role.ADMIN)
            _, text = keys.make(c, keys.Pepper(settings.pepper.encode()), admin.id, SCOPES_OF[Role.ADMIN], "first")
            return f"swk-{text}"
    finally:
        store.close()
