"""Where the part files, receipts and attempts of a run's chunks are kept: a folder that all see, or object storage.

A store is a value and travels to every worker. A receipt comes last, so that its presence says that the files it names
are whole.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pipelines.products.parts import refusals
from pipelines.receipt import Receipt, parsed
from pipelines.store.blobs import NOTHING, Blobs, Conflict
from pipelines.store.folder import write_whole
from pipelines.store.scratch import own_scratch

MAX_ATTEMPTS = 3
"""A chunk that took its worker down this often is given up and listed, so that it cannot kill actors for ever."""
_AT_ONCE = 16
"""Small requests under way."""
_FETCHED_AT_ONCE = 4
"""Part files under way."""


class ChunkStore(Protocol):
    """What workers and the driver do with it. Raises OutputError where it cannot be written to."""

    def begin(self, chunk: str) -> int:
        """Count an attempt before it starts, so that one that kills its worker was counted. Gives its number."""
        ...

    def room(self) -> Path:
        """A folder of this machine in which one worker makes part files."""
        ...

    def keep(self, receipt: Receipt, room: Path) -> None:
        """The files that a receipt names, from the room, and then the receipt."""
        ...

    def tell(self, chunk: str, pixels: int) -> None:
        """How far a chunk is."""
        ...

    def under_way(self) -> int:
        """Pixels done of chunks that are not settled yet, where that is told."""
        ...

    def forget_progress(self) -> None:
        """What an earlier attempt told."""
        ...

    def forget_attempts(self) -> None:
        """Attempts under an earlier driver: its workers ended with it, and that was no chunk's fault."""
        ...

    def settled(self) -> dict[str, Receipt]:
        """Chunk -> receipt, of all that are settled and whose files are whole."""
        ...

    def brought(self, names: Iterable[str]) -> AbstractContextManager[Path]:
        """A folder of this machine that holds these part files, as long as it is needed."""
        ...

    def clear(self) -> None:
        """Forget everything."""
        ...

    def drop(self) -> None:
        """Remove part files; receipts stay."""
        ...


