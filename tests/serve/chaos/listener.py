"""Users of a service that is being killed: they ask until they are answered, and listen until the end."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx2

_PAUSE_S = 0.5
ENDS = ("done", "incomplete", "failed", "cancelled")


def submit(client: httpx2.Client, wish: dict[str, Any], patience_s: float) -> str:
    """The id of a job that was accepted once, however often it had to be asked for."""
    key, limit = str(uuid4()), time.monotonic() + patience_s
    while time.monotonic() < limit:
        try:
            answer = client.post("/api/jobs", json=wish, headers={"Idempotency-Key": key})
        except httpx2.TransportError:
            answer = None
        if answer is not None and answer.status_code == 202:
            return answer.json()["id"]
        if answer is not None and not _not_yet(answer):
            raise AssertionError(f"{answer.status_code} {answer.text[:300]}")
        time.sleep(_PAUSE_S)
    raise AssertionError("nobody accepted it")


def _not_yet(answer: httpx2.Response) -> bool:
    """Down, or just up, or at work on the same request."""
    return answer.status_code in (409, 503)


class Listener(threading.Thread):
    """Follows one job over as many connections as it takes; every event counts, also one that comes twice."""

    def __init__(self, client: Callable[[], httpx2.Client], job: str) -> None:
        """Begins to listen at once."""
        super().__init__(daemon=True)
        self.job, self.seqs, self.kinds, self.connections, self.ended = job, [], [], 0, False
        self._client, self._stop_asked = client, threading.Event()
        self.start()

    def run(self) -> None:
        """Until the end was heard."""
        with self._client() as client:
            while not self.ended and not self._stop_asked.is_set():
                with contextlib.suppress(httpx2.TransportError):
                    self._listen(client)
                self._stop_asked.wait(0 if self.ended else _PAUSE_S)

    def finish(self, patience_s: float) -> None:
        """Wait for the end, or give up."""
        self.join(patience_s)
        self._stop_asked.set()

    def _listen(self, client: httpx2.Client) -> None:
        known = {"Last-Event-ID": str(self.seqs[-1])} if self.seqs else {}
        headers = {"Accept": "text/event-stream"} | known
        with client.stream("GET", f"/api/jobs/{self.job}/events", headers=headers, timeout=30) as answer:
            if answer.status_code == 204:
                self.ended = True
            if answer.status_code != 200:
                return
            self.connections += 1
            id_ = None
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if name == "id":
                    id_ = int(value)
                elif name == "data":
                    data = json.loads(value)
                elif not line and id_ is not None:
                    self._heard(id_, data)
                    id_ = None

    def _heard(self, seq: int, data: dict[str, Any]) -> None:
        self.seqs.append(seq)
        self.kinds.append(data["kind"])
        self.ended |= data["kind"] == "state" and data["facts"]["state"] in ENDS
