"""What of a result is to be masked, and with which numbers: clouds, snow and ice, water, ocean, shapes of one's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from swathe.card import ClassLabel, Frozen
from swathe.errors import InputError
from swathe.source import MaskRule


class Mask(StrEnum):
    """What may be masked, the one that yields first: where two hold, the later one's code stands."""

    WATER = "water"
    """Permanent water."""
    OCEAN = "ocean"
    """The sea."""
    SNOW = "snow"
    """Snow and ice."""
    CLOUDS = "clouds"
    """Clouds, their shadows, cirrus."""
    SHAPES = "shapes"
    """Whatever lies in the shapes of a file that somebody names: it stands over all others."""


CODES: Mapping[Mask, int] = {
    Mask.WATER: 997, Mask.OCEAN: 997, Mask.SNOW: 998, Mask.CLOUDS: 999, Mask.SHAPES: 996,
}  # fmt: skip
"""Pixel values of ``masked.tif``, usual among services of this kind. No class has one: classes end at 254. That of
shapes can be chosen (``Shapes.code``)."""
NODATA = -9999
"""Pixel value of ``masked.tif`` that means nothing."""
_LOOKS = {
    Mask.WATER: ("permanent water", "#4a90d9"),
    Mask.OCEAN: ("ocean", "#2f6fb0"),
    Mask.SNOW: ("snow and ice", "#e6f4ff"),
    Mask.CLOUDS: ("cloud", "#b8b8b8"),
    Mask.SHAPES: ("masked shapes", "#a05195"),
}
SCENES = "scenes"
"""Where a mask is to come from: the masks of the scenes that the result was made of."""
BUFFER_MAX = 256
"""Pixels."""
BUFFER_M_MAX = 100_000.0
"""Metres around shapes."""
CODE = "swathe:mask"
"""Marks the codes of masks among the classes of an asset."""
_NO_CLASS = 255
"""Nodata of a result of classes; a code of shapes may be another number from 1 on, below those of other masks."""
_FILE_RULES = (MaskRule.SCL, MaskRule.FMASK, MaskRule.QA_PIXEL, MaskRule.VALID)


class CodeLabel(ClassLabel):
    """A code of a mask, with the name and colour it is shown by."""

    value: Annotated[int, Field(ge=1, le=max(CODES.values()))]


def code_labels(masks: Iterable[Mask], codes: Mapping[Mask, int] = CODES) -> tuple[CodeLabel, ...]:
    """One for each code: water and ocean share theirs."""
    by_code: dict[int, list[Mask]] = {}
    for mask in masks:
        by_code.setdefault(codes[mask], []).append(mask)
    return tuple(
        CodeLabel(value=code, name=", ".join(_LOOKS[mask][0] for mask in sharing), colour=_LOOKS[sharing[0]][1])
        for code, sharing in by_code.items()
    )


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A mask in a file of one's own."""

    rule: MaskRule
    """How its numbers are read; not ``omnicloudmask``."""
    href: str
    """Path or address."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``RULE=PATH``, e.g. ``fmask=HLS.Fmask.tif``. Raises InputError (``mask.file``)."""
        rule, _, href = text.partition("=")
        if not href or rule.strip().lower() not in [r.value for r in _FILE_RULES]:
            known = ", ".join(r.value for r in _FILE_RULES)
            raise InputError(
                f"{text[:80]!r} does not say how a mask's numbers are read",
                code="mask.file",
                hint=f"write RULE=PATH, where RULE is one of {known}",
                field="--mask-file",
            )
        return cls(MaskRule(rule.strip().lower()), href.strip())


@dataclass(frozen=True, slots=True)
class Shapes:
    """Shapes in a vector file of one's own, and what lies around them."""

    href: str
    """Path or address of a GeoJSON."""
    buffer_m: float = 0.0
    """Metres on the ground (0..100 000): pixels whose centres are this near to a shape are masked as well."""
    code: int = CODES[Mask.SHAPES]
    """What masked pixels carry: 1..996, but for 255 and the numbers of the model's classes."""
    name: str = ""
    """As its user calls it, for reports; empty: its address without what may be secret in it."""

    @classmethod
    def of(cls, href: str, buffer_m: float = 0.0, code: int | None = None) -> Self:
        """Checked. Raises InputError (``mask.shapes``)."""
        if not href.strip():
            raise _shapes("no file is named", "--mask-shapes", "give the path or the address of a GeoJSON")
        if not (math.isfinite(buffer_m) and 0 <= buffer_m <= BUFFER_M_MAX):
            raise _shapes(f"a buffer of {buffer_m:g} m", "--shapes-buffer", f"choose 0 to {BUFFER_M_MAX:,.0f} m")
        most = CODES[Mask.SHAPES]
        wanted = most if code is None else code
        if not 1 <= wanted <= most or wanted == _NO_CLASS:
            raise _shapes(f"the code {wanted}", "--shapes-code", f"choose 1 to {most}, but not {_NO_CLASS}")
        return cls(href.strip(), float(buffer_m), wanted)


