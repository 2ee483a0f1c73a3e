"""OpenVINO on the CPU: reads ONNX, needs no torch.

What is forced, and why (all measured):

- ``INFERENCE_PRECISION_HINT``: left alone it is bfloat16 wherever the CPU has it, so results would depend on the node.
- ``ENABLE_CPU_PINNING`` off: every process would pin itself to the same first cores.
- ``INFERENCE_NUM_THREADS``: the default is all cores of the node, not of the actor.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.predictor import RuntimeInfo
from models.runtimes import Setup, expect_one_end_each, expect_result, expect_tiles
from swathe.errors import ModelError

_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
_READ_BACK = {"f32": "fp32", "bf16": "bf16", "float32": "fp32", "bfloat16": "bf16"}


def load(engine: str, path: Path, setup: Setup) -> OpenVinoPredictor:
    """Compile an ONNX file for the CPU. Raises ``ModelError`` (``model.load``, ``model.precision``)."""
    import openvino

    if setup.precision == "bf16":  # a CPU with AVX-512 alone takes the hint, says bf16, and is slower than with fp32
        expect_bf16()
    try:
        core = openvino.Core()
        model = core.read_model(path)
        expect_one_end_each(path.name, len(model.inputs), len(model.outputs))
        model.reshape(list(setup.input))
        compiled = core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _PRECISIONS[setup.precision],
                "ENABLE_CPU_PINNING": False,
                "INFERENCE_NUM_THREADS": setup.threads,
                "NUM_STREAMS": setup.lanes,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
    except RuntimeError as error:
        raise ModelError(f"{engine} cannot load {path.name}: {_first_line(error)}", code="model.load") from error
    precision = _READ_BACK.get(compiled.get_property("INFERENCE_PRECISION_HINT").to_string(), "unknown")
    if precision != setup.precision:
        raise _no_such_precision(setup.precision)
    info = RuntimeInfo(
        engine=engine,
        precision=precision,
        device="cpu",
        threads=int(compiled.get_property("INFERENCE_NUM_THREADS")),
        versions={"openvino": openvino.__version__.split("-")[0]},
        model_sha256=setup.sha256,
    )
    return OpenVinoPredictor(compiled, setup, info)


def expect_bf16() -> None:
    """Refuse bf16 on a CPU that would quietly compute in fp32. Raises ``ModelError`` (``model.precision``)."""
    import openvino

    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise _no_such_precision("bf16")


def _no_such_precision(precision: str) -> ModelError:
    return ModelError(
        f"this CPU cannot compute in {precision}, which the card asks for",
        hint="set runtime.precision to fp32, or use a CPU with avx512_bf16 or AMX",
        field="runtime.precision",
        code="model.precision",
    )


class OpenVinoPredictor:
    """A compiled network with one request, whose output buffer is used again by each call; and others beside it."""

    def __init__(self, compiled: Any, setup: Setup, info: RuntimeInfo) -> None:
        """Keep one request; nothing is allocated per call."""
        self._request = compiled.create_infer_request()
        self._setup = setup
        self._info = info
        others = range(setup.lanes - 1)
        self.lanes = (self, *(OpenVinoPredictor(compiled, replace(setup, lanes=1), info) for _ in others))

    @property
    def info(self) -> RuntimeInfo:
        """What runs here."""
        return self._info

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network (see ``Predictor``); neither input nor output is copied."""
        from openvino import Tensor

        expect_tiles(tiles, self._setup)
        # A shared Tensor borrows the memory and does not keep the array alive: a copy has to be held until the end.
        held = np.ascontiguousarray(tiles)
        try:
            self._request.set_input_tensor(Tensor(held, shared_memory=True))
            self._request.infer()
        except RuntimeError as error:
            raise ModelError(f"OpenVINO: {_first_line(error)}") from error
        return expect_result(self._request.get_output_tensor().data, self._setup)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
