"""The ``fields`` extension: parts of an item."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_ALWAYS = frozenset({"type", "stac_version", "id", "collection"})
"""An item without these could neither be recognised nor found again."""


def pick(item: dict[str, Any], include: Iterable[str], exclude: Iterable[str]) -> dict[str, Any]:
    """What was asked for: ``include`` (nothing: everything) without ``exclude``; names may have dots.

    Where both name a field, or one a part of what the other names, the more exact name counts, and at last ``include``.
    What is needed to recognise an item stays unless it is excluded by name.
    """
    wanted, unwanted = tuple(include), tuple(exclude)
    found = item if not wanted else {k: v for k, v in item.items() if k in _ALWAYS}
    for name in wanted:
        found = _added(found, item, name.split("."))
    for name in unwanted:
        if not any(kept == name or kept.startswith(f"{name}.") for kept in wanted):
            found = _without(found, name.split("."))
    return found


def _added(found: dict[str, Any], source: dict[str, Any], path: list[str]) -> dict[str, Any]:
    name, rest = path[0], path[1:]
    if name not in source:
        # Names of properties may hold dots themselves.
        whole = ".".join(path)
        return {**found, whole: source[whole]} if whole in source else found
    if not rest or not isinstance(source[name], dict):
        return {**found, name: source[name]}
    held = found.get(name)
    return {**found, name: _added(held if isinstance(held, dict) else {}, source[name], rest)}


def _without(found: dict[str, Any], path: list[str]) -> dict[str, Any]:
    name, rest = path[0], path[1:]
    if name not in found:
        return {k: v for k, v in found.items() if k != ".".join(path)}
    if not rest:
        return {k: v for k, v in found.items() if k != name}
    return {**found, name: _without(found[name], rest)} if isinstance(found[name], dict) else found
