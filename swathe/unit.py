"""What unit a model wants, what unit imagery comes in, and the one pair between which is converted: radar power."""

from __future__ import annotations

from enum import StrEnum

from swathe.bands import OPTICAL
from swathe.card import Input
from swathe.errors import BandError

REFLECTANCE, POWER, DB, DN = "reflectance", "linear power", "dB", "DN"
DECLARED, TAGGED = "as declared", "as tagged"
UNNAMED = frozenset({DECLARED, TAGGED})
"""Units of which only a scale is known: somebody has said what the numbers mean, and not how that is called."""
_DIMENSIONLESS = frozenset({"", "1", "unitless", "dimensionless"})
"""What catalogues call reflectance where they call it anything else."""
_OF_RADAR_OR_HEAT = frozenset({POWER, DB, "kelvin"})
_THERMAL = frozenset({"lwir11", "lwir12"})


class Conversion(StrEnum):
    """How physical units become those that a model wants; after scale and offset, before the model's mean and std."""

    TO_DB = "10 log10(x)"
    """Linear power to decibels; what is not above 0 has none and is masked."""
    TO_POWER = "10^(x / 10)"
    """Decibels to linear power."""

    @property
    def unit(self) -> str:
        """Of the result."""
        return DB if self is Conversion.TO_DB else POWER


_PAIRS = {(POWER, DB): Conversion.TO_DB, (DB, POWER): Conversion.TO_POWER}


def settle(eats: Input, comes: str) -> Conversion | None:
    """What has to be done to imagery in the unit ``comes`` before a model gets it; None: nothing.

    Raises BandError (``band.unit``) where the units do not fit. A card that names none takes what comes, but for
    optical bands neither radar's units nor temperatures. One that wants reflectance takes what has a scale and no unit.
    """
    if not eats.unit:
        if comes in _OF_RADAR_OR_HEAT and set(eats.bands) <= set(OPTICAL) - _THERMAL:
            raise _unfit(REFLECTANCE, comes)
        return None
    if eats.unit == comes or (eats.unit == REFLECTANCE and all(map(_may_reflect, comes.split(", ")))):
        return None
    found = _PAIRS.get((comes, eats.unit))
    if found is None:
        raise _unfit(eats.unit, comes)
    return found


def _may_reflect(unit: str) -> bool:
    return unit in UNNAMED or unit.lower() in _DIMENSIONLESS | {REFLECTANCE}


def stretched(eats: Input, comes: str) -> str:
    """What to tell of digital numbers that a model takes for want of a unit of its own; empty where nothing is."""
    if eats.unit or comes != DN or not set(eats.bands) <= set(OPTICAL):
        return ""
    return "the imagery holds digital numbers, no reflectance: values compare within a picture, not between pictures"


def _unfit(wanted: str, comes: str) -> BandError:
    if comes == DN:
        hint = (
            "digital numbers are no reflectance: choose other imagery, or a method that is a ratio of two bands alone"
        )
    else:
        hint = f"choose imagery in {wanted}; only linear power and dB are converted into each other"
    what = f"the model wants {wanted}, the imagery comes in {comes or 'an unknown unit'}"
    return BandError(what, code="band.unit", hint=hint)
