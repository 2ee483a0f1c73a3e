"""Results on their way to another map server: after the job's end, again after trouble, and away with the job."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.store.blobs import is_stored
from serve.structured import about
from swathe.errors import NotFoundError, ServiceError, StoreError, SwatheError
from swathe.layer import Look
from swathe.publication import Publication
from swathe.sld import colours_of, sld

if TYPE_CHECKING:
    from serve.desk.layers import Layers
    from serve.publishing.publisher import Publisher
    from serve.settings import ServiceSettings
    from serve.store.store import Store
    from swathe.job import Job
    from swathe.layer import Layer

TRIES = 12
"""Of one publication; with the waits between them, a day and a half."""
_WAIT_S, _LONGEST_S = 2.0, 6 * 3600.0
_AT_ONCE = 8
_log = logging.getLogger("swathe.publishing")


def publishing(settings: ServiceSettings, store: Store) -> Publishing | None:
    """None: these settings name no map server."""
    from serve.desk.jobs import Jobs
    from serve.desk.layers import Layers
    from serve.desk.models import Models
    from serve.publishing.publisher import publisher_of

    found = publisher_of(settings)
    if found is None:
        return None
    models = Models(settings, store)
    return Publishing(settings, store, found, Layers(settings, Jobs(settings, store, models), models))


class Publishing:
    """Killed at any point it begins the publication again: what lies under its name is replaced."""

    def __init__(self, settings: ServiceSettings, store: Store, publisher: Publisher, layers: Layers) -> None:
        """Nothing is asked yet."""
        self._settings, self._store, self._publisher, self._layers = settings, store, publisher, layers

    def turn(self) -> int:
        """Do what is due; how much of it was done. Raises StoreError."""
        from serve.store import publications

        with self._store.read() as c:
            due = publications.due(c, _AT_ONCE)
        return sum(self._done(one) for one in due)

    def _done(self, one: Publication) -> bool:
        try:
            if one.job is None:
                self._withdraw(one)
            else:
                self._publish(one, one.job)
        except StoreError:
            raise
        except SwatheError as error:
            self._failed(one, error)
            return False
        except Exception as error:  # noqa: BLE001  one that stumbles must not keep the others waiting
            _log.exception("the publication broke", extra=about(job=one.job, layer=one.full_name))
            self._failed(one, ServiceError(f"{type(error).__name__}", code="internal"))
            return False
        return True

    def _withdraw(self, one: Publication) -> None:
        from serve.store import publications

        if one.begun:
            self._publisher.withdraw(one)
        with self._store.begin() as c:
            publications.forget(c, one.id)

    def _publish(self, one: Publication, job_id: str) -> None:
        from serve.store import jobs, publications

        with self._store.read() as c:
            job = jobs.get(c, job_id)
        layer = self._layer(one, job)
        own = one.colours and layer.style.look is not Look.PICTURE  # a picture has colours already
        colours, kind = (one.colours, one.kind) if own else colours_of(layer.style)
        with self._raster(job, layer.file) as path:
            if not one.begun:
                self._publisher.expect_free(one)
                with self._store.begin() as c:
                    publications.begin(c, one.id)
            url = self._publisher.publish(one, path, sld(one.full_name, colours, kind))
        with self._store.begin() as c:
            publications.published(c, one.id, job.last_seq, url)
        self._say(job.id, "info", f"published as {one.full_name}", {"url": url})

    def _layer(self, one: Publication, job: Job) -> Layer:
        """The first wished raster that the job has. Raises NotFoundError (``publication.nothing``)."""
        from serve.store import users
        from swathe.user import SCOPES_OF, Caller

        with self._store.read() as c:
            owner = users.get(c, job.owner)
        there = {layer.file: layer for layer in self._layers.of_job(Caller(owner, SCOPES_OF[owner.role]), job.id)
                 if layer.band == 1}  # fmt: skip
        wished = one.files or (job.published,)
        for name in wished:
            if name in there:
                return there[name]
        raise NotFoundError(f"the result has no {' and no '.join(wished)}", code="publication.nothing")

    @contextmanager
    def _raster(self, job: Job, name: str) -> Iterator[Path]:
        """The file on this machine; from object storage it is fetched for as long as it is needed."""
        if not is_stored(self._settings.place):
            path = Path(self._settings.folder_of(job.id)) / name
            if not path.is_file():  # the job was removed a moment ago
                raise NotFoundError(f"{name} is gone", code="publication.nothing")
            yield path
            return
        with tempfile.TemporaryDirectory(prefix="publish-") as folder:
            path = Path(folder) / name
            self._settings.blobs(f"jobs/{job.id}").fetch(name, path)
            yield path

    def _failed(self, one: Publication, error: SwatheError) -> None:
        """Trouble of the server passes; a wish that cannot be met stays so. What is to go is tried for ever."""
        from serve.store import jobs, publications
        from serve.store.store import clock

        problem = error.problem.as_dict()
        passing = isinstance(error, ServiceError) and one.tries + 1 < TRIES
        wait = min(_WAIT_S * 3 ** min(one.tries, TRIES), _LONGEST_S)
        with self._store.begin() as c:
            there = one.job is not None and jobs.known(c, [one.job])  # it may have been removed a moment ago
            if one.job is None or not there or passing:
                publications.failed(c, one.id, problem, clock() + wait)
            else:
                publications.give_up(c, one.id, problem, jobs.get(c, one.job).last_seq)
        if one.job is not None:
            self._say(one.job, "warning", f"not published as {one.full_name}", {"problem": problem})
        _log.info("not published: %s", error.problem.line(), extra=about(job=one.job, layer=one.full_name))

    def _say(self, job: str, level: str, message: str, facts: dict[str, Any]) -> None:
        from serve.store import logs
        from serve.store.store import now

        with self._store.begin() as c:
            logs.add(c, job, [logs.Line(now(), level, message, facts)])
