"""``collection.json``: a STAC Collection that lists the days of a series, those with a map by their Items."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from affine import Affine
from odc.geo.geobox import GeoBox

from pipelines.products.item import bbox_of, footprint
from swathe.scene import AssetGrid

NAME = "collection.json"
ITEM = "item.json"


class DayState(StrEnum):
    """What became of a day."""

    WAITING = "waiting"
    """Its run has not ended yet."""
    DONE = "done"
    """There is a map."""
    INCOMPLETE = "incomplete"
    """There is one, with failed chunks or a failed step."""
    FAILED = "failed"
    """There is none: its run stopped with an error."""
    LEFT_OUT = "left_out"
    """There is none to be made: nothing of the area is clear, or more is cloudy than was allowed."""

    @property
    def mapped(self) -> bool:
        """Whether there is a map."""
        return self in (DayState.DONE, DayState.INCOMPLETE)


@dataclass(frozen=True, slots=True)
class Entry:
    """One day."""

    day: str
    """ISO, by the sun at the middle of the area; the name of its folder."""
    start: str
    """First acquisition, RFC 3339."""
    end: str
    """Last acquisition."""
    scenes: tuple[str, ...]
    """Ids."""
    clear: float | None
    """Share of the area that is clear, as its scenes' masks show it from afar, 0..1; None: none could be read."""
    cloud: float | None
    """Percent of what the scenes show of the area that is under cloud; None: no mask tells."""
    state: DayState = DayState.WAITING
    """What became of it."""
    valid_fraction: float | None = None
    """Share of the result's pixels that have a value, 0..1; None: there is no result."""
    why: str = ""
    """Why there is no map, or not a whole one, or none with any value."""

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Entry:
        """As ``Listing.document`` wrote it. Raises TypeError, ValueError, KeyError."""
        return cls(**{**facts, "scenes": tuple(facts["scenes"]), "state": DayState(facts["state"])})


@dataclass(frozen=True, slots=True)
class Listing:
    """A series, as its collection tells it."""

    model: str
    """Id of the card."""
    title: str
    """For people."""
    asked: str
    """Hash of what all its days have in common (``series.asked``)."""
    grid: AssetGrid
    """On which the scenes of every day are joined."""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    """By day."""

    @classmethod
    def read(cls, text: bytes) -> Listing | None:
        """What ``document`` wrote; None for anything else."""
        try:
            found = json.loads(text)
            entries = {day["day"]: Entry.of(day) for day in found["swathe:days"]}
            crs, transform, (rows, cols) = (found["swathe:grid"][name] for name in ("crs", "transform", "shape"))
            a, b, c, d, e, f = map(float, transform)
            grid = AssetGrid(str(crs), (a, b, c, d, e, f), (int(rows), int(cols)))
            return cls(found["swathe:model"], found["title"], found["swathe:asked"], grid, entries)
        except (ValueError, TypeError, KeyError):
            return None

    def document(self) -> bytes:
        """STAC 1.1, hrefs relative to where it lies: readers of static catalogues follow them to the Items."""
        days = [self.entries[day] for day in sorted(self.entries)]
        grid = GeoBox(self.grid.shape, Affine(*self.grid.transform), self.grid.crs)
        times = [min(day.start for day in days), max(day.end for day in days)] if days else [None, None]
        items = [
            {"rel": "item", "href": f"./{day.day}/{ITEM}", "type": "application/geo+json", "title": day.day}
            for day in days if day.state.mapped
        ]  # fmt: skip
        found = {
            "type": "Collection",
            "stac_version": "1.1.0",
            "id": f"{self.model}-each-date-{self.asked[:12]}",
            "title": self.title,
            "description": f"Maps that swathe made with the model {self.model}, one of each day, on one grid.",
            "license": "other",
            "extent": {"spatial": {"bbox": [bbox_of(footprint(grid))]}, "temporal": {"interval": [times]}},
            "links": [{"rel": "root", "href": f"./{NAME}", "type": "application/json"}, *items],
            "swathe:model": self.model,
            "swathe:asked": self.asked,
            "swathe:grid": asdict(self.grid),
            "swathe:days": [asdict(day) for day in days],
        }
        return (json.dumps(found, indent=2, ensure_ascii=False) + "\n").encode()
