"""A keeper whose data lies on a small disk, which is full while Ray dies; says in a line of JSON how that went.

``unshare --map-root-user --mount python -m tests.serve.deployments.small_disk FOLDER``
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from cluster import head, reach
from serve.deployments import record
from serve.deployments.keeper import Keeper, KeepSpec

PATIENCE_S, _PAGE = 300, 4096


class Heard(logging.Handler):
    """Lines of the keeper."""

    def __init__(self) -> None:
        """None yet."""
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.lines.append(record.getMessage())


def fill(disk: Path) -> None:
    """To the last page; again where somebody has let go of some."""
    with suppress(OSError), (disk / "ballast").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(_PAGE))


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Full all the while, whatever is removed meanwhile."""
    end = threading.Event()

    def work() -> None:
        while not end.wait(0.05):
            fill(disk)

    filler = threading.Thread(target=work)
    fill(disk)
    filler.start()
    try:
        yield
    finally:
        end.set()
        filler.join()
        (disk / "ballast").unlink()


def until(look: Callable[[], object]) -> None:
    """Or an AssertionError."""
    limit = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < limit
        time.sleep(0.2)


def family() -> list[psutil.Process]:
    """Processes that descend from this one and run."""
    return [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


def main(folder: str) -> None:
    """The whole story."""
    disk = Path(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", disk], check=True)
    data = disk / "data"
    ready, heard = threading.Event(), Heard()
    logging.getLogger("swathe.keeper").addHandler(heard)
    told = {"SWATHE_DATA_DIR": str(data)}
    keeper = Keeper(KeepSpec(data, port=reach.free_port(), cpus=2, gpus=0, environment=told), lambda _: ready.set())
    thread = threading.Thread(target=keeper.run)
    thread.start()
    until(lambda: ready.is_set() or not thread.is_alive())
    first = head.recorded(record.folder_of(data))
    assert first is not None
    with filled(disk):
        psutil.Process(first.pid).kill()
        until(lambda: any("output.full" in line for line in heard.lines) or not thread.is_alive())
        time.sleep(10)
        alive, beside = thread.is_alive(), len(family())
    if alive:
        until(lambda: reach.get_json(f"{keeper.spec.url}/health/readyz")[0] == 200)
        until(lambda: (known := record.read(data)) and known.restarts == 1)
    keeper.stop()
    thread.join()
    print(json.dumps({"alive": alive, "beside": beside, "left": len(family()), "lines": heard.lines}))


if __name__ == "__main__":
    main(sys.argv[1])
