"""A preview's page: title, map, scale bar and legend, laid out for any number of classes and any shape of map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pipelines.products.lettering import Lettering
from pipelines.products.picture import Picture, ramp

INK, SOFT, LINE, PAPER = "#1c2430", "#667080", "#c9d0d8", "#ffffff"
MARGIN, GAP = 36, 20
TITLE, TEXT, SMALL = 30, 19, 15
SWATCH = 20
LEGEND, BAR = SWATCH + 12, SWATCH + 26 + SMALL
"""Heights of a legend row and of a colour ramp with its numbers."""
LEAST_WIDTH = 640
"""Narrower maps stand on a page of this width, so that titles and legends have room."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a legend."""

    colour: str
    """#rrggbb."""
    name: str
    """What it stands for."""
    note: str = ""
    """In grey behind it, e.g. its share."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What is written around the map."""

    title: str
    """One line; cut short where it does not fit."""
    subtitle: str = ""
    """Model, date, place."""
    footer: str = ""
    """Credits."""
    entries: tuple[Entry, ...] = ()
    """The legend."""
    unit: str = ""
    """Of a colour ramp: what and in which unit."""
    metres_per_pixel: float = 0.0
    """Of the picture, for the scale bar; 0: none."""
    nodata: bool = False
    """Whether the legend explains the hatching."""

    def texts(self) -> str:
        """All letters that will be drawn."""
        return "".join((self.title, self.subtitle, self.footer, self.unit, *(e.name + e.note for e in self.entries)))


def page(picture: Picture, caption: Caption, background: Image.Image | None = None) -> Image.Image:
    """Draw everything on one sheet."""
    return _Sheet(picture, caption, background).image


