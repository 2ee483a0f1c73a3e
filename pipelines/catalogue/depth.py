"""How deep a CQL2 expression goes, told before it is parsed.

cql2's parser recurses without a bound: some thousand brackets, NOTs or plus signs in a row overflow the stack and take
the whole process with them.
"""

from __future__ import annotations

import re
from typing import Any

_TOKEN = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|\w+(?:[.:]\w+)*|\S")
_CHAINED = frozenset("+-*/%^")


def depth(text: str) -> int:
    """Of CQL2 text, not underestimated: brackets within brackets, and operators in a row on the way there."""
    outer: list[int] = []
    deepest = chain = 0
    for part in _TOKEN.findall(text):
        word = part.upper()
        if part in "([{":
            outer.append(chain)
            chain += 1
        elif part in ")]}":
            chain = outer.pop() if outer else 0
        elif part in _CHAINED or word in ("NOT", "DIV"):
            chain += 1
        elif part == "," or word in ("AND", "OR"):
            chain = outer[-1] + 1 if outer else 0
        deepest = max(deepest, chain)
    return deepest


def joins(text: str) -> int:
    """AND and OR in CQL2 text."""
    return sum(part.upper() in ("AND", "OR") for part in _TOKEN.findall(text))


def json_depth(node: Any, most: int) -> int:
    """Of CQL2-JSON, where it is at most ``most``; else more than that."""
    if most < 0 or not isinstance(node, dict | list):
        return 0 if most >= 0 else 1
    inner = node.values() if isinstance(node, dict) else node
    return 1 + max((json_depth(part, most - 1) for part in inner), default=0)
