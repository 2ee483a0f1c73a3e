"""The one door to every model: tiles in, numbers out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class RuntimeInfo:
    """What really ran; goes into every report."""

    engine: str
    """openvino, onnxruntime, torchexport, aotinductor, torchscript, eager or formula."""
    precision: str
    """fp32 or bf16, as the runtime itself says."""
    device: str
    """cpu, or the GPU's name."""
    threads: int
    """Of the forward."""
    versions: dict[str, str] = field(default_factory=dict)
    """Libraries that took part."""
    model_sha256: str = ""
    """Hash of the weights or of the artefact."""


class Predictor(Protocol):
    """A loaded model. Not thread-safe; one per actor."""

    @property
    def info(self) -> RuntimeInfo:
        """What runs here."""
        ...

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network.

        tiles: (N, T, C, chip, chip) float32 in model units ((physical * scale - mean) / std), C-contiguous,
        invalid pixels 0. N is always the card's batch (short batches are padded by the caller).
        Returns (N, K, chip / stride, chip / stride) float32: probabilities that sum to 1 over K for classes,
        values for a regression, vectors for an embedding. Raises ModelError. May reuse its output buffer: the
        caller has done with it before the next call.
        """
        ...


def lanes_of(predict: Predictor) -> tuple[Predictor, ...]:
    """Predictors of the same network that may be called side by side, each by one thread at a time.

    Two batches on a thread each take less time than one after the other on two: no thread waits for the other one,
    which somebody who reads may just have pushed aside.
    """
    return getattr(predict, "lanes", None) or (predict,)
