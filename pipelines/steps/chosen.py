"""From what somebody wants to the steps after the model, in their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.masking.shapes_file import Reach
    from pipelines.sandbox.bounds import Bounds
    from pipelines.steps.treatment import Treatment
    from swathe.masking import MaskLayer
    from swathe.recipe import Recipe


def treatments_of(
    recipe: Recipe, bounds: Bounds | None = None, layers: Mapping[str, MaskLayer] | None = None,
    reach: Reach | None = None,
) -> tuple[Treatment, ...]:  # fmt: skip
    """Masks first, since what is masked becomes no polygon; the user's own script last: what it makes is the result.

    ``bounds``: of that script; ``layers``: that masks may come from; ``reach``: how a file of shapes is read. Raises
    InputError and its kin (``processor.*``).
    """
    from pipelines.masking.shapes_file import Reach
    from pipelines.steps.mask import Mask
    from pipelines.steps.processor import Processor
    from pipelines.steps.regular import Regularise

    chosen: list[Treatment] = []
    if recipe.postprocess.masking is not None:
        chosen.append(Mask(recipe.postprocess.masking, layers or {}, reach or Reach()))
    if recipe.postprocess.regularity is not None:
        chosen.append(Regularise(recipe.postprocess.regularity))
    if recipe.processor is not None:
        chosen.append(Processor.of(recipe.processor, bounds))
    return tuple(chosen)
