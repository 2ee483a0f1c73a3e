"""What is done to a result after the model, as it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from swathe.masking import Masking, Shapes
from swathe.regularity import Regularity


@dataclass(frozen=True, slots=True)
class Postprocess:
    """Steps, each only where it is wanted; masks come first."""

    masking: Masking | None = None
    """Clouds, snow, water, ocean, shapes: ``masked.tif``."""
    regularity: Regularity | None = None
    """Regular polygons: ``regularised.parquet``."""

    @classmethod
    def parse(
        cls, masks: str | None = None, buffer_px: int = 0, files: tuple[str, ...] = (), regularise: str | None = None,
        shapes: Shapes | None = None,
    ) -> Self:  # fmt: skip
        """From ``clouds,ocean`` and ``buildings``, as ``Masking.parse`` and ``Regularity.parse`` read it.

        Raises InputError.
        """
        wanted = masks or buffer_px or files or shapes
        masking = Masking.parse(masks or "", buffer_px, files, shapes) if wanted else None
        return cls(masking, None if regularise is None else Regularity.parse(regularise))
