"""What a job left behind: names from its own list, bytes from a folder or from object storage."""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pipelines.store.blobs import is_stored
from serve.desk import rights
from serve.desk.content import Content, media_type, of_path
from serve.structured import about
from swathe.errors import SwatheError

if TYPE_CHECKING:
    from serve.settings import ServiceSettings
    from swathe.job import Job

VALID = timedelta(hours=1)
"""That a signed address of a result is good for."""
_log = logging.getLogger(__name__)
_SHA256 = "1220"
"""How a checksum of STAC's file extension begins that is one of sha256 (multihash)."""


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file that a job left behind."""

    name: str
    """Name in the job's folder."""
    bytes: int
    """Size in bytes."""
    media_type: str
    """Media type, by the ending of the name."""
    sha256: str
    """SHA-256 of its bytes; empty where the item does not say it."""


def listed(job: Job, settings: ServiceSettings) -> list[ResultFile]:
    """Files that a job left behind, by name; none before it has ended."""
    sizes: dict[str, int] = job.result.get("files", {})
    sums = _checksums(job, settings) if sizes else {}
    return [ResultFile(name, sizes[name], media_type(name), sums.get(name, "")) for name in sorted(sizes)]


def expect(job: Job, name: str) -> str:
    """The name of a file that the job left behind. Raises NotFoundError (``file.unknown``)."""
    if name not in job.result.get("files", {}):
        raise rights.missing(f"file {name[:100]!r} of the job {job.id}")
    return name


def open_file(job: Job, settings: ServiceSettings, name: str) -> Path | str:
    """A path of this machine, or a signed address. Raises NotFoundError (``file.unknown``), OutputError."""
    expect(job, name)
    blobs = settings.blobs(f"jobs/{job.id}")
    signed = blobs.sign(name, "GET", VALID)
    if signed is not None:
        return signed
    path = Path(settings.folder_of(job.id)) / name
    if not path.is_file():
        raise rights.missing(f"file {name!r} of the job {job.id}")
    return path


def content(job: Job, settings: ServiceSettings, name: str) -> Content:
    """A file of a job, to be fetched. Raises as ``open_file``."""
    where = open_file(job, settings, name)
    sha256 = _checksums(job, settings).get(name, "")
    if isinstance(where, Path):
        return of_path(where, name, sha256)
    return Content(name, job.result["files"][name], where, sha256)


def item(job: Job, settings: ServiceSettings) -> dict[str, Any]:
    """The STAC Item of a job, as in the catalogue, with hrefs beside it. Raises NotFoundError (``item.unknown``)."""
    if "item.json" not in job.result.get("files", {}):
        raise rights.missing(f"item of the job {job.id}")
    try:
        document = json.loads(settings.blobs(f"jobs/{job.id}").get("item.json"))
        return document | (job.result.get("item") or {})
    except (FileNotFoundError, ValueError):
        raise rights.missing(f"item of the job {job.id}") from None


def remove(job: str, settings: ServiceSettings) -> None:
    """Remove all that a job left behind; what is gone already is no error. Raises OutputError."""
    if is_stored(settings.place):
        blobs = settings.blobs(f"jobs/{job}")
        blobs.delete([blob.name for blob in blobs.list()])
    else:
        shutil.rmtree(settings.folder_of(job), ignore_errors=True)


def lying(job: str, settings: ServiceSettings) -> int:
    """Bytes of all that a job has left so far: what an unfinished one keeps for its next round is kept, too.

    Storage that does not answer now counts as empty; nobody's end waits for it.
    """
    try:
        return sum(blob.size for blob in settings.blobs(f"jobs/{job}").list())
    except (SwatheError, OSError) as error:
        _log.warning("what the job has left cannot be counted: %s", error, extra=about(job=job))
        return 0


def _checksums(job: Job, settings: ServiceSettings) -> dict[str, str]:
    """Name -> sha256, as far as the item says it: files were hashed when they were made."""
    try:
        assets = item(job, settings).get("assets", {})
    except SwatheError:
        return {}
    said = {PurePosixPath(str(a.get("href", ""))).name: str(a.get("file:checksum", "")) for a in assets.values()}
    return {name: text.removeprefix(_SHA256) for name, text in said.items() if text.startswith(_SHA256)}
