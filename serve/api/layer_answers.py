"""What is answered of layers, as models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field

from serve.api.answers import Answered, Link, shown
from swathe.publication import PublicationState

if TYPE_CHECKING:
    from serve.tiles.addresses import Addresses
    from swathe.layer import Layer
    from swathe.publication import Publication


class ClassAnswer(Answered):
    """A class of a legend."""

    value: int
    name: str
    colour: str


class LayerAnswer(Answered):
    """A raster of a result as maps show it."""

    model_config = shown("layer")

    id: str
    title: str
    job: str
    owner: str
    model: str
    file: str
    band: int
    crs: str = Field(description="EPSG:… or WKT: of its pixels.")
    bounds: list[float] = Field(description="left, bottom, right, top in its CRS.")
    bbox: list[float] = Field(description="west, south, east, north in degrees.")
    shape: list[int] = Field(description="Rows, columns.")
    look: Literal["classes", "values", "picture"]
    classes: list[ClassAnswer] = Field(description="And codes of masks, also among values.")
    range: list[float] | None = Field(description="Of values: true numbers at the ends of the colour ramp.")
    unit: str
    minzoom: int
    maxzoom: int = Field(description="Where tiles are as fine as its pixels; finer ones repeat them.")
    datetime: str
    version: str = Field(description="Changes with its pixels or colours.")
    links: dict[str, str] = Field(description="self, xyz, tilejson, wms, wmts, job; of what has one, legend.")

    @classmethod
    def of(cls, layer: Layer, addresses: Addresses) -> Self:
        """As the desk has it."""
        style, same = layer.style, ("id", "title", "job", "owner", "model", "file", "band", "crs", "minzoom", "maxzoom",
                                    "datetime", "version")  # fmt: skip
        return cls(
            **{name: getattr(layer, name) for name in same}, bounds=list(layer.bounds), bbox=list(layer.bbox),
            shape=list(layer.shape), look=style.look.value, unit=style.unit, links=addresses.of(layer),
            classes=[ClassAnswer(value=c.value, name=c.name, colour=c.colour) for c in style.labels],
            range=list(style.true_span) if style.look.value == "values" else None,
        )  # fmt: skip


class LayersAnswer(Answered):
    """Layers of jobs, the newest first."""

    model_config = shown("layers")

    layers: list[LayerAnswer]
    links: list[Link]


class PublicationAnswer(Answered):
    """A layer on the map server that the service pushes to."""

    model_config = shown("publication")

    workspace: str
    name: str
    state: PublicationState = Field(description="waiting: for the job's end, or for the map server.")
    url: str = Field(description="Of its maps (WMS); empty: it is not there yet.")
    tries: int = Field(description="That failed since it was last published.")
    problem: dict[str, Any] | None = Field(description="RFC 9457: why the last try failed.")

    @classmethod
    def of(cls, one: Publication) -> Self:
        """As the desk has it."""
        return cls(**{name: getattr(one, name) for name in cls.model_fields})


class PublicationsAnswer(Answered):
    """Those of a job, in the order in which they were wished."""

    model_config = shown("publications")

    publications: list[PublicationAnswer]


class TileJson(Answered):
    """TileJSON 3.0.0."""

    model_config = shown("tilejson")

    tilejson: Literal["3.0.0"] = "3.0.0"
    name: str
    description: str
    version: str = "1.0.0"
    scheme: Literal["xyz"] = "xyz"
    tiles: list[str]
    minzoom: int
    maxzoom: int
    bounds: list[float] = Field(description="west, south, east, north.")
    center: list[float] = Field(description="Longitude, latitude, zoom.")
    legend: str | None = None

    @classmethod
    def of(cls, layer: Layer, addresses: Addresses, ending: str) -> Self:
        """Zoom levels beyond ``maxzoom`` are drawn too; a web map enlarges those of it."""
        from serve.tiles.wms import spread

        west, south, east, north = spread(layer)
        return cls(
            name=layer.title, description=f"{layer.model} {layer.datetime}".strip(),
            tiles=[addresses.tiles(layer, ending)], minzoom=layer.minzoom, maxzoom=layer.maxzoom,
            bounds=[west, south, east, north], center=[_middle(layer.bbox), (south + north) / 2, layer.minzoom],
            legend=addresses.legend(layer) or None,
        )  # fmt: skip


class PointAnswer(Answered):
    """What a layer is at a point."""

    layer: str
    lon: float
    lat: float
    value: float | None = Field(description="True number, or the class's; null: no data, or outside.")
    name: str = Field(description="Of the class.")
    unit: str


def _middle(bbox: tuple[float, float, float, float]) -> float:
    """Longitude half-way from west to east; of a box over 180 degrees on its side of the Earth."""
    west, _, east, _ = bbox
    return (west + east) / 2 if west < east else (west + east + 360.0) / 2 - (360.0 if west + east > 0 else 0.0)
