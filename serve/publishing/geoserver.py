"""A GeoServer, by its REST API: a workspace, a coverage store with a GeoTIFF, its layer, and a style of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from swathe.errors import ServiceError

if TYPE_CHECKING:
    from pathlib import Path

    from swathe.publication import Publication

_CONNECT_S, _ANSWER_S = 10.0, 600.0
"""A server unpacks and measures a large raster before it answers."""
_NOT_FOUND = 404


class GeoServerPublisher:
    """One server, with an account that may write workspaces, stores and styles."""

    def __init__(self, url: str, user: str, password: str) -> None:
        """``url``: of the application, e.g. ``https://maps.example.org/geoserver``. Nothing is asked yet.

        Raises ServiceError (``publication.missing``) where the library for it is not installed.
        """
        try:
            from geo.Geoserver import Geoserver
        except ImportError:
            raise ServiceError("a GeoServer is set, and geoserver-rest is not installed", code="publication.missing",
                               hint="uv sync --group geoserver") from None  # fmt: skip
        self._url = url.rstrip("/")
        # Credentials go where they were meant for: no redirect is followed.
        asking = {"timeout": (_CONNECT_S, _ANSWER_S), "allow_redirects": False}
        self._server = Geoserver(self._url, user, password, asking)

    def expect_free(self, wanted: Publication) -> None:
        """See ``Publisher``."""
        name, server = wanted.name, self._server
        # Without the ending a layer would be told of in HTML.
        for look, what in ((server.get_coveragestore, name), (server.get_layer, f"{name}.json"),
                           (server.get_style, name)):  # fmt: skip
            with _told(), _missing_ok():
                look(what, wanted.workspace)
                raise wanted.taken()

    def publish(self, wanted: Publication, raster: Path, sld: str) -> str:
        """See ``Publisher``."""
        space, name = wanted.workspace, wanted.name
        self.withdraw(wanted)
        with _told():
            self._expect_workspace(space)
            self._server.create_coveragestore(str(raster), space, name)
            self._server.upload_style(sld, name, space)
            self._server.publish_style(name, f"{space}:{name}", space)
        return f"{self._url}/{space}/wms?layers={wanted.full_name}"

    def withdraw(self, gone: Publication) -> None:
        """See ``Publisher``; the workspace stays."""
        # Without purge the raster itself would stay on the server's disk, and the library has no word for it.
        with _told(), _missing_ok():
            self._server.delete_coveragestore(f"{gone.name}?purge=all", gone.workspace)
        with _told(), _missing_ok():
            self._server.delete_style(gone.name, gone.workspace)

    def _expect_workspace(self, name: str) -> None:
        with _missing_ok():
            self._server.get_workspace(name)
            return
        self._server.create_workspace(name)


@contextmanager
def _missing_ok() -> Iterator[None]:
    """That there is no such thing is an answer."""
    from geo.Geoserver import GeoserverException

    try:
        yield
    except GeoserverException as error:
        if error.status != _NOT_FOUND:
            raise


@contextmanager
def _told() -> Iterator[None]:
    """Its troubles in our words; answers that are no JSON are troubles too."""
    import requests
    from geo.Geoserver import GeoserverException

    try:
        yield
    except GeoserverException as error:
        raise ServiceError(f"the GeoServer answered {error.status}: {_said(error.message)}", code="publication.refused",
                           hint="see its log; may the account write there?") from None  # fmt: skip
    except (requests.RequestException, OSError, ValueError) as error:
        raise ServiceError(f"the GeoServer cannot be used: {type(error).__name__}", code="publication.unreachable",
                           hint="check SWATHE_GEOSERVER_URL") from None  # fmt: skip


def _said(message: Any) -> str:
    text = message.decode(errors="replace") if isinstance(message, bytes) else str(message)
    return " ".join(text.split())[:200]
