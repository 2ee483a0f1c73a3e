"""What is looked for, and what was found; the one thing that searching needs of the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from swathe.aoi import AOI
from swathe.scene import Scene
from swathe.source import Auth
from swathe.when import Interval


class Documents(Protocol):
    """Where JSON documents come from: ``pipelines.remote.fetch.Fetcher``."""

    def json(self, href: str, auth: Auth = ..., *, method: str = ..., body: Any = ...) -> Any:
        """One document of a file or an address; raises ReadError or ImageryError."""
        ...


@dataclass(frozen=True, slots=True)
class Query:
    """A place and a time."""

    aoi: AOI
    """Scenes must share some area with it."""
    intervals: tuple[Interval, ...]
    """Scenes must fall into one of them."""
    max_cloud: float | None = None
    """Percent, see ``measured``; None: any."""
    bands: tuple[str, ...] = ()
    """Common names; empty: all that the source has."""
    limit: int = 2000
    """More scenes than this are refused, never cut off silently."""
    measured: bool = False
    """Whether ``max_cloud`` is meant of the area, and whoever asks will measure it in masks; else it is meant of whole
    scenes, as catalogues say it."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An item that was found and cannot be used."""

    id: str
    """Of the item."""
    reason: str
    """Why, for people."""


@dataclass(frozen=True, slots=True)
class Near:
    """A scene at another time than the one asked for."""

    when: str
    """RFC 3339."""
    cloud: float | None
    """Percent, as its catalogue says."""
    id: str = ""
    """Of the item."""

    def __str__(self) -> str:
        """For people."""
        cloud = "" if self.cloud is None else f" ({self.cloud:.0f} % cloud)"
        return f"{self.when[:10]}{cloud}"


@dataclass(frozen=True, slots=True)
class Found:
    """What a search gave."""

    scenes: tuple[Scene, ...]
    """Oldest first."""
    left_out: tuple[LeftOut, ...] = ()
    """What was there and cannot be used."""
    notes: tuple[str, ...] = ()
    """What the user should know."""
    nearest: tuple[Near, ...] = ()
    """Where there are no scenes: the nearest in time before and after, or cloudier ones of the same time."""
