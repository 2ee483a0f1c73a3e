"""WMS requests, read: which layers in which frame, in either version's order of axes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.layers.encode import Form
from pipelines.layers.frame import Frame, known
from serve.tiles.wishes import Refused, Wish
from swathe.errors import InputError

if TYPE_CHECKING:
    from swathe.layer import Layer

OLD, NEW = "1.1.1", "1.3.0"
MOST_SIDE = 2048
"""Pixels of a side of a map."""
MOST_LAYERS = 16
"""Of one map."""
EVERYWHERE = ("EPSG:3857", "EPSG:4326", "CRS:84")
"""What every layer is shown in, beside its own system."""
SHOWN = ("text/plain", "application/json", "text/html")
"""Forms of what is under a point."""
_CLOSE = 1e-12


@dataclass(frozen=True, slots=True)
class MapWish:
    """A map that is asked for."""

    layers: tuple[str, ...]
    """Ids, from the bottom up."""
    frame: Frame
    """What it shows."""
    form: Form
    """Of the picture."""
    ground: tuple[int, int, int] | None
    """Colour under the layers; None: transparent."""


def version_of(wish: Wish) -> str:
    """Of the two the one that is asked for; as the standard has it, an unknown one is replaced."""
    said = wish.text("VERSION", wish.text("WMTVER", NEW))
    return OLD if said < NEW else NEW


def map_wish(wish: Wish, version: str) -> MapWish:
    """GetMap. Raises Refused."""
    names = tuple(wish.listed("LAYERS"))
    if len(names) > MOST_LAYERS:
        raise Refused("InvalidParameterValue", f"a map has {MOST_LAYERS} layers at most", "LAYERS")
    styles = wish.listed("STYLES", "default")
    if any(style not in {"", "default"} for style in styles):
        raise Refused("StyleNotDefined", "layers have the style default alone", "STYLES")
    said = wish.text("FORMAT").partition(";")[0].strip().lower()
    if said not in set(Form):
        raise Refused("InvalidFormat", f"FORMAT may be {', '.join(Form)}", "FORMAT")
    ground = None if wish.truth("TRANSPARENT") else wish.colour("BGCOLOR", "0xFFFFFF")
    return MapWish(names, frame_of(wish, version), Form(said), ground)


def frame_of(wish: Wish, version: str) -> Frame:
    """BBOX, CRS or SRS, WIDTH and HEIGHT. Raises Refused."""
    width, height = wish.whole("WIDTH", 1, MOST_SIDE), wish.whole("HEIGHT", 1, MOST_SIDE)
    said = crs_of(wish, version)
    box = wish.numbers("BBOX", 4)
    if version == NEW and northing_first(said):
        box = [box[1], box[0], box[3], box[2]]
    left, bottom, right, top = box
    if not (right - left > _CLOSE * max(1.0, abs(left)) and top - bottom > _CLOSE * max(1.0, abs(bottom))):
        raise Refused("InvalidParameterValue", "BBOX has no area: least x, least y, most x, most y are wanted", "BBOX")
    return Frame("EPSG:4326" if said == "CRS:84" else said, (left, bottom, right, top), width, height)


def crs_of(wish: Wish, version: str) -> str:
    """In either version's word."""
    return wish.text("CRS" if version == NEW else "SRS").upper()


def northing_first(crs: str) -> bool:
    """Whether version 1.3.0 writes the second axis first. Raises Refused for what is no such system."""
    if crs == "CRS:84":
        return False
    if not crs.startswith("EPSG:"):
        raise Refused("InvalidCRS", f"{crs[:40]!r} is no code like EPSG:3857", "CRS")
    try:
        axes = known(crs).axis_info
    except InputError as error:
        raise Refused("InvalidCRS", error.detail, "CRS") from None
    return len(axes) > 1 and axes[0].direction == "north" and axes[1].direction == "east"


def expect_shown(layer: Layer, crs: str, version: str) -> None:
    """Raises Refused where a layer is not shown in a system."""
    offered = offered_for(layer)
    if crs not in offered:
        code = "InvalidCRS" if version == NEW else "InvalidSRS"
        raise Refused(code, f"{layer.id} is shown in {', '.join(offered)}, not in {crs}", code[-3:])


def offered_for(layer: Layer) -> tuple[str, ...]:
    """Systems of a layer's maps."""
    own = (layer.code,) if layer.code and layer.code not in EVERYWHERE else ()
    return (*EVERYWHERE, *own)


def point_of(wish: Wish, version: str, frame: Frame) -> tuple[float, float]:
    """GetFeatureInfo's pixel as coordinates of the frame's system. Raises Refused."""
    across, down = ("I", "J") if version == NEW else ("X", "Y")
    try:
        col, row = wish.whole(across, 0, frame.width - 1), wish.whole(down, 0, frame.height - 1)
    except Refused as refused:
        raise Refused("InvalidPoint", refused.text, refused.locator) from None
    return frame.at(col, row)
