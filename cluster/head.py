"""A Ray of one's own that stays: start it once, run against it many times, stop exactly it.

What is known of it is one file, ``<data_dir>/cluster/head.json``: there is at most one per data folder, and none of
the commands here touches a Ray that is not recorded there.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import psutil

from cluster import atomic, environment, reach, scratch
from cluster.environment import AuthMode
from cluster.processes import outlived
from swathe.errors import ClusterError

READY_S = 180
"""Ray is up in 10 to 20 s on two idle cores; a busy machine takes several times that."""
GRACE_S = 20
_DASHBOARD_PORT = 8265
_LEAN_PROGRAM = """
import sys
sys.modules.update(dict.fromkeys(("ray.serve", "pandas", "pyarrow")))
import ray._private.utils
ray._private.utils.get_ray_client_dependency_error = lambda: ImportError("not wanted")
from ray.scripts.scripts import main
main()
"""
"""``ray start`` without libraries that it has no use for: it stays as long as Ray does, and they are half of it. Told
that Ray Client is not installed, it starts no server for it; there is no option for that."""
SLOW = "timed out during startup"
"""Ray's words for a node that was not there within 30 s, which nothing sets."""
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception): \S")


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """A Ray to be started."""

    data_dir: Path
    """Where its record, log and token lie."""
    cpus: float | None = None
    """Logical cores; None: those of the machine."""
    gpus: int | None = None
    """GPUs; None: those that Ray finds."""
    port: int | None = None
    """Of Ray itself; None: any free one."""
    dashboard_port: int | None = None
    """Of dashboard and job submission; None: 8265, or any where that is taken."""
    object_store_mb: int = 128
    """Shared memory; only coordinates and receipts travel through it."""
    auth: AuthMode = "disabled"
    """``token``: only holders of ``<data_dir>/cluster/token`` may use it. It listens on 127.0.0.1 either way."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For all its processes, such as credentials of an object store."""
    lean: bool = False
    """Without three processes of 50 MB each (Ray Client's server, the autoscaler's monitor, and what carries workers'
    output to drivers' terminals; it stays in the log files), and without what ``ray start`` itself has no use for."""


@dataclass(frozen=True, slots=True)
class Head:
    """A Ray that we started, as recorded."""

    pid: int
    """Of the process that the others die with."""
    started: float
    """When that process was born (seconds since 1970); with ``pid`` it names the process for good."""
    address: str
    """host:port of Ray."""
    dashboard: str
    """URL of dashboard and job submission."""
    folder: Path
    """Ray's own files: sessions, logs, sockets."""
    log: Path
    """What ``ray start`` said."""
    auth: AuthMode
    """How it is guarded."""
    token_file: Path | None
    """Where the token lies; None without one."""
    processes: tuple[tuple[int, float], ...] = ()
    """(pid, birth) of its daemons, to clean up after a crash."""

    @property
    def alive(self) -> bool:
        """Whether its first process still runs (not another one that was given the number)."""
        return _process(self.pid, self.started) is not None

    @property
    def token(self) -> str | None:
        """The secret that it wants to see; None where it wants none."""
        return self.token_file.read_text().strip() if self.token_file else None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready; never the token itself."""
        values = asdict(self)
        return values | {k: str(v) for k, v in values.items() if isinstance(v, Path)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of ``as_dict``; raises TypeError or KeyError for anything else."""
        token = values["token_file"]
        return cls(
            **dict(values)
            | {
                "folder": Path(values["folder"]),
                "log": Path(values["log"]),
                "token_file": Path(token) if token else None,
                "processes": tuple((int(p), float(b)) for p, b in values["processes"]),
            }
        )


def recorded(data_dir: Path) -> Head | None:
    """The head this data folder knows of, alive or not; None: never started, stopped, or an unreadable record."""
    try:
        return Head.from_dict(json.loads((home(data_dir) / "head.json").read_text()))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def living(data_dir: Path) -> Head | None:
    """The head this data folder knows of, if it runs and answers."""
    head = recorded(data_dir)
    return head if head and head.alive and reach.answers(head.address) else None


def home(data_dir: Path) -> Path:
    """Folder of all that is kept about Ray."""
    return data_dir / "cluster"


