"""What this machine has: cores, memory, GPUs, shared memory. Read from the kernel, so that nothing heavy is loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  where Ray's object store lives, not a scratch file of ours
_SLOW_DRIVER_S = 20
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA GPU, as its driver describes it."""

    name: str
    """Product name."""
    memory: int
    """Bytes."""
    driver: str
    """Driver version."""


def cores(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores this process may use: the affinity mask, cut down by a container's CPU quota (at least 1)."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(root)
    return mine if quota is None else max(1, min(mine, int(quota)))


def memory(root: Path = Path("/sys/fs/cgroup")) -> tuple[int, int]:
    """Bytes of memory, (total, available), within a container's limit."""
    seen = psutil.virtual_memory()
    limit = _first_number(root / "memory.max", root / "memory/memory.limit_in_bytes")
    if limit is None or limit >= min(seen.total, _NO_LIMIT):
        return seen.total, seen.available
    used = _first_number(root / "memory.current", root / "memory/memory.usage_in_bytes") or 0
    return limit, max(0, min(limit - used, seen.available))


def shared_memory() -> tuple[int, int] | None:
    """Bytes of /dev/shm, (total, free); None where there is none (macOS, Windows)."""
    return space(SHARED_MEMORY) if SHARED_MEMORY.is_dir() else None


def space(folder: Path) -> tuple[int, int]:
    """Bytes of the disk that holds ``folder`` (or its nearest existing parent), (total, free for us)."""
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    found = shutil.disk_usage(there)
    return found.total, found.free


def gpus() -> tuple[Gpu, ...]:
    """NVIDIA GPUs by ``nvidia-smi``; none where the driver is missing or silent."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=_SLOW_DRIVER_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(g for g in map(parse_gpu, answer.stdout.splitlines()) if g is not None)


def parse_gpu(line: str) -> Gpu | None:
    """``name, memory in MiB, driver`` of one GPU; None for a line that is none (warnings, MIG notes)."""
    parts = [p.strip() for p in line.rsplit(",", 2)]
    if len(parts) != len(("name", "memory", "driver")) or not parts[1].isdigit():
        return None
    return Gpu(parts[0], int(parts[1]) << 20, parts[2])


def _quota(root: Path) -> float | None:
    """Cores a container may use: cgroup v2 ``cpu.max``, then v1; None: no limit."""
    try:
        allowed, period = (root / "cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        allowed = str(_first_number(root / "cpu/cpu.cfs_quota_us") or "max")
        period = str(_first_number(root / "cpu/cpu.cfs_period_us") or 0)
    if not allowed.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(allowed) / int(period)


def _first_number(*files: Path) -> int | None:
    for file in files:
        try:
            return int(file.read_text())
        except (OSError, ValueError):
            continue
    return None
