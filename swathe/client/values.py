"""What a service answers, as frozen values of our vocabulary. Fields that are not known yet are passed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from swathe.errors import ServiceError
from swathe.job import Job, JobState, Progress, Where
from swathe.project import Upload, UploadState
from swathe.state import Event


@dataclass(frozen=True, slots=True)
class ResultFile:
    """One file of a result."""

    name: str
    """In the folder of the result."""
    bytes: int
    """Its size."""
    media_type: str = ""
    """IANA's, or the field's usual one."""
    sha256: str = ""
    """Of its bytes, in hexadecimal; empty: not known."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would take."""

    place: Where
    """Where it would run."""
    seconds: float | None
    """There."""
    seconds_from: str = ""
    """``measured``: as earlier runs took; ``guess``: nothing like it has run there yet."""
    cost: dict[str, Any] = field(default_factory=dict)
    """Pixels, bytes, tiles, area."""
    plan: dict[str, Any] = field(default_factory=dict)
    """Grid, chunks, imagery."""
    warnings: tuple[str, ...] = ()
    """What may surprise."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model, as the service has it."""

    id: str
    """Of its card."""
    enabled: bool
    """Whether it may be used."""
    facts: dict[str, Any] = field(default_factory=dict)
    """All that the service says of it."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer to one small image."""

    content: bytes
    """A GeoTIFF, a PNG or JSON, as asked for."""
    media_type: str
    """Which of these."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Stage -> duration, as far as the service says it."""

    def save(self, path: str | Path) -> Path:
        """Write it to a file."""
        path = Path(path)
        path.write_bytes(self.content)
        return path


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of a job's log."""

    seq: int
    """1, 2, 3, …"""
    at: str
    """UTC, RFC 3339."""
    level: str
    """info, warning, error, …"""
    message: str
    """For people."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For programs."""


@dataclass(frozen=True, slots=True)
class SignedLink:
    """An address that opens one thing without a key."""

    url: str
    """Whoever holds it can use it."""
    expires: str
    """UTC, RFC 3339."""


def job_of(document: Any) -> Job:
    """From the service's JSON. Raises ServiceError (``service.answer``)."""
    with _Understood("a job"):
        told = dict(document)
        told["where"] = Where(told.pop("place"))
        told["state"] = JobState(told["state"])
        told["progress"] = Progress(**_known(Progress, told.get("progress") or {}))
        return Job(**_known(Job, told))


def document_of(job: Job) -> dict[str, Any]:
    """The service's words for it, for programs that read JSON."""
    told = asdict(job)
    return {**told, "place": told.pop("where"), "progress": {**told["progress"], "share": job.progress.share}}


def event_of(document: Any) -> Event:
    """From the service's JSON. Raises ServiceError."""
    with _Understood("an event"):
        return Event(int(document["seq"]), document["at"], document["kind"], dict(document.get("facts") or {}))


def log_of(document: Any) -> LogLine:
    """From the service's JSON. Raises ServiceError."""
    with _Understood("a line of a log"):
        return LogLine(**_known(LogLine, document))


def upload_of(document: Any) -> Upload:
    """From the service's JSON. Raises ServiceError."""
    with _Understood("an upload"):
        return Upload(**{**_known(Upload, document), "state": UploadState(document["state"])})


def file_of(document: Any) -> ResultFile:
    """From the service's JSON. Raises ServiceError."""
    with _Understood("a file"):
        return ResultFile(**_known(ResultFile, document))


def link_of(document: Any) -> SignedLink:
    """From the service's JSON. Raises ServiceError."""
    with _Understood("a link"):
        return SignedLink(**_known(SignedLink, document))


def estimate_of(document: Any) -> Estimate:
    """From the service's JSON. Raises ServiceError."""
    with _Understood("an estimate"):
        told = _known(Estimate, document)
        return Estimate(**{**told, "place": Where(told["place"]), "warnings": tuple(told.get("warnings") or ())})


def model_of(document: Any) -> ModelInfo:
    """From the service's JSON. Raises ServiceError."""
    with _Understood("a model"):
        return ModelInfo(str(document["id"]), bool(document["enabled"]), dict(document))


class _Understood:
    """Whatever is missing or of another kind means that this is another service, or another version of it."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        """Nothing has to be set up."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, KeyError | TypeError | ValueError | AttributeError):
            raise ServiceError(
                f"the service's answer is not {self._what} as this client knows it: {error!r}",
                code="service.answer",
                hint="check the address, and both versions of swathe",
            ) from None


def _known(kind: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    names = {entry.name for entry in fields(kind)}
    return {name: value for name, value in document.items() if name in names}
