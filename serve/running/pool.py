"""The standing pool on Ray: hands that do chunks, leads that carry jobs out. Both are there before a job comes.

All of it is detached: it outlives whoever started it, and Ray starts a dead one again under its old name.
"""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from serve import structured
from serve.running.hand import WARM, Hand, warm
from serve.running.priority_thread import PriorityThread
from swathe.errors import ClusterError, SwatheError

if TYPE_CHECKING:
    from pipelines.runner import Hire
    from pipelines.worker import Order
    from serve.running.attempt import Hired
    from serve.running.held import Held
    from serve.settings import ServiceSettings
    from serve.store.jobs import Hold
    from swathe.card import ModelCard
    from swathe.lattice import Chunk

NAMESPACE = "swathe"
_BOOKED = 0.01
"""Of a core, and of a GPU where there is one: what hands take when they work they share with other runs."""
_LOOK_S = 0.2
_TRIES = 6
"""Times that one chunk is sent; the ledger gives it up before, unless a hand dies before it begins."""
_GONE_S = 90.0
"""Without any hand, after which the attempt is given back."""
LEADS = 2
WARM_LEAD = (
    *WARM, "pipelines.run", "pipelines.publish", "pipelines.begin", "pipelines.searched", "pystac", "pyarrow.parquet",
    "pipelines.products.preview", "pipelines.report", "pipelines.catalogue.register", "serve.desk.asking",
    "serve.desk.inputs", "serve.planning", "serve.store.jobs", "serve.store.catalogue", "serve.running.attempt",
)  # fmt: skip


# --- the runner -------------------------------------------------------------------------------------------------------


class PoolRunner:
    """Chunks to hands that other jobs use as well: each job has one chunk at a time in front of each hand.

    Hands take them in the order in which they come, so that jobs take turns chunk by chunk; small jobs go ahead.
    """

    def __init__(self, hands: Sequence[Any], threads: int, check: Callable[[], None], *, small: bool = False) -> None:
        """``hands``: handles of actors. ``check`` is called several times a second, and raises to stop."""
        self.actors, self.threads = max(1, len(hands)), threads
        self._hands, self._check, self._small = list(hands), check, small

    def map(self, hire: Hire, order: Order, chunks: Sequence[Chunk]) -> Iterator[dict[str, Any]]:
        """See :class:`pipelines.runner.Runner`."""
        import ray

        round_ = _Round(uuid.uuid4().hex, hire, ray.put(order), deque(chunks), list(self._hands),
                        self._small)  # fmt: skip
        try:
            while round_.unfinished:
                self._check()
                round_.send()
                yield from round_.answers()
        finally:
            for hand in self._hands:
                hand.forget.remote(round_.ticket, small=self._small)


@dataclass(slots=True)
class _Round:
    """One call of ``map``: what is to be done, who does it, and which hands are coming back."""

    ticket: str
    hire: Hire
    order: Any
    todo: deque[Chunk]
    free: list[Any]
    small: bool
    under_way: dict[Any, tuple[Any, Chunk]] = field(default_factory=dict)
    resting: dict[Any, Any] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    heard: float = field(default_factory=time.monotonic)

    @property
    def unfinished(self) -> bool:
        return bool(self.todo or self.under_way)

    def send(self) -> None:
        while self.todo and self.free:
            hand, chunk = self.free.pop(0), self.todo.popleft()
            # In a list the order stays where it is until a hand asks for it.
            sent = hand.do.remote(self.ticket, self.hire, [self.order], chunk, small=self.small)
            self.under_way[sent] = hand, chunk

    def answers(self) -> Iterator[dict[str, Any]]:
        import ray

        waiting = [*self.under_way, *self.resting]
        ready, _ = ray.wait(waiting, num_returns=1, timeout=_LOOK_S)
        for ref in ready:
            if ref in self.resting:
                self._back(ref)
            elif (answer := self._answer(ref)) is not None:
                yield answer
        if self.free or self.under_way:
            self.heard = time.monotonic()
        elif time.monotonic() - self.heard > _GONE_S:
            raise ClusterError(f"no hand of the pool has answered for {_GONE_S:.0f} s", code="cluster.lost")

    def _answer(self, ref: Any) -> dict[str, Any] | None:
        """None: the hand died, and the chunk waits again."""
        import ray
        from ray.exceptions import RayError

        hand, chunk = self.under_way.pop(ref)
        answer: Any
        try:
            answer = ray.get(ref)
        except RayError as error:
            self._rest(hand)
            self._again(chunk, error)
            return None
        self.free.append(hand)
        if isinstance(answer, SwatheError):
            raise answer
        return answer

    def _again(self, chunk: Chunk, error: Exception) -> None:
        self.tries[chunk.key] += 1
        if self.tries[chunk.key] >= _TRIES:
            raise ClusterError(f"no worker lived to do chunk {chunk.key}: {_last_line(error)}", code="cluster.worker")
        self.todo.appendleft(chunk)

    def _rest(self, hand: Any) -> None:
        """Ray starts it again; it is asked whether it is there, and gets nothing to do before it answers."""
        self.resting[hand.ready.remote()] = hand

    def _back(self, ref: Any) -> None:
        import ray
        from ray.exceptions import RayError

        hand = self.resting.pop(ref)
        try:
            ray.get(ref)
        except RayError:
            time.sleep(_LOOK_S)
            self._rest(hand)
        else:
            self.free.append(hand)


def _last_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


# --- the actors -------------------------------------------------------------------------------------------------------


