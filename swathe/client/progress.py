"""A waiting job on a terminal or in a notebook: one line that changes; in a log, a line per state."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import IO

from swathe.job import ENDED, Job

WIDTH = 30
"""Characters of the bar."""
Progressed = Callable[[Job], None]
"""Is told whenever something is heard of a job."""


class ProgressLine:
    """Call it with the job whenever something is heard."""

    def __init__(self, out: IO[str] | None = None) -> None:
        """On standard error unless told otherwise."""
        self._out = out or sys.stderr
        self._lively = self._out.isatty() or "ipykernel" in sys.modules
        self._said = ""
        self._began = time.monotonic()

    def __call__(self, job: Job) -> None:
        """Draw, where anything changed."""
        text = self._bar(job) if self._lively else f"{job.id} {job.state.value}"
        if text == self._said:
            return
        end = "\n" if job.state in ENDED or not self._lively else ""
        self._out.write(f"\r{text.ljust(len(self._said))}{end}" if self._lively else f"{text}{end}")
        self._out.flush()
        self._said = text

    def _bar(self, job: Job) -> str:
        full = round(job.progress.share * WIDTH)
        passed = time.monotonic() - self._began
        return (f"{job.id} {'█' * full}{'·' * (WIDTH - full)} {job.progress.share:4.0%} {job.state.value}"
                f" {passed:.0f} s")  # fmt: skip


def teller(progress: bool | Progressed) -> Progressed:
    """What was asked for as a function."""
    if callable(progress):
        return progress
    return ProgressLine() if progress else _silent


def _silent(_: Job) -> None:
    """For whoever does not want to be told."""
