"""Exported networks, kept under the hash of what they were made from: a folder each, complete or absent.

``artefacts/<key>/artefact.json`` and the files it names. A folder without files records that an engine family was tried
and refused, and why, so that nobody tries again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from models.weights import ModelHome, fetch, known_sha256, present, sha256_of, used
from swathe.card import Frozen, ModelCard, Weights
from swathe.errors import CardError, ModelError

RECIPE = 1
"""Version of our own way to export and judge; a new one makes every artefact anew."""

Family = Literal["onnx", "pt2", "aoti", "script"]

FAMILY: dict[str, Family] = {
    "openvino": "onnx",
    "onnxruntime": "onnx",
    "torchexport": "pt2",
    "aotinductor": "aoti",
    "torchscript": "script",
}
"""Engine -> the kind of file it reads."""

CHAIN = {"cpu": ("openvino", "onnxruntime", "torchexport", "eager"), "cuda": ("torchexport", "eager")}
"""Device -> engines that ``auto`` tries, best first."""

DRAFT = ".draft-"
"""How folders of what is still being made begin."""
_RECORD = "artefact.json"


class Parity(Frozen):
    """How far an engine's numbers are from the reference's."""

    reference: str
    """eager, or onnxruntime for a file of the user's own."""
    tiles: int
    """Random and real ones."""
    real_tiles: int = 0
    """Of these, tiles of real imagery."""
    batches: tuple[int, ...] = ()
    """Batch sizes that were tried."""
    max_abs_diff: float
    """Largest difference of any number."""
    flips_ppm: float | None = None
    """Pixels per million whose class differs; None: no classes."""
    widest_margin: float | None = None
    """Largest margin (first minus second probability of the reference) among them; 0: none differs."""


class Verdict(Frozen):
    """What came of one engine."""

    passed: bool
    reason: str = ""
    """Why not."""
    parity: Parity | None = None
    """None where it did not come to that."""
    ms_per_tile: float | None = None
    """Of the forward, in the registration's short timing."""
    reference_ms_per_tile: float | None = None
    """Of the original's forward, in turns with it."""
    times_faster: float | None = None
    """The original's time over the engine's, median of the turns."""
    load_s: float | None = None
    """From the file to a callable."""


class Artefact(Frozen):
    """What is written down beside an exported network."""

    key: str
    card: str
    """Id of the card."""
    card_sha256: str
    """Of the whole card, as it was."""
    weights_sha256: str
    """Of what it was made from."""
    verified: bool
    """Whether that hash was published."""
    family: Family
    precision: str
    device: str
    threads: int
    """Of the timings."""
    main: str = ""
    """File to load; empty: no engine of this family can be used."""
    files: dict[str, int] = Field(default_factory=dict)
    """Name -> bytes."""
    dynamic: bool = True
    """Whether any batch may be given; otherwise the card's only."""
    opset: int | None = None
    """Of ONNX."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Of what exported it."""
    verdicts: dict[str, Verdict] = Field(default_factory=dict)
    """Engine -> what came of it."""
    seconds: float = 0
    """That the export took."""
    made: str = ""
    """When, ISO 8601."""
    folder: Path | None = Field(default=None, exclude=True)
    """Where it lies; not part of the record."""

    @property
    def path(self) -> Path:
        """The file to load."""
        return (self.folder or Path()) / self.main


@dataclass(frozen=True, slots=True)
class Found:
    """The engine that will run a card, and the artefact it reads."""

    engine: str
    artefact: Artefact | None
    """None: eager."""


def candidates(card: ModelCard, device: str) -> tuple[str, ...]:
    """Engines to try for a card, best first. Raises ``CardError`` where the card's engine cannot read its file."""
    asked, chain = card.runtime.engine, CHAIN[device]
    if card.adapter != "artefact":
        return chain if asked == "auto" else (asked,)
    readers = {"onnx": ("openvino", "onnxruntime"), "script": ("torchscript",)}[family_of_file(card)]
    if asked not in ("auto", *readers):
        raise CardError(
            f"{card.id}: {asked} cannot run {source(card).uri}",
            hint=f"use {', '.join(readers)} or auto",
            field="runtime.engine",
            code="card.engine",
        )
    return readers if asked == "auto" else (asked,)


def family_of_file(card: ModelCard) -> Literal["onnx", "script"]:
    """Kind of a user's own file: as the card says, else by its suffix. Raises ``CardError``."""
    from models.adapted import block_of

    return block_of(card).family(source(card).uri)


def source(card: ModelCard) -> Weights:
    """What an artefact is made from: ``weights``, or for a user's file also ``network.file``. Raises ``CardError``."""
    file = card.network.get("file") if card.adapter == "artefact" else None
    if bool(file) == bool(card.weights):
        where = "weights, or network.file" if card.adapter == "artefact" else "weights"
        raise CardError(f"{card.id}: give one of {where}", field="weights", code="card.weights")
    return card.weights or Weights(uri=str(file))


def beside(card: ModelCard) -> Path | None:
    """Folder of the card, for its relative paths."""
    return card.origin.parent if card.origin else None


def fetcher(card: ModelCard, home: ModelHome) -> Callable[[str], Path]:
    """What has a uri of the card's config on this machine."""
    return lambda uri: fetch(Weights(uri=uri), home, beside(card)).path


