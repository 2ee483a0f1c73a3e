"""The step that masks: ``masked.tif`` beside the result."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipelines.masking.choose import Site, answers
from pipelines.masking.masked import NAME, STEP, expect_free, expect_room, write_masked
from pipelines.masking.shapes_file import KeptShapes, Reach, stamp
from pipelines.steps.treatment import Bench, Made, Start
from swathe.errors import InputError
from swathe.masking import Masking, MaskLayer


@dataclass(frozen=True)
class Mask:
    """See ``pipelines.masking``."""

    masking: Masking
    """What is asked for."""
    layers: Mapping[str, MaskLayer]
    """Cards by id that masks may come from."""
    reach: Reach = field(default=Reach())
    """How the file of shapes is read."""
    shapes: KeptShapes | None = None
    """That file, where it is wished for and the run has begun."""
    name: str = STEP
    """Of the step."""

    @property
    def key(self) -> str:
        """Of the wish, the cards, and the files of this machine as they are now; of shapes that came, their hash."""
        cards = [card.model_dump_json() for card in self.layers.values()]
        files = [f.href for f in self.masking.files] + [f for card in self.layers.values() for f in card.files]
        files += [] if self.masking.shapes is None else [self.masking.shapes.href]
        kept = "" if self.shapes is None else self.shapes.told["sha256"]
        return hashlib.sha256(repr((self.masking, cards, [stamp(f) for f in files], kept)).encode()).hexdigest()

    def prepared(self, start: Start) -> Mask:
        """With the file of shapes, fetched before anything is computed that it would be missed in.

        Raises InputError and its kin (``mask.shapes.*``, ``mask.code``), ReadError, OutputError.
        """
        wish = self.masking.shapes
        if wish is None:
            return self
        expect_free(wish.code, start.plan.work.card.output.classes)
        return replace(self, shapes=KeptShapes.bring(wish, self.reach, start.place, start.folder, start.check))

    def carry_out(self, bench: Bench) -> Made:
        """Mask what the step before left, as far as anybody tells the masks. Raises SwatheError."""
        site = Site(bench.plan.work, bench.out, self.layers, bench.raster, bench.check, self.shapes)
        expect_room(bench.layer)
        found = answers(self.masking, site.work, site.layers)
        for error in found.missing:
            bench.say(error.problem.line())
        detail = write_masked(site, self.masking, bench.layer, bench.network, found)
        for told in detail["masks"]:
            bench.say(f"{told['mask']}: {told['pixels']:,} pixels carry {told['code']}, by {_words(told['from'])}")
        if "warning" in detail:
            bench.say(detail["warning"])
        beside = (f"{NAME}.tif.aux.xml", f"{NAME}.qml")
        files = (f"{NAME}.tif", *(name for name in beside if (bench.out / name).exists()))
        return Made(files, f"{NAME}.tif", detail, missing=_together(found.missing))


def _together(missing: Sequence[InputError]) -> InputError | None:
    """One problem of several masks that nobody tells; the rest of the file is as it should be."""
    if not missing:
        return None
    first = missing[0]
    return InputError("; ".join(error.detail for error in missing), code=first.problem.code, field=first.field,
                      hint=first.problem.hint)  # fmt: skip


def _words(origin: Mapping[str, Any]) -> str:
    if origin["kind"] == "scenes":
        return f"the {origin['rule']} masks of {origin['source']}"
    if origin["kind"] == "shapes":
        reach = f"{origin['shapes']:,} shapes and {origin['buffer_m']:g} m around them"
        return f"{origin['file']} ({reach}; sha256 {origin['sha256']})"
    return "mask files" if origin["kind"] == "files" else f"{origin['title']} ({origin.get('resolution') or 'a layer'})"
