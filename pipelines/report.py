"""report.json: exactly what was done, with what, and how it went. For programs first."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePath
from typing import Any

import psutil

from pipelines.estimate import seen
from pipelines.ledger import Receipt
from swathe.imagery import Imagery, shown
from swathe.mosaic import Mosaic
from swathe.plan import Plan
from swathe.source import SourceMask
from swathe.state import State

LIBRARIES = ("swathe", "ray", "rasterio", "numpy", "shapely", "pyproj", "pyarrow", "openvino", "onnxruntime", "torch",
             "terratorch", "torchgeo", "spyndex")  # fmt: skip
STATUSES = ("done", "empty", "nodata", "failed")
BARREN = "no pixel of the result has a value"
"""How the warning begins that such a result carries."""
LISTED = 1000
"""Failed tiles listed in the report; the receipts hold all."""


def report(
    plan: Plan, receipts: Sequence[Receipt], state: State, seconds: dict[str, float], *,
    fitted: dict[str, float] | None = None, context: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Everything that is worth knowing of a finished run, as plain JSON values."""
    return {
        "status": state.value,
        "key": plan.key,
        "model": _model(plan, receipts, fitted),
        "imagery": _imagery(plan),
        "observations": _observations(receipts),
        "grid": {
            "crs": plan.work.imagery.crs,
            "transform": list(plan.work.transform)[:6],
            "shape": list(plan.work.shape),
        },
        "chunks": _chunks(plan, receipts),
        "pixels": _pixels(receipts),
        "classes": _classes(receipts),
        "tiles": _tiles(plan, receipts),
        "seconds": seconds | _stages(receipts),
        "memory_mb": {
            "largest_worker": max((r.peak_mb for r in receipts), default=0.0),
            "driver": round(psutil.Process().memory_info().rss / 2**20, 1),
        },
        "estimate": asdict(plan.cost),
        "estimate_and_truth": _truth(plan, receipts, seconds),
        "warnings": [
            *plan.warnings,
            *plan.work.imagery.notes,
            *_doubts(plan, fitted),
            *_barren(plan, receipts),
            *_mixed(receipts),
        ],
        "failed": _failures(receipts),
        "versions": versions(),
        "machine": {"system": platform.platform(), "cores": psutil.cpu_count(), "python": platform.python_version()},
        **(context or {}),
    }


def _model(plan: Plan, receipts: Sequence[Receipt], fitted: dict[str, float] | None) -> dict[str, Any]:
    card = plan.work.card
    ran = {str(sorted(r.runtime.items())): r.runtime for r in receipts if r.tiles}
    return {
        "id": card.id,
        "title": card.title,
        "task": card.task.value,
        "licence": card.licence,
        "citation": card.citation,
        "weights": card.weights.model_dump() if card.weights else None,
        "verified": bool(card.weights.sha256) if card.weights else None,
        "runtimes": list(ran.values()),
        "fitted": fitted,
        "area_dependent": card.area_dependent,
    }


def _imagery(plan: Plan) -> dict[str, Any]:
    imagery = plan.work.imagery
    return _searched(imagery) if isinstance(imagery, Mosaic) else _given(imagery)


def _searched(mosaic: Mosaic) -> dict[str, Any]:
    """Scenes are numbered as in observations.tif."""
    number = {scene.key: i for i, scene in enumerate(mosaic.scenes, 1)}
    return {
        "source": mosaic.sensor,
        "unit": mosaic.unit,
        "fingerprint": mosaic.fingerprint,
        "composite": mosaic.composite.value,
        "mask": None if mosaic.mask is None else _mask(mosaic.mask),
        "max_loss": mosaic.max_loss,
        "dates": [
            {
                "when": slot.when,
                "scenes": [
                    {"number": number[s.key], "id": s.id, "collection": s.collection, "when": s.when,
                     "platform": s.platform, "cloud": s.cloud, "clear": s.clear, "rule": s.rule, "href": shown(s.href),
                     "files": sorted({shown(band.href) for band in s.bands})}
                    for s in slot.scenes
                ],
            }
            for slot in mosaic.slots
        ],
    }  # fmt: skip


def _mask(mask: SourceMask) -> dict[str, Any]:
    """Networks by name and hash: where they lie on this machine is nobody's business."""
    facts = mask.model_dump(mode="json")
    for network in facts["networks"]:
        network["uri"] = PurePath(network["uri"]).name
    return facts


