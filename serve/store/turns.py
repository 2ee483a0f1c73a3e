"""Whose turn it is: pure. Users take turns by the work that they were given of late."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from swathe.job import Where

HALF_LIFE_S = 900.0
"""In which what somebody was given counts half."""
LEAST_S = 1.0
"""That the smallest job counts."""
Lane = tuple[str, Where]
"""One user's jobs for one place."""
Share = tuple[str, bool]
"""One user's jobs that count together: their small ones (True), or all others."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How much may be at work at a time."""

    running_per_user: int
    """Jobs; a user's own quota goes first. Small ones (online) are counted for themselves: as many again."""
    running: Mapping[Where, int] = field(default_factory=dict)
    """Jobs by place; a place that is missing has no bound."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A job in the queue."""

    id: str
    """Id of the job; sorts by age."""
    owner: str
    """Id of a user."""
    place: Where
    """Place where it is to run."""
    seconds: float
    """Estimated seconds that it takes."""

    @property
    def lane(self) -> Lane:
        """The lane that it waits in: its user's jobs for its place."""
        return self.owner, self.place

    @property
    def weight(self) -> float:
        """Seconds that it counts."""
        return max(self.seconds, LEAST_S)


@dataclass(slots=True)
class Busy:
    """What is at work, and what was given."""

    given: dict[Lane, float] = field(default_factory=lambda: defaultdict(float))
    """Seconds by lane, those of jobs at work in full and those before them as they have faded."""
    of_user: Counter[Share] = field(default_factory=Counter)
    """Jobs at work, by user."""
    at_place: Counter[Where] = field(default_factory=Counter)
    """Jobs at work, by place."""

    def start(self, job: Waiting) -> None:
        """Count one more job as at work."""
        self.given[job.lane] = self.given.get(job.lane, 0.0) + job.weight
        self.of_user[_share(job.lane)] += 1
        self.at_place[job.place] += 1


def _share(lane: Lane) -> Share:
    """Small jobs have places of their own: whatever else is at work, of the same user or of others, takes none."""
    return lane[0], lane[1] is Where.ONLINE


def faded(seconds: float, age_s: float) -> float:
    """Seconds of a charge that are left after so many seconds."""
    return seconds * 0.5 ** (max(age_s, 0.0) / HALF_LIFE_S)


def turns(
    waiting: Iterable[Waiting], busy: Busy, limits: QueueLimits | None = None, own: Mapping[str, int] | None = None
) -> Iterator[Waiting]:
    """Jobs in the order in which they are to be started, as far as the limits let them; ``busy`` grows with them.

    ``own``: users with a limit of their own. The oldest of a lane goes first; of lanes, the one that was given least.
    """
    lanes: dict[Lane, deque[Waiting]] = defaultdict(deque)
    for job in sorted(waiting, key=lambda one: one.id):
        lanes[job.lane].append(job)
    heap = [(busy.given.get(lane, 0.0), jobs[0].id, lane) for lane, jobs in lanes.items()]
    heapq.heapify(heap)
    while heap:
        _, _, lane = heapq.heappop(heap)
        if not _room(lane, busy, limits, own or {}):
            continue  # what is at work only grows here
        job = lanes[lane].popleft()
        busy.start(job)
        yield job
        if lanes[lane]:
            heapq.heappush(heap, (busy.given[lane], lanes[lane][0].id, lane))


def _room(lane: Lane, busy: Busy, limits: QueueLimits | None, own: Mapping[str, int]) -> bool:
    if limits is None:
        return True
    user, place = lane
    most = limits.running.get(place)
    may = own.get(user, limits.running_per_user)
    return busy.of_user[_share(lane)] < may and (most is None or busy.at_place[place] < most)
