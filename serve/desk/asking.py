"""What somebody asks of the service, in our own words: JSON that was checked, and the recipe that it means."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.chunking import LARGEST
from serve.desk.labels import check_labels
from swathe.aoi import AOI
from swathe.composite import Composite
from swathe.errors import AreaError, InputError, LimitError
from swathe.masking import BUFFER_M_MAX, BUFFER_MAX, CODES, Mask, Shapes
from swathe.postprocess import Postprocess
from swathe.publication import Publication
from swathe.recipe import ProcessorWish, ProductSettings, Radiometry, Recipe, Search
from swathe.sld import Colour

LONGEST_AREA = 1 << 20
"""Characters of an area; a country's coast has a tenth of it."""
Href = Annotated[str, Field(min_length=1, max_length=16_384)]
Word = Annotated[str, Field(min_length=1, max_length=200)]


class Asked(BaseModel):
    """Frozen; a field that is not known is refused, because it would be a wish that nobody heard."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SearchAsked(Asked):
    """Imagery that is to be found, instead of named."""

    source: Href
    """Id of a source card, or the address of a STAC API, catalogue, item or folder."""
    dates: tuple[Word, ...] = Field(default=(), max_length=64)
    """Dates and intervals, one per date that the model wants."""
    collection: Word | None = None
    """Id of the collection, where the source's card does not name one."""
    max_cloud: Annotated[float, Field(ge=0, le=100)] | None = None
    """Percent of cloud over the area; scenes of more are left out. As masks show it; of a source without, as its
    catalogue says."""
    composite: Composite | None = None
    """What becomes of several observations; null: decided by the dates."""
    res: Annotated[float, Field(gt=0)] | None = None
    """Side of a pixel in units of the output CRS; null: the finest of the bands."""
    crs: Word | None = None
    """CRS of the output grid, e.g. ``EPSG:32633``; null: the scenes' own."""
    max_loss: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of observations that may be lost before a chunk counts as failed."""


class RadiometryAsked(Asked):
    """How the numbers of a file become physical units, where no sensor profile says it."""

    bands: tuple[Word, ...] = Field(default=(), max_length=1000)
    """Common names, in the order of the file's bands or of the files."""
    scale: float | None = None
    """physical = stored * scale + offset."""
    offset: float | None = None
    """See ``scale``."""
    nodata: float | None = None
    """Stored number that means nothing."""


class ProductsAsked(Asked):
    """What is left behind, beyond the result itself."""

    min_area_px: Annotated[int, Field(ge=1)] = 4
    """Polygons of fewer pixels are left out."""
    simplify_px: Annotated[float, Field(ge=0)] = 0.0
    """Tolerance of outlines in pixels; 0 keeps the pixels' edges."""
    gpkg: bool = False
    """Also features.gpkg."""
    probabilities: bool = False
    """Also one band per class."""


class ShapesAsked(Asked):
    """Shapes of a file of one's own, whose pixels are masked."""

    url: Href
    """Address of a GeoJSON (http, https, s3), or ``upload://ID``. It is fetched once, before the model runs."""
    buffer_m: Annotated[float, Field(ge=0, le=BUFFER_M_MAX)] = 0.0
    """Metres on the ground: pixels this near to a shape are masked as well."""
    code: Annotated[int, Field(ge=1, le=CODES[Mask.SHAPES])] = CODES[Mask.SHAPES]
    """What their pixels carry; neither 255 nor the number of a class of the model."""


class PostprocessAsked(Asked):
    """What is done to the result after the model."""

    mask: tuple[Word, ...] = Field(default=(), max_length=8)
    """clouds, snow, water, ocean; each also with where from: ``water=LAYER``, ``water=scenes``."""
    mask_buffer_px: Annotated[int, Field(ge=0, le=BUFFER_MAX)] = 0
    """Pixels this near to a masked one are masked as well."""
    mask_files: tuple[Href, ...] = Field(default=(), max_length=64)
    """Masks of imagery that brings none: ``RULE=`` (scl, fmask, qa_pixel, valid) and an input's address."""
    mask_shapes: ShapesAsked | None = None
    """A mask more, which stands over all others."""
    regularise: Word | None = None
    """buildings (right angles) or smooth (fewer corners), each also with a tolerance: ``buildings=3``."""

    def wish(self) -> Postprocess:
        """What it means. Raises InputError."""
        asked = self.mask_shapes
        shapes = None if asked is None else Shapes.of(asked.url, asked.buffer_m, asked.code)
        masks = ",".join(self.mask) or None
        return Postprocess.parse(masks, self.mask_buffer_px, self.mask_files, self.regularise, shapes)


class HookAsked(Asked):
    """An address that is told of the job's events."""

    url: Href
    """http or https; asked with POST."""
    secret: Annotated[str, Field(max_length=256)] = Field(default="", repr=False)
    """Key of the signature (HMAC-SHA256); never shown again."""
    kinds: tuple[Annotated[str, Field(pattern=r"^[a-z][a-z._]{0,31}$")], ...] = Field(
        ("state",), min_length=1, max_length=32
    )
    """Kinds of events that are sent."""


class ProcessorAsked(Asked):
    """A script that is run over the result."""

    id: Word
    """Id of a processor."""
    parameters: dict[str, Any] = {}
    """Parameters for the script; they go before the processor's own."""


class ColourAsked(Asked):
    """What a number looks like on a map."""

    value: float
    """Number of the result, after scale and offset."""
    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    """The colour, as ``#rrggbb``."""
    opacity: Annotated[float, Field(ge=0, le=1)] = 1.0
    """From 0 (not seen) to 1."""
    label: Annotated[str, Field(max_length=200)] = ""
    """Text in the legend."""


