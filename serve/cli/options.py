"""Options of ``swathe run`` and of the commands that take what it takes; each is said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SEARCHED = "Imagery that is searched for"
AFTER = "After the model"
IDLE = "Taken as `swathe run` takes them; they change nothing here"
Model = Annotated[str, typer.Option("--model", "-m", help="Id of a model card; see `swathe models`.")]
Inputs = Annotated[
    list[str] | None,
    typer.Option("--input", "-i", help="File, folder or URL; repeat it for bands in files of their own. DATE=PATH for "
                 "methods of several dates."),
]  # fmt: skip
Sensor = Annotated[str | None, typer.Option(help="Sensor profile: what the bands are and what their numbers mean.")]
Bands = Annotated[str | None, typer.Option(help="Instead of a sensor: common names of the bands, with commas.")]
Scale = Annotated[float | None, typer.Option(help="With --bands: physical = stored * scale + offset.")]
Offset = Annotated[float | None, typer.Option(help="See --scale.")]
Nodata = Annotated[float | None, typer.Option(help="Stored number that means no data, where the file does not say.")]
AREA = "minlon,minlat,maxlon,maxlat; GeoJSON, WKT or a vector file; tiles (12/2200/1343); MGRS (33UXP)."
Aoi = Annotated[str | None, typer.Option(help=AREA)]
ChunkSide = Annotated[int | None, typer.Option("--chunk", help="Side of a chunk in pixels. Default: chosen.")]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Source = Annotated[
    str | None,
    typer.Option(help="Instead of --input: where to search. A source card, or a STAC API, catalogue, item or folder.",
                 rich_help_panel=SEARCHED),
]  # fmt: skip
Collection = Annotated[
    str | None, typer.Option(help="Of the source, where its card does not name it.", rich_help_panel=SEARCHED)
]
Dates = Annotated[
    str | None,
    typer.Option(help="2024-07-25, 2024-07-25_2024-07-27, RFC 3339 intervals; with commas, one per date of the model; "
                 "a model of one date makes one map of them all, or with --each-date one of each day.",
                 rich_help_panel=SEARCHED),
]  # fmt: skip
MaxCloud = Annotated[
    float | None,
    typer.Option(min=0, max=100, rich_help_panel=SEARCHED,
                 help="Leave out scenes with more cloud over the area, in percent, as their masks show it; of a source "
                 "without masks, as its catalogue says."),
]  # fmt: skip
CompositeOf = Annotated[
    str | None,
    typer.Option("--composite", help="What becomes of several observations: median, best, latest, none (one day).",
                 rich_help_panel=SEARCHED),
]  # fmt: skip
Res = Annotated[
    float | None,
    typer.Option(help="Side of a pixel, in units of the CRS. Default: the finest band.", rich_help_panel=SEARCHED),
]
Crs = Annotated[
    str | None, typer.Option(help="Of the result, e.g. EPSG:32633. Default: the scenes' own.", rich_help_panel=SEARCHED)
]
EachDate = Annotated[
    bool,
    typer.Option("--each-date", rich_help_panel=SEARCHED,
                 help="A map of each day, all on one grid, in folders OUT/YYYY-MM-DD; OUT/collection.json lists them."),
]  # fmt: skip
MaxLoss = Annotated[
    float,
    typer.Option(min=0, max=1, help="Share of observations that may be lost; more fails.", rich_help_panel=SEARCHED),
]
Local = Annotated[bool, typer.Option("--local", help="A plain loop in this process, without Ray.")]
Precision = Annotated[str | None, typer.Option(help="fp32 or bf16, instead of the card's.")]
MinArea = Annotated[int, typer.Option(min=1, help="Smallest polygon, in pixels.")]
Simplify = Annotated[float, typer.Option(min=0, help="Tolerance of outlines in pixels; 0: exact.")]
Gpkg = Annotated[bool, typer.Option("--gpkg", help="Also features.gpkg.")]
Probabilities = Annotated[bool, typer.Option("--probabilities", help="Also one band per class.")]
MaskOf = Annotated[
    str | None,
    typer.Option("--mask", help="clouds,snow,water,ocean; clouds=scenes, water=LAYER: from where.",
                 rich_help_panel=AFTER),
]  # fmt: skip
MaskBuffer = Annotated[
    int, typer.Option(min=0, help="Pixels around a mask that are masked too.", rich_help_panel=AFTER)
]
MaskFiles = Annotated[
    list[str] | None,
    typer.Option("--mask-file", help="RULE=PATH: a mask of the --input files (scl, fmask, qa_pixel, valid).",
                 rich_help_panel=AFTER),
]  # fmt: skip
MaskShapes = Annotated[
    str | None,
    typer.Option(help="Mask what lies in the shapes of this GeoJSON: a path or an address.", rich_help_panel=AFTER),
]
ShapesBuffer = Annotated[
    float | None, typer.Option(min=0, help="Metres around those shapes that are masked too.", rich_help_panel=AFTER)
]
ShapesCode = Annotated[
    int | None, typer.Option(min=1, help="What their pixels carry, instead of 996.", rich_help_panel=AFTER)
]
Regularise = Annotated[
    str | None,
    typer.Option(help="buildings: right angles; smooth: fewer corners; =PIXELS.", rich_help_panel=AFTER),
]
Script = Annotated[Path | None, typer.Option("--processor", help="A Python script over the result, sandboxed.")]
Params = Annotated[str | None, typer.Option("--params", help="With --processor: its parameters, as JSON.")]
_OUT, _SUBMIT, _OVERWRITE, _SERVER, _KEY = ("--out", "-o"), ("--submit",), ("--overwrite",), ("--server",), ("--key",)
Out = Annotated[str, typer.Option(*_OUT, help="Folder for the products, or s3://bucket/prefix.")]
Submit = Annotated[bool, typer.Option(*_SUBMIT, help="Send it to a kept Ray as a job and follow it.")]
Overwrite = Annotated[bool, typer.Option(*_OVERWRITE, help="Replace another run in that folder.")]
Server = Annotated[str | None, typer.Option(*_SERVER, help="Have it done by the service at this address.")]
Key = Annotated[str | None, typer.Option(*_KEY, envvar="SWATHE_KEY", help="Of that service.")]

# Of `swathe plan`, which takes a command line of `swathe run` as it is.
IdleOut = Annotated[str | None, typer.Option(*_OUT, help="Nothing is written.", rich_help_panel=IDLE)]
IdleSubmit = Annotated[bool, typer.Option(*_SUBMIT, help="Nothing is sent.", rich_help_panel=IDLE)]
IdleOverwrite = Annotated[bool, typer.Option(*_OVERWRITE, help="Nothing is replaced.", rich_help_panel=IDLE)]
IdleServer = Annotated[
    str | None,
    typer.Option(*_SERVER, help="The estimate is of this machine; `swathe jobs estimate` asks a service.",
                 rich_help_panel=IDLE),
]  # fmt: skip
IdleKey = Annotated[
    str | None, typer.Option(*_KEY, envvar="SWATHE_KEY", help="No service is asked.", rich_help_panel=IDLE)
]
