"""``terratorch predict``, as its users run it: a process per call, a Lightning config, a folder of chips."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from swathe.card import ModelCard


@dataclass(frozen=True)
class Cold:
    """One chip, one model, one config."""

    config: Path
    """Of LightningCLI."""
    checkpoint: Path
    """Lightning's."""
    out: Path
    """Folder of the maps."""

    def seconds(self) -> float:
        """Of one call, from the shell and back."""
        command = [
            str(Path(sys.executable).parent / "terratorch"), "predict", "-c", str(self.config),
            "--ckpt_path", str(self.checkpoint), "--predict_output_dir", str(self.out),
        ]  # fmt: skip
        started = time.perf_counter()
        done = subprocess.run(command, cwd=self.out.parent, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(done.stderr[-2000:])
        return seconds


_CONVERT = """
import sys, lightning, torch
kept = torch.load(sys.argv[1], weights_only=True, map_location="cpu")
numbers = kept.get("state_dict", kept)
torch.save({"pytorch-lightning_version": lightning.__version__, "state_dict": numbers, "epoch": 0, "global_step": 0,
            "callbacks": {}, "optimizer_states": [], "lr_schedulers": []}, sys.argv[2])
"""
"""A bare checkpoint as one that Lightning's trainer opens."""


def written(card: ModelCard, checkpoint: Path, chips: Path, folder: Path) -> Cold:
    """A config for the chips of a folder, through the network of a card."""
    folder.mkdir(parents=True, exist_ok=True)
    config, lightnings = folder / "cold.yaml", folder / "lightning.ckpt"
    config.write_text(yaml.safe_dump(_config(card, chips, folder)))
    subprocess.run([sys.executable, "-c", _CONVERT, str(checkpoint), str(lightnings)], check=True)
    return Cold(config, lightnings, folder / "maps")


def _config(card: ModelCard, chips: Path, folder: Path) -> dict[str, Any]:
    eats, classes = card.input, len(card.output.classes)
    bands = list(card.network["args"]["backbone_bands"])
    tiling = {"h_crop": eats.chip, "h_stride": eats.chip - eats.overlap, "w_crop": eats.chip,
              "w_stride": eats.chip - eats.overlap, "average_patches": True}  # fmt: skip
    return {
        "seed_everything": 0,
        "trainer": {"accelerator": "cpu", "logger": False, "default_root_dir": str(folder),
                    "enable_progress_bar": False},
        "data": {
            "class_path": "GenericNonGeoSegmentationDataModule",
            "init_args": {
                "batch_size": 1, "num_workers": 0, "num_classes": classes, "predict_data_root": str(chips),
                "img_grep": "*.tif", "dataset_bands": bands, "output_bands": bands,
                "means": [float(m) for m in eats.mean], "stds": [float(s) for s in eats.std], "drop_last": False,
                "test_transform": [{"class_path": "ToTensorV2"}],
            },
        },
        "model": {
            "class_path": "terratorch.tasks.SemanticSegmentationTask",
            "init_args": {
                "model_factory": card.network["factory"], "model_args": card.network["args"], "loss": "ce",
                "tiled_inference_parameters": tiling,
            },
        },
    }  # fmt: skip
