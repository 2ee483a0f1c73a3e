"""Cards of layers that masks come from, read from folders of YAML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml
from pydantic import ValidationError

from pipelines.imagery.sensors import StrictLoader
from swathe.errors import InputError
from swathe.imagery import is_remote
from swathe.masking import Mask, MaskLayer

VECTORS = (".gpkg", ".fgb", ".geojson", ".json", ".shp", ".topojson.gz")
"""Endings of files with polygons."""


def load_layers(folders: Iterable[Path]) -> dict[str, MaskLayer]:
    """Cards by id, in alphabetical order; a later folder's card replaces one of the same id.

    Folders that do not exist are passed over. Raises InputError (``layer.invalid``) that names the file at fault.
    """
    found: dict[str, MaskLayer] = {}
    for folder in folders:
        files = sorted(folder.glob("*.y*ml")) if folder.is_dir() else []
        found |= {card.id: card for card in map(read_layer, files)}
    return dict(sorted(found.items()))


def read_layer(file: Path) -> MaskLayer:
    """One card; its id is the file's name, and its files' paths count from its folder. Raises InputError."""
    try:
        card = MaskLayer.model_validate(yaml.load(file.read_text(encoding="utf-8"), Loader=StrictLoader))  # noqa: S506  a SafeLoader
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "layer"
        raise _invalid(file, f"{where}: {first['msg']}") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise _invalid(file, " ".join(str(error).split())) from None
    if card.id != file.stem:
        raise _invalid(file, f"its id is {card.id!r}, not the file's name")
    if card.kind == "vector" and (wrong := [f for f in card.files if is_remote(f) or not f.endswith(VECTORS)]):
        raise _invalid(file, f"{wrong[0]}: polygons are read from files of this machine: {', '.join(VECTORS)}")
    return card.model_copy(update={"files": tuple(_beside(f, file) for f in card.files)})


def _beside(href: str, file: Path) -> str:
    return href if is_remote(href) else str((file.parent / Path(href).expanduser()).resolve())


def layers_for(mask: Mask, layers: Mapping[str, MaskLayer]) -> list[MaskLayer]:
    """Those that tell a mask, the one to ask first at the front."""
    return sorted((c for c in layers.values() if mask in c.masks), key=lambda card: (card.rank, card.id))


def _invalid(path: Path, why: str) -> InputError:
    return InputError(
        f"layer card {path}: {why}",
        code="layer.invalid",
        hint="correct the file; docs/postprocessing.md describes its fields",
        field="--mask",
    )
