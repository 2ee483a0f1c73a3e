"""Whether enough of the area is clear for a run to make sense: told before it begins, not found in the result."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipelines.mosaic.measure import Measured
from pipelines.search.query import Near
from swathe.errors import InputError
from swathe.mosaic import Slot

LITTLE = 0.05
"""Share of the area that is clear on a date, below which the user is told."""
_OVERCAST = 100.0
"""Percent of a scene under cloud at which it is no better."""


def checked(slots: Sequence[Slot], measured: Measured, others: Callable[[], Sequence[Near]]) -> tuple[str, ...]:
    """What to tell of dates that are hardly clear. ``others`` looks for scenes of other days, where it is needed.

    Raises InputError (``scenes.cloudy``) where a date shows nothing of the area: the result would have no pixel. A date
    with a scene whose mask could not be read is not judged.
    """
    shares = {slot.when: measured.together(slot.scenes) for slot in slots if _known(slot, measured)}
    if any(share == 0 for share in shares.values()):
        raise _cloudy(shares, others())
    return tuple(
        f"{when}: {share:.1%} of the area is clear; all else has no data in the result"
        for when, share in shares.items()
        if share < LITTLE
    )


def _known(slot: Slot, measured: Measured) -> bool:
    return all(scene.key in measured.seen for scene in slot.scenes)


def _cloudy(shares: dict[str, float], others: Sequence[Near]) -> InputError:
    told = ", ".join(f"{when}: {share:.0%}" for when, share in shares.items())
    better = [str(near) for near in others if near.cloud is None or near.cloud < _OVERCAST]
    hint = f"the nearest other dates are {' and '.join(better)}" if better else "widen --dates"
    return InputError(
        f"nothing of the area is clear in the scenes that were found (clear: {told})",
        code="scenes.cloudy",
        hint=f"{hint}; masks say what counts as clear",
        field="--dates",
    )
