"""What every endpoint of one process shares, and how they come to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from fastapi import Depends
from starlette.requests import Request

from serve.api.bodies import is_small
from serve.api.hub import Hub
from serve.api.lane import Lane
from serve.api.rates import Rates
from serve.api.tokens import Tokens
from swathe.user import Caller

if TYPE_CHECKING:
    from serve.api.front import Front
    from serve.api.meters import Meters
    from serve.api.replicas import Replicas
    from serve.desk.desk import Desk

T = TypeVar("T")


@dataclass(slots=True)
class Service:
    """What the endpoints of one application share."""

    desk: Desk
    """Use cases of the service."""
    replicas: Replicas | None
    """Warm models; None: there are none, predictions are refused."""
    front: Front
    """What the API is told about itself."""
    meters: Meters
    """Counters for Prometheus."""
    hub: Hub = field(init=False)
    """Listeners that follow jobs."""
    rates: Rates = field(init=False)
    """Counts of requests, by kind and key."""
    tokens: Tokens | None = field(init=False)
    """Tokens of an identity provider, where there is one."""
    _lane: Lane = field(init=False)
    _intake: Lane = field(init=False)
    _drawing: Lane = field(init=False)

    def __post_init__(self) -> None:
        front = self.front
        self.hub, self.rates = Hub(self.desk.store, front), Rates(front)
        self._lane, self._intake = (Lane(front.slow_lane, front.slow_queue) for _ in range(2))
        self._drawing = Lane(front.drawing_lane, front.drawing_queue)
        self.tokens = Tokens(front.oidc_issuer, front.oidc_audience) if front.oidc_issuer else None

    async def slowly(self, work: Callable[..., T], who: Caller, *given: Any) -> T:
        """Work for a caller that may wait for imagery somewhere: it never keeps short requests waiting.

        Raises BusyError (``busy.requests``) where too much waits already.
        """
        return await self._lane.run(who.user.id, lambda: work(who, *given))

    async def taken_in(self, request: Request, work: Callable[..., T], who: Caller, *given: Any) -> T:
        """The same for work on a body, which a client sends at its own pace: it keeps nobody from looking at imagery.

        A large body does not wait for its turn: a proxy before this process would read it into its memory meanwhile. It
        is refused before any of it is read: BusyError (``busy.turn``).
        """
        return await self._intake.run(who.user.id, lambda: work(who, *given), waits=is_small(request))

    def expect_turn(self, who: Caller) -> None:
        """Raises BusyError (``busy.turn``) where a large body would be refused now."""
        self._intake.expect_turn(who.user.id)

    async def drawn(self, work: Callable[..., T], who: Caller, *given: Any) -> T:
        """The same for tiles and maps: many, short, and in nobody else's way."""
        return await self._drawing.run(who.user.id, lambda: work(who, *given))


def here(request: Request) -> Service:
    """The service that a request came to."""
    return request.app.state.service


Here = Annotated[Service, Depends(here)]
