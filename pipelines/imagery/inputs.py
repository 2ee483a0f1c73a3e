"""What a person typed after ``--input``: dates and files, before any file is opened."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.imagery.archive import AS_USUAL, ENDINGS, Unpacking, images_in, is_archive, unpacked
from pipelines.imagery.peek import begins_as_netcdf
from swathe.errors import ImageryError, InputError
from swathe.imagery import REMOTE, is_remote, shown

if TYPE_CHECKING:
    from pipelines.imagery.remote_containers import RemoteContainers

IMAGES = frozenset(ENDINGS)
"""What counts as imagery inside a folder; pictures (.png, .jpg) are taken only when named."""
_DATED = re.compile(r"(\d{4}-\d{2}-\d{2}(?:[T ][\d:.]+(?:Z|[+-]\d{2}:?\d{2})?)?)=(.*)", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_FIELD = "--input"


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One ``--input``."""

    when: str | None
    """ISO date or date and time, or None."""
    href: str
    """Path of a file, a folder or a zip of images, or a URL."""


@dataclass(frozen=True, slots=True)
class Files:
    """Everything that belongs to one date."""

    when: str | None
    """As typed."""
    hrefs: tuple[str, ...]
    """Absolute paths and URLs."""
    listed: bool
    """False where a folder or an archive was given, so that the files have no order of their own."""


def parse_input(text: str) -> InputSpec:
    """``PATH_OR_URL`` or ``DATE=PATH_OR_URL``; only an ISO date before ``=`` counts, so URLs may hold ``=``.

    Raises InputError (``input.date``) for a date that does not exist.
    """
    match = _DATED.fullmatch(text.strip())
    if not match:
        return InputSpec(None, text.strip())
    moment(match[1])
    return InputSpec(match[1], match[2].strip())


def moment(when: str) -> datetime:
    """The instant of an ISO date (midnight) or date and time (UTC unless it says otherwise)."""
    try:
        if len(when) == len("2024-01-31"):
            return datetime.combine(date.fromisoformat(when), time(), UTC)
        found = datetime.fromisoformat(when)
    except ValueError:
        raise InputError(
            f"{when} is no date",
            code="input.date",
            hint="write it like 2024-01-31 or 2024-01-31T10:50:21Z",
            field=_FIELD,
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def by_date(
    inputs: Sequence[InputSpec], times: int, unpacking: Unpacking = AS_USUAL, containers: RemoteContainers | None = None
) -> tuple[Files, ...]:
    """Sort inputs into ``times`` dates, oldest first; without dates, keep the order given.

    ``containers`` takes apart what is at an address and no single file; None: nothing is at one. Raises InputError
    (``input.none``, ``input.dates``) where they are not as many as the model wants, ImageryError where a path cannot be
    imagery at all, or an archive is refused.
    """
    if not inputs:
        raise InputError("no imagery was given", code="input.none", hint="say --input FILE", field=_FIELD)
    dated = [spec for spec in inputs if spec.when is not None]
    if dated and len(dated) < len(inputs):
        raise _dates("some inputs have a date and some have none", "give all of them as DATE=PATH")
    groups: dict[float, list[InputSpec]] = {}
    for i, spec in enumerate(inputs):
        key = moment(spec.when).timestamp() if spec.when is not None else (i if times > 1 else 0)
        groups.setdefault(key, []).append(spec)
    if len(groups) != times:
        raise _wrong_count(len(groups), times, dated=bool(dated))
    return tuple(_files(groups[key], unpacking, containers) for key in (sorted(groups) if dated else groups))


def _wrong_count(found: int, times: int, *, dated: bool) -> InputError:
    what = "date" if dated else "input"
    got = f"{found} {what}{'s' if found != 1 else ''}"
    hint = "give one date" if times == 1 else f"give {times} acquisitions: DATE=PATH for each file, oldest first or not"
    return _dates(f"the model wants {times} date{'s' if times != 1 else ''}, {got} given", hint)


def _dates(detail: str, hint: str) -> InputError:
    return InputError(detail, code="input.dates", hint=hint, field=_FIELD)


def _files(specs: list[InputSpec], unpacking: Unpacking, containers: RemoteContainers | None) -> Files:
    hrefs: list[str] = []
    listed = True
    for spec in specs:
        if _is_url(spec.href):
            several = containers.images(spec.href) if containers else None
            hrefs += several or [spec.href]
            listed = listed and several is None
        elif (path := _local(spec.href)).is_dir():
            hrefs += _inside(path)
            listed = False
        elif is_archive(path):
            hrefs += images_in(unpacked(path, unpacking))
            listed = False
        elif begins_as_netcdf(path):
            from pipelines.netcdf.inputs import images_at

            hrefs += images_at(path, None if spec.when is None else moment(spec.when).astimezone(UTC), unpacking)
            listed = False
        else:
            hrefs.append(str(path))
    return Files(specs[0].when, tuple(hrefs), listed)


def _is_url(href: str) -> bool:
    """Whether this is a URL that may be read; refuses everything that would make GDAL look elsewhere."""
    if not href or href.startswith("/vsi") or href.lower().split("?")[0].endswith((".vrt", ".xml")):
        what = "an empty name" if not href else "a virtual file, which can point at any other file"
        raise ImageryError(
            f"{shown(href)!r} is {what}",
            code="imagery.virtual",
            hint="give the GeoTIFF or JPEG 2000 file itself, or its http(s):// or s3:// address",
            field=_FIELD,
        )
    if is_remote(href):
        _check_file(href)
        return True
    if _SCHEME.match(href):
        raise ImageryError(
            f"{href.split('://', maxsplit=1)[0]}:// is no address that imagery is read from",
            code="imagery.scheme",
            hint=f"use a path or one of {', '.join(REMOTE)}",
            field=_FIELD,
        )
    return False


def _check_file(href: str) -> None:
    """Refuse addresses of what is neither an image, nor a zip, nor a folder that can be listed."""
    path = shown(href).rpartition("://")[2]
    bucket = href.lower().startswith("s3://")
    if "?" not in href and ("/" not in path or (path.endswith("/") and not bucket)):
        hint = "end it with a /" if bucket else "give the addresses of its files, one --input each"
        what = "a folder"
    elif path.lower().endswith((".tar", ".tgz", ".gz", ".7z", ".rar")):
        what, hint = "an archive that is not read", "give a zip, or the address of an image"
    else:
        return
    raise ImageryError(
        f"{shown(href)} is {what}; at an address, images, zips of them and folders of S3 are read",
        code="imagery.address",
        hint=hint,
        field=_FIELD,
    )


def _local(href: str) -> Path:
    """Absolute, because workers have other working directories; links are kept as they are."""
    path = Path(href).expanduser().absolute()
    if not path.exists():
        raise ImageryError(f"there is no file {path}", code="imagery.missing", hint="check the path", field=_FIELD)
    if not (path.is_file() or path.is_dir()):
        raise ImageryError(
            f"{path} is a pipe or a device", code="imagery.unreadable", hint="save it to a file first", field=_FIELD
        )
    return path


def _inside(folder: Path) -> list[str]:
    found = sorted(str(p) for p in folder.iterdir() if p.suffix.lower() in IMAGES and p.is_file())
    if not found:
        raise ImageryError(
            f"the folder {folder} holds no imagery ({', '.join(sorted(IMAGES))})",
            code="imagery.missing",
            hint="folders are not searched deeper than one level; give the files",
            field=_FIELD,
        )
    return found
