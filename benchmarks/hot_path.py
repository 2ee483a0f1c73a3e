"""CPU time of everything around the network, per tile: one worker, real imagery, recorded answers of the network.

python -m benchmarks.hot_path '{"root": …, "size": …, "passes": …}' answers with one JSON line.

The worker is the engine's own and does its chunks whole. Its network is replaced by one that gives the recorded answer
of the real one, at no cost; so products and polygons are those of a real map. CPU time, unlike wall time, does not
depend on what else the machine does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes import ROOT, Place, planned


class Recorder:
    """A network that remembers its answers."""

    def __init__(self, network: Any) -> None:
        """``network`` is a predictor."""
        self.network, self.info, self.answers = network, network.info, []

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run it."""
        self.answers.append(self.network(tiles).copy())
        return self.answers[-1]


class Replay:
    """A network that gives recorded answers, in the order in which they were asked for."""

    def __init__(self, recorder: Recorder) -> None:
        """From the first answer on."""
        self.info, self._answers = recorder.info, iter(recorder.answers)

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """The next answer, whatever the tiles."""
        del tiles
        return next(self._answers)


class Stages:
    """CPU seconds by stage, whatever thread it runs in: innermost stage counts."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.seconds: dict[str, float] = {}
        self._open = threading.local()

    def timed(self, stage: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, counted."""

        def counted(*args: Any, **named: Any) -> Any:
            inner, self._open.inner = getattr(self._open, "inner", 0.0), 0.0
            started = time.thread_time()
            try:
                return call(*args, **named)
            finally:
                took = time.thread_time() - started
                self.seconds[stage] = self.seconds.get(stage, 0.0) + took - self._open.inner
                self._open.inner = inner + took

        return counted

    @contextmanager
    def over(self, places: dict[str, tuple[Any, str]]) -> Iterator[None]:
        """Count calls of these functions (stage -> object, attribute) inside the context."""
        from unittest.mock import patch

        with ExitStack() as stack:
            for stage, (owner, name) in places.items():
                stack.enter_context(patch.object(owner, name, self.timed(stage, getattr(owner, name))))
            yield


def places() -> dict[str, tuple[Any, str]]:
    """Where the stages of the hot path begin."""
    from pipelines import batches, process
    from pipelines.imagery import read
    from pipelines.products import parts, shapes

    return {
        "read": (read.Reader, "read"),
        "normalise": (batches, "fill_units"),
        "choose": (process, "_wanted"),
        "collect": (batches.Batches, "add"),
        "across": (batches.Batches, "_place"),
        "down": (process, "_rows"),
        "quantise": (parts, "quantise"),
        "encode": (parts._Writer, "flush"),  # noqa: SLF001
        "close": (parts._Writer, "close"),  # noqa: SLF001
        "trace": (shapes.Tracer, "add"),
        "trace: join": (shapes.Tracer, "finish"),
        "trace: save": (parts, "save"),
    }


def passes(place: Place, size: int, count: int) -> list[dict[str, Any]]:
    """Milliseconds of CPU per tile, by stage, of each pass."""
    from pipelines.worker import ChunkWorker, Order

    card = place.card("fp32")
    plan = planned(card, place.scene(size).post, actors=1)
    found = []
    with tempfile.TemporaryDirectory(dir=place.root) as folder:
        parts = Path(folder)
        order = Order(plan.work, parts, place.home, widest=min(plan.chunk_shape[1], size))
        worker = ChunkWorker(order)
        recorder = worker.predict = Recorder(worker.predict)
        _do(worker, plan.chunks, parts)
        for _ in range(count):
            worker.predict, stages = Replay(recorder), Stages()
            found.append(_do(worker, plan.chunks, parts))
            worker.predict = Replay(recorder)
            with stages.over(_generators_whole(places())):
                counted = _do(worker, plan.chunks, parts)
            found[-1]["stages"] = {k: 1e3 * v / counted["tiles"] for k, v in sorted(stages.seconds.items())}
            found[-1]["with_stages_ms"] = counted["ms"]
        worker.reader.close()
    return found


def _generators_whole(given: dict[str, tuple[Any, str]]) -> dict[str, tuple[Any, str]]:
    """Leave out what gives rows one by one: calling it does nothing yet."""
    from inspect import isgeneratorfunction

    return {stage: at for stage, at in given.items() if not isgeneratorfunction(getattr(*at))}


def _do(worker: Any, chunks: Any, parts: Path) -> dict[str, Any]:
    cpu, tiles = time.process_time(), 0
    for chunk in chunks:
        receipt = worker(chunk)
        assert receipt["status"] in ("done", "nodata"), receipt["error"]
        tiles += receipt["tiles"]
    cpu = time.process_time() - cpu
    for path in parts.iterdir():
        path.unlink()
    return {"ms": 1e3 * cpu / tiles, "tiles": tiles, "cpu_s": cpu}


def in_own_process(place: Place, size: int, count: int) -> list[dict[str, Any]]:
    """The same, in a process that has done nothing else."""
    asked = json.dumps({"root": str(place.root), "size": size, "passes": count})
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.hot_path", asked], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


def main() -> None:
    """Entry point of the process."""
    asked = json.loads(sys.argv[1])
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        answers.write(json.dumps(passes(Place(Path(asked["root"])), asked["size"], asked["passes"])) + "\n")


if __name__ == "__main__":
    main()
