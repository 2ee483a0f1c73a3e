"""What somebody wants: an area, imagery, a model. As typed; nothing has been looked at yet."""

from __future__ import annotations

from dataclasses import dataclass, field

from swathe.plan import ProductSettings


@dataclass(frozen=True, slots=True)
class Radiometry:
    """How the numbers of a file become physical units, where no sensor profile says it."""

    bands: tuple[str, ...] = ()
    """Common names, in the order of the file's bands or of the files."""
    scale: float | None = None
    """physical = stored * scale + offset."""
    offset: float | None = None
    """See ``scale``."""
    nodata: float | None = None
    """Stored number that means nothing, where the file does not say it."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A request for a run."""

    model: str
    """Id of a card."""
    inputs: tuple[str, ...]
    """``PATH_OR_URL`` or ``DATE=PATH_OR_URL``."""
    sensor: str | None = None
    """Id of a sensor profile."""
    radiometry: Radiometry = Radiometry()
    """Instead of a profile."""
    aoi: str | None = None
    """Bounding box, GeoJSON, WKT or the path of a vector file; None: all of the imagery."""
    products: ProductSettings = field(default=ProductSettings())
    """What to make of the result."""
    chunk: int | None = None
    """Side of a chunk in pixels of the imagery; None: chosen."""
