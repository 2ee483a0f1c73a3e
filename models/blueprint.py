"""What network a card describes: the ``network`` block of the adapter ``terratorch``, read and checked, nothing built.

One of five ways in::

    config: my-config.yaml            a TerraTorch (Lightning) config: its model block is read
    factory: EncoderDecoderFactory    a model factory of TerraTorch, with its args
    backbone: terramind_v1_tiny       a backbone of TerraTorch's registry, with its args: embeddings
    clay: v1.5                        Clay's encoder with its args: embeddings
    torchgeo: resnet18                a builder of torchgeo.models, with its args
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from models.safety import read_config, refusal, safe_arguments
from swathe.card import Frozen, ModelCard, Task
from swathe.errors import CardError, WeightsError

Fetch = Callable[[str], Path]
"""Has a uri (hf://, https://, s3://) on this machine."""

Layout = Literal["image", "cube", "stack", "stack-newest-first"]
"""How dates reach the network: (N,C,H,W); (N,C,T,H,W); (N,T*C,H,W), oldest or newest date first."""

Route = Literal["factory", "backbone", "clay", "torchgeo"]

ROUTES: tuple[Route, ...] = ("factory", "backbone", "clay", "torchgeo")

FACTORIES = (
    "EncoderDecoderFactory", "PrithviModelFactory", "SMPModelFactory", "TimmModelFactory", "GenericUnetModelFactory",
)  # fmt: skip
"""Of TerraTorch's factories those that build from names alone; the others put folders on the import path, fetch a
teacher network or make no maps."""

TASKS = {
    "SemanticSegmentationTask": (Task.SEGMENTATION, "segmentation"),
    "PixelwiseRegressionTask": (Task.REGRESSION, "regression"),
    "ScalarRegressionTask": (Task.REGRESSION, "scalar_regression"),
    "ClassificationTask": (Task.CLASSIFICATION, "classification"),
    "EmbeddingGenerationTask": (Task.EMBEDDING, "embedding_generation"),
}
"""Task of a TerraTorch config -> ours, and TerraTorch's word for it."""


class NetworkBlock(Frozen):
    """``ModelCard.network`` of the adapter ``terratorch``."""

    config: str = ""
    """A path beside the card, or a uri."""
    factory: str = ""
    """Name of a model factory."""
    backbone: str = ""
    """Name in TerraTorch's backbone registry."""
    clay: Literal["", "v1.5"] = ""
    """Version of Clay."""
    torchgeo: str = ""
    """Name of a builder of torchgeo.models."""
    args: dict[str, Any] = Field(default_factory=dict)
    """Arguments of what was named."""
    aux_heads: tuple[dict[str, Any], ...] = ()
    """Of a factory: name, decoder and decoder_args of heads that only training needs, so that their weights have a
    place."""
    layout: Literal["auto"] | Layout = "auto"
    """auto: image for one date; for several cube, and stack for TorchGeo's networks."""
    layer: int = -1
    """Of a backbone: which of its outputs is the embedding."""
    rename: dict[str, str] = Field(default_factory=dict)
    """Prefix of the checkpoint's keys -> prefix in the network."""
    drop: tuple[str, ...] = ()
    """Prefixes of the checkpoint's keys that the network has no place for (decoders of the pre-training)."""

    @model_validator(mode="after")
    def _one_way_in(self) -> NetworkBlock:
        ways = ("config", *ROUTES)
        given = [name for name in ways if getattr(self, name)]
        if len(given) != 1:
            msg = f"give one of {', '.join(ways)}; given: {', '.join(given) or 'none'}"
            raise ValueError(msg)
        return self


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A network to build: names and plain values that have passed the rules of ``models.safety``."""

    route: Route
    """Which of the libraries builds it."""
    name: str
    """Of the factory, backbone or builder."""
    task: str
    """TerraTorch's word."""
    args: dict[str, Any] = field(default_factory=dict)
    """Of the builder."""
    aux_heads: tuple[dict[str, Any], ...] = ()
    """Of a factory."""
    layer: int = -1
    """Of a backbone."""
    layout: Layout = "image"
    """How dates reach it."""
    rename: dict[str, str] = field(default_factory=dict)
    """Prefixes of the checkpoint's keys."""
    drop: tuple[str, ...] = ()
    """Prefixes of the checkpoint's keys."""


def blueprint(card: ModelCard, fetch: Fetch | None = None) -> Blueprint:
    """Read and check what a card's network is; ``fetch`` is only called for a config that is a uri.

    Raises CardError where the block or the config does not hold together, UnsafeModelError where it asks for code.
    """
    block = _block(card)
    described = _of_config(card, block, fetch) if block.config else _of_block(card, block)
    if described.route == "factory" and described.name not in FACTORIES:
        raise refusal(described.name, "factory", f"Allowed: {', '.join(FACTORIES)}.", "network.factory")
    args = safe_arguments(described.args)
    _check_classes(card, args)
    return replace(
        described,
        args=args,
        aux_heads=tuple(safe_arguments(head, "network.aux_heads") for head in described.aux_heads),
        layout=_layout(card, block, described),
        rename=block.rename,
        drop=block.drop,
    )


def _block(card: ModelCard) -> NetworkBlock:
    try:
        return NetworkBlock.model_validate(card.network)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(["network", *map(str, first["loc"])])
        raise CardError(f"{card.id}: {place}: {first['msg']}", code="card.network", field=place) from error


def _of_block(card: ModelCard, block: NetworkBlock) -> Blueprint:
    route: Route = next(r for r in ROUTES if getattr(block, r))
    whole_tile = 1 < card.output.stride == card.input.chip
    word = "embedding_generation" if card.task is Task.EMBEDDING else str(card.task)
    if card.task is Task.REGRESSION and whole_tile:
        word = "scalar_regression"
    return Blueprint(route, getattr(block, route), word, block.args, block.aux_heads, block.layer)


def _of_config(card: ModelCard, block: NetworkBlock, fetch: Fetch | None) -> Blueprint:
    model = read_config(_config_path(card, block.config, fetch)).get("model")
    given = model.get("init_args") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(given, dict):
        raise CardError(f"{card.id}: {block.config} has no model block with init_args", code="card.config")
    word = _task_of(card, str(model.get("class_path", "")))
    if given.get("model") is not None:
        raise refusal(str(given["model"]), "model", "A network is built by a factory only.", "network.config")
    args, heads = given.get("model_args") or {}, given.get("aux_heads") or []
    if not isinstance(args, dict) or not all(isinstance(head, dict) for head in heads):
        raise CardError(f"{card.id}: model_args or aux_heads of {block.config} are no mappings", code="card.config")
    args |= block.args
    if word == "embedding_generation":
        layers = given.get("layers") or [block.layer]
        return Blueprint("backbone", str(args.get("backbone", "")), word, _of_backbone(args), layer=int(layers[-1]))
    return Blueprint("factory", str(given.get("model_factory", "")), word, args, tuple(heads))


def _config_path(card: ModelCard, config: str, fetch: Fetch | None) -> Path:
    if "://" in config:
        if fetch is None:
            raise WeightsError(f"{card.id}: the config {config} is not on this machine", code="weights.missing")
        return fetch(config)
    if ".." in Path(config).parts:
        raise refusal(config, "config", "A config lies beside its card or at an absolute path.", "network.config")
    beside = card.origin.parent if card.origin else Path()
    return beside / config


def _task_of(card: ModelCard, class_path: str) -> str:
    package, _, name = class_path.rpartition(".")
    if name not in TASKS or (package and not f"{package}.".startswith("terratorch.tasks.")):
        hint = f"Allowed: terratorch.tasks.{', '.join(TASKS)}."
        raise refusal(class_path or "nothing", "the model block", hint, "model.class_path")
    task, word = TASKS[name]
    if task is not card.task:
        raise CardError(f"{card.id} says {card.task}, its config {name}", code="card.task", field="task")
    return word


def _of_backbone(args: dict[str, Any]) -> dict[str, Any]:
    prefix = "backbone_"
    return {key.removeprefix(prefix): value for key, value in args.items() if key.startswith(prefix)}


def _check_classes(card: ModelCard, args: dict[str, Any]) -> None:
    classes = args.get("num_classes", args.get("classes"))
    named = len(card.output.classes)
    if named and isinstance(classes, int) and classes != named:
        raise CardError(
            f"{card.id} names {named} classes, its network has {classes}", code="card.classes", field="output.classes"
        )


def _layout(card: ModelCard, block: NetworkBlock, described: Blueprint) -> Layout:
    if block.layout != "auto":
        layout: Layout = block.layout
    elif described.route == "torchgeo":
        layout = "stack"
    else:
        args = described.args
        temporal = card.input.times > 1 or bool(args.get("backbone_use_temporal", args.get("use_temporal")))
        layout = "cube" if temporal else "image"
    if layout == "image" and card.input.times > 1:
        raise CardError(f"{card.id}: {card.input.times} dates do not fit the layout image", code="card.network")
    return layout
