"""Memory of a whole tree of processes, as the sum of their proportional shares (PSS): shared pages count once."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psutil

MB = 1 << 20
GROWN = 1.005
"""Growth of resident memory that is worth a closer look."""
CLOSER_S = 5.0
"""There is one at least so often: processes that are new have to be found."""
_PAGE = resource.getpagesize()


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


def tree(root: int) -> list[int]:
    """Ids of a process and all below it."""
    with suppress(psutil.NoSuchProcess):
        return [root, *(process.pid for process in psutil.Process(root).children(recursive=True))]
    return []


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


def resident(pids: Sequence[int]) -> int:
    """Bytes that processes have in memory, shared pages counted in each: says little, but costs nothing to ask."""
    pages = 0
    for pid in pids:
        with suppress(OSError, IndexError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * _PAGE


class Watcher:
    """Remembers the largest sample of a tree.

    Looking closely takes tens of milliseconds, as the kernel walks all page tables. So resident memory is asked four
    times a second, and only where it grows, or after five seconds, is there a closer look.
    """

    def __init__(self, root: int, every_s: float = 0.25) -> None:
        """Of the tree below ``root``."""
        self.peak = Sample()
        self.samples = 0
        self.spent_s = 0.0
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
        pids, most, seen = tree(self._root), 0, 0.0
        while not self._end.wait(self._every_s):
            held = resident(pids)
            if held > most * GROWN or time.monotonic() - seen > CLOSER_S:
                most, seen, pids = max(most, held), time.monotonic(), tree(self._root)
                self._keep(look(self._root))

    def _keep(self, sample: Sample) -> None:
        self.samples += 1
        self.spent_s += sample.took_s
        if sample.total > self.peak.total:
            self.peak = sample
