"""Labels: whatever clients want to find again. They are answered in every list, so that they have a bound."""

from __future__ import annotations

import json
from typing import Any

from swathe.errors import LimitError

LONGEST_LABELS = 16_384
"""Characters of all labels as JSON."""


def check_labels(labels: dict[str, Any] | None, longest: int = LONGEST_LABELS) -> None:
    """Whether they are short enough to be kept. Raises LimitError (``limit.labels``)."""
    size = len(json.dumps(labels or {}, default=str))
    if size > longest:
        raise LimitError(f"labels have {size:,} characters, {longest:,} are allowed", code="limit.labels",
                         field="labels", hint="keep long texts elsewhere, and their addresses here")  # fmt: skip
