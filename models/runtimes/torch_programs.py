"""Networks that PyTorch runs: exported programs, AOTInductor packages, TorchScript; and, from ``eager``, plain modules.

AOTInductor packages with a fixed batch do not check what they are given; the shape is checked here for all of them.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.predictor import RuntimeInfo
from models.runtimes import Setup, expect_result, expect_tiles
from swathe.errors import ModelError, UnsafeModelError

_NAMESPACES = frozenset({"aten", "prim", "prims", "quantized", "mkldnn", "torchvision"})
_REACHES_OUT = re.compile(r"\b(from_file|save|load|rpc_\w+|_print)\(|\bops\.(\w+)\.")


def load(engine: str, path: Path, setup: Setup) -> TorchPredictor:
    """Load a network that we exported, or a TorchScript file. Raises ``ModelError``, ``UnsafeModelError``."""
    import torch

    expect_precision(setup)
    opens: dict[str, Callable[[Path, str], Any]] = {
        "torchexport": _open_export,
        "aotinductor": _open_package,
        "torchscript": _open_script,
    }
    torch.set_num_threads(setup.threads)
    try:
        network = opens[engine](path, setup.device)
    except UnsafeModelError:
        raise
    except Exception as error:  # each of the three has exceptions of its own
        raise ModelError(f"{engine} cannot load {path.name}: {error}", code="model.load") from error
    return TorchPredictor(engine, network, setup)


def expect_precision(setup: Setup) -> None:
    """Refuse bf16 where the hardware would only pretend. Raises ``ModelError`` (``model.precision``)."""
    import torch

    if setup.precision == "fp32":
        return
    on_gpu = setup.device == "cuda"
    if not (torch.cuda.is_bf16_supported() if on_gpu else torch.ops.mkldnn._is_mkldnn_bf16_supported()):  # noqa: SLF001
        raise ModelError(
            f"this {'GPU' if on_gpu else 'CPU'} has no {setup.precision}",
            hint="set runtime.precision to fp32, or use hardware that has it",
            field="runtime.precision",
            code="model.precision",
        )


def _open_export(path: Path, _device: str) -> Any:
    # Reads pickles and evaluates expressions: for our own exports only, never for a file from elsewhere.
    import torch

    return torch.export.load(path).module()


def _open_package(path: Path, _device: str) -> Any:
    from torch._inductor import aoti_load_package

    return aoti_load_package(str(path))


def _open_script(path: Path, device: str) -> Any:
    import torch

    expect_harmless(path)
    with warnings.catch_warnings():  # deprecated there; users have such files all the same
        warnings.simplefilter("ignore", FutureWarning)
        return torch.jit.load(path, map_location=device).eval()


def expect_harmless(path: Path) -> None:
    """Refuse a TorchScript archive that does more than compute, or that is none. Raises ``UnsafeModelError``.

    The archive is read by torch's own reader, so that what is looked at is what will be loaded.
    """
    import torch

    try:
        reader = torch._C.PyTorchFileReader(str(path))  # noqa: SLF001  no public name
        records = reader.get_all_records()
    except RuntimeError as error:
        raise _no_script(path) from error
    code = [r for r in records if r.startswith("code/") and r.endswith(".py")]
    if not code or "constants.pkl" not in records:
        raise _no_script(path)
    for record in code:
        text = reader.get_record(record).decode("utf-8", "replace")
        for match in _REACHES_OUT.finditer(text):
            if match[2] not in _NAMESPACES:
                raise UnsafeModelError(
                    f"{path.name} calls {match[0].rstrip('(.')!r} in {record}",
                    hint="export the network alone, or give ONNX",
                    code="model.unsafe.script",
                )


def _no_script(path: Path) -> UnsafeModelError:
    return UnsafeModelError(
        f"{path.name} is no TorchScript archive; pickles are not loaded, as they can run any code",
        hint="save it with torch.jit.save, or as ONNX",
        code="model.unsafe.pickle",
    )


class TorchPredictor:
    """A network called as a function of one tensor."""

    def __init__(self, engine: str, network: Callable[[Any], Any], setup: Setup) -> None:
        """Keep the network; TF32 is switched off, as fp32 means fp32."""
        import torch

        self._network = network
        self._setup = setup
        if setup.device == "cuda" and setup.precision == "fp32":
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
        torch.set_num_threads(setup.threads)
        self._info = RuntimeInfo(
            engine=engine,
            precision=setup.precision,
            device=torch.cuda.get_device_name() if setup.device == "cuda" else "cpu",
            threads=torch.get_num_threads(),
            versions={"torch": torch.__version__},
            model_sha256=setup.sha256,
        )

    @property
    def info(self) -> RuntimeInfo:
        """What runs here."""
        return self._info

    def __call__(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network (see ``Predictor``)."""
        import torch

        expect_tiles(tiles, self._setup)
        try:
            with torch.inference_mode():
                given = torch.from_numpy(np.ascontiguousarray(tiles)).to(self._setup.device)
                result = self._network(given).float().cpu().numpy()
        except Exception as error:  # compiled code raises what it likes
            raise ModelError(f"PyTorch: {error}") from error
        return expect_result(result, self._setup)
