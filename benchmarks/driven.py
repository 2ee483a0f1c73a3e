"""A run in a process of its own with a Ray of its own, its memory watched from outside.

python -m benchmarks.driven '{"root": …, "size": …, "variant": …}' says ``idle`` once Ray has settled, waits for a line,
runs, and answers with one JSON line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.memory import MB, Sample, Watcher, look
from benchmarks.scenes import ROOT, Place

SETTLE_S = 6.0
"""From ray.init to the look at an idle Ray."""
CORES = 2


def drive(place: Place, size: int, variant: str) -> dict[str, Any]:
    """Run it and return what it took, with the memory of the whole tree."""
    asked = json.dumps({"root": str(place.root), "size": size, "variant": variant})
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.driven", asked],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        idle = min((look(process.pid) for _ in range(5)), key=lambda sample: sample.total)
        with Watcher(process.pid) as watcher:
            process.stdin.write("go\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
    return {**answer, **started, "memory": _told(idle, watcher)}


def _told(idle: Sample, watcher: Watcher) -> dict[str, Any]:
    peak = watcher.peak
    return {
        "idle_mb": idle.total / MB,
        "peak_mb": peak.total / MB,
        "beyond_idle_mb": (peak.total - idle.total) / MB,
        "idle_kinds_mb": {kind: size / MB for kind, size in idle.kinds.items()},
        "peak_kinds_mb": {kind: size / MB for kind, size in peak.kinds.items()},
        "samples": watcher.samples,
        "looking_s": watcher.spent_s,
    }


def main() -> None:
    """Entry point of the process; standard output belongs to the answers."""
    asked = json.loads(sys.argv[1])
    place = Place(Path(asked["root"]))
    with os.fdopen(os.dup(1), "w", buffering=1) as answers, tempfile.TemporaryDirectory() as data:
        os.dup2(2, 1)
        from cluster.local import ClusterSpec, connect

        clock = time.perf_counter()
        with connect(ClusterSpec(Path(data), cpus=CORES, gpus=0)) as session:
            ray_s = time.perf_counter() - clock
            time.sleep(SETTLE_S)
            answers.write(json.dumps({"ray_s": ray_s}) + "\n")
            sys.stdin.readline()
            answers.write(json.dumps(_run(place, session, asked)) + "\n")


def _run(place: Place, session: Any, asked: dict[str, Any]) -> dict[str, Any]:
    from benchmarks.measured import measured
    from benchmarks.warm import WarmRay
    from cluster.resources import layout

    card = place.card(asked["variant"])
    runner = WarmRay(layout(card.resources, session.nodes))
    return measured(card, asked["size"], place, runner).as_dict()


if __name__ == "__main__":
    main()
