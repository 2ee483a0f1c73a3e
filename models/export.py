"""From a torch module to a file that runs without the code that built it. Imports torch; see ``register``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.artefact import FAMILY, Family
from models.runtimes import Setup
from models.runtimes.eager import in_precision
from swathe.errors import ModelError

OPSET = 20
"""Of ONNX; OpenVINO and ONNX Runtime know it."""

LARGEST_PROTOBUF = 1 << 30
"""Bytes of weights up to which an ONNX file is one file; the format ends at 2 GB."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export left in its folder."""

    main: str
    """File to load."""
    dynamic: bool
    """Whether any batch may be given; otherwise the one of the export."""
    opset: int | None
    """Of ONNX."""
    versions: dict[str, str]
    """Of what exported it."""
    note: str = ""
    """Why the batch is fixed, where it is."""


def export(network: nn.Module, setup: Setup, folder: Path, engine: str) -> Exported:
    """Write ``network`` for ``engine`` into ``folder``.

    The network takes (N, T, C, h, w) and gives (N, K, h / stride, w / stride), both float32, with softmax inside; it is
    traced for ``setup.input``, with any N where the engine and the network allow that. It is left in eval mode, on the
    device of the setup. Raises ``ModelError`` (``model.export``) with the exporter's reason.
    """
    family = FAMILY[engine]
    network = network.eval().to(setup.device)
    if family != "onnx":  # there the precision is the runtime's business
        network = in_precision(network, setup.precision, setup.device)
    with _quiet(), torch.no_grad():
        try:
            return _WRITERS[family](network, setup, folder)
        except Exception as error:  # exporters raise whatever they like
            raise ModelError(f"the export for {engine} failed: {brief(error)}", code="model.export") from error


def brief(error: BaseException) -> str:
    """First telling line of an exporter's novel."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _onnx(network: nn.Module, setup: Setup, folder: Path) -> Exported:
    path = folder / "model.onnx"
    size = sum(t.numel() * t.element_size() for t in network.state_dict().values())

    def write(example: torch.Tensor, dynamic_shapes: Any) -> None:
        torch.onnx.export(
            network,
            (example,),
            path,
            dynamo=True,
            dynamic_shapes=dynamic_shapes,
            external_data=size > LARGEST_PROTOBUF,
            opset_version=OPSET,
            input_names=["tiles"],
            output_names=["result"],
            verbose=False,
        )

    note = _any_batch_or_fixed(write, setup)
    return Exported(path.name, not note, OPSET, _versions("torch", "onnx", "onnxscript"), note)


def _pt2(network: nn.Module, setup: Setup, folder: Path) -> Exported:
    def write(example: torch.Tensor, dynamic_shapes: Any) -> None:
        program = torch.export.export(network, (example,), dynamic_shapes=dynamic_shapes)
        torch.export.save(program, folder / "model.pt2")

    note = _any_batch_or_fixed(write, setup)
    return Exported("model.pt2", not note, None, _versions("torch"), note)


def _aoti(network: nn.Module, setup: Setup, folder: Path) -> Exported:
    # A fixed batch is what the engine always gives, and the faster code; freezing folds the weights into it.
    example = torch.zeros(setup.input, device=setup.device)
    program = torch.export.export(network, (example,))
    torch._inductor.aoti_compile_and_package(  # noqa: SLF001  its documented name
        program, package_path=str(folder / "model.pt2"), inductor_configs={"freezing": True}
    )
    return Exported("model.pt2", dynamic=False, opset=None, versions=_versions("torch"), note="compiled for one batch")


def _script(network: nn.Module, setup: Setup, folder: Path) -> Exported:
    traced = torch.jit.trace(network, torch.zeros(setup.input, device=setup.device), check_trace=False)
    torch.jit.save(traced, folder / "model.ts")
    # Tracing bakes in whatever Python made of the batch, and does not say so.
    return Exported("model.ts", dynamic=False, opset=None, versions=_versions("torch"), note="traced for one batch")


_WRITERS: dict[Family, Callable[[nn.Module, Setup, Path], Exported]] = {
    "onnx": _onnx,
    "pt2": _pt2,
    "aoti": _aoti,
    "script": _script,
}


def _any_batch_or_fixed(write: Callable[[torch.Tensor, Any], None], setup: Setup) -> str:
    """Write with any batch if the network allows it, else for the setup's; return why not."""
    batch, *rest = setup.input
    try:
        # An example of one would be taken for a constant; of the card's own batch it could hide a baked-in number.
        write(torch.zeros((2 if batch != 2 else 3, *rest), device=setup.device), ({0: torch.export.Dim.DYNAMIC},))  # noqa: PLR2004
    except Exception as error:  # noqa: BLE001  exporters raise whatever they like
        note = brief(error)
    else:
        return ""
    write(torch.zeros(setup.input, device=setup.device), None)
    return f"the batch is fixed, as an export with any batch failed: {note}"


def _versions(*names: str) -> dict[str, str]:
    return {name: version(name) for name in names}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' warnings from the person who waits; what matters is compared afterwards."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
