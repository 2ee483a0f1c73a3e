"""A card for what somebody trained with TerraTorch: made from the config of the training, read as a stranger's.

What a config says is taken: network, bands, means and standard deviations, classes, tile. What it does not say is
either asked for (bands) or settled by a rule that the card's summary names (scale).
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.blueprint import TASKS, NetworkBlock
from models.safety import read_config, refusal, safe_arguments
from swathe.bands import NAMES
from swathe.card import Task
from swathe.errors import CardError

_BANDS = {
    "coastal_aerosol": "coastal", "coastal": "coastal", "red_edge_1": "rededge071", "red_edge_2": "rededge075",
    "red_edge_3": "rededge078", "nir_broad": "nir", "nir": "nir", "nir_narrow": "nir08", "water_vapor": "nir09",
    "cirrus": "cirrus", "swir_1": "swir16", "swir_2": "swir22", "swir1": "swir16", "swir2": "swir22",
    "b01": "coastal", "b02": "blue", "b03": "green", "b04": "red", "b05": "rededge071", "b06": "rededge075",
    "b07": "rededge078", "b08": "nir", "b8a": "nir08", "b09": "nir09", "b10": "cirrus", "b11": "swir16",
    "b12": "swir22",
}  # fmt: skip
"""Names of TerraTorch and of Sentinel-2 -> ours; those that are common names already stay."""
_DN = 10_000.0
"""Optical products store reflectance times this."""
_REFLECTANCE = 2.0
"""No mean of reflectance is larger."""
_CHIP, _OVERLAP = 224, 16
_LARGEST = 1e30
_MOST_CLASSES = 255


@dataclass(frozen=True, slots=True)
class About:
    """What a config does not say."""

    id: str
    """Of the card."""
    title: str
    """For people."""
    summary: str = ""
    """For people."""
    weights: str = ""
    """Uri of the checkpoint."""
    bands: tuple[str, ...] = ()
    """Of the input, in order, where somebody says them; before those of the config."""
    factor: float | None = None
    """By which stored numbers of optical products (reflectance times 10 000) become what the network eats."""
    classes: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    """Value -> name and colour, where somebody says them."""


def trained_card(config: Path, about: About) -> dict[str, Any]:
    """A card's document. Raises CardError (``card.config``, ``card.bands``, ``card.classes``), UnsafeModelError."""
    document = read_config(config)
    model, data = _init(document, "model"), _init(document, "data")
    task = _task(document)
    args = model.get("model_args")
    if not isinstance(args, dict):
        raise CardError("the config has no model_args", code="card.config", field="model.init_args.model_args")
    bands = _bands(about, data, args)
    means, stds = _numbers(data.get("means"), bands), _numbers(data.get("stds"), bands)
    scale, why = _scale(about, data, means)
    chip, overlap = _tile(model, data)
    output: dict[str, Any] = {"classes": _classes(about, model, args)} if task is Task.SEGMENTATION else {}
    return {
        "id": about.id, "title": about.title, "summary": f"{about.summary} {why}".strip(), "task": str(task),
        "adapter": "terratorch", "network": _network(model, args), "weights": {"uri": about.weights},
        "input": {
            "bands": bands, "scale": scale, "mean": means, "std": stds, "chip": chip, "overlap": overlap,
            "times": _times(data, args), "alternatives": {n: [o] for n, o in _OTHERS.items() if n in bands
                                                          and o not in bands},
        },
        "output": output, "licence": "not stated", "citation": "not stated",
    }  # fmt: skip


_OTHERS = {"nir": "nir08", "nir08": "nir"}
"""Which of the two near infrared bands a source has is seldom what a config is about."""


def _init(document: Mapping[str, Any], block: str) -> dict[str, Any]:
    found = document.get(block)
    args = found.get("init_args") if isinstance(found, dict) else None
    return args if isinstance(args, dict) else {}


def _task(document: Mapping[str, Any]) -> Task:
    block = document.get("model")
    path = str(block.get("class_path", "")) if isinstance(block, dict) else ""
    package, _, name = path.rpartition(".")
    if name not in TASKS or (package and not f"{package}.".startswith("terratorch.tasks.")):
        raise refusal(path or "nothing", "the model block", f"Allowed: terratorch.tasks.{', '.join(TASKS)}.",
                      "model.class_path")  # fmt: skip
    task = TASKS[name][0]
    if name not in ("SemanticSegmentationTask", "PixelwiseRegressionTask"):
        raise CardError(f"{name} makes no map pixel by pixel: write a card for it", code="card.task",
                        field="model.class_path")  # fmt: skip
    return task


