"""What no database keeps, left out of what attempts have to tell: an error's text must not stop what comes after it.

What users send is refused at the door instead (``serve.api.strict``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

_REFUSED = re.compile("[\x00\ud800-\udfff]")
"""NUL, and halves of characters: in bytes that were read as text there may be both."""


def keepable(value: Any) -> Any:
    """The same texts, lists and objects without that; a number that is none becomes null."""
    if isinstance(value, str):
        return _REFUSED.sub("", value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {keepable(name): keepable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [keepable(inner) for inner in value]
    return value
