"""A batch: several wishes accepted as one, each of which becomes a job; and presets that wishes begin from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from swathe.job import Job


@dataclass(frozen=True, slots=True)
class Batch:
    """One of them. It is accepted before any of its imagery is looked at; its wishes are planned one after another."""

    id: str
    """``b`` and 26 letters and digits that sort by time of creation."""
    owner: str
    """Id of a user."""
    title: str
    """For people."""
    created: str
    """UTC, RFC 3339, as all times here."""
    updated: str
    """Of the last change to the batch itself; its jobs have times of their own."""
    cancelled: bool = False
    """Whether its user wants it stopped."""
    labels: dict[str, Any] = field(default_factory=dict)
    """Whatever a client or a dialect wants to find again; the service does not look inside."""


@dataclass(frozen=True, slots=True)
class Part:
    """One wish of a batch, and what became of it."""

    number: int
    """0, 1, 2, … in the order in which they were wished."""
    request: dict[str, Any]
    """What was asked, in the API's own words."""
    settled: str | None = None
    """When it was planned or refused; None: it waits."""
    job: Job | None = None
    """Of a wish that was accepted; None: refused, waiting, or the job was removed."""
    problem: dict[str, Any] | None = None
    """RFC 9457: why it was refused."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A name of one's own for a model and how it is to be used; it may be there before its model is."""

    id: str
    """``s`` and 26 letters and digits that sort by time of creation."""
    owner: str
    """Id of a user."""
    kind: str
    """What sort of preset it is, in the words of whoever keeps it."""
    name: str
    """For people; several may have the same."""
    model: str | None
    """Id of a card; None: there is none yet."""
    shared: bool
    """Whether all users see it."""
    created: str
    """UTC, RFC 3339."""
    updated: str
    """UTC, RFC 3339."""
    labels: dict[str, Any] = field(default_factory=dict)
    """Settings; the service does not look inside."""
