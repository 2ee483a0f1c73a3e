"""NetCDF among the inputs of a run: converted once, found again by its content; the moment that is meant is chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from pipelines.imagery.archive import Unpacking, disk, images_in, place_of
from pipelines.netcdf.isolated import images_of
from pipelines.search.names import time_in
from swathe.errors import InputError

_SHOWN = 5


def images_at(path: Path, when: datetime | None, unpacking: Unpacking) -> list[str]:
    """Paths of its images at one moment: that of ``when``, else the only one. They lie in the room of ``unpacking``.

    ``when`` at midnight stands for the whole day. Raises ImageryError and its kin (``netcdf.*``), OutputError
    (``output.full``), InputError (``netcdf.moments``) where it has several moments that could be meant, or none.
    """
    with disk(path.name):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        # Names of images begin with the file's: under another name it is another folder.
        digest = hashlib.sha256(f"{digest} {path.stem}".encode()).hexdigest()
        folder = place_of(path.name, digest, unpacking)
        if not folder.is_dir():
            images_of(path, folder, limits=unpacking.limits)
    found = {image: time_in(Path(Path(image).name)) for image in images_in(folder)}
    return chosen(path.name, found, when)


def chosen(name: str, images: Mapping[str, datetime | None], when: datetime | None) -> list[str]:
    """Those of ``images`` of the moment ``when``, else of the only one; images without one belong to all.

    ``name``: of the file, for messages. Raises InputError (``netcdf.moments``).
    """
    dated = {image: moment for image, moment in images.items() if moment is not None}
    wanted = dated if when is None else {image: one for image, one in dated.items() if _is(one, when)}
    if dated and not wanted:
        raise _moments(name, f"has nothing of {when:%Y-%m-%d %H:%M:%S}", dated)
    if (count := len(set(wanted.values()))) > 1:
        raise _moments(name, f"has {count:,} moments", wanted)
    return [image for image, moment in images.items() if image in wanted or moment is None]


def _is(moment: datetime, when: datetime) -> bool:
    whole_day = (when.hour, when.minute, when.second) == (0, 0, 0)
    return moment.date() == when.date() if whole_day else moment == when


def _moments(name: str, what: str, dated: Mapping[str, datetime]) -> InputError:
    there = sorted(set(dated.values()))
    listed = ", ".join(f"{one:%Y-%m-%dT%H:%M:%SZ}" for one in there[:_SHOWN])
    return InputError(f"{name} {what}", code="netcdf.moments", field="--input",
                      hint=f"say which: DATE={name}; it has {listed}{' …' if len(there) > _SHOWN else ''}")  # fmt: skip
