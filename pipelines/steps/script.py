"""A user's script, looked at before it is kept or run: it is parsed, and nothing of it is executed."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from swathe.errors import InputError, LimitError
from swathe.step import too_deep
from swathe.undisturbed import undisturbed

MB = 1_000_000
LARGEST_MB = 10
"""Of a script."""
MOST_SIGNS = 500_000
"""Blanks and punctuation in one: what is parsed takes hundreds of bytes for each. Data in a text has few of them."""
_LETTERS = bytes(c for c in range(256) if chr(c).isalnum() or c >= 128)  # noqa: PLR2004  beyond ASCII
LONGEST_ARGUMENTS = 30_000
"""Characters of parameters as JSON where they are arguments: a system takes 128 kB of one, written twice as long."""
LONGEST_RESULT = 32_768
"""Characters of what a script reports: it stands in every record of the step, and records in lists."""
_FLAG = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_TAKEN = ("input", "output")


class Call(StrEnum):
    """How a script is called."""

    POSITIONAL = "positional"
    """``script.py INPUT.tif OUTPUT.tif PARAMETERS.json``."""
    TEXT = "text"
    """``script.py INPUT.tif OUTPUT.tif '{"name": value}'``: the parameters themselves, as JSON."""
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
    if (signs := len(content.translate(None, _LETTERS))) > MOST_SIGNS:
        raise LimitError(f"the script has {signs:,} blanks and signs of punctuation, {MOST_SIGNS:,} are allowed",
                         code="limit.processor", field="file", hint="leave data out of it")  # fmt: skip
    if not any(_is_main(node) for node in parsed(content).body):
        raise InputError('the script has no `if __name__ == "__main__":` block', code="processor.main", field="file",
                         hint="call what it does from there")  # fmt: skip


def parsed(content: bytes) -> ast.Module:
    """Raises InputError (``processor.syntax``)."""
    try:
        return undisturbed(lambda: ast.parse(content))
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
    """As its metadata say, else as its source tells. Raises InputError (``processor.call``, ``.syntax``)."""
    if not wanted:
        return _told_by(content)
    if wanted not in list(Call):
        raise InputError(f"no way of calling {wanted[:40]!r}", code="processor.call", field="call",
                         hint=f"one of {', '.join(Call)}")  # fmt: skip
    return Call(wanted)


def _told_by(content: bytes) -> Call:
    """Flags where it mentions ``--input``, unless only in passing: it takes its arguments by their places.

    By places, the parameters come as text where it reads JSON from a text, and opens no file for it.
    """
    nodes = list(ast.walk(parsed(content)))
    if b"--input" in content and (any(map(_is_option, nodes)) or not any(map(_is_place, nodes))):
        return Call.FLAGS
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    reads_text = any(isinstance(func, ast.Attribute) and func.attr == "loads" for func in called)
    return Call.TEXT if reads_text and not any(map(_opens, called)) else Call.POSITIONAL


def _is_option(node: ast.AST) -> bool:
    """``"--input"``, and not a text in which it occurs."""
    said = node.value if isinstance(node, ast.Constant) else None
    return isinstance(said, str) and said.startswith("--input") and len(said.split()) == 1


def _is_place(node: ast.AST) -> bool:
    """``sys.argv[1]``, ``sys.argv[1:4]``; but not ``sys.argv[1:]``, which is handed to whoever parses it."""
    of = node.value if isinstance(node, ast.Subscript) else None
    name = of.attr if isinstance(of, ast.Attribute) else of.id if isinstance(of, ast.Name) else ""
    if name != "argv" or not isinstance(node, ast.Subscript):
        return False
    return not isinstance(node.slice, ast.Slice) or node.slice.upper is not None


def _opens(func: ast.expr) -> bool:
    """Whether a call reads a file that is no raster, by ``open``, ``Path(…).open``, ``.read_text`` or ``json.load``."""
    if isinstance(func, ast.Name):
        return func.id == "open"
    if not isinstance(func, ast.Attribute):
        return False
    of = func.value
    if func.attr == "load":
        return isinstance(of, ast.Name) and of.id == "json"
    return func.attr in ("read_text", "read_bytes") or (func.attr == "open" and isinstance(of, ast.Call))


def check_parameters(parameters: Mapping[str, Any], call: Call) -> None:
    """Raises InputError (``processor.parameters``): as flags, names have to be words; arguments cannot be endless."""
    if call is not Call.POSITIONAL and len(json.dumps(dict(parameters))) > LONGEST_ARGUMENTS:
        raise InputError(f"the parameters have more than {LONGEST_ARGUMENTS:,} characters", code="processor.parameters",
                         field="processor.parameters", hint="with call: positional they are a file")  # fmt: skip
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
    """The last line of what was said that is a JSON object; None where that is longer or deeper than a record takes."""
    for line in reversed(text.splitlines()):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return found if len(line) <= LONGEST_RESULT and not too_deep(found) else None
    return None
