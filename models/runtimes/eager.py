"""Plain PyTorch: slow to start, runs everything; the reference of every export and the last resort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from models.runtimes import Setup
from models.runtimes.torch_programs import TorchPredictor, expect_precision
from swathe.card import ModelCard

if TYPE_CHECKING:
    from torch import nn


def load(card: ModelCard, checkpoint: Path | None, setup: Setup, fetch: Callable[[str], Path]) -> TorchPredictor:
    """Build the network of a card with TerraTorch (half a minute) and run it as it is.

    ``fetch`` has a uri on this machine: the card's config may be one.
    """
    from models.terratorch import build

    return wrap(build(card, checkpoint, fetch), setup)


def wrap(network: nn.Module, setup: Setup) -> TorchPredictor:
    """Predictor of a module that takes (N, T, C, h, w) and gives (N, K, h / stride, w / stride)."""
    expect_precision(setup)
    ready = in_precision(network.eval(), setup.precision, setup.device)
    return TorchPredictor("eager", ready.to(setup.device), setup)


def in_precision(network: nn.Module, precision: str, device: str) -> nn.Module:
    """Compute in bf16 where that is asked for, with fp32 at both ends; written so that an export keeps it."""
    if precision == "fp32":
        return network
    import torch

    class InBf16(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            with torch.autocast(device, torch.bfloat16):
                return self.network(tiles).float()

    return InBf16().eval()
