"""How fast the service answers: a warm prediction against its forward alone and a cold ``terratorch predict``.

    python -m benchmarks.service OUT [--rounds 5] [--no-cold] [--users 16 --seconds 120] [--listeners 200]

All of it on one machine, interleaved in shuffled rounds. OUT keeps what was made (network, service, scene) and gets
``service.json``. The service is brought up by `swathe up -d` and taken down at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import httpx2
import numpy as np
import rasterio
import yaml
from rasterio.windows import Window

from benchmarks.cold import written
from benchmarks.crowd import Mix, crowd, listeners
from benchmarks.pool import scene as large_scene
from benchmarks.rounds import Spread, shuffled
from benchmarks.scenes import CARD, ROOT, Place
from cluster import reach
from swathe.card import ModelCard

SIDE = 512
NAME = "bench-tiny"
"""The network of the benchmarks under another id: the shipped card's has no weights."""


@dataclass(frozen=True)
class Made:
    """What is measured on."""

    root: Path
    chip: Path
    """A chip of SIDE x SIDE, six bands."""
    card: ModelCard
    checkpoint: Path

    @property
    def cards(self) -> Path:
        """Folder of the card."""
        return self.root / "service-cards"


def made(root: Path) -> Made:
    """Network, card and chip."""
    place = Place(root)
    place.prepare(20, 1024)
    chips = root / "chips"
    chips.mkdir(exist_ok=True)
    _cut(place.scene(1024).post, chips / "chip.tif")
    cards = root / "service-cards"
    cards.mkdir(exist_ok=True)
    document = yaml.safe_load((place.cards / f"{CARD}.yaml").read_text())
    checkpoint = place.cards / f"{CARD}.ckpt"
    document |= {"id": NAME, "weights": {"uri": checkpoint.resolve().as_uri()}}
    (cards / f"{NAME}.yaml").write_text(yaml.safe_dump(document))
    from models.registry import load_cards

    return Made(root, chips / "chip.tif", load_cards((cards,))[NAME], checkpoint)


def _cut(scene: Path, chip: Path) -> None:
    window = Window(0, 0, SIDE, SIDE)  # pyright: ignore[reportCallIssue]
    with rasterio.open(scene) as source:
        profile: dict[str, Any] = dict(source.profile) | {"width": SIDE, "height": SIDE, "compress": "none"}
        with rasterio.open(chip, "w", **profile) as target:
            target.write(source.read(window=window))
            target.descriptions, target.scales, target.offsets = source.descriptions, source.scales, source.offsets


@dataclass(frozen=True)
class Up:
    """A service that has the network warm."""

    client: httpx2.Client
    """Of its first user, who may ask as often as the benchmark needs."""
    keys: list[str]
    """Of as many other users."""

    @property
    def url(self) -> str:
        """Its address."""
        return str(self.client.base_url)


@contextmanager
def service(made_: Made, users: int) -> Iterator[Up]:
    """One that is taken down at the end, with the limits as they are shipped."""
    limits = yaml.safe_load((ROOT / "configs" / "service.yaml").read_text())
    config = made_.root / "service.yaml"
    config.write_text(yaml.safe_dump(limits | {"models": ["water-*", NAME]}))
    env = os.environ | {"SWATHE_DATA_DIR": str(made_.root / "service"), "SWATHE_MODELS_DIR": str(made_.cards),
                        "SWATHE_SERVICE_CONFIG": str(config), "SWATHE_LOCAL_ROOTS": str(made_.root)}  # fmt: skip
    swathe = [sys.executable, "-m", "swathe.command"]
    _run([*swathe, "up", "-d", "--json", "--port", str(reach.free_port())], env)
    try:
        up = json.loads((made_.root / "service" / "service" / "up.json").read_text())
        create = [*swathe, "keys", "create", "--json", "--user"]
        keys = [json.loads(_run([*create, f"bench{n}@localhost"], env))["key"] for n in range(users + 1)]
        with httpx2.Client(base_url=up["url"], headers={"X-API-Key": keys[0]}, timeout=300) as client:
            while client.get(f"/api/models/{NAME}").json()["state"] != "ready":
                time.sleep(1)
            yield Up(client, keys[1:])
    finally:
        _run([*swathe, "down"], env)


