"""``swathe doctor``: whether this machine can do the work, and what to do where it cannot. Starts nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

Level = Literal["ok", "warn", "fail"]

_GIB = 1 << 30
_MIB = 1 << 20
_NEEDED = ("ray", "rasterio", "numpy", "pyarrow")
_FOR_MODELS = ("torch", "terratorch", "openvino", "onnxruntime")
_SECRET = re.compile(r"token|secret|password|passwd|credential|(^|_)key(_|$)|dsn", re.IGNORECASE)
_USERINFO = re.compile(r"(?<=://)[^/@\s]+@")
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    """A word."""
    level: Level
    """fail: swathe will not work; warn: it will, less well."""
    detail: str
    """What was found."""
    hint: str = ""
    """What to do about it."""


def doctor(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """Check this machine: versions, cores, memory, GPU, disk, Ray, model cache. Exits 1 where something will fail."""
    checks = list(examine(context.obj))
    shown = {
        "ok": all(c.level != "fail" for c in checks),
        "checks": [asdict(c) for c in checks],
        "versions": versions(),
        "settings": without_secrets(context.obj),
    }
    _print(checks, shown) if not as_json else sys.stdout.write(json.dumps(shown, indent=1) + "\n")
    raise typer.Exit(0 if shown["ok"] else 1)


def examine(settings: Any) -> Iterator[Check]:
    """All checks, in the order they are shown; ``settings`` are those of the command line."""
    for check in _CHECKS:
        yield from check(settings)


def versions() -> dict[str, str | None]:
    """Of what takes part, from the packages' own records; nothing is imported. None: not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in ("swathe", *_NEEDED, *_FOR_MODELS)}


