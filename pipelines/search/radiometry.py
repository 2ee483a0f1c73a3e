"""What the stored numbers of a catalogue's files mean: one rule per archive, never a guess.

fixed       what the card says; the product's documentation fixes it (HLS, Landsat Collection 2, MODIS)
metadata    what the item says of each band (``raster:bands``, or ``bands`` of STAC 1.1); the card where it is silent.
            An item that advertises an offset, and says that it was applied already, is left out
sentinel2   reflectance = (DN + offset) / 10000. ESA's processing baseline 04.00 (25 January 2022, and all of
            Collection 1, whatever the date) moved the numbers by 1000; archives differ in what they did about it:

    archive           what its files hold                                            rule from baseline 04.00 on
    as-processed      ESA's numbers: Planetary Computer, CDSE, Earth Search's        -0.1; an item that says
                      sentinel-2-c1-l2a, stactools                                   otherwise is left out, be it by
                                                                                     its offset or by a flag
    earth-search      sentinel-2-l2a of Earth Search v1: 1000 was taken out of       0 where the item says that it was
                      most, and ``earthsearch:boa_offset_applied`` says of which;    applied; left out where it says
                      ``raster:bands`` goes on advertising -0.1 either way           no, for that is known to be wrong

Sources: Element84/earth-search issues 9, 23, 24, 41, 66, 71; cirrus-geo/cirrus-earth-search 26, 33;
microsoft/PlanetaryComputer 134; S2 Products Specification Document 14.9 (BOA_ADD_OFFSET).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from swathe.source import RadiometryRule, SourceBand, SourceCard

SCALE = 0.0001
"""Of Sentinel-2: reflectance of one step, whatever the baseline."""
_MOVED = -0.1
_SINCE = (4, 0)
"""The baseline that moved the numbers."""
_BASELINES = ("s2:processing_baseline", "processing:version", "sentinel:processing_baseline", "processing:baseline")
_NAMES = ("s2:product_uri", "sentinel:product_id", "s2:datatake_id")
_IN_NAME = re.compile(r"_N(\d{2})\.?(\d{2})(?:_|\.|$)")
_APPLIED = ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")

Json = Mapping[str, Any]


class Unclear(Exception):  # noqa: N818  a scene that is left out, no error of ours
    """Why nobody can say what a scene's numbers mean."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """physical = stored * scale + offset."""

    scale: float
    """See above."""
    offset: float
    """See above."""
    rule: str
    """Why, in words."""


def meaning(card: SourceCard, band: SourceBand, item: Json, asset: Json) -> Meaning:
    """Of one band of one scene. Raises Unclear with the reason why it cannot be told."""
    found = _RULES[card.radiometry.rule](card, item, asset, band)
    scale = found.scale if band.scale is None else band.scale
    offset = found.offset if band.offset is None else band.offset
    return Meaning(scale, offset, found.rule)


def nodata_of(card: SourceCard, band: SourceBand, asset: Json) -> float | None:
    """Stored number that means nothing: of the item, else of the card; None: the file will say."""
    said = number(described(asset, band.index).get("nodata"))
    return card.radiometry.nodata if said is None else said


# --- rules ----------------------------------------------------------------------------------------------------------


def _fixed(card: SourceCard, _item: Json, _asset: Json, _band: SourceBand) -> Meaning:
    rule = card.radiometry
    return Meaning(rule.scale, rule.offset, f"fixed: {_formula(rule.scale, rule.offset)}")


def _metadata(card: SourceCard, item: Json, asset: Json, band: SourceBand) -> Meaning:
    said = advertised(asset, band.index)
    if said is not None and said[1] and _applied(item):
        raise Unclear(
            f"it says that the offset was applied already, and advertises it all the same ({_formula(*said)})"
        )
    if said is not None:
        return Meaning(*said, "the catalogue's own scale and offset")
    if physical(asset, band.index):
        return Meaning(1.0, 0.0, "floating-point numbers whose unit the catalogue says")
    rule = card.radiometry
    if "scale" not in rule.model_fields_set:
        raise Unclear(f"nothing says how the numbers of {band.asset} become physical units")
    return Meaning(
        rule.scale, rule.offset, f"the catalogue is silent; the source says {_formula(rule.scale, rule.offset)}"
    )


def _sentinel2(card: SourceCard, item: Json, asset: Json, band: SourceBand) -> Meaning:
    baseline = baseline_of(item)
    if baseline is None:
        raise Unclear("it does not say its processing baseline, so that its offset (0 or -0.1) is not known")
    name = f"Sentinel-2 baseline {baseline[0]:02d}.{baseline[1]:02d}"
    return PROVIDERS[card.radiometry.provider](baseline, name, item, advertised(asset, band.index))


def _as_processed(baseline: tuple[int, int], name: str, item: Json, said: tuple[float, float] | None) -> Meaning:
    offset = _MOVED if baseline >= _SINCE else 0.0
    if offset and _applied(item) is True:
        raise Unclear(f"{name}: its catalogue says that the offset was applied already, its source says that none was")
    if said is not None and not _same(said, (SCALE, offset)):
        raise Unclear(f"{name} means {_formula(SCALE, offset)}, its catalogue says {_formula(*said)}")
    return Meaning(SCALE, offset, f"{name}, as processed by ESA: {_formula(SCALE, offset)}")


