"""What the processes of a sandbox hold: memory, what lies in their folder, and files there that have no name any more.

All of it is read from outside, of programs that would rather not be looked at.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.sandbox.bounds import MIB

_GONE = (FileNotFoundError, NotADirectoryError, ProcessLookupError)
_CLOSED = (*_GONE, PermissionError) if os.geteuid() == 0 else _GONE
"""Root is kept from looking only where it lacks CAP_SYS_PTRACE, at all of them; others are where a program hides."""
_PAGE = mmap.PAGESIZE
_DELETED = b" (deleted)"


def in_folder(folder: Path, most: int) -> tuple[int, int]:
    """Bytes and number of what lies below it; past ``most`` files and folders no more is counted.

    Raises OSError: something there cannot be looked at, because its folder is closed to us, or too deep.
    """
    waiting, size, count = [str(folder)], 0, 0  # no recursion: a program may nest folders deeper than ours goes
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    count += 1
                    if count > most:
                        return size, count
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        size += _size(entry.path)
        except _GONE:  # removed in between
            continue
    return size, count


def _size(path: str) -> int:
    """On the disk, or as it claims: a file of holes is as large as it says."""
    try:
        found = Path(path).lstat()
    except _GONE:
        return 0
    return max(found.st_size, found.st_blocks * 512)


@dataclass(frozen=True, slots=True)
class Device:
    """Where the files of a folder lie, as the kernel names it in two places that do not always agree (overlayfs)."""

    stat: int
    """``st_dev`` of a file."""
    maps: bytes
    """``major:minor`` in ``/proc/…/maps``."""

    @classmethod
    def of(cls, folder: Path) -> Device:
        """Tried out with a file there that has no name. Raises OSError."""
        with tempfile.TemporaryFile(dir=folder) as file:
            file.truncate(_PAGE)
            with mmap.mmap(file.fileno(), _PAGE) as mapped:
                first = ctypes.c_char.from_buffer(mapped)
                begin = b"%x-" % ctypes.addressof(first)
                del first  # it keeps the mapping from being closed
                lines = Path("/proc/self/maps").read_bytes().splitlines()
            found = next((line.split()[3] for line in lines if line.lstrip(b"0").startswith(begin)), b"")
            return cls(os.fstat(file.fileno()).st_dev, found)


def nameless(pids: Iterable[int], device: Device) -> int:
    """Bytes of files of that device which are in no folder, and on the disk for as long as somebody holds them.

    Raises PermissionError: a process does not let itself be looked at, or has mapped such a file and closed it, so that
    nothing tells its size.
    """
    sizes: dict[int, int] = {}
    mapped: set[int] = set()
    for pid in pids:
        threads = [task for task in tasks(pid) if not _over(task)]
        for task in threads:  # each may have descriptors of its own, and the first may be gone
            sizes |= _open(task, device)
        for task in threads:
            if (found := _mapped(task, device)) is not None:
                mapped |= found
                break
    if mapped - set(sizes):
        raise PermissionError("a file without a name is mapped, and nothing else tells of it")
    return sum(sizes.values())


def tasks(pid: int) -> list[Path]:
    """Folders of its threads below ``/proc``."""
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except _GONE:
        return []


def _over(task: Path) -> bool:
    """Whether it has ended and waits for its parent: it holds nothing, and is closed to all but root."""
    try:
        return (task / "stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"
    except (*_GONE, IndexError):
        return True


def _open(task: Path, device: Device) -> dict[int, int]:
    found = {}
    for path in _descriptors(task):
        try:
            one = path.stat()
        except _CLOSED:
            continue
        if one.st_nlink == 0 and one.st_dev == device.stat and stat.S_ISREG(one.st_mode):
            found[one.st_ino] = max(one.st_size, one.st_blocks * 512)
    return found


def _descriptors(task: Path) -> Iterator[Path]:
    try:
        yield from (task / "fd").iterdir()
    except _CLOSED:
        return


def _mapped(task: Path, device: Device) -> set[int] | None:
    """Inodes; None: this thread is over, and has no memory to look at."""
    try:
        lines = (task / "maps").read_bytes().splitlines()
    except _CLOSED:
        return None
    parts = [line.split(maxsplit=5) for line in lines if line.endswith(_DELETED)]
    return {int(part[4]) for part in parts if part[3] == device.maps} if lines else None


def resident_mb(pid: int) -> float:
    """Memory of a process, its share of what it shares included, where that can be read."""
    for task in tasks(pid):  # the first thread may be over while others run: then it tells of no memory
        if found := _share_mb(task) or _pages_mb(task):
            return found
    return 0.0


def _share_mb(task: Path) -> float:
    try:
        with (task / "smaps_rollup").open() as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
    except (OSError, StopIteration, ValueError):
        return 0.0


def _pages_mb(task: Path) -> float:
    try:
        return int((task / "statm").read_text().split()[1]) * _PAGE / MIB
    except (OSError, IndexError, ValueError):
        return 0.0
