"""An ordered list of treatments, carried out: each told as it goes, and one that fails ends no run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, TextIO

from pipelines.products.assets import ASSETS
from pipelines.steps.memory import Kept, Memory, chained
from pipelines.steps.treatment import Bench, Made, Treatment
from swathe.errors import Interrupted, SwatheError
from swathe.step import Step, StepState, too_deep

Tell = Callable[[Step], None]
FIRST = "result.tif"
"""The raster of a result without steps."""
LONGEST_LOG = 1 << 20
"""Bytes of what a step says that are kept."""


@dataclass(frozen=True, slots=True)
class Treated:
    """How the steps of a run went."""

    steps: tuple[Step, ...] = ()
    """Their records, in order."""
    raster: str = FIRST
    """Name of the raster that is the result after them."""

    @property
    def whole(self) -> bool:
        """Whether none of them failed, or was not reached because of one that did."""
        return all(step.state is not StepState.FAILED for step in self.steps)


def announce(treatments: Sequence[Treatment], tell: Tell) -> None:
    """That these steps will come, told before anything has run."""
    for treatment in treatments:
        tell(Step(treatment.name))


def treat(treatments: Sequence[Treatment], bench: Bench, memory: Memory, base: str, tell: Tell) -> Treated:
    """Carry them out; ``base`` is the key of the products that they begin with (``memory.base_of``).

    What follows a step that failed is skipped. Raises Interrupted, and OutputError where the place of the results is
    out of reach.
    """
    return _Sequence(bench, memory, tell).carry_out(treatments, base)


class _Sequence:
    def __init__(self, bench: Bench, memory: Memory, tell: Tell) -> None:
        self.bench, self.memory, self.tell = bench, memory, tell

    def carry_out(self, treatments: Sequence[Treatment], base: str) -> Treated:
        keys = list(accumulate(treatments, chained, initial=base))[1:]
        kept = [self.memory.standing(key) for key in keys]
        made = {name for k in kept if k is not None for name in k.sizes}
        self.memory.clear(asset.name for asset in ASSETS if asset.step and asset.name not in made)
        done = Treated(raster=self.bench.raster)
        for treatment, key, stands in zip(treatments, keys, kept, strict=True):
            self.bench.check()
            done = self._next(treatment, key, stands, done)
        return done

    def _next(self, treatment: Treatment, key: str, stands: Kept | None, done: Treated) -> Treated:
        if not done.whole:
            return self._passed_over(treatment, done)
        if stands is not None:
            self.tell(stands.step)
            return Treated((*done.steps, stands.step), stands.raster)
        step, made = _carried_out(treatment, replace(self.bench, raster=done.raster), self.tell)
        raster = made.raster or done.raster
        if step.state is StepState.FINISHED:
            sizes = {name: (self.bench.out / name).stat().st_size for name in (*step.files, step.log)}
            self.memory.keep(Kept(key, step, raster, sizes))
        self.tell(step)
        return Treated((*done.steps, step), raster)

    def _passed_over(self, treatment: Treatment, done: Treated) -> Treated:
        failed = next(step.name for step in done.steps if step.state is StepState.FAILED)
        step = Step(treatment.name, StepState.SKIPPED, detail={"because": f"the step {failed} before it failed"})
        self.tell(step)
        return Treated((*done.steps, step), done.raster)


def _carried_out(treatment: Treatment, bench: Bench, tell: Tell) -> tuple[Step, Made]:
    step = Step(treatment.name, StepState.RUNNING, _now(), log=f"{treatment.name}.log")
    tell(step)
    noted: dict[str, Any] = {}
    with _logging(bench.out / step.log) as log:
        made = Made()
        try:
            made = treatment.carry_out(replace(bench, say=log.say, note=lambda **facts: noted.update(facts)))
        except (Interrupted, KeyboardInterrupt):
            log.conclude("stopped")
            with suppress(SwatheError, OSError):
                tell(Step(treatment.name))
            raise
        except SwatheError as error:
            step = replace(step, state=StepState.FAILED, problem=error.problem.as_dict())
            log.conclude(f"failed: {error.problem.line()}")
        except Exception as error:  # noqa: BLE001  a fault of ours: the result stands all the same
            problem = SwatheError(f"the step {step.name} broke: {type(error).__name__}", code="step.internal").problem
            step = replace(step, state=StepState.FAILED, problem=problem.as_dict())
            log.conclude(f"failed: {problem.line()}")
        else:
            step = _concluded(step, made)
            log.conclude(_words(made))
    detail = {name: None if too_deep(value) else value for name, value in (noted | step.detail).items()}
    return replace(step, ended=_now(), detail=detail), made


def _concluded(step: Step, made: Made) -> Step:
    if made.skipped:
        return replace(step, state=StepState.SKIPPED, detail=made.detail | {"because": made.skipped})
    if made.missing is not None:
        problem = made.missing.problem.as_dict()
        return replace(step, state=StepState.FAILED, files=made.files, detail=made.detail, problem=problem)
    return replace(step, state=StepState.FINISHED, files=made.files, detail=made.detail)


def _words(made: Made) -> str:
    if made.missing is not None:
        return f"failed: {made.missing.problem.line()}"
    return f"skipped: {made.skipped}" if made.skipped else "finished"


@contextmanager
def _logging(path: Path) -> Iterator[_Log]:
    """A log as a file of the result; past its bound it says so once, and no more."""
    with path.open("w", encoding="utf-8", errors="replace") as file:
        yield _Log(file)


class _Log:
    def __init__(self, file: TextIO) -> None:
        self._file, self._left = file, LONGEST_LOG

    def say(self, text: str) -> None:
        if self._left <= 0:
            return
        line = f"{_now()} {text}\n"
        self._left -= len(line.encode(errors="replace"))
        self._file.write(line if self._left > 0 else f"{_now()} the log is cut here\n")
        self._file.flush()

    def conclude(self, text: str) -> None:
        """How it ended stands there, however much was said before."""
        self._file.write(f"{_now()} {text}\n")
        self._file.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
