"""``swathe demo --catalogue``: from a place and a time to a map, over a STAC API of one's own, offline."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from serve.cli import show
from serve.cli.work import Way, execute
from swathe.composite import Composite
from swathe.errors import FAILED
from swathe.recipe import Recipe, Search

if TYPE_CHECKING:
    from pipelines.demo.catalogue import DemoCatalogue
    from pipelines.demo.truth import Score
    from serve.settings import Settings

SIZE = 2048
"""Pixels along a side of the catalogue's scenes, unless told otherwise."""
DATES = "2024-08-20_2024-09-10"
"""Two cloudy dates, of which together most of the land can be seen."""
MODEL = "water-mndwi"
FLOOR = 0.88
"""Intersection over union with the truth, on pixels with a result, below which the demo failed."""


def coast(out: Path, seed: int, settings: Settings, *, local: bool, as_json: bool) -> None:
    """Write a catalogue of four dates in two UTM zones, serve it as a STAC API, search it, map its water, score it."""
    made = _catalogue(out / "catalogue", seed, as_json=as_json)
    # What is read here is our own service on this machine.
    settings = settings.model_copy(update={"allow_private_urls": True})
    with served(made, out / "data") as url:
        search = Search(url, (DATES,), collection="swathe-demo", composite=Composite.BEST)
        recipe = Recipe(MODEL, search=search, aoi=made.aoi)
        execute(recipe, settings, Way(out / "coast", local, overwrite=True, as_json=as_json))
    found = _score(out / "coast" / "result.tif", made)
    if as_json:
        line = {"event": "demo", "good": found.iou >= FLOOR, "scores": {"water": asdict(found)}, "aoi": made.aoi}
        sys.stdout.write(json.dumps(line) + "\n")
    else:
        _tell(found, made, out)
    raise typer.Exit(0 if found.iou >= FLOOR else FAILED)


@contextmanager
def served(made: DemoCatalogue, data: Path) -> Iterator[str]:
    """The address of a STAC API that holds the catalogue's items and serves their files."""
    import socket

    import uvicorn

    from pipelines.catalogue.register import register
    from pipelines.catalogue.store import Catalogue
    from serve.catalogue.app import catalogue_app
    from serve.catalogue.files import Signs, key_in, serve_files

    with Catalogue(data / "catalogue.sqlite") as catalogue, socket.socket() as bound:
        register(catalogue, str(made.folder / "swathe-demo"))
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        signs = Signs(key_in(data / "catalogue.key"), "")
        app = catalogue_app(catalogue, signs.publish)
        serve_files(app, signs)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3))
        thread = threading.Thread(target=server.run, args=([bound],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)


def _catalogue(folder: Path, seed: int, *, as_json: bool) -> DemoCatalogue:
    from rich.console import Console
    from rich.progress import Progress

    from pipelines.demo.catalogue import write

    console = Console(stderr=True, quiet=as_json)
    console.print(f"An invented coast on four dates, {SIZE} x {SIZE} px in two UTM zones, with clouds and masks")
    with Progress(console=console, disable=as_json) as progress:
        task = progress.add_task("catalogue", total=1.0)
        return write(folder, SIZE, seed, lambda share: progress.update(task, completed=share))


def _score(result: Path, made: DemoCatalogue) -> Score:
    """Against the truth, brought onto the result's grid; pixels without a result are left out."""
    import numpy as np
    import rasterio
    from rasterio.warp import Resampling, reproject

    from pipelines.demo.truth import compare

    with rasterio.open(result) as file, rasterio.open(made.water) as truth:
        classes = file.read(1)
        told = np.zeros(classes.shape, np.uint8)
        reproject(rasterio.band(truth, 1), told, dst_transform=file.transform, dst_crs=file.crs,
                  resampling=Resampling.nearest)  # fmt: skip
        return compare(classes == 1, told == 1, classes != file.nodata)


def _tell(found: Score, made: DemoCatalogue, out: Path) -> None:
    from rich.console import Console

    console = Console()
    verdict = "[green]good[/]" if found.iou >= FLOOR else "[red]FAILED[/]"
    console.print(f"water: IoU {found.iou:.3f} (promised {FLOOR:.2f}) {verdict}")
    for what, where in (
        ("picture", out / "coast" / "preview.png"),
        ("map (COG)", out / "coast" / "result.tif"),
        ("which scene, how many", out / "coast" / "observations.tif"),
        ("STAC item", out / "coast" / "item.json"),
        ("the catalogue", made.catalog),
    ):
        show.line(console, f"  {what:22} {where}")
    console.print("The same by hand, on the catalogue's files:")
    place = f"--source {made.catalog} --aoi {made.aoi}"
    show.line(console, f"  swathe search {place} --dates {DATES}")
    show.line(console, f"  swathe run --model {MODEL} {place} --dates {DATES} --composite median --out out/coast")
