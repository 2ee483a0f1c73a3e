"""CRC-32 of files of a place: each is read once, and then remembered beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress

from pipelines.bundle import BlobSource, crc32_of
from pipelines.store.blobs import Blobs
from swathe.errors import OutputError

NAME = ".swathe/crc32.json"
"""Where they are remembered."""


def crcs(blobs: Blobs, sizes: Mapping[str, int], version: str, near: Blobs | None = None) -> dict[str, int]:
    """Of files of these names and sizes. ``version``: of all of them; another one is not believed to be the same.

    ``near``: the same files where they can be read at less cost. Raises OutputError, FileNotFoundError.
    """
    known = _remembered(blobs, version)
    fresh = {name for name, size in sizes.items() if known.get(name, [None])[0] != size}
    sums = {name: crc32_of(BlobSource(near or blobs, name), sizes[name]) if name in fresh else known[name][1]
            for name in sizes}  # fmt: skip
    if fresh:
        told = {"version": version, "files": {name: [sizes[name], found] for name, found in sums.items()}}
        with suppress(OutputError):  # then they are read again
            blobs.put(NAME, json.dumps(told).encode())
    return sums


def _remembered(blobs: Blobs, version: str) -> dict[str, list[int]]:
    try:
        told = json.loads(blobs.get(NAME))
    except (FileNotFoundError, ValueError):
        return {}
    return told["files"] if told.get("version") == version else {}
