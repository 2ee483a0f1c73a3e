"""Networks by the names that TerraTorch, TorchGeo and Clay know them by, with random numbers in them."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.blueprint import Blueprint
from models.safety import check_name, refusal, refuse_custom_modules
from swathe.errors import CardError, SwatheError

FETCHING = ("dinov3",)
"""Backbones of TerraTorch that download code from GitHub while they are built."""

TORCHGEO = (
    "resnet18", "resnet50", "resnet152", "unet", "vit_small_patch16_224", "vit_base_patch16_224",
    "vit_large_patch16_224", "vit_huge_patch14_224", "vit_small_patch14_dinov2", "vit_base_patch14_dinov2",
)  # fmt: skip
"""Builders of torchgeo.models whose networks take a plain (N, C, H, W) tensor."""


def construct(plan: Blueprint) -> nn.Module:
    """Build the network; nothing is downloaded.

    Raises UnsafeModelError for names the libraries do not know, CardError for arguments they do not take.
    """
    with _steady():
        try:
            return _builders[plan.route](plan)
        except SwatheError:
            raise
        except Exception as error:  # the libraries raise anything, bare Exception too
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise CardError(f"{plan.name} cannot be built: {reason}", code="card.network", field="network") from error


@contextmanager
def _steady() -> Iterator[None]:
    """Undo what the libraries do to the whole process.

    Importing TerraTorch lowers torch's precision of float32 products to bfloat16 (its Clay 1.5 module says "medium"),
    building a decoder calls ``logging.debug``, which installs a handler on the root logger, and every layer draws
    from the global random numbers.
    """
    precision, handlers = torch.get_float32_matmul_precision(), logging.getLogger().handlers[:]
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        logging.getLogger().handlers = handlers


def data_classes() -> tuple[type, ...]:
    """Classes of TerraTorch that its checkpoints carry among their hyper-parameters, and that only hold data."""
    with _steady():
        refuse_custom_modules(Path.cwd())
        from terratorch.datasets.utils import HLSBands, OpticalBands, SARBands
        from terratorch.models.model import AuxiliaryHead
    return HLSBands, OpticalBands, SARBands, AuxiliaryHead


def _of_factory(plan: Blueprint) -> nn.Module:
    refuse_custom_modules(Path.cwd())
    import terratorch.models  # noqa: F401  fills the registries
    from terratorch.models.model import AuxiliaryHead
    from terratorch.registry import MODEL_FACTORY_REGISTRY

    args = _known_parts(plan.name, plan.args)
    heads = [AuxiliaryHead(**_known_decoder(head)) for head in plan.aux_heads] or None
    factory = MODEL_FACTORY_REGISTRY.build(plan.name)
    return factory.build_model(task=plan.task, aux_decoders=heads, **args)


def _known_parts(factory: str, args: dict[str, Any]) -> dict[str, Any]:
    """Check the names among a factory's arguments, and switch off the downloads that are its default."""
    if factory == "EncoderDecoderFactory":
        return _known_encoder(_known_decoder(_known_necks(args)))
    if factory == "PrithviModelFactory":
        return {**_known_encoder(_known_decoder(args)), "pretrained": False}
    if factory == "SMPModelFactory":
        return {**_known_smp(args), "pretrained": False}
    if factory == "TimmModelFactory":
        import timm

        check_name(args.get("backbone"), timm.list_models(), "backbone", "network.args.backbone")
        return {**args, "pretrained": False}
    return _known_unet(args)


def _known_encoder(args: dict[str, Any]) -> dict[str, Any]:
    from terratorch.registry import BACKBONE_REGISTRY

    name = args.get("backbone")
    if isinstance(name, str) and name.removeprefix("terratorch_").startswith(FETCHING):
        raise refusal(name, "backbone", "It downloads code from GitHub.", "network.args.backbone")
    check_name(name, _Names(BACKBONE_REGISTRY), "backbone", "network.args.backbone")
    return args


def _known_decoder(args: dict[str, Any]) -> dict[str, Any]:
    from terratorch.registry import DECODER_REGISTRY

    if args.get("decoder") is not None:
        check_name(args["decoder"], _Names(DECODER_REGISTRY), "decoder", "network.args.decoder")
    return args


def _known_necks(args: dict[str, Any]) -> dict[str, Any]:
    from terratorch.registry import NECK_REGISTRY

    necks = args.get("necks") or []
    for neck in necks:
        check_name(neck.get("name"), _Names(NECK_REGISTRY), "neck", "network.args.necks")
    return {**args, "necks": [dict(neck) for neck in necks]}  # the factory writes into what it is given


def _known_smp(args: dict[str, Any]) -> dict[str, Any]:
    import timm
    from segmentation_models_pytorch.encoders import encoders
    from terratorch.registry import DECODER_REGISTRY

    known = {*encoders, *(f"tu-{name}" for name in timm.list_models(pretrained=True))}
    check_name(args.get("backbone"), known, "backbone", "network.args.backbone")
    check_name(f"smp_{args.get('model')}", _Names(DECODER_REGISTRY), "model", "network.args.model")
    return args


def _known_unet(args: dict[str, Any]) -> dict[str, Any]:
    from terratorch.models import backbones, decoders

    for part, module in (("backbone", backbones), ("decoder", decoders)):
        if args.get(part):
            layers = {n for n, v in vars(module).items() if isinstance(v, type) and issubclass(v, nn.Module)}
            check_name(args[part], layers, part, f"network.args.{part}")
    return args


class _Names(Collection[str]):
    """A registry of TerraTorch as a collection: its ``in`` raises for prefixes that it does not know."""

    def __init__(self, registry: Any) -> None:
        self._registry = registry

    def __contains__(self, name: object) -> bool:
        return name in self._registry

    def __iter__(self) -> Iterator[str]:
        return iter(self._registry)

    def __len__(self) -> int:
        return len(self._registry)


def _of_backbone(plan: Blueprint) -> nn.Module:
    refuse_custom_modules(Path.cwd())
    import terratorch.models  # noqa: F401  fills the registries
    from terratorch.models.utils import _get_backbone

    _known_encoder({"backbone": plan.name})
    return _get_backbone(plan.name, **plan.args)


def _of_torchgeo(plan: Blueprint) -> nn.Module:
    from torchgeo.models import get_model

    check_name(plan.name, TORCHGEO, "torchgeo", "network.torchgeo")
    args = dict(plan.args)
    if plan.name == "unet":
        args["encoder_weights"] = None  # ImageNet's would be fetched by default
    network: Any = get_model(plan.name, **args)
    if plan.task == "embedding_generation":
        network.forward = network.forward_features  # timm's: everything but pooling and head
    return network


def _of_clay(plan: Blueprint) -> nn.Module:
    refuse_custom_modules(Path.cwd())
    from models.clay import Clay

    return Clay(**plan.args)


_builders = {"factory": _of_factory, "backbone": _of_backbone, "torchgeo": _of_torchgeo, "clay": _of_clay}