def _network(model: Mapping[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    factory = str(model.get("model_factory", "") or "EncoderDecoderFactory")
    heads = model.get("aux_heads") or ()
    block: dict[str, Any] = {"factory": factory, "args": safe_arguments(args)}
    if heads:
        block["aux_heads"] = [safe_arguments(head, "network.aux_heads") for head in heads]
    return NetworkBlock.model_validate(block).model_dump(mode="json", exclude_defaults=True)


def _bands(about: About, data: Mapping[str, Any], args: Mapping[str, Any]) -> list[str]:
    """Who was asked first: the caller, then what the data module gives out, then the backbone."""
    said = (about.bands, data.get("output_bands"), data.get("dataset_bands"), args.get("backbone_bands"),
            args.get("bands"))  # fmt: skip
    given = next((list(one) for one in said if isinstance(one, Sequence) and not isinstance(one, str) and one), [])
    if not given:
        raise CardError("the config names no bands", code="card.bands", field="bands", hint="say them in order")
    named = [common_name(str(one)) for one in given]
    unknown = [str(one) for one, name in zip(given, named, strict=True) if not name]
    if unknown:
        raise CardError(f"nobody knows which bands {', '.join(unknown)[:200]} are", code="card.bands", field="bands",
                        hint=f"name them as {', '.join(sorted(NAMES))}")  # fmt: skip
    return [name for name in named if name]


def common_name(text: str) -> str | None:
    """A band by the name that its publisher or TerraTorch gives it; None: not known."""
    plain = text.strip().lower().replace("-", "_").replace(" ", "_")
    return plain if plain in NAMES else _BANDS.get(plain) or _BANDS.get(plain.replace("_", ""))


def _numbers(given: Any, bands: Sequence[str]) -> list[float]:
    if given is None:
        return []
    values = list(given.values()) if isinstance(given, dict) else given
    if not isinstance(values, list) or not all(map(_is_number, values)):
        raise CardError("means and stds are one number per band", code="card.config", field="data.init_args.means")
    if len(values) != len(bands):
        raise CardError(f"{len(values)} means or stds for {len(bands)} bands", code="card.config",
                        field="data.init_args.means")  # fmt: skip
    return [float(v) for v in values]


def _is_number(given: Any) -> bool:
    """One that can be reckoned with: YAML has whole numbers of any length, and none."""
    return isinstance(given, int | float) and abs(given) < _LARGEST


def _scale(about: About, data: Mapping[str, Any], means: Sequence[float]) -> tuple[float, str]:
    """From reflectance to what the network was trained on, and by which rule that was told."""
    if about.factor is not None:
        return _DN * about.factor, "Scale: as its user says."
    constant = data.get("constant_scale")
    if constant is not None and not _is_number(constant):
        raise CardError("constant_scale is no number", code="card.config", field="data.init_args.constant_scale")
    factor = 1.0 if constant is None else float(constant)
    large = any(abs(mean) > _REFLECTANCE for mean in means)
    if factor != 1.0 or large:
        return _DN * factor, f"Scale: reflectance times {_DN * factor:g}, by the config's constant_scale and means."
    return 1.0, "Scale: reflectance, because no mean of the config is larger than 2."


def _tile(model: Mapping[str, Any], data: Mapping[str, Any]) -> tuple[int, int]:
    tiled = model.get("tiled_inference_parameters")
    given = tiled if isinstance(tiled, dict) else {}
    side = next((v for v in (given.get("h_crop"), given.get("crop"), data.get("img_size"), data.get("image_size"))
                 if isinstance(v, int)), _CHIP)  # fmt: skip
    stride = next((v for v in (given.get("h_stride"), given.get("stride")) if isinstance(v, int)), side - _OVERLAP)
    return side, max(0, min(side // 2, side - stride))


def _times(data: Mapping[str, Any], args: Mapping[str, Any]) -> int:
    said = args.get("backbone_num_frames", args.get("num_frames"))
    return said if isinstance(said, int) and (data.get("expand_temporal_dimension") or said > 1) else 1


def _classes(about: About, model: Mapping[str, Any], args: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = model.get("class_names") or []
    count = args.get("num_classes") or len(names) or len(about.classes)
    if not isinstance(count, int) or not 2 <= count <= _MOST_CLASSES:  # noqa: PLR2004  fewer are no choice
        raise CardError("the config does not say how many classes there are", code="card.classes",
                        field="model.init_args.model_args.num_classes")  # fmt: skip
    return [_class(n, count, about, names) for n in range(count)]


def _class(n: int, count: int, about: About, names: Sequence[Any]) -> dict[str, Any]:
    name, colour = about.classes.get(n, ("", ""))
    said = str(names[n]) if n < len(names) else f"class {n}"
    return {"value": n, "name": name or said, "colour": colour or _colour(n, count), "background": n == 0}


def _colour(n: int, count: int) -> str:
    """Grey for the first, then around the circle."""
    red, green, blue = (0.85,) * 3 if n == 0 else colorsys.hsv_to_rgb((n - 1) / max(count - 1, 1), 0.7, 0.8)
    return "#" + "".join(f"{round(255 * v):02x}" for v in (red, green, blue))