class PoolHand:
    """:class:`serve.running.hand.Hand` as an actor, with a line of its own: in Ray's, nothing goes ahead."""

    def __init__(self) -> None:
        """Warm before it says that it is ready."""
        warm(WARM)
        self._hand, self._thread = Hand(), PriorityThread("hand")

    def ready(self) -> int:
        """Answers when it is; with the number of its process."""
        return os.getpid()

    def do(
        self, ticket: str, hire: Hire, order: list[Any], chunk: Chunk, *, small: bool
    ) -> dict[str, Any] | SwatheError:  # fmt: skip
        """See ``Hand.do``. ``small``: of a small job."""
        import ray

        return self._thread.do(lambda: self._hand.do(ticket, hire, lambda: ray.get(order[0]), chunk), small=small)

    def forget(self, ticket: str, *, small: bool) -> None:
        """See ``Hand.forget``; after what was asked for before it."""
        self._thread.do(lambda: self._hand.forget(ticket), small=small)


class PoolLead:
    """Carries jobs out, several at a time, each in a thread of its own."""

    def __init__(self, settings: ServiceSettings, hands: Sequence[str], threads: int) -> None:
        """``hands``: names of actors."""
        structured.install()
        warm(WARM_LEAD)
        self._settings, self._hands, self._threads = settings, hands, threads
        self._store = settings.open_store()

    def ready(self) -> int:
        """Answers when it is; with the number of its process."""
        return os.getpid()

    def carry_out(self, hold: Hold, *, small: bool) -> None:
        """See ``serve.running.attempt``. ``small``: whether its chunks go ahead of those of larger jobs."""
        from serve.running.attempt import attempt

        attempt(self._settings, self._store, hold, partial(self._hiring, small=small))

    @contextmanager
    def _hiring(
        self, card: ModelCard, held: Held, *, small: bool  # noqa: ARG002  all hands do all cards
    ) -> Iterator[Hired]:  # fmt: skip
        from serve.running.attempt import Hired

        hands = [actor(name) for name in self._hands]
        yield Hired(PoolRunner(hands, self._threads, held.check, small=small), "pool")


def actor(name: str) -> Any:
    """A handle by name. Raises ClusterError."""
    import ray

    try:
        return ray.get_actor(name, namespace=NAMESPACE)
    except ValueError as error:
        raise ClusterError(f"the pool's {name} is not there", code="cluster.lost") from error


# --- starting it ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PoolShape:
    """How large the pool is."""

    hands: int
    """Chunks done at a time."""
    threads: int
    """Of one hand's forward."""
    leads: int = LEADS
    """Processes that carry jobs out."""
    jobs: int = 8
    """At a time, in all."""
    gpu: bool = False
    """Whether hands see a GPU."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Handles, by name."""

    hands: Mapping[str, Any]
    leads: Mapping[str, Any]

    def await_ready(self, seconds: float) -> None:
        """Until all of it is warm. Raises ClusterError."""
        import ray
        from ray.exceptions import RayError

        try:
            ray.get([a.ready.remote() for a in (*self.hands.values(), *self.leads.values())], timeout=seconds)
        except RayError as error:
            raise ClusterError(f"the pool does not come up: {_last_line(error)}", code="cluster.pool") from error

    def close(self) -> None:
        """End it."""
        import ray

        for one in (*self.leads.values(), *self.hands.values()):
            with suppress(Exception):
                ray.kill(one)


def open_pool(settings: ServiceSettings, shape: PoolShape) -> Pool:
    """The pool of this service: what runs already is used, a former version's is ended. Needs a connected Ray."""
    prefix, mark = _names(settings, shape)
    _end_former(prefix, mark)
    hands = [f"{prefix}{mark}-hand-{n}" for n in range(shape.hands)]
    leads = [f"{prefix}{mark}-lead-{n}" for n in range(shape.leads)]
    gpu, at_once = _BOOKED if shape.gpu else 0, shape.jobs + 2
    return Pool(
        {name: _start(PoolHand, name, num_gpus=gpu, max_concurrency=at_once) for name in hands},
        {name: _start(PoolLead, name, settings, hands, shape.threads, num_gpus=gpu, max_concurrency=at_once)
         for name in leads},
    )  # fmt: skip


def _start(kind: type, name: str, *arguments: Any, **options: Any) -> Any:
    import ray

    made = ray.remote(kind).options(
        name=name, namespace=NAMESPACE, lifetime="detached", get_if_exists=True, max_restarts=-1, max_task_retries=0,
        num_cpus=_BOOKED, scheduling_strategy="SPREAD", **options,
    )  # fmt: skip
    return made.remote(*arguments)


def _names(settings: ServiceSettings, shape: PoolShape) -> tuple[str, str]:
    """(the service's, the version's): two services on one Ray do not meet, and a new version does not meet the old."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        of = version("swathe")
    except PackageNotFoundError:
        of = ""
    said = settings.model_dump_json(exclude={"pepper"})
    return f"{_hash(settings.database)}-", _hash(f"{of} {said} {shape}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _end_former(prefix: str, mark: str) -> None:
    import ray
    from ray.util import list_named_actors

    found: Any
    for found in list_named_actors(all_namespaces=True):
        name = found["name"]
        if found["namespace"] == NAMESPACE and name.startswith(prefix) and not name.startswith(f"{prefix}{mark}-"):
            with suppress(ValueError):
                ray.kill(ray.get_actor(name, namespace=NAMESPACE))