def _observations(receipts: Sequence[Receipt]) -> dict[str, Any] | None:
    """What was fetched and what was lost, over all chunks; None where files were given."""
    read = [r.reading for r in receipts if r.reading]
    if not read:
        return None
    names = ("fetched_mb", "requests", "retried", "from_cache", "lost")
    total = {name: round(sum(r.get(name, 0) for r in read), 3) for name in names}
    lost = {(a["scene"], a["asset"]): a for r in read for a in r.get("lost_assets", ())}
    return total | {"lost_assets": [lost[key] for key in sorted(lost)]}


def _truth(plan: Plan, receipts: Sequence[Receipt], seconds: dict[str, float]) -> dict[str, Any]:
    """The estimate beside what it took."""
    fetched = _observations(receipts)
    return seen(
        plan.cost,
        {
            "seconds": round(sum(seconds.get(stage, 0.0) for stage in ("fit", "chunks", "products")), 1),
            "fetched_mb": fetched["fetched_mb"] if fetched else None,
            "tiles": sum(r.tiles + r.skipped for r in receipts),
            "memory_mb": max((r.peak_mb for r in receipts), default=None),
        },
    )


def _given(imagery: Imagery) -> dict[str, Any]:
    return {
        "sensor": imagery.sensor,
        "unit": imagery.unit,
        "fingerprint": imagery.fingerprint,
        "dates": [
            {
                "when": a.when,
                "bands": [
                    {"name": b.name, "file": shown(b.href), "band": b.index, "scale": b.scale, "offset": b.offset,
                     "nodata": None if b.nodata is None else str(b.nodata)}
                    for b in a.bands
                ],
            }
            for a in imagery.dates
        ],
    }  # fmt: skip


def _chunks(plan: Plan, receipts: Sequence[Receipt]) -> dict[str, Any]:
    counts = Counter(r.status for r in receipts)
    return {"total": len(plan.chunks), "shape": list(plan.chunk_shape)} | {s: counts[s] for s in STATUSES}


def _pixels(receipts: Sequence[Receipt]) -> dict[str, Any]:
    total, valid = sum(r.pixels for r in receipts), sum(r.valid for r in receipts)
    return {
        "total": total,
        "valid": valid,
        "lost": sum(r.lost for r in receipts),
        "valid_fraction": round(valid / total, 6) if total else 0.0,
    }


def _classes(receipts: Sequence[Receipt]) -> dict[str, int]:
    """Class value -> pixels; empty where there are no classes."""
    total: Counter[str] = Counter()
    for receipt in receipts:
        total.update(receipt.classes)
    return {value: total[value] for value in sorted(total, key=int)}


def _tiles(plan: Plan, receipts: Sequence[Receipt]) -> dict[str, Any]:
    return {
        "done": sum(r.tiles for r in receipts),
        "skipped": sum(r.skipped for r in receipts),
        "failed": sum(len(r.failed_tiles) for r in receipts),
        "repeated_share": plan.cost.repeated,
    }


def _stages(receipts: Sequence[Receipt]) -> dict[str, float]:
    """Summed over workers: how much work there was, not how long it took."""
    stages = ("read", "predict", "blend", "write", "total")
    summed = {f"workers_{s}": round(sum(r.seconds.get(s, 0.0) for r in receipts), 3) for s in stages}
    return summed | {"workers_cpu": round(sum(r.cpu_s for r in receipts), 3)}


def _doubts(plan: Plan, fitted: dict[str, float] | None) -> list[str]:
    if fitted is None:
        return []
    from models.formula import explain

    return [explain(plan.work.card, fitted)]


def _barren(plan: Plan, receipts: Sequence[Receipt]) -> list[str]:
    """A map without a single pixel looks like success, unless it says so; what was lost is told elsewhere."""
    if not receipts or any(r.valid or r.lost or r.error for r in receipts):
        return []
    why = "is clear in the scenes used" if isinstance(plan.work.imagery, Mosaic) else "has valid imagery"
    return [f"{BARREN}: nothing of the area {why}"]


def _mixed(receipts: Sequence[Receipt]) -> list[str]:
    """Nodes of one cluster may differ, whatever the driver does."""
    kinds = {r.made_with for r in receipts if r.made_with}
    if len(kinds) < 2:  # noqa: PLR2004  one kind is how it should be
        return []
    return [f"{len(kinds)} runtimes took part in this raster (model.runtimes): install the same versions on all nodes"]


def _failures(receipts: Sequence[Receipt]) -> list[dict[str, Any]]:
    whole = [{"chunk": r.chunk, "error": r.error} for r in receipts if r.error]
    tiles = [{"chunk": r.chunk, **tile} for r in receipts for tile in r.failed_tiles]
    return (whole + tiles)[:LISTED]


def versions() -> dict[str, str]:
    """Of the libraries that decide a result, as installed; none is imported."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
