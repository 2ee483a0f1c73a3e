"""The keeper: starts Ray, gives it the service, and brings back what dies, until it is told to stop.

A process of its own that knows Ray by its command line and its REST interface alone, so that it is small and outlives
everything it looks after. What it cannot bring back it goes on trying: jobs lie in the store and wait.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from cluster import head, reach
from cluster.environment import AuthMode
from cluster.head import Head, HeadSpec
from serve import structured
from serve.deployments import record
from serve.deployments.giving import put, what_fails
from serve.deployments.proxy import HOOK
from serve.deployments.record import Up
from swathe.errors import ClusterError, SwatheError

READY_S = 480
"""The first answer comes after 25 s on two idle cores; a busy machine takes several times that."""
LOOK_S = 2.0
"""Between two looks."""
PATIENCE_S = 30.0
"""Of silence before the service is given to Ray again: Serve brings back its own actors in less."""
LAST_S = 180.0
"""Of silence before Ray itself is started anew."""
_GRACE_S = 6.0
"""For Ray to end by itself. If it does not, nothing is lost: receipts say what is done, the store what is to do."""
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "serve.yaml"
_OK = 200
_SLOW_S = 20.0
"""An answer may take so long on a machine with too much to do: a new Ray would only add to that."""
_log = logging.getLogger("swathe.keeper")

SMALL: dict[str, str] = {
    # Workers beyond those in use end after a second instead of waiting, two per core, for work that does not come.
    "RAY_num_workers_soft_limit": "1",
    "RAY_idle_worker_killing_time_threshold_ms": "1000",
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
    # Of glibc: threads share two heaps instead of having eight per core, most of each unused.
    "MALLOC_ARENA_MAX": "2",
}
"""What keeps an idle Ray small."""


@dataclass(frozen=True, slots=True)
class KeepSpec:
    """A service to be kept up."""

    data_dir: Path
    """Where everything of it lies."""
    host: str = reach.LOOPBACK
    """Interface of the API; Ray itself never listens beyond 127.0.0.1."""
    port: int = 8000
    """Of the API."""
    dashboard_port: int | None = None
    """None: 8265, or any where that is taken."""
    cpus: float | None = None
    """Logical cores; None: those of the machine."""
    gpus: int | None = None
    """None: those that Ray finds."""
    auth: AuthMode = "disabled"
    """Whether Ray and its dashboard ask for a token."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For all processes of the service."""

    @property
    def url(self) -> str:
        """Of the API, for programs on this machine."""
        anywhere = self.host in {"0.0.0.0", "::"}  # noqa: S104  compared, not bound
        host = reach.LOOPBACK if anywhere else self.host
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    @property
    def head(self) -> HeadSpec:
        """Its Ray: another one than ``swathe cluster start`` keeps, so that neither stops the other."""
        return HeadSpec(
            record.folder_of(self.data_dir), self.cpus, self.gpus, dashboard_port=self.dashboard_port,
            auth=self.auth, environment=SMALL | HOOK | dict(self.environment), lean=True,
        )  # fmt: skip

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"data_dir": str(self.data_dir), "host": self.host, "port": self.port, "cpus": self.cpus,
                "dashboard_port": self.dashboard_port, "gpus": self.gpus, "auth": self.auth,
                "environment": dict(self.environment)}  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> KeepSpec:
        """The inverse of ``as_dict``."""
        found: dict[str, Any] = {**values, "data_dir": Path(values["data_dir"])}
        return cls(**found)


def config_of(spec: KeepSpec) -> dict[str, Any]:
    """The Serve config of the repository, at this host and port."""
    config = yaml.safe_load(CONFIG.read_text())
    config["http_options"] |= {"host": spec.host, "port": spec.port}
    return config


def expect_free(spec: KeepSpec) -> None:
    """Raises ClusterError (``up.port``) where somebody listens at the API's port already."""
    family = socket.AF_INET6 if ":" in spec.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((spec.host, spec.port))
        except OSError as error:
            raise ClusterError(f"port {spec.port} of {spec.host} cannot be had: {error.strerror}", field="port",
                               hint="choose another with --port or SWATHE_PORT", code="up.port") from None  # fmt: skip


