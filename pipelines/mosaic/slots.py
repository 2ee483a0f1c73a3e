"""From scenes to the dates of a model's input: which scenes belong to a date, and which comes first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from swathe.errors import InputError
from swathe.mosaic import Composite, Slot
from swathe.scene import Scene
from swathe.when import Interval, read_moment

Cover = Callable[[Sequence[Scene]], float]
"""Share of the area that is clear in any of some scenes, 0..1: ``Measured.together``."""
_DEGREES_PER_HOUR = 15.0
_TOLD = 8
"""Days that a note names."""
_FIELD = "--dates"


@dataclass(frozen=True, slots=True)
class Chosen:
    """The dates of a model's input."""

    slots: tuple[Slot, ...]
    """Oldest first."""
    composite: Composite
    """As asked for, or as it was settled."""
    notes: tuple[str, ...] = ()
    """What the user should know: days that were left out."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for."""

    intervals: tuple[Interval, ...]
    """Oldest first."""
    composite: Composite | None = None
    """None: ``none`` where every date holds one solar day, else ``best``."""
    times: int = 1
    """Dates that the model wants."""
    lon: float = 0.0
    """Degrees east of the area's middle: solar days are told there."""


def choose(scenes: Sequence[Scene], asked: Asked, cover: Cover) -> Chosen:
    """One slot per interval; of a model of one date, one slot of all intervals.

    Raises InputError: ``when.count`` where there are not as many intervals as dates, ``scenes.none`` for an interval
    without scenes.
    """
    groups = _groups(scenes, asked)
    composite = asked.composite
    if composite is None:
        one_day = all(len(days(group, asked.lon)) == 1 for _, group in groups)
        composite = Composite.NONE if one_day else Composite.BEST
    slots, notes = [], [*_merged(asked)]
    for when, group in groups:
        slot, note = _slot(when, group, composite, asked.lon, cover)
        slots.append(slot)
        notes += [note] if note else []
    return Chosen(tuple(slots), composite, tuple(notes))


def each_day(scenes: Sequence[Scene], asked: Asked, cover: Cover) -> tuple[Chosen, ...]:
    """A slot of its own for every solar day, oldest first: what a model of one date makes a map of each from."""
    composite = asked.composite or Composite.NONE
    found = days(scenes, asked.lon).items()
    slots = (_slot(day.isoformat(), group, composite, asked.lon, cover)[0] for day, group in found)
    return tuple(Chosen((slot,), composite) for slot in slots)


def solar_day(scene: Scene, lon: float) -> date:
    """The day by the sun at a longitude, so that one pass over it is one day wherever UTC's midnight falls.

    odc-stac groups by the same rule (``groupby="solar_day"``), at the longitude of each scene: there, what lies on the
    two sides of the antimeridian is of two days.
    """
    return (read_moment(scene.when) + timedelta(hours=lon / _DEGREES_PER_HOUR)).date()


def days(scenes: Iterable[Scene], lon: float) -> dict[date, list[Scene]]:
    """Scenes by solar day, oldest first."""
    found: dict[date, list[Scene]] = defaultdict(list)
    for scene in scenes:
        found[solar_day(scene, lon)].append(scene)
    return dict(sorted(found.items()))


def _groups(scenes: Sequence[Scene], asked: Asked) -> list[tuple[str, list[Scene]]]:
    intervals = asked.intervals
    if asked.times > 1 and len(intervals) != asked.times:
        given = "one was" if len(intervals) == 1 else f"{len(intervals)} were"
        raise InputError(
            f"the model compares {asked.times} dates, and {given} given",
            code="when.count",
            hint=f"give {asked.times} dates or intervals with commas, e.g. "
            + ",".join(f"{2024 + n}-07" for n in range(asked.times)),
            field=_FIELD,
        )
    if asked.times == 1:
        found = [(", ".join(map(str, intervals)), [s for s in scenes if any(_in(s, i) for i in intervals)])]
    else:
        found = [(str(interval), [s for s in scenes if _in(s, interval)]) for interval in intervals]
    for when, group in found:
        if not group:
            raise InputError(
                f"there is no scene of {when}",
                code="scenes.none",
                hint="widen the interval, or allow more cloud with --max-cloud",
                field=_FIELD,
            )
    return found


def _merged(asked: Asked) -> tuple[str, ...]:
    """Whoever names several dates may expect a map of each."""
    if asked.times > 1 or len(asked.intervals) == 1:
        return ()
    dates = ", ".join(map(str, asked.intervals))
    return (
        f"the model takes one date: scenes of {dates} become one map; for one of each, run it per date (--each-date)",
    )


def _in(scene: Scene, interval: Interval) -> bool:
    """As the search decides it: an observation of eight days belongs to each of them."""
    return interval.holds(*map(read_moment, scene.lasted or (scene.when, scene.when)))


def _slot(when: str, scenes: list[Scene], composite: Composite, lon: float, cover: Cover) -> tuple[Slot, str]:
    by_day = days(scenes, lon)
    if composite is not Composite.NONE:
        return Slot(when, tuple(_newest_first(day) for day in reversed(by_day.values()))), ""
    shares = {day: cover(group) for day, group in by_day.items()}
    day = max(by_day, key=lambda d: (shares[d], d))
    ordered = sorted(by_day[day], key=lambda s: (-(s.clear if s.clear is not None else 0.0), s.id))
    return Slot(day.isoformat(), (tuple(ordered),)), _left_out(when, day, shares)


def _newest_first(scenes: Sequence[Scene]) -> tuple[Scene, ...]:
    """By time; scenes of the same instant by name."""
    return tuple(sorted(sorted(scenes, key=lambda s: s.id), key=lambda s: read_moment(s.when), reverse=True))


def _left_out(when: str, day: date, shares: dict[date, float]) -> str:
    others = [d for d in shares if d != day]
    if not others:
        return ""
    told = ", ".join(f"{d} ({shares[d]:.0%})" for d in others[:_TOLD])
    more = f" and {len(others) - _TOLD} more" if len(others) > _TOLD else ""
    return (
        f"{when}: {day} was taken, of which {shares[day]:.0%} of the area is clear; left out: {told}{more}. "
        "To use them all, ask for --composite best, latest or median."
    )
