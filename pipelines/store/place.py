"""Where a run's own folder lies: on this machine, or in object storage with a folder here to work in."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from pipelines.products.parts import refusals
from pipelines.store.blobs import Blobs, StoreSettings, is_stored, open_blobs
from pipelines.store.chunk_store import ChunkStore, chunk_store_of
from pipelines.store.lease import Lease
from pipelines.store.scratch import scratch
from swathe.errors import OutputError

MEMORY = ("events.jsonl", "plan.json", "cut.json", "scenes.json", "steps.json", "shapes.json", "shapes.geojson")
"""Files by which a run is resumed, beside its receipts."""
STATE = tuple(f".swathe/{name}" for name in MEMORY)
"""A run's memory beside its receipts; brought here before it goes on."""
_AT_ONCE = 4
"""Files on their way to a store."""
LAST = ("report.json", "item.json")
"""Products that say that all others stand."""


class Place(Protocol):
    """What the driver asks of it. Names are relative to the run's folder."""

    name: str
    """As people may see it."""
    chunk_store: ChunkStore
    """Of its chunks."""

    def hold(self) -> AbstractContextManager[None]:
        """Be the only writer; a second one is refused (OutputError ``output.busy``)."""
        ...

    def keep(self, *names: str) -> None:
        """What was written into the local folder lasts from now on, and what was removed from it is gone."""
        ...

    def has(self, *names: str) -> bool:
        """Whether all of these stand."""
        ...

    def read(self, name: str) -> bytes:
        """One of them."""
        ...

    def remove(self, *names: str) -> None:
        """Those that are there go. Raises OutputError."""
        ...

    def bring_products(self, sizes: Mapping[str, int]) -> bool:
        """Name -> bytes of files that were kept: into the local folder; whether all are here, and whole."""
        ...

    def finish(self) -> None:
        """The products stand in the local folder: bring them where they belong, report and item last."""
        ...


class FolderPlace(Place):
    """The local folder itself: nothing has to be brought anywhere."""

    def __init__(self, out: Path) -> None:
        """Nothing is touched yet."""
        self.out, self.name = out, str(out)
        self.folder = out / ".swathe"
        self.chunk_store = chunk_store_of(self.folder / "parts", None)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """A file lock: it goes with the process."""
        try:
            (self.folder / "parts").mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise OutputError(
                f"cannot write to {self.out}: {error.strerror}", code="output.unwritable", field="--out",
                hint="choose another folder with --out",
            ) from None  # fmt: skip
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"another run is writing to {self.out}", code="output.busy", field="--out",
                    hint="wait for it, or choose another folder",
                ) from None  # fmt: skip
            except OSError as error:
                raise OutputError(
                    f"nothing keeps a second run from writing to {self.out}: its file system has no locks "
                    f"({error.strerror})", code="output.unlockable", field="--out",
                    hint="choose a folder on another disk, or have this one mounted with locks",
                ) from None  # fmt: skip
            yield

    def keep(self, *names: str) -> None:
        """They are where they belong."""

    def has(self, *names: str) -> bool:
        """Files."""
        return all((self.out / name).is_file() for name in names)

    def read(self, name: str) -> bytes:
        """A file."""
        return (self.out / name).read_bytes()

    def remove(self, *names: str) -> None:
        """Files."""
        with refusals(self.out):
            for name in names:
                (self.out / name).unlink(missing_ok=True)

    def bring_products(self, sizes: Mapping[str, int]) -> bool:
        """They are here, or nowhere."""
        return _whole(self.out, sizes)

    def finish(self) -> None:
        """They are where they belong."""


class StoredPlace(Place):
    """Object storage; ``out`` is a folder of this machine that lasts as long as the driver."""

    def __init__(self, out: Path, store: Blobs) -> None:
        """Nothing is touched yet."""
        self.out, self.store, self.name = out, store, store.place
        self.chunk_store = chunk_store_of(out / ".swathe" / "parts", store)
        self._lease: Lease | None = None

    @contextmanager
    def hold(self) -> Iterator[None]:
        """A lease: it ends with the driver, or a minute after it was last seen alive."""
        with Lease(self.store, ".swathe/lock") as lease:
            self._lease = lease
            try:
                self.bring()
                yield
            finally:
                self._lease = None

    def bring(self) -> None:
        """The run's memory, as the store has it."""
        for name in STATE:
            path = self.out / name
            with refusals(self.out):
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    self.store.fetch(name, path)
                except FileNotFoundError:
                    path.unlink(missing_ok=True)

    def keep(self, *names: str) -> None:
        """Sent; refused where another driver has taken over."""
        if self._lease is not None:
            self._lease.check()
        there = [name for name in names if (self.out / name).is_file()]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda name: self.store.put_file(name, self.out / name), there))
        self.store.delete(set(names) - set(there))

    def has(self, *names: str) -> bool:
        """A request each."""
        return all(self.store.look(name) is not None for name in names)

    def read(self, name: str) -> bytes:
        """One request."""
        return self.store.get(name)

    def remove(self, *names: str) -> None:
        """One request, and what is here of them."""
        self.store.delete(names)
        for name in names:
            (self.out / name).unlink(missing_ok=True)

    def bring_products(self, sizes: Mapping[str, int]) -> bool:
        """A request each."""
        with refusals(self.out):
            try:
                for name in sizes:
                    self.store.fetch(name, self.out / name)
            except FileNotFoundError:
                return False
        return _whole(self.out, sizes)

    def finish(self) -> None:
        """Each product appears whole; report and item when all others stand."""
        names = sorted(path.name for path in self.out.iterdir() if path.is_file() and not path.name.startswith("."))
        self.keep(*(name for name in names if name not in LAST))
        self.keep(*(name for name in LAST if name in names))


def _whole(folder: Path, sizes: Mapping[str, int]) -> bool:
    return all((folder / n).is_file() and (folder / n).stat().st_size == size for n, size in sizes.items())


def place_of(out: Path, store: Blobs | None) -> Place:
    """``out`` itself, or the store that it is a working folder for."""
    return FolderPlace(out) if store is None else StoredPlace(out, store)


@contextmanager
def working_folder(out: str, settings: StoreSettings) -> Iterator[tuple[Path, Blobs | None]]:
    """From what was typed after ``--out``: the folder to work in, and the store that keeps it, if there is one.

    The folder of a run that is kept elsewhere is private, and gone at the end. Raises OutputError.
    """
    if not is_stored(out):
        yield Path(out).expanduser().resolve(), None
        return
    store = open_blobs(out, settings)
    with scratch() as folder:
        yield folder, store
