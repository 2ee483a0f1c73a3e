"""Nobody reaches an SQLite database for a while: no writer, and no reader either.

A lock that SQL can ask for keeps writers away alone, since in WAL mode readers go on beside it. Here all locks of the
WAL index are held, as its file format places them: https://www.sqlite.org/walformat.html#wal_locks. That takes a
process of its own: locks of POSIX belong to processes, and one that uses the database would lose its own with the file.

``python -m tests.serve.chaos.cutting DATABASE`` holds them from the line that it writes until its input ends.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_FIRST, _COUNT = 120, 8
"""Bytes of the index: the writer's lock, those of checkpoint and recovery, five of readers."""


@contextmanager
def cut(database: Path) -> Iterator[None]:
    """Inside, whoever asks gets an error after SQLite's patience of ten seconds. Transactions under way end first."""
    program = [sys.executable, "-m", "tests.serve.chaos.cutting", str(database)]
    with subprocess.Popen(program, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError(f"{database} is not in use: it cannot be cut off")
        try:
            yield
        finally:
            process.stdin.close()


def main(database: str) -> None:
    """Take one lock after the other: whoever holds one of them and wants another gives up in the end, and lets go."""
    with Path(f"{database}-shm").open("r+b") as index:
        for byte in range(_FIRST, _FIRST + _COUNT):
            fcntl.lockf(index, fcntl.LOCK_EX, 1, byte)
        sys.stdout.write("held\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1])