def _run(command: list[str], env: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


# --- one prediction ---------------------------------------------------------------------------------------------------


def forward(made_: Made, home: Path) -> Callable[[], float]:
    """The chip's own tiles through the same artefact, as often as the service runs it; nothing else."""
    from models.load import load
    from models.weights import ModelHome
    from swathe.lattice import Lattice
    from swathe.window import Window as Pixels

    eats = made_.card.input
    tiles = Lattice.of_file(eats.chip, eats.overlap, (SIDE, SIDE)).count_over(Pixels(0, 0, SIDE, SIDE))
    predict = load(made_.card, ModelHome(home, offline=True), 1, batch=1)
    tile = np.random.default_rng(0).normal(size=(1, 1, len(eats.bands), eats.chip, eats.chip)).astype(np.float32)

    def seconds() -> float:
        started = time.perf_counter()
        for _ in range(tiles):
            predict(tile)
        return time.perf_counter() - started

    return seconds


def request(client: httpx2.Client, body: bytes, model: str = NAME) -> Callable[[], float]:
    """A prediction through REST."""

    def seconds() -> float:
        started = time.perf_counter()
        answer = client.post(f"/api/predict?model={model}", content=body, headers={"Content-Type": "image/tiff"})
        took = time.perf_counter() - started
        answer.raise_for_status()
        return took

    return seconds


def asked(client: httpx2.Client, path: str) -> Callable[[], float]:
    """A question that needs no pixel: proxy, key, rates, store."""

    def seconds() -> float:
        started = time.perf_counter()
        client.get(path).raise_for_status()
        return time.perf_counter() - started

    return seconds


def in_rounds(calls: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each once per round, in shuffled order; the first round warms up and does not count."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name in shuffled(list(calls), number):
            took = calls[name]()
            if number:
                found[name].append(took)
    return found


def prediction(client: httpx2.Client, made_: Made, rounds: int, *, cold: bool) -> dict[str, Any]:
    """Warm REST, the forward alone, and ``terratorch predict``: each once per round."""
    body = made_.chip.read_bytes()
    calls = {"rest": request(client, body), "forward": forward(made_, made_.root / "service" / "models")}
    if cold:
        calls["cold"] = written(made_.card, made_.checkpoint, made_.chip.parent, made_.root / "cold").seconds
    found = in_rounds(calls, rounds)
    return {
        "seconds": {name: asdict(Spread.of(values)) for name, values in found.items()},
        "over_forward": _ratio(found["rest"], found["forward"]),
        "faster_than_cold": _ratio(found["cold"], found["rest"]) if cold else None,
    }


def _ratio(some: list[float], others: list[float]) -> list[float]:
    """Median, least and most, round by round."""
    spread = Spread.of([one / other for one, other in zip(some, others, strict=True)])
    return [round(value, 3) for value in (spread.middle, spread.low, spread.high)]


def overhead(client: httpx2.Client, rounds: int = 60) -> dict[str, Any]:
    """Milliseconds of what is no prediction."""
    calls = {"livez": asked(client, "/health/livez"), "me": asked(client, "/api/me"),
             "jobs": asked(client, "/api/jobs?limit=10")}  # fmt: skip
    found = in_rounds(calls, rounds)
    return {
        name: {"p50": _ms(median(values)), "p99": _ms(quantiles(values, n=100)[-1])} for name, values in found.items()
    }


# --- a large run, and many users -------------------------------------------------------------------------------------


def large(client: httpx2.Client, image: Path, rounds: int) -> dict[str, Any]:
    """Seconds of a weight-free run of 25 Mpx, from the request as its client sees it; the first one warms up.

    *First pixels*: the event of the first chunk has arrived. *Cost*: all of it, less its own chunks and products.
    """
    found = [_large(client, image) for _ in range(rounds + 1)][1:]
    return {name: asdict(Spread.of([one[name] for one in found])) for name in found[0]}


def _large(client: httpx2.Client, image: Path) -> dict[str, float]:
    started, first = time.perf_counter(), 0.0
    answer = client.post("/api/jobs", json={"model": "water-ndwi", "inputs": [str(image)]})
    answer.raise_for_status()
    accepted, job = time.perf_counter(), answer.json()["id"]
    with client.stream("GET", f"/api/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as events:
        for line in events.iter_lines():
            if line == "event: chunk" and not first:
                first = time.perf_counter()
    ended = time.perf_counter()
    report = client.get(f"/api/jobs/{job}/files/report.json").raise_for_status().json()
    own = sum(report["seconds"].get(stage, 0.0) for stage in ("fit", "chunks", "products", "preview"))
    return {"accepted": accepted - started, "first_pixels": first - started, "all": ended - started,
            "cost": ended - started - own}  # fmt: skip


def mix_of(made_: Made) -> Mix:
    """Chips of three sizes, a scene of a megapixel, a network and a method without weights."""
    scene = Place(made_.root).scene(1024).post
    return Mix([_part(made_.chip, side) for side in (128, 256, SIDE)], scene, (NAME, "water-ndwi"))


def _part(chip: Path, side: int) -> bytes:
    part = chip.parent.parent / f"part-{side}.tif"
    with rasterio.open(chip) as source:
        profile: dict[str, Any] = dict(source.profile) | {"width": side, "height": side}
        with rasterio.open(part, "w", **profile) as target:
            target.write(source.read(window=Window(0, 0, side, side)))  # pyright: ignore[reportCallIssue]
            target.descriptions, target.scales, target.offsets = source.descriptions, source.scales, source.offsets
    return part.read_bytes()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


@contextmanager
def waited(what: str) -> Iterator[None]:
    """Say on the terminal what is measured."""
    started = time.monotonic()
    yield
    print(f"  {what}: {time.monotonic() - started:.0f} s", flush=True)


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-cold", action="store_true", help="without terratorch predict")
    parser.add_argument("--users", type=int, default=16)
    parser.add_argument(
        "--seconds",
        type=float,
        default=120.0,
        help="of the crowd in each round, half as many of one user alone; 0: none",
    )
    parser.add_argument("--listeners", type=int, default=200)
    given = parser.parse_args()
    made_ = made(given.out.resolve())
    image = large_scene(made_.root / "large.tif")
    with service(made_, given.users) as up:
        found: dict[str, Any] = {}
        with waited("one prediction"):
            found["prediction"] = prediction(up.client, made_, given.rounds, cold=not given.no_cold)
        with waited("questions"):
            found["overhead_ms"] = overhead(up.client)
        with waited("a large run"):
            found["large_s"] = large(up.client, image, given.rounds)
        with waited("listeners"):
            found["listeners"] = listeners(up.url, up.keys[0], image, "water-ndwi", given.listeners)
        if given.seconds:
            with waited("a crowd"):
                found["crowd"] = crowd(up.url, up.keys, mix_of(made_), given.seconds, given.rounds)
    (given.out / "service.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
