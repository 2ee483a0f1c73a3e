"""Small seeded networks and the cards that describe them."""

from __future__ import annotations

import pytest

from models.weights import ModelHome
from swathe.card import ModelCard

CLASSES = [{"value": i, "name": f"class {i}", "colour": f"#00000{i}"} for i in range(3)]


@pytest.fixture(scope="session")
def card_of():
    """Make a card: two dates, three bands, chip 32, batch 4, three classes; keywords replace parts."""

    def make(origin=None, **parts):
        said = {
            "id": "small",
            "title": "A small network",
            "task": "segmentation",
            "adapter": "terratorch",
            "weights": {"uri": "small.pt", "sha256": "0" * 64},
            "input": {"bands": ["green", "red", "nir"], "times": 2, "chip": 32, "overlap": 8},
            "output": {"classes": CLASSES},
            "resources": {"batch": 4},
            "licence": "Apache-2.0",
            "citation": "nobody",
        }
        return ModelCard.model_validate(said | parts).model_copy(update={"origin": origin})

    return make


@pytest.fixture
def home(tmp_path):
    return ModelHome(tmp_path / "cache", offline=True)


@pytest.fixture(scope="session")
def network_of():
    """Make a seeded convolutional network (N, 2, 3, h, w) -> (N, K, h, w); ``end`` says what it ends with."""

    def make(seed=0, end="softmax", channels=3, inner=lambda x: x):
        import torch
        from torch import nn

        torch.manual_seed(seed)

        class Small(nn.Module):
            def __init__(self):
                super().__init__()
                self.down = nn.Conv2d(6, 8, 3, stride=2, padding=1)
                self.norm = nn.BatchNorm2d(8)
                self.up = nn.ConvTranspose2d(8, channels, 2, stride=2)

            def forward(self, tiles):
                x = tiles if tiles.ndim == 4 else tiles.flatten(1, 2)
                x = self.up(torch.nn.functional.gelu(self.norm(self.down(inner(x)))))
                return {"softmax": lambda: x.softmax(1), "nothing": lambda: x}[end]()

        return Small().eval()

    return make
