"""Quotas: what one user may have, what they have, and the refusals that name both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from serve.desk import rights
from serve.store import queue, uploads, users
from swathe.errors import BusyError, LimitError
from swathe.user import Quota

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from serve.desk.limits import Limits
    from serve.settings import ServiceSettings
    from serve.store.store import Store
    from swathe.user import Caller, User

MONTH = timedelta(days=30)
MB = 1_000_000
_RETRY_S = 30
"""When it makes sense to try again where the queue is full."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What one user may have: their own quota, else the service's."""

    running_jobs: int
    """Jobs at work at a time, and as many small ones."""
    queued_jobs: int
    """Jobs that wait."""
    storage_mb: float
    """Megabytes of results and uploads."""
    area_km2: float
    """Square kilometres of the jobs of 30 days."""


@dataclass(frozen=True, slots=True)
class Used:
    """What they have now; the same units."""

    running_jobs: int
    """Jobs at work; small ones are not among them."""
    queued_jobs: int
    """Jobs that wait."""
    storage_mb: float
    """Megabytes of results and uploads."""
    area_km2: float
    """Square kilometres of the jobs of 30 days."""


def allowed(quota: Quota, limits: Limits) -> Allowed:
    """The user's own numbers, where there are any."""

    def first(own: float | None, of_all: float) -> float:
        return of_all if own is None else own

    return Allowed(
        int(first(quota.running_jobs, limits.running_per_user)), int(first(quota.queued_jobs, limits.queued_per_user)),
        first(quota.storage_mb, limits.storage_mb), first(quota.area_km2, limits.area_km2_30d),
    )  # fmt: skip


def used(c: Connection, user: str) -> Used:
    """What a user has now, by what stands in the store."""
    return Used(queue.running_of(c, user), queue.queued_of(c, user), round(uploads.stored_bytes(c, user) / MB, 3),
                round(queue.area_of(c, user, month_ago()), 3))  # fmt: skip


def month_ago() -> str:
    """The moment 30 days ago: RFC 3339, as the store keeps its times."""
    return (datetime.now(UTC) - MONTH).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def check_job(c: Connection, user: User, limits: Limits, area_km2: float) -> None:
    """Whether one more job fits. Raises BusyError (``busy.queue``), LimitError (``quota.area``, ``quota.storage``)."""
    may, has = allowed(user.quota, limits), used(c, user.id)
    if has.queued_jobs >= may.queued_jobs:
        raise BusyError(f"{has.queued_jobs} of your jobs wait, {may.queued_jobs} may", code="busy.queue",
                        hint="wait until some have begun, or cancel one", retry_after=_RETRY_S)  # fmt: skip
    if has.area_km2 + area_km2 > may.area_km2:
        raise LimitError(
            f"{area_km2:,.1f} km² more than the {has.area_km2:,.1f} km² of the last 30 days are over your"
            f" {may.area_km2:,.1f} km²", code="quota.area", field="aoi", hint="ask an administrator for more",
        )  # fmt: skip
    check_storage(c, user, limits)


def check_count(has: int, most: int, what: str, code: str, hint: str = "remove one that is no longer needed") -> None:
    """Whether one more of something fits; ``what``: its plural. Raises LimitError."""
    if has >= most:
        raise LimitError(f"you have {has:,} {what}, {most:,} are allowed", code=code, hint=hint)


def check_storage(c: Connection, user: User, limits: Limits, more_mb: float = 0.0) -> None:
    """Whether there is room for so much more. Raises LimitError (``quota.storage``)."""
    may, has = allowed(user.quota, limits).storage_mb, used(c, user.id).storage_mb
    if has + more_mb > may or has >= may:
        more = f" and {more_mb:,.1f} MB more" if more_mb else ""
        raise LimitError(f"you keep {has:,.1f} MB{more}, {may:,.1f} MB are allowed", code="quota.storage",
                         hint="remove jobs or uploads that are no longer needed")  # fmt: skip


class Usage:
    """What somebody may have and has."""

    def __init__(self, settings: ServiceSettings, store: Store) -> None:
        self._limits, self._store = settings.limits, store

    def of(self, caller: Caller, user: str | None = None) -> tuple[Allowed, Used]:
        """What the caller may have and has; of others for administrators. Raises NotFoundError."""
        whose = user or caller.user.id
        rights.see(caller, whose, f"user {whose}")
        with self._store.read() as c:
            return allowed(users.get(c, whose).quota, self._limits), used(c, whose)
