"""What the API is told about itself: where it stands, whom it believes, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from serve.settings import ServiceSettings

BODY_BYTES = 8 * 2**20
"""Bytes of a request's body, at most; images and uploads have bounds of their own."""
IMAGE_BYTES = 64 * 2**20
"""Bytes of an image that is answered at once: 4 Mpx of six bands of 16 bits are 50 MB."""


@dataclass(frozen=True, slots=True)
class Front:
    """A plain value; ``of`` takes it from the settings."""

    public_url: str = ""
    """Address of the service as its users see it; empty: as each request says it."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks whose X-Forwarded headers are believed."""
    cors_origins: tuple[str, ...] = ()
    """Pages of other hosts that may use it from a browser; ``*``: any."""
    oidc_issuer: str = ""
    """Identity provider whose tokens are taken beside keys; empty: none."""
    oidc_audience: str = ""
    """Audience that those tokens must be meant for."""
    rate_per_minute: int = 600
    """Requests a minute of one user."""
    predict_rate_per_minute: int = 300
    """Predictions a minute of one user, which count as requests too."""
    tile_rate_per_minute: int = 6000
    """Tiles and maps a minute of one user; they do not count as requests."""
    rates_at: str = "async+memory://"
    """Where requests are counted (an address of ``limits``); memory: in each process of its own."""
    processes: int = 1
    """Processes that share the requests and count them each for itself: each allows its part of a rate."""
    silence_s: float = 20.0
    """Seconds without a byte of a body that is awaited; then 408."""
    slowest_bytes_s: float = 1000.0
    """Bytes per second, at least, that such a body comes with on average, once it was awaited for half a minute."""
    longest_wait_s: float = 60.0
    """Seconds that ``Prefer: wait`` can ask for."""
    keep_alive_s: float = 15.0
    """Seconds between two signs of life on an event stream."""
    tick_s: float = 0.25
    """Seconds between two looks at the jobs that somebody follows."""
    listeners: int = 2000
    """Event streams and waiting requests of one process; more are refused with 429."""
    slow_lane: int = 16
    """Requests that look at imagery at a time, and uploads that are taken in at a time; others wait."""
    slow_queue: int = 64
    """Requests that wait for one of these; more are refused with 429."""
    drawing_lane: int = 16
    """Tiles and maps that are drawn at a time."""
    drawing_queue: int = 1024
    """Tiles and maps that wait; more are refused with 429, and a quarter of them of one user."""

    @classmethod
    def of(cls, settings: ServiceSettings, processes: int = 1) -> Front:
        """What the settings say, for one of so many processes."""
        return cls(
            settings.public_url.rstrip("/"), settings.trusted_proxies, settings.cors_origins, settings.oidc_issuer,
            settings.oidc_audience, settings.limits.rate_per_minute, settings.limits.predict_rate_per_minute,
            settings.limits.tile_rate_per_minute, processes=processes,
        )  # fmt: skip
