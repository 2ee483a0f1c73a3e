"""How the network is used: one value for all processes of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipelines.imagery.gdal import Retry
from pipelines.imagery.limits import Limits
from pipelines.remote.secrets import Secrets


@dataclass(frozen=True, slots=True)
class Network:
    """Travels to every worker; its repr shows no secret."""

    allow_private: bool = False
    """Loopback and private addresses may be read: one's own network. Link-local ones never are."""
    retry: Retry = Retry()  # noqa: RUF009  frozen
    """Stubbornness."""
    limits: Limits = Limits()  # noqa: RUF009  frozen
    """What files may claim about themselves."""
    per_host: int = 16
    """Requests at once to one host, in one process."""
    cache_dir: Path | None = None
    """Of bytes that were fetched, shared by all processes of a node; None: none are kept."""
    cache_mb: int = 512
    """Bound of that folder."""
    secrets: Secrets = Secrets()  # noqa: RUF009  frozen
    """By name, as ``swathe.source.Auth`` names them."""
    s3_endpoint: str = ""
    """Of an S3 other than Amazon's. Whoever configures it trusts it: it may be private."""
    s3_anonymous: bool = False
    """Ask S3 without a signature (``AWS_NO_SIGN_REQUEST``)."""
    local_root: Path | None = None
    """Local files are read below it only; None: anywhere."""
    buckets: tuple[str, ...] | None = None
    """Buckets, or ``bucket/prefix``, that are read beside those of the source at hand: what a service lets its users
    read with its credentials. None: any, as the credentials are one's own."""
    closed: str = ""
    """``s3://bucket/prefix`` that is not read although the credentials open it: what a service keeps for its users."""
