"""Layers of results in their words: names, addresses of our tile service, and styles as SLD."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import quoteattr

from serve.dialects.geostudio.ids import uuid_of
from swathe.errors import SwatheError
from swathe.job import ENDED
from swathe.layer import Look

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serve.desk.desk import Desk
    from serve.dialects.geostudio.records import Seen
    from swathe.batch import Part
    from swathe.layer import Layer
    from swathe.user import Caller

_FILES = {"model_output_image": ("processed.tif", "result.tif"), "model_output_image_masked": ("masked.tif",),
          "model_output_regularized_image": ("result.tif",)}  # fmt: skip
"""What a push is made of in their words -> files of ours, the first that is there."""
WORKSPACE = "geofm"
_RAMP = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""As our tiles draw numbers without classes."""
Entry = tuple[float, str, float, str]
"""Quantity, colour, opacity, label."""


def published(desk: Desk, caller: Caller, seen: Seen, root: str) -> dict[str, Any] | None:
    """What an inference has on the map; None: nothing yet."""
    found = [
        one for part in seen.parts if part.job is not None and part.job.state in ENDED
        for one in _of_part(desk, caller, seen, part, root)
    ]  # fmt: skip
    if not found:
        return None
    boxes = [one.pop("bbox") for one in found]
    return {"predicted_layers": found, "bbox_pred": [list(box) for box in dict.fromkeys(map(tuple, boxes))]}


def layer_of_name(desk: Desk, caller: Caller, seen: Seen, name: str) -> str | None:
    """Our id of a layer by the name that ``published`` gave it."""
    for part in seen.parts:
        if part.job is not None and part.job.state in ENDED:
            for push, layer in _layers(desk, caller, seen, part):
                if name.rpartition(":")[2] == _name(seen, part, push).rpartition(":")[2]:
                    return layer.id
    return None


def _of_part(desk: Desk, caller: Caller, seen: Seen, part: Part, root: str) -> list[dict[str, Any]]:
    return [_shown(seen, part, push, layer, root, n) for n, (push, layer) in
            enumerate(_layers(desk, caller, seen, part))]  # fmt: skip


def _layers(desk: Desk, caller: Caller, seen: Seen, part: Part) -> list[tuple[Mapping[str, Any], Layer]]:
    """Those that the wish names, else the result."""
    assert part.job is not None
    try:
        there = {layer.file: layer for layer in reversed(desk.layers.of_job(caller, part.job.id))}
    except SwatheError:  # its files went
        return []
    pushes: list[Mapping[str, Any]] = seen.batch.labels.get("push") or [{}]
    named = [(push, _file(push, there)) for push in pushes]
    found = [(push, layer) for push, layer in named if layer is not None]
    first = _file({}, there)
    return found or ([({}, first)] if first else [])


def _file(push: Mapping[str, Any], there: Mapping[str, Layer]) -> Layer | None:
    names = _FILES.get(str(push.get("filepath_key", "")), ()) if push else ("masked.tif", "processed.tif", "result.tif")
    return next((there[name] for name in names if name in there), None)


def _name(seen: Seen, part: Part, push: Mapping[str, Any]) -> str:
    """As theirs for a single task; the task's number is in the names of several."""
    task = "" if len(seen.parts) == 1 else f"-task_{part.number}"
    last = str(push.get("layer_name") or "pred")
    return f"{push.get('workspace') or WORKSPACE}:{uuid_of(seen.batch.id)}{task}-{last}"


def _shown(seen: Seen, part: Part, push: Mapping[str, Any], layer: Layer, root: str, n: int) -> dict[str, Any]:
    uri = _name(seen, part, push)
    entries, kind = styled(push.get("geoserver_style")) or entries_of(layer)
    return {
        "uri": uri, "display_name": push.get("display_name") or "Model prediction",
        "sld_body": sld(uri, entries, kind), "z_index": push.get("z_index", n + 1),
        "visible_by_default": str(push.get("visible_by_default", "True")), "layer_id": layer.id,
        "tiles_url": f"{root}/api/layers/{layer.id}/tiles/{{z}}/{{x}}/{{y}}.png",
        "wms_url": f"{root}/api/layers/wms?job={layer.job}", "bbox": layer.bbox,
    }  # fmt: skip


def styled(style: Any) -> tuple[list[Entry], str] | None:
    """The colours that a wish asks for."""
    if not isinstance(style, dict):
        return None
    for key, kind in (("segmentation", "values"), ("regression", "ramp")):
        if rows := style.get(key):
            return [_entry(row) for row in rows if isinstance(row, dict)], kind
    return None


def _entry(row: Mapping[str, Any]) -> Entry:
    return (_number(row.get("quantity"), 0.0), str(row.get("color", "#000000")), _number(row.get("opacity"), 1.0),
            str(row.get("label", "")))  # fmt: skip


def _number(given: Any, otherwise: float) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        return otherwise


def sld(name: str, entries: list[Entry], kind: str = "values") -> str:
    """A colour map as SLD 1.0; entries: quantity, colour, opacity, label.

    The order of the attributes is the one that their readers cut the text by.
    """
    rows = "".join(
        f"<ColorMapEntry color={quoteattr(colour)} opacity={quoteattr(f'{opacity:g}')}"
        f" quantity={quoteattr(f'{quantity:g}')} label={quoteattr(label)}/>"
        for quantity, colour, opacity, label in entries
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><StyledLayerDescriptor version="1.0.0"'
        ' xmlns="http://www.opengis.net/sld" xmlns:ogc="http://www.opengis.net/ogc">'
        f"<NamedLayer><Name>{name}</Name><UserStyle><FeatureTypeStyle><Rule><RasterSymbolizer>"
        f'<ColorMap type="{kind}">{rows}</ColorMap>'
        "</RasterSymbolizer></Rule></FeatureTypeStyle></UserStyle></NamedLayer></StyledLayerDescriptor>"
    )


def entries_of(layer: Layer) -> tuple[list[Entry], str]:
    """Those that our tiles have."""
    style = layer.style
    if style.look is Look.CLASSES:
        return [(c.value, c.colour, 0.0 if c.background else 1.0, c.name) for c in style.classes], "values"
    low, high = style.true_span
    steps = len(_RAMP) - 1
    found = [(low + (high - low) * n / steps, colour, 1.0, "") for n, colour in enumerate(_RAMP)]
    return [(value, colour, opacity, f"{value:g}") for value, colour, opacity, _ in found], "ramp"
