"""What their clients send, whatever it is for: null says nothing, and there are several words for no."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import Field

from swathe.imagery import is_remote

WORDS = {"true": True, "false": False, "none": False, "": False}
"""Of flags as texts: their pipelines take ``None`` and an empty one for no."""
Href = Annotated[str, Field(min_length=1, max_length=16_000)]


def without_nulls(given: Any) -> Any:
    """Of an object, what was said."""
    return {k: v for k, v in given.items() if v is not None} if isinstance(given, dict) else given


def wished(given: Any) -> bool:
    """Whether something is there and is not switched off, by itself or by its ``activated``."""
    said = given.get("activated", True) if isinstance(given, dict) else given
    return bool(given) and WORDS.get(str(said).strip().lower(), True)


def is_address(text: str) -> bool:
    """Whether it can be one at all: ``http://[`` has no parts."""
    if not (is_remote(text) or text.startswith("/")):
        return False
    try:
        urlsplit(text)
    except ValueError:
        return False
    return True
