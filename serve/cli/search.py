"""``swathe search``: which scenes there are, before anything is read."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serve.cli import show
from serve.cli.options import AREA
from swathe.errors import InputError

if TYPE_CHECKING:
    from pipelines.search.query import Found, Query
    from swathe.scene import Asset, Scene
    from swathe.source import SourceCard

Source = Annotated[
    str,
    typer.Option("--source", "-s", help="A source card (configs/sources), or the address of a STAC API, of a catalogue "
                 "or an item (file or URL), or a folder."),
]  # fmt: skip
Collection = Annotated[str | None, typer.Option(help="Collection, where the source does not say it, or another one.")]
Place = Annotated[str, typer.Option(help=AREA)]
Dates = Annotated[
    str,
    typer.Option(help="2024-07-25, 2024-07, 2024-07-25_2024-07-27, ../2024-01-01, instants; several with commas."),
]
MaxCloud = Annotated[
    float | None,
    typer.Option(help="Percent of a whole scene, as its catalogue says: unread; a run measures it over the area."),
]


def search(  # noqa: PLR0913, PLR0917  options of a command
    context: typer.Context,
    source: Source,
    aoi: Place,
    dates: Dates,
    collection: Collection = None,
    max_cloud: MaxCloud = None,
    bands: Annotated[
        str | None, typer.Option(help="Common names with commas; scenes that lack one are left out.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable output.")] = False,
) -> None:
    """List the scenes of a source over a place in a time. Exits 2 where there is none, and says which are nearest."""
    from pipelines.remote.fetch import Fetcher
    from pipelines.search.discover import source_of
    from pipelines.search.find import find
    from pipelines.search.places import read_place
    from pipelines.search.query import Query
    from swathe.when import parse_dates

    now = datetime.now(UTC)
    names = tuple(name.strip() for name in (bands or "").split(",") if name.strip())
    query = Query(read_place(aoi), parse_dates(dates, now), _percent(max_cloud), names)
    fetcher = Fetcher(context.obj.network)
    try:
        card = source_of(source, context.obj.sources, fetcher, collection)
        found = find(card, query, fetcher, now)
    finally:
        fetcher.close()
    if as_json:
        sys.stdout.write(json.dumps(as_dict(card, query, found), indent=1) + "\n")
    else:
        _show(card, query, found)


def _percent(max_cloud: float | None) -> float | None:
    if max_cloud is not None and not 0 <= max_cloud <= 100:  # noqa: PLR2004  also what is no number
        raise InputError(f"--max-cloud {max_cloud:g} is no percentage", code="search.cloud", hint="give 0 to 100",
                         field="--max-cloud")  # fmt: skip
    return max_cloud


def as_dict(card: SourceCard, query: Query, found: Found) -> dict[str, Any]:
    """For programs: no signature, no credential, whatever the catalogue wrote into its addresses."""
    return {
        "source": card.id,
        "collection": card.collection,
        "bbox": list(query.aoi.bounds),
        "dates": [str(interval) for interval in query.intervals],
        "unit": card.radiometry.unit,
        "scenes": [_scene(scene, query) for scene in found.scenes],
        "left_out": [{"id": one.id, "reason": one.reason} for one in found.left_out],
        "notes": list(found.notes),
        "licence": card.licence,
        "attribution": card.attribution,
    }


def _scene(scene: Scene, query: Query) -> dict[str, Any]:
    import shapely

    from pipelines.search.find import covered
    from swathe.aoi import AOI
    from swathe.imagery import shown

    outline = AOI(shapely.from_wkb(scene.footprint))  # pyright: ignore[reportArgumentType]  polygons, as made
    looks = (asset for asset in scene.looks if asset not in scene.bands)
    assets = (*scene.bands, *looks, *((scene.mask,) if scene.mask else ()))
    return {
        "id": scene.id,
        "collection": scene.collection,
        "when": scene.when,
        "cloud": scene.cloud,
        "platform": scene.platform,
        "bbox": [round(v, 6) for v in outline.bounds],
        "covered": round(covered(scene, query), 4),
        "crs": scene.crs,
        "rule": scene.rule,
        "bands": {asset.name: _asset(asset) for asset in assets},
        "href": shown(scene.href),
    }


def _asset(asset: Asset) -> dict[str, Any]:
    from swathe.imagery import shown

    return {"href": shown(asset.href), "index": asset.index, "scale": asset.scale, "offset": asset.offset}


def _show(card: SourceCard, query: Query, found: Found) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipelines.search.find import covered

    console = Console()
    table = Table("acquired", "scene", "cloud", "of the area", box=None)
    for scene in found.scenes:
        cloud = "" if scene.cloud is None else f"{scene.cloud:.0f} %"
        table.add_row(scene.when[:16].replace("T", " "), Text(scene.id), cloud, f"{covered(scene, query):.0%}")
    console.print(table)
    bands = ", ".join(band.name for band in found.scenes[0].bands)
    show.line(console, f"{len(found.scenes)} scenes of {card.title}; {bands}")
    for rule in dict.fromkeys(scene.rule for scene in found.scenes):
        show.line(console, f"numbers: {rule}")
    for note in _notes(found):
        show.line(console, f"note: {note}")


def _notes(found: Found) -> Sequence[str]:
    return (*found.notes, *(f"{one.id} was left out: {one.reason}" for one in found.left_out))