def start(spec: HeadSpec) -> Head:
    """Start a Ray that outlives this process; a second call gives back the first one's.

    Raises ClusterError with the reason and the log where it does not come up, OutputError (``output.full``) where there
    is no room for its record; then nothing is left running, as nobody would know of it.
    """
    with _alone(spec.data_dir):
        running = living(spec.data_dir)
        if running:
            return running
        _clear(spec.data_dir)
        atomic.expect_room(home(spec.data_dir))
        head = _launch(spec)
        try:
            atomic.write(home(spec.data_dir) / "head.json", json.dumps(head.as_dict(), indent=1))
        except BaseException:
            _undo(head)
            raise
        return head


def stop(data_dir: Path, *, keep_logs: bool = False, grace_s: float = GRACE_S) -> bool:
    """Stop the recorded Ray, by the ids of its processes, and forget it; False where there was none."""
    with _alone(data_dir):
        head = recorded(data_dir)
        if head is None:
            return False
        found = head.alive
        _end(head, grace_s)
        (home(data_dir) / "head.json").unlink(missing_ok=True)
        if not keep_logs:
            scratch.remove(head.folder)
        return found


def usage(head: Head) -> dict[str, tuple[float, float]]:
    """(in use, in all) of ``CPU``, ``GPU``, ``memory`` and what else it counts; empty while it does not say."""
    _, answer = reach.get_json(f"{head.dashboard}/api/cluster_status", head.token)
    try:
        report = answer["data"]["clusterStatus"]["loadMetricsReport"]["usage"]
        return {name: (float(used), float(total)) for name, (used, total) in report.items() if ":" not in name}
    except (KeyError, TypeError, ValueError):
        return {}


def ensure_token(data_dir: Path) -> Path:
    """The file with this data folder's token, readable by its owner alone; made at the first call.

    Raises OutputError (``output.full``), ClusterError (``cluster.data_dir``).
    """
    file = home(data_dir) / "token"
    if not file.is_file():
        atomic.write(file, secrets.token_hex(32))
    return file


def _launch(spec: HeadSpec) -> Head:
    """Start it, and again where that may help: the port of its dashboard was lost to another program, say."""
    if spec.dashboard_port:
        return _launch_at(spec, _asked(spec.dashboard_port, "dashboard_port"))
    for preferred in (_DASHBOARD_PORT, 0):
        with suppress(_AgainError):
            return _launch_at(spec, reach.free_port(preferred=preferred))
    return _launch_at(spec, reach.free_port())


def _launch_at(spec: HeadSpec, dashboard: int) -> Head:
    port = _asked(spec.port, "port") if spec.port else 0  # 0: Ray finds one itself
    token = ensure_token(spec.data_dir) if spec.auth == "token" else None
    values = environment.variables(spec.environment, loopback=True, auth=spec.auth, token_file=token)
    log = home(spec.data_dir) / "head.log"
    with atomic.told(log.parent):
        sink = log.open("wb")
    with sink:
        folder = scratch.make()
        child = subprocess.Popen(
            _command(spec, folder, port, dashboard),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=_inherited() | values,
        )
    head = Head(
        pid=child.pid,
        started=scratch.birth(child.pid),
        address="",
        dashboard=f"http://{reach.LOOPBACK}:{dashboard}",
        folder=folder,
        log=log,
        auth=spec.auth,
        token_file=token,
    )
    try:
        address = _await(child, head)
    except BaseException:
        _end(head, grace_s=5)
        raise
    try:
        scratch.give(folder, child.pid)
    except BaseException:
        _undo(head)
        raise
    return replace(head, address=address, processes=tuple((p.pid, scratch.birth(p.pid)) for p in _family(head)))


