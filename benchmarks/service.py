"""How fast the service answers: a warm prediction against its forward alone and a cold ``terratorch predict``.

    python -m benchmarks.service OUT [--rounds 5] [--cold 1] [--clients 16 --seconds 120]

All of it on one machine, interleaved in shuffled rounds. OUT keeps what was made (network, service, scene) and gets
``service.json``. The service is brought up by `swathe up -d` and taken down at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
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

from benchmarks.cold import Cold, written
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


@contextmanager
def service(made_: Made) -> Iterator[httpx2.Client]:
    """A client of a service that has the network warm."""
    limits = yaml.safe_load((ROOT / "configs" / "service.yaml").read_text())
    config = made_.root / "service.yaml"
    config.write_text(yaml.safe_dump(limits | {"models": ["water-*", NAME], "rate_per_minute": 1_000_000,
                                               "predict_rate_per_minute": 1_000_000}))  # fmt: skip
    env = os.environ | {"SWATHE_DATA_DIR": str(made_.root / "service"), "SWATHE_MODELS_DIR": str(made_.cards),
                        "SWATHE_SERVICE_CONFIG": str(config)}  # fmt: skip
    swathe = [sys.executable, "-m", "swathe.command"]
    _run([*swathe, "up", "-d", "--json", "--port", str(reach.free_port())], env)
    try:
        up = json.loads((made_.root / "service" / "service" / "up.json").read_text())
        key = json.loads(_run([*swathe, "keys", "create", "--user", "bench@localhost", "--json"], env))["key"]
        with httpx2.Client(base_url=up["url"], headers={"X-API-Key": key}, timeout=300) as client:
            while client.get(f"/api/models/{NAME}").json()["state"] != "ready":
                time.sleep(1)
            yield client
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


def prediction(client: httpx2.Client, made_: Made, rounds: int, cold: int) -> dict[str, Any]:
    """Warm REST, the forward alone, and ``terratorch predict``."""
    body = made_.chip.read_bytes()
    calls = {"rest": request(client, body), "forward": forward(made_, made_.root / "service" / "models")}
    found = in_rounds(calls, rounds)
    cold_s = _cold(made_, cold)
    middle = {name: median(values) for name, values in found.items()}
    return {
        "seconds": {name: asdict(Spread.of(values)) for name, values in found.items()},
        "cold_terratorch_s": cold_s,
        "over_forward": round(median(r / f for r, f in zip(found["rest"], found["forward"], strict=True)), 3),
        "faster_than_cold": round(median(cold_s) / middle["rest"], 1) if cold_s else None,
    }


def _cold(made_: Made, times: int) -> list[float]:
    if not times:
        return []
    once: Cold = written(made_.card, made_.checkpoint, made_.chip.parent, made_.root / "cold")
    return [round(once.seconds(), 2) for _ in range(times)]


def overhead(client: httpx2.Client, rounds: int = 60) -> dict[str, Any]:
    """Milliseconds of what is no prediction."""
    calls = {"livez": asked(client, "/health/livez"), "me": asked(client, "/api/me"),
             "jobs": asked(client, "/api/jobs?limit=10")}  # fmt: skip
    found = in_rounds(calls, rounds)
    return {
        name: {"p50": _ms(median(values)), "p99": _ms(quantiles(values, n=100)[-1])} for name, values in found.items()
    }


# --- many clients -----------------------------------------------------------------------------------------------------


def crowd(client: httpx2.Client, made_: Made, clients: int, seconds: float) -> dict[str, Any]:
    """Clients with mixed sizes at once, against one client alone with the same mix; images per second and p99."""
    bodies = [_part(made_.chip, side) for side in (128, 256, SIDE)]
    alone = _stream(client, bodies, 1, seconds / 4)
    together = _stream(client, bodies, clients, seconds)
    return {"alone": alone, "together": together | {"clients": clients},
            "throughput": round(together["per_second"] / alone["per_second"], 3)}  # fmt: skip


def _part(chip: Path, side: int) -> bytes:
    part = chip.parent.parent / f"part-{side}.tif"
    with rasterio.open(chip) as source:
        profile: dict[str, Any] = dict(source.profile) | {"width": side, "height": side}
        with rasterio.open(part, "w", **profile) as target:
            target.write(source.read(window=Window(0, 0, side, side)))  # pyright: ignore[reportCallIssue]
            target.descriptions, target.scales, target.offsets = source.descriptions, source.scales, source.offsets
    return part.read_bytes()


def _stream(client: httpx2.Client, bodies: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    took: list[float] = []
    refused: dict[int, int] = {}
    wrong: list[str] = []
    limit = time.monotonic() + seconds

    def work(number: int) -> None:
        own = httpx2.Client(base_url=client.base_url, headers=client.headers, timeout=300)
        turn = number
        while time.monotonic() < limit:
            model = NAME if turn % 2 else "water-ndwi"
            started = time.perf_counter()
            answer = own.post(f"/api/predict?model={model}", content=bodies[turn % len(bodies)],
                              headers={"Content-Type": "image/tiff"})  # fmt: skip
            turn += 1
            if answer.status_code == 200:
                took.append(time.perf_counter() - started)
            elif answer.status_code in (429, 503) and "Retry-After" in answer.headers:
                refused[answer.status_code] = refused.get(answer.status_code, 0) + 1
                time.sleep(float(answer.headers["Retry-After"]))
            else:
                wrong.append(f"{answer.status_code} {answer.text[:200]}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"per_second": round(len(took) / (time.monotonic() - started), 3), "answers": len(took), "refused": refused,
            "wrong": wrong[:5], "p50_s": round(median(took), 3),
            "p99_s": round(quantiles(took, n=100)[-1], 3) if len(took) > 1 else None}  # fmt: skip


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 2)


def main() -> None:
    """Measure and write down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", type=int, default=1, help="calls of terratorch predict")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=120.0, help="of the crowd; 0: none")
    given = parser.parse_args()
    made_ = made(given.out.resolve())
    with service(made_) as client:
        found = {"prediction": prediction(client, made_, given.rounds, given.cold), "overhead_ms": overhead(client)}
        if given.seconds:
            found["crowd"] = crowd(client, made_, given.clients, given.seconds)
    (given.out / "service.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
