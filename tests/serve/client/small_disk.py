"""A whole service on a disk of its own, which is small: really full where it is said to be, with no rights needed.

``unshare --map-root-user --mount python -m tests.serve.client.small_disk FOLDER [DATABASE]``. It says in a line of JSON
where it listens, takes one word a line, and answers each with a line when it is done.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from serve import passing
from serve.settings import ServiceSettings
from tests.serve.client.conftest import up

_SIZE, _INODES, _PAGE = "24m", 3000, 4096


def full(disk: Path) -> None:
    """To the last page."""
    with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(_PAGE))


def crowded(disk: Path) -> None:
    """There is room for bytes, and for no further file."""
    (disk / "crowd").mkdir()
    with suppress(OSError):
        for n in itertools.count():
            (disk / "crowd" / str(n)).touch()


def free(disk: Path) -> None:
    """As before."""
    (disk / "ballast").unlink(missing_ok=True)
    shutil.rmtree(disk / "crowd", ignore_errors=True)


WORDS = {"full": full, "crowded": crowded, "free": free}


def main(folder: str, database: str = "") -> None:
    """Until the lines end."""
    disk, answers = Path(folder), os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout = sys.stderr  # where jobs write their log
    passing._ROOM_S = 0.5
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_SIZE},nr_inodes={_INODES}", "tmpfs", disk], check=True)
    tempfile.tempdir = str(disk)
    with up(ServiceSettings.read(data_dir=disk / "data", database_url=database)) as house:
        answers.write(json.dumps({"url": house.url, "key": house.person()[1]}) + "\n")
        for line in sys.stdin:
            WORDS[line.strip()](disk)
            answers.write("done\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