class PublishAsked(Asked):
    """That a raster of the result is to be shown by the map server that the service pushes to."""

    workspace: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
    """Name of a workspace of the map server; it is made where it is missing."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,119}$")]
    """Name of the layer in the workspace; nothing there may have it yet."""
    files: tuple[Word, ...] = Field(default=(), max_length=8)
    """Rasters of the result, of which the first that is there is shown; none: the result after all steps."""
    colours: tuple[ColourAsked, ...] = Field(default=(), max_length=256)
    """Colours of the layer; none: the model's."""
    kind: Literal["values", "ramp"] = "values"
    """Each number has a colour of its own, or colours between two numbers are mixed."""

    def wish(self, job: str) -> Publication:
        """Of this job."""
        colours = tuple(Colour(c.value, c.colour, c.opacity, c.label) for c in self.colours)
        return Publication("", job, self.workspace, self.name, self.files, colours, self.kind)


class Asking(Asked):
    """A wish for a run."""

    model: Annotated[str, Field(min_length=1, max_length=80)]
    """Id of a card."""
    inputs: tuple[Href, ...] = Field(default=(), max_length=1000)
    """``https://…``, ``s3://…``, ``upload://ID`` (``upload://ID/NAME``: one of its images) or ``item://COLLECTION/ITEM``,
    each also as ``DATE=…``."""
    search: SearchAsked | None = None
    """Where imagery is searched, instead of inputs."""
    aoi: dict[str, Any] | tuple[float, float, float, float] | str | None = None
    """GeoJSON, [west, south, east, north], WKT, tiles (``12/2200/1343``, ``33UXP``); null: all of the imagery."""
    sensor: Word | None = None
    """Id of a sensor profile."""
    radiometry: RadiometryAsked = RadiometryAsked()
    """How numbers become physical units, instead of a profile."""
    products: ProductsAsked = ProductsAsked()
    """What is made of the result."""
    postprocess: PostprocessAsked = PostprocessAsked()
    """Steps after the model."""
    processor: ProcessorAsked | None = None
    """Last of the steps after the model; what it makes is the result."""
    precision: Literal["fp32", "bf16"] | None = None
    """Precision of the network, instead of the card's."""
    chunk: Annotated[int, Field(ge=64, le=LARGEST)] | None = None
    """Side of a chunk in pixels of the imagery; null: chosen."""
    title: Annotated[str, Field(max_length=200)] = ""
    """Title of the job, for people."""
    project: Word | None = None
    """Id of a project."""
    labels: dict[str, Any] = {}
    """Whatever a client wants to find again; at most 16 384 characters as JSON."""
    hook: HookAsked | None = None
    """Address that is told of the job's events."""
    publish: tuple[PublishAsked, ...] = Field(default=(), max_length=16)
    """Where else it is shown; the service has to have a map server."""

    @model_validator(mode="after")
    def _one_way(self) -> Asking:
        if bool(self.inputs) == (self.search is not None):
            msg = "name inputs, or say where to search: one of the two"
            raise ValueError(msg)
        if self.search is not None and self.aoi is None:
            msg = "to search, a place is needed: aoi"
            raise ValueError(msg)
        check_labels(self.labels)  # no ValueError: it says by itself what it is, wherever labels are asked for
        return self

    def area(self) -> AOI | None:
        """Where it is wanted; no file of this machine is read. Raises AreaError, LimitError."""
        return None if self.aoi is None else _area(self.aoi)

    def to_recipe(self) -> Recipe:
        """What it means; inputs are still as they were asked for. Raises AreaError, LimitError."""
        area = self.area()
        return Recipe(
            self.model, self.inputs, self.sensor, Radiometry(**self.radiometry.model_dump()),
            None if area is None else _geojson(area), ProductSettings(**self.products.model_dump()), self.chunk,
            None if self.search is None else Search(**dict(self.search)), self.postprocess.wish(),
            None if self.processor is None else ProcessorWish(self.processor.id, self.processor.parameters),
        )  # fmt: skip

    def record(self) -> dict[str, Any]:
        """For the job, which others may see: everything but the hook's secret."""
        return self.model_dump(mode="json", exclude_defaults=True, exclude={"hook": {"secret"}})


def asked(document: dict[str, Any]) -> Asking:
    """A job's ``request`` as a value again. Raises InputError where an older service wrote what is refused now."""
    try:
        return Asking.model_validate(document)
    except ValueError as error:
        raise InputError(f"the request cannot be read: {' '.join(str(error).split())[:300]}",
                         code="job.request") from None  # fmt: skip


def _area(aoi: dict[str, Any] | tuple[float, ...] | str) -> AOI:
    from pipelines.search.places import named_place

    text = aoi if isinstance(aoi, str) else _text(aoi)
    if len(text) > LONGEST_AREA:
        raise LimitError(f"the area has {len(text):,} characters, {LONGEST_AREA:,} are allowed", code="limit.area_text",
                         field="aoi", hint="simplify its outline")  # fmt: skip
    return named_place(text) or AOI.parse(text)


def _text(aoi: dict[str, Any] | tuple[float, ...]) -> str:
    if not isinstance(aoi, dict):
        return ",".join(f"{number!r}" for number in aoi)
    try:
        return json.dumps(aoi)
    except (RecursionError, ValueError, TypeError):
        raise AreaError("this is no GeoJSON", code="area.unreadable", field="aoi") from None


def _geojson(area: AOI) -> str:
    """In full precision, and certain not to be taken for the name of a file."""
    from shapely.geometry import mapping

    return json.dumps(mapping(area.geometry))
