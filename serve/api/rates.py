"""How often one user may ask, counted over a sliding minute: with however many keys, since they make them themselves.

Each process of the API counts for itself. Of several (``api_replicas``), Serve hands requests to all alike, so that
each allows its part of a rate, and one user has no more than the whole with all of them.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string
from starlette.requests import Request

from serve.api.front import Front
from swathe.errors import BusyError

_STRANGERS_PER_MINUTE = 60
"""Requests of one address whose key opens nothing."""

_WORDS = {"predict": "predictions", "link": "openings of links", "tile": "tiles and maps",
          "stranger": "requests without a good key"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of one limit."""

    limit: int
    """Requests per minute."""
    remaining: int
    """Of them."""
    reset_s: int
    """Until the limit is whole again."""

    def headers(self) -> dict[str, str]:
        """As clients know them."""
        return {"RateLimit-Limit": str(self.limit), "RateLimit-Remaining": str(self.remaining),
                "RateLimit-Reset": str(self.reset_s)}  # fmt: skip


class Rates:
    """Counts requests by kind and user."""

    def __init__(self, front: Front) -> None:
        """Where they are counted is connected to when the first one comes."""
        self._strategy = SlidingWindowCounterRateLimiter(storage_from_string(front.rates_at))
        rates = {
            "request": front.rate_per_minute, "link": front.rate_per_minute, "predict": front.predict_rate_per_minute,
            "tile": front.tile_rate_per_minute, "stranger": _STRANGERS_PER_MINUTE,
        }  # fmt: skip
        self._limits = {kind: RateLimitItemPerMinute(math.ceil(rate / front.processes)) for kind, rate in rates.items()}

    async def take(self, request: Request, kind: str, who: str) -> None:
        """Count one. Raises BusyError (``busy.rate``) where it is one too many.

        What is left is kept for the headers of the answer; of several limits, the one that is nearest to its end, and
        always the one that refused.
        """
        limit = self._limits[kind]
        allowed = await self._strategy.hit(limit, kind, who)
        reset, remaining = await self._strategy.get_window_stats(limit, kind, who)
        standing = Standing(limit.amount, max(0, remaining), max(1, math.ceil(reset - time.time())))
        before: Standing | None = getattr(request.state, "rate", None)
        if before is None or not allowed or standing.remaining <= before.remaining:
            request.state.rate = standing
        if not allowed:
            raise _too_often(kind, standing)


def _too_often(kind: str, standing: Standing) -> BusyError:
    what = _WORDS.get(kind, "requests")
    return BusyError(f"{standing.limit} {what} per minute are allowed", code="busy.rate",
                     hint=f"come again in {standing.reset_s} s", retry_after=standing.reset_s)  # fmt: skip