def _earth_search(baseline: tuple[int, int], name: str, item: Json, _said: tuple[float, float] | None) -> Meaning:
    if baseline < _SINCE:
        return Meaning(SCALE, 0.0, f"{name}: {_formula(SCALE, 0.0)}")
    applied = _applied(item)
    if applied is True:
        return Meaning(SCALE, 0.0, f"{name}, offset applied by Earth Search already: {_formula(SCALE, 0.0)}")
    what = "says that the offset was not applied" if applied is False else "does not say whether the offset was applied"
    raise Unclear(
        f"{name}: Earth Search {what}, and such items are known to be wrong (earth-search issues 66 and 71); "
        "the collection sentinel-2-c1-l2a (source earth-search-s2-c1-l2a) is sound"
    )


def _applied(item: Json) -> bool | None:
    """Whether an archive says that it took the offset out itself; None where it does not say."""
    properties = item.get("properties") or {}
    said = [properties[key] for key in _APPLIED if isinstance(properties.get(key), bool)]
    return any(said) if said else None


_Provider = Callable[[tuple[int, int], str, Json, tuple[float, float] | None], Meaning]
PROVIDERS: dict[str, _Provider] = {"as-processed": _as_processed, "earth-search": _earth_search}
"""Archives of Sentinel-2 that are known, by ``radiometry.provider`` of a card."""
_RULES: dict[RadiometryRule, Callable[[SourceCard, Json, Json, SourceBand], Meaning]] = {
    RadiometryRule.FIXED: _fixed,
    RadiometryRule.METADATA: _metadata,
    RadiometryRule.SENTINEL2: _sentinel2,
}


# --- reading items ----------------------------------------------------------------------------------------------------


def baseline_of(item: Json) -> tuple[int, int] | None:
    """ESA's processing baseline, e.g. (5, 9); None where the item does not tell."""
    properties = item.get("properties") or {}
    for key in _BASELINES:
        if match := re.fullmatch(r"0?(\d{1,2})[._]?(\d{2})", str(properties.get(key, ""))):
            return int(match[1]), int(match[2])
    for text in (*(str(properties.get(key, "")) for key in _NAMES), str(item.get("id", ""))):
        if match := _IN_NAME.search(text):
            return int(match[1]), int(match[2])
    return None


def is_sentinel2(item: Json) -> bool:
    """Whether an item says that it is of Sentinel-2."""
    properties = item.get("properties") or {}
    who = " ".join(str(properties.get(key) or "") for key in ("platform", "constellation")).lower()
    return bool(re.search(r"sentinel-?2|\bs2", who)) or any(str(key).startswith("s2:") for key in properties)


def provider_of(item: Json) -> str:
    """Which of ``PROVIDERS`` an item of Sentinel-2 is read like; empty of others, and where it tells no baseline."""
    if not is_sentinel2(item) or baseline_of(item) is None:
        return ""
    return "as-processed" if _applied(item) is None else "earth-search"


def described(asset: Json, index: int) -> dict[str, Any]:
    """What an asset says of one of its bands: STAC 1.0 (``raster:bands``) and 1.1 (``bands``), and of all of them."""
    own: dict[str, Any] = {}
    for key in ("raster:bands", "bands", "eo:bands"):
        listed = asset.get(key)
        if isinstance(listed, list) and len(listed) >= index and isinstance(listed[index - 1], dict):
            own = {**listed[index - 1], **own}
    shared = {
        key: asset[key] for key in ("nodata", "data_type", "raster:scale", "raster:offset", "unit") if key in asset
    }
    return {**shared, **own}


def advertised(asset: Json, index: int) -> tuple[float, float] | None:
    """Scale and offset that an asset says of a band; None where it says neither."""
    band = described(asset, index)
    scale = number(band.get("raster:scale", band.get("scale")))
    offset = number(band.get("raster:offset", band.get("offset")))
    if scale is None and offset is None:
        return None
    return 1.0 if scale is None else scale, 0.0 if offset is None else offset


def physical(asset: Json, index: int) -> bool:
    """Whether a band holds floating-point numbers of a unit that is said."""
    band = described(asset, index)
    return str(band.get("data_type", "")).startswith("float") and bool(band.get("unit"))


def number(value: Any) -> float | None:
    """A JSON number, or one of STAC's words for those that JSON lacks."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        return {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}.get(value.lower())
    return float(value) if isinstance(value, int | float) else None


def _same(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return all(abs(a - b) < 1e-9 for a, b in zip(one, other, strict=True))  # noqa: PLR2004  floats of a few digits


def _formula(scale: float, offset: float) -> str:
    return f"DN * {scale:g}" + (f" {'-' if offset < 0 else '+'} {abs(offset):g}" if offset else "")
