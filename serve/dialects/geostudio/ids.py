"""Their ids and ours. Both are 128 bits, so each is the other in another spelling and nothing has to be kept."""

from __future__ import annotations

import re
import string
import uuid
from dataclasses import dataclass

from swathe.errors import NotFoundError

_CROCKFORD = "0123456789abcdefghjkmnpqrstvwxyz"
_LETTERS = string.digits + string.ascii_letters
_SHORT = 22
"""Characters of 128 bits in base 62."""
_NAMES = uuid.UUID("5e1f2f0c-7d0e-5a8b-9c55-8d5b1f6f2a10")
"""Where ids of what has only a name here (shipped cards) are made from."""
_TASK = re.compile(r"([0-9a-fA-F-]{32,36})-task_(planning|\d{1,6})")
PLANNING = "planning"


def uuid_of(id_: str) -> str:
    """Of one of our ids: a letter, and 26 digits of base 32 that hold 128 bits."""
    number = 0
    for digit in id_[1:]:
        number = number << 5 | _CROCKFORD.index(digit)
    return str(uuid.UUID(int=number & (1 << 128) - 1))


def id_of(given: str | uuid.UUID, letter: str) -> str:
    """The other way. Raises NotFoundError for what is no UUID."""
    try:
        number = uuid.UUID(str(given)).int
    except ValueError:
        raise NotFoundError(f"{str(given)[:80]} is no id") from None
    return letter + "".join(_CROCKFORD[number >> 5 * place & 31] for place in reversed(range(26)))


def uuid_of_name(name: str) -> str:
    """Of something that has a name and no id."""
    return str(uuid.uuid5(_NAMES, name))


def tune_id(id_: str) -> str:
    """A tune's, of one of our ids: ``geotune-`` and 22 letters and digits."""
    number, text = uuid.UUID(uuid_of(id_)).int, ""
    for _ in range(_SHORT):
        number, digit = divmod(number, len(_LETTERS))
        text = _LETTERS[digit] + text
    return f"geotune-{text}"


def id_of_tune(given: str, letter: str) -> str:
    """The other way. Raises NotFoundError for what is no tune's id."""
    text = given.removeprefix("geotune-")
    if len(text) != _SHORT or not given.startswith("geotune-") or any(one not in _LETTERS for one in text):
        raise NotFoundError(f"there is no tune {given[:80]}")
    number = 0
    for one in text:
        number = number * len(_LETTERS) + _LETTERS.index(one)
    if number >> 128:
        raise NotFoundError(f"there is no tune {given[:80]}")
    return id_of(uuid.UUID(int=number), letter)


@dataclass(frozen=True, slots=True)
class TaskId:
    """A task: one area and one date of an inference, or its planning."""

    batch: str
    """Our id of the inference."""
    number: int | None
    """Of the part; None: the planning."""

    def __str__(self) -> str:
        """As they write it."""
        return f"{uuid_of(self.batch)}-task_{PLANNING if self.number is None else self.number}"

    @classmethod
    def read(cls, text: str) -> TaskId:
        """Raises NotFoundError."""
        found = _TASK.fullmatch(text)
        if found is None:
            raise NotFoundError(f"Task {text[:120]} not found")
        return cls(id_of(found[1], "b"), None if found[2] == PLANNING else int(found[2]))
