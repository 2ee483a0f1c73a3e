"""Engines that run an exported network: one module each, imported when asked for, all behind ``Predictor``."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.predictor import Predictor
from swathe.card import ModelCard
from swathe.errors import ModelError

Shape = tuple[int, ...]

_MODULES = {
    "openvino": "models.runtimes.openvino",
    "onnxruntime": "models.runtimes.onnxruntime",
    "torchexport": "models.runtimes.torch_programs",
    "aotinductor": "models.runtimes.torch_programs",
    "torchscript": "models.runtimes.torch_programs",
}


@dataclass(frozen=True, slots=True)
class Setup:
    """What a runtime is asked for."""

    input: Shape
    """Of the tiles: (N, T, C, h, w), or as the file of a user wants it."""
    output: Shape
    """Of the result: (N, K, h / stride, w / stride), or as the file of a user gives it."""
    threads: int = 1
    """Of the forward."""
    precision: str = "fp32"
    """fp32 or bf16."""
    device: str = "cpu"
    """cpu or cuda."""
    sha256: str = ""
    """Of the weights; goes into ``RuntimeInfo``."""
    lanes: int = 1
    """Batches that may run side by side, each with its share of the threads. Only OpenVINO does."""


def setup_of(card: ModelCard, threads: int = 1, device: str = "cpu", sha256: str = "", batch: int = 0) -> Setup:
    """Shapes and settings of a card; ``batch`` 0: the card's."""
    eats, cells = card.input, card.input.chip // card.output.stride
    n = batch or card.resources.batch
    return Setup(
        input=(n, eats.times, len(eats.bands), eats.chip, eats.chip),
        output=(n, card.output.depth, cells, cells),
        threads=threads,
        precision=card.runtime.precision,
        device=device,
        sha256=sha256,
    )


def open_graph(engine: str, path: Path, setup: Setup) -> Predictor:
    """Load an exported network. Raises ``ModelError`` where the engine cannot run it as asked, or is not installed."""
    try:
        return import_module(_MODULES[engine]).load(engine, path, setup)
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{engine} needs {error.name}, which is not installed here",
            hint="uv sync --all-groups; or choose another runtime.engine",
            field="runtime.engine",
            code="model.engine",
        ) from error


def expect_one_end_each(name: str, inputs: int, outputs: int) -> None:
    """Refuse a graph that is not one tensor to one tensor. Raises ``ModelError`` (``model.load``)."""
    if (inputs, outputs) != (1, 1):
        raise ModelError(
            f"{name} has {inputs} inputs and {outputs} outputs",
            hint="export it with one input and one output",
            code="model.load",
        )


def expect_tiles(tiles: NDArray[np.float32], setup: Setup) -> None:
    """Refuse what the network was not made for. Raises ``ModelError`` (``model.shape``)."""
    if tiles.shape != setup.input or tiles.dtype != np.float32:
        raise ModelError(
            f"the network takes float32 {setup.input}, given were {tiles.dtype} {tiles.shape}", code="model.shape"
        )


def expect_result(result: NDArray[np.float32], setup: Setup) -> NDArray[np.float32]:
    """Refuse what the card did not announce. Raises ``ModelError`` (``model.shape``, ``model.nan``)."""
    if result.shape != setup.output:
        if _long_axes(result.shape) != _long_axes(setup.output):
            raise ModelError(
                f"the network gave {result.shape}, its card announces {setup.output}",
                hint="correct output.classes, output.channels or output.stride in the card",
                code="model.shape",
            )
        result = result.reshape(setup.output)
    result = np.asarray(result, np.float32)
    finite = np.isfinite(result)
    if not finite.all():
        bad = np.flatnonzero(~finite.reshape(len(result), -1).all(axis=1))
        raise ModelError(f"values that are not finite in tile {bad.tolist()} of the batch", code="model.nan")
    return result


def _long_axes(shape: Shape) -> Shape:
    """A shape without axes of one, N apart: (N, K) is (N, K, 1, 1), but (N, h, w, K) is not (N, K, h, w)."""
    return shape[:1] + tuple(n for n in shape[1:] if n != 1)
