"""The API inside Ray Serve."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from serve import structured
from serve.deployments.berths import RayReplicas
from serve.deployments.opening import Opening, opened
from serve.deployments.waiting import waited_for
from serve.settings import ServiceSettings

if TYPE_CHECKING:
    from fastapi import FastAPI


class Ingress:
    """What Serve's proxy hands requests to: the FastAPI application, made where it runs."""

    def __init__(self, caretaker: Any, heads: Any, processes: int) -> None:
        """Open what the API needs; handles of the other deployments come from Serve. ``processes``: replicas of it."""
        structured.install()
        self._settings, self._processes = ServiceSettings.read(), processes
        self._replicas = RayReplicas(caretaker, heads)
        self._opening: Opening | None = None

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Serve once, in the replica. While the database is away, requests are told so."""
        app = opened(partial(self._made, 0.0), partial(self._made, math.inf))
        self._opening = app if isinstance(app, Opening) else None
        return app

    def check_health(self) -> None:
        """Raises where the API cannot be made: Serve then puts a new process in the place of this one."""
        if self._opening is not None:
            self._opening.check()

    def _made(self, patience_s: float) -> FastAPI:
        """The API, as soon as the database lets it. Raises StoreError."""
        from serve.api.app import api
        from serve.api.front import Front
        from serve.desk.desk import Desk

        store = waited_for(self._settings.open_store, patience_s)
        try:
            desk = Desk(self._settings, store)
            waited_for(desk.warm, patience_s)
            return api(desk, self._replicas, Front.of(self._settings, self._processes))
        except BaseException:
            store.close()
            raise
