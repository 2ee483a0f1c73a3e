"""From a card to a predictor, and what has to be on this machine first."""

from __future__ import annotations

import fcntl
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Literal

from models.artefact import Artefact, Found, beside, content_of, family_of_file, fetcher, find, source
from models.metered import Check
from models.predictor import Predictor
from models.register import REQUEST, Request, Say
from models.runtimes import open_graph, setup_of
from models.weights import ModelHome, fetch, unwritable
from swathe.card import ModelCard
from swathe.errors import INTERRUPTED, STATUS, InputError, Interrupted, ModelError, SwatheError

Device = Literal["auto", "cpu", "cuda"]

_CPU_ONLY = frozenset({"openvino", "onnxruntime"})
_ROOT = Path(__file__).resolve().parent.parent
_LOOK_S = 0.5
"""Between two questions whether a registration, one's own or that of another process, is still waited for."""
_GRACE_S = 5.0
"""For a registration that is not, to take away what it has begun."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A model that can be loaded at once on this machine."""

    card: ModelCard
    """The card with its engine settled: give this one to the workers, so that no two nodes choose differently."""
    engine: str
    """That engine, or ``formula``."""
    device: str
    """cpu or cuda."""
    artefact: Artefact | None = None
    """What it reads; None for formulas and eager."""
    content: str = ""
    """Hash of the weights and files that the card stands for here; empty for formulas."""


def load(  # noqa: PLR0913  two of them are for few callers, by name
    card: ModelCard, home: ModelHome, threads: int, fitted: dict[str, float] | None = None, device: Device = "auto",
    *, batch: int = 0, lanes: int = 1,
) -> Predictor:  # fmt: skip
    """Load a model for this process: seconds where it is registered, else what ``ensure`` takes first.

    ``fitted``: thresholds found from the data, for the formulas that need them. ``batch``: another one than the card's,
    for an artefact that takes any. ``lanes``: batches that may run side by side, where the engine can (``lanes_of``);
    they share the threads. Neither torch nor TerraTorch is imported for OpenVINO and ONNX Runtime. Raises what
    ``ensure`` raises, and ``ModelError``.
    """
    if card.adapter == "formula":
        from models import formula

        return formula.load(card, fitted)
    ready = ensure(card, home, device=device)
    if ready.artefact is None:
        return _eager(card, home, threads, ready.device)
    setup = setup_of(card, threads, ready.device, ready.artefact.weights_sha256, batch)
    if card.adapter == "artefact":
        from models.adapted import open_file

        return open_file(card, ready.engine, ready.artefact.path, setup)
    return open_graph(ready.engine, ready.artefact.path, replace(setup, lanes=max(1, min(lanes, threads))))


def bring(card: ModelCard, home: ModelHome, *, say: Say | None = None, check: Check | None = None) -> None:
    """Have the weights on this machine where ``ensure`` would fetch them, and no more than that; raises what it raises.

    An artefact that is here needs none.
    """
    if card.adapter == "formula":
        return
    found = find(card, home, device_of(card))
    if found is None or found.artefact is None:
        if say:
            say(f"weights {source(card).uri}")
        fetch(source(card), home, beside(card), check=check)


def ensure(  # noqa: PLR0913  the later ones are for few callers, by name
    card: ModelCard,
    home: ModelHome,
    *,
    device: Device = "auto",
    say: Say | None = None,
    tiles: Callable[[], Path | None] | None = None,
    again: bool = False,
    check: Check | None = None,
) -> Ready:
    """Have weights and artefact on this machine; a model that is not registered is, in a process of its own.

    The card that is given back no longer asks for a GPU where this process has none: what is settled here is what all
    workers run, and none of them keeps a GPU that it does not use.

    ``say`` is told the steps; ``tiles`` gives an ``.npz`` of real tiles to compare on, asked where a model has to be
    registered; ``again`` registers anew; ``check`` is asked while weights come and while a model is registered, and
    raises where that is no longer wanted. Raises ``WeightsError``, ``CardError``, ``UnsafeModelError``, ``InputError``
    (``model.precision``: bf16 on hardware without it), ``ModelError`` (``model.refused``; ``model.register``: the
    registration broke), and what ``check`` raises.
    """
    if card.adapter == "formula":
        return Ready(card, "formula", "cpu")
    where = device_of(card) if device == "auto" else device
    _expect_precision(card, where)
    found = None if again else find(card, home, where)
    if found is None or found.artefact is None:
        fetch(source(card), home, beside(card), check=check)  # here, as what is missing should be said at once
    if found is None:
        say, check = say or (lambda _: None), check or (lambda: None)
        with _lock(home, f"{card.id}-{where}", check):
            found = None if again else find(card, home, where)
            if found is None:
                real = None if tiles is None else tiles()
                found = _register(Request(card, home, card.origin, where, real), say, check)
    return Ready(_settled(card, found.engine, where), found.engine, where, found.artefact, content_of(card, home))


