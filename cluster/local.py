"""One way to have a Ray: the one that was named, else the one that we keep running, else one for this program alone."""

from __future__ import annotations

import importlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import environment, head, reach, scratch
from cluster.environment import AuthMode
from cluster.head import Head
from cluster.resources import Node
from swathe.errors import ClusterError, InputError, Interrupted

_FEW_TRIES = {"RAY_NUM_REDIS_GET_RETRIES": "1"}
"""By default Ray tries for 13 minutes to join a Ray that answers but will not have us."""
_ELSEWHERE = "use --submit with its dashboard's URL, or run on one of its machines"
_KNOWN = (
    (
        "uthentication",
        "cluster.auth",
        "the token is missing or wrong",
        "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH",
    ),
    ("ersion mismatch", "cluster.version", "", "run from the environment or image that the cluster runs"),
    ("find a local Raylet", "cluster.elsewhere", "this machine is not part of it", _ELSEWHERE),
    ("No node info found", "cluster.elsewhere", "this machine is not part of it", _ELSEWHERE),
    ("GPU", "cluster.gpus", "", "ask for no more GPUs than `swathe doctor` lists"),
)
"""Word in Ray's message, our code, our words for it (empty: Ray's own), what to do."""


@dataclass(frozen=True, slots=True)
class ClusterSpec:
    """Which Ray a run wants."""

    data_dir: Path
    """Where the record of a kept Ray and our token lie."""
    address: str | None = None
    """host:port of a Ray that runs, ``auto`` for the one of this machine; None: ours, or a new one."""
    cpus: float | None = None
    """Logical cores of a new Ray; None: those of the machine. Ignored when attaching."""
    gpus: int | None = None
    """GPUs of a new Ray; None: those that Ray finds. Ignored when attaching."""
    object_store_mb: int = 128
    """Shared memory of a new Ray; only coordinates and receipts travel through it."""
    dashboard: bool = True
    """Whether a new Ray has a dashboard; it takes 5 s of start-up and some memory."""
    dashboard_port: int | None = None
    """None: 8265, or any where that is taken."""
    auth: AuthMode | None = None
    """None: a new Ray is open to this machine (it listens on 127.0.0.1 alone), a named one is met as the
    environment says. ``token``: a new Ray asks for our token, see docs/cluster.md."""
    workers_to_terminal: bool = False
    """Whether what workers print comes to this terminal; it is in Ray's log folder anyway."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For the processes of a new Ray."""
    wait_s: float = 300
    """Patience for the first worker of a cluster that is just growing."""


@dataclass(frozen=True, slots=True)
class Session:
    """A connection to Ray, and what is there."""

    address: str
    """host:port of Ray."""
    dashboard: str
    """URL; empty where there is none."""
    nodes: tuple[Node, ...]
    """The machines that were there at the start."""
    started: bool
    """Whether this program started it, and so stops it."""
    logs: Path | None
    """Ray's log folder on this machine; None where unknown."""

    @property
    def cpus(self) -> float:
        """Logical cores of all nodes."""
        return sum(n.cpus for n in self.nodes)

    @property
    def gpus(self) -> float:
        """GPUs of all nodes."""
        return sum(n.gpus for n in self.nodes)


@contextmanager
def connect(spec: ClusterSpec) -> Iterator[Session]:
    """A Ray to work with, for as long as the context lasts; on leaving, what was started here is stopped.

    In a program that is connected already, that connection is used and left alone. Raises ClusterError
    (``cluster.start``, ``.unreachable``, ``.address``, ``.elsewhere``, ``.version``, ``.auth``, ``.empty``).
    """
    if _connected():
        yield _describe(started=False, wait_s=0)
        return
    kept = head.living(spec.data_dir) if spec.address in (None, "auto") or _ours(spec) else None
    if kept is None and spec.address is None:
        with _new(spec) as session:
            yield session
        return
    with _attached(spec, kept) as session:
        yield session


@contextmanager
def _new(spec: ClusterSpec) -> Iterator[Session]:
    """A Ray that lives as long as the context."""
    folder = scratch.make()
    try:
        with _started(spec, folder) as session:
            yield session
    except (KeyboardInterrupt, SystemExit, Interrupted, InputError):
        scratch.remove(folder)
        raise
    # Any other exception leaves Ray's logs, until the next start, for whoever has to find out why.
    scratch.remove(folder)


@contextmanager
def _started(spec: ClusterSpec, folder: Path) -> Iterator[Session]:
    token = head.ensure_token(spec.data_dir) if spec.auth == "token" else None
    values = environment.variables(spec.environment, loopback=True, auth=spec.auth or "disabled", token_file=token)
    arguments = {
        "address": "local",
        "num_cpus": spec.cpus,
        "num_gpus": spec.gpus,
        "object_store_memory": spec.object_store_mb << 20,
        "include_dashboard": spec.dashboard,
        "dashboard_host": reach.LOOPBACK,
        # Left open, Ray goes on to the next port where another Ray takes 8265 in the same moment.
        "dashboard_port": spec.dashboard_port,
        "_temp_dir": str(folder),
    }
    with environment.applied(values), _initialised(arguments, spec, folder / "start.log"):
        session = _describe(started=True, wait_s=spec.wait_s)
        _stay_private(session)
        yield session


@contextmanager
def _attached(spec: ClusterSpec, kept: Head | None) -> Iterator[Session]:
    address = kept.address if kept else _checked(spec.address or "auto")
    auth, token = (kept.auth, kept.token_file) if kept else (spec.auth, None)
    values = environment.variables(_FEW_TRIES, loopback=_on_loopback_alone(address), auth=auth, token_file=token)
    log = head.home(spec.data_dir) / "attach.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with environment.applied(values), _initialised({"address": address}, spec, log):
        yield _describe(started=False, wait_s=spec.wait_s)


