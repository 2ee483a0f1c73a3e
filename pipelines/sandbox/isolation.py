"""How well strangers' programs can be shut in on this machine: tried out, not guessed."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pipelines.sandbox.bounds import Bounds
from pipelines.sandbox.command import Inside, Walls
from pipelines.sandbox.execute import execute
from swathe.errors import ConflictError

_PROBE = """
import json, os, sys
def refused(deed):
    try:
        deed()
    except OSError:
        return True
    return False
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
devices = [line.split(":")[0].strip() for line in open("/proc/net/dev").readlines()[2:]]
print(json.dumps({
    "secret": refused(lambda: open(sys.argv[1])),
    "network": devices in ([], ["lo"]) and len(open("/proc/net/route").readlines()) < 2,
    "writing": refused(lambda: open("/usr/swathe-probe", "w")) and refused(lambda: open("/swathe-probe", "w")),
    "processes": len([name for name in os.listdir("/proc") if name.isdigit()]) < 8,
    "output": not refused(lambda: open("probe.txt", "w").write("x")),
    "powers": int(status["CapEff"], 16) == 0 and os.getuid() != 0,
    "seccomp": status.get("Seccomp", "0").strip() == "2",
    "landlock": refused(lambda: os.symlink("/", "probe.link")),
}))
"""
_NEEDED = ("secret", "network", "writing", "processes", "output", "powers")


@dataclass(frozen=True, slots=True)
class Isolation:
    """What was found."""

    level: str
    """``full``: namespaces, seccomp and Landlock; ``namespaces``: a wall behind them is missing; ``none``."""
    walls: Walls | None
    """How to build it; None: it cannot be built."""
    detail: str
    """What stands, or why nothing does."""

    def as_dict(self) -> dict[str, str]:
        """For reports."""
        return {"level": self.level, "detail": self.detail}

    def required(self) -> Walls:
        """The walls. Raises ConflictError (``processor.isolation``): nothing of a stranger is ever run without."""
        if self.walls is None:
            raise ConflictError(f"this machine cannot shut a script in: {self.detail}", code="processor.isolation",
                                hint="install bubblewrap and let it make namespaces: docs/processors.md")  # fmt: skip
        return self.walls


@lru_cache(maxsize=1)
def isolation() -> Isolation:
    """Of this machine, tried once per process."""
    if shutil.which("bwrap", path=f"{os.defpath}:/usr/local/bin") is None:
        return Isolation("none", None, "bubblewrap (bwrap) is not installed")
    ways = ("root", "user") if os.geteuid() == 0 else ("user",)
    troubles = []
    for way in ways:
        found = probe(Walls(way))
        if found.walls is not None:
            return found
        troubles.append(f"{way}: {found.detail}")
    return Isolation("none", None, "; ".join(troubles))


def probe(walls: Walls) -> Isolation:
    """Build such a sandbox and look at it from inside."""
    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="swathe-probe-") as folder:
        secret, out, program = Path(folder) / secrets.token_hex(8), Path(folder) / "out", Path(folder) / "probe.py"
        out.mkdir()
        secret.write_text("secret")
        program.write_text(_PROBE)
        Path(folder).chmod(0o755)
        inside = Inside({"probe.py": program}, out, ("/in/probe.py", str(secret)), Bounds(seconds=60, memory_mb=1024))
        try:
            ended = execute(inside, walls, said.append, lambda: None)
            found = json.loads(ended.last)
        except (OSError, ValueError):
            return Isolation("none", None, " ".join(said)[-300:] or "bubblewrap does not start")
    missing = [name for name in _NEEDED if not found[name]]
    if missing:
        return Isolation("none", None, f"the sandbox leaks: {', '.join(missing)}")
    return _told(walls, found)


def _told(walls: Walls, found: dict[str, bool]) -> Isolation:
    told = ["namespaces by root, who becomes another user" if walls.way == "root" else "namespaces of a user"]
    told += [
        f"{name}" if found[key] else f"no {name}" for key, name in (("seccomp", "seccomp"), ("landlock", "Landlock"))
    ]
    level = "full" if found["seccomp"] and found["landlock"] else "namespaces"
    return Isolation(level, Walls(walls.way, seccomp=found["seccomp"], landlock=found["landlock"]), ", ".join(told))
