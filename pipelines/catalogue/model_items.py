"""A STAC Item per model card, in the words of the Machine Learning Model extension (MLM): what results link to."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from pipelines.products.item import slug
from swathe.card import BandStatistics, ClassLabel, ModelCard, Task

MODELS = "models"
"""The collection of these Items."""
MLM = "https://stac-extensions.github.io/mlm/v1.5.2/schema.json"
_FILE = "https://stac-extensions.github.io/file/v2.1.0/schema.json"
_TASKS = {
    Task.SEGMENTATION: "semantic-segmentation",
    Task.CLASSIFICATION: "scene-classification",
    Task.REGRESSION: "regression",
    # The extension's list has no word for embeddings; this is what they are for.
    Task.EMBEDDING: "similarity-search",
}
_ARTEFACTS = {".onnx": "onnx", ".safetensors": "safetensors.torch.save_file", ".pt2": "torch.export.save"}
_HUB = re.compile(r"hf://([^/]+/[^/@]+)(?:@([^/]+))?/(.+)")


def models_collection() -> dict[str, Any]:
    """The STAC Collection of model Items."""
    return {
        "type": "Collection",
        "stac_version": "1.1.0",
        "id": MODELS,
        "title": "Models",
        "description": "The models that results in this catalogue were made with. They have no place, so searches "
        "for a place do not find them.",
        "license": "other",
        "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        "links": [],
    }


def model_item(card: ModelCard, when: datetime) -> dict[str, Any]:
    """The Item of a card; ``when`` it came into the catalogue, with a time zone.

    Without geometry: a model is not anywhere, and would turn up in every search for imagery.
    """
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [MLM, *([_FILE] if card.weights and card.weights.sha256 else [])],
        "id": card.id,
        "collection": MODELS,
        "geometry": None,
        "properties": _properties(card, when),
        "links": [{"rel": "about", "href": url, "title": f"{card.title}: {name}"} for name, url in card.links.items()],
        "assets": _assets(card),
    }


def _properties(card: ModelCard, when: datetime) -> dict[str, Any]:
    found: dict[str, Any] = {
        "datetime": when.isoformat().replace("+00:00", "Z"),
        "title": card.title,
        "license": card.licence,
        "bands": [{"name": name} for name in _bands(card)],
        "mlm:name": card.id if card.id[0].isalpha() else f"model {card.id}",
        "mlm:architecture": _architecture(card),
        "mlm:tasks": [_TASKS[card.task]],
        "mlm:input": _inputs(card),
        "mlm:output": [_output(card)],
        "mlm:batch_size_suggestion": card.resources.batch,
        "swathe:citation": card.citation,
    }
    if card.summary:
        found["description"] = card.summary
    if card.adapter == "terratorch":
        found |= {"mlm:framework": "PyTorch", "mlm:pretrained": card.weights is not None}
    if card.input.gsd_m:
        found["gsd"] = card.input.gsd_m[0]
    return found


def _architecture(card: ModelCard) -> str:
    """The name that the card's adapter knows the network by."""
    args = card.network.get("args")
    backbone = args.get("backbone") if isinstance(args, dict) else None
    words = (backbone, card.network.get("index"), card.network.get("factory"), card.adapter)
    if card.adapter == "formula":
        return f"spectral index {card.network.get('index', '')}".strip()
    return next(str(w) for w in words if isinstance(w, str) and w)


def _bands(card: ModelCard) -> list[str]:
    modalities = card.input.modalities.values()
    return list(dict.fromkeys([*card.input.bands, *(b for m in modalities for b in m.bands)]))


def _inputs(card: ModelCard) -> list[dict[str, Any]]:
    """One per sensor: batches of tiles in physical units, which ``value_scaling`` takes to what the network saw."""
    modalities = card.input.modalities or {"image": card.input}
    return [_input(name, bands, card) for name, bands in modalities.items()]


def _input(name: str, bands: BandStatistics, card: ModelCard) -> dict[str, Any]:
    side, times = card.input.chip, card.input.times
    dims = ["batch", "bands", *(["time"] if times > 1 else []), "height", "width"]
    shape = [-1, len(bands.bands), *([times] if times > 1 else []), side, side]
    found: dict[str, Any] = {
        "name": name,
        "bands": list(bands.bands),
        "input": {"shape": shape, "dim_order": dims, "data_type": "float32"},
    }
    if bands.mean or bands.std:
        means, stds = bands.mean or (0.0,) * len(bands.bands), bands.std or (1.0,) * len(bands.bands)
        found["value_scaling"] = [
            {"type": "z-score", "mean": m / bands.scale, "stddev": s / bands.scale}
            for m, s in zip(means, stds, strict=True)
        ]
    return found


def _output(card: ModelCard) -> dict[str, Any]:
    side = card.input.chip // card.output.stride
    found: dict[str, Any] = {
        "name": card.output.name or str(card.task),
        "tasks": [_TASKS[card.task]],
        "result": {
            "shape": [-1, card.output.depth, side, side],
            "dim_order": ["batch", "channel", "height", "width"],
            "data_type": "float32",
        },
    }
    if card.output.classes:
        found["classification:classes"] = [_class(label) for label in card.output.classes]
    return found


def _class(label: ClassLabel) -> dict[str, Any]:
    colour = label.colour[1:].upper()
    name = slug(label.name)
    return {"value": label.value, "name": name, "title": label.name, "description": label.name, "color_hint": colour}


def _assets(card: ModelCard) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if card.weights is not None:
        href = _address(card.weights.uri)
        weights: dict[str, Any] = {"href": href, "title": "Weights", "type": "application/octet-stream"}
        weights |= {"roles": ["mlm:model", "mlm:weights"], "mlm:artifact_type": _artefact(href)}
        if card.weights.sha256:
            weights["file:checksum"] = f"1220{card.weights.sha256}"
        found["weights"] = weights
    if card.origin is not None:
        described: dict[str, Any] = {"href": str(card.origin), "title": "Model card", "type": "application/yaml"}
        described["roles"] = ["metadata"] if found else ["mlm:model", "metadata"]
        if not found:
            described["mlm:artifact_type"] = "swathe model card"
        found["card"] = described
    # STAC allows bands in properties, where MLM looks for them, only beside bands of an asset.
    bands = [{"name": name} for name in _bands(card)]
    return {key: asset | ({"bands": bands} if "mlm:model" in asset["roles"] else {}) for key, asset in found.items()}


def _artefact(href: str) -> str:
    return next((kind for suffix, kind in _ARTEFACTS.items() if href.endswith(suffix)), "torch.save")


def _address(uri: str) -> str:
    """Hugging Face's own scheme as an address that anybody can open."""
    match = _HUB.fullmatch(uri)
    return f"https://huggingface.co/{match[1]}/resolve/{match[2] or 'main'}/{match[3]}" if match else uri
