"""The first bytes of a file and its stamp: enough to know the format, to refuse strangers, and to notice a change."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.imagery.gdal import FAILURES, Retry, explain, retried
from swathe.errors import ImageryError, ReadError, SwatheError
from swathe.imagery import is_remote, shown

if TYPE_CHECKING:
    from pipelines.imagery.remote_files import RemoteFiles

_FIELD = "--input"
_MAGIC = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"\x89PNG": "PNG",
    b"\xff\xd8\xff": "JPEG",
}
"""Formats that are read. None of them can point at another file, as VRT and XML can."""
_NETCDF = (b"CDF\1", b"CDF\2", b"CDF\5", b"\x89HDF\r\n\x1a\n")
"""NetCDF, classic and netCDF-4, which is HDF5: no program but the one in the sandbox opens it."""
_LENGTH = 16
_DAMAGED = "the file is damaged or incomplete: fetch it again, or check it with gdalinfo -checksum"
_PERMISSIONS = "check permissions and credentials; a signed link may have expired"
_REMOTE = {"read.gone": "missing", "read.forbidden": "forbidden", "read.changed": "changed"}
"""What the door to the network says -> what is said of an input; everything else is unreachable."""


@dataclass(frozen=True, slots=True)
class Peek:
    """What can be known without GDAL."""

    driver: str
    """GDAL's, by the first bytes."""
    stamp: str
    """Size, and modification time or ETag."""
    size: int
    """Bytes."""


def peek(href: str, retry: Retry, remote: RemoteFiles | None = None) -> Peek:
    """Look at a file's first bytes. Raises ImageryError (``imagery.unreadable``, ``.missing``, ``url.*``, …)."""
    try:
        return retried(lambda: glance(href, remote), href, retry, time.sleep)
    except (*FAILURES, SwatheError) as error:
        raise refusal(href, error) from None


def glance(href: str, remote: RemoteFiles | None = None) -> Peek:
    """The same, once. Raises one of ``FAILURES``, over a network ReadError and its kin; ImageryError for no image.

    ``remote`` is what a file at an address is looked at through.
    """
    if not is_remote(href):
        path = Path(href)
        facts = path.stat()
        with path.open("rb") as file:
            return Peek(_driver(href, file.read(_LENGTH)), f"{facts.st_size} {facts.st_mtime_ns}", facts.st_size)
    if remote is None:
        raise ValueError(f"no door leads to {shown(href)}")
    found = remote.facts(href)
    return Peek(_driver(href, found.head[:_LENGTH]), f"{found.size} {found.stamp}".strip(), found.size)


def version_of(href: str, stamp: str) -> str:
    """The part of a stamp that is the same on any machine: copies of a file may have other times."""
    return stamp if is_remote(href) else stamp.split(" ", maxsplit=1)[0]


def same(href: str, expected: str, now: str) -> None:
    """Raises ReadError (``read.changed``) where two versions are known and differ."""
    if expected and now and expected != now:
        raise changed(href, f"{shown(href)} was replaced since the run was planned ({expected}, now {now})")


def changed(href: str, detail: str) -> ReadError:
    """For a file that is another one now; to be raised."""
    return ReadError(detail, code="read.changed", hint=f"start a new run with {shown(href)} as it is now")


def driver_of(head: bytes) -> str | None:
    """GDAL's driver for a file that begins so; None where it is no image that is read."""
    return next((driver for magic, driver in _MAGIC.items() if head.startswith(magic)), None)


def begins_as_netcdf(path: Path) -> bool:
    """Whether a file of this machine is NetCDF by its first bytes, of whichever format; False of one that is none."""
    try:
        with path.open("rb") as file:
            return file.read(_LENGTH).startswith(_NETCDF)
    except OSError:  # whoever opens it for good says so
        return False


def _driver(href: str, head: bytes) -> str:
    found = driver_of(head)
    if found is not None:
        return found
    what = "is empty" if not head else f"is no image that is read here (it begins with {printable(head)!r})"
    hint = "give GeoTIFF or JPEG 2000 (PNG and JPEG where they are georeferenced)"
    if head.startswith(b"PK"):
        hint = "this is a zip: give it a name that ends in .zip"
    if head.startswith(_NETCDF):
        hint = "this is NetCDF, which is taken from this machine or as an upload; or convert it to GeoTIFF"
    raise ImageryError(f"{shown(href)} {what}", code="imagery.unreadable", hint=hint, field=_FIELD)


def printable(head: bytes) -> str:
    """The first bytes of a file, for a message."""
    return "".join(chr(b) if 32 <= b < 127 else "." for b in head[:12])  # noqa: PLR2004  ASCII


def refusal(href: str, error: Exception) -> ImageryError:
    """What a person is told about a file that cannot be had."""
    if isinstance(error, ReadError):
        return _refused(href, error)
    if isinstance(error, SwatheError):  # an address that is not read, or no image: said already
        kind = type(error) if isinstance(error, ImageryError) else ImageryError
        return kind(error.detail, code=error.problem.code, hint=error.hint, field=error.field or _FIELD)
    name = shown(href)
    if isinstance(error, FileNotFoundError):
        return _problem("missing", f"there is nothing at {name}", "check the name")
    if isinstance(error, PermissionError):
        return _problem("forbidden", f"{name} may not be read", _PERMISSIONS)
    return _problem("unreadable", f"{name} cannot be read: {explain(error)}", _DAMAGED)


def _refused(href: str, error: ReadError) -> ImageryError:
    code = _REMOTE.get(error.problem.code, "unreachable")
    if code == "forbidden":
        return _problem(code, f"{shown(href)} may not be read", _PERMISSIONS)
    hint = "check the address and the network, then run the same command again"
    return _problem(code, error.detail, hint if code == "unreachable" else error.hint)


def _problem(code: str, detail: str, hint: str) -> ImageryError:
    return ImageryError(detail, code=f"imagery.{code}", hint=hint, field=_FIELD)
