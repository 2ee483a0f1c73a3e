"""Runs as Ray jobs: they go on without the terminal that sent them, and the same run sent twice is one job."""

from __future__ import annotations

import asyncio
import logging
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cluster import environment, head, reach
from swathe.errors import FAILED, INTERRUPTED, OK, ClusterError, InputError

Place = Literal["here", "image", "upload"]

_PREFIX = "swathe"
_COMMAND = "swathe.command"
_OURS = re.compile(rf"^{_PREFIX}-(?P<key>[0-9a-zA-Z]+)-a(?P<attempt>\d+)$")
_LAST_OF_RAY = re.compile(r"Running entrypoint for job ")
_OF_RAY = re.compile(r"Running entrypoint for job |[-\d]+ [:,\d]+\tINFO job_manager\.py:")
_KEY_LENGTH = 16
_NOT_UPLOADED = [".git", ".venv", "tests", "docs", "benchmarks", "out", "demo", "*.tif", "*.tiff", "*.parquet"]
_RECONNECTS = 5
_SETTLE_S = 30


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Where jobs are sent."""

    url: str
    """http(s)://host:port of Ray's dashboard."""
    token: str | None = field(default=None, repr=False)
    """For a Ray that we keep; a foreign one's is found by Ray itself (RAY_AUTH_TOKEN and its kin)."""
    here: bool = False
    """Whether it is the Ray of this machine that we keep: same files, same Python."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """A command to be run on a cluster."""

    arguments: tuple[str, ...]
    """Of the ``swathe`` command, e.g. ``("run", "--model", …)``; paths must mean something where it runs."""
    key: str
    """Names the run: same key, same job."""
    place: Place | None = None
    """``here``: this machine's Python and folder; ``image``: the ``swathe`` of the cluster's image; ``upload``: this
    clone is sent along, for images that hold the dependencies alone. None: here for our own Ray, else image."""
    cwd: Path = field(default_factory=Path.cwd)
    """Where the command starts (``here``), or the clone that is sent (``upload``)."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """For the job's processes. Shown in the dashboard: secrets belong into the cluster's own environment."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Shown in the dashboard."""
    module: str = _COMMAND
    """What is run as ``python -m``; by default the ``swathe`` command."""


@dataclass(frozen=True, slots=True)
class Job:
    """A job, as the cluster sees it."""

    id: str
    """``swathe-<key>-a<attempt>``."""
    status: str
    """pending, running, succeeded, failed or stopped."""
    message: str = ""
    """What Ray says about it, in a line."""
    driver_exit_code: int | None = None
    """Of the command, where it came to an end by itself."""
    fresh: bool = False
    """Whether the call that gave this value started it."""

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in ("succeeded", "failed", "stopped")

    @property
    def exit_code(self) -> int:
        """What a command that waited for it exits with: the job's own code where there is one."""
        if self.status == "stopped":
            return INTERRUPTED
        if self.status == "succeeded":
            return OK
        return self.driver_exit_code if self.driver_exit_code and self.driver_exit_code > 0 else FAILED


def dashboard(data_dir: Path, address: str | None = None) -> Dashboard:
    """Where to send jobs: the URL named, else the Ray that we keep. Raises ClusterError where there is neither."""
    if address and address.startswith(("http://", "https://")):
        return Dashboard(address.rstrip("/"))
    kept = head.living(data_dir)
    if kept and (address in (None, "auto") or reach.same(address, kept.address)):
        return Dashboard(kept.dashboard, kept.token, here=True)
    if address and address != "auto":
        raise ClusterError(
            f"{address} is not a dashboard's URL",
            hint="jobs go to the dashboard, for example http://10.0.0.5:8265",
            field="address",
            code="cluster.address",
        )
    raise ClusterError(
        "there is no Ray to send a job to",
        hint="start one with `swathe cluster start`, or name a dashboard: RAY_ADDRESS=http://host:8265",
        code="cluster.none",
    )


def own_dashboard() -> Dashboard:
    """Of the Ray that this process is connected to. Raises ClusterError where there is none."""
    loaded: Any = sys.modules.get("ray._private.worker")
    node = getattr(loaded, "_global_node", None)
    url = getattr(node, "webui_url", "") or ""
    if not url:
        raise ClusterError("Ray has no dashboard, which takes jobs", code="cluster.none",
                           hint="start Ray with its dashboard")  # fmt: skip
    return Dashboard(url if "://" in url else f"http://{url}")


