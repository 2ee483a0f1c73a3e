"""A program, run in the sandbox and watched until it ends: by itself, by its bounds, or because it is to stop."""

from __future__ import annotations

import os
import platform
import secrets
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

import psutil

from cluster.processes import outlived
from pipelines.sandbox import filter as walls_filter
from pipelines.sandbox.bounds import MIB, Bounds
from pipelines.sandbox.command import Inside, Walls, command
from pipelines.sandbox.holdings import Device, in_folder, nameless, resident_mb, tasks

_LOOK_S = 0.1
"""Between two looks at memory and output."""
_UIDS = range(61184, 65520)
"""From which nobody in particular is drawn: what systemd gives to passing services."""
_OURS = 2
"""Processes of bubblewrap itself."""
_UNSEEN = 2
"""Looks in a row at which its files may not be countable: what is looked at goes on meanwhile."""
_LAST = 1 << 16
"""Bytes of standard output that are remembered."""
_LINE = 4096
"""Bytes after which a line is broken."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How it ended."""

    code: int
    """Its exit code; 128 + n: by signal n."""
    stopped: str = ""
    """Which bound it was stopped at: ``time``, ``memory``, ``output``, ``files``, ``said``,
    ``processes``; empty: none."""
    last: str = ""
    """The end of its standard output."""
    seconds: float = 0.0
    """From start to end."""
    peak_mb: float = 0.0
    """Resident memory of all its processes together, as far as it was seen."""


def execute(inside: Inside, walls: Walls, say: Callable[[str], None], check: Callable[[], None]) -> Ended:
    """Run it. ``say`` gets its lines, ``check`` raises where it is to stop; no process of it is left behind."""
    device = Device.of(inside.out)
    uid = secrets.choice(_UIDS) if walls.way == "root" else None
    if uid is not None:
        os.chown(inside.out, uid, uid)
    started = time.monotonic()
    process = _started(inside, walls, uid)
    ears = _Ears(process, inside.bounds, say)
    watch = _Watch(process, inside, ears, device)
    try:
        stopped = watch.until_end(check)
    finally:
        watch.end()
        ears.join()
    return Ended(_code(process), stopped, ears.last, round(time.monotonic() - started, 3), round(watch.peak_mb, 1))


def _started(inside: Inside, walls: Walls, uid: int | None) -> subprocess.Popen[bytes]:
    program = walls_filter.program(platform.machine()) if walls.seccomp else None
    passed = None if program is None else _as_file(program)
    # Options by a file: a command line can be read inside, and names folders of this machine.
    said = command(inside, walls, uid, passed)
    end = said.index("--")
    options, run = said[1:end], said[end + 1 :]
    told = _as_file(b"\0".join(os.fsencode(option) for option in options) + b"\0")
    given = [told] if passed is None else [told, passed]
    try:
        return subprocess.Popen(
            ["bwrap", "--args", str(told), "--", *run], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={"PATH": os.defpath}, pass_fds=given,
            executable=shutil.which("bwrap", path=f"{os.defpath}:/usr/local/bin"), cwd="/",
        )  # fmt: skip
    finally:
        for descriptor in given:
            os.close(descriptor)


def _as_file(content: bytes) -> int:
    """A file descriptor to read it from."""
    descriptor = os.memfd_create("seccomp")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _code(process: subprocess.Popen[bytes]) -> int:
    code = process.returncode
    return 128 - code if code < 0 else code


class _Ears:
    """Both streams, line by line; more than the bound is counted and thrown away."""

    def __init__(self, process: subprocess.Popen[bytes], bounds: Bounds, say: Callable[[str], None]) -> None:
        self.said = 0
        self._most, self._say = bounds.said_mb * MIB, say
        self._last: deque[bytes] = deque()
        self._held = 0
        self._lock = threading.Lock()
        streams = [(process.stdout, True), (process.stderr, False)]
        self._threads = [threading.Thread(target=self._listen, args=one, daemon=True) for one in streams]
        for thread in self._threads:
            thread.start()

    @property
    def flooded(self) -> bool:
        return self.said > self._most

    @property
    def last(self) -> str:
        return b"".join(self._last).decode(errors="replace")

    def join(self) -> None:
        for thread in self._threads:
            thread.join(timeout=5)

    def _listen(self, stream: IO[bytes], remembered: bool) -> None:
        with stream:
            while line := stream.readline(_LINE):
                with self._lock:
                    self.said += len(line)
                    if self.flooded:
                        continue
                    if remembered:
                        self._remember(line)
                    self._say(line.decode(errors="replace").rstrip("\r\n"))

    def _remember(self, line: bytes) -> None:
        self._last.append(line)
        self._held += len(line)
        while self._held > _LAST and len(self._last) > 1:
            self._held -= len(self._last.popleft())


class _Watch:
    """Time, memory and output, looked at as long as it runs."""

    def __init__(self, process: subprocess.Popen[bytes], inside: Inside, ears: _Ears, device: Device) -> None:
        self.peak_mb = 0.0
        self._process, self._inside, self._ears = process, inside, ears
        self._until = time.monotonic() + inside.bounds.seconds
        self._seen: dict[int, psutil.Process] = {}
        self._device = device
        self._unseen = 0

    def until_end(self, check: Callable[[], None]) -> str:
        """Why it was stopped; empty: it ended by itself."""
        while self._process.poll() is None:
            check()
            over = self._over()
            if over:
                return over
            self._wait()
        return self._beyond() or ("said" if self._ears.flooded else "")

    def end(self) -> None:
        """With bubblewrap the first process of its PID namespace goes, and with that all others."""
        family = [*self._family(), *self._seen.values()]
        self._process.kill()
        self._process.wait()
        outlived(family, 5)

    def _wait(self) -> None:
        try:
            self._process.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            return

    def _over(self) -> str:
        if time.monotonic() > self._until:
            return "time"
        if self._ears.flooded:
            return "said"
        family = self._family()
        if sum(len(tasks(one.pid)) for one in family) > self._inside.bounds.processes + _OURS:
            return "processes"
        self.peak_mb = max(self.peak_mb, sum(resident_mb(one.pid) for one in family))
        if self.peak_mb > self._inside.bounds.memory_mb:
            return "memory"
        return self._beyond(family)

    def _family(self) -> list[psutil.Process]:
        try:
            found = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.Error:
            return []
        self._seen |= {one.pid: one for one in found}
        return found

    def _beyond(self, family: Sequence[psutil.Process] = ()) -> str:
        """Whether the output folder holds more than it may, or what cannot be counted."""
        bounds = self._inside.bounds
        try:
            size, count = in_folder(self._inside.out, bounds.files)
        except OSError:
            return "files"
        if count > bounds.files:
            return "files"
        try:
            size += nameless([one.pid for one in family], self._device)
            self._unseen = 0
        except OSError:
            self._unseen += 1
            if self._unseen > _UNSEEN:
                return "files"
        return "output" if size > bounds.output_mb * MIB else ""
