"""The end of tracing: chunk files of shapes become one stream of finished polygons.

First the heads of all files are read (what is known of the regions that reach a seam, not what they look like), and
the regions find each other. Then the files are read one after the other; a region is drawn when the last chunk that
holds a part of it has been read. Memory: the heads, one chunk, and the outlines under way.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from pipelines.products.corners import Corners, Ints, Outlines
from pipelines.products.regions import Facts, Regions, Seams, Sketch, meetings
from pipelines.products.runs import components
from pipelines.products.shapes import ChunkShapes, ShapeRules, Shapes, finished
from pipelines.products.simplify import Pieces, outlines_of, polygons_of
from swathe.errors import OutputError
from swathe.undisturbed import undisturbed

_AT_A_TIME = 1 << 16
"""Regions that are outlined together: their number shares 62 bits with their rows and columns."""

Arrays = Mapping[str, NDArray[np.generic]]


def save(shapes: ChunkShapes, path: Path) -> None:
    """Write a chunk's shapes; the caller sees to it that ``path`` is a temporary name."""
    arrays: dict[str, NDArray[np.generic]] = {}
    _put(arrays, "closed", shapes.closed.facts)
    _put(arrays, "outline", shapes.closed.outlines)
    _put(arrays, "open", shapes.open.facts)
    _put(arrays, "seam", shapes.open.seams)
    arrays |= _drawn(shapes.open.drawing)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load(path: Path) -> ChunkShapes:
    """Read what ``save`` wrote. Raises OutputError where the file is missing or damaged."""
    return undisturbed(lambda: _load(path))


def _load(path: Path) -> ChunkShapes:
    with _opened(path) as arrays:
        return ChunkShapes(
            Shapes(_facts(arrays, "closed"), _outlines(arrays, "outline")),
            Regions(_facts(arrays, "open"), _drawing(arrays), _seams(arrays)),
        )


def merge(paths: Sequence[Path], rules: ShapeRules) -> Iterator[Shapes]:
    """All polygons of a raster from the files of its chunks.

    Files are read in the order given and polygons come in an order that follows from it, so that the same files give
    the same stream. Chunks without a file are treated as nodata. Raises OutputError for a damaged file.
    """
    if not paths:
        return
    plan = _plan([_head(path) for path in paths])
    waiting: dict[int, list[Sketch]] = defaultdict(list)
    for index, path in enumerate(paths):
        shapes = load(path)
        if len(shapes.closed):
            yield shapes.closed
        drawing = shapes.open.drawing.renumbered(plan.group[plan.start[index] : plan.start[index + 1]])
        for last, part in _by_last(drawing, plan):
            waiting[last].append(part)
        yield from _complete(waiting.pop(index, []), plan.groups(index), plan, rules)


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """Which open regions belong together, and when each is complete."""

    start: Ints
    """(files + 1,) where the open regions of each file begin in ``group``."""
    group: Ints
    """(open regions,) what each belongs to."""
    facts: Facts
    """Of the groups, in the order in which they are completed."""
    last: Ints
    """(groups,) index of the file that completes each, ascending."""

    def groups(self, index: int) -> range:
        """What is complete once this file has been read."""
        low, high = np.searchsorted(self.last, (index, index + 1))
        return range(int(low), int(high))


def _plan(heads: list[tuple[Facts, Seams]]) -> _Plan:
    sizes = [len(facts) for facts, _ in heads]
    start = np.cumsum([0, *sizes])
    numbers = [np.arange(a, b) for a, b in itertools.pairwise(start)]
    facts = Facts.joined([f for f, _ in heads])
    seams = Seams.joined([s.renumbered(n) for (_, s), n in zip(heads, numbers, strict=True)])
    count, group = components(len(facts), *meetings(seams, facts.value))
    last = np.zeros(count, np.int64)
    np.maximum.at(last, group, np.repeat(np.arange(len(sizes)), sizes))
    order = np.argsort(last, kind="stable")
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    return _Plan(start, rank[group], facts.grouped(count, rank[group]), last[order])


def _by_last(drawing: Sketch, plan: _Plan) -> Iterator[tuple[int, Sketch]]:
    """Split by the file that completes each region."""
    last = plan.last[drawing.region]
    indices = np.unique(last)
    for index in indices:
        yield int(index), drawing if len(indices) == 1 else drawing.take(last == index)


def _complete(parts: list[Sketch], groups: range, plan: _Plan, rules: ShapeRules) -> Iterator[Shapes]:
    if not parts:
        return
    drawing = type(parts[0]).joined(parts)
    parts.clear()
    for low in range(groups.start, groups.stop, _AT_A_TIME):
        high = min(low + _AT_A_TIME, groups.stop)
        mine = drawing.take((drawing.region >= low) & (drawing.region < high))
        part = mine.renumbered(np.arange(high) - low)
        yield finished(Regions(plan.facts.take(np.arange(low, high)), part, Seams.joined([])), rules)


def _head(path: Path) -> tuple[Facts, Seams]:
    return undisturbed(lambda: _read_head(path))


def _read_head(path: Path) -> tuple[Facts, Seams]:
    with _opened(path) as arrays:
        return _facts(arrays, "open"), _seams(arrays)


def _opened(path: Path) -> np.lib.npyio.NpzFile:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError, BadZipFile) as error:
        raise OutputError(
            f"shapes of a chunk cannot be read: {path.name}: {error}",
            hint="delete the file and run the same command again: the chunk is then done anew",
            code="output.part",
        ) from error


def _put(arrays: dict[str, NDArray[np.generic]], prefix: str, value: Facts | Seams | Outlines | Corners) -> None:
    for field in fields(value):
        arrays[f"{prefix}_{field.name}"] = getattr(value, field.name)


def _drawn(drawing: Sketch) -> dict[str, NDArray[np.generic]]:
    if isinstance(drawing, Corners):
        return dict(zip(_CORNERS, (drawing.region, drawing.row, drawing.col, drawing.sign), strict=True))
    arrays: dict[str, NDArray[np.generic]] = {"piece_region": drawing.region}
    if isinstance(drawing, Pieces):
        _put(arrays, "piece", outlines_of(drawing.polygon))
    return arrays


_CORNERS = ("corner_region", "corner_row", "corner_col", "corner_sign")


def _drawing(arrays: Arrays) -> Sketch:
    if "corner_sign" in arrays:
        return Corners(*(arrays[name] for name in _CORNERS))  # pyright: ignore[reportArgumentType]
    return Pieces(arrays["piece_region"].astype(np.int64), polygons_of(_outlines(arrays, "piece")))


def _facts(arrays: Arrays, prefix: str) -> Facts:
    return Facts(*(arrays[f"{prefix}_{f.name}"] for f in fields(Facts)))  # pyright: ignore[reportArgumentType]


def _seams(arrays: Arrays) -> Seams:
    return Seams(*(arrays[f"seam_{f.name}"] for f in fields(Seams)))  # pyright: ignore[reportArgumentType]


def _outlines(arrays: Arrays, prefix: str) -> Outlines:
    return Outlines(*(arrays[f"{prefix}_{f.name}"] for f in fields(Outlines)))  # pyright: ignore[reportArgumentType]
