"""Files of users: ONNX and TorchScript networks whose axes and outputs are not ours, fitted to ``Predictor``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.predictor import Predictor, RuntimeInfo
from models.runtimes import Setup, expect_tiles, open_graph
from swathe.card import Frozen, ModelCard
from swathe.errors import CardError, UnsafeModelError

_FAMILIES: dict[str, Literal["onnx", "script"]] = {
    ".onnx": "onnx",
    ".ts": "script",
    ".torchscript": "script",
    ".jit": "script",
    ".pt": "script",
    ".pth": "script",
}
_SUM_TOLERANCE = 1e-3


class ArtefactBlock(Frozen):
    """``ModelCard.network`` of the adapter ``artefact``."""

    file: str = ""
    """Where the file is, in place of ``weights`` (which can also say its hash)."""
    kind: Literal["", "onnx", "torchscript"] = ""
    """Empty: by the file's suffix."""
    input_layout: Literal["NTCHW", "NCHW", "NCTHW"] = "NTCHW"
    """Axes of its input. NCHW: the dates are stacked as channels, oldest first."""
    output: Literal["probabilities", "logits", "values"] = "probabilities"
    """Logits become probabilities by softmax."""
    binary: bool = False
    """One channel, of the second of two classes: a probability, or a logit for the logistic function."""

    def family(self, uri: str) -> Literal["onnx", "script"]:
        """Kind of the file. Raises ``CardError``, and ``UnsafeModelError`` for files that can run code."""
        suffix = PurePosixPath(uri).suffix.lower()
        if suffix in {".pt2", ".pkl", ".pickle", ".joblib", ".ckpt"}:
            raise UnsafeModelError(
                f"{uri} is not loaded: a {suffix} file can run any code",
                hint="give ONNX or TorchScript; for a checkpoint use the adapter terratorch",
                field="network",
                code="model.unsafe.pickle",
            )
        if self.kind:
            return "onnx" if self.kind == "onnx" else "script"
        if suffix not in _FAMILIES:
            raise CardError(
                f"{uri}: neither ONNX nor TorchScript by its name",
                hint="say network.kind: onnx or torchscript",
                field="network.kind",
                code="card.network",
            )
        return _FAMILIES[suffix]


def block_of(card: ModelCard) -> ArtefactBlock:
    """Read the block. Raises ``CardError``."""
    try:
        block = ArtefactBlock.model_validate(card.network)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["network", *map(str, first["loc"])])
        raise CardError(f"{card.id}: {place}: {first['msg']}", field=place, code="card.network") from error
    if block.binary and len(card.output.classes) != 2:  # noqa: PLR2004  what binary means
        raise CardError(f"{card.id}: binary needs two classes", field="network.binary", code="card.network")
    if (block.output == "values") == bool(card.output.classes):
        hint = "probabilities or logits" if card.output.classes else "values"
        raise CardError(f"{card.id}: of a {card.task} network.output is {hint}", code="card.network", field="network")
    return block


def file_setup(block: ArtefactBlock, setup: Setup) -> Setup:
    """What the file itself takes and gives."""
    n, t, c, h, w = setup.input
    taken = {"NTCHW": (n, t, c, h, w), "NCHW": (n, t * c, h, w), "NCTHW": (n, c, t, h, w)}[block.input_layout]
    k = 1 if block.binary else setup.output[1]
    return replace(setup, input=taken, output=(n, k, *setup.output[2:]))


def open_file(card: ModelCard, engine: str, path: Path, setup: Setup) -> Adapted:
    """Load a file that has been registered. Raises ``ModelError``, ``CardError``."""
    block = block_of(card)
    return Adapted(open_graph(engine, path, file_setup(block, setup)), block, setup)


class Adapted:
    """A user's network with our axes and outputs."""

    def __init__(self, inner: Predictor, block: ArtefactBlock, setup: Setup) -> None:
        """``inner`` was opened with ``file_setup(block, setup)``."""
        self._inner = inner
        self._block = block
        self._setup = setup
        self._taken = file_setup(block, setup).input

    @property
    def info(self) -> RuntimeInfo:
        """What runs here."""
        return self._inner.info

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network (see ``Predictor``)."""
        expect_tiles(tiles, self._setup)
        if self._block.input_layout == "NCTHW":
            tiles = np.ascontiguousarray(tiles.swapaxes(1, 2))
        return _probable(self._inner(tiles.reshape(self._taken)), self._block)


def expect_probabilities(result: NDArray[np.float32]) -> None:
    """Refuse what cannot be probabilities over axis 1. Raises ``CardError``."""
    off = float(np.abs(result.sum(axis=1) - 1).max())
    if off > _SUM_TOLERANCE or float(result.min()) < -_SUM_TOLERANCE:
        raise CardError(
            f"the network's outputs are no probabilities: their sum is off 1 by up to {off:.3g}",
            hint="say network.output: logits, or export it with its softmax",
            field="network.output",
            code="card.network",
        )


def _probable(result: NDArray[np.float32], block: ArtefactBlock) -> NDArray[np.float32]:
    if block.output == "values":
        return result
    if block.binary:
        second = _logistic(result) if block.output == "logits" else result
        return np.concatenate([1 - second, second], axis=1)
    return _softmax(result) if block.output == "logits" else result


def _logistic(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    # By tanh: exp of a large negative logit would overflow.
    half = np.float32(0.5)
    return half + half * np.tanh(half * logits)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
