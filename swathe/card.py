"""A model card: one YAML file that says everything swathe needs to run a model and to credit it."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from swathe.bands import BandName

MOST = 65_536
"""Of whatever a card counts: beyond it no memory is large enough, and below it no product of such numbers overflows."""
Count = Annotated[int, Field(ge=1, le=MOST)]
Whole = Annotated[int, Field(ge=0, le=MOST)]
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]+")


def _as_line(text: str) -> str:
    return _CONTROL.sub(" ", text).strip()


Line = Annotated[str, AfterValidator(_as_line)]
"""What stands in titles, legends and the XML of styles: one line, without what XML cannot hold."""


class Task(StrEnum):
    """What comes out of a model."""

    SEGMENTATION = "segmentation"
    """A class per pixel."""
    CLASSIFICATION = "classification"
    """A class per tile: output stride = chip."""
    REGRESSION = "regression"
    """A number per pixel."""
    EMBEDDING = "embedding"
    """A vector per patch: output stride = patch."""


class Frozen(BaseModel):
    """A value read from outside: immutable, and loud about fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Weights(Frozen):
    """Where the numbers come from."""

    uri: str
    """``hf://owner/repo/file``, ``https://…``, ``s3://…``, ``file:///…`` or a path beside the card."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Published hash; None: recorded at the first load and pinned from then on."""
    size_mb: float | None = None
    """Roughly, so that a person knows before the download."""


class BandStatistics(Frozen):
    """How physical units become what the network was trained on: ``(physical * scale - mean) / std``."""

    model_config = ConfigDict(allow_inf_nan=False)

    bands: tuple[BandName, ...]
    """In the order of the network's input channels."""
    scale: Annotated[float, Field(gt=0)] = 1.0
    """Physical units (reflectance 0..1, dB, …) to the units of mean and std, e.g. 10000."""
    mean: tuple[float, ...] = ()
    """Per band; empty: 0."""
    std: tuple[float, ...] = ()
    """Per band; empty: 1."""

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        if len(set(self.bands)) != len(self.bands):
            msg = f"a band is named twice: {self.bands}"
            raise ValueError(msg)
        for name in ("mean", "std"):
            given = getattr(self, name)
            if given and len(given) != len(self.bands):
                msg = f"{len(given)} values of {name} for {len(self.bands)} bands"
                raise ValueError(msg)
        if any(s <= 0 for s in self.std):
            msg = "std must be positive"
            raise ValueError(msg)
        return self


class Input(BandStatistics):
    """What a model eats."""

    times: Count = 1
    """Acquisitions, oldest first."""
    gsd_m: tuple[float, float] | None = None
    """Ground sampling distance the model was trained for, (smallest, largest) in metres; a warning outside it."""
    chip: Count = 224
    """Side of a tile in pixels."""
    overlap: Whole = 32
    """Pixels shared with each neighbour, blended with a cosine ramp."""
    unit: Literal["", "reflectance", "linear power", "dB", "kelvin", "DN"] = ""
    """Physical unit that ``scale`` starts from. Empty: what comes, but for optical bands no radar or temperature.
    reflectance: also what has a scale and no unit, but no DN. Of radar, linear power and dB are converted into each
    other (``swathe/unit.py``)."""
    modalities: dict[str, BandStatistics] = {}
    """For models of several sensors: name of the modality -> its bands. Empty: one sensor, the bands above."""
    alternatives: dict[BandName, tuple[BandName, ...]] = {}
    """Band -> bands that may stand in for it where the imagery lacks it, best first, e.g. ``nir: [nir08]``."""
    as_it_is: bool = False
    """Nobody has to say what the numbers mean: one band is taken as it is, three colours as a picture
    (``pipelines/imagery/as_it_is.py``)."""

    @model_validator(mode="after")
    def _alternatives_are_others(self) -> Self:
        for name, others in self.alternatives.items():
            if name not in self.bands:
                msg = f"alternatives are given for {name}, which is no band of the input"
                raise ValueError(msg)
            if name in others or len(set(others)) != len(others) or not others:
                msg = f"the alternatives of {name} must be other bands, each named once: {list(others)}"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _tiles_fit(self) -> Self:
        if self.overlap > self.chip // 2:
            msg = f"overlap {self.overlap} is more than half of chip {self.chip}"
            raise ValueError(msg)
        return self


class ClassLabel(Frozen):
    """One class of the output."""

    value: Annotated[int, Field(ge=0, le=254)]
    """Pixel value in result.tif; 255 is nodata."""
    name: Line
    """Shown in legends."""
    colour: Annotated[str, Field(pattern=r"^#[0-9a-fA-F]{6}$")]
    """#rrggbb."""
    background: bool = False
    """Background is mapped but not drawn as polygons."""


