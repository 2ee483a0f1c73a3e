"""Results as one ZIP archive, which is laid out and never written: any part of it is read where its files lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from pipelines.bundle import BlobSource, Bundle, Member, TextSource, crc32_of
from pipelines.store.checksums import crcs
from serve.desk import rights
from serve.desk.content import Content
from serve.desk.logs import job_log
from swathe.errors import ConflictError
from swathe.job import ENDED

if TYPE_CHECKING:
    from pipelines.store.blobs import Blobs
    from serve.desk.jobs import Jobs
    from serve.settings import ServiceSettings
    from serve.store.store import Store
    from swathe.job import Job
    from swathe.user import Caller

NAME = "archive.zip"
LOG = "job.log"
"""Stands for the job's log among its files."""
_REMEMBERED = 256
"""Layouts; each has a few kilobytes."""
Members = Mapping[str, str | bytes]
"""Name in the archive -> name of a file of the job, ``LOG``, or bytes; in this order."""
Naming = Callable[["Job"], Members]
"""What goes into the archive of a job, and how it is called there."""


class Archives:
    """Archives of the results of jobs that have ended."""

    def __init__(self, settings: ServiceSettings, store: Store, jobs: Jobs) -> None:
        self._settings, self._store, self._jobs = settings, store, jobs
        self._laid_out = lru_cache(_REMEMBERED)(self._lay_out)

    def named(self, caller: Caller, id_: str, name: str = "") -> str:
        """The name of its archive. Raises NotFoundError, ConflictError (``job.active``) before its end."""
        _expect_ended(self._jobs.get(caller, id_))
        return name or NAME

    def content(self, caller: Caller, id_: str, name: str = NAME, naming: Naming | None = None) -> Content:
        """The archive, to be sent; without ``naming``: all files and the log, as they are called.

        The first time the files' checksums may have to be read, where the job's end has not noted them. Raises
        NotFoundError, ConflictError (``job.active``), OutputError.
        """
        job = self._jobs.get(caller, id_)
        _expect_ended(job)
        members = naming(job) if naming else everything(job)
        try:
            bundle = self._laid_out(job.id, f"{job.round}", job.ended or job.updated, tuple(members.items()))
        except FileNotFoundError as error:
            raise rights.missing(f"file {error} of the job {job.id}") from None
        return Content(name, bundle.size, bundle, bundle.tag)

    def _lay_out(self, job: str, version: str, ended: str, members: tuple[tuple[str, str | bytes], ...]) -> Bundle:
        blobs, at = self._settings.blobs(f"jobs/{job}"), datetime.fromisoformat(ended).astimezone(UTC)
        texts = {name: self._text(job, ended, said) for name, said in members if said == LOG or isinstance(said, bytes)}
        files = {name: said for name, said in members if isinstance(said, str) and said != LOG}
        return bundled(blobs, version, at, {name: texts[name] if name in texts else files[name] for name, _ in members})

    def _text(self, job: str, ended: str, said: str | bytes) -> bytes:
        """Lines that came after its end are left out, so that an archive stays what it is."""
        if isinstance(said, bytes):
            return said
        with self._store.read() as c:
            return job_log(c, job, until=ended)


def everything(job: Job) -> Members:
    """All that a job left, and its log at the end."""
    return {name: name for name in (*sorted(job.result.get("files", {})), LOG)}


def bundled(blobs: Blobs, version: str, at: datetime, members: Members) -> Bundle:
    """An archive of files of one place and of texts. Raises OutputError, FileNotFoundError."""
    sizes = {name: _size(blobs, name) for name in members.values() if isinstance(name, str)}
    sums = crcs(blobs, sizes, version)
    return Bundle([
        _text(name, said, at) if isinstance(said, bytes) else
        Member(name, sizes[said], sums[said], at, BlobSource(blobs, said)) for name, said in members.items()
    ])  # fmt: skip


def _size(blobs: Blobs, name: str) -> int:
    found = blobs.look(name)
    if found is None:
        raise FileNotFoundError(name)
    return found.size


def _text(name: str, text: bytes, at: datetime) -> Member:
    source = TextSource(text)
    return Member(name, len(text), crc32_of(source, len(text)), at, source)


def _expect_ended(job: Job) -> None:
    if job.state not in ENDED:
        raise ConflictError(f"the job {job.id} is {job.state}", code="job.active", hint="wait for its end")