class Keeper:
    """One service, from its start to its end."""

    def __init__(self, spec: KeepSpec, announce: Callable[[Up], None] = lambda _: None) -> None:
        """``announce`` is called once, when the service answers."""
        self.spec, self._announce = spec, announce
        self._stop = threading.Event()
        self._up = Up.of_this_process(spec.url)
        self._head: Head | None = None
        self._noted = True

    def stop(self, *_: object) -> None:
        """End it; may be called by a signal."""
        self._stop.set()

    def run(self) -> None:
        """Start, announce, watch; returns after ``stop``. Raises SwatheError where it does not come up."""
        with record.alone(self.spec.data_dir):
            try:
                self._begin()
                self._watch()
            except SwatheError as error:
                self._try_to_note(state=record.FAILED, problem=error.problem.as_dict())
                raise
            finally:
                failed = self._up.state == record.FAILED
                head.stop(record.folder_of(self.spec.data_dir), keep_logs=failed, grace_s=_GRACE_S)
                if not failed:
                    record.forget(self.spec.data_dir)

    def _begin(self) -> None:
        self._note()
        if head.living(record.folder_of(self.spec.data_dir)) is None:
            expect_free(self.spec)
        self._raise_up()
        self._await_ready()
        if not self._stop.is_set():
            self._note(state=record.READY)
            self._announce(self._up)

    def _raise_up(self) -> None:
        """A Ray, and the service on it; what runs already is taken over."""
        self._head = head.start(self.spec.head)
        self._try_to_note(dashboard=self._head.dashboard)
        put(self._head, config_of(self.spec))

    def _await_ready(self) -> None:
        limit = time.monotonic() + READY_S
        while not self._stop.wait(0.5):
            if reach.get_json(f"{self.spec.url}/health/readyz")[0] == _OK:
                return
            if self._head is not None and not self._head.alive:
                raise ClusterError("Ray ended while the service was starting", code="up.failed",
                                   hint=f"see {self._head.log} and {self._head.folder}")  # fmt: skip
            why = what_fails(self._head) if self._head else ""
            if why or time.monotonic() > limit:
                raise self._silent(why)

    def _silent(self, why: str) -> ClusterError:
        hint = f"see {self._head.folder}/session_latest/logs/serve" if self._head else ""
        late = f"not ready in {READY_S} s; what was missing stands at {self.spec.url}/health/readyz"
        return ClusterError(f"the service does not come up: {why or late}",
                            hint=hint, code="up.failed")  # fmt: skip

    # --- watching -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        heard, given = time.monotonic(), 0.0
        while not self._stop.wait(LOOK_S):
            if self._answers():
                heard = time.monotonic()
                if not self._noted:
                    self._try_to_note()
                continue
            silence = time.monotonic() - heard
            if self._head is None or not self._head.alive or silence > LAST_S:
                self._again()
                heard = time.monotonic()
            elif silence > PATIENCE_S and time.monotonic() - given > PATIENCE_S:
                given = time.monotonic()
                self._give()

    def _answers(self) -> bool:
        """Whether Ray lives and the API says that it does."""
        alive = self._head is not None and self._head.alive
        return alive and reach.get_json(f"{self.spec.url}/health/livez", timeout=_SLOW_S)[0] == _OK

    def _give(self) -> None:
        _log.warning("the service does not answer: given to Ray again")
        try:
            put(self._head, config_of(self.spec)) if self._head else None
        except SwatheError as error:
            _log.warning("%s", error.problem.line())

    def _again(self) -> None:
        """A new Ray in the place of one that died. What prevents it is told, and tried again by the next look."""
        _log.warning("Ray is gone: started again")
        try:
            head.stop(record.folder_of(self.spec.data_dir), grace_s=_GRACE_S)
            self._await_port()
            self._raise_up()
            self._try_to_note(restarts=self._up.restarts + 1)
        except (SwatheError, OSError) as error:
            self._head = None
            _log.warning("%s", error.problem.line() if isinstance(error, SwatheError) else error)

    def _await_port(self) -> None:
        """The dead proxy's last breath may hold it for some seconds."""
        for _ in range(60):
            try:
                expect_free(self.spec)
            except ClusterError:
                if self._stop.wait(0.5):
                    return
            else:
                return

    def _note(self, **values: Any) -> None:
        """What happened, in the record. Raises OutputError, ClusterError where it cannot be kept."""
        self._up = replace(self._up, **values)
        record.write(self.spec.data_dir, self._up)
        self._noted = True

    def _try_to_note(self, **values: Any) -> None:
        """The same, for a service that is worth more than its record: noted when there is room again."""
        try:
            self._note(**values)
        except SwatheError as error:
            if self._noted:
                _log.warning("what happens cannot be recorded: %s", error.problem.line())
            self._noted = False


def main() -> None:
    """``python -m serve.deployments.keeper``, detached: the spec comes by standard input, what is said goes to a log.

    The spec may hold credentials for Ray's processes, and arguments of a process are public.
    """
    import signal

    keeper = Keeper(KeepSpec.from_dict(json.load(sys.stdin)))
    signal.signal(signal.SIGTERM, keeper.stop)
    signal.signal(signal.SIGINT, keeper.stop)
    structured.install()
    try:
        keeper.run()
    except SwatheError as error:
        _log.error("%s", error.problem.line())
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
