"""The step that makes polygons regular: ``regularised.parquet`` and ``regularised.geojson``."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.products.geoparquet import Drawing
from pipelines.products.ground import ground_of
from pipelines.products.regularise import STEM, regularise
from pipelines.publish import acquired
from pipelines.steps.treatment import Bench, Made
from swathe.regularity import Regularity


@dataclass(frozen=True)
class Regularise:
    """See ``pipelines.products.regularise``."""

    regularity: Regularity
    """What is asked for."""
    name: str = "regularise"
    """Of the step."""

    @property
    def key(self) -> str:
        """Of the wish."""
        return repr(self.regularity)

    def carry_out(self, bench: Bench) -> Made:
        """Trace what the step before left, and make it regular. Raises SwatheError."""
        work = bench.plan.work
        drawing = Drawing(bench.layer, work.grid, ground_of(work.grid), acquired(work.imagery))
        detail = regularise(bench.out / bench.raster, drawing, self.regularity, work.products.min_area_px, bench.check)
        bench.say(f"{detail['count']:,} polygons" + _how(detail))
        return Made((f"{STEM}.parquet", f"{STEM}.geojson"), None, detail)


def _how(detail: dict[str, object]) -> str:
    if "regular" not in detail:
        return ""
    return (
        f", {detail['regular']:,} with right angles; no area changed by more than {detail['largest_area_change']:.1%}"
    )
