"""ONNX Runtime on the CPU: the same file as OpenVINO, the widest choice of operators, needs no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.predictor import RuntimeInfo
from models.runtimes import Setup, expect_one_end_each, expect_result, expect_tiles
from swathe.errors import ModelError


def load(engine: str, path: Path, setup: Setup) -> OnnxRuntimePredictor:
    """Open an ONNX file. Raises ``ModelError`` (``model.load``, ``model.precision``)."""
    import onnxruntime

    if setup.precision != "fp32":
        raise ModelError(
            f"ONNX Runtime runs this network in fp32 only, the card asks for {setup.precision}",
            hint="set runtime.engine to openvino, or runtime.precision to fp32",
            field="runtime.precision",
            code="model.precision",
        )
    try:
        session = onnxruntime.InferenceSession(path, _options(setup), providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base of their own
        raise ModelError(f"{engine} cannot load {path.name}: {error}", code="model.load") from error
    expect_one_end_each(path.name, len(session.get_inputs()), len(session.get_outputs()))
    info = RuntimeInfo(
        engine=engine,
        precision="fp32",
        device="cpu",
        threads=session.get_session_options().intra_op_num_threads,
        versions={"onnxruntime": onnxruntime.__version__},
        model_sha256=setup.sha256,
    )
    return OnnxRuntimePredictor(session, setup, info)


def _options(setup: Setup) -> Any:
    import onnxruntime

    options: Any = onnxruntime.SessionOptions()  # pyright: ignore[reportAttributeAccessIssue]  it has no stubs
    options.intra_op_num_threads = setup.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin between calls take the core from the reader and the neighbour.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class OnnxRuntimePredictor:
    """An open session."""

    def __init__(self, session: Any, setup: Setup, info: RuntimeInfo) -> None:
        """Keep the session and the names of its two ends."""
        self._session = session
        self._setup = setup
        self._info = info
        self._input = session.get_inputs()[0].name
        self._outputs = [session.get_outputs()[0].name]

    @property
    def info(self) -> RuntimeInfo:
        """What runs here."""
        return self._info

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network (see ``Predictor``)."""
        expect_tiles(tiles, self._setup)
        try:
            (result,) = self._session.run(self._outputs, {self._input: tiles})
        except Exception as error:  # its exceptions have no base of their own
            raise ModelError(f"ONNX Runtime: {error}") from error
        return expect_result(result, self._setup)
