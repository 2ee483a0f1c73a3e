"""Jobs: what a wish would cost, submitted, watched, stopped, repeated, removed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pipelines.imagery.inputs import parse_input
from serve.desk import files, rights, usage
from serve.desk.asking import asked
from serve.desk.inputs import at_home, settled
from serve.desk.logs import as_content, job_log, log_name
from serve.desk.projects import check_into, is_shared
from serve.desk.wording import in_words, told
from serve.store import audit, catalogue, events, hooks, ids, jobs, logs, publications, users
from serve.store.jobs import Filter
from serve.store.store import now
from swathe.errors import ConflictError, ImageryError, InputError, LimitError
from swathe.imagery import shown
from swathe.job import ENDED, Job, Progress, Where
from swathe.user import Scope

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from sqlalchemy import Connection

    from serve.desk.asking import Asking
    from serve.desk.content import Content
    from serve.desk.files import ResultFile
    from serve.desk.limits import Limits
    from serve.desk.models import Models
    from serve.settings import ServiceSettings
    from serve.store.hooks import Hook
    from serve.store.logs import Line
    from serve.store.pages import Page
    from serve.store.store import Store
    from swathe.plan import Plan
    from swathe.publication import Publication
    from swathe.state import Event
    from swathe.user import Caller

    Kept = Callable[[Connection, Job], None]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a job would take."""

    place: Where
    """Where it would run."""
    seconds: float | None
    """Seconds from its start to the finished products; None: nobody can tell."""
    seconds_from: str
    """``measured`` or ``guess``."""
    cost: dict[str, Any]
    """``swathe.plan.Cost`` as plain numbers."""
    plan: dict[str, Any]
    """Grid, dates, scenes, chunks: ``Plan.as_dict`` without paths of this machine."""
    warnings: tuple[str, ...]
    """What the user should know."""


@dataclass(frozen=True, slots=True)
class _Planned:
    plan: Plan
    place: Where
    names: Mapping[str, str]
    area_km2: float
    """That counts: none of what was made elsewhere and is handed on as it is. Its pixels are bounded all the same."""


