"""Weights of a file into a network: every number finds its place, or the error names those that do not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.safety import read_checkpoint
from swathe.errors import WeightsError

State = dict[str, Tensor]

CONTAINERS = ("state_dict", "model_state_dict", "model")
"""Where training frameworks put the weights among their other things."""

OF_THE_TASK = ("criterion.", "train_metrics.", "val_metrics.", "test_metrics.")
"""Buffers of a Lightning task (class weights, metrics) that are no part of its network."""

NAMED = 3
"""Keys that an error shows of each kind."""


def load(
    network: nn.Module,
    path: Path,
    rename: Mapping[str, str] | None = None,
    drop: Sequence[str] = (),
    also: Sequence[type] = (),
) -> None:
    """Load a Lightning checkpoint, a state dict or safetensors into ``network``, in float32, completely.

    ``rename`` maps prefixes of the file's keys to prefixes in the network, ``drop`` names prefixes of keys that the
    network has no place for. Raises WeightsError (``weights.mismatch``) for missing, unexpected and misshapen tensors,
    UnsafeModelError where the file asks for code; ``also`` are classes it may hold values of.
    """
    state = state_of(read_checkpoint(path, also), path)
    wanted = network.state_dict()
    fitting = _best(state, wanted, rename or {})
    kept = {k: v for k, v in fitting.items() if k in wanted or not k.startswith((*OF_THE_TASK, *drop))}
    _check(kept, wanted, path)
    # assign: the tensors of the file take the place of the random ones, so that a big network is held once.
    network.load_state_dict({k: _as(v, wanted[k]) for k, v in kept.items()}, strict=True, assign=True)
    network.requires_grad_(requires_grad=False)


def state_of(held: Any, path: Path) -> State:
    """Find the tensors in what a file holds. Raises WeightsError where there are none."""
    for name in CONTAINERS:
        if isinstance(held, dict) and isinstance(held.get(name), dict):
            held = held[name]
            break
    if not isinstance(held, dict) or not held or not all(isinstance(v, Tensor) for v in held.values()):
        raise WeightsError(f"{path} holds no state dict", code="weights.mismatch")
    # timm's wrapper, of checkpoints from the first versions of TerraTorch
    return {k.replace("_timm_module.", ""): v for k, v in held.items()}


def _best(state: State, wanted: Mapping[str, Tensor], rename: Mapping[str, str]) -> State:
    """The reading of the keys that finds most of the network: as they are, renamed, or without Lightning's prefix."""
    return max(_readings(state, rename), key=lambda reading: len(reading.keys() & wanted.keys()))


def _readings(state: State, rename: Mapping[str, str]) -> Iterator[State]:
    if rename:
        yield {_renamed(k, rename): v for k, v in state.items()}
        return
    yield state
    yield {k.removeprefix("model."): v for k, v in state.items()}


def _renamed(key: str, rename: Mapping[str, str]) -> str:
    for old, new in rename.items():
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def _as(found: Tensor, wanted: Tensor) -> Tensor:
    return found.to(wanted.dtype).contiguous()


def _check(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    shapes = {k: f"{k} {tuple(state[k].shape)} for {tuple(wanted[k].shape)}" for k in state.keys() & wanted.keys()}
    wrong = [shapes[k] for k in shapes if state[k].shape != wanted[k].shape]
    problems = {
        "missing": sorted(wanted.keys() - state.keys()),
        "unexpected": sorted(state.keys() - wanted.keys()),
        "of another shape": sorted(wrong),
    }
    said = [f"{len(keys)} {kind} ({_few(keys)})" for kind, keys in problems.items() if keys]
    if said:
        raise WeightsError(
            f"{path.name} does not fit the network: {'; '.join(said)}",
            code="weights.mismatch",
            hint="The card's network block and its weights belong to different models or versions.",
            field="network",
        )


def _few(keys: list[str]) -> str:
    return ", ".join(keys[:NAMED]) + (", …" if len(keys) > NAMED else "")


def save_random(network: nn.Module, path: Path, rename: Mapping[str, str] | None = None) -> None:
    """Write a network's numbers as a Lightning checkpoint (or safetensors, by the suffix), keys as its card expects."""
    back = {new: old for old, new in (rename or {"model.": ""}).items()}
    state = {_renamed(k, back): v.detach().clone().contiguous() for k, v in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 0, "global_step": 0}, path)
