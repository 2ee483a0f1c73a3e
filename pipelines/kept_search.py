"""The scenes that a run began with, as text: resumed, it reads the same, whatever the archive has gained since."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from swathe.mosaic import Mosaic

NAME = "scenes.json"
_MOSAIC = TypeAdapter(Mosaic)


def written(asked: str, mosaic: Mosaic) -> bytes:
    """Scenes, and the hash of what they were asked with."""
    return json.dumps({"asked": asked, "mosaic": _MOSAIC.dump_python(mosaic, mode="json")}, indent=1).encode()


def read(text: bytes, asked: str) -> Mosaic | None:
    """The scenes, if they were asked for with the same; None also where the text is damaged."""
    try:
        facts: dict[str, Any] = json.loads(text)
        if facts["asked"] != asked:
            return None
        return _MOSAIC.validate_json(json.dumps(facts["mosaic"]))
    except (ValueError, KeyError, TypeError, ValidationError):
        return None
