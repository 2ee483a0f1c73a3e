"""Spectral indices as spyndex (Awesome Spectral Indices) defines them, read from its data and not retyped here."""

from __future__ import annotations

import ast
import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from models.expression import Resolve, parse
from swathe.bands import NAMES, SAR
from swathe.errors import CardError


@dataclass(frozen=True, slots=True)
class Index:
    """One published spectral index."""

    name: str
    """Short name, e.g. ``MNDWI``."""
    title: str
    """Long name."""
    formula: str
    """In spyndex's letters, e.g. ``(G - S1) / (G + S1)``."""
    letters: tuple[str, ...]
    """Bands and constants that the formula uses, in spyndex's letters."""
    reference: str
    """Link to the paper."""


@cache
def catalogue() -> Mapping[str, Index]:
    """All indices of the installed spyndex, by short name."""
    entries = _read("spectral-indices-dict.json")["SpectralIndices"]
    return MappingProxyType({name: _index(name, entry) for name, entry in entries.items()})


@cache
def letters() -> Mapping[str, str]:
    """Band letters of spyndex and what we call the same band, e.g. ``S1`` -> ``swir16``."""
    optical = {letter: band["common_name"] for letter, band in _read("bands.json").items()}
    known = {letter: name for letter, name in optical.items() if name in NAMES}
    return MappingProxyType(known | {name.upper(): name for name in SAR})


@cache
def constants() -> Mapping[str, float]:
    """Constants of spyndex that have a default, e.g. ``L`` -> 1.0; the others are bands or must be given."""
    entries = _read("constants.json")
    return MappingProxyType({n: float(c["default"]) for n, c in entries.items() if c["default"] is not None})


def catalogue_version() -> str:
    """Release of spyndex that the definitions come from."""
    return version("spyndex")


def resolver(given: Mapping[str, float]) -> Resolve:
    """Say what names mean in a card's expression.

    given: the card's own constants; they win over spyndex's. Then come band letters (``S1``), common names
    (``swir16``), constants (``L``) and whole indices (``NDVI``), which are put in as their formula.
    """

    def resolve(name: str) -> str | float | ast.expr:
        if name in given:
            return given[name]
        if name in letters():
            return letters()[name]
        if name in NAMES:
            return name
        if name in constants():
            return constants()[name]
        if name in catalogue():
            return parse(catalogue()[name].formula)
        raise _unknown(name)

    return resolve


def _index(name: str, entry: Mapping[str, Any]) -> Index:
    return Index(name, entry["long_name"], entry["formula"], tuple(entry["bands"]), entry["reference"])


def _read(name: str) -> dict[str, Any]:
    # `import spyndex` takes 0.4 s for an HTTP client and the like; the definitions are plain JSON beside it.
    spec = find_spec("spyndex")
    if spec is None or spec.origin is None:
        raise CardError("spectral indices need the package spyndex", hint="run `uv sync`", code="card.index")
    return json.loads((Path(spec.origin).parent / "data" / name).read_text(encoding="utf-8"))


def _unknown(name: str) -> CardError:
    near = difflib.get_close_matches(name, [*catalogue(), *letters(), *sorted(NAMES)], n=3, cutoff=0.5)
    return CardError(
        f"there is no spectral index, band or constant {name!r}",
        hint=f"did you mean {', '.join(near)}?" if near else "see spyndex's list of indices",
        field="network",
        code="card.index",
    )
