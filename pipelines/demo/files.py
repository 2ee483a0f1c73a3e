"""The files of a demo scene: where they lie, how they are tagged, and that they appear whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.demo import msi
from pipelines.demo.spectra import BANDS
from swathe.errors import OutputError

if TYPE_CHECKING:
    from rasterio.io import DatasetWriter

VERSION = 1
"""Counts changes of the pixels: a folder with another version is written anew."""
PRE_DATE, POST_DATE = "2024-07-04", "2024-08-28"
TIMES = {"pre": "2024:07:04 10:06:01", "post": "2024:08:28 10:06:01"}
CRS = "EPSG:32633"
CORNER = (300_000.0, 4_400_040.0)
"""Upper left corner: open sea west of Calabria, so that nobody takes the coast for a real one."""
TILE = 512
"""Pixels of a TIFF tile and of a painted block."""
UNSCORED = 255
"""In the truth: no imagery, or for the fire no clear view of the early date."""
IMAGES, TRUTHS = ("pre", "post"), ("water", "burn", "clear")


@dataclass(frozen=True, slots=True)
class DemoScene:
    """Where the scene lies."""

    folder: Path
    """Holds everything below and ``scene.json``."""
    size: int
    """Pixels along a side."""
    seed: int
    """Of all randomness."""

    @property
    def pre(self) -> Path:
        """Six bands before the fire, mostly clear."""
        return self.folder / "pre.tif"

    @property
    def post(self) -> Path:
        """Six bands after the fire, with clouds."""
        return self.folder / "post.tif"

    @property
    def water(self) -> Path:
        """Truth, uint8: 1 where at least half of the pixel is water at the post date, 255 not scored."""
        return self.folder / "water.tif"

    @property
    def burn(self) -> Path:
        """Truth, uint8: 1 where at least half of the pixel burned between the dates, 255 not scored."""
        return self.folder / "burn.tif"

    @property
    def clear(self) -> Path:
        """uint8: 1 where the post date shows the ground, 0 under clouds, in their shadow, or without data."""
        return self.folder / "clear.tif"

    @property
    def pre_date(self) -> str:
        """ISO date."""
        return PRE_DATE

    @property
    def post_date(self) -> str:
        """ISO date."""
        return POST_DATE


def create(folder: Path, size: int, stack: ExitStack) -> dict[str, DatasetWriter]:
    """Open the five files of a scene for writing; the stack closes them."""
    import rasterio
    from rasterio.transform import from_origin

    grid = {"crs": CRS, "transform": from_origin(*CORNER, 10, 10), "width": size, "height": size}
    layout = {"driver": "GTiff", "tiled": True, "blockxsize": TILE, "blockysize": TILE, "BIGTIFF": "IF_SAFER"}
    packing = {"compress": "zstd", "zstd_level": 1, "predictor": 2, "num_threads": 2}
    files: dict[str, DatasetWriter] = {}
    for name in IMAGES:
        kind = {"count": len(BANDS), "dtype": "int16", "nodata": msi.NODATA, "interleave": "band"}
        image = stack.enter_context(rasterio.open(folder / f"{name}.tif", "w", **grid, **layout, **packing, **kind))
        image.descriptions, image.scales, image.offsets = BANDS, (msi.SCALE,) * len(BANDS), (0.0,) * len(BANDS)
        image.update_tags(TIFFTAG_DATETIME=TIMES[name], TIFFTAG_IMAGEDESCRIPTION="swathe demo scene: invented ground")
        files[name] = image
    for name in TRUTHS:
        kind = {"count": 1, "dtype": "uint8", "nodata": None if name == "clear" else UNSCORED}
        truth = stack.enter_context(rasterio.open(folder / f"{name}.tif", "w", **grid, **layout, **packing, **kind))
        truth.descriptions = (name,)
        files[name] = truth
    return files


def _paths(folder: Path) -> list[Path]:
    return [folder / f"{name}.tif" for name in (*IMAGES, *TRUTHS)]


def _label(scene: DemoScene, kind: str, folder: Path) -> dict[str, object]:
    """What ``scene.json`` says: enough to know the files again."""
    sizes = {p.name: p.stat().st_size for p in _paths(folder)}
    return {"version": VERSION, "kind": kind, "size": scene.size, "seed": scene.seed, "bytes": sizes}


def found(scene: DemoScene, kind: str) -> bool:
    """Whether exactly this scene lies in the folder, whole."""
    try:
        return json.loads((scene.folder / "scene.json").read_text()) == _label(scene, kind, scene.folder)
    except (OSError, ValueError):
        return False


class fresh:  # noqa: N801  reads as the verb it is: with fresh(scene, ...) as place
    """A place to write a scene's files, which are moved into its folder when all went well, and removed otherwise."""

    def __init__(self, scene: DemoScene, kind: str) -> None:
        """Of the scene and how it is made."""
        self.scene, self.kind, self.place = scene, kind, Path()

    def __enter__(self) -> Path:
        """Make the place beside where the files will lie, so that moving them is atomic."""
        try:
            self.scene.folder.mkdir(parents=True, exist_ok=True)
            self.place = Path(tempfile.mkdtemp(prefix=".demo-", dir=self.scene.folder))
        except OSError as e:
            raise _unwritable(self.scene, e) from e
        return self.place

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Move or remove; the label goes last, since it is what says that the scene is whole."""
        from rasterio.errors import RasterioIOError

        try:
            if error is None:
                self._move()
        except OSError as e:
            raise _unwritable(self.scene, e) from e
        finally:
            shutil.rmtree(self.place, ignore_errors=True)
        if isinstance(error, (OSError, RasterioIOError)):
            raise _unwritable(self.scene, error) from error

    def _move(self) -> None:
        label = self.place / "scene.json"
        label.write_text(json.dumps(_label(self.scene, self.kind, self.place), indent=2))
        (self.scene.folder / label.name).unlink(missing_ok=True)
        for path in (*_paths(self.place), label):
            path.replace(self.scene.folder / path.name)


def _unwritable(scene: DemoScene, error: BaseException) -> OutputError:
    return OutputError(
        f"the demo scene cannot be written to {scene.folder}: {error}",
        hint="choose a folder you may write to, with about 20 bytes free per pixel",
        field="folder",
        code="output.unwritable",
    )
