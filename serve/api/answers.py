"""What the API answers, as pydantic models: our nouns, with links. Made from values of the desk by ``of``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from serve.api import openapi
from serve.store.rows import LONGEST_LISTED
from swathe.imagery import shown as without_query
from swathe.job import ENDED, JobState, Where, may_resume
from swathe.project import UploadState

if TYPE_CHECKING:
    from serve.desk.files import ResultFile
    from serve.desk.jobs import Estimate
    from serve.desk.links import Signed
    from serve.desk.models import ModelState
    from serve.store.hooks import Hook
    from serve.store.logs import Line
    from swathe.job import Job
    from swathe.processor import ProcessorCard
    from swathe.project import Project, Upload
    from swathe.state import Event


class Answered(BaseModel):
    """Frozen, and shown with an example."""

    model_config = ConfigDict(frozen=True)


def shown(name: str) -> ConfigDict:
    """With the example of that name."""
    return ConfigDict(frozen=True, json_schema_extra={openapi.EXAMPLE: name})


class Link(Answered):
    """To something else."""

    rel: str
    href: str
    type: str = "application/json"


class ProgressAnswer(Answered):
    """How far a job is; no number falls within one round."""

    share: float = Field(description="0..1, of the pixels.")
    pixels: int
    of_pixels: int = Field(description="0: not planned yet.")
    chunks: int
    of_chunks: int
    failed_chunks: int


class JobAnswer(Answered):
    """A job: what was asked, where it stands, what came of it."""

    model_config = shown("job")

    id: str
    owner: str
    title: str
    project: str | None
    model: str
    state: JobState
    place: Where = Field(description="Where it runs: on the standing pool (online, pool), or as a Ray job (cluster).")
    progress: ProgressAnswer
    cancelling: bool
    problem: dict[str, Any] | None = Field(description="RFC 9457: why it failed, or which step did.")
    result: dict[str, Any] = Field(
        description="Of an ended job: item, files (name: bytes), pixels, warnings, steps, published (a file's name)."
    )
    cost: dict[str, Any] = Field(description="The estimate that it was accepted with.")
    request: dict[str, Any] = Field(
        description=f"As it was asked. In lists without what has more than {LONGEST_LISTED:,} characters as JSON, such "
        "as an aoi in all detail; GET /api/jobs/ID has it whole."
    )
    labels: dict[str, Any]
    round: int = Field(description="1; one more at each resume.")
    attempts: int
    ray_job: str | None
    last_seq: int = Field(description="Number of its newest event.")
    created: str
    updated: str
    started: str | None
    ended: str | None
    links: dict[str, str]

    @classmethod
    def of(cls, job: Job, root: str) -> Self:
        """``root``: address of the service."""
        known = {name: getattr(job, name) for name in cls.model_fields if hasattr(job, name)}
        progress = ProgressAnswer(**asdict(job.progress), share=job.progress.share)
        return cls(**known | {"place": job.where, "progress": progress, "links": _job_links(job, root)})


def _job_links(job: Job, root: str) -> dict[str, str]:
    here = f"{root}/api/jobs/{job.id}"
    links = {"self": here, "events": f"{here}/events", "logs": f"{here}/logs", "files": f"{here}/files"}
    if "item.json" in job.result.get("files", {}):
        links["item"] = f"{here}/item"
        links["layers"] = f"{root}/api/layers?job={job.id}"
    if job.request.get("hook"):
        links["hooks"] = f"{here}/hooks"
    if job.request.get("publish"):
        links["publications"] = f"{here}/publications"
    if job.state not in ENDED:
        links["cancel"] = f"{here}/cancel"
    if may_resume(job.state):
        links["resume"] = f"{here}/resume"
    return links


class HookAnswer(Answered):
    """An address that is told of a job's events, and how far that has come."""

    model_config = shown("hook")

    id: str
    url: str = Field(description="Without its query.")
    kinds: list[str] = Field(description="Of the events that it is told; empty: all.")
    sent_seq: int = Field(description="Number of the last event that was delivered, or was not wanted.")
    tries: int = Field(description="That failed since then.")
    given_up: bool = Field(description="Whether nothing more is sent.")
    problem: str = Field(description="Why the last try failed; empty: it did not.")

    @classmethod
    def of(cls, hook: Hook) -> Self:
        """Without what is secret in it."""
        known = {name: getattr(hook, name) for name in cls.model_fields}
        return cls(**known | {"url": without_query(hook.url), "kinds": list(hook.kinds)})


