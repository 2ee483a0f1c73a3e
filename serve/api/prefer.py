"""``Prefer`` (RFC 7240): whether a client waits for the end of what it asked, and how long."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Self

from fastapi import Header

Prefer = Annotated[
    str | None,
    Header(max_length=500, description="``respond-async``: answer at once (the default). ``wait=N``: answer when the "
           "job has ended (201), or after N seconds (202).", examples=["wait=20"]),
]  # fmt: skip
_WAIT = re.compile(r"(?:^|,)\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(?=[,;]|$)", re.IGNORECASE)
_ASYNC = re.compile(r"(?:^|,)\s*respond-async\s*(?=[,;]|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Preference:
    """What of the header Prefer is applied."""

    wait_s: float | None = None
    """Seconds that the client waits; None: it is answered at once."""
    applied: str = ""
    """What the answer says of it."""

    @classmethod
    def read(cls, text: str | None, longest_s: float) -> Self:
        """With ``wait`` and ``respond-async`` together, the client waits, and is answered then whatever stands."""
        if wait := _WAIT.search(text or ""):
            seconds = min(int(wait[1]), int(longest_s))
            return cls(seconds, f"wait={seconds}")
        return cls(None, "respond-async") if _ASYNC.search(text or "") else cls()

    def headers(self) -> dict[str, str]:
        """``Preference-Applied``, where something was preferred."""
        return {"Preference-Applied": self.applied} if self.applied else {}
