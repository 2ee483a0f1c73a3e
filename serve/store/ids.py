"""Ids: a letter for the kind, and 26 letters and digits that sort by the time they were made."""

from __future__ import annotations

import re
import secrets
import threading
import time

from swathe.errors import NotFoundError

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32, in lower case."""
_LENGTH = 26
_RANDOM_BITS = 80
_KINDS = {"a": "audit", "b": "batch", "f": "upload", "h": "hook", "j": "job", "k": "key", "m": "publication",
          "p": "project", "r": "processor", "s": "preset", "u": "user"}  # fmt: skip
_FORM = re.compile(r"[0-9a-hjkmnp-tv-z]{26}")
_lock = threading.Lock()
_last = 0


def new(letter: str) -> str:
    """An id that nobody has had: 48 bits of milliseconds and 80 of chance. Within a process each is after the last."""
    global _last  # noqa: PLW0603  two threads in one millisecond must differ, and sort
    fresh = (time.time_ns() // 1_000_000) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
    with _lock:
        if fresh >> _RANDOM_BITS <= _last >> _RANDOM_BITS:
            fresh = _last + 1 + secrets.randbits(32)
        _last = fresh
    return letter + _text(fresh)


def check(id_: str, letter: str) -> str:
    """The same id, where it can be one. Raises NotFoundError, as for an id that is not taken."""
    if not fits(id_, letter):
        raise missing(id_, letter)
    return id_


def fits(id_: str, letter: str) -> bool:
    """Whether this can be an id of that letter."""
    return id_[:1] == letter and _FORM.fullmatch(id_[1:]) is not None


def missing(id_: str, letter: str) -> NotFoundError:
    """The error about an id that stands for nothing; to be raised."""
    kind = _KINDS[letter]
    return NotFoundError(f"there is no {kind} {id_[:80]}", code=f"{kind}.unknown", hint="check the id")


def _text(number: int) -> str:
    return "".join(_DIGITS[number >> 5 * place & 31] for place in reversed(range(_LENGTH)))
