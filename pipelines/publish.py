"""From part files to products: mosaic, vectors, preview, catalogue item, report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from affine import Affine

from pipelines.backdrop import backdrop
from pipelines.imagery.inputs import moment
from pipelines.input_checksums import files_of
from pipelines.ledger import Receipt, write_whole
from pipelines.masking.masked import NAME as MASKED
from pipelines.masking.masked import STEP
from pipelines.products import cog
from pipelines.products.features import Drawing, write_features
from pipelines.products.ground import ground_of
from pipelines.products.item import ItemFacts, ModelFacts, Source, write_item
from pipelines.products.layer import Kind, LayerSpec, layer_of
from pipelines.products.merge import merge
from pipelines.products.parts import refusals
from pipelines.products.preview import Masked, Wording, write_preview
from pipelines.products.quicklook import write_quicklook
from pipelines.products.shapes import ShapeRules
from pipelines.remote.network import Network
from pipelines.store.chunk_store import ChunkStore
from swathe.imagery import Imagery, shown
from swathe.lattice import Chunk
from swathe.masking import Mask, code_labels
from swathe.mosaic import Mosaic
from swathe.plan import Plan
from swathe.step import StepState

Done = Sequence[tuple[Chunk, Receipt]]


@dataclass(frozen=True, slots=True)
class Published:
    """Rasters and vectors stand; the report and what quotes it come last."""

    plan: Plan
    """The run."""
    out: Path
    """Where everything lies."""
    layer: LayerSpec
    """What it is."""
    seconds: dict[str, float]
    """Per product."""
    features: dict[str, Any] | None
    """Count and area per class; None where there are no classes."""
    files: list[dict[str, str]]
    """Given files by content (``files_of``); searched scenes are told by their items."""

    def conclude(self, facts: dict[str, Any], network: Network | None = None) -> None:
        """Draw preview and quick-look, then write report and item; ``facts`` is the report and is completed here."""
        started = time.perf_counter()
        self._preview(facts, network)
        facts["seconds"]["preview"] = round(time.perf_counter() - started, 3)
        facts["features"] = self.features
        if self.files:
            facts["imagery"]["files"] = self.files
        with refusals(self.out):
            write_whole(self.out / "report.json", json.dumps(facts, indent=2, default=str).encode())
        write_item(item_facts(self.plan, self.layer, facts), self.out)

    def _preview(self, facts: dict[str, Any], network: Network | None) -> None:
        work, grid = self.plan.work, self.plan.work.grid
        under = backdrop(work, network=network)
        if under is not None and grid.crs is not None:
            write_quicklook(under.colours, Affine(*under.transform), grid.crs, self.out / "quicklook.tif")
        masked = _masked(self.out, facts["steps"])
        write_preview(
            self.out / "result.tif", self.layer, grid, self.out / "preview.png", wording(self.plan, facts),
            background=under.colours if under is not None and self.layer.kind is Kind.CLASSES else None, masked=masked,
        )  # fmt: skip


def _codes(steps: Sequence[Mapping[str, Any]]) -> dict[Mask, int]:
    """What stands in ``masked.tif`` beside the result; nothing where no step has masked it."""
    finished = (step for step in steps if step["state"] == StepState.FINISHED)
    masks = next((step["detail"].get("masks", ()) for step in finished if step["name"] == STEP), ())
    return {Mask(one["mask"]): one["code"] for one in masks}


def _masked(out: Path, steps: Sequence[Mapping[str, Any]]) -> Masked | None:
    codes = _codes(steps)
    return Masked(out / f"{MASKED}.tif", code_labels(codes, codes)) if codes else None


def wording(plan: Plan, facts: dict[str, Any]) -> Wording:
    """What the preview says: model, dates, credits, and the share of every class, unless masks hide some of it."""
    card, imagery = plan.work.card, plan.work.imagery
    dates = ", ".join(a.when for a in imagery.dates if a.when)
    told = [card.id, dates, f"{plan.cost.area_km2:,.1f} km²"]
    if facts["status"] != "done":
        told.append(f"INCOMPLETE: {'chunks' if facts['chunks']['failed'] else 'a step'} failed")
    valid = facts["pixels"]["valid"]
    notes = {int(value): f"{pixels / valid:.1%}" for value, pixels in facts["classes"].items() if valid}
    seen = {} if _codes(facts["steps"]) else notes
    return Wording(card.title, " · ".join(t for t in told if t), f"{_credit(imagery)} · swathe", seen)


def _credit(imagery: Imagery | Mosaic) -> str:
    """The sensor where a profile was named, else the files."""
    if imagery.sensor not in ("tags", "bands"):
        return imagery.sensor
    names = [name.rpartition("/")[2] for name in imagery.files]
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")  # noqa: PLR2004  what fits on the line


def _times(imagery: Imagery | Mosaic) -> list[datetime]:
    """Of all acquisitions, the first one first; of those that took long, the middle."""
    if isinstance(imagery, Mosaic):
        return sorted(moment(scene.when) for scene in imagery.scenes if scene.when)
    return sorted(moment(a.when) for a in imagery.dates if a.when)


def _span(imagery: Imagery | Mosaic) -> tuple[datetime | None, datetime | None]:
    """First and last instant of all that was acquired: a scene may have lasted for days. None where none is known."""
    lasted = (scene.lasted for scene in imagery.scenes) if isinstance(imagery, Mosaic) else ()
    ends = sorted([*_times(imagery), *(moment(end) for pair in lasted if pair for end in pair)])
    return (ends[0], ends[-1]) if ends else (None, None)


def acquired(imagery: Imagery | Mosaic) -> datetime | None:
    """The last acquisition; None where none is known."""
    times = _times(imagery)
    return times[-1] if times else None


def _sources(imagery: Imagery | Mosaic, files: Sequence[dict[str, str]]) -> tuple[Source, ...]:
    """Items of scenes, where there are items; else files."""
    if isinstance(imagery, Mosaic) and all(s.href for s in imagery.scenes):
        return tuple(Source(shown(s.href), s.id, "application/geo+json") for s in imagery.scenes)
    sums = {file["file"]: file.get("sha256", "") for file in files}
    return tuple(Source(href, sha256=sums.get(href, "")) for href in imagery.files)


def _observed(imagery: Imagery | Mosaic) -> int:
    """Dates of which observations.tif tells; 0: there is none."""
    return len(imagery.slots) if isinstance(imagery, Mosaic) else 0


def _label(imagery: Imagery | Mosaic, facts: dict[str, Any]) -> dict[str, Any]:
    """What a searched result has to say of how its pixels came about."""
    if not isinstance(imagery, Mosaic):
        return {}
    return {
        "swathe:source": imagery.sensor,
        "swathe:composite": imagery.composite.value,
        "swathe:scenes": [s.id for s in imagery.scenes],
        "swathe:radiometry": sorted({s.rule for s in imagery.scenes if s.rule}),
        "swathe:mask": None if imagery.mask is None else imagery.mask.rule.value,
        "swathe:lost_assets": (facts["observations"] or {}).get("lost_assets", []),
    }


def item_facts(plan: Plan, layer: LayerSpec, facts: dict[str, Any]) -> ItemFacts:
    """What the catalogue item tells."""
    card, imagery = plan.work.card, plan.work.imagery
    start, end = _span(imagery)
    runtimes = facts["model"]["runtimes"]
    links = card.links
    return ItemFacts(
        id=f"{card.id}-{plan.key[:12]}",
        title=card.title,
        description=card.summary,
        grid=plan.work.grid,
        layer=layer,
        model=ModelFacts(card.id, card.title, runtimes[0]["model_sha256"] if runtimes else "", card.licence,
                         card.citation, links),
        created=datetime.now(UTC).replace(microsecond=0),
        start=start,
        end=end,
        sources=_sources(imagery, facts["imagery"].get("files", ())),
        software=facts["versions"],
        lineage=f"{card.title} over {imagery.sensor} imagery, tile by tile, blended",
        counts={int(value): pixels for value, pixels in facts["classes"].items()},
        properties={
            "swathe:status": facts["status"],
            "swathe:valid_fraction": facts["pixels"]["valid_fraction"],
            "swathe:chunks": facts["chunks"],
            "swathe:key": plan.key,
            **_label(imagery, facts),
        },
        awaited=(),
    )  # fmt: skip


def publish(plan: Plan, done: Done, parts: ChunkStore, out: Path) -> Published:
    """Make rasters and vectors, side by side: one waits for the disk and GDAL, the other for numpy.

    Parts are brought for one product at a time, where they are not in a folder of this machine.
    """
    work = plan.work
    layer = layer_of(work.card, probabilities=work.products.probabilities, observations=_observed(work.imagery))
    seconds: dict[str, float] = {}
    with ThreadPoolExecutor(3) as pool:
        rasters = pool.submit(_timed, seconds, "cog", lambda: _rasters(plan, layer, done, parts, out))
        vectors = pool.submit(_timed, seconds, "vectors", lambda: _vectors(plan, layer, done, parts, out))
        files = pool.submit(_timed, seconds, "sums", lambda: _files(work.imagery))
        rasters.result()
        features = vectors.result()
    return Published(plan, out, layer, seconds, features, files.result())


def _files(imagery: Imagery | Mosaic) -> list[dict[str, str]]:
    return [] if isinstance(imagery, Mosaic) else files_of(imagery)


def _timed(seconds: dict[str, float], name: str, make: Callable[[], Any]) -> Any:
    started = time.perf_counter()
    made = make()
    seconds[name] = round(time.perf_counter() - started, 3)
    return made


def _rasters(plan: Plan, layer: LayerSpec, done: Done, parts: ChunkStore, out: Path) -> None:
    for raster in layer.rasters:
        placed = [
            (name, chunk.window)
            for chunk, receipt in done
            for name in receipt.files
            if name == f"{chunk.key}.{raster.name}.tif"
        ]
        with parts.brought(name for name, _ in placed) as folder:
            here = [(folder / name, window) for name, window in placed]
            cog.assemble(here, plan.work.grid, layer, raster, out / f"{raster.name}.tif")


def _vectors(plan: Plan, layer: LayerSpec, done: Done, parts: ChunkStore, out: Path) -> dict[str, Any] | None:
    if layer.kind is not Kind.CLASSES:
        return None
    products, grid = plan.work.products, plan.work.grid
    names = [name for _, receipt in done for name in receipt.files if name.endswith(".npz")]
    drawing = Drawing(layer, grid, ground_of(grid), acquired(plan.work.imagery))
    with parts.brought(names) as folder:
        found = merge([folder / name for name in names], ShapeRules(products.min_area_px, products.simplify_px))
        written = write_features(found, drawing, out, gpkg=products.gpkg)
    return {"count": written.count, "area_m2": written.area_m2}
