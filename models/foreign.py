"""Files of strangers on their way into the cache: what they may hold and where they may point."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from models.artefact import Family, external_data_names
from swathe.errors import ModelError, UnsafeModelError, WeightsError


def copy_into(folder: Path, path: Path, family: Family) -> Path:
    """Copy a network, and the external data of an ONNX file, into a folder of ours, looked at first.

    Raises ``UnsafeModelError`` (a pickle, code that reaches out, external data outside its folder), ``WeightsError``
    (external data that is not there), ``ModelError`` (``model.load``).
    """
    extra = _external_data(path) if family == "onnx" else ()
    if family == "script":
        from models.runtimes.torch_programs import expect_harmless

        expect_harmless(path)
    for file in (path, *extra):
        shutil.copyfile(file, folder / file.name)
    return folder / path.name


def _external_data(path: Path) -> tuple[Path, ...]:
    """Files that an ONNX file points to; only those that lie beside it under its own name are allowed."""
    allowed = {p.name: p for p in external_data_names(path)}
    named = sorted(set(_locations(path)))
    for name in named:
        if name not in allowed or allowed[name].is_symlink():
            raise UnsafeModelError(
                f"{path.name} wants its weights from {name!r}",
                hint=f"save it as one file, or with all external data in {path.name}.data beside it",
                code="model.unsafe.path",
            )
        if not allowed[name].is_file():
            raise WeightsError(
                f"{path.name} keeps its weights in {name}, which is not beside it",
                hint=f"put {name} into {path.parent}, or save the network as one file",
                code="weights.missing",
            )
    return tuple(allowed[name] for name in named)


def _locations(path: Path) -> Iterator[str]:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ModelError(f"{path.name} is no ONNX file: {error}", code="model.load") from error
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            yield from (entry.value for entry in tensor.external_data if entry.key == "location")


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor of an ONNX model, wherever it hangs: initializers, constants, subgraphs, functions."""
    from google.protobuf.descriptor import FieldDescriptor

    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if field.is_repeated else (value,):
                yield from _tensors(inner)