class HooksAnswer(Answered):
    """Those of a job."""

    model_config = shown("hooks")

    hooks: list[HookAnswer]


class JobsAnswer(Answered):
    """A page of jobs, newest first."""

    model_config = shown("jobs")

    jobs: list[JobAnswer]
    links: list[Link]


class EstimateAnswer(Answered):
    """What a job would take; nothing was kept."""

    model_config = shown("estimate")

    place: Where
    seconds: float | None = Field(description="From its start to the finished products.")
    seconds_from: str = Field(
        description="measured: on this machine; guess: nothing like it has run here yet, or the link decides."
    )
    cost: dict[str, Any]
    plan: dict[str, Any]
    warnings: list[str]

    @classmethod
    def of(cls, found: Estimate) -> Self:
        """As the desk has it."""
        return cls(place=found.place, seconds=found.seconds, seconds_from=found.seconds_from, cost=found.cost,
                   plan=found.plan, warnings=list(found.warnings))  # fmt: skip


class EventAnswer(Answered):
    """A fact of a job."""

    seq: int
    at: str
    kind: str
    facts: dict[str, Any]

    @classmethod
    def of(cls, event: Event) -> Self:
        """As the store has it."""
        return cls(seq=event.seq, at=event.at, kind=event.kind, facts=dict(event.facts))


class EventsAnswer(Answered):
    """Events in their order."""

    model_config = shown("events")

    events: list[EventAnswer]
    links: list[Link]


class LineAnswer(Answered):
    """A line of a log."""

    seq: int
    at: str
    level: str
    message: str
    facts: dict[str, Any]

    @classmethod
    def of(cls, line: Line) -> Self:
        """As the store has it."""
        return cls(seq=line.seq, at=line.at, level=line.level, message=line.message, facts=dict(line.facts))


class LogsAnswer(Answered):
    """Lines in their order."""

    model_config = shown("logs")

    logs: list[LineAnswer]
    links: list[Link]


class FileAnswer(Answered):
    """A file that a job left behind."""

    name: str
    bytes: int
    media_type: str
    sha256: str = Field(description="Of its bytes; empty where it is not known.")
    href: str

    @classmethod
    def of(cls, file: ResultFile, here: str) -> Self:
        """``here``: address of the job's files."""
        return cls(**asdict(file), href=f"{here}/{file.name}")


class FilesAnswer(Answered):
    """All files of a job; none before its end."""

    model_config = shown("files")

    files: list[FileAnswer]


class ModelAnswer(Answered):
    """A model, and how it stands with it here."""

    model_config = shown("model")

    id: str
    title: str
    task: str
    enabled: bool
    state: Literal["", "starting", "ready", "idle", "failed"] = Field(
        description="Of what is kept warm; empty: nothing."
    )
    problem: dict[str, Any] | None = Field(description="RFC 9457: why it does not start.")
    source: str = Field(description="shipped, or added while the service ran.")
    owner: str | None
    shared: bool
    version: int
    card: dict[str, Any]
    links: dict[str, str]

    @classmethod
    def of(cls, found: ModelState, root: str) -> Self:
        """``root``: address of the service."""
        card = found.card
        return cls(
            id=card.id, title=card.title, task=str(card.task), enabled=found.enabled, state=found.state,  # pyright: ignore[reportArgumentType]
            problem=found.problem, source=found.source, owner=found.owner, shared=found.shared, version=found.version,
            card=card.model_dump(mode="json", exclude_defaults=True, exclude={"origin"}),
            links={"self": f"{root}/api/models/{card.id}"},
        )  # fmt: skip


