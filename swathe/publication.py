"""A publication: a layer of a job's result on another map server, under a name that is its own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from swathe.errors import ConflictError
from swathe.sld import Colour, Kind


class PublicationState(StrEnum):
    """Where it stands."""

    WAITING = "waiting"
    """For the job's end, or for the map server."""
    PUBLISHED = "published"
    """It is there."""
    FAILED = "failed"
    """It was refused, or tried often enough."""


@dataclass(frozen=True, slots=True)
class Publication:
    """One of them. A job that ends anew, after a resume, is published anew under the same name."""

    id: str
    """``m`` and 26 letters and digits that sort by time of creation."""
    job: str | None
    """Id of a job; None: it was removed, and what was published of it goes too."""
    workspace: str
    """Of the map server."""
    name: str
    """In the workspace; no other publication has it."""
    files: tuple[str, ...]
    """Rasters of the job, of which the first that is there is shown; empty: its result, after all steps."""
    colours: tuple[Colour, ...]
    """Empty: those of the layer."""
    kind: Kind
    """How the colours are meant."""
    begun: bool = False
    """Whether something of ours may lie under its name."""
    sent_seq: int = 0
    """Number of the job's last event when it was published, or given up; 0: neither."""
    tries: int = 0
    """That failed since then."""
    given_up: bool = False
    """Whether it was not published, and is not tried again before the job ends anew."""
    url: str = ""
    """Where it is shown."""
    problem: dict[str, Any] | None = None
    """RFC 9457: what went wrong the last time."""

    @property
    def state(self) -> PublicationState:
        """Follows from the facts."""
        if self.given_up:
            return PublicationState.FAILED
        return PublicationState.PUBLISHED if self.sent_seq and not self.tries else PublicationState.WAITING

    @property
    def full_name(self) -> str:
        """As map servers write it: workspace and name."""
        return f"{self.workspace}:{self.name}"

    def taken(self) -> ConflictError:
        """That its name belongs to something else; to be raised."""
        return ConflictError(f"the map server has a layer {self.full_name} already", code="publication.taken",
                             field="publish", hint="choose another name")  # fmt: skip