@contextmanager
def _initialised(arguments: Mapping[str, Any], spec: ClusterSpec, log: Path) -> Iterator[None]:
    """``ray.init`` .. ``ray.shutdown``, quiet, with our errors, and with SIGTERM as the caller had it."""
    import ray

    with _own_sigterm() as take_back:
        try:
            with environment.hushed(log):
                _init({**arguments, "logging_level": logging.ERROR, "log_to_driver": spec.workers_to_terminal})
        except BaseException as error:
            ray.shutdown()
            if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
                raise
            raise _explained(error, arguments["address"], log) from error
        take_back()
        try:
            yield
        finally:
            ray.shutdown(wait_for_processes=True)


def _init(arguments: Mapping[str, Any]) -> None:
    """``ray.init``, and once more where the machine was too busy for Ray's patience."""
    import ray

    try:
        ray.init(**arguments)
    except Exception as error:
        if head.SLOW not in str(error):
            raise
        ray.shutdown()
        ray.init(**arguments)


def _explained(error: BaseException, address: str, log: Path) -> ClusterError:
    """Ray's exceptions in our words."""
    new = address == "local"
    what = "Ray did not start" if new else f"no connection to Ray at {address}"
    said = " ".join(" ".join(map(str, _chain(error))).split()) or type(error).__name__
    for word, code, meaning, hint in _KNOWN:
        if word in said:
            return ClusterError(f"{what}: {meaning or said[:300]}", hint=hint, code=code)
    hint = f"see {log.parent}; `swathe doctor` checks this machine" if new else f"is it running? see {log}"
    return ClusterError(f"{what}: {said[:300]}", hint=hint, code="cluster.start" if new else "cluster.unreachable")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _checked(address: str) -> str:
    """An address that Ray Data can be driven through, and where something answers."""
    if "://" in address:
        kind = "a Ray Client address" if address.startswith("ray:") else "a dashboard's URL"
        raise ClusterError(
            f"{address} is {kind}",
            hint="give host:port of a Ray that this machine is part of, or use --submit with the dashboard's URL",
            field="address",
            code="cluster.address",
        )
    if address != "auto" and reach.split(address) is None:
        raise ClusterError(
            f"{address!r} is no host:port", hint="for example 10.0.0.5:6379", field="address", code="cluster.address"
        )
    if address != "auto" and not reach.answers(address, timeout=5):
        raise ClusterError(
            f"nothing answers at {address}",
            hint="start one with `swathe cluster start`, or leave the address out to run on this machine alone",
            field="address",
            code="cluster.unreachable",
        )
    return address


def _on_loopback_alone(address: str) -> bool:
    """Whether that Ray listens on 127.0.0.1 only: Ray itself would look for it at the machine's outward address."""
    parts = reach.split(address)
    return reach.is_loopback(address) and not (parts and reach.answers(f"{reach.outward_host()}:{parts[1]}", 1))


def _describe(*, started: bool, wait_s: float) -> Session:
    worker: Any = importlib.import_module("ray._private.worker")
    node = worker._global_node  # noqa: SLF001  Ray has no public word for its dashboard and its log folder
    url = node.webui_url or ""
    return Session(
        address=node.gcs_address,
        dashboard=f"http://{url}" if url and "://" not in url else url,
        nodes=_nodes(wait_s),
        started=started,
        logs=Path(node.get_logs_dir_path()),
    )


def _nodes(wait_s: float) -> tuple[Node, ...]:
    """The living nodes, once one of them has a core to offer; those without are kept in the list."""
    import ray

    limit = time.monotonic() + wait_s
    while True:
        found = tuple(_node(n["Resources"]) for n in ray.nodes() if n["Alive"])
        if any(n.cpus for n in found) or time.monotonic() >= limit:
            return found
        time.sleep(1)


def _node(resources: Mapping[str, float]) -> Node:
    return Node(resources.get("CPU", 0.0), resources.get("GPU", 0.0), int(resources.get("memory", 0)))


def _stay_private(session: Session) -> None:
    """A Ray that we start without a token must not be on the network, where it would run anybody's code."""
    if not session.address.startswith(f"{reach.LOOPBACK}:"):
        raise ClusterError(
            f"Ray listens at {session.address} instead of {reach.LOOPBACK}",
            hint="let swathe import ray, or set RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0 before your program does",
            code="cluster.open",
        )


def _connected() -> bool:
    """Whether this program has a connection; asked without importing Ray where nobody has."""
    loaded: Any = sys.modules.get("ray")
    return loaded is not None and loaded.is_initialized()


def _ours(spec: ClusterSpec) -> bool:
    """Whether the address named is the one of the Ray that we keep."""
    kept = head.recorded(spec.data_dir)
    return bool(kept and spec.address and reach.same(spec.address, kept.address))


@contextmanager
def _own_sigterm() -> Iterator[Callable[[], object]]:
    """``ray.init`` takes SIGTERM for itself, in Python and below; what is given takes it back.

    A caller who had no handler gets one that leaves by ``SystemExit(143)``, so that Ray is stopped on the way out.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    before = signal.getsignal(signal.SIGTERM)
    wanted = _leave if before in (signal.SIG_DFL, None) else before
    try:
        yield lambda: signal.signal(signal.SIGTERM, wanted)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _leave(number: int, _: object) -> None:
    sys.exit(128 + number)