class Output(Frozen):
    """What a model gives."""

    classes: tuple[ClassLabel, ...] = ()
    """Of segmentation and classification, in the order of the network's output channels."""
    channels: Count = 1
    """Numbers per pixel: of a regression 1, of an embedding its length. Ignored where there are classes."""
    stride: Count = 1
    """Input pixels per output cell: 1 dense, the patch for embeddings, the chip for classification."""
    scored: bool = True
    """Whether the model gives probabilities, so that there is a score.tif. Thresholded indices have none."""
    name: Line = ""
    """Of a regression or index: what the number is, e.g. ``NDVI``, ``biomass``."""
    unit: Line = ""
    """Of a regression: its unit."""
    range: tuple[float, float] | None = None
    """Of a regression: the range a picture shows."""
    picture: bool = False
    """The three channels are red, green and blue, each 0 to 254."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        values = [c.value for c in self.classes]
        if len(set(values)) != len(values):
            msg = f"a class value is used twice: {values}"
            raise ValueError(msg)
        if self.picture and (self.classes or self.channels != 3):  # noqa: PLR2004  red, green, blue
            msg = "a picture has three channels and no classes"
            raise ValueError(msg)
        return self

    @property
    def depth(self) -> int:
        """K, the channels that a predictor returns."""
        return len(self.classes) or self.channels


class Resources(Frozen):
    """What one actor asks Ray for."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    cpu: Annotated[float, Field(gt=0)] = 1
    """Cores, and threads of the forward (at least 1)."""
    gpu: Annotated[float, Field(ge=0)] = 0
    """Share of a GPU; ignored on a cluster that has none: the same card runs on CPU."""
    memory_gb: Annotated[float, Field(gt=0)] = 1
    """Memory of an actor."""
    batch: Count = 8
    """Tiles per forward; the last batch is padded to it."""
    replicas: Count | None = None
    """Actors at most; None: as many as fit."""
    warm: Whole = 1
    """Replicas that a service keeps loaded while nobody asks; 0: the first request waits for the model."""
    idle_s: Annotated[float, Field(ge=0)] = 600
    """Seconds of quiet after which a service lets go of replicas beyond ``warm``."""


class Runtime(Frozen):
    """How the forward is run."""

    engine: Literal["auto", "openvino", "onnxruntime", "torchexport", "aotinductor", "torchscript", "eager"] = "auto"
    """auto: OpenVINO on CPU, exported PyTorch on GPU, eager where no export holds."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 is faster and changes a few classes in 10 000; never chosen by itself."""


class ModelCard(Frozen):
    """One model."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,79}$")]
    """Used in commands, URLs and results."""
    title: Line
    """One line for people."""
    summary: str = ""
    """What it is good for and where it fails, in a few sentences."""
    task: Task
    """What comes out."""
    adapter: Literal["terratorch", "formula", "artefact"]
    """Which code runs it."""
    network: dict[str, Any] = {}
    """The adapter's own block: a TerraTorch config or model-factory block, an index and a threshold, a file."""
    weights: Weights | None = None
    """None for methods without weights."""
    input: Input
    """What it eats."""
    output: Output = Output()
    """What it gives."""
    resources: Resources = Resources()
    """What an actor needs."""
    runtime: Runtime = Runtime()
    """How the forward runs."""
    area_dependent: bool = False
    """True where a value depends on the area drawn (a threshold found from the data)."""
    sibling: str = ""
    """For an area-dependent card: the id of its fixed-threshold sibling."""
    licence: str
    """SPDX id or the licence's name."""
    citation: str
    """How to cite it."""
    links: dict[str, str] = {}
    """name -> URL: paper, model page, code."""
    origin: Path | None = Field(default=None, exclude=True)
    """The file this card was read from; not part of the card."""

    @model_validator(mode="after")
    def _fits_its_task(self) -> Self:
        if self.task in (Task.SEGMENTATION, Task.CLASSIFICATION) and len(self.output.classes) < 2:  # noqa: PLR2004
            msg = f"a {self.task} names at least two classes"
            raise ValueError(msg)
        if self.task in (Task.REGRESSION, Task.EMBEDDING) and self.output.classes:
            msg = f"a {self.task} has no classes"
            raise ValueError(msg)
        for name, side in (("chip", self.input.chip), ("overlap", self.input.overlap)):
            if side % self.output.stride:
                msg = f"{name} {side} is not a multiple of the output stride {self.output.stride}"
                raise ValueError(msg)
        if self.area_dependent and not self.sibling:
            msg = "an area-dependent card names its fixed-threshold sibling"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _hands_on_one_image(self) -> Self:
        eats, count = self.input, 3 if self.output.picture else 1
        if eats.as_it_is and (self.adapter, eats.times, len(eats.bands)) != ("formula", 1, count):
            msg = "as_it_is is for a formula of one band and one date"
            raise ValueError(msg)
        return self
