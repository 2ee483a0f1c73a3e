"""Python text that is parsed while other threads parse: by ``ast``, and by numpy, which reads heads of arrays so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
_TIMES = 8
"""A disturbance needs the garbage collector in the midst of a tree: nobody has seen two in a row."""


def undisturbed(parse: Callable[[], T]) -> T:
    """What ``parse`` returns; it is called again where another thread disturbed it.

    CPython 3.11 counts the depth of syntax trees for all threads together, and raises SystemError ("AST constructor
    recursion depth mismatch") where two are made at once: https://github.com/python/cpython/issues/106905
    """
    for _ in range(_TIMES - 1):
        with suppress(SystemError):
            return parse()
    return parse()
