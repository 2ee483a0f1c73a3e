"""How often one key may ask, counted over a sliding minute."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string

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
    """Counts requests."""

    def __init__(self, front: Front) -> None:
        """Where they are counted is connected to when the first one comes."""
        self._strategy = SlidingWindowCounterRateLimiter(storage_from_string(front.rates_at))
        self._limits = {
            "request": RateLimitItemPerMinute(front.rate_per_minute),
            "link": RateLimitItemPerMinute(front.rate_per_minute),
            "predict": RateLimitItemPerMinute(front.predict_rate_per_minute),
            "tile": RateLimitItemPerMinute(front.tile_rate_per_minute),
            "stranger": RateLimitItemPerMinute(_STRANGERS_PER_MINUTE),
        }

    async def take(self, kind: str, who: str) -> Standing:
        """Count one. Raises BusyError (``busy.rate``) where it is one too many."""
        limit = self._limits[kind]
        allowed = await self._strategy.hit(limit, kind, who)
        reset, remaining = await self._strategy.get_window_stats(limit, kind, who)
        standing = Standing(limit.amount, max(0, remaining), max(1, math.ceil(reset - time.time())))
        if not allowed:
            raise _too_often(kind, standing)
        return standing


def _too_often(kind: str, standing: Standing) -> BusyError:
    what = _WORDS.get(kind, "requests")
    return BusyError(f"{standing.limit} {what} per minute are allowed", code="busy.rate",
                     hint=f"come again in {standing.reset_s} s", retry_after=standing.reset_s)  # fmt: skip
