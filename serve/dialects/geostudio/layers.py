"""Layers of results in their words: names, addresses of our tile service, and styles as SLD."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from serve.desk.asking import ColourAsked, PublishAsked
from serve.dialects.geostudio.ids import uuid_of
from serve.dialects.geostudio.styles import MOST_COLOURS, styled
from swathe.job import ENDED
from swathe.layer import Look
from swathe.masking import CodeLabel
from swathe.sld import colours_of, sld, with_codes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serve.desk.desk import Desk
    from serve.dialects.geostudio.records import Seen
    from swathe.batch import Part
    from swathe.layer import Layer
    from swathe.user import Caller

RESULT, MASKED = "model_output_image", "model_output_image_masked"
"""What a model made, in their words (of a ready-made layer the raster itself), and the same where it was masked."""
PICTURE = "model_input_original_image_rgb"
"""The imagery in colours."""
_FILES = {RESULT: ("processed.tif", "result.tif"), MASKED: ("masked.tif",), PICTURE: ("quicklook.tif",),
          "model_output_regularized_image": ("result.tif",)}  # fmt: skip
"""What a push is made of in their words -> files of ours, the first that is there."""
WORKSPACE = "geofm"
_STRANGE = re.compile(r"[^A-Za-z0-9_-]+", re.ASCII)


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


def layer_of_name(desk: Desk, seen: Seen, name: str) -> str | None:
    """Our id of a layer by the name that ``published`` gave it."""
    for part in seen.parts:
        if part.job is not None and part.job.state in ENDED:
            for push, layer in _layers(desk, seen, part):
                if name.rpartition(":")[2] == _name(seen, part, push).rpartition(":")[2]:
                    return layer.id
    return None


def _of_part(desk: Desk, caller: Caller, seen: Seen, part: Part, root: str) -> list[dict[str, Any]]:
    pushed = _pushed(desk, caller, part)
    shown = [_shown(seen, part, push, layer, root, n) for n, (push, layer) in
             enumerate(_layers(desk, seen, part))]  # fmt: skip
    return [{**one, "pushed": pushed[one["uri"]]} if one["uri"] in pushed else one for one in shown]


def _pushed(desk: Desk, caller: Caller, part: Part) -> dict[str, dict[str, Any]]:
    """How far the map server beside ours has them: name -> state, address, problem."""
    if part.job is None or not part.job.request.get("publish"):
        return {}
    found = desk.jobs.publications(caller, part.job.id)
    return {one.full_name: {"state": one.state.value, "url": one.url, "problem": one.problem} for one in found}


def _layers(desk: Desk, seen: Seen, part: Part) -> list[tuple[Mapping[str, Any], Layer]]:
    """Those that the wish names, else the result: what a map server beside ours is given under the same name."""
    assert part.job is not None
    there = {layer.file: layer for layer in reversed(desk.layers.of(part.job))}
    labels = seen.batch.labels
    only = labels.get("push_of") or []
    pushes = pushes_of(labels.get("push") or [], only[part.number] if only else None)
    named = [(push, _file(push, there)) for push in pushes]
    found = [(push, layer) for push, layer in named if layer is not None]
    first = there.get(part.job.published)
    return found or ([({}, first)] if first else [])


def _file(push: Mapping[str, Any], there: Mapping[str, Layer]) -> Layer | None:
    names = _FILES.get(str(push.get("filepath_key", "")), ())
    return next((there[name] for name in names if name in there), None)


def named(batch: str, task: int | None, push: Mapping[str, Any]) -> tuple[str, str]:
    """Workspace and name of a layer; ``task``: its number, where there are several."""
    number = "" if task is None else f"-task_{task}"
    last = _plain(push.get("layer_name"), "pred")
    return _plain(push.get("workspace"), WORKSPACE), f"{uuid_of(batch)}{number}-{last}"


def pushes_of(
    pushes: Sequence[Mapping[str, Any]], only: int | None = None, *, without: str = ""
) -> list[Mapping[str, Any]]:  # fmt: skip
    """What is to be shown of a task: what is there to be shown, else its result.

    ``only``: number of the push that is the task's own, where each has one; ``without``: what it will not have. Their
    inputs are no rasters here; nothing else is shown in the name of one.
    """
    mine = pushes if only is None else pushes[only : only + 1]
    return [push for push in mine if (key := push.get("filepath_key")) in _FILES and key != without] or [{}]


def wishes_to_push(
    batch: str, task: int | None, pushes: Sequence[Mapping[str, Any]], codes: Sequence[CodeLabel]
) -> tuple[PublishAsked, ...]:
    """That a map server beside ours is to show the same layers under the same names; ``pushes``: of the task.

    ``codes``: what masked results may carry.
    """
    found = {named(batch, task, push): push for push in pushes}
    return tuple(_to_push(name, push, codes) for name, push in found.items())


def _to_push(name: tuple[str, str], push: Mapping[str, Any], codes: Sequence[CodeLabel]) -> PublishAsked:
    colours, kind = styled(push.get("geoserver_style")) or ((), "values")
    if push.get("filepath_key") == PICTURE:
        colours = ()
    if colours and push.get("filepath_key") == MASKED:
        colours = with_codes(colours, kind, codes)[:MOST_COLOURS]
    asked = [ColourAsked(value=c.value, colour=c.colour, opacity=c.opacity, label=c.label) for c in colours]
    return PublishAsked(workspace=name[0], name=name[1], colours=tuple(asked), kind=kind,
                        files=_FILES.get(str(push.get("filepath_key", "")), ()))  # fmt: skip


def _plain(given: Any, otherwise: str) -> str:
    """As a name in an address: it begins with a letter and has no strange signs."""
    text = _STRANGE.sub("-", str(given or ""))[:60]
    return text if text[:1].isalpha() else otherwise


def _name(seen: Seen, part: Part, push: Mapping[str, Any]) -> str:
    """As theirs for a single task; the task's number is in the names of several."""
    return ":".join(named(seen.batch.id, None if len(seen.parts) == 1 else part.number, push))


def _shown(seen: Seen, part: Part, push: Mapping[str, Any], layer: Layer, root: str, n: int) -> dict[str, Any]:
    uri = _name(seen, part, push)
    picture = layer.style.look is Look.PICTURE
    colours, kind = (None if picture else styled(push.get("geoserver_style"))) or colours_of(layer.style)
    colours = with_codes(colours, kind, [c for c in layer.style.labels if isinstance(c, CodeLabel)])
    return {
        "uri": uri, "display_name": push.get("display_name") or ("Imagery" if picture else "Model prediction"),
        "sld_body": sld(uri, colours, kind), "z_index": push.get("z_index", n + 1),
        "visible_by_default": str(push.get("visible_by_default", "True")), "layer_id": layer.id,
        "tiles_url": f"{root}/api/layers/{layer.id}/tiles/{{z}}/{{x}}/{{y}}.png",
        "wms_url": f"{root}/api/layers/wms?job={layer.job}", "bbox": layer.bbox,
    }  # fmt: skip
