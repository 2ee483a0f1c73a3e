"""What is measured on: scenes of any size, and a network that maps something.

The network is trained for a minute on the scene's own truth. Random numbers would run as fast, but map noise or
nothing, and then polygons and compressed files would cost far more or far less than those of a real map.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from models.weights import ModelHome
from pipelines.begin import begin, look
from pipelines.demo.files import DemoScene
from pipelines.demo.mirror import write_large
from pipelines.demo.scene import write
from pipelines.imagery.sensors import load_sensors
from swathe.card import ModelCard
from swathe.plan import Plan
from swathe.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent
CARD = "prithvi-eo-v2-tiny-upernet"
STEPS = 90
"""Of training: about a minute."""
PAINTED = 4096
"""Side of the largest scene that is painted; larger ones are mirrored copies of it."""
VARIANTS = {"eager": ("eager", "fp32"), "fp32": ("openvino", "fp32"), "bf16": ("openvino", "bf16")}
"""Name -> engine and precision."""


@dataclass(frozen=True)
class Place:
    """Folder of everything that benchmarks make."""

    root: Path

    @property
    def home(self) -> ModelHome:
        """Artefacts of the network."""
        return ModelHome(self.root / "home", offline=True)

    @property
    def cards(self) -> Path:
        """Card and checkpoint."""
        return self.root / "cards"

    def scene(self, size: int) -> DemoScene:
        """The scene of that size, made where it is missing."""
        folder = self.root / "scenes" / str(size)
        if size <= PAINTED:
            return write(folder, size)
        return write_large(folder, size, self.scene(PAINTED))

    def card(self, variant: str = "fp32") -> ModelCard:
        """The network's card, to be run as ``variant`` says, registered; trained where that is missing."""
        from models.load import ensure
        from models.registry import load_cards

        card = load_cards((self.cards,))[CARD]
        engine, precision = VARIANTS[variant]
        runtime = card.runtime.model_copy(update={"engine": engine, "precision": precision})
        return ensure(card.model_copy(update={"runtime": runtime}), self.home, say=say).card

    def prepare(self, steps: int, size: int) -> None:
        """Have card and checkpoint, the network trained on a scene of ``size`` or less."""
        if (self.cards / f"{CARD}.ckpt").exists():
            return
        self.cards.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "configs" / "models" / f"{CARD}.yaml", self.cards)
        say(f"training the network for {steps} steps")
        subprocess.run(
            [
                sys.executable,
                "-m",
                "benchmarks.train",
                str(self.cards),
                str(self.scene(min(size, PAINTED)).folder),
                str(steps),
            ],
            cwd=ROOT,
            check=True,
        )


def planned(card: ModelCard, image: Path, actors: int) -> Plan:
    """The plan of a run over a whole image."""
    recipe = Recipe(card.id, (str(image),))
    return begin(recipe, card, look(recipe, card, load_sensors(ROOT / "configs" / "sensors")), actors)


def say(text: str) -> None:
    """Tell whoever watches."""
    print(f"  {text}", file=sys.stderr, flush=True)
