"""What a program in the sandbox that turns a file into images says of its work: one document, written last.

``images``: one record each, ``file`` among it; or ``fault``: a code and a detail. Whoever started the program believes
none of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T")
TOLD = "told.json"
_LONGEST = 200


class Fault(Exception):  # noqa: N818  no error of ours yet
    """One thing that is wrong; whoever started the program knows the code, its error and its hint."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


def named(name: str) -> str:
    """A name of a stranger, for a message."""
    return repr(name if len(name) < 60 else f"{name[:57]}…")  # noqa: PLR2004  fits on a line


def asked(kind: type[T], text: str) -> T:
    """What it is not to exceed, as whoever started the program has written it: ``kind`` is a dataclass, of JSON."""
    return kind(**json.loads(text))


def tell(make: Callable[[], Sequence[DataclassInstance]]) -> None:
    """Make the images, and tell what came of it, in the folder of now."""
    try:
        told: dict[str, Any] = {"images": [asdict(one) for one in make()]}
    except Fault as fault:
        told = {"fault": [fault.code, fault.detail]}
    except MemoryError:
        told = {"fault": ["memory", "the file takes more memory than there is for it"]}
    except Exception as error:  # noqa: BLE001  libraries raise whatever they like over a damaged file
        told = {"fault": ["unreadable", f"the file cannot be read: {_first_line(error)}"]}
    Path(TOLD).write_text(json.dumps(told))


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:_LONGEST]
