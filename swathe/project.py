"""Projects, in which people keep jobs and uploads together, and uploads."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Project:
    """A folder for jobs and uploads of one owner, which may be shared with everybody here."""

    id: str
    """Opaque."""
    owner: str
    """Id of a user."""
    name: str
    """For people; unique among the owner's."""
    description: str
    """For people."""
    shared: bool
    """Whether all users see what is in it; only its owner changes it."""
    created: str
    """UTC, RFC 3339."""
    updated: str
    """UTC, RFC 3339."""
    labels: dict[str, Any] = field(default_factory=dict)
    """Whatever a client wants to find again; the service does not look inside."""


class UploadState(StrEnum):
    """Where an upload stands."""

    OPEN = "open"
    """Bytes are awaited."""
    READY = "ready"
    """Whole, and known to be imagery or an archive of it."""
    REFUSED = "refused"
    """Not usable; ``problem`` says why. Its bytes are gone."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a user brought; a job names it as ``upload://ID``."""

    id: str
    """Opaque."""
    owner: str
    """Id of a user."""
    project: str | None
    """Id of a project."""
    name: str
    """As the user called it; never used as a path."""
    state: UploadState
    """See there."""
    size: int
    """Bytes."""
    created: str
    """UTC, RFC 3339."""
    sha256: str = ""
    """Of its bytes."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What was found inside: crs, shape, bands, bounds, …"""
    problem: dict[str, Any] | None = None
    """RFC 9457, where it was refused."""
    labels: dict[str, Any] = field(default_factory=dict)
    """Opaque."""
