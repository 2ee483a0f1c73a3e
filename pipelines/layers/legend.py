"""The legend of a layer as a picture: a row per class, or the ramp with its numbers and a row per code of a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from pipelines.layers.encode import Form
from pipelines.products.lettering import Lettering
from pipelines.products.picture import ramp
from swathe.card import ClassLabel
from swathe.layer import Look, Style

_TEXT, _SWATCH, _ROW, _MARGIN = 14, 14, 20, 4
_BAR = 180
_WIDEST = 480
"""Of a row's text; longer names are cut short."""
_INK, _EDGE, _PAPER = "#1c2430", "#8a94a0", "#ffffff"


def legend(style: Style) -> bytes:
    """PNG; of a picture, which has none, an empty one."""
    if style.look is Look.CLASSES:
        return _png(_rows(style.classes))
    if style.look is Look.PICTURE:
        return _png(Image.new("RGB", (1, 1), _PAPER))
    return _png(_below(_ramp(style), _rows(style.codes)) if style.codes else _ramp(style))


def _below(first: Image.Image, second: Image.Image) -> Image.Image:
    sheet = Image.new("RGB", (max(first.width, second.width), first.height + second.height), _PAPER)
    sheet.paste(first, (0, 0))
    sheet.paste(second, (0, first.height))
    return sheet


def _rows(labels: Sequence[ClassLabel]) -> Image.Image:
    letters = Lettering.of("".join(c.name for c in labels))
    names = [letters.fitted(c.name, _TEXT, _WIDEST) for c in labels]
    width = _SWATCH + 3 * _MARGIN + max((round(letters.length(n, _TEXT)) for n in names), default=0)
    sheet = Image.new("RGB", (width, _ROW * len(names) + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, (label, name) in enumerate(zip(labels, names, strict=True)):
        top = _MARGIN + row * _ROW
        pen.rectangle((_MARGIN, top, _MARGIN + _SWATCH, top + _SWATCH), fill=label.colour, outline=_EDGE)
        middle = top + _SWATCH // 2
        pen.text((_SWATCH + 2 * _MARGIN, middle), name, _INK, letters.font(_TEXT), anchor="lm")
    return sheet


def _ramp(style: Style) -> Image.Image:
    low, high = (f"{value:.4g}" for value in style.true_span)
    letters = Lettering.of(style.unit)
    unit = letters.fitted(style.unit, _TEXT, _BAR)
    sheet = Image.new("RGB", (_BAR + 2 * _MARGIN, 2 * _ROW + _MARGIN + (_ROW if unit else 0)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    bar = np.repeat(ramp(_BAR)[None], _SWATCH, axis=0)
    sheet.paste(Image.fromarray(bar), (_MARGIN, _MARGIN))
    pen.rectangle((_MARGIN - 1, _MARGIN - 1, _MARGIN + _BAR, _MARGIN + _SWATCH), outline=_EDGE)
    font, middle = letters.font(_TEXT), _MARGIN + _SWATCH + _ROW // 2
    pen.text((_MARGIN, middle), low, _INK, font, anchor="lm")
    pen.text((_MARGIN + _BAR, middle), high, _INK, font, anchor="rm")
    if unit:
        pen.text((_MARGIN + _BAR / 2, middle + _ROW), unit, _INK, font, anchor="mm")
    return sheet


def _png(sheet: Image.Image) -> bytes:
    import io

    file = io.BytesIO()
    sheet.save(file, Form.PNG.name)
    return file.getvalue()
