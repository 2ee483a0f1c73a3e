"""How polygons of a result are to be made regular."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from swathe.errors import InputError

TOLERANCE_PX = 2.0
"""Pixels."""


class Manner(StrEnum):
    """Of outlines."""

    BUILDINGS = "buildings"
    """Right angles: each polygon by itself."""
    SMOOTH = "smooth"
    """Fewer corners, borders between neighbours still shared."""


@dataclass(frozen=True, slots=True)
class Regularity:
    """Which manner, and how far outlines may move."""

    manner: Manner = Manner.BUILDINGS
    """See there."""
    tolerance_px: float = TOLERANCE_PX
    """buildings: edges shorter than this are steps of the grid. smooth: by so much outlines may move."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``buildings`` or ``smooth``, with ``=PIXELS`` after it. Raises InputError (``regularise.unknown``)."""
        name, _, tolerance = text.strip().partition("=")
        try:
            found = cls(Manner(name.strip().lower()), float(tolerance or TOLERANCE_PX))
        except ValueError:
            raise _unknown(text) from None
        if not 0.5 <= found.tolerance_px <= 50:  # noqa: PLR2004  a pixel's half, and more than any step
            raise _unknown(text)
        return found


def _unknown(text: str) -> InputError:
    return InputError(
        f"{text[:40]!r} is no way to make polygons regular", code="regularise.unknown", field="--regularise",
        hint="write buildings or smooth, and after it a tolerance of 0.5 to 50 pixels if you like: buildings=3",
    )  # fmt: skip
