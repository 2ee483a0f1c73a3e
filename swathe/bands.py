"""Band names: STAC's common names, everywhere (cards, sensors, the command line, the APIs)."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

OPTICAL = (
    "coastal", "blue", "green", "red", "rededge071", "rededge075", "rededge078",
    "nir", "nir08", "nir09", "cirrus", "swir16", "swir22", "pan", "lwir11", "lwir12",
)  # fmt: skip
SAR = ("vv", "vh", "hh", "hv")
OTHER = ("dem", "index")
MASKS = ("scl", "qa", "mask")
TRUE_COLOUR = ("red", "green", "blue")
"""What an eye sees."""
NAMES = frozenset(OPTICAL + SAR + OTHER + MASKS)


def _known(name: str) -> str:
    if name not in NAMES:
        msg = f"unknown band {name!r}; known are {', '.join(OPTICAL + SAR + OTHER + MASKS)}"
        raise ValueError(msg)
    return name


BandName = Annotated[str, AfterValidator(_known)]
