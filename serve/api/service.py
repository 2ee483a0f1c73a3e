"""What every endpoint of one process shares, and how they come to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import Depends
from starlette.requests import Request

from serve.api.hub import Hub
from serve.api.rates import Rates
from serve.api.tokens import Tokens
from swathe.errors import BusyError

if TYPE_CHECKING:
    from serve.api.front import Front
    from serve.api.meters import Meters
    from serve.api.replicas import Replicas
    from serve.desk.desk import Desk

T = TypeVar("T")


@dataclass(slots=True)
class Service:
    """One per application."""

    desk: Desk
    """The use cases."""
    replicas: Replicas | None
    """Warm models; None: there are none, predictions are refused."""
    front: Front
    """What it is told about itself."""
    meters: Meters
    """What it counts."""
    hub: Hub = field(init=False)
    """Who follows jobs."""
    rates: Rates = field(init=False)
    """How often each may ask."""
    tokens: Tokens | None = field(init=False)
    """Of an identity provider, where there is one."""
    _lane: CapacityLimiter | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Nothing is connected to yet."""
        front = self.front
        self.hub, self.rates = Hub(self.desk.store, front), Rates(front)
        self.tokens = Tokens(front.oidc_issuer, front.oidc_audience) if front.oidc_issuer else None

    async def slowly(self, work: Callable[..., T], *given: Any) -> T:
        """Work that may wait for imagery somewhere, in a thread of its own lane: it never keeps short requests waiting.

        Raises BusyError (``busy.requests``) where too many wait already.
        """
        lane = self._lane = self._lane or CapacityLimiter(self.front.slow_lane)
        if lane.statistics().tasks_waiting >= self.front.slow_queue:
            raise BusyError(f"{self.front.slow_queue} requests wait to be looked at", code="busy.requests",
                            hint="come again in a moment")  # fmt: skip
        return await to_thread.run_sync(lambda: work(*given), limiter=lane)


def here(request: Request) -> Service:
    """The service that a request came to."""
    return request.app.state.service


Here = Annotated[Service, Depends(here)]
