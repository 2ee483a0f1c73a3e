"""Files of a result onto this disk: resumed where they broke off, checked, and never there by halves."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import httpx2

from swathe.client.link import Call, passing
from swathe.client.problems import error_of
from swathe.errors import OutputError, ServiceError

if TYPE_CHECKING:
    from swathe.client.link import Link
    from swathe.client.values import ResultFile

Tell = Callable[[str, int, int], None]
"""Is told a file's name, the bytes that are here, and how many there will be."""


async def save(link: Link, path: str, file: ResultFile, folder: Path, tell: Tell | None = None) -> Path:
    """One file into a folder; what is there already and right is left. ``path``: where it is asked for.

    Raises ServiceError (``service.file``, ``.checksum``, ``.unreachable``), OutputError, and what the service says.
    """
    target = folder / _inside(file.name)
    try:
        if not await asyncio.to_thread(_holds, target, file):
            target.parent.mkdir(parents=True, exist_ok=True)
            await _Saving(link, path, file, tell or _silent).into(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror}", code="output.unwritable",
                          field="folder") from None  # fmt: skip
    return target


def _silent(*_: object) -> None:
    """For whoever does not want to be told."""


def _inside(name: str) -> PurePosixPath:
    """A name that cannot leave the folder, whatever a service says."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or not name.isprintable() or set(name) & set('\\:"'):
        raise ServiceError(f"the service names a file {name[:80]!r}, which is not written", code="service.file",
                           hint="is this the right service?")  # fmt: skip
    return path


def _holds(path: Path, file: ResultFile) -> bool:
    return path.is_file() and path.stat().st_size == file.bytes and _right(path, file)


def _right(path: Path, file: ResultFile) -> bool:
    if not file.sha256:
        return path.stat().st_size == file.bytes
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256.lower()


def _begun(part: Path, *, anew: bool = False) -> int:
    """Bytes that are here; the file is made where it is missing."""
    with part.open("wb" if anew else "ab") as opened:
        return opened.tell()


class _Saving:
    def __init__(self, link: Link, path: str, file: ResultFile, tell: Tell) -> None:
        self._link = link
        self._file = file
        self._tell = tell
        self._path = path

    async def into(self, target: Path) -> None:
        part = target.with_name(f".{target.name}.part")
        await self._filled(part)
        if not await asyncio.to_thread(_right, part, self._file):
            # What lay here may have been begun from another result of the same name: once more, from the first byte.
            _begun(part, anew=True)
            await self._filled(part)
        if not await asyncio.to_thread(_right, part, self._file):
            _begun(part, anew=True)
            raise ServiceError(f"{self._file.name} did not come as the service describes it", code="service.checksum",
                               hint="try again")  # fmt: skip
        part.replace(target)

    async def _filled(self, part: Path) -> None:
        """All bytes, in as many requests as it takes. A try that brought bytes does not count as one."""
        tried, have = 0, _begun(part)
        while have < self._file.bytes or have == 0:
            try:
                await self._request(part, have)
                trouble = self._link.unreachable(EOFError("the answer was cut off"))
            except httpx2.TransportError as error:
                trouble = self._link.unreachable(error)
            before, have = have, _begun(part)
            tried = 0 if have > before else tried + 1
            if have >= self._file.bytes:
                return
            if tried >= self._link.patience.tries:
                raise trouble
            await asyncio.sleep(self._link.patience.pause(tried))

    async def _request(self, part: Path, have: int) -> None:
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if have:
            headers["Range"] = f"bytes={have}-"
        async with self._link.opened(Call("GET", self._path, headers=headers)) as answer:
            if answer.is_error:
                await answer.aread()
            if passing(answer):
                return
            if answer.status_code == httpx2.codes.RANGE_NOT_SATISFIABLE:
                _begun(part, anew=True)
                return
            if answer.is_error:
                raise error_of(answer)
            await self._written(answer, part, have)

    async def _written(self, answer: httpx2.Response, part: Path, have: int) -> None:
        resumed = answer.headers.get("content-range", "").startswith(f"bytes {have}-")
        with part.open("ab" if have and resumed else "wb") as out:
            # As they come: gathered into larger pieces, the last one would be lost with the connection.
            async for piece in answer.aiter_bytes():
                out.write(piece)
                self._tell(self._file.name, out.tell(), self._file.bytes)
                if out.tell() > self._file.bytes:
                    return
