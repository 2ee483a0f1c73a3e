"""Chunks on Ray Data: rows that carry coordinates only, a pool of actors that do a chunk whole.

No pixel crosses the object store: an actor reads its own window, and writes its own part file.
The only module of the pipelines that knows Ray.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from cluster.resources import ActorLayout
from pipelines.runner import Hire
from pipelines.worker import Order
from swathe.errors import ClusterError, SwatheError
from swathe.lattice import Chunk
from swathe.window import Window


class _Actor:
    """The worker as Ray Data wants it: rows in, rows out."""

    def __init__(self, hire: Hire, order: Order) -> None:
        self.worker = hire(order)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        window = Window(*(int(row[name]) for name in ("row", "col", "height", "width")))
        # As text: an answer has nested and missing values, for which Arrow would guess a schema per block.
        return {"answer": json.dumps(self.worker(Chunk(str(row["key"]), window)))}


class RayData:
    """A pool of actors on a running Ray; see :func:`cluster.local.connect`."""

    def __init__(self, layout: ActorLayout) -> None:
        """How many actors, and what each takes of the cluster."""
        self.layout = layout
        self.actors = layout.actors
        self.threads = layout.threads

    def map(self, hire: Hire, order: Order, chunks: Sequence[Chunk]) -> Iterator[dict[str, Any]]:
        """See :class:`pipelines.runner.Runner`."""
        if not chunks:
            return
        from ray.exceptions import RayError

        try:
            for row in self._dataset(hire, order, chunks).iter_rows():
                yield json.loads(row["answer"])
        except RayError as error:
            raise _ours(error) from error

    def _dataset(self, hire: Hire, order: Order, chunks: Sequence[Chunk]) -> Any:
        import ray
        from ray.data import ActorPoolStrategy

        _configure()
        rows = [{"key": c.key, "row": c.window.row, "col": c.window.col, "height": c.window.height,
                 "width": c.window.width} for c in chunks]  # fmt: skip
        actors = min(self.layout.actors, len(rows))
        # One row a block: a block is the unit of retry. One task in flight an actor: chunks are long, and a second
        # one waiting on a busy actor would keep an idle one from it.
        return ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            _Actor,  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  a class is what Ray documents
            fn_constructor_kwargs={"hire": hire, "order": order},
            # One actor is enough to begin: a busy cluster gives the others when it can.
            compute=ActorPoolStrategy(
                min_size=1, max_size=actors, initial_size=actors, max_tasks_in_flight_per_actor=1
            ),
            num_cpus=self.layout.num_cpus,
            num_gpus=self.layout.num_gpus or None,
            memory=self.layout.memory,
        )


def _configure() -> None:
    """Settings of Ray Data for few, long, independent rows."""
    from ray.data import DataContext

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # The default gives up after half an hour without an output block; a large chunk of a heavy model on CPU takes
    # longer, and waiting for a node is no error.
    context.execution_no_progress_timeout_s = -1
    context.raise_original_map_exception = True


def _ours(error: Exception) -> SwatheError:
    """What Ray raised, as one of ours: our own error as it was, a broken worker by its cause, else a lost cluster."""
    from ray.exceptions import RayTaskError

    links = list(_chain(error))
    for link in links:
        if isinstance(link, SwatheError):
            return link
    if any(isinstance(link, RayTaskError) for link in links):
        return ClusterError(
            f"a worker broke: {type(links[-1]).__name__}: {_last_line(links[-1])}",
            code="cluster.worker",
            hint="look at what it says; `swathe doctor` checks the machine, and --local shows it without Ray",
        )
    return ClusterError(
        f"Ray lost the workers: {_last_line(error)}",
        code="cluster.lost",
        hint="run the same command again: it continues with the missing chunks",
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = getattr(link, "cause", None) or link.__cause__


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