class _Sheet:
    """A page under way: measured first, then drawn from the top."""

    def __init__(self, picture: Picture, caption: Caption, background: Image.Image | None) -> None:
        self._picture, self._caption = picture, caption
        self._letters = Lettering.of(caption.texts())
        chart = _map(picture, background)
        self._width = max(chart.width, LEAST_WIDTH)
        self._rows = self._wrapped()
        head = TITLE + 14 + ((TEXT + 10) if caption.subtitle else 0)
        height = MARGIN + head + chart.height + self._foot_height() + MARGIN - 8
        self.image = Image.new("RGB", (self._width + 2 * MARGIN, height), PAPER)
        self._draw = ImageDraw.Draw(self.image)
        self._heading()
        left, top = MARGIN + (self._width - chart.width) // 2, MARGIN + head
        self.image.paste(chart, (left, top))
        self._draw.rectangle((left - 1, top - 1, left + chart.width, top + chart.height), outline=LINE)
        self._foot(top + chart.height + GAP)

    def _heading(self) -> None:
        self._write((MARGIN, MARGIN - 8), self._caption.title, TITLE, INK)
        if self._caption.subtitle:
            self._write((MARGIN, MARGIN + TITLE + 6), self._caption.subtitle, TEXT, SOFT)

    def _foot_height(self) -> int:
        height = GAP + len(self._rows) * LEGEND
        height += self._bar_height()
        if self._caption.footer or self._caption.metres_per_pixel:
            height += SMALL + 22
        return height

    def _foot(self, top: int) -> None:
        if self._picture.span is not None:
            self._colour_bar(self._picture.span, top)
        top += self._bar_height()
        for row in self._rows:
            for offset, entry in row:
                self._entry(entry, (MARGIN + offset, top))
            top += LEGEND
        taken = self._scale_bar(top + 12) if self._caption.metres_per_pixel else 0
        self._write((MARGIN, top + 12), self._caption.footer, SMALL, SOFT, MARGIN + self._width - taken - GAP)

    def _bar_height(self) -> int:
        if self._picture.span is None:
            return 0
        return BAR + (TEXT + 4 if self._caption.unit else 0)

    def _wrapped(self) -> list[list[tuple[int, Entry]]]:
        """Legend entries in one row where they fit, else in columns of equal width, read along the rows."""
        entries = [*self._caption.entries, *([Entry("", "no data")] if self._caption.nodata else [])]
        if not entries:
            return []
        widths = [self._entry_width(e) + 2 * GAP for e in entries]
        if sum(widths) - 2 * GAP <= self._width:
            starts = [round(sum(widths[:i])) for i in range(len(widths))]
            return [list(zip(starts, entries, strict=True))]
        widest = max(widths) - 2 * GAP
        columns = max(1, min(len(entries), int((self._width + 2 * GAP) // (widest + 2 * GAP))))
        rows = [entries[i : i + columns] for i in range(0, len(entries), columns)]
        return [[(round(i * (widest + 2 * GAP)), e) for i, e in enumerate(row)] for row in rows]

    def _entry_width(self, entry: Entry) -> float:
        note = 8 + self._letters.length(entry.note, SMALL) if entry.note else 0
        return SWATCH + 10 + self._letters.length(entry.name, TEXT) + note

    def _entry(self, entry: Entry, place: tuple[int, int]) -> None:
        x, y = place
        box = (x, y, x + SWATCH, y + SWATCH)
        if entry.colour:
            self._draw.rounded_rectangle(box, 4, fill=entry.colour, outline=_edge(entry.colour))
        else:
            self.image.paste(_hatching(SWATCH, SWATCH), (x, y))
            self._draw.rectangle(box, outline=LINE)
        end = self._write((x + SWATCH + 10, y - 2), entry.name, TEXT, INK)
        if entry.note:
            self._write((end + 8, y + 1), entry.note, SMALL, SOFT)

    def _colour_bar(self, span: tuple[float, float], top: int) -> None:
        length = min(self._width, 460)
        if self._caption.unit:
            self._write((MARGIN, top - 6), self._caption.unit, TEXT, INK)
            top += TEXT + 4
        for x, colour in enumerate(ramp(length).tolist()):
            self._draw.line((MARGIN + x, top, MARGIN + x, top + SWATCH), fill=tuple(colour))
        self._draw.rectangle((MARGIN, top, MARGIN + length, top + SWATCH), outline=LINE)
        for value in ticks(*span):
            x = MARGIN + round((value - span[0]) / (span[1] - span[0]) * (length - 1))
            self._draw.line((x, top + SWATCH, x, top + SWATCH + 5), fill=SOFT)
            text = f"{value:.6g}"
            wide = self._letters.length(text, SMALL)
            at = min(max(x - wide / 2, MARGIN), MARGIN + length - wide)
            self._write((at, top + SWATCH + 8), text, SMALL, SOFT)

    def _scale_bar(self, top: int) -> float:
        """A bar of a round length that ends at the right; returns the width it takes."""
        scale, right = self._caption.metres_per_pixel, MARGIN + self._width
        metres = round_length(scale * 200)
        length = round(metres / scale)
        text = f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"  # noqa: PLR2004  a kilometre
        y = top + SMALL // 2 + 2
        self._draw.line((right - length, y, right, y), fill=INK, width=2)
        for x in (right - length, right):
            self._draw.line((x, y - 5, x, y + 5), fill=INK, width=2)
        taken = length + 10 + self._letters.length(text, SMALL)
        self._write((right - taken, top), text, SMALL, INK)
        return taken

    def _write(self, place: tuple[float, float], text: str, size: int, colour: str, end: float | None = None) -> float:
        """One line of text, cut short at ``end`` or the margin; returns where it ends."""
        room = (MARGIN + self._width if end is None else end) - place[0]
        shown = self._letters.fitted(text, size, room)
        self._draw.text(place, shown, font=self._letters.font(size), fill=colour)
        return place[0] + self._letters.length(shown, size)


def _map(picture: Picture, background: Image.Image | None) -> Image.Image:
    """The picture over its background; hatching says: no data."""
    height, width = picture.rgba.shape[:2]
    ground = _hatching(width, height)
    if background is not None:
        ground.paste(background.convert("RGB").resize((width, height)), (0, 0), Image.fromarray(picture.valid))
    ground.paste(Image.fromarray(picture.rgba, "RGBA"), (0, 0), Image.fromarray(picture.rgba[..., 3]))
    return ground


def _hatching(width: int, height: int) -> Image.Image:
    rows, cols = np.indices((height, width), sparse=True)
    tone = np.where((rows + cols) % 10 < 2, 214, 243).astype(np.uint8)  # noqa: PLR2004  two of ten
    return Image.fromarray(np.repeat(tone[..., None], 3, axis=2))


def _edge(colour: str) -> str:
    """Pale colours need an outline, others are their own."""
    return LINE if min(bytes.fromhex(colour[1:])) > 200 else colour  # noqa: PLR2004  nearly white


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from ``low`` to ``high``, two to seven of them."""
    raw = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def round_length(metres: float) -> float:
    """The largest of 1, 2, 5, 10, … that is not longer."""
    power = 10.0 ** math.floor(math.log10(metres))
    return max(s * power for s in (1, 2, 5) if s * power <= metres)
