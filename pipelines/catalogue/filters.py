"""CQL2 and the older ``query`` as SQL conditions.

``cql2`` parses. Its ``to_sql`` writes PostgreSQL, so comparisons of a property with a literal are written for SQLite
here; whatever else there is (arithmetic, functions of time and space, arrays, two properties) is left to its
``matches``, item by item.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import cql2
from shapely.geometry.base import BaseGeometry

from pipelines.catalogue.conditions import Sql, Test, Tests, joined, meets, meets_indexed
from pipelines.catalogue.depth import depth, joins, json_depth
from pipelines.catalogue.entry import whole
from pipelines.catalogue.moments import micros
from pipelines.catalogue.places import boxes, drawn, geometry_of
from swathe.errors import InputError

MOST_CHARACTERS, MOST_NODES, DEEPEST = 400_000, 2000, 100
_COMPARED = {"=": "=", "<>": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_LOGIC = {"and", "or", "not"}
_SPATIAL = {"s_intersects", "s_equals", "s_disjoint", "s_touches", "s_within", "s_overlaps", "s_crosses", "s_contains"}
_TEMPORAL = {
    "t_after", "t_before", "t_contains", "t_disjoint", "t_during", "t_equals", "t_finishedby", "t_finishes",
    "t_intersects", "t_meets", "t_metby", "t_overlappedby", "t_overlaps", "t_startedby", "t_starts",
}  # fmt: skip
_ARRAY = {"a_equals", "a_contains", "a_containedby", "a_overlaps"}
_OTHER = {"between", "in", "like", "isnull", "casei", "accenti", "+", "-", "*", "/", "%", "^", "div"}
_KNOWN = _LOGIC | set(_COMPARED) | _SPATIAL | _TEMPORAL | _ARRAY | _OTHER
_TOP = {"type", "stac_version", "stac_extensions", "geometry", "bbox", "links", "assets", "properties"}
_QUERY = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_LIST_MOST = 500
_BIGGEST = 2**63


def filter_sql(given: str | dict[str, Any], tests: Tests) -> list[Sql]:
    """Conditions of a CQL2 filter, text or JSON; all have to hold. Raises InputError (``catalogue.filter``)."""
    node = _parsed(given)
    return [
        meets_indexed(_drawn(part), tests) if _is_place(part) else _Writer(tests).write(part) for part in _parts(node)
    ]


def query_sql(given: dict[str, Any], tests: Tests) -> list[Sql]:
    """Conditions of the ``query`` extension: property -> operator -> value. Raises InputError (``catalogue.query``)."""
    if not isinstance(given, dict) or not all(isinstance(asked, dict) for asked in given.values()):
        raise _no_query("it is an object: property, operator, value")
    found = [_asked(name, word, value) for name, asked in given.items() for word, value in asked.items()]
    return [_Writer(tests).write(node) for node in found]


def _asked(name: str, word: str, value: Any) -> dict[str, Any]:
    held = {"property": name}
    if word in _QUERY and isinstance(value, str | int | float | bool):
        return {"op": _QUERY[word], "args": [held, value]}
    if word == "in" and isinstance(value, list) and value:
        return {"op": "in", "args": [held, value]}
    if word in ("startsWith", "endsWith", "contains") and isinstance(value, str):
        plain = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        pattern = {"startsWith": f"{plain}%", "endsWith": f"%{plain}", "contains": f"%{plain}%"}[word]
        return {"op": "like", "args": [held, pattern]}
    raise _no_query(f"{word!r} with {value!r} is not understood"[:200])


# --- parsing --------------------------------------------------------------------------------------------------------


def _parsed(given: str | dict[str, Any]) -> Any:
    """CQL2-JSON that is known to be sound. Depth is checked before the parser sees it, which recurses."""
    given = _sound(given)
    try:
        expression = cql2.Expr(given)
        node = expression.to_json()
        expression.to_sql()  # counts the arguments of every operator
    except Exception as error:  # noqa: BLE001  cql2 raises nothing narrower
        raise _no_filter(str(error)) from None
    found = list(_operators(node))
    if len(found) > MOST_NODES:
        raise _no_filter("it has too many parts")
    if strange := [op for op in found if op.lower() not in _KNOWN]:
        raise _no_filter(f"there is no operator or function {strange[0]!r}")
    return node


def _sound(given: str | dict[str, Any]) -> str | dict[str, Any]:
    """The same, JSON in text as an object, if the parser will survive it."""
    if isinstance(given, str) and given.lstrip().startswith("{"):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError) as error:
            raise _no_filter(f"it is no JSON: {error}") from None
    if isinstance(given, str):
        known = len(given) <= MOST_CHARACTERS and depth(given) <= DEEPEST and joins(given) <= MOST_NODES
    else:
        known = json_depth(given, DEEPEST) <= DEEPEST
    if not known:
        raise _no_filter("it is too long or too deep")
    return given


def _operators(node: Any) -> Iterator[str]:
    if isinstance(node, dict) and "op" in node:
        yield str(node["op"])
        for arg in node.get("args") or []:
            yield from _operators(arg)
    elif isinstance(node, list):
        for part in node:
            yield from _operators(part)


def _parts(node: Any) -> Iterator[Any]:
    """What ``and`` joins at the top."""
    if isinstance(node, dict) and node.get("op") == "and":
        for arg in node["args"]:
            yield from _parts(arg)
    else:
        yield node


# --- writing --------------------------------------------------------------------------------------------------------


class _Writer:
    """From CQL2-JSON to SQL; every node finds a way, the last of which is a test in Python."""

    def __init__(self, tests: Tests) -> None:
        self._tests = tests

    def write(self, node: Any) -> Sql:
        if isinstance(node, bool):
            return ("1", ()) if node else ("0", ())
        op = node.get("op") if isinstance(node, dict) else None
        way = self._way(op) if op else None
        return (way(op, node["args"]) if way and op else None) or self._by_hand(node)

    def _way(self, op: str) -> Callable[[str, list[Any]], Sql | None] | None:
        if op in _COMPARED:
            return self._compare
        ways = {
            "and": self._logic, "or": self._logic, "not": self._not, "in": self._among, "between": self._between,
            "like": self._like, "isNull": self._missing, "s_intersects": self._place,
        }  # fmt: skip
        return ways.get(op)

    def _logic(self, op: str, args: list[Any]) -> Sql:
        return joined([self.write(arg) for arg in args], op.upper())

    def _not(self, _: str, args: list[Any]) -> Sql:
        sql, params = self.write(args[0])
        return f"NOT ({sql})", params

    def _compare(self, op: str, args: list[Any]) -> Sql | None:
        if len(args) != 2:  # noqa: PLR2004  both sides
            return None
        left, right = args
        if not _is_property(left):
            left, right, op = right, left, _MIRRORED[op]
        value, kind = _literal(right)
        if not _is_property(left) or kind is None or (kind == "bool" and op not in ("=", "<>")):
            return None
        held = _held(left["property"], kind)
        return held and (f"{held[0]} {_COMPARED[op]} ?", (*held[1], value))

    def _among(self, _: str, args: list[Any]) -> Sql | None:
        if not _is_property(args[0]) or not isinstance(args[1], list) or not 0 < len(args[1]) <= _LIST_MOST:
            return None
        found = [_literal(a) for a in args[1]]
        kinds = {kind for _, kind in found}
        held = _held(args[0]["property"], next(iter(kinds)) or "") if len(kinds) == 1 else None
        marks = ", ".join("?" * len(found))
        return held and (f"{held[0]} IN ({marks})", (*held[1], *(value for value, _ in found)))

    def _between(self, _: str, args: list[Any]) -> Sql | None:
        (low, kind), (high, other) = _literal(args[1]), _literal(args[2])
        if not _is_property(args[0]) or kind != other or kind in (None, "bool"):
            return None
        held = _held(args[0]["property"], kind)
        return held and (f"{held[0]} BETWEEN ? AND ?", (*held[1], low, high))

    def _like(self, _: str, args: list[Any]) -> Sql | None:
        if not _is_property(args[0]) or not isinstance(args[1], str):
            return None
        held = _held(args[0]["property"], "text")
        return held and (f"{held[0]} GLOB ?", (*held[1], _glob(args[1])))

    def _missing(self, _: str, args: list[Any]) -> Sql | None:
        if not _is_property(args[0]):
            return None
        if args[0]["property"] == "geometry":
            return "geometry IS NULL", ()
        if args[0]["property"] in ("id", "collection"):
            return "0", ()
        path = _path(args[0]["property"])
        return ("coalesce(json_type(properties, ?), 'null') = 'null'", (path,)) if path else None

    def _place(self, _: str, args: list[Any]) -> Sql | None:
        node = {"op": "s_intersects", "args": args}
        return meets(_drawn(node), self._tests) if _is_place(node) else None

    def _by_hand(self, node: Any) -> Sql:
        try:
            expression = cql2.Expr(node)
        except Exception as error:  # noqa: BLE001  the same
            raise _no_filter(str(error)) from None
        return self._tests.match(_matching(expression)), ()


def _matching(expression: cql2.Expr) -> Test:
    def test(properties: str, document: str) -> int | None:
        try:
            return int(expression.matches(whole(properties, document)))
        except Exception:  # noqa: BLE001  its way of saying that an item does not have what is compared
            return None

    return test


def _is_property(node: Any) -> bool:
    return isinstance(node, dict) and isinstance(node.get("property"), str)


def _literal(node: Any) -> tuple[Any, str | None]:
    """(value for SQLite, kind); None: not a plain one."""
    if isinstance(node, bool):
        return int(node), "bool"
    if isinstance(node, int | float):
        return (float(node) if abs(node) >= _BIGGEST else node), "number"
    if isinstance(node, str):
        return node, "text"
    if isinstance(node, dict) and isinstance(node.get("timestamp"), str):
        try:
            return micros(node["timestamp"]), "time"
        except (ValueError, OverflowError):
            raise _no_filter(f"{node['timestamp']!r} is no time") from None
    return None, None


def _path(name: str) -> str | None:
    """Of a property in its JSON; None: it lies elsewhere, or its name has a meaning for JSON paths."""
    name = name.removeprefix("properties.")
    return None if name in _TOP or any(c in name for c in '."\\\x00') else f'$."{name}"'


def _held(name: str, kind: str) -> Sql | None:
    """A property as a value of one kind; NULL where the item has none, or one of another kind."""
    if name in ("id", "collection"):
        return (name, ()) if kind == "text" else None
    path = _path(name)
    if path is None:
        return None
    if kind == "time":
        return ("instant", ()) if path == '$."datetime"' else None
    if kind == "bool":
        return "CASE json_type(properties, ?) WHEN 'true' THEN 1 WHEN 'false' THEN 0 END", (path,)
    types = {"number": "'integer', 'real'", "text": "'text'"}.get(kind)
    if types is None:
        return None
    return f"CASE WHEN json_type(properties, ?) IN ({types}) THEN json_extract(properties, ?) END", (path, path)


def _glob(pattern: str) -> str:
    """GLOB of a LIKE pattern: that one minds case, as CQL2 wants."""
    found, letters = "", iter(pattern)
    for letter in letters:
        if letter in "%_":
            found += "*" if letter == "%" else "?"
            continue
        plain = next(letters, "\\") if letter == "\\" else letter
        found += f"[{plain}]" if plain in "*?[" else plain
    return found


def _is_place(node: Any) -> bool:
    args = node.get("args") if isinstance(node, dict) and node.get("op") == "s_intersects" else None
    return bool(args) and args[0] == {"property": "geometry"} and isinstance(args[1], dict) and (
        "bbox" in args[1] or "type" in args[1]
    )  # fmt: skip


def _drawn(node: Any) -> list[BaseGeometry]:
    found = node["args"][1]
    if "bbox" in found and "type" not in found:
        return [drawn(box) for box in boxes(found["bbox"], "filter")]
    return [geometry_of(found, field="filter")]


def _no_filter(why: str) -> InputError:
    return InputError(
        f"the filter cannot be used: {why}"[:400],
        code="catalogue.filter",
        field="filter",
        hint="it is CQL2, text or JSON; /queryables lists what can be asked",
    )


def _no_query(why: str) -> InputError:
    return InputError(
        f"the query cannot be used: {why}",
        code="catalogue.query",
        field="query",
        hint='it looks like {"eo:cloud_cover": {"lt": 20}}',
    )
