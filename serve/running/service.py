"""What a service runs to carry jobs out: dispatcher, pool, Ray jobs, webhooks, sweeping; begun and stopped as one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from serve.running.crews import AsRayJobs, OnPool
from serve.running.dispatcher import Dispatcher
from serve.running.planner import planner
from serve.running.pool import LEADS, PoolShape, open_pool
from serve.running.publishing import publishing
from serve.running.sweep import sweep
from serve.running.webhooks import Webhooks
from swathe.errors import SwatheError
from swathe.job import Where

if TYPE_CHECKING:
    from cluster.submit import Dashboard
    from serve.settings import ServiceSettings
    from serve.store.store import Store

_CALLS_S, _SWEEP_S, _POOL_S, _PLAN_S, _PUBLISH_S = 1.0, 600.0, 5.0, 0.5, 2.0
_FEW = 2
"""Hands that one lead is enough for; an idle one takes 150 MB."""
_log = logging.getLogger("swathe.running")


class Dispatching:
    """All of it, in threads of one process that is connected to Ray."""

    def __init__(self, dispatcher: Dispatcher, beside: tuple[Beside, ...]) -> None:
        """Begins at once."""
        self._dispatcher, self._beside = dispatcher, beside
        dispatcher.start()
        for one in beside:
            one.start()

    def check(self) -> None:
        """Raises RuntimeError where it has stopped working."""
        self._dispatcher.check()

    def stop(self) -> None:
        """Begin nothing more; attempts go on, and the next one who dispatches finds them."""
        for one in self._beside:
            one.stop()
        self._dispatcher.stop()


class Beside:
    """A thread that does a step again and again; trouble is told, and the next turn comes."""

    def __init__(self, name: str, seconds: float, step: Callable[[], object]) -> None:
        """``seconds``: between two turns."""
        self._seconds, self._step = seconds, step
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """The first turn is at once."""
        self._thread.start()

    def stop(self) -> None:
        """After the turn that is under way."""
        self._end.set()

    def _work(self) -> None:
        while not self._end.is_set():
            try:
                self._step()
            except SwatheError as error:
                _log.warning("%s: %s", self._thread.name, error.problem.line())
            except Exception:  # noqa: BLE001  the next turn may go well
                _log.exception("%s stumbled", self._thread.name)
            self._end.wait(self._seconds)


def dispatching(settings: ServiceSettings, store: Store) -> Dispatching:
    """For a service on the Ray that this process is connected to. The pool comes up beside it."""
    pool = OnPool(settings, lambda: open_pool(settings, shape_of(settings)))
    crews = {Where.ONLINE: pool, Where.POOL: pool, Where.CLUSTER: AsRayJobs(settings, store, lambda: found(settings))}
    dispatcher = Dispatcher(settings, store, crews)
    plans = planner(settings, store)
    webhooks = Webhooks(store, allow_private=settings.allow_private_urls)
    shown = publishing(settings, store)

    def if_leading(step: Callable[[], object]) -> Callable[[], object]:
        return lambda: step() if dispatcher.leading else None

    elsewhere = () if shown is None else (Beside("publishing", _PUBLISH_S, if_leading(shown.turn)),)
    return Dispatching(dispatcher, (
        *elsewhere,
        Beside("pool", _POOL_S, pool.open),
        Beside("hooks", _CALLS_S, if_leading(webhooks.turn)),
        Beside("planner", _PLAN_S, if_leading(plans.turn)),
        Beside("sweep", _SWEEP_S, if_leading(lambda: sweep(settings, store))),
    ))  # fmt: skip


def shape_of(settings: ServiceSettings) -> PoolShape:
    """How large the pool of these settings is on this Ray."""
    import ray

    from cluster.machine import cores

    hands = settings.limits.hands
    gpus = ray.cluster_resources().get("GPU", 0)
    leads = 1 if hands <= _FEW else LEADS
    running = settings.limits.running_online + settings.limits.running_pool
    return PoolShape(hands, max(1, int(cores()) // hands), leads, running, gpu=gpus > 0)


def found(settings: ServiceSettings) -> Dashboard:
    """Where Ray jobs of a service are sent: the Ray that it was brought up with, else the one that it is part of."""
    from cluster import head, submit

    kept = head.living(settings.service_dir)
    return submit.Dashboard(kept.dashboard, kept.token, here=True) if kept else submit.own_dashboard()
