"""In which order a search gives its items, and where the next page begins.

A page ends at an item; the next one begins after the values by which that item was sorted, not after so many items.
So nothing is seen twice or missed while items come and go, and it does not matter whether the item is still there.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.catalogue.conditions import Sql, joined
from swathe.errors import InputError

_COLUMNS = {"id": "id", "collection": "collection", "datetime": "moment"}
_MOST_FIELDS = 8


@dataclass(frozen=True, slots=True)
class SortKey:
    """One field."""

    field: str
    """As asked for, without ``properties.``."""
    descending: bool
    """Largest first. Items that lack the field come last either way."""
    path: str | None
    """In the JSON of properties; None: it is a column."""

    @property
    def sql(self) -> str:
        """Its value."""
        return _COLUMNS[self.field] if self.path is None else "json_extract(properties, ?)"


def order_of(asked: Sequence[tuple[str, bool]] = ()) -> tuple[SortKey, ...]:
    """From (field, descending): newest first where nothing is asked; collection and id settle what is left.

    Raises InputError (``catalogue.sortby``).
    """
    if len(asked) > _MOST_FIELDS:
        raise _unclear(f"more than {_MOST_FIELDS} fields")
    keys: dict[str, SortKey] = {}
    for name, descending in [*(asked or [("datetime", True)]), ("collection", False), ("id", False)]:
        plain = name.removeprefix("properties.")
        if not plain or any(c in plain for c in '."\\\x00'):
            raise _unclear(f"{name!r} is no property")
        keys.setdefault(plain, SortKey(plain, descending, None if plain in _COLUMNS else f'$."{plain}"'))
    return tuple(keys.values())


def selected(keys: Sequence[SortKey]) -> Sql:
    """The values sorted by, as columns k0, k1 and so on."""
    return ", ".join(f"{k.sql} AS k{i}" for i, k in enumerate(keys)), tuple(k.path for k in keys if k.path)


def ordered(keys: Sequence[SortKey]) -> str:
    """ORDER BY, of those columns."""
    words = []
    for i, key in enumerate(keys):
        words += [f"k{i} IS NULL"] if key.path else []
        words.append(f"k{i} {'DESC' if key.descending else 'ASC'}")
    return ", ".join(words)


def after(keys: Sequence[SortKey], values: Sequence[Any]) -> Sql:
    """What comes after an item with these values."""
    ways = []
    for i, (key, value) in enumerate(zip(keys, values, strict=True)):
        if value is None:
            continue  # nothing comes after what lacks the field, in this field
        equal = [(f"k{j} IS ?", (values[j],)) for j in range(i)]
        beyond = f"k{i} {'<' if key.descending else '>'} ?"
        ways.append(joined([*equal, (f"{beyond} OR k{i} IS NULL" if key.path else beyond, (value,))]))
    found = joined(ways, "OR")
    if keys[0].path:
        return found
    # Says nothing new, but an index can use it.
    return joined([(f"k0 {'<=' if keys[0].descending else '>='} ?", (values[0],)), found])


def token_of(keys: Sequence[SortKey], values: Sequence[Any]) -> str:
    """What the next page is asked for with."""
    text = json.dumps([_signature(keys), list(values)], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def values_of(token: str, keys: Sequence[SortKey]) -> list[Any]:
    """From a token. Raises InputError (``catalogue.token``)."""
    try:
        signature, values = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        known = all(v is None or isinstance(v, str | int | float) for v in values)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise _no_token("it cannot be read") from None
    if signature != _signature(keys):
        raise _no_token("it belongs to a search that was sorted otherwise")
    if not known or len(values) != len(keys) or not all(_fits(k, v) for k, v in zip(keys, values, strict=True)):
        raise _no_token("it cannot be read")
    return values


def _signature(keys: Sequence[SortKey]) -> list[str]:
    return [f"{'-' if k.descending else '+'}{k.field}" for k in keys]


def _fits(key: SortKey, value: Any) -> bool:
    if key.path:
        return True
    return isinstance(value, int) and abs(value) < 2**63 if key.field == "datetime" else isinstance(value, str)


def _unclear(why: str) -> InputError:
    return InputError(
        f"cannot sort by this: {why}",
        code="catalogue.sortby",
        field="sortby",
        hint="name properties, with a minus for descending: -datetime,eo:cloud_cover",
    )


def _no_token(why: str) -> InputError:
    return InputError(
        f"the token leads nowhere: {why}",
        code="catalogue.token",
        field="token",
        hint="take it from the next link of a page, or leave it out to begin anew",
    )
