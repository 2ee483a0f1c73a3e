"""A minute of training, so that the network of the benchmarks maps water and burnt ground.

python -m benchmarks.train FOLDER_OF_CARD FOLDER_OF_SCENE STEPS
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from swathe.card import ModelCard

UNSCORED = 255
SEED = 7


def example(rng: np.random.Generator, files: dict[str, Any], card: ModelCard) -> tuple[NDArray, NDArray]:
    """(1, C, h, w) in model units, and (h, w) classes: 0 land, 1 water, 2 burnt, 255 not known."""
    eats, size = card.input, files["post"].width
    row, col = rng.integers(0, size - eats.chip, 2)
    window = Window(int(col), int(row), eats.chip, eats.chip)  # pyright: ignore[reportCallIssue]
    stored = files["post"].read(window=window)
    mean, std = (np.array(numbers, np.float32)[:, None, None] for numbers in (eats.mean, eats.std))
    label = np.where(files["burn"].read(1, window=window) == 1, 2, files["water"].read(1, window=window))
    gone = (stored < -9000).any(axis=0)
    units = np.where(gone, 0, (stored * 1e-4 * eats.scale - mean) / std)
    return units.astype(np.float32)[None], np.where(gone, UNSCORED, label).astype(np.int64)


def train(card: ModelCard, checkpoint: Path, scene: Path, steps: int) -> float:
    """Write the checkpoint; returns the share of pixels that the last quarter of the steps had right."""
    import torch

    from models.blueprint import blueprint
    from models.checkpoint import save_random
    from models.terratorch import build, write_random_checkpoint

    net = build(card, write_random_checkpoint(card, checkpoint, SEED)).requires_grad_(requires_grad=True).train()
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-4)
    rng, right = np.random.default_rng(SEED), []
    files = {name: rasterio.open(scene / f"{name}.tif") for name in ("post", "water", "burn")}
    for _ in range(steps):
        tiles, labels = zip(*(example(rng, files, card) for _ in range(card.resources.batch)), strict=True)
        truth = torch.from_numpy(np.stack(labels))
        chances = net(torch.from_numpy(np.stack(tiles)))
        loss = torch.nn.functional.nll_loss((chances + 1e-6).log(), truth, ignore_index=UNSCORED)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        known = truth != UNSCORED
        right.append(float((chances.argmax(1) == truth)[known].float().mean()))
    save_random(net.eval().network, checkpoint, blueprint(card).rename)
    return float(np.mean(right[-max(1, steps // 4) :]))


def main() -> None:
    """Entry point."""
    from benchmarks.scenes import CARD
    from models.registry import load_cards

    cards, scene, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    final = cards / f"{CARD}.ckpt"
    draft = final.with_name(f"draft-{final.name}")
    share = train(load_cards((cards,))[CARD], draft, scene, steps)
    draft.replace(final)
    print(json.dumps({"right": share}))


if __name__ == "__main__":
    main()
