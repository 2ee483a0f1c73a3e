"""Writes down in the store what an attempt does: events that are not doubled, progress that does not fall, a log."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from swathe.job import JobState, Progress
from swathe.state import Event, State

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from pipelines.receipt import Receipt
    from serve.running.journal import Journal
    from serve.running.write_queue import WriteQueue
    from serve.store.jobs import Hold

_ENTERED = {State.PREPARING: JobState.PREPARING, State.RUNNING: JobState.RUNNING, State.FINISHING: JobState.FINISHING}
"""States of the engine that are the job's as well. Its ends are not: a job ends when its products are catalogued."""


class Recorder:
    """The observer of a run (:class:`pipelines.run.Observer`).

    An event's key is what it tells, not its number in the run's own list: that list may lose its end with a disk or
    a process, receipts do not. What is settled once is told once, in whichever attempt or round.
    """

    def __init__(self, hold: Hold, round_: int, writes: WriteQueue, journal: Journal) -> None:
        """``round_``: of the job; what may happen again in the next round is told again."""
        self._hold, self._round, self._writes, self._journal = hold, round_, writes, journal
        self._progress = Progress()
        self._failed: set[str] = set()
        self.words: Callable[[str], str] = str
        """Puts what was asked for in the place of paths of this machine."""

    def event(self, event: Event) -> None:
        """See the protocol."""
        facts = dict(event.facts)
        if event.kind == "chunk":
            self._chunk(facts)
        elif event.kind == "state":
            self._state(State(facts.pop("state")), facts)
        elif event.kind == "step":
            self._step(facts)
        else:
            self._note(event.kind, event.kind, facts)
            self._journal.info(event.kind, **facts)
        self._writes.flush()

    def progress(self, done: int, total: int) -> None:
        """See the protocol; called twice a second."""
        self._advance(replace(self._progress, pixels=done, of_pixels=total))
        self._writes.flush()

    def catch_up(self, receipts: Iterable[Receipt]) -> None:
        """What earlier attempts have settled, and may not have lived to tell."""
        count = 0
        for receipt in receipts:
            count += 1
            self._tell(receipt.chunk, receipt.status, valid=receipt.valid, lost=receipt.lost,
                       seconds=receipt.seconds.get("total"))  # fmt: skip
        if count:
            self._journal.info("taken up", chunks=count)
        self._writes.flush()

    def say(self, text: str) -> None:
        """A line about what takes long, e.g. the model's registration."""
        self._journal.info(self.words(text))
        self._writes.flush()

    # --- pieces ---

    def _state(self, state: State, facts: dict[str, Any]) -> None:
        """How a run stopped is told by the end of its attempt, which knows why."""
        if state in _ENTERED:
            self._counted(state, facts)
            self._enter(_ENTERED[state], facts)
            self._journal.info(f"run {state.value}", **facts)

    def _counted(self, state: State, facts: dict[str, Any]) -> None:
        """How many chunks there are is known when they begin; which have failed for good, when all have been tried."""
        if state is State.RUNNING:
            of_chunks = max(self._progress.of_chunks, facts.get("chunks", 0))
            self._advance(replace(self._progress, chunks=facts.get("resumed", 0), of_chunks=of_chunks))
        elif state is State.FINISHING:
            self._advance(replace(self._progress, failed_chunks=len(self._failed)))

    def _enter(self, state: JobState, facts: dict[str, Any]) -> None:
        from serve.store import jobs

        self._writes.keep(lambda c: jobs.enter(c, self._hold, state, **facts))

    def _chunk(self, facts: dict[str, Any]) -> None:
        chunk, status, error = facts.pop("chunk"), facts.pop("status"), self.words(facts.pop("error", ""))
        facts |= {"error": error} if error else {}
        if status == "failed":
            self._failed.add(chunk)
        (self._journal.warning if error else self._journal.info)("chunk", chunk=chunk, status=status, **facts)
        self._tell(chunk, status, **facts)
        self._advance(replace(self._progress, chunks=self._progress.chunks + 1))

    def _step(self, facts: dict[str, Any]) -> None:
        """Told again by each attempt, which may repeat it."""
        problem = facts.get("problem")
        if problem:
            facts["problem"] = problem = {**problem, "detail": self.words(problem["detail"])}
        say = self._journal.warning if problem else self._journal.info
        say("step", step=facts["name"], state=facts["state"], **({"problem": problem} if problem else {}))
        self._note("step", f"{self._hold.epoch}:step:{facts['name']}:{facts['state']}", facts)

    def _tell(self, chunk: str, status: str, **facts: Any) -> None:
        """A chunk that failed may be tried in the next round, and told again; one that is settled is not."""
        again = f"{self._round}:" if status == "failed" else ""
        key, facts = f"{again}chunk:{chunk}:{status}", {"chunk": chunk, "status": status, **facts}
        if status == "failed":
            self._note("chunk", key, facts)
        else:
            self._settle(key, facts)

    def _settle(self, key: str, facts: dict[str, Any]) -> None:
        """A chunk that is settled for the first time is progress: whoever makes some is not given up."""
        from serve.store import jobs

        def write(c: Connection) -> None:
            if jobs.note(c, self._hold, "chunk", key=key, **facts) is not None:
                jobs.progressed(c, self._hold)

        self._writes.keep(write)

    def _note(self, kind: str, key: str, facts: dict[str, Any]) -> None:
        from serve.store import jobs

        self._writes.keep(lambda c: jobs.note(c, self._hold, kind, key=key, **facts))

    def _advance(self, to: Progress) -> None:
        from serve.store import jobs

        onwards = self._progress.onwards(to)
        if onwards == self._progress:
            return
        self._progress = onwards
        self._writes.keep(lambda c: jobs.advance(c, self._hold, onwards))
