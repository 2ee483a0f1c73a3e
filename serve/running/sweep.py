"""What is swept: answers to repeated requests after a day, results of ended jobs when their time has come.

Also uploads whose bytes have not come within a day, and what processes that were killed left of others. Once a day what
nobody knows any more (``orphans``).
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from serve.structured import about
from swathe.errors import ConflictError, NotFoundError, SwatheError
from swathe.job import ENDED

if TYPE_CHECKING:
    from serve.desk.jobs import Jobs
    from serve.settings import ServiceSettings
    from serve.store.store import Store
    from swathe.job import Job

REPLIES = timedelta(days=1)
"""For so long a repeated request is given the first one's answer."""
UPLOADS = timedelta(days=1)
"""For so long the bytes of an upload are awaited."""
_PAGE = 200
_log = logging.getLogger("swathe.sweep")


def sweep(settings: ServiceSettings, store: Store) -> None:
    """Once, all of it; trouble with the files of one is told, and tried again the next time. Raises StoreError."""
    from pipelines.store import scratch
    from serve.desk.uploads import scratch_of
    from serve.running.orphans import sweep_orphans
    from serve.store import replies
    from serve.store.store import clock

    scratch.sweep(scratch_of(settings))
    with store.begin() as c:
        replies.sweep(c, clock() - REPLIES.total_seconds())
    if settings.limits.keep_days is not None:
        _drop_expired(settings, store, datetime.now(UTC) - timedelta(days=settings.limits.keep_days))
    _drop_unsent(settings, store, datetime.now(UTC) - UPLOADS)
    sweep_orphans(settings, store)


def _drop_expired(settings: ServiceSettings, store: Store, before: datetime) -> None:
    from serve.desk.jobs import Jobs
    from serve.desk.models import Models

    desk = Jobs(settings, store, Models(settings, store))
    for job in expired(store, before):
        _drop(job, desk)


def expired(store: Store, before: datetime) -> list[Job]:
    """Jobs that ended before this moment, oldest first."""
    from serve.store import jobs

    found: list[Job] = []
    cursor: str | None = None
    while True:
        with store.read() as c:
            page = jobs.listed(c, jobs.Filter(state=tuple(ENDED)), _PAGE, cursor, newest_first=False)
        found += [job for job in page.items if job.ended and datetime.fromisoformat(job.ended) < before]
        # What was created later has ended later.
        late = any(datetime.fromisoformat(job.created) >= before for job in page.items)
        if page.cursor is None or late:
            return found
        cursor = page.cursor


def _drop(job: Job, desk: Jobs) -> None:
    try:
        desk.clear(job.id, "job.expire")
    except (ConflictError, NotFoundError):  # resumed or removed in between
        return
    except SwatheError as error:
        _log.warning("not removed: %s", error.problem.line(), extra=about(job=job.id))


def _drop_unsent(settings: ServiceSettings, store: Store, before: datetime) -> None:
    """Uploads that were begun before this moment and never settled.

    What was written to their signed addresses lies in object storage and counts in no quota.
    """
    from serve.desk.uploads import Uploads
    from serve.store import uploads
    from serve.store.store import text_of

    desk = Uploads(settings, store)
    with store.read() as c:
        late = uploads.awaited_since(c, text_of(before))
    for id_ in late:
        try:
            desk.expire(id_)
        except (ConflictError, NotFoundError):  # settled or removed in between
            continue
        except SwatheError as error:
            _log.warning("not removed: %s", error.problem.line(), extra=about(upload=id_))
