"""How stored numbers become physical units: from the command line, a sensor profile or the file's tags. Never a guess.

--scale, --offset      what the user says
--sensor               what the product's documentation says
tags of the file       what its maker says (GDAL's scale and offset)
floating-point numbers without any of these count as physical units, if they can be: reflectance lies in 0..1
anything else          is refused
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines.imagery.match import Found
from swathe.bands import OPTICAL
from swathe.errors import BandError
from swathe.imagery import shown
from swathe.recipe import Radiometry
from swathe.sensor import SensorProfile
from swathe.unit import DECLARED, TAGGED

_TOO_BRIGHT = 3.0
"""No scene's median reflectance is above this; scaled ones (0..255, 0..10000) are far above."""
_PLAUSIBLE = (-0.03, 1.5)
"""A median reflectance outside of this is worth a word."""
_REFLECTIVE = frozenset(OPTICAL) - {"lwir11", "lwir12"}


@dataclass(frozen=True, slots=True)
class Units:
    """How one band becomes physical."""

    scale: float
    """physical = stored * scale + offset."""
    offset: float
    """See ``scale``."""
    unit: str
    """Of the result."""
    note: str = ""
    """What the user should know."""


def units(name: str, found: Found, profile: SensorProfile | None, said: Radiometry, fits: Sequence[str]) -> Units:
    """Of one band; ``fits`` are profiles worth a hint. Raises BandError (``band.radiometry``)."""
    if said.scale is not None:
        return Units(said.scale, said.offset or 0.0, DECLARED)
    if said.offset is not None:
        raise _unknown("--offset without --scale says too little", "give both", "--offset")
    if profile is not None:
        return _of_profile(name, found, profile)
    tags = found.header.scales[found.index - 1], found.header.offsets[found.index - 1]
    if tags != (1.0, 0.0):
        return Units(*tags, TAGGED)
    _refuse_guess(name, found, fits)
    return Units(1.0, 0.0, "reflectance")


def _of_profile(name: str, found: Found, profile: SensorProfile) -> Units:
    band = profile.band(name)
    scale = band.scale if band and band.scale is not None else profile.scale
    offset = band.offset if band and band.offset is not None else profile.offset
    unit = band.unit if band and band.unit else profile.unit
    tags = found.header.scales[found.index - 1], found.header.offsets[found.index - 1]
    if tags not in ((1.0, 0.0), (scale, offset)):
        note = (
            f"{shown(found.header.href)} is tagged with scale {tags[0]:g} and offset {tags[1]:g}; "
            f"{profile.id} says {scale:g} and {offset:g}, which was used"
        )
        return Units(scale, offset, unit, note)
    level = found.header.levels[found.index - 1] * scale + offset
    odd = unit == "reflectance" and not math.isnan(level) and not _PLAUSIBLE[0] <= level <= _PLAUSIBLE[1]
    note = (
        f"with {profile.id}, {shown(found.header.href)} has {name} reflectance around {level:.2g}: is it the right one?"
    )
    return Units(scale, offset, unit, note if odd else "")


def _refuse_guess(name: str, found: Found, fits: Sequence[str]) -> None:
    header, i = found.header, found.index - 1
    which = f" ({', '.join(fits)})" if fits else ""
    hint = f"say --sensor{which}, or --scale and --offset (physical = stored * scale + offset)"
    where, dtype = f"band {name} of {shown(header.href)}", header.dtypes[i]
    if not dtype.startswith("float"):
        raise _unknown(f"{where} holds {dtype} numbers, and nothing says how they become physical units", hint)
    if name not in _REFLECTIVE:
        raise _unknown(f"nothing says in which unit {where} is", hint)
    if header.levels[i] > _TOO_BRIGHT:
        raise _unknown(f"{where} holds numbers around {header.levels[i]:.4g}, which is no reflectance (0..1)", hint)


def _unknown(detail: str, hint: str, field: str = "--sensor") -> BandError:
    return BandError(detail, code="band.radiometry", hint=hint, field=field)


def nodata_of(found: Found, profile: SensorProfile | None, said: Radiometry) -> tuple[float | None, str]:
    """Stored number that means nothing, and a note: what the user says, else the file's tag, else the profile."""
    if said.nodata is not None:
        return said.nodata, ""
    tag = found.header.nodata[found.index - 1]
    own = profile.nodata if profile else None
    if tag is None:
        return own, ""
    note = ""
    if own is not None and tag != own and profile:
        note = (
            f"{shown(found.header.href)} tags {tag:g} as nodata, {profile.id} says {own:g}: the tag was used; "
            "--nodata overrules it"
        )
    return tag, note
