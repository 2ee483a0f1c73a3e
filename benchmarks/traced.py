"""Warm workers that note when batches ran and when blocks of searched imagery came: where the time of a run goes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.warm import Warm, WarmLoop, WarmRay
from swathe.lattice import Chunk

Span = tuple[float, float]
"""Start and end, in seconds since the chunk's start."""
_END = ".trace.json"


class Traced(Warm):
    """Leaves a file per chunk in the run's folder."""

    def __call__(self, chunk: Chunk) -> dict[str, Any]:
        """See :class:`pipelines.worker.ChunkWorker`."""
        from pipelines import batches

        began, spans = time.perf_counter(), {"batches": [], "blocks": []}

        def noted(kind: str, call: Callable[..., Any]) -> Callable[..., Any]:
            def noted_call(*given: Any) -> Any:
                start = time.perf_counter()
                try:
                    return call(*given)
                finally:
                    spans[kind].append((start - began, time.perf_counter() - began))

            return noted_call

        prefetcher: Any = self.reader._reader._prefetcher  # type: ignore[attr-defined]  # noqa: SLF001  our own engine's
        run, make = noted("batches", batches._run), noted("blocks", prefetcher._make)  # noqa: SLF001
        with patch.object(batches, "_run", run), patch.object(prefetcher, "_make", make):
            receipt = super().__call__(chunk)
        (self.order.parts.parents[1] / f"{chunk.key}{_END}").write_text(json.dumps(spans))
        return receipt


class TracedLoop(WarmLoop):
    """The plain loop, with such a worker."""

    worker = Traced


class TracedRay(WarmRay):
    """Ray Data, with such workers."""

    worker = Traced


def told(out: Path) -> dict[str, float]:
    """Of all chunks of a run: when the slowest one began its first batch, how long batches took, the longest wait."""
    traces = [json.loads(path.read_text()) for path in sorted(out.glob(f"*{_END}"))]
    if not any(trace["blocks"] for trace in traces):
        raise RuntimeError("the trace saw no block: where the engine makes them has moved")
    beside, after = [], []
    for trace in traces:
        last = max((end for _, end in trace["blocks"]), default=0.0)  # none: all had been made before
        for start, end in trace["batches"]:
            (beside if start < last else after).append(end - start)
    return {
        "first_batch_s": max(min(start for start, _ in trace["batches"]) for trace in traces),
        "batch_beside_blocks_s": sum(beside) / len(beside) if beside else 0.0,
        "batch_after_blocks_s": sum(after) / len(after) if after else 0.0,
        "longest_wait_s": max(_longest_wait(trace["batches"]) for trace in traces),
    }


def _longest_wait(batches: list[Span]) -> float:
    """Between two batches, when none ran: the network waited for imagery."""
    longest, busy_until = 0.0, None
    for start, end in sorted(batches):
        if busy_until is not None:
            longest = max(longest, start - busy_until)
        busy_until = end if busy_until is None else max(busy_until, end)
    return longest
