"""Colours of a layer in the words of other map servers: Styled Layer Descriptor 1.0.0 of the OGC (02-070)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal
from xml.sax.saxutils import escape, quoteattr

from swathe.card import ClassLabel
from swathe.layer import Look, Style

Kind = Literal["values", "ramp"]
"""Each number has a colour of its own, or colours between two numbers are mixed."""
_CONTROL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What no XML may hold."""
_BESIDE = 1e-3
"""Between the code of a mask and the ramp, as a true number."""
_RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""As our tiles draw numbers without classes."""


@dataclass(frozen=True, slots=True)
class Colour:
    """What a number of a raster looks like."""

    value: float
    """The true one: a map server applies a file's scale before it looks colours up."""
    colour: str
    """``#rrggbb``."""
    opacity: float = 1.0
    """0: not seen, to 1."""
    label: str = ""
    """In the legend."""


def colours_of(style: Style) -> tuple[tuple[Colour, ...], Kind]:
    """Those that our tiles have; of a picture, which has none, nothing."""
    if style.look is Look.PICTURE:
        return (), "values"
    if style.look is Look.CLASSES:
        found = (Colour(c.value, c.colour, 0.0 if c.background else 1.0, c.name) for c in style.classes)
        return tuple(found), "values"
    low, high = style.true_span
    steps = len(_RAMP) - 1
    values = [low + (high - low) * n / steps for n in range(steps + 1)]
    stops = tuple(Colour(v, c, 1.0, f"{v:g}") for v, c in zip(values, _RAMP, strict=True))
    return with_codes(stops, "ramp", style.codes), "ramp"


def with_codes(colours: Sequence[Colour], kind: Kind, codes: Iterable[ClassLabel]) -> tuple[Colour, ...]:
    """And those of codes of masks, but for numbers that have a colour already.

    On a ramp each stands between two stops of the ramp's own colours there, so that it is not mixed into numbers.
    """
    named = {c.value for c in colours}
    fresh = [code for code in codes if code.value not in named]
    own = tuple(Colour(float(code.value), code.colour, 1.0, code.name) for code in fresh)
    if kind == "values" or not colours:
        return (*colours, *own)
    edges = [code.value + side for code in fresh for side in (-_BESIDE, _BESIDE)]
    return (*colours, *(_mixed(colours, edge) for edge in edges), *own)


def _mixed(colours: Sequence[Colour], value: float) -> Colour:
    """What a ramp has at a number; beyond its ends, what it has there."""
    stops = sorted(colours, key=lambda c: c.value)
    below = max((c for c in stops if c.value <= value), key=lambda c: c.value, default=stops[0])
    above = min((c for c in stops if c.value >= value), key=lambda c: c.value, default=stops[-1])
    width = above.value - below.value
    share = (value - below.value) / width if width > 0 else 0.0
    ends = zip(bytes.fromhex(below.colour[1:]), bytes.fromhex(above.colour[1:]), strict=True)
    colour = "".join(f"{round(a + (b - a) * share):02x}" for a, b in ends)
    return Colour(value, f"#{colour}", below.opacity + (above.opacity - below.opacity) * share)


def sld(name: str, colours: Sequence[Colour], kind: Kind = "values") -> str:
    """The document; without colours the raster is drawn as its server likes.

    The order of the attributes is the one that clients cut the text by.
    """
    rows = "".join(
        f"<ColorMapEntry color={quoteattr(c.colour)} opacity={quoteattr(f'{c.opacity:g}')}"
        f" quantity={quoteattr(f'{c.value:.12g}')} label={quoteattr(_CONTROL.sub(' ', c.label))}/>"
        for c in sorted(colours, key=lambda c: c.value)  # map servers want them so
    )
    drawn = f'<ColorMap type="{kind}">{rows}</ColorMap>' if rows else ""
    return (
        '<?xml version="1.0" encoding="UTF-8"?><StyledLayerDescriptor version="1.0.0"'
        ' xmlns="http://www.opengis.net/sld" xmlns:ogc="http://www.opengis.net/ogc">'
        f"<NamedLayer><Name>{escape(name)}</Name><UserStyle><FeatureTypeStyle><Rule><RasterSymbolizer>"
        f"{drawn}</RasterSymbolizer></Rule></FeatureTypeStyle></UserStyle></NamedLayer></StyledLayerDescriptor>"
    )
