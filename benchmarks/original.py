"""What we are measured against, in a process of its own that stays warm: the plain forward, and TerraTorch's tiling.

Reads one command a line, answers with one JSON line: ``forward`` times a fixed set of tiles, preloaded and normalised,
in eager PyTorch; ``tiled`` times TerraTorch's ``tiled_inference`` over the whole image, preloaded and normalised.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenes import ROOT
from swathe.lattice import Lattice
from swathe.window import Window

DELTA = 8
"""Rim that tiled_inference cuts off every tile: its own default."""


@dataclass(frozen=True)
class Question:
    """What the process is for."""

    root: str
    """Folder of the benchmarks."""
    size: int
    """Of the scene."""
    threads: int
    """Of the forward."""
    tiles: int
    """Of the forward: at most so many, evenly over the scene."""


class Original:
    """The other end of the process."""

    def __init__(self, question: Question) -> None:
        """Start it; ready when the first answer comes."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.original", json.dumps(vars(question))],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.about = self._answer()

    def ask(self, command: str) -> dict[str, Any]:
        """Have something timed."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process of the original ended with status {self._process.wait()}")
        return json.loads(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


class Timed:
    """Inside the process."""

    def __init__(self, question: Question) -> None:
        """Load network and tiles."""
        import torch

        from benchmarks.scenes import Place
        from models.runtimes import setup_of
        from models.runtimes.eager import wrap
        from models.terratorch import build

        place = Place(Path(question.root))
        self.card = place.card("eager")
        self.path = place.scene(question.size).post
        self.size = question.size
        checkpoint = place.cards / str(self.card.weights.uri if self.card.weights else "")
        self.network = build(self.card, checkpoint)
        self.predict = wrap(self.network, setup_of(self.card, question.threads))
        assert torch.get_num_threads() == question.threads
        self.batches = self._batches(question.tiles)
        self.predict(self.batches[0])

    def units(self, window: Window) -> NDArray[np.float32]:
        """(T, C, h, w) model units of a window."""
        from models.prepare import to_model_units
        from pipelines.begin import look
        from pipelines.imagery.read import Reader
        from pipelines.imagery.sensors import load_sensors
        from swathe.recipe import Recipe

        imagery = look(Recipe(self.card.id, (str(self.path),)), self.card, load_sensors(ROOT / "configs" / "sensors"))
        with Reader(imagery) as reader:
            return to_model_units(reader.read(window), self.card.input)

    def _batches(self, most: int) -> NDArray[np.float32]:
        """(N, batch, T, C, h, w) of the lattice's own tiles: every k-th."""
        eats, batch = self.card.input, self.card.resources.batch
        rows = Lattice.of_file(eats.chip, eats.overlap, (self.size, self.size)).over(Window(0, 0, self.size, self.size))
        tiles = [tile for row in rows for tile in row]
        count = max(1, min(most, len(tiles)) // batch) * batch
        chosen = [tiles[i * len(tiles) // count] for i in range(count)]
        units = np.stack([self.units(tile.window) for tile in chosen])
        return units.reshape(-1, batch, *units.shape[1:])

    def forward(self) -> dict[str, float]:
        """Seconds of all batches, one after the other."""
        started = time.perf_counter()
        for batch in self.batches:
            self.predict(batch)
        return {"seconds": time.perf_counter() - started, "tiles": self.batches.shape[0] * self.batches.shape[1]}

    def tiled(self) -> dict[str, float]:
        """Seconds of the whole image, on the network's logits: neither softmax nor argmax nor files."""
        import torch
        from terratorch.tasks.tiled_inference import tiled_inference

        eats = self.card.input
        image = torch.from_numpy(self.units(Window(0, 0, self.size, self.size)))
        net = self.network.network
        started = time.perf_counter()
        result = tiled_inference(
            lambda tiles: net(tiles).output, image, crop=eats.chip, stride=eats.chip - eats.overlap, delta=DELTA,
            batch_size=self.card.resources.batch,
        )  # fmt: skip
        seconds = time.perf_counter() - started
        assert tuple(result.shape) == (1, self.card.output.depth, self.size, self.size)
        return {"seconds": seconds, "pixels": self.size**2}


def main() -> None:
    """Entry point of the process; standard output belongs to the answers, libraries that print do so on stderr."""
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)
        timed = Timed(Question(**json.loads(sys.argv[1])))
        answers.write(json.dumps({"runtime": vars(timed.predict.info) if hasattr(timed.predict.info, "__dict__") else
                                  {"engine": timed.predict.info.engine, "threads": timed.predict.info.threads},
                                  "tiles": int(timed.batches.shape[0] * timed.batches.shape[1])}) + "\n")  # fmt: skip
        for line in sys.stdin:
            answers.write(json.dumps(getattr(timed, line.strip())()) + "\n")


if __name__ == "__main__":
    main()
