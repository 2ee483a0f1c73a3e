"""A sensor profile: which bands a file holds and how its numbers become physical units. Always explicit."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from swathe.bands import BandName
from swathe.card import Frozen


class SensorBand(Frozen):
    """One band of a product."""

    name: BandName
    """Common name."""
    tokens: tuple[str, ...] = ()
    """How files and band descriptions call it, e.g. ``B02``; matched whole and case-insensitively, after splitting
    names at anything that is no letter or digit."""
    scale: float | None = None
    """Own scale where it differs from the profile's."""
    offset: float | None = None
    """Own offset where it differs from the profile's."""
    unit: str = ""
    """Own unit where it differs from the profile's."""
    at: Annotated[int, Field(ge=1)] | None = None
    """Its place in a multi-band file, from 1, where that is not its place in the list."""


class SensorProfile(Frozen):
    """One product of one provider: physical = stored * scale + offset."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,79}$")]
    """Used on the command line: ``--sensor``."""
    title: str
    """One line for people."""
    bands: tuple[SensorBand, ...]
    """In the order of a multi-band file."""
    scale: float
    """No default: radiometry is explicit."""
    offset: float
    """No default."""
    unit: str = "reflectance"
    """reflectance (0..1), dB, linear power, DN."""
    nodata: float | None = None
    """Where the file has no nodata tag of its own; ``--nodata`` overrules both."""
    mask_band: Annotated[int, Field(ge=1)] | None = None
    """Band of a per-band file that is 0 where there is no data (Sentinel Hub's dataMask)."""
    ordered: bool = True
    """False: multi-band files have no fixed order, so names must come from descriptions, file names or ``--bands``."""
    source: str = ""
    """Where scale and offset are documented."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [b.name for b in self.bands]
        if len(set(names)) != len(names):
            msg = f"a band is named twice: {names}"
            raise ValueError(msg)
        places = list(self.places.values())
        if len(set(places)) != len(places):
            msg = f"two bands lie at the same place of a file: {places}"
            raise ValueError(msg)
        return self

    @property
    def places(self) -> dict[str, int]:
        """Band name -> its place in a multi-band file, from 1."""
        return {b.name: b.at or i for i, b in enumerate(self.bands, 1)}

    def band(self, name: str) -> SensorBand | None:
        """The band of this name, or None."""
        return next((b for b in self.bands if b.name == name), None)