class Jobs:
    """The use cases around jobs. Others' jobs do not exist, unless their project is shared."""

    def __init__(self, settings: ServiceSettings, store: Store, models: Models) -> None:
        self._settings, self._store, self._models = settings, store, models

    # --- before ---

    def estimate(self, caller: Caller, asking: Asking) -> Estimate:
        """The way of ``submit`` up to the plan; nothing is kept. Raises what ``submit`` raises about the wish."""
        rights.require(caller, Scope.JOBS_WRITE)
        asking = at_home(asking, self._settings)
        planned = self._planned(caller, asking)
        made, cost = planned.plan, planned.plan.cost
        warnings = (*made.warnings, *made.work.imagery.notes)
        return Estimate(
            planned.place, cost.seconds, cost.seconds_from, asdict(cost), _as_asked(made, asking),
            tuple(in_words(text, planned.names) for text in warnings),
        )  # fmt: skip

    def submit(self, caller: Caller, asking: Asking, kept: Kept | None = None, accepted: str = "") -> Job:
        """Look at the imagery, plan, decide where it runs, and put it into the queue: then it is accepted.

        ``kept`` is called in the transaction that accepts it, so that what it notes stands exactly if the job does.
        ``accepted``: the moment when the wish was, where that was before; what was deleted since then still serves it.
        Raises InputError and its kin for a wish that cannot be met, LimitError (``limit.*``, ``quota.*``) naming both
        numbers, BusyError (``busy.queue``), ForbiddenError, NotFoundError (project, upload, item), ReadError.
        """
        rights.require(caller, Scope.JOBS_WRITE)
        _check_hook(asking, self._settings)
        _check_publish(asking, self._settings)
        asking = at_home(asking, self._settings)
        with self._store.read() as c:  # before anything is fetched for it
            self._check(c, caller, asking, 0.0)
        planned = self._planned(caller, asking, accepted)
        cost = planned.plan.cost
        moment = now()
        job = Job(
            ids.new("j"), caller.user.id, asking.record(), asking.model, moment, moment, project=asking.project,
            title=asking.title, where=planned.place, cost=asdict(cost), labels=dict(asking.labels),
            progress=Progress(of_pixels=cost.pixels, of_chunks=len(planned.plan.chunks)),
        )  # fmt: skip
        with self._store.begin() as c:
            users.hold(c, caller.user.id)  # two requests at once do not both take the last place
            self._check(c, caller, asking, planned.area_km2)
            jobs.add(c, job, planned.area_km2)
            if asking.hook is not None:
                hooks.add(c, job.id, asking.hook.url, asking.hook.secret, list(asking.hook.kinds))
            publications.add(c, (one.wish(job.id) for one in asking.publish))
            audit.note(c, caller, "job.submit", job.id, model=job.model, place=job.where, area_km2=cost.area_km2)
            queued = jobs.get(c, job.id)
            if kept is not None:
                kept(c, queued)
        return queued

    def again(self, caller: Caller, id_: str, kept: Kept | None = None) -> Job:
        """The same wish as a new job of the caller, without its hook and its publications.

        The secret of a hook is not kept with the wish, and the names of publications are taken. A job of somebody else
        is repeated outside of its project, and without what is secret in its addresses.
        """
        job = self.get(caller, id_)
        wish = asked(job.request)
        project = wish.project if rights.owns(caller, job.owner) else None
        return self.submit(caller, wish.model_copy(update={"hook": None, "project": project, "publish": ()}), kept)

    # --- looking ---

    def get(self, caller: Caller, id_: str) -> Job:
        """A job that the caller sees. Raises NotFoundError."""
        return _shown(caller, self._seen(caller, id_))

    def listed(
        self, caller: Caller, wanted: Filter | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[Job]:
        """Those that they see, newest first. Raises InputError for a cursor that is none."""
        rights.require(caller, Scope.JOBS_READ)
        mine = replace(wanted or Filter(), visible_to=None if caller.admin else caller.user.id)
        with self._store.read() as c:
            page = jobs.listed(c, mine, limit, cursor)
        return replace(page, items=tuple(_shown(caller, job) for job in page.items))

    def events(self, caller: Caller, id_: str, after: int = 0, limit: int = 500) -> list[Event]:
        """Facts of a job after the one of this number, oldest first."""
        self._seen(caller, id_)
        with self._store.read() as c:
            return events.of(c, id_, after, limit)

    def logs(self, caller: Caller, id_: str, after: int = 0, limit: int = 500) -> list[Line]:
        """Lines of its log after the one of this number, oldest first."""
        self._seen(caller, id_)
        with self._store.read() as c:
            return logs.of(c, id_, after, limit)

    def files(self, caller: Caller, id_: str) -> list[ResultFile]:
        """What it left behind; nothing before it has ended."""
        return files.listed(self._seen(caller, id_), self._settings)

    def open(self, caller: Caller, id_: str, name: str) -> Path | str:
        """One of its files: a path, or a signed address in object storage. Raises NotFoundError."""
        return files.open_file(self._seen(caller, id_), self._settings, name)

    def content(self, caller: Caller, id_: str, name: str) -> Content:
        """One of its files, to be sent. Raises NotFoundError."""
        return files.content(self._seen(caller, id_), self._settings, name)

    def file_name(self, caller: Caller, id_: str, name: str) -> str:
        """The name of one of its files, where the job left it. Raises NotFoundError."""
        return files.expect(self._seen(caller, id_), name)

    def log(self, caller: Caller, id_: str, name: str = "") -> Content:
        """Its log as a text, the newest lines of it. Raises NotFoundError."""
        self._seen(caller, id_)
        with self._store.read() as c:
            return as_content(job_log(c, id_), name or log_name(id_))

    def log_name(self, caller: Caller, id_: str, name: str = "") -> str:
        """The name of the text that is its log. Raises NotFoundError."""
        self._seen(caller, id_)
        return name or log_name(id_)

    def publications(self, caller: Caller, id_: str) -> list[Publication]:
        """Where else it is shown, or will be. Raises NotFoundError."""
        self._seen(caller, id_)
        with self._store.read() as c:
            return publications.of_job(c, id_)

    def hooks(self, caller: Caller, id_: str) -> list[Hook]:
        """Who hears of its events, and how that goes; others than its owner do not see it. Raises NotFoundError."""
        if not rights.owns(caller, self._seen(caller, id_).owner):
            return []
        with self._store.read() as c:
            return hooks.of_job(c, id_)

    def item(self, caller: Caller, id_: str) -> dict[str, Any]:
        """Its STAC Item, with hrefs relative to its files. Raises NotFoundError."""
        return files.item(self._seen(caller, id_), self._settings)

    # --- changing ---

    def cancel(self, caller: Caller, id_: str) -> Job:
        """Stop it within a chunk; what is done is kept for ``resume``. Raises ConflictError (``job.ended``)."""
        with self._store.begin() as c:
            self._changed(c, caller, id_)
            job = jobs.cancel(c, id_)
            audit.note(c, caller, "job.cancel", id_)
        if job.state in ENDED and (job.attempts or job.round > 1):  # nobody else is left to count it
            left = files.lying(id_, self._settings)
            with self._store.begin() as c:
                jobs.weigh(c, job, left)
        return job

    def resume(self, caller: Caller, id_: str) -> Job:
        """Put an ended job that is not done back into the queue. Raises ConflictError, BusyError."""
        with self._store.begin() as c:
            owner = users.get(c, self._changed(c, caller, id_).owner)
            usage.check_job(c, owner, self._settings.limits, 0.0)
            job = jobs.resume(c, id_)
            audit.note(c, caller, "job.resume", id_)
        return job

    def drop(self, caller: Caller, id_: str) -> None:
        """The job, its results and its catalogue entry. Raises ConflictError (``job.active``) before its end."""
        with self._store.begin() as c:
            _forget(c, self._changed(c, caller, id_), caller, "job.drop")
        files.remove(id_, self._settings)

    def clear(self, id_: str, action: str = "job.drop") -> None:
        """The same, by whoever clears up behind a user. ``action``: what the audit log calls it.

        Raises ConflictError (``job.active``), NotFoundError, OutputError.
        """
        with self._store.begin() as c:
            _forget(c, jobs.get(c, id_), None, action)
        files.remove(id_, self._settings)

    # --- pieces ---

    def _planned(self, caller: Caller, asking: Asking, accepted: str = "") -> _Planned:
        from pipelines.estimate import Means
        from serve.planning import estimated, in_precision, plan_of

        limits = self._settings.limits
        card = in_precision(self._models.usable(caller, asking.model), asking.precision)
        with told():
            self._check_area(asking)
            found = settled(asking.to_recipe(), self._settings, self._store, caller, accepted)
        with told(found.names):
            made = plan_of(found.recipe, card, self._settings, Means("pool", limits.hands, 1))
            area_km2 = 0.0 if card.input.as_it_is else made.cost.area_km2
            _check_size(made, area_km2, limits)
            place = limits.place_of(made.cost.seconds or 0.0)
            if place is Where.CLUSTER:
                made = estimated(made, self._settings, Means("ray", limits.crew, 1))
        return _Planned(made, place, found.names, area_km2)

    def _check_area(self, asking: Asking) -> None:
        """Before anything is searched."""
        area, most = asking.area(), self._settings.limits.max_area_km2
        if area is not None and area.area_km2 > most:
            raise _too_large(area.area_km2, most)

    def _check(self, c: Connection, caller: Caller, asking: Asking, area_km2: float) -> None:
        check_into(c, caller, asking.project)
        usage.check_job(c, caller.user, self._settings.limits, area_km2)

    def _seen(self, caller: Caller, id_: str) -> Job:
        rights.require(caller, Scope.JOBS_READ)
        with self._store.read() as c:
            job = jobs.get(c, id_)
            rights.see(caller, job.owner, f"job {id_}", shared=is_shared(c, job.project))
        return job

    def _changed(self, c: Connection, caller: Caller, id_: str) -> Job:
        rights.require(caller, Scope.JOBS_WRITE)
        job = jobs.get(c, id_)
        rights.change(caller, job.owner, f"job {id_}", shared=is_shared(c, job.project))
        return job


def _forget(c: Connection, job: Job, caller: Caller | None, action: str) -> None:
    if job.state not in ENDED:
        raise ConflictError(f"the job {job.id} is {job.state}", code="job.active", hint="cancel it first")
    entry = job.result.get("item")
    if entry:
        catalogue.drop_item(c, entry["collection"], entry["id"])
    jobs.drop(c, job.id)
    audit.note(c, caller, action, job.id)


def _check_size(made: Plan, area_km2: float, limits: Limits) -> None:
    if area_km2 > limits.max_area_km2:
        raise _too_large(area_km2, limits.max_area_km2)
    if made.cost.pixels > limits.max_pixels:
        raise LimitError(f"the result would have {made.cost.pixels:,} pixels, {limits.max_pixels:,} are allowed",
                         code="limit.pixels", field="aoi", hint="ask for a smaller area")  # fmt: skip


def _too_large(area_km2: float, most: float) -> LimitError:
    return LimitError(f"the area has {area_km2:,.1f} km², {most:,.1f} km² are allowed", code="limit.area", field="aoi",
                      hint="ask for parts of it")  # fmt: skip


def _check_hook(asking: Asking, settings: ServiceSettings) -> None:
    """As text; the number that its name stands for is looked at when it is called. Raises InputError (``url.*``)."""
    if asking.hook is None:
        return
    from pipelines.remote.address import web

    try:
        web(asking.hook.url, allow_private=settings.allow_private_urls)
    except ImageryError as error:
        raise InputError(error.detail, code=error.problem.code, field="hook.url",
                         hint="give an https address that the service may call") from None  # fmt: skip


def _check_publish(asking: Asking, settings: ServiceSettings) -> None:
    """Raises InputError (``publication.none``, ``publication.twice``)."""
    if asking.publish and not settings.geoserver_url:
        raise InputError("this service pushes to no map server", code="publication.none", field="publish",
                         hint="its own maps show every result: see the links of its layers")  # fmt: skip
    if len({(one.workspace, one.name) for one in asking.publish}) < len(asking.publish):
        raise InputError("two publications have the same name", code="publication.twice", field="publish")


def _as_asked(made: Plan, asking: Asking) -> dict[str, Any]:
    return {**made.as_dict(), "files": [_bare(text) for text in asking.inputs]}


def _shown(caller: Caller, job: Job) -> Job:
    """Others see a shared job without what may be secret in addresses: everything after a question mark."""
    if rights.owns(caller, job.owner):
        return job
    request = {**job.request}
    request.pop("hook", None)
    if "inputs" in request:
        request["inputs"] = [_bare(text) for text in request["inputs"]]
    if "search" in request:
        request["search"] = {**request["search"], "source": shown(request["search"]["source"])}
    if "postprocess" in request:
        request["postprocess"] = _without_secrets(request["postprocess"])
    return replace(job, request=request)


def _without_secrets(postprocess: Mapping[str, Any]) -> dict[str, Any]:
    """Steps after the model; addresses of masks end before their question marks."""
    told = dict(postprocess)
    if "mask_files" in told:
        ruled = (text.partition("=") for text in told["mask_files"])
        told["mask_files"] = [f"{rule}={shown(href)}" for rule, _, href in ruled]
    if "mask_shapes" in told:
        told["mask_shapes"] = {**told["mask_shapes"], "url": shown(told["mask_shapes"]["url"])}
    return told


def _bare(text: str) -> str:
    """An input without what may be secret in it."""
    spec = parse_input(text)
    return f"{spec.when}={shown(spec.href)}" if spec.when else shown(spec.href)
