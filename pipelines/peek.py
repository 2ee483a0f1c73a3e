"""The first bytes of a file and its stamp: enough to know the format, to refuse strangers, and to notice a change."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from pipelines.gdal import FAILURES, NO_RANGES, Retry, explain, retried, status_of, stays
from swathe.errors import ImageryError
from swathe.imagery import is_remote, shown

DRIVERS = ("GTiff", "JP2OpenJPEG", "PNG", "JPEG")
"""Formats that are read. None of them can point at another file, as VRT and XML can."""
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
_LENGTH = 16
_HINTS = {
    "unreadable": "the file is damaged or incomplete: fetch it again, or check it with gdalinfo -checksum",
    "unreachable": "check the address and the network, then run the same command again",
}


@dataclass(frozen=True, slots=True)
class Peek:
    """What can be known without GDAL."""

    drivers: tuple[str, ...]
    """The one that fits, or all of them where the first bytes could not be had."""
    stamp: str
    """Size, and modification time or ETag; empty where the server does not tell."""
    denied: int | None = None
    """HTTP status with which a server refused to tell; GDAL may have credentials that let it in."""


def peek(href: str, retry: Retry) -> Peek:
    """Look at a file's first bytes. Raises ImageryError (``imagery.unreadable``, ``.missing``, ``.unreachable``, …)."""
    try:
        return retried(lambda: glance(href, retry), href, retry, time.sleep)
    except FAILURES as error:
        raise refusal(href, error, "unreachable" if is_remote(href) else "unreadable") from None


def glance(href: str, retry: Retry) -> Peek:
    """The same, once. Raises one of ``FAILURES``, or ImageryError where the bytes belong to no image."""
    if href.lower().startswith("s3://"):
        return Peek(DRIVERS, "")
    try:
        head, stamp = _look(href, retry)
    except urllib.error.HTTPError as error:
        if stays(error) and error.code not in (404, 416):
            return Peek(DRIVERS, "", error.code)
        raise
    return Peek((_driver(href, head),), stamp)


def version_of(href: str, stamp: str) -> str:
    """The part of a stamp that is the same on any machine: copies of a file may have other times."""
    return stamp if is_remote(href) else stamp.split(" ", maxsplit=1)[0]


def _look(href: str, retry: Retry) -> tuple[bytes, str]:
    if is_remote(href):
        return _look_at_url(href, retry)
    path = Path(href)
    facts = path.stat()
    with path.open("rb") as file:
        return file.read(_LENGTH), f"{facts.st_size} {facts.st_mtime_ns}"


def _look_at_url(href: str, retry: Retry) -> tuple[bytes, str]:
    """A ranged GET, because signed links often allow no HEAD."""
    request = urllib.request.Request(href, headers={"Range": f"bytes=0-{_LENGTH - 1}"})  # noqa: S310  http(s) only
    try:
        with urllib.request.urlopen(request, timeout=retry.timeout_s) as answer:  # noqa: S310  checked by the caller
            head, status, facts = answer.read(_LENGTH), answer.status, answer.headers
    except HTTPException as error:
        raise OSError(f"the answer broke off ({error!r})") from error
    if status != 206:  # noqa: PLR2004  HTTP's number
        raise OSError(NO_RANGES)
    size = facts.get("Content-Range", "").rpartition("/")[2]
    if len(head) < _LENGTH and size.isdigit() and int(size) > len(head):
        raise OSError("the answer broke off")
    return head, f"{size} {facts.get('ETag') or facts.get('Last-Modified') or ''}".strip()


def driver_of(head: bytes) -> str | None:
    """GDAL's driver for a file that begins so; None where it is no image that is read."""
    return next((driver for magic, driver in _MAGIC.items() if head.startswith(magic)), None)


def _driver(href: str, head: bytes) -> str:
    found = driver_of(head)
    if found is not None:
        return found
    what = "is empty" if not head else f"is no image that is read here (it begins with {_printable(head)!r})"
    hint = "give GeoTIFF or JPEG 2000 (PNG and JPEG where they are georeferenced)"
    raise ImageryError(f"{shown(href)} {what}", code="imagery.unreadable", hint=hint, field="--input")


def _printable(head: bytes) -> str:
    return "".join(chr(b) if 32 <= b < 127 else "." for b in head[:12])  # noqa: PLR2004  ASCII


def refusal(href: str, error: BaseException, otherwise: str, denied: int | None = None) -> ImageryError:
    """What a person is told about a file that cannot be had; ``otherwise`` is the code where nothing is known."""
    name, status = shown(href), denied or status_of(error)
    code, detail, hint = otherwise, f"{name} cannot be read: {explain(error)}", _HINTS[otherwise]
    if status == 404 or isinstance(error, FileNotFoundError):  # noqa: PLR2004  HTTP's number
        code, detail, hint = "missing", f"there is nothing at {name}", "check the name"
    elif status == 416:  # noqa: PLR2004  HTTP's number
        code, detail, hint = "unreadable", f"{name} is empty", _HINTS["unreadable"]
    elif status in (401, 403) or isinstance(error, PermissionError):
        hint = "check permissions and credentials; a signed link may have expired"
        code, detail = "forbidden", f"{name} may not be read"
    elif NO_RANGES in explain(error):
        code, detail = "no_ranges", f"the server of {name} sends whole files only"
        hint = "download the file and give its path"
    return ImageryError(detail, code=f"imagery.{code}", hint=hint, field="--input")