def submit(request: JobRequest, to: Dashboard, *, again: bool = False) -> Job:
    """Send a run, or find the job that it already is.

    A pending, running or succeeded job of the same key is given back as it is; after a failure or a stop, or where
    ``again`` is set (its products are gone), the next attempt is sent, which resumes from the receipts.
    Raises ClusterError, and InputError for arguments that are none.
    """
    if not request.arguments or not request.key.isalnum():
        raise InputError("a job has arguments and an alphanumeric key", code="job")
    key = request.key[:_KEY_LENGTH]
    with _client(to) as client:
        attempts = _attempts(client, key)
        last = attempts[-1] if attempts else None
        if last and (not last.ended or (last.status == "succeeded" and not again)):
            return last
        wanted = f"{_PREFIX}-{key}-a{len(attempts) + 1}"
        try:
            client.submit_job(
                entrypoint=_entrypoint(request, to),
                submission_id=wanted,
                runtime_env=_runtime_env(request),
                metadata={"program": _PREFIX} | dict(request.metadata),
            )
        except RuntimeError:
            # Somebody else may have sent the same run a moment ago.
            if not any(a.id == wanted for a in _attempts(client, key)):
                raise
            return _job(client.get_job_info(wanted))
        return _job(client.get_job_info(wanted), fresh=True)


def follow(job_id: str, at: Dashboard, write: Callable[[str], object]) -> Job:
    """Pass a job's output on to ``write`` until it ends; a lost connection is taken up where it broke off.

    What Ray says before the command speaks is left out. Exceptions of ``write`` come through as they are.
    """
    output = _Output(write)
    try:
        with _client(at) as client:
            _shown(client, job_id, output)
            output.finish()
            return _settled(client, job_id)
    except _NotWrittenError as failure:
        raise failure.reason from None


def state(job_id: str, at: Dashboard) -> Job:
    """How a job is doing. Raises ClusterError for one that is not there."""
    with _client(at) as client:
        return _job(client.get_job_info(job_id))


def logs(job_id: str, at: Dashboard) -> str:
    """All output of a job so far."""
    with _client(at) as client:
        return client.get_job_logs(job_id)


def cancel(job_id: str, at: Dashboard, wait_s: float = 60) -> Job:
    """Ask a job to stop, and wait for it; the chunks that are done stay, so that the run can be resumed."""
    with _client(at) as client:
        if not _job(client.get_job_info(job_id)).ended:
            client.stop_job(job_id)
        return _settled(client, job_id, wait_s)


def listing(at: Dashboard) -> list[Job]:
    """Our jobs on a cluster, by key and attempt."""
    with _client(at) as client:
        return _attempts(client, None)


def _attempts(client: Any, key: str | None) -> list[Job]:
    """Jobs of one key (or of all), first attempt first."""
    found = []
    for details in client.list_jobs():
        named = _OURS.match(details.submission_id or "")
        if named and key in (None, named["key"]):
            found.append((named["key"], int(named["attempt"]), _job(details)))
    return [job for _, _, job in sorted(found, key=lambda f: f[:2])]


def _entrypoint(request: JobRequest, to: Dashboard) -> str:
    """One shell line; ``exec`` so that a stop reaches the command and not a shell in front of it."""
    place = _place(request, to)
    if place == "here":
        command = (sys.executable, "-m", request.module, *request.arguments)
        return f"cd {shlex.quote(str(request.cwd.absolute()))} && exec {shlex.join(command)}"
    by_name = place == "image" and request.module == _COMMAND
    program = ("swathe",) if by_name else ("python", "-m", request.module)
    return f"exec {shlex.join((*program, *request.arguments))}"


def _place(request: JobRequest, to: Dashboard) -> Place:
    return request.place or ("here" if to.here else "image")


def _runtime_env(request: JobRequest) -> dict[str, Any]:
    """Nothing where nothing is needed: workers with an environment of their own cannot be started ahead."""
    env: dict[str, Any] = {"env_vars": dict(request.environment)} if request.environment else {}
    if request.place == "upload":
        env |= {"working_dir": str(request.cwd.absolute()), "excludes": _NOT_UPLOADED}
    return env


