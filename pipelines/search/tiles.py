"""A tile service as a source: one scene without a date of its own, everywhere the service is."""

from __future__ import annotations

import shapely

from pipelines.search.query import Query
from pipelines.search.radiometry import nodata_of
from swathe.scene import Asset, Scene
from swathe.source import SourceCard

_UNDATED = "1970-01-01T00:00:00Z"


def scene_of_tiles(card: SourceCard, query: Query) -> Scene:
    """The scene: bands of the pictures, its footprint the area that was asked for.

    Its time is the end of what was asked for, as nobody knows when the pictures were taken.
    """
    end = query.intervals[-1].end if query.intervals else None
    return Scene(
        id=card.id, collection=card.collection, footprint=shapely.to_wkb(query.aoi.geometry),
        when=_UNDATED if end is None else end.isoformat().replace("+00:00", "Z"),
        bands=tuple(_asset(name, card) for name in query.bands or card.bands),
        looks=tuple(_asset(name, card) for name in card.looks), rule="as the card says: pictures, no dates",
    )  # fmt: skip


def _asset(name: str, card: SourceCard) -> Asset:
    band, rule = card.bands[name], card.radiometry
    return Asset(
        name=name, href=card.url, index=band.index, scale=rule.scale if band.scale is None else band.scale,
        offset=rule.offset if band.offset is None else band.offset, nodata=nodata_of(card, band, {}),
        resampling=band.resampling,
    )  # fmt: skip
