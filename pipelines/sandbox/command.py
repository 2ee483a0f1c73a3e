"""A sandbox as a command line of bubblewrap: what can be seen inside, and nothing else."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipelines.sandbox import launch
from pipelines.sandbox.bounds import MIB, Bounds

PYTHON = sys.executable
"""The interpreter inside: this project's own, with its libraries."""
OUT = "/out"
"""The folder that can be written to, from inside; also where the program starts."""
IN = "/in"
"""Where what it is given lies."""
_LAUNCH = f"{IN}/.launch.py"
_GRACE_S = 5
"""Of processor time, for a program that wants to say something when it has had its share."""
_MORE = 8
"""Processes beyond the bound that the kernel allows: the watch sees that there are too many, and can say so."""
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
_OF_PYTHON = ("bin", "lib", "lib64", "include", "pyvenv.cfg")
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin", "HOME": "/tmp", "TMPDIR": "/tmp", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1",  # noqa: S108  paths inside
    "PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "4", "OMP_NUM_THREADS": "4", "GDAL_CACHEMAX": "128",
    "MPLCONFIGDIR": "/tmp", "NUMBA_CACHE_DIR": "/tmp",  # noqa: S108  paths inside
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Walls:
    """How a sandbox is built on this machine."""

    way: str
    """``user``: in a user namespace of its own; ``root``: by root, who then becomes nobody in particular."""
    seccomp: bool = True
    """Whether system calls are filtered."""
    landlock: bool = True
    """Whether Landlock is asked for, where the kernel has it."""


@dataclass(frozen=True, slots=True)
class Inside:
    """What is run, and what it may see."""

    given: Mapping[str, Path]
    """Name below ``/in``, in folders or not -> file of this machine, read-only."""
    out: Path
    """The folder that it sees as ``/out``."""
    arguments: Sequence[str]
    """Of the interpreter."""
    bounds: Bounds = field(default=Bounds())
    """What it may take."""


def command(inside: Inside, walls: Walls, uid: int | None, filter_fd: int | None) -> list[str]:
    """All of it; ``uid``: whom it runs as, where root builds it."""
    said = ["bwrap", "--die-with-parent", "--new-session", "--clearenv", *_namespaces(walls)]
    for name, value in _ENVIRONMENT.items():
        said += ["--setenv", name, value]
    said += ["--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp"):  # noqa: S108  paths inside
        said += ["--perms", "1777", "--size", str(inside.bounds.scratch_mb * MIB), "--tmpfs", folder]
    said += ["--perms", "0755", "--dir", IN, *_seen()]  # after /tmp, below which an interpreter may lie
    said += ["--ro-bind", launch.__file__, _LAUNCH]
    for folder in sorted({str(above) for name in inside.given for above in PurePosixPath(name).parents[:-1]}):
        said += ["--perms", "0755", "--dir", f"{IN}/{folder}"]  # else nobody but root could look into it
    for name, path in inside.given.items():
        said += ["--ro-bind", str(path), f"{IN}/{name}"]
    said += ["--bind", str(inside.out), OUT, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]
    if filter_fd is not None:
        said += ["--seccomp", str(filter_fd)]
    order = {
        "limits": _limits(inside.bounds), "uid": uid, "landlock": walls.landlock,
        "read": [*_SYSTEM, *_prefixes(), IN, "/proc", "/dev"], "write": [OUT, "/tmp", "/dev"],  # noqa: S108  inside
        "start": OUT, "run": [PYTHON, "-B", *inside.arguments],
    }  # fmt: skip
    return [*said, "--", PYTHON, "-I", "-B", "-S", _LAUNCH, json.dumps(order)]


def _namespaces(walls: Walls) -> list[str]:
    shared = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try",
              "--hostname", "sandbox"]  # fmt: skip
    if walls.way == "user":
        return [*shared, "--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534"]
    return [*shared, "--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]


def _seen() -> Iterator[str]:
    """The system and this project's interpreter, read-only."""
    for name in _SYSTEM:
        path = Path(name)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), name)
        elif path.exists():
            yield from ("--ro-bind", name, name)
    for name in sorted({str(p) for n in _prefixes() for p in Path(n).parents if p != Path("/")} - {"/tmp"}):  # noqa: S108
        yield from ("--perms", "0755", "--dir", name)
    for name in _prefixes():
        if Path(name).is_symlink():
            yield from ("--symlink", str(Path(name).readlink()), name)
        else:
            yield from ("--ro-bind", name, name)


def _prefixes() -> list[str]:
    """Of the interpreter's folders only its libraries: beside them may lie anything."""
    roots = {sys.prefix, sys.base_prefix, *(str(Path(p).parent.parent) for p in _links(Path(PYTHON)))}
    outside = sorted(root for root in roots if not root.startswith("/usr/") and root != "/usr")
    found = (f"{root}/{name}" for root in outside for name in _OF_PYTHON)
    return [name for name in found if os.path.lexists(name)]


def _links(path: Path) -> Iterator[Path]:
    """An interpreter and all that it is a link to."""
    yield path
    while path.is_symlink():
        path = Path(os.path.normpath(path.parent / path.readlink()))
        yield path


def _limits(bounds: Bounds) -> dict[str, tuple[int, int]]:
    """Soft and hard. Of processor time the hard one is later: SIGXCPU, which says why, comes at the soft one."""
    same = {
        "AS": bounds.memory_mb * MIB, "FSIZE": bounds.output_mb * MIB, "CORE": 0, "NPROC": bounds.processes + _MORE,
        "NOFILE": bounds.open_files, "MSGQUEUE": 0, "MEMLOCK": 0,
    }  # fmt: skip
    return {"CPU": (bounds.cpu_s, bounds.cpu_s + _GRACE_S)} | {name: (most, most) for name, most in same.items()}