def without_secrets(value: Any, name: str = "") -> Any:
    """``value`` as JSON-ready data; what is named like a secret is only said to be set, URLs lose their user."""
    if _SECRET.search(name):
        return "(set)" if value else None
    fields = _fields(value)
    if fields is not None:
        return {str(k): without_secrets(v, str(k)) for k, v in fields.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [without_secrets(v) for v in value]
    return value if value is None or isinstance(value, (bool, int, float)) else _USERINFO.sub("***@", str(value))


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """Of a mapping, a dataclass, or a pydantic model; None for anything else."""
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    names = getattr(type(value), "model_fields", None)
    return {n: getattr(value, n) for n in names} if names else None


def _packages(_: Any) -> Iterator[Check]:
    found = versions()
    lost = [n for n in _NEEDED if found[n] is None]
    if lost:
        yield Check("packages", "fail", f"missing: {', '.join(lost)}", "uv sync")
    else:
        yield Check("packages", "ok", ", ".join(f"{n} {found[n]}" for n in ("python", *_NEEDED)))
    missing = [n for n in _FOR_MODELS if found[n] is None]
    detail = ", ".join(f"{n} {found[n]}" for n in _FOR_MODELS if found[n])
    if missing:
        hint = "uv sync --group models; spectral methods work without"
        yield Check("models", "warn", f"missing: {', '.join(missing)}", hint)
    else:
        yield Check("models", "ok", detail)


def _scripts(_: Any) -> Iterator[Check]:
    """Tried out, so it takes a moment."""
    from pipelines.sandbox.isolation import isolation

    found = isolation()
    if found.walls is None:
        hint = "processors are refused here. apt install bubblewrap; docs/processors.md says what else it may need"
        yield Check("scripts", "warn", f"cannot be shut in: {found.detail}", hint)
    else:
        yield Check("scripts", "ok", f"are shut in: {found.level} ({found.detail})")


def _gdal(_: Any) -> Iterator[Check]:
    try:
        import rasterio
    except Exception as error:  # noqa: BLE001  a broken library can fail in any way; that is the finding
        yield Check("gdal", "fail", f"rasterio cannot be loaded: {error}", "uv sync --reinstall-package rasterio")
        return
    foreign = [n for n in ("PROJ_LIB", "PROJ_DATA", "GDAL_DATA", "GDAL_DRIVER_PATH") if os.environ.get(n)]
    if foreign:
        hint = "they point to another GDAL's files: unset them if projections fail"
        yield Check("gdal", "warn", f"{rasterio.__gdal_version__}, with {', '.join(foreign)} set", hint)
    else:
        yield Check("gdal", "ok", rasterio.__gdal_version__)


def _cores(_: Any) -> Iterator[Check]:
    from cluster import machine

    count = machine.cores()
    hint = "reading and the model take turns" if count == 1 else ""
    yield Check("cores", "warn" if count == 1 else "ok", f"{count}", hint)


def _memory(_: Any) -> Iterator[Check]:
    from cluster import machine

    total, free = machine.memory()
    level: Level = "fail" if free < _GIB else "warn" if free < 3 * _GIB else "ok"
    hint = "" if level == "ok" else "close programs, or give --chunk a smaller number"
    yield Check("memory", level, f"{free / _GIB:.1f} of {total / _GIB:.1f} GiB free", hint)


def _gpu(_: Any) -> Iterator[Check]:
    from cluster import machine

    found = machine.gpus()
    detail = ", ".join(f"{g.name} ({g.memory / _GIB:.0f} GiB, driver {g.driver})" for g in found)
    if found and "+cpu" in (_version("torch") or ""):
        yield Check("gpu", "warn", f"{detail}, but torch is built for CPU", "install a CUDA build of torch")
    else:
        yield Check("gpu", "ok", detail or "none: models run on cores")


def _shared_memory(_: Any) -> Iterator[Check]:
    from cluster import machine

    found = machine.shared_memory()
    if found is None:
        return
    level: Level = "warn" if found[1] < 160 * _MIB else "ok"
    hint = "" if level == "ok" else "in a container: --shm-size=1g; Ray uses the disk instead"
    yield Check("/dev/shm", level, f"{found[1] / _MIB:.0f} MiB free", hint)  # noqa: S108  a name to show


def _disk(settings: Any) -> Iterator[Check]:
    from cluster import machine

    for name, folder in (("data folder", settings.data_dir), ("model cache", settings.home.cache)):
        free = machine.space(Path(folder))[1]
        detail = f"{folder}, {free / _GIB:.1f} GiB free"
        if not _writable(Path(folder)):
            yield Check(name, "fail", f"{folder} cannot be written", "choose another folder in the settings")
        elif free < 5 * _GIB:
            hint = "make room: rasters and weights need some GiB"
            yield Check(name, "fail" if free < _GIB else "warn", detail, hint)
        else:
            yield Check(name, "ok", detail)


def _cards(settings: Any) -> Iterator[Check]:
    there = [str(f) for f in settings.card_folders if Path(f).is_dir()]
    if there:
        yield Check("model cards", "ok", ", ".join(there))
    else:
        yield Check("model cards", "fail", "no folder of model cards", "run from the clone, or set SWATHE_MODELS_DIR")


def _limits(_: Any) -> Iterator[Check]:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if files < 4096:  # noqa: PLR2004  what Ray asks for
        yield Check("open files", "warn", f"at most {files}", "ulimit -n 65536")
    if not _writable(Path(tempfile.gettempdir())):
        yield Check("temporary folder", "fail", f"{tempfile.gettempdir()} cannot be written", "set TMPDIR")


def _ray(settings: Any) -> Iterator[Check]:
    from cluster import head, reach

    address = settings.ray_address
    if address and address.startswith(("http://", "https://")):
        status, _ = reach.get_json(f"{address.rstrip('/')}/api/version")
        meaning = {0: "nothing answers", 401: "it wants a token", 403: "it wants another token"}
        yield _reached(address, status in (200, 401, 403), meaning.get(status, f"a dashboard (HTTP {status})"))
    elif address and address != "auto":
        up = reach.answers(address)
        yield _reached(address, up, "it answers" if up else "nothing answers")
    elif kept := head.living(settings.data_dir):
        yield Check("ray", "ok", f"running at {kept.address}, dashboard {kept.dashboard}")
    else:
        yield Check("ray", "ok", "none is kept running: a run starts its own")


def _reached(address: str, up: bool, detail: str) -> Check:
    hint = "" if up else "unset RAY_ADDRESS to run on this machine alone"
    return Check("ray", "ok" if up else "fail", f"{address}: {detail}", hint)


_CHECKS: tuple[Callable[[Any], Iterator[Check]], ...] = (
    _packages,
    _gdal,
    _cores,
    _memory,
    _gpu,
    _shared_memory,
    _disk,
    _cards,
    _limits,
    _scripts,
    _ray,
)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _writable(folder: Path) -> bool:
    """Whether a file can be made there, or in the nearest parent that exists; nothing stays behind."""
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return True
    except OSError:
        return False


def _print(checks: list[Check], shown: Mapping[str, Any]) -> None:
    for check in checks:
        typer.secho(f"{check.level:4} ", fg=_COLOURS[check.level], nl=False)
        typer.echo(f"{check.name:16} {check.detail}" + (f" — {check.hint}" if check.hint else ""))
    typer.echo("\nsettings")
    for name, value in (shown["settings"] or {}).items():
        typer.echo(f"     {name:16} {value if isinstance(value, str) else json.dumps(value)}")
