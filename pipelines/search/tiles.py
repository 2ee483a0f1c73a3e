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
    names = query.bands or tuple(card.bands)
    rule = card.radiometry
    end = query.intervals[-1].end if query.intervals else None
    bands = tuple(
        Asset(
            name=name, href=card.url, index=card.bands[name].index,
            scale=rule.scale if card.bands[name].scale is None else card.bands[name].scale,  # pyright: ignore[reportArgumentType]
            offset=rule.offset if card.bands[name].offset is None else card.bands[name].offset,  # pyright: ignore[reportArgumentType]
            nodata=nodata_of(card, card.bands[name], {}), resampling=card.bands[name].resampling,
        )
        for name in names
    )  # fmt: skip
    return Scene(
        id=card.id, collection=card.collection, when=_UNDATED if end is None else end.isoformat().replace("+00:00", "Z"),
        footprint=shapely.to_wkb(query.aoi.geometry), bands=bands, rule="as the card says: pictures, no dates",
    )  # fmt: skip
