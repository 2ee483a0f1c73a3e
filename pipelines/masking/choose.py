"""Which source answers for which mask; a mask that nothing can tell is said so, never left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.masking.layer_source import MaskFiles, RasterLayer, VectorLayer, tells
from pipelines.masking.layers import layers_for
from pipelines.masking.scene_source import SceneMasks
from pipelines.masking.shapes import ShapesMask
from pipelines.masking.source import MaskSource
from swathe.errors import InputError
from swathe.masking import SCENES, Mask, Masking, MaskLayer
from swathe.mosaic import Mosaic
from swathe.plan import Work

if TYPE_CHECKING:
    from pipelines.blocks.open import Opener
    from pipelines.masking.shapes_file import KeptShapes

FILES, SHAPES = "files", "its shapes"
_HELP = {
    Mask.CLOUDS: "search the imagery from a source whose scenes have a mask (--source), or name the mask of your "
    "files: --mask-file RULE=PATH, e.g. fmask=HLS.Fmask.tif",
    Mask.SNOW: "search the imagery from a source whose masks know snow (SCL, Fmask, QA_PIXEL), or name the mask of "
    "your files: --mask-file RULE=PATH",
    Mask.WATER: "put the card of a water layer into the folder of layers (docs/postprocessing.md), or take what the "
    "scenes call water in every clear observation: --mask water=scenes",
    Mask.OCEAN: "put the card of a layer of the ocean, or of land, into the folder of layers (docs/postprocessing.md)",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """Where a mask comes from."""

    mask: Mask
    """The mask."""
    origin: str
    """``SCENES``, ``FILES``, ``SHAPES``, or the id of a layer."""


@dataclass(frozen=True, slots=True)
class Site:
    """A finished result, and what masks may come from."""

    work: Work
    """The run."""
    folder: Path
    """Where its rasters lie."""
    layers: Mapping[str, MaskLayer]
    """Cards by id."""
    raster: str = "result.tif"
    """Name of the raster that is masked."""
    check: Callable[[], None] = lambda: None
    """Raises Interrupted where the work is to stop."""
    shapes: KeptShapes | None = None
    """The file that ``Mask.SHAPES`` comes from, where it is asked for."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What can be told, and what cannot."""

    found: tuple[Answer, ...]
    """In the order of ``Mask``, one at least."""
    missing: tuple[InputError, ...] = ()
    """Why each of the others cannot."""

    @property
    def masks(self) -> tuple[Mask, ...]:
        """Those that are told."""
        return tuple(answer.mask for answer in self.found)


def answers(masking: Masking, work: Work, layers: Mapping[str, MaskLayer]) -> Answers:
    """Who tells each mask; nothing is opened.

    Scenes and files are asked first for clouds and snow, layers for water and ocean. Raises InputError
    (``mask.unanswered``, ``mask.layer``) where nothing can tell any of them.
    """
    found: list[Answer] = []
    missing: list[InputError] = []
    for mask, named in masking.masks:
        try:
            found.append(Answer(mask, _origin(mask, named, masking, work, layers)))
        except InputError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return Answers(tuple(found), tuple(missing))


def _origin(mask: Mask, named: str, masking: Masking, work: Work, layers: Mapping[str, MaskLayer]) -> str:
    if mask is Mask.SHAPES:
        return SHAPES
    if named == SCENES:
        if not _scenes_tell(mask, work):
            raise _unanswered(mask, _why_not(mask, work))
        return SCENES
    if named:
        return _layer(mask, named, layers)
    if mask in (Mask.CLOUDS, Mask.SNOW) and any(tells(file.rule, mask) for file in masking.files):
        return FILES
    if mask in (Mask.CLOUDS, Mask.SNOW) and _scenes_tell(mask, work):
        return SCENES
    able = [c for c in layers_for(mask, layers) if c.kind != SCENES or _scenes_tell(mask, work)]
    if not able:
        raise _unanswered(mask, _why_not(mask, work))
    return able[0].id


def _scenes_tell(mask: Mask, work: Work) -> bool:
    imagery = work.imagery
    return isinstance(imagery, Mosaic) and imagery.mask is not None and tells(imagery.mask.rule, mask)


def _why_not(mask: Mask, work: Work) -> str:
    imagery = work.imagery
    if mask is Mask.OCEAN or mask is Mask.WATER:
        return f"no layer tells {mask.value}"
    if not isinstance(imagery, Mosaic):
        return "the imagery is files, and files bring no mask"
    if imagery.mask is None:
        return f"the scenes of {imagery.sensor} have no mask"
    return f"masks of the rule {imagery.mask.rule.value} know no {mask.value}"


def _unanswered(mask: Mask, why: str) -> InputError:
    return InputError(f"{mask.value} cannot be masked: {why}", code="mask.unanswered", hint=_HELP[mask], field="--mask")


def _layer(mask: Mask, name: str, layers: Mapping[str, MaskLayer]) -> str:
    card = layers.get(name)
    if card is None or mask not in card.masks:
        able = ", ".join(c.id for c in layers_for(mask, layers)) or "none"
        what = "there is no layer" if card is None else f"{mask.value} is not told by the layer"
        raise InputError(f"{what} {name!r}", code="mask.layer", hint=f"layers for {mask.value}: {able}", field="--mask")
    return name


@dataclass(frozen=True, slots=True)
class Openers:
    """Ways to files: what opens a source's scenes is shown to nobody else."""

    scenes: Opener
    """With the credentials of the imagery's source."""
    layers: Opener
    """Without any; and of this machine's files any, since a card or whoever asks has named them, no stranger's item."""


def sources(
    found: tuple[Answer, ...], masking: Masking, site: Site, openers: Openers
) -> list[tuple[tuple[Mask, ...], MaskSource]]:
    """Sources, each with the masks it is asked for. Opens nothing."""
    by_origin: dict[str, tuple[Mask, ...]] = {}
    for answer in found:
        card = site.layers.get(answer.origin)
        origin = SCENES if card is not None and card.kind == SCENES else answer.origin
        by_origin[origin] = (*by_origin.get(origin, ()), answer.mask)
    return [(wanted, _source(origin, wanted, masking, site, openers)) for origin, wanted in by_origin.items()]


def _source(origin: str, wanted: tuple[Mask, ...], masking: Masking, site: Site, openers: Openers) -> MaskSource:
    grid, buffer = site.work.grid, masking.buffer_px
    if origin == SCENES:
        return SceneMasks(site.work, site.folder / "observations.tif", openers.scenes, wanted, buffer)
    if origin == FILES:
        return MaskFiles(masking.files, openers.layers, grid, wanted, buffer)
    if origin == SHAPES:
        assert site.shapes is not None
        assert masking.shapes is not None
        return ShapesMask(site.shapes.drawing(), masking.shapes.buffer_m, grid, site.shapes.told)
    card = site.layers[origin]
    return RasterLayer(card, openers.layers, grid, buffer) if card.kind == "raster" else VectorLayer(card, grid, buffer)
