"""Files of this machine, read as those of the network are."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.remote.answer import Version
from pipelines.remote.ranges import Span
from swathe.errors import ReadError


@contextmanager
def opened(path: Path) -> Iterator[tuple[int, Version]]:
    """(descriptor, version) of a regular file. Raises ReadError (``read.gone``, ``.forbidden``, ``.lost``)."""
    try:
        # Without blocking: a pipe that nobody writes to would wait for ever.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _refusal(path, error) from None
    try:
        facts = os.fstat(number)
        if not stat.S_ISREG(facts.st_mode):
            hint = "give the path of a file"
            raise ReadError(f"{path} is no file", code="read.gone", hint=hint)
        yield number, Version(facts.st_size, str(facts.st_mtime_ns))
    except OSError as error:
        raise _refusal(path, error) from None
    finally:
        os.close(number)


def read(number: int, spans: Sequence[Span]) -> list[bytes]:
    """Each span; shorter where the file ends before."""
    return [_span(number, start, stop) for start, stop in spans]


def _span(number: int, start: int, stop: int) -> bytes:
    parts: list[bytes] = []
    while start < stop:
        part = os.pread(number, stop - start, start)
        if not part:
            break
        parts.append(part)
        start += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _refusal(path: Path, error: OSError) -> ReadError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return ReadError(f"there is nothing at {path}", code="read.gone", hint="check the name")
    if isinstance(error, PermissionError):
        return ReadError(f"{path} may not be read", code="read.forbidden", hint="check its permissions")
    why = (error.strerror or "the disk fails").lower()
    return ReadError(f"{path} cannot be read: {why}", code="read.lost", hint="check the disk, then run it again")