def find(card: ModelCard, home: ModelHome, device: str = "cpu") -> Found | None:
    """Engine and artefact for a card, from the cache; None: it has to be registered first.

    Raises ``ModelError`` (``model.refused``) where the card insists on an engine that was tried and refused.
    """
    refused: dict[str, str] = {}
    for engine in candidates(card, device):
        if engine == "eager":
            return Found(engine, None)
        artefact = read(card, home, FAMILY[engine], device)
        if artefact is None or engine not in artefact.verdicts:
            return None
        if artefact.verdicts[engine].passed:
            return Found(engine, artefact)
        refused[engine] = artefact.verdicts[engine].reason
    raise refusal(card, refused)


def refusal(card: ModelCard, refused: dict[str, str]) -> ModelError:
    """The error for a card that no engine of its choice can run."""
    said = "; ".join(f"{engine}: {reason}" for engine, reason in refused.items())
    return ModelError(
        f"{card.id} cannot be run as its card asks: {said}",
        hint="set runtime.engine to auto or eager" if card.adapter == "terratorch" else "export the file anew",
        field="runtime.engine",
        code="model.refused",
    )


def read(card: ModelCard, home: ModelHome, family: Family, device: str) -> Artefact | None:
    """The record of a family; None where there is none, or where it is damaged."""
    key = key_of(card, home, family, device)
    folder = home.artefacts / (key or "-")
    record = recorded(folder)
    if record is None or not _whole(record, folder):
        return None
    used(folder)
    return record.model_copy(update={"folder": folder})


def recorded(folder: Path) -> Artefact | None:
    """What stands in a folder of artefacts; None where nothing readable does."""
    try:
        return Artefact.model_validate_json((folder / _RECORD).read_bytes())
    except (OSError, ValidationError):
        return None


def _whole(record: Artefact, folder: Path) -> bool:
    return all((folder / name).is_file() and (folder / name).stat().st_size == n for name, n in record.files.items())


def key_of(card: ModelCard, home: ModelHome, family: Family, device: str) -> str | None:
    """Hash of all that an artefact depends on; None as long as the hash of the weights is not known."""
    weights = known_sha256(source(card), home, beside(card))
    if weights is None:
        return None
    eats, gives = card.input, card.output
    parts = {
        "recipe": RECIPE,
        "weights": weights,
        "beside": _files_beside(card, home),
        "adapter": card.adapter,
        "network": card.network,
        "task": card.task,
        "input": [eats.times, eats.bands, eats.chip, sorted(eats.modalities)],
        "output": [gives.depth, gives.stride],
        "batch": card.resources.batch,
        "precision": card.runtime.precision,
        "family": family,
        "device": device,
        "for": _built_for(family),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def content_of(card: ModelCard, home: ModelHome) -> str:
    """Hash of the weights and files that a card stands for on this machine, whatever their names say."""
    parts = [known_sha256(source(card), home, beside(card)), _files_beside(card, home)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _files_beside(card: ModelCard, home: ModelHome) -> dict[str, str]:
    """Further files that count: those beside the card that its network names, and the external data of an ONNX file."""
    folder = beside(card)
    named = {v: folder / v for v in card.network.values() if isinstance(v, str) and v} if folder else {}
    found = present(source(card), home, folder)
    named |= {p.name: p for p in external_data_names(found)} if found else {}
    return {name: sha256_of(path) for name, path in named.items() if path.is_file()}


def external_data_names(onnx: Path) -> tuple[Path, ...]:
    """Where the external data of an ONNX file may lie: beside it, under the names that exporters give."""
    return tuple(onnx.with_name(f"{stem}{end}") for stem in (onnx.name, onnx.stem) for end in (".data", "_data"))


def _built_for(family: Family) -> list[str]:
    """What a file can only be used with: its version of torch and, where it is compiled, the CPU and the GPUs."""
    if family == "onnx":
        return []
    try:
        built_for = [version("torch")]
    except PackageNotFoundError:
        return []
    return built_for + _hardware() if family == "aoti" else built_for


def _hardware() -> list[str]:
    cpu, gpus = Path("/proc/cpuinfo"), Path("/proc/driver/nvidia/gpus").glob("*/information")
    lines = cpu.read_text().splitlines() if cpu.is_file() else []
    instructions = next((x for x in lines if x.startswith(("flags", "Features"))), "")
    models = {x for gpu in gpus for x in gpu.read_text().splitlines() if x.startswith("Model")}
    return [instructions, *sorted(models)]


def card_sha256(card: ModelCard) -> str:
    """Hash of a card's content."""
    return hashlib.sha256(card.model_dump_json().encode()).hexdigest()


def draft(home: ModelHome) -> tempfile.TemporaryDirectory[str]:
    """Folder in which an artefact is put together, on the file system where it will stay."""
    home.artefacts.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=home.artefacts, prefix=DRAFT, ignore_cleanup_errors=True)


def store(artefact: Artefact, files: Path, home: ModelHome) -> Artefact:
    """Move the files of a draft and their record to their place, at once; what was there under the key goes."""
    sizes = {p.name: p.stat().st_size for p in files.iterdir()} if artefact.main else {}
    final = home.artefacts / artefact.key
    with draft(home) as scratch:
        whole, old = Path(scratch) / "whole", Path(scratch) / "old"
        whole.mkdir()
        for name in sizes:
            shutil.move(files / name, whole / name)
        record = artefact.model_copy(update={"files": sizes})
        (whole / _RECORD).write_text(record.model_dump_json(indent=2) + "\n")
        with suppress(FileNotFoundError):
            final.rename(old)
        whole.rename(final)
    return record.model_copy(update={"folder": final})