@dataclass(frozen=True, slots=True)
class FolderChunkStore(ChunkStore):
    """A folder: things are kept where they are made, and nothing is copied."""

    folder: Path
    """Every worker sees it."""

    def begin(self, chunk: str) -> int:
        """A file per attempt."""
        attempt = 1 + sum(1 for _ in self.folder.glob(f"{chunk}.attempt-*"))
        with refusals(self.folder):
            (self.folder / f"{chunk}.attempt-{attempt}").touch()
        return attempt

    def room(self) -> Path:
        """The folder itself."""
        return self.folder

    def keep(self, receipt: Receipt, room: Path) -> None:  # noqa: ARG002  the folder itself
        """Only the receipt is still to be written."""
        with refusals(self.folder):
            write_whole(self.folder / f"{receipt.chunk}.json", receipt.text())
        for path in self.folder.glob(f"{receipt.chunk}.attempt-*"):
            path.unlink(missing_ok=True)
        (self.folder / f"{receipt.chunk}.progress").unlink(missing_ok=True)

    def tell(self, chunk: str, pixels: int) -> None:
        """A small file; a chunk does not fail for the want of it."""
        with suppress(OSError):
            write_whole(self.folder / f"{chunk}.progress", str(pixels).encode())

    def under_way(self) -> int:
        """The sum of those files."""
        done = 0
        for path in self.folder.glob("*.progress"):
            try:
                done += int(path.read_text() or 0)
            except (OSError, ValueError):  # finished in between
                continue
        return done

    def forget_progress(self) -> None:
        """Remove them."""
        for path in self.folder.glob("*.progress"):
            path.unlink(missing_ok=True)

    def forget_attempts(self) -> None:
        """Remove their files."""
        for path in self.folder.glob("*.attempt-*"):
            path.unlink(missing_ok=True)

    def settled(self) -> dict[str, Receipt]:
        """Read all receipts and look at the files' sizes."""
        found = (parsed(path.read_bytes()) for path in sorted(self.folder.glob("*.json")))
        return _whole(found, _Sizes(self.folder))

    @contextmanager
    def brought(self, names: Iterable[str]) -> Iterator[Path]:  # noqa: ARG002  the protocol's
        """They are here."""
        yield self.folder

    def clear(self) -> None:
        """Remove all files."""
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)

    def drop(self) -> None:
        """Keep what ends in .json."""
        for path in self.folder.iterdir():
            if path.suffix != ".json":
                path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class ObjectChunkStore(ChunkStore):
    """Object storage: parts are made on the worker's own disk, and sent off when they are whole."""

    blobs: Blobs
    """Every worker reaches it."""

    def begin(self, chunk: str) -> int:
        """The first number that nobody has taken; past the last one that counts, none is."""
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                self.blobs.put(f"{chunk}.attempt-{attempt}", b"1", over=NOTHING)
            except Conflict:
                continue
            return attempt
        return MAX_ATTEMPTS + 1

    def room(self) -> Path:
        """A new one: workers of two runs in one process have chunks of the same names. It goes with the process."""
        return _new_folder()

    def keep(self, receipt: Receipt, room: Path) -> None:
        """Each file appears whole or not at all; nothing of them stays on the worker's disk."""
        paths = {name: room / name for name in receipt.files}
        try:
            self._send(paths)
            self.blobs.put(f"{receipt.chunk}.json", receipt.text())
        finally:
            for path in paths.values():
                path.unlink(missing_ok=True)
        if (
            not receipt.settled
        ):  # it will be tried again, and its attempts counted anew; those of others go with the parts
            self.blobs.delete(f"{receipt.chunk}.attempt-{n}" for n in range(1, MAX_ATTEMPTS + 1))

    def _send(self, paths: Mapping[str, Path]) -> None:
        """Side by side, as a far store takes long for each."""
        if paths:
            with ThreadPoolExecutor(len(paths)) as pool:
                list(pool.map(self.blobs.put_file, paths.keys(), paths.values()))

    def tell(self, chunk: str, pixels: int) -> None:
        """Not told: a request per strip is too dear, and chunks settle soon enough."""

    def under_way(self) -> int:
        """Not known."""
        return 0

    def forget_progress(self) -> None:
        """There is none."""

    def forget_attempts(self) -> None:
        """One listing, and requests to delete them."""
        self.blobs.delete([blob.name for blob in self.blobs.list() if ".attempt-" in blob.name])

    def settled(self) -> dict[str, Receipt]:
        """One listing, and a request per receipt."""
        sizes = {blob.name: blob.size for blob in self.blobs.list()}
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            texts = pool.map(self._text, sorted(name for name in sizes if name.endswith(".json")))
            return _whole((parsed(text) for text in texts), sizes)

    def _text(self, name: str) -> bytes:
        try:
            return self.blobs.get(name)
        except FileNotFoundError:  # removed in between
            return b""

    @contextmanager
    def brought(self, names: Iterable[str]) -> Iterator[Path]:
        """Fetched, and removed when done with: the disk holds the parts of one product at a time."""
        folder = _new_folder()
        try:
            with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
                list(pool.map(self._fetch, names, itertools.repeat(folder)))
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _fetch(self, name: str, folder: Path) -> None:
        with refusals(folder):
            try:
                self.blobs.fetch(name, folder / name)
            except FileNotFoundError:  # assembling says which part is missing
                return

    def clear(self) -> None:
        """Delete all objects."""
        self.blobs.delete([blob.name for blob in self.blobs.list()])

    def drop(self) -> None:
        """Keep what ends in .json."""
        self.blobs.delete([blob.name for blob in self.blobs.list() if not blob.name.endswith(".json")])


def _new_folder() -> Path:
    own = own_scratch()
    with refusals(own):
        return Path(tempfile.mkdtemp(prefix="parts-", dir=own))


class _Sizes(Mapping[str, int]):
    """Of the files of a folder, as they are asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> int:
        try:
            return (self.folder / name).stat().st_size
        except FileNotFoundError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return (path.name for path in self.folder.iterdir())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _whole(receipts: Iterable[Receipt | None], sizes: Mapping[str, int]) -> dict[str, Receipt]:
    found = (r for r in receipts if r is not None and r.settled)
    return {r.chunk: r for r in found if all(sizes.get(name) == size for name, size in r.files.items())}


def chunk_store_of(parts: Path, store: Blobs | None) -> ChunkStore:
    """Of a run: the folder ``parts``, or in ``store`` where results are kept there."""
    return FolderChunkStore(parts) if store is None else ObjectChunkStore(store.below(".swathe/parts"))