class ModelsAnswer(Answered):
    """All models that the caller sees."""

    model_config = shown("models")

    models: list[ModelAnswer]


class SignedUpload(Answered):
    """Links of an upload, for whoever has no key; each is a secret."""

    upload_url: str = Field(description="PUT its bytes here.")
    download_url: str = Field(description="GET them here once it is ready; a job takes it among its inputs, too.")
    expires: str
    direct_url: str | None = Field(description="PUT its bytes here within the hour, past this service, then POST "
                                   "…/arrived; null: files lie in no object storage.")  # fmt: skip


class UploadAnswer(Answered):
    """A file that a user brought; a job names it upload://ID."""

    model_config = shown("upload")

    id: str
    owner: str
    project: str | None
    name: str
    state: UploadState
    size: int
    sha256: str
    facts: dict[str, Any]
    problem: dict[str, Any] | None
    labels: dict[str, Any]
    created: str
    links: dict[str, str]
    signed: SignedUpload | None = Field(default=None, description="In the answer to a beginning that asked for it.")

    @classmethod
    def of(cls, upload: Upload, root: str) -> Self:
        """``root``: address of the service."""
        here = f"{root}/api/uploads/{upload.id}"
        links = {"self": here} | ({"content": f"{here}/content"} if upload.state is UploadState.OPEN else {})
        return cls(**asdict(upload), links=links)


class UploadsAnswer(Answered):
    """A page of uploads, newest first."""

    model_config = shown("uploads")

    uploads: list[UploadAnswer]
    links: list[Link]


class ProcessorAnswer(Answered):
    """A user's script; a job names it by its id."""

    model_config = shown("processor")

    id: str
    owner: str
    project: str | None
    name: str
    description: str
    file: str
    call: str = Field(description="positional, text or flags.")
    parameters: dict[str, Any]
    size: int
    sha256: str
    labels: dict[str, Any]
    created: str
    links: dict[str, str]

    @classmethod
    def of(cls, card: ProcessorCard, root: str, signed: Signed | None = None) -> Self:
        """``root``: address of the service; ``signed``: a link to the script."""
        links = {"self": f"{root}/api/processors/{card.id}"} | ({"content": root + signed.path} if signed else {})
        known = {name: value for name, value in asdict(card).items() if name in cls.model_fields}
        return cls(**known, links=links)


class ProcessorsAnswer(Answered):
    """A page of processors, newest first."""

    model_config = shown("processors")

    processors: list[ProcessorAnswer]
    links: list[Link]


class LinkAnswer(Answered):
    """An address that opens one thing, for one deed, for a while, without a key."""

    model_config = shown("link")

    url: str = Field(description="Whoever holds it can use it: it is a secret.")
    method: Literal["GET", "PUT"]
    name: str = Field(description="Of the file.")
    expires: str

    @classmethod
    def of(cls, made: Signed, root: str) -> Self:
        """``root``: address of the service."""
        return cls(url=root + made.path, method=made.link.method, name=made.link.name, expires=made.expires)


class ImageryAnswer(Answered):
    """Imagery that was registered, as the catalogue has it."""

    model_config = shown("imagery")

    items: list[dict[str, Any]] = Field(description="STAC Items, one per image.")


class ProjectAnswer(Answered):
    """A folder for jobs and uploads."""

    model_config = shown("project")

    id: str
    owner: str
    name: str
    description: str
    shared: bool
    labels: dict[str, Any]
    created: str
    updated: str
    links: dict[str, str]

    @classmethod
    def of(cls, project: Project, root: str) -> Self:
        """``root``: address of the service."""
        return cls(**asdict(project), links={"self": f"{root}/api/projects/{project.id}",
                                             "jobs": f"{root}/api/jobs?project={project.id}"})  # fmt: skip


class ProjectsAnswer(Answered):
    """A page of projects."""

    model_config = shown("projects")

    projects: list[ProjectAnswer]
    links: list[Link]


class LandingAnswer(Answered):
    """Where everything is."""

    model_config = shown("landing")

    title: str
    version: str
    links: list[Link]
