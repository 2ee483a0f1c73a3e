"""A user who has a small image answered again and again while the service is being killed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import httpx2

_PAUSE_S, _LATER_S = 0.1, 0.5
"""After an answer; after anything else."""
_ANSWER_S = 30
_OK, _LATER, _PROBLEM = 200, (429, 503), "application/problem+json"
ANSWERED, DROPPED = "answered", "dropped"


def predicted(client: httpx2.Client, chip: bytes) -> httpx2.Response:
    """One answer, whatever it is."""
    return client.post("/api/predict?model=water-ndwi", content=chip, headers={"Content-Type": "image/tiff"},
                       timeout=_ANSWER_S)  # fmt: skip


class Asker(threading.Thread):
    """Asks for one prediction after the other.

    Right are the right bytes, a problem that says when to come again, and, once something was struck, no answer at all.
    """

    def __init__(self, client: Callable[[], httpx2.Client], chip: bytes, right: bytes) -> None:
        """Begins to ask at once. ``right``: the answer of a service that nobody disturbs."""
        super().__init__(daemon=True)
        self.heard, self.struck = Counter[str](), threading.Event()
        self.wrong: list[str] = []
        self._client, self._chip, self._right, self._stop_asked = client, chip, right, threading.Event()
        self.start()

    def run(self) -> None:
        """Until nobody wants to know any more."""
        with self._client() as client:
            while not self._stop_asked.is_set():
                word = self._ask(client)
                self.heard[word] += 1
                self._stop_asked.wait(_PAUSE_S if word == ANSWERED else _LATER_S)

    def finish(self, patience_s: float) -> None:
        """Raises AssertionError where anything was wrong, or where it is not answered any more."""
        # The first of two answers may have been asked for before.
        limit, enough = time.monotonic() + patience_s, self.heard[ANSWERED] + 2
        while self.is_alive() and not self.wrong and self.heard[ANSWERED] < enough and time.monotonic() < limit:
            time.sleep(_PAUSE_S)
        self.stop()
        assert not self.wrong, f"predictions: {self.wrong[:5]}"
        assert self.heard[ANSWERED] >= enough, f"predictions are not answered any more: {dict(self.heard)}"

    def stop(self) -> None:
        """And wait for the last answer."""
        self._stop_asked.set()
        self.join(2 * _ANSWER_S)

    def _ask(self, client: httpx2.Client) -> str:
        try:
            answer = predicted(client, self._chip)
        except httpx2.TransportError as error:
            if not self.struck.is_set():
                self.wrong.append(f"nothing was struck, and {type(error).__name__}: {error}")
            return DROPPED
        told = answer.headers.get("Content-Type") == _PROBLEM
        if answer.status_code == _OK and answer.content == self._right:
            return ANSWERED
        if answer.status_code in _LATER and told and "Retry-After" in answer.headers:
            return answer.json()["code"]
        said = "other bytes" if answer.status_code == _OK else answer.text[:300]
        self.wrong.append(f"{answer.status_code} {said}")
        return f"wrong {answer.status_code}"