def _job(details: Any, *, fresh: bool = False) -> Job:
    return Job(
        id=details.submission_id,
        status=str(details.status).lower(),
        # After a failure the log follows; whoever wants it asks for it.
        message=(details.message or "").partition(", last available logs")[0].strip(),
        driver_exit_code=details.driver_exit_code,
        fresh=fresh,
    )


def _shown(client: Any, job_id: str, output: _Output) -> None:
    """All of a job's log; gives up where the connection is lost several times and nothing came in between."""
    failures, seen = 0, 0
    while True:
        try:
            asyncio.run(_tail(client, job_id, output))
        except (RuntimeError, OSError, _disconnections()):
            if _job(client.get_job_info(job_id)).ended:
                output.take(client.get_job_logs(job_id)[output.seen :])
                return
            failures = failures + 1 if output.seen == seen else 1
            if failures > _RECONNECTS:
                raise
            seen = output.seen
            time.sleep(failures)
        else:
            return


async def _tail(client: Any, job_id: str, output: _Output) -> None:
    """The log from its first character; those that were seen before are skipped."""
    skip = output.seen
    async for text in client.tail_job_logs(job_id):
        output.take(text[skip:])
        skip = max(0, skip - len(text))


class _NotWrittenError(Exception):
    """The reader of the output failed: no fault of the cluster."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class _Output:
    """A job's log on its way to a reader, without Ray's own lines about its start."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self.seen = 0
        self._write = write
        self._started = False
        self._line = ""

    def take(self, text: str) -> None:
        """Pass on what is the command's. Its first lines may come before Ray's last: they share a file."""
        self.seen += len(text)
        if self._started:
            self._pass(text)
            return
        *lines, self._line = (self._line + text).split("\n")
        self._started = any(_LAST_OF_RAY.match(line) for line in lines)
        self._pass("".join(f"{line}\n" for line in lines if not _OF_RAY.match(line)))
        if self._started:
            self.finish()

    def finish(self) -> None:
        """Nothing more will come."""
        self._pass(self._line)
        self._line = ""

    def _pass(self, text: str) -> None:
        try:
            if text:
                self._write(text)
        except Exception as reason:
            raise _NotWrittenError(reason) from reason


def _settled(client: Any, job_id: str, wait_s: float = _SETTLE_S) -> Job:
    """The job once it has ended, or as it is after ``wait_s``: its log ends a moment before it does."""
    limit = time.monotonic() + wait_s
    while True:
        job = _job(client.get_job_info(job_id))
        if job.ended or time.monotonic() >= limit:
            return job
        time.sleep(0.5)


def _disconnections() -> type[Exception]:
    import aiohttp

    return aiohttp.ClientError


@contextmanager
def _client(at: Dashboard) -> Iterator[Any]:
    """Ray's own client, pointed at ``at`` and nowhere else, with our errors."""
    if not at.url.startswith(("http://", "https://")):
        raise ClusterError(f"{at.url} is no URL", hint="for example http://10.0.0.5:8265", code="cluster.address")
    # Ray lets RAY_ADDRESS win over the argument; this variable wins over both.
    with environment.applied({**environment.ALWAYS, "RAY_API_SERVER_ADDRESS": at.url}):
        from ray.exceptions import AuthenticationError
        from ray.job_submission import JobSubmissionClient

        for name in ("job.sdk", "dashboard_sdk"):
            logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
        try:
            yield JobSubmissionClient(at.url, headers={"Authorization": f"Bearer {at.token}"} if at.token else None)
        except AuthenticationError as error:
            hint = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
            raise ClusterError(f"{at.url} does not accept our token", hint=hint, code="cluster.auth") from error
        except (OSError, ValueError) as error:
            hint = "is it running, and can this machine reach it? `swathe cluster status`"
            raise ClusterError(f"no dashboard answers at {at.url}", hint=hint, code="cluster.unreachable") from error
        except RuntimeError as error:
            raise _refused(error, at) from error


def _refused(error: RuntimeError, at: Dashboard) -> ClusterError:
    said = " ".join(str(error).split())
    if "does not exist" in said:
        return ClusterError(f"{at.url} knows no such job", hint="`swathe cluster jobs` lists them", code="job.unknown")
    return ClusterError(f"{at.url} refused: {said[-300:]}", hint="see its dashboard", code="cluster.job")
