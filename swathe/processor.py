"""A processor: a user's Python script, run over a result in a sandbox as the last step of a job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class ProcessorCard:
    """What is known of one; the script itself lies elsewhere."""

    id: str
    """Opaque."""
    owner: str
    """Id of a user."""
    project: str | None
    """Id of a project."""
    name: str
    """For people."""
    description: str
    """For people."""
    file: str
    """Name of the script as it was brought; never used as a path."""
    call: str
    """``positional``, ``text`` or ``flags``."""
    parameters: dict[str, Any]
    """For it, where a job gives no others of these names."""
    size: int
    """Bytes."""
    sha256: str
    """Of its bytes."""
    created: str
    """UTC, RFC 3339."""
    labels: dict[str, Any] = field(default_factory=dict)
    """Opaque."""
    deleted: str | None = None
    """When its user deleted it: jobs that were accepted before still run it."""
