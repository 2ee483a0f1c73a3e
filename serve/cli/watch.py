"""A run, watched: a bar on a terminal, or one JSON object per line."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipelines.run import Observer
from serve.cli.show import line
from swathe.state import Event
from swathe.step import Step

if TYPE_CHECKING:
    from rich.progress import Progress

MEGA = 1e6
_WORDS = {
    "planned": "planned",
    "preparing": "getting the model ready",
    "running": "workers are starting",
    "finishing": "mosaic, polygons, preview, catalogue item",
}


@contextmanager
def watching(*, as_json: bool, title: str = "") -> Iterator[Observer]:
    """An observer for the time of a run."""
    if as_json:
        yield JsonLines()
        return
    if not sys.stderr.isatty():
        yield Plain()
        return
    with _bar() as progress:
        yield Bar(progress, title)


class JsonLines:
    """Events and progress for programs, on standard output."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._last = -1
        self._rate = Rate()

    def event(self, event: Event) -> None:
        """One line."""
        self._write({"event": event.kind, "seq": event.seq, "at": event.at, **event.facts})

    def progress(self, done: int, total: int) -> None:
        """One line, where anything changed."""
        if done == self._last:
            return
        self._last = done
        rate = self._rate(done)
        left = round((total - done) / rate, 1) if rate else None
        self._write(
            {"event": "progress", "done_px": done, "total_px": total, "mpx_s": round(rate / MEGA, 3), "left_s": left}
        )

    def _write(self, facts: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(facts, default=str) + "\n")
        sys.stdout.flush()


class Plain:
    """For logs and pipes: states, failures, and a line every ten seconds."""

    def __init__(self) -> None:
        """Nothing is known yet."""
        self._told = time.monotonic()
        self._rate = Rate()

    def event(self, event: Event) -> None:
        """States and failures only."""
        if event.kind == "state" and event.facts["state"] in _WORDS:
            self._say(_WORDS[event.facts["state"]])
        elif event.kind == "chunk" and event.facts["status"] == "failed":
            self._say(f"chunk {event.facts['chunk']} failed: {event.facts['error'] or 'tiles lost'}")
        elif event.kind == "step" and event.facts["state"] != "waiting":
            self._say(told(Step.of(event.facts)))

    def progress(self, done: int, total: int) -> None:
        """Now and then."""
        rate = self._rate(done)
        if time.monotonic() - self._told >= 10 or done == total:  # noqa: PLR2004  seconds
            self._told = time.monotonic()
            self._say(f"{done / MEGA:.1f} of {total / MEGA:.1f} Mpx, {rate / MEGA:.2f} Mpx/s")

    def _say(self, text: str) -> None:
        sys.stderr.write(f"  {text}\n")


class Bar:
    """A bar with speed and time left."""

    def __init__(self, progress: Progress, title: str) -> None:
        """Draw on ``progress``."""
        self._progress = progress
        self._task = progress.add_task(title or "run", total=None, rate="", state="starting")
        self._rate = Rate()

    def event(self, event: Event) -> None:
        """States change the words beside the bar; failures stand above it."""
        if event.kind == "state":
            state = event.facts["state"]
            self._progress.update(self._task, state=_WORDS.get(state, state))
        elif event.kind == "chunk" and event.facts["status"] == "failed":
            failed = (f"chunk {event.facts['chunk']} failed", "red")
            line(self._progress.console, failed, f": {event.facts['error'] or 'tiles lost'}")
        elif event.kind == "step" and event.facts["state"] == "running":
            self._progress.update(self._task, state=f"step {event.facts['name']}")
        elif event.kind == "step" and event.facts["state"] != "waiting":
            line(self._progress.console, told(Step.of(event.facts)))

    def progress(self, done: int, total: int) -> None:
        """Move the bar."""
        rate = self._rate(done)
        state = f"{rate / MEGA:.2f} Mpx/s" if rate else "workers are starting"
        self._progress.update(self._task, completed=done / MEGA, total=total / MEGA, state=state)


def told(step: Step) -> str:
    """A step after the model, in one line."""
    why = step.problem["detail"] if step.problem else step.detail.get("because", "")
    return f"step {step.name} {step.state.value}" + (f": {why}" if why else "")


class Rate:
    """Pixels per second since the first pixel came, start-up left out."""

    def __init__(self) -> None:
        """Nothing came yet."""
        self._first: tuple[float, int] | None = None

    def __call__(self, done: int) -> float:
        """With ``done`` pixels now."""
        now = time.monotonic()
        if self._first is None or done < self._first[1]:
            self._first = (now, done)
            return 0.0
        since, before = self._first
        return (done - before) / (now - since) if now - since > 0.2 else 0.0  # noqa: PLR2004  seconds


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=False,
    )
