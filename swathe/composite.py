"""How several observations of one pixel become one."""

from __future__ import annotations

from enum import StrEnum


class Composite(StrEnum):
    """What becomes of several observations of one pixel."""

    NONE = "none"
    """One solar day; its scenes fill each other's gaps."""
    LATEST = "latest"
    """The newest clear one."""
    BEST = "best"
    """The clear one of the day farthest from any cloud, up to a limit; then the newest."""
    MEDIAN = "median"
    """Per band, of all clear ones; those of one solar day are joined first, and are one."""
