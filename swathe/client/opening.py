"""Results as values of the field's libraries, which the light client does not bring."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from swathe.errors import InputError


def raster(path: Path, *, keep: bool, **options: Any) -> Any:
    """``xarray.DataArray`` (band, y, x); read at once unless the file is kept. Raises InputError."""
    opened = _needed("rioxarray", "raster").open_rasterio(path, **{"masked": True, **options})
    return opened if keep else opened.load()


def polygons(path: Path) -> Any:
    """``geopandas.GeoDataFrame``. Raises InputError."""
    return _needed("geopandas", "vector").read_parquet(path)


def item(document: dict[str, Any]) -> Any:
    """``pystac.Item``. Raises InputError."""
    return _needed("pystac", "stac").Item.from_dict(document)


def _needed(library: str, extra: str) -> ModuleType:
    """By name: the ground floor brings none of them, and works without."""
    try:
        return importlib.import_module(library)
    except ImportError:
        raise InputError(f"this needs {library}, which is not installed", code="client.extra",
                         hint=f"pip install 'swathe[{extra}]'") from None  # fmt: skip
