"""The file of shapes that a run masks by: fetched once, before the first chunk, and kept beside the run's receipts.

It is an input like the imagery: one that cannot be read or used ends the run before anything is computed, and a resumed
run masks by the shapes it began with, whatever lies at the address by then. What is kept of the address is its hash,
and in reports what people may see of it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Waited
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipelines.masking.geojson import Drawing, ShapeLimits, read_geojson, too_large
from pipelines.remote.network import Network
from swathe.errors import ImageryError, ReadError
from swathe.imagery import is_remote, shown
from swathe.masking import Shapes

if TYPE_CHECKING:
    from pipelines.store.place import Place

DATA, FACTS = "shapes.geojson", "shapes.json"
"""In the run's own folder: the bytes as they came, and what is known of them."""
LONGEST_S = 300.0
"""Seconds within which the file has to be here: one that drips keeps nobody waiting for hours."""
_STAYS = {"read.gone": "imagery.missing", "read.forbidden": "imagery.forbidden"}
"""What is wrong with the wish, and will be at the next attempt; as of imagery that is looked at."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How such files are read, and how much is taken of them."""

    network: Network = field(default=Network())
    """For addresses."""
    limits: ShapeLimits = field(default=ShapeLimits())
    """Of the file."""


@dataclass(frozen=True, slots=True)
class KeptShapes:
    """The file as this run has it."""

    path: Path
    """Its bytes."""
    limits: ShapeLimits
    """What they were read within."""
    told: dict[str, Any]
    """What a report says: ``file``, ``sha256``, ``bytes``, ``shapes``."""

    def drawing(self) -> Drawing:
        """Raises ImageryError, LimitError, as when it came."""
        return read_geojson(self.path.read_bytes(), self.limits, self.told["file"])

    @classmethod
    def bring(cls, shapes: Shapes, reach: Reach, place: Place, folder: Path, check: Callable[[], None]) -> Self:
        """What the run keeps of these shapes; where it has none of them, fetched, looked at and kept.

        ``folder``: the run's own. Raises ReadError (``read.*``), ImageryError (``url.*``, ``imagery.missing``,
        ``imagery.forbidden``, ``mask.shapes.*``), LimitError (``mask.shapes.limits``), OutputError, and whatever
        ``check`` raises.
        """
        from pipelines.products.parts import refusals
        from pipelines.store.folder import write_whole

        path, wish = folder / DATA, wish_of(shapes)
        told = _standing(folder, wish)
        if told is None:
            name = name_of(shapes)
            data = fetched(shapes.href, name, reach, check)
            drawing = read_geojson(data, reach.limits, name)
            told = {"kind": "shapes", "file": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data),
                    "shapes": drawing.features}  # fmt: skip
            with refusals(folder):
                write_whole(path, data)
                write_whole(folder / FACTS, json.dumps({"wish": wish, "told": told}).encode())
            place.keep(f"{folder.name}/{DATA}", f"{folder.name}/{FACTS}")
        return cls(path, reach.limits, {**told, "file": name_of(shapes)})


def wish_of(shapes: Shapes) -> str:
    """Hash of what decides which file is meant; of one of this machine, as it is now."""
    return hashlib.sha256(repr((shapes.href, stamp(shapes.href)[1:])).encode()).hexdigest()


def stamp(href: str) -> tuple[str, int, int]:
    """Another file under the same name is another mask."""
    if is_remote(href):
        return href, 0, 0
    try:
        facts = Path(href).stat()
    except OSError:
        return href, 0, 0
    return href, facts.st_size, facts.st_mtime_ns


def name_of(shapes: Shapes) -> str:
    """As people may see it."""
    return shapes.name or shown(shapes.href)


def _standing(folder: Path, wish: str) -> dict[str, Any] | None:
    """What is known of the kept file, where it is the one that is wished for, and whole."""
    try:
        facts = json.loads((folder / FACTS).read_bytes())
        told, found = facts["told"], hashlib.sha256((folder / DATA).read_bytes()).hexdigest()
        return told if facts["wish"] == wish and told["sha256"] == found else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def fetched(href: str, name: str, reach: Reach, check: Callable[[], None]) -> bytes:
    """All bytes at an address, or of a file of this machine that whoever asks has named. Raises as ``bring``."""
    from pipelines.remote.fetch import Fetcher

    network = reach.network if is_remote(href) else replace(reach.network, local_root=None)
    end = time.monotonic() + LONGEST_S
    with ThreadPoolExecutor(1, "shapes") as pool, Fetcher(network) as fetcher:  # closed first, it lets the thread go
        coming = pool.submit(fetcher.whole, href, limit_mb=reach.limits.mb)
        while True:
            try:
                return coming.result(timeout=1.0)
            except Waited:
                check()
                if time.monotonic() > end:
                    raise ReadError(f"{name} did not come within {LONGEST_S:g} s", code="read.lost",
                                    hint="try again later, or upload it") from None  # fmt: skip
            except ReadError as error:
                if error.refined in _STAYS:
                    raise ImageryError(error.detail, code=_STAYS[error.refined], hint=error.hint,
                                       field="--mask-shapes") from None  # fmt: skip
                raise
            except ImageryError as error:
                if error.refined == "imagery.limits":  # its words are about imagery
                    raise too_large(reach.limits, name) from None
                raise
