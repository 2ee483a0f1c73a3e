"""Troubles that pass: which they are, and how long is waited before what met one is tried again."""

from __future__ import annotations

from swathe.errors import ClusterError, OutputError, ReadError, StoreError, SwatheError

BUSY = "output.busy"
"""Another attempt still seems to hold the folder."""
FULL = "output.full"
"""There is no room."""
_STORAGE = frozenset({BUSY, FULL, "output.unreachable", "output.failed"})
"""Troubles of storage that may be gone at the next attempt; others stay until somebody changes something."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_ROOM_S, _LONGEST_ROOM_S = 60.0, 600.0
"""The same where there is no room: somebody has to notice, and to make some."""


def passing(error: SwatheError) -> bool:
    """Whether the surroundings are to blame, so that another attempt may succeed; a wrong request stays wrong."""
    if isinstance(error, OutputError):
        return error.problem.code in _STORAGE
    return isinstance(error, (ClusterError, StoreError, ReadError))


def waits(attempts: int, code: str = "") -> float:
    """Seconds before the next attempt, after so many, of which the last one ended with this code."""
    first, longest = (_ROOM_S, _LONGEST_ROOM_S) if code == FULL else (_FIRST_WAIT_S, _LONGEST_WAIT_S)
    return min(first * 2 ** max(0, attempts - 1), longest)