def _shapes(what: str, field: str, hint: str) -> InputError:
    return InputError(what, code="mask.shapes", hint=hint, field=field)


@dataclass(frozen=True, slots=True)
class Masking:
    """Which masks, from where, and how wide."""

    masks: tuple[tuple[Mask, str], ...]
    """What to mask, and with what: the id of a layer, ``scenes``, or nothing, and it is looked for."""
    buffer_px: int = 0
    """Pixels this near to a masked one are masked as well (0..256), from centre to centre. Not around shapes."""
    files: tuple[MaskFile, ...] = ()
    """Masks of given imagery, which brings none."""
    shapes: Shapes | None = None
    """Where ``Mask.SHAPES`` comes from."""

    @property
    def codes(self) -> Mapping[Mask, int]:
        """What pixels of each mask carry."""
        return CODES if self.shapes is None else {**CODES, Mask.SHAPES: self.shapes.code}

    @classmethod
    def parse(
        cls, text: str, buffer_px: int = 0, files: tuple[str, ...] = (), shapes: Shapes | None = None
    ) -> Self:  # fmt: skip
        """From ``clouds,snow,water=LAYER,ocean``. Raises InputError (``mask.unknown``, ``mask.buffer``, ``mask.file``).

        The masks stand in the order of ``Mask``, however they were named. ``shapes``: a mask more, also the only one.
        """
        wanted: dict[Mask, str] = {}
        for word in filter(None, (part.strip() for part in text.split(","))):
            name, _, origin = word.partition("=")
            wanted[_mask(name)] = origin.strip()
        if not wanted and (shapes is None or buffer_px or files):
            raise _unknown("no mask is named")
        if shapes is not None:
            wanted[Mask.SHAPES] = ""
        if not 0 <= buffer_px <= BUFFER_MAX:
            raise InputError(
                f"a buffer of {buffer_px} pixels",
                code="mask.buffer",
                hint=f"choose 0 to {BUFFER_MAX} pixels",
                field="--mask-buffer",
            )
        parsed = tuple(MaskFile.parse(file) for file in files)
        return cls(tuple((mask, wanted[mask]) for mask in Mask if mask in wanted), buffer_px, parsed, shapes)


def _mask(name: str) -> Mask:
    try:
        found = Mask(name.strip().lower())
    except ValueError:
        raise _unknown(f"{name[:40]!r} is no mask") from None
    if found is Mask.SHAPES:
        raise _shapes("shapes come from a file", "--mask", "name it: --mask-shapes FILE_OR_ADDRESS")
    return found


def _unknown(what: str) -> InputError:
    known = ", ".join(sorted(mask.value for mask in Mask if mask is not Mask.SHAPES))
    return InputError(what, code="mask.unknown", hint=f"choose from {known}", field="--mask")


class MaskLayer(Frozen):
    """A map that masks may come from: one YAML card in ``configs/layers``, or in one's own folder."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,79}$")]
    """Used as ``--mask water=ID``; the file's name."""
    title: str
    """One line for people."""
    masks: Annotated[tuple[Mask, ...], Field(min_length=1)]
    """What it tells."""
    kind: Literal["raster", "vector", "scenes"]
    """Numbers; polygons; or nothing of its own, but the water class in the masks of a run's own scenes."""
    files: tuple[str, ...] = ()
    """raster: paths or addresses, of which the first that has a valid pixel counts. vector: paths. Relative ones count
    from the card's own folder."""
    band: Annotated[int, Field(ge=1)] = 1
    """raster: of the files."""
    values: tuple[float, ...] = ()
    """raster: numbers that are masked."""
    at_least: float | None = None
    """raster: or numbers from here on, e.g. 75 % of all months under water …"""
    at_most: float | None = None
    """… and up to here."""
    outside: bool = False
    """vector: what lies outside all polygons is masked, instead of inside: land that bounds the ocean."""
    rank: int = 0
    """Of several layers for one mask the one of the lowest rank is asked, then by id."""
    resolution: str = ""
    """How fine it is, in words; told wherever it is used."""
    licence: str
    """SPDX id or words."""
    attribution: str = ""
    """What a map made with it has to say."""
    documentation: str
    """Where the provider says all this."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.kind == SCENES) == bool(self.files):
            raise ValueError("'files' belongs to kind raster and vector, and must name one at least")
        told = bool(self.values) or self.at_least is not None or self.at_most is not None
        if told != (self.kind == "raster"):
            raise ValueError("'values', 'at_least' or 'at_most' say what a raster masks; no other kind has them")
        if self.outside and self.kind != "vector":
            raise ValueError("'outside' belongs to kind vector")
        if Mask.SHAPES in self.masks:
            raise ValueError("'shapes' come from files that users name, never from a layer")
        if self.kind == SCENES and self.masks != (Mask.WATER,):
            raise ValueError("kind scenes is for water alone: the others come from scenes anyhow")
        return self

    def told(self) -> dict[str, Any]:
        """What a report says of it: no path of this machine."""
        facts = self.model_dump(mode="json", include={"id", "title", "kind", "resolution", "licence", "attribution"})
        return {k: v for k, v in facts.items() if v}
