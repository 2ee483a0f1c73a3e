"""Pictures of layers as files: PNG with a palette where there is one, WebP without loss, JPEG on a ground."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from PIL import Image

from pipelines.layers.draw import Drawn


class Form(StrEnum):
    """By media type."""

    PNG = "image/png"
    WEBP = "image/webp"
    JPEG = "image/jpeg"


WHITE = (255, 255, 255)
_QUALITY = 90


def encoded(drawn: Drawn, form: Form = Form.PNG, ground: tuple[int, int, int] | None = None) -> bytes:
    """The file. ``ground``: what shows through; None: it stays transparent, but for JPEG, which has white."""
    if ground is not None or form is Form.JPEG:
        return _saved(_grounded(_image(drawn), ground or WHITE), form)
    return _saved(_image(drawn), form)


def stacked(drawn: Sequence[Drawn]) -> Drawn:
    """Several of one size, the first at the bottom."""
    if len(drawn) == 1:
        return drawn[0]
    whole = Image.fromarray(drawn[0].rgba)
    for above in drawn[1:]:
        whole = Image.alpha_composite(whole, Image.fromarray(above.rgba))
    return Drawn(np.asarray(whole), None)


@functools.lru_cache(maxsize=64)
def blank(width: int, height: int, form: Form) -> bytes:
    """Nothing, transparent."""
    return _saved(Image.new("RGBA", (width, height)) if form is not Form.PNG else _nothing(width, height), form)


def _nothing(width: int, height: int) -> Image.Image:
    return _image(Drawn(np.zeros((height, width), np.uint8), np.zeros((1, 4), np.uint8)))


def _image(drawn: Drawn) -> Image.Image:
    if drawn.palette is None:
        return Image.fromarray(drawn.pixels)
    image = Image.fromarray(drawn.pixels, "P")
    image.putpalette(drawn.palette[:, :3].tobytes())
    image.info["transparency"] = drawn.palette[:, 3].tobytes()
    return image


def _grounded(image: Image.Image, ground: tuple[int, int, int]) -> Image.Image:
    sheet = Image.new("RGBA", image.size, (*ground, 255))
    return Image.alpha_composite(sheet, image.convert("RGBA")).convert("RGB")


def _saved(image: Image.Image, form: Form) -> bytes:
    file = io.BytesIO()
    if form is Form.PNG:
        image.save(file, "PNG", compress_level=3)
    elif form is Form.WEBP:
        image.convert("RGBA").save(file, "WEBP", lossless=True, quality=0, method=0)
    else:
        image.convert("RGB").save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()
