"""Whether enough of the area is clear for a run to make sense: told before it begins, not found in the result.

Which scenes are clear enough for whoever set a limit, and whether those that are left show anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipelines.mosaic.measure import Measured
from pipelines.search.query import Near
from swathe.errors import ImageryError, InputError
from swathe.mosaic import Slot
from swathe.scene import Scene

LITTLE = 0.05
"""Share of the area that is clear on a date, below which the user is told."""
_OVERCAST = 100.0
"""Percent of a scene under cloud at which it is no better."""
_TOLD, _SHOWN = 8, 3
"""Scenes that a note names, and a hint."""


def within(measured: Measured, limit: float) -> tuple[tuple[Scene, ...], tuple[str, ...]]:
    """Scenes with at most ``limit`` percent of cloud over the area, and what to tell of the others.

    As their masks show it; where one could not be read, as the catalogue says of the whole scene, and where that says
    nothing, the scene stays. Raises ImageryError (``search.nothing``) where none is left.
    """
    shares = {scene.key: _cloud(scene, measured) for scene in measured.scenes}
    cloudy = sorted((s for s in measured.scenes if shares[s.key] > limit), key=lambda s: (shares[s.key], s.when, s.id))
    kept = tuple(s for s in measured.scenes if shares[s.key] <= limit)
    if not kept:
        raise _none_within(limit, [(scene, shares[scene.key]) for scene in cloudy])
    if not cloudy:
        return kept, ()
    told = ", ".join(f"{scene.id} ({shares[scene.key]:.0f} %)" for scene in cloudy[:_TOLD])
    more = f" and {len(cloudy) - _TOLD} more" if len(cloudy) > _TOLD else ""
    return kept, (f"scenes with more than {limit:g} % cloud over the area were left out: {told}{more}",)


def refuse_cloudier(cloud: float | None, limit: float | None) -> None:
    """Of a day by itself: raises ImageryError (``scenes.over_limit``) where more than ``limit`` percent are cloud."""
    if cloud is None or limit is None or cloud <= limit:
        return
    raise ImageryError(
        f"{cloud:.0f} % of what is seen of the area is under cloud, more than {limit:g} %",
        code="scenes.over_limit",
        hint="raise --max-cloud",
        field="--max-cloud",
    )


def _cloud(scene: Scene, measured: Measured) -> float:
    """Percent."""
    sight = measured.seen.get(scene.key)
    return sight.cloud if sight is not None and scene.masked else scene.cloud or 0.0


def _none_within(limit: float, cloudy: Sequence[tuple[Scene, float]]) -> ImageryError:
    there = ", ".join(f"{scene.when[:10]} ({share:.0f} % cloud)" for scene, share in cloudy[:_SHOWN])
    return ImageryError(
        f"no scene has at most {limit:g} % cloud over the area",
        code="search.nothing",
        hint=f"raise --max-cloud: there are {there}; or widen --dates",
        field="--max-cloud",
    )


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
