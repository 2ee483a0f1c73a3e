"""Letters of a preview: Pillow's own font where it will do, one with more letters where the text needs it."""

from __future__ import annotations

import functools
import importlib.util
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True, slots=True)
class Lettering:
    """One font for a whole page."""

    rich: bool
    """Whether it is DejaVu Sans: Pillow's font knows ASCII only."""

    @classmethod
    def of(cls, text: str) -> Lettering:
        """The plainest that can write ``text``."""
        return cls(not text.isascii() and _rich(20) is not None)

    def font(self, size: int) -> Font:
        """In this size."""
        rich = _rich(size) if self.rich else None
        return rich or _bundled(size)

    def spelled(self, text: str) -> str:
        """The text in letters that the font has."""
        return text if self.rich else plain(text)

    def length(self, text: str, size: int) -> float:
        """Pixels."""
        return self.font(size).getlength(self.spelled(text))

    def fitted(self, text: str, size: int, width: float) -> str:
        """The text as it can be drawn, cut short where it is longer than ``width``."""
        shown = self.spelled(text)
        if self.length(shown, size) <= width:
            return shown
        while shown and self.length(shown + "...", size) > width:
            shown = shown[:-1]
        return shown.rstrip() + "..."


@functools.cache
def _bundled(size: int) -> Font:
    return ImageFont.load_default(size)


@functools.cache
def _rich(size: int) -> Font | None:
    """DejaVu Sans, from the system or from matplotlib where that happens to be installed."""
    found = importlib.util.find_spec("matplotlib")
    places = ["DejaVuSans.ttf"]
    if found is not None and found.origin:
        places.append(str(Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"))
    for place in places:
        try:
            return ImageFont.truetype(place, size - 1)
        except OSError:
            continue
    return None


_NEAREST = {0x2013: "-", 0x2014: "-", 0x2212: "-", 0xB7: "-", 0xD7: "x", 0x2019: "'", 0xDF: "ss"}
"""Dashes, middle dot, times, apostrophe, sharp s."""


def plain(text: str) -> str:
    """The nearest ASCII: accents dropped, superscripts as digits, the unknown as a question mark."""
    bare = unicodedata.normalize("NFKD", text.translate(_NEAREST))
    kept = "".join(c for c in bare if not unicodedata.combining(c))
    return kept.encode("ascii", "replace").decode()
