"""Registration: once per model, in a process of its own, which alone loads torch and TerraTorch.

``python -m models.register ID`` reads a request (JSON: card, origin, home, device, tiles) from its standard input and
writes one JSON object per line: ``{"event": "progress", "text": …}`` and at the end ``{"event": "done", …}`` or
``{"event": "problem", "error": …}``. ``models.load.ensure`` is the other end; people use ``swathe models register``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from pydantic import TypeAdapter

from models.artefact import (
    FAMILY,
    Artefact,
    Family,
    Found,
    Verdict,
    beside,
    candidates,
    card_sha256,
    draft,
    fetcher,
    key_of,
    refusal,
    source,
    store,
)
from models.parity import Tiles, read_tiles, trial_tiles
from models.runtimes import Setup, setup_of
from models.trial import Reference, Trial, refer, try_engine
from models.weights import FetchedWeights, ModelHome, fetch, unwritable
from swathe.card import ModelCard
from swathe.errors import BAD_INPUT, INTERRUPTED, ModelError, SwatheError, exit_code_of

Say = Callable[[str], None]
"""Takes one line of progress."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be registered, as it crosses to the other process."""

    card: ModelCard
    home: ModelHome
    origin: Path | None = None
    """Of the card, which does not carry it in JSON."""
    device: str = "cpu"
    """cpu or cuda."""
    tiles: Path | None = None
    """``.npz`` of real tiles."""


REQUEST = TypeAdapter(Request)


@dataclass(frozen=True, slots=True)
class Job:
    """A request on its way."""

    card: ModelCard
    home: ModelHome
    device: str
    weights: FetchedWeights
    setup: Setup
    say: Say
    real: Tiles | None = None

    @property
    def classes(self) -> bool:
        """Whether the network gives classes."""
        return bool(self.card.output.classes)


def register(request: Request, say: Say) -> Found:
    """Make, check and keep what runs the card; the first engine of the chain that reproduces the original is taken.

    Raises what ``models.terratorch.build`` and ``models.weights.fetch`` raise, ``ModelError`` (``model.refused``) where
    no engine passes, and for a user's file ``CardError`` and ``UnsafeModelError``.
    """
    card = request.card.model_copy(update={"origin": request.origin})
    say(f"weights {source(card).uri}")
    weights = fetch(source(card), request.home, beside(card))
    setup = setup_of(card, max(1, int(card.resources.cpu)), request.device, weights.sha256)
    real = read_tiles(request.tiles, setup.input) if request.tiles else None
    job = Job(card, request.home, request.device, weights, setup, say, real)
    return _adopt(job) if card.adapter == "artefact" else choose(job, _build(job))


def _build(job: Job) -> Any:
    from models.terratorch import build

    job.say("building the network with TerraTorch")
    return build(job.card, job.weights.path, fetcher(job.card, job.home))


def choose(job: Job, network: Any) -> Found:
    """Go down the chain of engines with a network (N, T, C, h, w) -> (N, K, h / stride, w / stride)."""
    from models.runtimes.eager import wrap

    card = job.card
    job.say("running the original")
    # The original is always fp32: bf16 is measured against it, too.
    original = wrap(network, replace(job.setup, precision="fp32"))
    reference = _refer("eager", original, job)
    refused: dict[str, str] = {}
    for engine in candidates(card, job.device):
        if engine == "eager":
            return Found(engine, None)
        if engine not in refused:
            artefact = _exported(network, engine, reference, job)
            if artefact.verdicts[engine].passed:
                return Found(engine, artefact)
            refused |= {name: verdict.reason for name, verdict in artefact.verdicts.items() if not verdict.passed}
        job.say(f"{engine} is out: {refused.get(engine, '')}")
    raise refusal(card, refused)