def known(card: ModelCard, home: ModelHome) -> ModelCard | None:
    """The card as ``ensure`` gives it back, where nothing is left to fetch or to register; None: nobody knows yet.

    Raises ``CardError``, ``InputError`` (``model.precision``), ``ModelError`` (``model.refused``).
    """
    if card.adapter == "formula":
        return card
    where = device_of(card)
    _expect_precision(card, where)
    found = find(card, home, where)
    return None if found is None else _settled(card, found.engine, where)


def device_of(card: ModelCard) -> Literal["cpu", "cuda"]:
    """Where a card runs on this machine; torch is only asked where there is an NVIDIA driver and the card wants one."""
    able = card.adapter == "terratorch" or (card.adapter == "artefact" and family_of_file(card) == "script")
    wants = able and card.resources.gpu > 0 and card.runtime.engine not in _CPU_ONLY
    if not wants or not Path("/dev/nvidiactl").exists():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _expect_precision(card: ModelCard, device: str) -> None:
    """Asked before any work: who wishes for what this machine has not is told so as for any other wish."""
    if card.runtime.precision == "bf16" and device == "cpu":
        from models.runtimes.openvino import expect_bf16

        try:
            expect_bf16()
        except ModelError as error:
            raise InputError(error.detail, hint=error.hint, field=error.field, code="model.precision") from None


def _settled(card: ModelCard, engine: str, device: str) -> ModelCard:
    runtime = card.runtime.model_copy(update={"engine": engine})
    resources = card.resources if device == "cuda" else card.resources.model_copy(update={"gpu": 0.0})
    return card.model_copy(update={"runtime": runtime, "resources": resources})


def _eager(card: ModelCard, home: ModelHome, threads: int, device: str) -> Predictor:
    from models.runtimes import eager

    weights = fetch(source(card), home, beside(card))
    setup = setup_of(card, threads, device, weights.sha256)
    return eager.load(card, weights.path, setup, fetcher(card, home))


@contextmanager
def _lock(home: ModelHome, name: str, check: Check) -> Iterator[None]:
    """Let one process of this machine register a model while the others wait for what it makes, as long as they may."""
    try:
        home.artefacts.mkdir(parents=True, exist_ok=True)
        file = (home.artefacts / f".{name}.lock").open("w")
    except OSError as error:
        raise unwritable(error, home) from error
    with file:
        while not _locked(file):
            check()
            time.sleep(_LOOK_S)
        yield


def _locked(file: IO[str]) -> bool:
    """Whether the lock is ours now; on a file system without locks it is: at worst an artefact is made twice."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _register(request: Request, say: Say, check: Check) -> Found:
    """Run ``python -m models.register`` and come back with what it made."""
    with tempfile.TemporaryFile("w+") as complaints, _spawned(request, complaints) as process:
        last = _follow(process, say, check)
        status = process.wait()
        if last.get("event") == "problem":
            raise _error_of(last)
        if status == INTERRUPTED:
            raise Interrupted(f"the registration of {request.card.id} was interrupted")
        if status or last.get("event") != "done":
            raise _broke(request.card, status, complaints)
    found = find(request.card, request.home, request.device)
    if found is None:
        raise ModelError(f"the artefact of {request.card.id} vanished from {request.home.artefacts}")
    return found


@contextmanager
def _spawned(request: Request, complaints: IO[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "models.register", request.card.id],
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=complaints,
        text=True,
    ) as process:
        try:
            # Through the pipe, not as an argument: it may hold a token, and arguments are public.
            assert process.stdin is not None
            with suppress(BrokenPipeError), process.stdin:
                process.stdin.write(REQUEST.dump_json(request).decode())
            yield process
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
    process.kill()


def _follow(process: subprocess.Popen[str], say: Say, check: Check) -> dict[str, Any]:
    """Pass the progress on; return the last event."""
    event: dict[str, Any] = {}
    for line in _lines(process, check):
        event = json.loads(line)
        if event["event"] == "progress":
            say(event["text"])
    return event


def _lines(process: subprocess.Popen[str], check: Check) -> Iterator[bytes]:
    """Of its standard output, until that ends; it may be silent for minutes, and ``check`` is asked meanwhile."""
    assert process.stdout is not None
    pipe, rest = process.stdout.fileno(), b""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            check()
            if not selector.select(_LOOK_S):
                continue
            if not (piece := os.read(pipe, 1 << 16)):
                return
            *whole, rest = (rest + piece).split(b"\n")
            yield from whole


def _error_of(event: dict[str, Any]) -> SwatheError:
    kinds = {kind.__name__: kind for kind in STATUS}
    return kinds[event["error"]](event["detail"], hint=event["hint"], field=event["field"], code=event["code"])


def _broke(card: ModelCard, status: int, complaints: IO[str]) -> ModelError:
    complaints.seek(0)
    lines = [line.strip() for line in complaints if line.strip()]
    how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return ModelError(
        f"the registration of {card.id} {how}: {lines[-1][:300] if lines else 'it said nothing'}",
        hint="signal 9 is mostly a lack of memory; runtime.engine: eager does without registration",
        code="model.register",
    )
