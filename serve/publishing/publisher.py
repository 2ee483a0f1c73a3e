"""What a map server has to be able to do for us, and which one these settings name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from serve.settings import ServiceSettings
    from swathe.publication import Publication


class Publisher(Protocol):
    """A map server."""

    def expect_free(self, wanted: Publication) -> None:
        """Asked once, before anything of ours lies there.

        Raises ConflictError (``publication.taken``) where something has its name, ServiceError
        (``publication.refused``, ``publication.unreachable``) where the server cannot say.
        """
        ...

    def publish(self, wanted: Publication, raster: Path, sld: str) -> str:
        """Show a GeoTIFF under its name, in place of what is there; the address of its maps. Raises ServiceError."""
        ...

    def withdraw(self, gone: Publication) -> None:
        """Take away what was shown; what is not there is no error. Raises ServiceError."""
        ...


def publisher_of(settings: ServiceSettings) -> Publisher | None:
    """None: there is none."""
    if not settings.geoserver_url:
        return None
    from serve.publishing.geoserver import GeoServerPublisher

    return GeoServerPublisher(settings.geoserver_url, settings.geoserver_user, settings.geoserver_password)
