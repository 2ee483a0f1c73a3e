"""Arithmetic on bands, parsed once and run block by block: no eval, no attribute, no call, nothing but + - * / **."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from swathe.errors import CardError
from swathe.undisturbed import undisturbed

LONGEST = 1000
"""Characters of an expression: the longest published index has 200; more is an accident or an attack."""

DEEPEST = 32
"""Intermediate results held at once; published indices need 6, and each costs memory."""

Block = NDArray[np.float32]
Resolve = Callable[[str], "str | float | ast.expr"]
"""What a name stands for: an operand (its name), a constant, or another expression put in its place."""

_BINARY: dict[type[ast.operator], np.ufunc] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
# pow() is ten times slower than these, and spectral indices know hardly any other power.
_POWERS = {0.5: np.sqrt, 2.0: np.square}


@dataclass(frozen=True, slots=True)
class Load:
    """Push an operand."""

    operand: int


@dataclass(frozen=True, slots=True)
class Push:
    """Push a number."""

    number: float


@dataclass(frozen=True, slots=True)
class Apply:
    """Replace the uppermost values by a function of them."""

    function: np.ufunc
    arity: int


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled expression: a stack machine whose every stack slot owns one scratch buffer."""

    operands: tuple[str, ...]
    """Names of what is loaded, in the order ``run`` expects them."""
    steps: tuple[Load | Push | Apply, ...]
    """Postfix."""
    depth: int
    """Scratch buffers that ``run`` needs."""

    def run(self, operands: Sequence[Block], scratch: Sequence[Block]) -> Block:
        """Evaluate over one block.

        operands: one (P,) float32 array per name, never written to. scratch: ``depth`` (P,) float32 arrays, all
        overwritten. Returns (P,) float32: ``scratch[0]``. Division by zero gives inf or NaN as in IEEE 754; the caller
        silences numpy's warnings and decides what they mean.
        """
        stack: list[Block | float] = []
        for step in self.steps:
            if isinstance(step, Apply):
                at = len(stack) - step.arity
                stack[at:] = [step.function(*stack[at:], out=scratch[at])]
            else:
                stack.append(operands[step.operand] if isinstance(step, Load) else step.number)
        if stack[0] is not scratch[0]:
            np.copyto(scratch[0], stack[0])
        return scratch[0]


def parse(text: str) -> ast.expr:
    """Read an expression; raise CardError where it is none."""
    if len(text) > LONGEST:
        raise _refused(text[:40] + "…", f"longer than {LONGEST} characters")
    try:
        return undisturbed(lambda: ast.parse(text.strip(), mode="eval")).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise _refused(text, "not an arithmetic expression") from error


def compiled(text: str, resolve: Resolve) -> Program:
    """Compile an expression; raise CardError for anything but numbers, known names and + - * / **.

    resolve: says what each name stands for; raises CardError for a name it does not know.
    """
    try:
        tree = _bound(parse(text), resolve, text)
    except RecursionError as error:
        raise _refused(text, "nested too deeply") from error
    names = tuple(dict.fromkeys(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)))
    if not names:
        raise _refused(text, "a constant: it uses no band")
    steps = tuple(_postfix(tree, names))
    if (depth := _deepest(steps)) > DEEPEST:
        raise _refused(text, "nested too deeply")
    return Program(names, steps, depth)


def _bound(node: ast.expr, resolve: Resolve, text: str) -> ast.expr:
    """Put operands and constants in the place of names, fold constants, refuse everything else."""
    match node:
        case ast.Constant(value=bool()):
            raise _refused(text, "True and False are no numbers")
        case ast.Constant(value=int() | float() as number):
            return ast.Constant(_finite(number, text))
        case ast.Name(id=name):
            meaning = resolve(name)
            if isinstance(meaning, ast.expr):
                return _bound(meaning, resolve, text)
            return ast.Name(meaning) if isinstance(meaning, str) else ast.Constant(_finite(meaning, text))
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _bound(inner, resolve, text)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return _folded(ast.Sub(), ast.Constant(0.0), _bound(inner, resolve, text), text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _folded(op, _bound(left, resolve, text), _bound(right, resolve, text), text)
    raise _refused(text, f"{type(node).__name__} is not allowed; only numbers, names, + - * / ** and brackets are")


def _folded(op: ast.operator, left: ast.expr, right: ast.expr, text: str) -> ast.expr:
    if isinstance(op, ast.Pow) and not isinstance(right, ast.Constant):
        raise _refused(text, "an exponent must be a number")
    if isinstance(left, ast.Constant) and isinstance(right, ast.Constant):
        with np.errstate(all="ignore"):
            return ast.Constant(_finite(_BINARY[type(op)](left.value, right.value), text))
    return ast.BinOp(left, op, right)


def _finite(number: float, text: str) -> float:
    """As float; refuse what single precision cannot hold."""
    if not abs(number) <= float(np.finfo(np.float32).max):  # NaN is not
        raise _refused(text, "its constants do not give a finite number")
    return float(number)


def _postfix(node: ast.expr, names: tuple[str, ...]) -> list[Load | Push | Apply]:
    match node:
        case ast.Name(id=name):
            return [Load(names.index(name))]
        case ast.Constant(value=number):
            return [Push(float(number))]  # type: ignore[arg-type]
        case ast.BinOp(left=base, op=ast.Pow(), right=ast.Constant(value=power)) if power in _POWERS:
            return [*_postfix(base, names), Apply(_POWERS[power], 1)]  # type: ignore[index]
        case ast.BinOp(left=left, op=op, right=right):
            return [*_postfix(left, names), *_postfix(right, names), Apply(_BINARY[type(op)], 2)]
    raise AssertionError(ast.dump(node))


def _deepest(steps: Sequence[Load | Push | Apply]) -> int:
    height = highest = 0
    for step in steps:
        height += 1 - step.arity if isinstance(step, Apply) else 1
        highest = max(highest, height)
    return highest


def _refused(text: str, why: str) -> CardError:
    return CardError(
        f"the expression {text!r} cannot be used: {why}",
        hint="write an index of spyndex (NDVI), or arithmetic of bands, e.g. (N - R) / (N + R)",
        field="network",
        code="card.expression",
    )