def _exported(network: Any, engine: str, reference: Reference, job: Job) -> Artefact:
    """Export for the engine's family and try every engine of it; a failed export is recorded as well."""
    from models.export import export

    family = FAMILY[engine]
    job.say(f"exporting for {engine}")
    started = time.perf_counter()
    with draft(job.home) as scratch:
        folder = Path(scratch)
        try:
            exported = export(network, job.setup, folder, engine)
        except ModelError as error:
            verdicts = {name: Verdict(passed=False, reason=error.detail) for name in _engines_of(family)}
            return store(_record(job, family, verdicts=verdicts), folder, job.home)
        seconds = round(time.perf_counter() - started, 2)
        trial = Trial(folder / exported.main, job.setup, exported.dynamic, reference)
        verdicts = _tried(family, trial, job)
        record = _record(
            job,
            family,
            main=exported.main if any(v.passed for v in verdicts.values()) else "",
            dynamic=exported.dynamic,
            opset=exported.opset,
            versions={**exported.versions, "terratorch": version("terratorch")},
            verdicts=verdicts,
            seconds=seconds,
        )
        return store(record, folder, job.home)


def _adopt(job: Job) -> Found:
    """Take over a file of the user's: look at it, copy it, run it, compare the engines that read it."""
    from models.adapted import block_of, expect_probabilities, open_file
    from models.foreign import copy_into

    card = job.card
    engines = candidates(card, job.device)
    family = FAMILY[engines[0]]
    with draft(job.home) as scratch:
        job.say("looking at the file")
        path = copy_into(Path(scratch), job.weights.path, family)
        # ONNX Runtime is the reference implementation of ONNX.
        name = "onnxruntime" if family == "onnx" else engines[0]
        original = open_file(card, name, path, replace(job.setup, precision="fp32"))
        reference = _refer(name, original, job)
        if job.classes and block_of(card).output == "probabilities":
            expect_probabilities(reference.results)
        trial = Trial(path, job.setup, False, reference, lambda *asked: open_file(card, *asked))
        verdicts = _tried(family, trial, job)
        passed = [engine for engine in engines if verdicts[engine].passed]
        record = _record(job, family, main=path.name if passed else "", dynamic=False, verdicts=verdicts)
        artefact = store(record, Path(scratch), job.home)
    if not passed:
        raise refusal(card, {engine: verdicts[engine].reason for engine in engines})
    return Found(passed[0], artefact)


def _refer(name: str, original: Any, job: Job) -> Reference:
    tiles = trial_tiles(job.setup.input, job.real)
    reference = refer(name, original, tiles, job.classes, job.setup.input[0])
    return replace(reference, real=len(job.real) if job.real is not None else 0)


def _tried(family: Family, trial: Trial, job: Job) -> dict[str, Verdict]:
    verdicts = {}
    for engine in _engines_of(family):
        job.say(f"comparing {engine} with the original")
        verdicts[engine] = try_engine(engine, trial)
    return verdicts


def _engines_of(family: Family) -> list[str]:
    return [engine for engine, reads in FAMILY.items() if reads == family]


def _record(job: Job, family: Family, **said: Any) -> Artefact:
    key = key_of(job.card, job.home, family, job.device)
    return Artefact(
        key=key or "",  # known by now: the weights have been fetched
        card=job.card.id,
        card_sha256=card_sha256(job.card),
        weights_sha256=job.weights.sha256,
        verified=job.weights.verified,
        family=family,
        precision=job.setup.precision,
        device=job.device,
        threads=job.setup.threads,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        **said,
    )


def main() -> int:
    """Entry point of the process. Standard output belongs to the events; libraries that print do so on stderr."""
    if sys.stdin.isatty():
        sys.stderr.write("this is the other end of `swathe models register`; use that\n")
        return BAD_INPUT
    with os.fdopen(os.dup(1), "w", buffering=1) as events:
        os.dup2(2, 1)
        try:
            request = REQUEST.validate_json(sys.stdin.buffer.read())
            found = _registered(request, lambda text: _emit(events, event="progress", text=text))
        except SwatheError as error:
            _emit(events, event="problem", error=type(error).__name__, **_said(error))
            return exit_code_of(type(error))
        except KeyboardInterrupt:
            return INTERRUPTED
        _emit(events, event="done", engine=found.engine)
    return 0


def _registered(request: Request, say: Say) -> Found:
    """All files that are written here are written below the cache."""
    try:
        return register(request, say)
    except OSError as error:
        raise unwritable(error, request.home) from error


def _said(error: SwatheError) -> dict[str, str]:
    return {"detail": error.detail, "hint": error.hint, "field": error.field, "code": error.refined}


def _emit(events: IO[str], **event: Any) -> None:
    events.write(json.dumps(event) + "\n")


if __name__ == "__main__":
    sys.exit(main())
