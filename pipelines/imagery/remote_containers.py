"""Addresses of more than one file: an archive is fetched whole, once; a folder of S3 is listed.

The images of an archive then lie on this machine, as those of one that was given as a file.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from uuid import uuid4

from pipelines.imagery.archive import ENDINGS, PARTIAL, Unpacking, check_size, disk, images_in, is_zip, place_of, unpack
from pipelines.imagery.peek import refusal
from pipelines.imagery.remote_files import RemoteFiles
from pipelines.remote.byte_cache import unsigned
from pipelines.remote.fetch import Facts
from swathe.errors import ImageryError, SwatheError
from swathe.imagery import shown

_IMAGES = frozenset({*ENDINGS, ".png", ".jpg", ".jpeg"})
_PIECE = 8 << 20
_AT_ONCE = 4
"""Pieces asked for side by side."""


class RemoteContainers:
    """What lies at addresses, taken apart into images."""

    def __init__(self, remote: RemoteFiles, unpacking: Unpacking) -> None:
        """Asks nobody yet."""
        self._remote, self._unpacking = remote, unpacking

    def images(self, href: str) -> list[str] | None:
        """Those of an archive or a folder of S3; None: this is an image itself, as far as one can tell.

        Raises ReadError, ImageryError (``archive.*``, ``imagery.*``, ``url.*``).
        """
        if is_folder_at(href):
            return self._folder(href)
        if is_archive_at(href):
            return images_in(self._archive(href, self._remote.facts(href)))
        if is_image_at(href):
            return None
        facts = self._facts(href)
        return images_in(self._archive(href, facts)) if is_zip(facts.head) else None

    def _facts(self, href: str) -> Facts:
        """Of an address that names no format, as links for downloading do. What fails is told as of an image."""
        try:
            return self._remote.facts(href)
        except SwatheError as error:
            raise refusal(href, error) from None

    def _folder(self, href: str) -> list[str]:
        names = self._remote.fetcher.names(href, self._remote.auth)
        found = [name for name in names if PurePosixPath(name).suffix.lower() in ENDINGS]
        if found:
            return sorted(found)
        raise ImageryError(f"the folder {shown(href)} holds no imagery ({', '.join(sorted(ENDINGS))})",
                           code="imagery.missing", field="--input",
                           hint="folders are not searched deeper than one level; give the files")  # fmt: skip

    def _archive(self, href: str, facts: Facts) -> Path:
        """The folder of its images. Known again by address and version, so that it is fetched once."""
        remote, limits, name = self._remote, self._unpacking.limits, _name(href)
        check_size(name, facts.size, limits)
        version = f"{facts.size} {facts.stamp}" if facts.stamp else uuid4().hex  # nothing tells that it is the same one
        digest = hashlib.sha256(f"{unsigned(href)}\n{version}".encode()).hexdigest()
        folder = place_of(name, digest, self._unpacking)
        if folder.is_dir():
            return folder
        with disk(name):
            place = Path(tempfile.mkdtemp(prefix=f"{folder.name}{PARTIAL}", dir=folder.parent))
        try:
            _fetch(remote, href, facts.size, place / name)
            return unpack(place / name, folder, limits)
        finally:
            shutil.rmtree(place, ignore_errors=True)


def is_archive_at(href: str) -> bool:
    """Whether an address is named like an archive that is taken."""
    return shown(href).lower().endswith(".zip")


def is_image_at(href: str) -> bool:
    """Whether an address is named like an image that is read."""
    return PurePosixPath(shown(href)).suffix.lower() in _IMAGES


def is_folder_at(href: str) -> bool:
    """Whether an address is that of a folder that can be listed: S3's alone."""
    return href.lower().startswith("s3://") and href.endswith("/") and len(href) > len("s3:///")


def _fetch(remote: RemoteFiles, href: str, size: int, target: Path) -> None:
    """All bytes, some pieces at a time. What was replaced in the meantime is ReadError ``read.changed``."""
    with disk(target.name), target.open("xb") as file:
        for start in range(0, size, _PIECE * _AT_ONCE):
            stop = min(size, start + _PIECE * _AT_ONCE)
            spans = [(at, min(stop, at + _PIECE)) for at in range(start, stop, _PIECE)]
            for body in remote.fetcher.ranges(href, spans, remote.auth):
                file.write(body)


def _name(href: str) -> str:
    """For messages, and for the file while it is here."""
    with suppress(ValueError):
        name = PurePosixPath(urlsplit(shown(href)).path).name
        if name.isprintable() and name != ".." and 0 < len(name.encode()) <= 200:  # noqa: PLR2004  a disk takes 255
            return name
    return "archive.zip"
