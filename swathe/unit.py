"""What unit a model wants, what unit imagery comes in, and the one pair between which is converted: radar power."""

from __future__ import annotations

from enum import StrEnum

from swathe.bands import OPTICAL
from swathe.card import Input
from swathe.errors import BandError

REFLECTANCE, POWER, DB = "reflectance", "linear power", "dB"
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
    optical bands neither radar's units nor temperatures.
    """
    if not eats.unit:
        if comes in _OF_RADAR_OR_HEAT and set(eats.bands) <= set(OPTICAL) - _THERMAL:
            raise _unfit(REFLECTANCE, comes)
        return None
    if eats.unit == comes:
        return None
    found = _PAIRS.get((comes, eats.unit))
    if found is None:
        raise _unfit(eats.unit, comes)
    return found


def _unfit(wanted: str, comes: str) -> BandError:
    return BandError(
        f"the model wants {wanted}, the imagery comes in {comes or 'an unknown unit'}",
        code="band.unit",
        hint=f"choose imagery in {wanted}; only linear power and dB are converted into each other",
    )
