"""The adapter ``terratorch``: a card and a checkpoint become one module, tiles in, numbers out.

What an exporter of this module should know (torch 2.15, terratorch 1.2.11; each is covered by a test):

- Export with the tile's own side: position embeddings, pooling and reshapes are traced for it. The batch may be
  dynamic (example batch of at least 2) as long as the chip is a multiple of twice the patch (32 for Prithvi); otherwise
  TerraTorch pads tile by tile in a Python loop, which bakes the batch in.
- Importing TerraTorch sets torch's float32 matmul precision to "medium" (bfloat16 products where the CPU has them, TF32
  on GPUs). ``build`` puts it back; whoever imports TerraTorch by other ways has to do so too.
- A module cannot be pickled or deep-copied reliably: TerraTorch hangs closures on backbones (``model.forward = ...``).
- Prithvi's ``_tl`` backbones take dates and coordinates; none are passed, as in the published fine-tunes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.blueprint import Blueprint, Fetch, Layout, blueprint
from models.checkpoint import load, save_random
from models.construct import construct, data_classes
from swathe.card import ModelCard
from swathe.errors import WeightsError


class Network(nn.Module):
    """A network in our shapes.

    forward: (N, T, C, h, w) float32 in model units -> (N, K, h / stride, w / stride) float32: probabilities over K
    classes, values of a regression, vectors of an embedding; a whole tile's answer is (N, K, 1, 1).
    """

    def __init__(self, network: nn.Module, plan: Blueprint, stride: int) -> None:
        """Wrap ``network``, built from ``plan``; ``stride`` is the card's."""
        super().__init__()
        self.network = network
        self._arrange = _ARRANGE[plan.layout]
        self._answer = _ANSWER[plan.task]
        self._layer = plan.layer
        self._stride = stride

    def forward(self, tiles: Tensor) -> Tensor:
        """See the class."""
        answer = self.network(self._arrange(tiles))
        answer = getattr(answer, "output", answer)  # TerraTorch's ModelOutput
        if isinstance(answer, (list, tuple)):
            answer = answer[self._layer]
        grid = (tiles.shape[-2] // self._stride, tiles.shape[-1] // self._stride)
        return self._answer(answer, grid)


def build(card: ModelCard, checkpoint: Path | None, fetch: Fetch | None = None) -> Network:
    """The card's network with the checkpoint's numbers, in eval mode, on the CPU.

    ``fetch`` has a uri on this machine and is only called where the card's config is one. Raises WeightsError
    (``weights.missing``, ``weights.mismatch``, ``weights.corrupt``), CardError, UnsafeModelError.
    """
    if checkpoint is None:
        hint = "Name the weights in the card; a network of random numbers maps nothing."
        raise WeightsError(f"{card.id} has no weights", code="weights.missing", hint=hint, field="weights")
    plan = blueprint(card, fetch)
    network = construct(plan)
    also = () if plan.route == "torchgeo" else data_classes()
    load(network, checkpoint, plan.rename, plan.drop, also)
    return Network(network, plan, card.output.stride).eval()


def write_random_checkpoint(card: ModelCard, path: Path, seed: int, fetch: Fetch | None = None) -> Path:
    """Write what ``build`` takes, with seeded random numbers: for tests and benchmarks, maps of it mean nothing.

    The suffix decides between a Lightning checkpoint and safetensors; keys are named as in the card's real weights.
    """
    plan = blueprint(card, fetch)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = construct(plan)
    save_random(network, path, plan.rename)
    return path


def _newest_first(tiles: Tensor) -> Tensor:
    return tiles.flip(1).flatten(1, 2)


_ARRANGE: dict[Layout, Callable[[Tensor], Tensor]] = {
    "image": lambda tiles: tiles[:, 0],
    "cube": lambda tiles: tiles.transpose(1, 2),
    "stack": lambda tiles: tiles.flatten(1, 2),
    "stack-newest-first": _newest_first,
}


def _class_per_pixel(logits: Tensor, _grid: tuple[int, int]) -> Tensor:
    return logits.softmax(dim=1)


def _class_per_tile(logits: Tensor, _grid: tuple[int, int]) -> Tensor:
    return logits.softmax(dim=1)[:, :, None, None]


def _value_per_pixel(values: Tensor, _grid: tuple[int, int]) -> Tensor:
    return values.unsqueeze(1) if values.ndim == 3 else values  # noqa: PLR2004  TerraTorch squeezes a single channel


def _value_per_tile(values: Tensor, _grid: tuple[int, int]) -> Tensor:
    return values.reshape(values.shape[0], -1, 1, 1)


def _vector_per_patch(features: Tensor, grid: tuple[int, int]) -> Tensor:
    """(N, D, h, w) as it is; tokens (N, extra + T * h * w, D) to (N, T * D, h, w), date-major, without extra tokens."""
    if features.ndim == 4:  # noqa: PLR2004
        return features
    patches = grid[0] * grid[1]
    tokens = features[:, features.shape[1] % patches :]  # class and register tokens come first
    dates = features.shape[1] // patches
    return tokens.unflatten(1, (dates, *grid)).permute(0, 1, 4, 2, 3).flatten(1, 2)


_ANSWER: dict[str, Callable[[Any, tuple[int, int]], Tensor]] = {
    "segmentation": _class_per_pixel,
    "classification": _class_per_tile,
    "regression": _value_per_pixel,
    "scalar_regression": _value_per_tile,
    "embedding_generation": _vector_per_patch,
}
