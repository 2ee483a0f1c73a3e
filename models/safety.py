"""What the configs and checkpoints of strangers may do: describe networks and hold numbers, nothing else.

A TerraTorch config names classes, a model factory takes names and paths, and a checkpoint is a pickle: each of the
three can run code or fetch files. The rules here, before anything is built:

- YAML is read by the safe loader; a tag that asks for Python is refused.
- ``class_path`` outside ``PACKAGES`` is refused wherever it stands in a config. Only the task of the ``model`` block is
  ever looked at, and it is mapped to a word, never imported by its path; the other packages are on the list so that an
  untouched training config passes.
- Arguments of a network are plain values. An argument that names weights, files, repositories or addresses is refused
  (``pretrained: true`` is turned off instead: the card's checkpoint holds every number), and so is a value that looks
  like a path, an address or a dotted name, except layers of ``torch.nn``.
- Names must be known to the library's own registry (``known``), and those that fetch code are struck out there.
- Checkpoints are read by torch's restricted unpickler or as safetensors; what else they ask for is named.

Everything refused raises ``UnsafeModelError`` with what was asked for; nothing has run by then.
"""

from __future__ import annotations

import pickle
import pickletools
import re
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from swathe.errors import CardError, UnsafeModelError, WeightsError

PACKAGES = (
    "albumentations", "kornia", "lightning", "pytorch_lightning", "segmentation_models_pytorch", "terratorch", "timm",
    "torch", "torchgeo", "torchmetrics", "torchvision",
)  # fmt: skip
"""Packages whose classes a config may name."""

PICKLES = frozenset({".ckpt", ".pt", ".pth", ".bin"})
"""Checkpoints read by torch's restricted unpickler."""

LARGEST_CONFIG = 1 << 18
"""Bytes of YAML, and values in it with its aliases written out; the longest published config has 6 kB."""
_DEEPEST, _LONGEST_PLACE = 100, 500
_UNREADABLE = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""Beside its own errors the loader lets through those of what it calls: ``2024-13-45`` is no date."""

_SWITCH = re.compile(r"(^|_)pretrained$")
_FETCHES = re.compile(
    r"(^|_)(ckpt|checkpoint|weights|path|paths|file|files|filename|url|uri|hub|repo|dir|folder"
    r"|pretrained_cfg|pretrained_cfg_overlay)(_|$)"
)
_INSTANTIATES = frozenset({"class_path", "init_args", "dict_kwargs"})
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_LAYER = re.compile(r"torch\.nn\.([A-Z]\w*)")


def read_config(path: Path) -> dict[str, Any]:
    """Read a TerraTorch (Lightning) YAML config of unknown origin.

    Raises UnsafeModelError for Python tags and foreign classes, CardError where it is no readable mapping.
    """
    try:
        text = path.read_bytes()[: LARGEST_CONFIG + 1]
    except OSError as error:
        raise CardError(f"cannot read the config {path}: {error.strerror}", code="card.config") from error
    if len(text) > LARGEST_CONFIG:
        raise CardError(f"{path} has more than {LARGEST_CONFIG} bytes", code="card.config")
    document = _parse(text, path)
    _expect_plain(document, path)
    if not isinstance(document, dict):
        raise CardError(f"{path} is no mapping", code="card.config", hint="Expected a TerraTorch config.")
    check_classes(document)
    return document


class _Loader(yaml.SafeLoader):
    """The safe one, that writes no more keys out than a config may have: ``<<`` of nine ``<<`` of nine ..."""

    merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Called for each mapping, and for each that is merged into it, before it is."""
        super().flatten_mapping(node)
        self.merged += len(node.value)
        if self.merged > LARGEST_CONFIG:
            raise yaml.YAMLError("it is too large with its aliases written out")


def _parse(text: bytes, path: Path) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506  a safe one
    except yaml.constructor.ConstructorError as error:
        asked = re.search(r"tag '([^']+)'", str(error))
        raise refusal(asked.group(1) if asked else str(error.problem), "a YAML tag") from error
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())
        raise CardError(f"{path} is no YAML: {reason}", code="card.config") from error


def _expect_plain(document: Any, path: Path) -> None:
    """Raises CardError where aliases make endless what was short, or deep what was flat."""
    count, stack = 0, [(document, 0)]
    while stack:
        value, depth = stack.pop()
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
        count += len(inner)
        if count > LARGEST_CONFIG or depth > _DEEPEST:
            raise CardError(f"{path} is too large or too deep with its aliases written out", code="card.config")
        stack.extend((one, depth + 1) for one in inner)


def refusal(asked: str, what: str, hint: str = "", field: str = "") -> UnsafeModelError:
    """The error that names what was asked for."""
    return UnsafeModelError(f"{what} asks for {asked!r}", hint=hint or "Nothing was run.", field=field)


def walk(value: Any, where: str = "") -> Iterator[tuple[str, str, Any]]:
    """Every (dotted place, key, value) of nested mappings and lists; each container once, so aliases cannot grow."""
    seen: set[int] = set()
    stack = [(where, where.rpartition(".")[2], value)]
    while stack:
        place, last, current = stack.pop()
        if not isinstance(current, (dict, list)) or id(current) in seen:
            continue
        seen.add(id(current))
        for key, inner in current.items() if isinstance(current, dict) else enumerate(current):
            name = str(key) if isinstance(current, dict) else last
            inner_place = (f"{place}.{key}" if place else str(key))[:_LONGEST_PLACE]
            yield inner_place, name, inner
            if isinstance(inner, (dict, list)):
                stack.append((inner_place, name, inner))


