"""What somebody wants: an area, imagery, a model. As typed; nothing has been looked at yet."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

from swathe.composite import Composite
from swathe.postprocess import Postprocess


@dataclass(frozen=True, slots=True)
class ProductSettings:
    """What a run leaves behind, beyond the result itself."""

    min_area_px: int = 4
    """Polygons of fewer pixels are left out."""
    simplify_px: float = 0.0
    """Tolerance of the outlines in pixels; 0 keeps the pixels' edges."""
    gpkg: bool = False
    """Also write features.gpkg."""
    probabilities: bool = False
    """Also write one band per class to probabilities.tif."""


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
class Search:
    """Imagery that is to be found, instead of named."""

    source: str
    """Id of a source card, or the address of a STAC API, catalogue, item or folder."""
    dates: tuple[str, ...]
    """Dates and intervals, one per date that the model wants."""
    collection: str | None = None
    """Of the source, where its card does not name it."""
    max_cloud: float | None = None
    """Percent of cloud over the area; scenes of more are left out. As masks show it; of a source without, as its
    catalogue says."""
    composite: Composite | None = None
    """None: ``none`` where a slot holds one solar day, else ``best``."""
    res: float | None = None
    """Side of a pixel in units of the output CRS; None: the finest of the bands."""
    crs: str | None = None
    """Of the output grid; None: the scenes' own."""
    max_loss: float = 0.0
    """Share of observations that may be lost before a chunk counts as failed (0..1)."""


@dataclass(frozen=True, slots=True)
class ProcessorWish:
    """A script that is run over the result, in a sandbox."""

    script: str
    """Path of the script; as it is asked of a service, the id of a processor."""
    parameters: dict[str, Any] = field(default_factory=dict)
    """For it, as plain JSON values."""
    call: str = ""
    """``positional``, ``text`` or ``flags``; empty: told by the script."""
    title: str = ""
    """For people; empty: the file's name."""
    about: dict[str, str] = field(default_factory=dict)
    """More for the record of the step."""
    content: bytes = b""
    """The script itself, where it is no file here; ``script`` is its name then."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A request for a run."""

    model: str
    """Id of a card."""
    inputs: tuple[str, ...] = ()
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
    search: Search | None = None
    """Instead of inputs."""
    postprocess: Postprocess = field(default=Postprocess())
    """Steps after the model."""
    processor: ProcessorWish | None = None
    """Last of the steps after the model."""

    @property
    def asked(self) -> str:
        """Hash of what decides the imagery: a resumed run that was asked the same keeps the scenes it began with."""
        return hashlib.sha256(repr((self.model, self.inputs, self.search, self.aoi)).encode()).hexdigest()
