"""Addresses of layers, absolute, with the key where the client has it in its addresses too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from swathe.layer import Look

if TYPE_CHECKING:
    from swathe.layer import Layer

WEB_MAP_LINKS = "https://stac-extensions.github.io/web-map-links/v1.3.0/schema.json"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Of the layers of one service, for one client."""

    root: str
    """Of the service."""
    key: str = ""
    """That the client gave in the query: a map program repeats what it is told, and sets no headers."""

    def layer(self, layer: Layer) -> str:
        """Its description."""
        return self._with(f"{self._here(layer)}")

    def tiles(self, layer: Layer, ending: str = "png", names: tuple[str, str, str] = ("{z}", "{x}", "{y}")) -> str:
        """Template of its tiles."""
        return self._with(f"{self._here(layer)}/tiles/{'/'.join(names)}.{ending}")

    def tilejson(self, layer: Layer) -> str:
        """Its TileJSON."""
        return self._with(f"{self._here(layer)}/tilejson.json")

    def legend(self, layer: Layer) -> str:
        """Its legend; empty: it has none."""
        return "" if layer.style.look is Look.PICTURE else self._with(f"{self._here(layer)}/legend.png")

    def wms(self, job: str = "") -> str:
        """Of a WMS, ready for parameters to be added: of a job's layers, or the newest ones."""
        return self._open(f"{self.root}/api/layers/wms", job)

    def wmts(self, job: str = "", part: str = "") -> str:
        """Of a WMTS, ready for parameters; ``part``: of its RESTful form."""
        return self._open(f"{self.root}/api/layers/wmts{part}", job)

    def of(self, layer: Layer) -> dict[str, str]:
        """All of them, by what they are."""
        found = {"self": self.layer(layer), "xyz": self.tiles(layer), "tilejson": self.tilejson(layer)}
        found |= {"legend": legend} if (legend := self.legend(layer)) else {}
        found |= {"wms": self.wms(layer.job), "wmts": self.wmts(layer.job)}
        return found | {"job": f"{self.root}/api/jobs/{layer.job}"}

    def links(self, layer: Layer) -> list[dict[str, Any]]:
        """The same as links of a STAC Item, by the extension for web maps."""
        return [
            {"rel": "xyz", "type": "image/png", "title": layer.title, "href": self.tiles(layer)},
            {"rel": "tilejson", "type": "application/json", "title": layer.title, "href": self.tilejson(layer)},
            {"rel": "wms", "type": "image/png", "title": layer.title, "href": self.wms(layer.job).rstrip("?&"),
             "wms:layers": [layer.id], "wms:transparent": True},
            {"rel": "wmts", "type": "image/png", "title": layer.title, "href": self.wmts(layer.job).rstrip("?&"),
             "wmts:layer": layer.id},
        ]  # fmt: skip

    def _here(self, layer: Layer) -> str:
        return f"{self.root}/api/layers/{layer.id}"

    def _with(self, href: str) -> str:
        return f"{href}?{urlencode({'api_key': self.key})}" if self.key else href

    def _open(self, href: str, job: str) -> str:
        asked = ({"job": job} if job else {}) | ({"api_key": self.key} if self.key else {})
        return f"{href}?{urlencode(asked)}&" if asked else f"{href}?"
