"""A user's script, looked at before it is kept or run: it is parsed, and nothing of it is executed."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from swathe.errors import InputError, LimitError

MB = 1_000_000
LARGEST_MB = 10
"""Of a script."""
_FLAG = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_TAKEN = ("input", "output")


class Call(StrEnum):
    """How a script is called."""

    POSITIONAL = "positional"
    """``script.py INPUT.tif OUTPUT.tif PARAMETERS.json``."""
    FLAGS = "flags"
    """``script.py --name value … --input INPUT.tif --output FOLDER``."""


def check_script(name: str, content: bytes) -> None:
    """Raises InputError (``processor.name``, ``.syntax``, ``.main``), LimitError (``limit.processor``)."""
    if not name.endswith(".py"):
        raise InputError(f"{name[:80]!r} does not end in .py", code="processor.name", field="file",
                         hint="send a Python script")  # fmt: skip
    if len(content) > LARGEST_MB * MB:
        raise LimitError(f"the script has {len(content) / MB:,.1f} MB, {LARGEST_MB} MB are allowed",
                         code="limit.processor", field="file")  # fmt: skip
    if not any(_is_main(node) for node in parsed(content).body):
        raise InputError('the script has no `if __name__ == "__main__":` block', code="processor.main", field="file",
                         hint="call what it does from there")  # fmt: skip


def parsed(content: bytes) -> ast.Module:
    """Raises InputError (``processor.syntax``)."""
    try:
        return ast.parse(content)
    except SyntaxError as error:
        detail = f"line {error.lineno}: {error.msg}"
    except (ValueError, RecursionError, MemoryError) as error:
        detail = str(error) or type(error).__name__
    raise InputError(f"the script is no Python: {detail[:200]}", code="processor.syntax", field="file",
                     hint="check it with python -m py_compile")  # fmt: skip


def _is_main(node: ast.stmt) -> bool:
    """Whether it is the block that runs when the script does, whichever way round it is written."""
    if not (isinstance(node, ast.If) and isinstance(node.test, ast.Compare) and len(node.test.ops) == 1):
        return False
    sides = (node.test.left, node.test.comparators[0])
    names = [side.id for side in sides if isinstance(side, ast.Name)]
    words = [side.value for side in sides if isinstance(side, ast.Constant)]
    return isinstance(node.test.ops[0], ast.Eq) and names == ["__name__"] and words == ["__main__"]


def call_of(content: bytes, wanted: str = "") -> Call:
    """As its metadata say, else flags where its source mentions ``--input``. Raises InputError (``processor.call``)."""
    if not wanted:
        return Call.FLAGS if b"--input" in content else Call.POSITIONAL
    if wanted not in list(Call):
        raise InputError(f"no way of calling {wanted[:40]!r}", code="processor.call", field="call",
                         hint=f"one of {', '.join(Call)}")  # fmt: skip
    return Call(wanted)


def check_parameters(parameters: Mapping[str, Any], call: Call) -> None:
    """Raises InputError (``processor.parameters``): as flags, names have to be words."""
    wrong = [name for name in parameters if not _FLAG.fullmatch(name) or name in _TAKEN]
    if call is Call.FLAGS and wrong:
        raise InputError(f"{wrong[0][:80]!r} cannot be the name of a flag", code="processor.parameters",
                         field="processor.parameters", hint="letters, digits, _, -; not input, not output")  # fmt: skip


def flags(parameters: Mapping[str, Any]) -> Iterator[str]:
    """As arguments, one for each name and one for each value: no shell ever sees them."""
    for name, value in parameters.items():
        yield f"--{name}"
        yield str(value) if isinstance(value, str | int | float) else json.dumps(value)


def last_json(text: str) -> dict[str, Any] | None:
    """The last line of what was said that is a JSON object."""
    for line in reversed(text.splitlines()):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found
    return None
