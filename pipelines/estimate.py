"""What a run will take, before it runs: bytes from the files' headers, seconds from what this machine has shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pipelines.imagery.readers import kept_mb
from pipelines.mosaic.frame import Frame
from pipelines.mosaic.omnicloudmask import CORE
from pipelines.mosaic.under import under
from pipelines.mosaic.warp import level_for
from pipelines.pace import PRODUCTS_S_PER_MPX, START_S, Pace
from swathe.errors import SwatheError
from swathe.imagery import Imagery, is_remote
from swathe.mosaic import Mosaic
from swathe.plan import Cost, Plan, Work
from swathe.window import Window

if TYPE_CHECKING:
    from pipelines.blocks.open import Opener
    from swathe.scene import Asset, AssetGrid, Scene

LIBRARIES_MB = 230.0
"""Of a worker before its first chunk: Python, numpy, GDAL, the engine."""
NETWORK = 4.0
"""Memory of a network at work, as a multiple of its weights."""
MASKING_MB, MASKING_S = 750.0, 2.7
"""Of a worker whose clouds are found by OmniCloudMask; per patch and scene, both networks on one core."""
SAMPLED = 48
"""Files whose headers are looked at; of more, these stand for all."""
AT_ONCE = 16
"""Headers fetched side by side."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a run has at hand."""

    kind: str
    """``loop``, ``ray``, or ``pool``: workers that a service keeps warm."""
    workers: int
    """Chunks done at a time."""
    threads: int
    """Of one worker's forward."""
    mbit_s: float | None = None
    """Bandwidth to the imagery, as it was set; None: it is taken for no hindrance."""


def estimated(plan: Plan, pace: Pace, means: Means, opener: Opener | None = None) -> Plan:
    """The plan with bytes to fetch and seconds filled in."""
    cost = replace(plan.cost, fetch_mb=_fetch_mb(plan.work, opener), worker_mb=_worker_mb(plan))
    return replace(plan, cost=_timed(cost, len(plan.chunks), pace, means, _masking_s(plan.work) / means.workers))


def _worker_mb(plan: Plan) -> float:
    """Libraries, strips, what the reader keeps, and a network with its working memory."""
    work = plan.work
    kept = kept_mb(work, min(plan.chunk_shape[1], work.shape[1]))
    size = work.card.weights.size_mb if work.card.weights and work.card.weights.size_mb else 0.0
    masking = MASKING_MB if _masked_scenes(work) else 0.0
    return round(LIBRARIES_MB + plan.cost.memory_mb + kept + NETWORK * size + masking, 0)


def _masked_scenes(work: Work) -> int:
    """Scenes whose clouds are found by networks."""
    imagery = work.imagery
    if not isinstance(imagery, Mosaic) or imagery.mask is None or not imagery.mask.networks:
        return 0
    return len(imagery.scenes)


def _masking_s(work: Work) -> float:
    """Of one core: every scene is looked at, patch by patch."""
    return math.ceil(work.shape[0] / CORE) * math.ceil(work.shape[1] / CORE) * _masked_scenes(work) * MASKING_S


def _timed(cost: Cost, chunks: int, pace: Pace, means: Means, masking: float) -> Cost:
    """Chunks are whole: three chunks on two workers take as long as four."""
    rounds = math.ceil(chunks / means.workers)
    forward = cost.tiles / chunks * rounds * pace.tile_s + masking
    network = 0.0 if means.mbit_s is None or cost.fetch_mb is None else cost.fetch_mb * 8 / means.mbit_s
    seconds = START_S[means.kind] + max(forward, network) + cost.pixels / 1e6 * PRODUCTS_S_PER_MPX
    measured = pace.measured and network <= forward  # the link is what somebody set, not what was seen
    return replace(cost, seconds=round(seconds, 1), seconds_from="measured" if measured else "guess")


def _fetch_mb(work: Work, opener: Opener | None) -> float | None:
    if isinstance(work.imagery, Imagery):
        return _of_files(work.imagery, work)
    if opener is None:
        return None
    assets = [asset for scene in work.imagery.scenes for asset in _assets(scene) if is_remote(asset.href)]
    if not assets:
        return 0.0
    looked_at = assets[:: _step(len(assets), len(_assets(work.imagery.scenes[0])))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sizes = [s for s in pool.map(lambda a: _bytes(a, opener, work), looked_at) if s is not None]
    return round(sum(sizes) / len(sizes) * len(assets) / 1e6, 1) if sizes else None


def _step(files: int, of_a_scene: int) -> int:
    """Every so many files are looked at: a number that meets all bands in turn, as they differ in size."""
    step = math.ceil(files / SAMPLED)
    while math.gcd(step, of_a_scene) > 1:
        step += 1
    return step


def _assets(scene: Scene) -> Sequence[Asset]:
    looks = (asset for asset in scene.looks if asset not in scene.bands)
    return (*scene.bands, *looks) if scene.mask is None else (*scene.bands, scene.mask)


def _of_files(imagery: Imagery, work: Work) -> float | None:
    """Share of the area in the files, of the sizes that their servers told."""
    share = min(1.0, work.shape[0] * work.shape[1] * work.stride**2 / (imagery.shape[0] * imagery.shape[1]))
    sizes = [stamp.split(" ", maxsplit=1)[0] for href, stamp in imagery.stamps if is_remote(href)]
    if not all(size.isdigit() for size in sizes):
        return None
    return round(share * sum(map(int, sizes)) / 1e6, 1)


def _bytes(asset: Asset, opener: Opener, work: Work) -> int | None:
    """Of the blocks of one file under the area, at the level that will be read.

    None where its header cannot be had: the run will tell.
    """
    assert isinstance(work.imagery, Mosaic)
    try:
        source = opener.open(asset)
        level = level_for(source, Frame.of(work.imagery))
        windows = _windows(work, source.overviews[level - 1] if level else source.grid)
        return sum(source.bytes_of(window, level) for window in windows)
    except SwatheError:
        return None


def _windows(work: Work, grid: AssetGrid) -> tuple[Window, ...]:
    """Pixels of a file under the area."""
    box = work.area.bounds if work.area is not None else tuple(work.grid.boundingbox)
    return under(box, work.imagery.crs, grid)


def seen(cost: Cost, took: dict[str, float | None]) -> dict[str, dict[str, float | None]]:
    """Estimate and truth side by side, for the report."""
    expected: dict[str, float | None] = {
        "seconds": cost.seconds, "fetched_mb": cost.fetch_mb, "tiles": cost.tiles, "memory_mb": cost.worker_mb,
    }  # fmt: skip
    return {name: {"estimate": expected.get(name), "took": value} for name, value in took.items()}