def check_classes(document: Any) -> None:
    """Refuse a ``class_path`` from a package that is not on the list; bare names stay names and are never imported."""
    for place, key, value in walk(document):
        if key != "class_path":
            continue
        package = str(value).partition(".")[0]
        if not isinstance(value, str) or ("." in value and package not in PACKAGES):
            raise refusal(
                str(value), "class_path", f"Allowed packages: {', '.join(PACKAGES)}. Remove it from {place}.", place
            )


def safe_arguments(arguments: dict[str, Any], field: str = "network.args") -> dict[str, Any]:
    """Copy of a network's arguments without downloads.

    Raises UnsafeModelError for whatever would import, fetch or read, CardError for values that are no plain data.
    """
    for place, key, value in walk(arguments, field):
        _check_argument(place, key, value)
    return _switched_off(arguments)


def _check_argument(place: str, key: str, value: Any) -> None:
    if key in _INSTANTIATES:
        raise refusal(str(value), key, "A network is built from names of TerraTorch's registries.", place)
    if not isinstance(value, (str, bool, int, float, list, dict, type(None))):
        raise CardError(f"{place} is {type(value).__name__}, no plain value", code="card.network", field=place)
    if _names_a_source(key, value):
        raise refusal(str(value), key, "Weights come from the card's own `weights` entry only; remove it.", place)
    if isinstance(value, str):
        _check_text(value, key, place)


def _names_a_source(key: str, value: Any) -> bool:
    if _SWITCH.search(key):
        return not isinstance(value, (bool, type(None)))
    quiet = value is None or value is False or (isinstance(value, (int, float)) and value is not True)
    return bool(_FETCHES.search(key)) and not quiet  # drop_path: 0.1 is a rate, no path


def _check_text(value: str, key: str, place: str) -> None:
    if any(c in value for c in "/\\:~") or ".." in value:
        raise refusal(value, key, "Paths and addresses are not allowed in a network's arguments.", place)
    if _DOTTED.fullmatch(value) and not _is_layer(value):
        raise refusal(value, key, "Of dotted names only layers of torch.nn are allowed.", place)


def _is_layer(name: str) -> bool:
    matched = _LAYER.fullmatch(name)
    if matched is None:
        return False
    from torch import nn

    layer = getattr(nn, matched.group(1), None)
    return isinstance(layer, type) and issubclass(layer, nn.Module)


def _switched_off(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: False if _SWITCH.search(str(k)) else _switched_off(v) for k, v in value.items()}
    return [_switched_off(v) for v in value] if isinstance(value, list) else value


def check_name(name: Any, known: Collection[str], what: str, field: str = "") -> str:
    """Return a name that the registry knows; UnsafeModelError for any other, as it may be a path or fetch code."""
    if isinstance(name, str) and name in known:
        return name
    raise refusal(str(name), what, f"It is not among the {len(known)} known ones.", field)


def refuse_custom_modules(folder: Path) -> None:
    """TerraTorch imports a package ``custom_modules`` of the working folder by itself: refuse before it does."""
    if (folder / "custom_modules").is_dir():
        raise refusal(
            str(folder / "custom_modules"), "importing TerraTorch here", "Work in another folder, or rename that one."
        )


def read_checkpoint(path: Path, also: Sequence[type] = ()) -> Any:
    """Whatever a checkpoint holds, on the CPU: tensors, plain containers, and values of the classes ``also``.

    Raises UnsafeModelError naming the globals a pickle asks for, WeightsError where the file is missing or broken.
    """
    if not path.is_file():
        raise WeightsError(f"no checkpoint at {path}", code="weights.missing", hint="See `swathe models`.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.suffix not in PICKLES:
        known = ", ".join(sorted({".safetensors", *PICKLES}))
        raise refusal(path.name, "a checkpoint", f"Checkpoints end in {known}.")
    return _read_pickle(path, also)


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _corrupt(path, error) from error


def _read_pickle(path: Path, also: Sequence[type]) -> Any:
    import torch

    with warnings.catch_warnings(), torch.serialization.safe_globals([*also]):
        warnings.simplefilter("ignore")  # of old protocols and TorchScript: what follows is refused anyway
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            asked = ", ".join(_globals_of(path)) or "more than tensors"
            hint = "Save the state dict alone, or as .safetensors."
            raise refusal(asked, f"the checkpoint {path.name}", hint) from error
        except RuntimeError as error:
            if "weights_only" in str(error):  # TorchScript archives, and the tar format of old
                raise refusal("more than tensors", f"the checkpoint {path.name}", str(error).split("\n")[0]) from error
            raise _corrupt(path, error) from error
        except (OSError, EOFError, ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            raise _corrupt(path, error) from error


def _globals_of(path: Path) -> list[str]:
    """What a pickle would import beyond tensors, read off without running it."""
    import torch

    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:  # noqa: BLE001  torch lists zip archives only; the refusal stands either way
        return _globals_of_plain(path)


def _globals_of_plain(path: Path) -> list[str]:
    found, strings = set(), [""]
    with path.open("rb") as file, suppress(ValueError, OSError):
        while True:  # torch's old format is several pickles in a row; what follows the last is a ValueError
            for code, argument, _ in pickletools.genops(file):
                if code.name == "GLOBAL":
                    found.add(str(argument).replace(" ", "."))
                elif code.name == "STACK_GLOBAL":
                    found.add(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
    return sorted(found)


def _corrupt(path: Path, error: Exception) -> WeightsError:
    reason = str(error).split("\n")[0][:200]
    return WeightsError(
        f"{path} cannot be read: {reason}", code="weights.corrupt", hint="Fetch it again; it may be cut short."
    )
