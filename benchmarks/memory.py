"""Memory of a whole tree of processes, as the sum of their proportional shares (PSS): shared pages count once."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

MB = 1 << 20


@dataclass
class Sample:
    """One look at the tree."""

    total: int = 0
    """Bytes."""
    kinds: dict[str, int] = field(default_factory=dict)
    """The same by kind of process: driver, workers, ray."""
    took_s: float = 0.0
    """How long looking took."""


def pss(pid: int) -> int:
    """Bytes of one process; 0 where it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def look(root: int) -> Sample:
    """The tree below a process, itself included."""
    started, sample = time.perf_counter(), Sample()
    with suppress(psutil.NoSuchProcess):
        top = psutil.Process(root)
        for process in [top, *top.children(recursive=True)]:
            size, kind = pss(process.pid), "driver" if process.pid == root else _kind(process)
            sample.total += size
            sample.kinds[kind] = sample.kinds.get(kind, 0) + size
    sample.took_s = time.perf_counter() - started
    return sample


def _kind(process: psutil.Process) -> str:
    """Actors and idle workers of Ray name themselves ray::…; everything else that runs is Ray's own."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        title = " ".join(process.cmdline()[:1])
        return "workers" if title.startswith("ray::") and "Agent" not in title else "ray"
    return "ray"


class Watcher:
    """Looks every ``every_s`` seconds in a thread, and remembers the largest sample."""

    def __init__(self, root: int, every_s: float = 0.25) -> None:
        """Of the tree below ``root``."""
        self.peak = Sample()
        self.samples = 0
        self._root, self._every_s = root, every_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.is_set():
            sample = look(self._root)
            self.samples += 1
            if sample.total > self.peak.total:
                self.peak = sample
            self._end.wait(self._every_s)
