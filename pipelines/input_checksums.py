"""What was read, told by content: hashes of the files of this machine, versions of those elsewhere."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from swathe.imagery import Imagery, is_remote, shown


def files_of(imagery: Imagery) -> list[dict[str, str]]:
    """Every file of a run: ``file`` and ``sha256``, or ``version`` (size and ETag) where only windows of it were read.

    A file that has gone since is told by its version, too.
    """
    versions = dict(imagery.stamps)
    hrefs = {band.href for date in imagery.dates for band in date.bands}
    return [{"file": shown(href)} | _identity(href, versions.get(href, "")) for href in sorted(hrefs)]


def _identity(href: str, version: str) -> dict[str, str]:
    if not is_remote(href):
        with suppress(OSError), Path(href).open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    return {"version": version} if version else {}
