"""The API inside Ray Serve."""

from __future__ import annotations

from typing import Any

from serve import structured
from serve.deployments.berths import RayReplicas
from serve.deployments.waiting import waited_for
from serve.settings import ServiceSettings


class Ingress:
    """What Serve's proxy hands requests to: the FastAPI application, made where it runs."""

    def __init__(self, caretaker: Any, heads: Any, processes: int) -> None:
        """Open what the API needs; handles of the other deployments come from Serve. ``processes``: replicas of it."""
        structured.install()
        self._settings, self._processes = ServiceSettings.read(), processes
        self._replicas = RayReplicas(caretaker, heads)

    def __serve_build_asgi_app__(self) -> Any:
        """Called by Serve once, in the replica. Waits for the database."""
        from serve.api.app import api
        from serve.api.front import Front
        from serve.desk.desk import Desk

        desk = Desk(self._settings, waited_for(self._settings.open_store))
        waited_for(desk.warm)
        return api(desk, self._replicas, Front.of(self._settings, self._processes))