def _command(spec: HeadSpec, folder: Path, port: int, dashboard: int) -> list[str]:
    options: dict[str, object] = {
        "node-ip-address": reach.LOOPBACK,
        "port": port,
        "dashboard-host": reach.LOOPBACK,
        "dashboard-port": dashboard,
        # The defaults of these two are fixed numbers: a second Ray on the machine could take no jobs.
        "dashboard-agent-listen-port": 0,
        "ray-client-server-port": None if spec.lean else reach.free_port(),
        "include-log-monitor": "false" if spec.lean else None,
        "include-dashboard": "true",
        "object-store-memory": spec.object_store_mb << 20,
        "temp-dir": folder,
        "num-cpus": None if spec.cpus is None else f"{spec.cpus:g}",
        "num-gpus": spec.gpus,
        "log-color": "false",
    }
    given = [f"--{name}={value}" for name, value in options.items() if value is not None]
    given += ["--no-monitor"] if spec.lean else []
    program = ["-c", _LEAN_PROGRAM] if spec.lean else ["-m", "ray.scripts.scripts"]
    return [sys.executable, *program, "start", "--head", "--block", "--disable-usage-stats", *given]


def _inherited() -> dict[str, str]:
    """Our environment without RAY_ADDRESS: it would be the address of another Ray."""
    return {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}


def _asked(port: int, field: str) -> int:
    """``port``, if nobody has it yet."""
    if reach.free_port(preferred=port) != port:
        hint = "choose another, or leave it out"
        raise ClusterError(f"port {port} is taken", hint=hint, field=field, code="cluster.port")
    return port


def _await(child: subprocess.Popen[bytes], head: Head) -> str:
    """The address, once Ray has said it and its dashboard answers."""
    limit = time.monotonic() + READY_S
    said = head.folder / "ray_current_cluster"
    while time.monotonic() < limit:
        if child.poll() is not None:
            raise _failure(head, "Ray did not start")
        if said.is_file() and reach.get_json(f"{head.dashboard}/api/version", head.token)[0] == 200:  # noqa: PLR2004
            return said.read_text().strip()
        time.sleep(0.2)
    raise _failure(head, f"Ray was not ready after {READY_S} s")


class _AgainError(ClusterError):
    """Another start may go well: a port was free a moment ago, or the machine was too busy for Ray's patience."""


def _failure(head: Head, what: str) -> ClusterError:
    """The last exception in the log, else its last line."""
    text = head.log.read_text(errors="replace")
    lines = [x.strip() for x in text.splitlines() if x.strip()]
    named = [x for x in lines if _EXCEPTION.match(x)]
    reason = (named or lines or ["it said nothing"])[-1]
    lost = "address already in use" in text or "already occupied" in text
    kind = _AgainError if lost or SLOW in text else ClusterError
    return kind(f"{what}: {reason[:300]}", hint=f"see {head.log} and {head.folder}", code="cluster.start")


def _end(head: Head, grace_s: float) -> None:
    """Ask, wait, then kill: the head's own processes and no others."""
    leader = _process(head.pid, head.started)
    family = _family(head)
    if leader:
        with suppress(psutil.Error):
            leader.terminate()
        outlived([leader], grace_s)
    left = outlived(family, grace_s / 4)
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    outlived(left, grace_s / 4)


def _undo(head: Head) -> None:
    """End what was started a moment ago; its files tell nothing that anybody needs."""
    _end(head, grace_s=5)
    scratch.remove(head.folder)


def _family(head: Head) -> list[psutil.Process]:
    """The leader, all that descends from it now, and the daemons recorded at the start."""
    leader = _process(head.pid, head.started)
    kin = [leader] if leader else []
    with suppress(psutil.Error):
        kin += leader.children(recursive=True) if leader else []
    kin += [p for p in (_process(*known) for known in head.processes) if p]
    return list({p.pid: p for p in kin}.values())


def _process(pid: int, born: float) -> psutil.Process | None:
    """The process with this id and birth; None where it is gone, or the id is another's now."""
    with suppress(psutil.Error):
        return psutil.Process(pid) if abs(scratch.birth(pid) - born) < 1 else None
    return None


def _clear(data_dir: Path) -> None:
    """Tidy up after a head that died: what is left of its processes and files."""
    head = recorded(data_dir)
    if head:
        _end(head, GRACE_S)
        scratch.remove(head.folder)


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """One start or stop at a time per data folder."""
    folder = home(data_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise ClusterError(
            f"cannot write to {folder}: {error.strerror}", hint="choose another data folder", code="cluster.data_dir"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
