"""``swathe models``: what there is, what one card says, registering and adding."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from swathe.errors import CardError, ModelError, OutputError

# Cards are pydantic, tables are rich: `swathe --help` wants neither, so they are imported by the commands.
if TYPE_CHECKING:
    from rich.table import Table

    from models.registry import Registry
    from models.weights import ModelHome
    from swathe.card import ModelCard

app = typer.Typer(help="Models: list them, show one, register one, add your own.", no_args_is_help=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of a model; `swathe models` lists them.")]


class Settings(Protocol):
    """What this sub-app wants of ``Context.obj``."""

    @property
    def home(self) -> ModelHome:
        """Cache and network."""
        ...

    @property
    def card_folders(self) -> tuple[Path, ...]:
        """Where cards lie; the last is the user's own."""
        ...


@app.callback(invoke_without_command=True)
def models(context: typer.Context, as_json: Json = False) -> None:
    """List the models."""
    if context.invoked_subcommand is None:
        _list(_settings(context), as_json)


@app.command("list")
def list_models(context: typer.Context, as_json: Json = False) -> None:
    """List the models."""
    _list(_settings(context), as_json)


@app.command()
def show(context: typer.Context, model_id: Id, as_json: Json = False) -> None:
    """Show one card, and what of it is on this machine."""
    settings = _settings(context)
    card = _registry(settings)[model_id]
    said = {**card.model_dump(mode="json"), **_state(card, settings.home), **_registration(card, settings.home)}
    if as_json:
        typer.echo(json.dumps(said, indent=2))
    else:
        _print_card(card, said)


@app.command()
def register(
    context: typer.Context,
    model_id: Id,
    tiles: Annotated[Path | None, typer.Option(help="Real tiles to compare on: .npz, array `tiles`.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Even if it is registered.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch the weights of a model, export it and check the export, so that runs start at once."""
    from rich.console import Console
    from rich.text import Text

    from models.load import ensure

    settings = _settings(context)
    card = _registry(settings)[model_id]
    console = Console(stderr=True)
    with console.status(f"registering {model_id}") as status:
        ready = ensure(
            card, settings.home, say=lambda text: status.update(Text(text)), tiles=lambda: tiles, again=again
        )  # fmt: skip
    artefact = ready.artefact.model_dump(mode="json") if ready.artefact else None
    if as_json:
        typer.echo(json.dumps({"id": card.id, "engine": ready.engine, "device": ready.device, "artefact": artefact}))
        return
    Console().print(f"{card.id} runs on [bold]{ready.engine}[/] ({ready.device})")
    if artefact:
        Console().print(_verdicts(artefact))


@app.command()
def add(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="CARD.yaml", help="A model card of your own.")],
    as_json: Json = False,
) -> None:
    """Check a card and copy it, with the files beside it that it names, to your own cards."""
    from rich.console import Console
    from rich.markup import escape

    from models.registry import read_card

    settings = _settings(context)
    card = read_card(path)
    copied = add_card(card, path, _registry(settings), settings.card_folders[-1])
    if as_json:
        typer.echo(json.dumps({"id": card.id, "files": [str(p) for p in copied]}))
    else:
        Console().print(f"added [bold]{card.id}[/]: " + escape(", ".join(map(str, copied))), soft_wrap=True)


def add_card(card: ModelCard, path: Path, registry: Registry, folder: Path) -> list[Path]:
    """Copy a card and what it names beside it. Raises ``CardError``, ``OutputError``; nothing is overwritten."""
    if card.id in registry:
        raise CardError(
            f"there is a model {card.id!r} already: {registry[card.id].origin}",
            hint="give yours another id, and its file the same name",
            field="id",
            code="card.duplicate",
        )
    files = [path, *_beside(card, path.resolve().parent)]
    if taken := [folder / f.name for f in files if (folder / f.name).exists()]:
        raise OutputError(f"{taken[0]} exists", hint="rename the file, here and in the card", code="output.taken")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The card last: it counts from the moment it is there.
        return [Path(shutil.copyfile(f, folder / f.name)) for f in reversed(files)][::-1]
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror}", code="output.unwritable") from error


def _beside(card: ModelCard, folder: Path) -> list[Path]:
    """Files that the card names by a plain name: weights, configs, the network itself."""
    names = [v for v in card.network.values() if isinstance(v, str)] + ([card.weights.uri] if card.weights else [])
    plain = [folder / n for n in names if n and Path(n).name == n and (folder / n).is_file()]
    if not plain:
        return []
    from models.artefact import external_data_names

    return [*plain, *(d for p in plain if p.suffix == ".onnx" for d in external_data_names(p) if d.is_file())]


def _settings(context: typer.Context) -> Settings:
    return context.obj


def _registry(settings: Settings) -> Registry:
    from models.registry import load_cards

    return load_cards(settings.card_folders)


def _list(settings: Settings, as_json: bool) -> None:
    rows = [_row(card, settings.home) for card in _registry(settings).values()]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table("id", "task", "bands", "weights", "title", box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(row["id"], row["task"], str(len(row["bands"])), _said_of(row), escape(row["title"]))
    Console().print(table)


def _row(card: ModelCard, home: ModelHome) -> dict[str, Any]:
    return {
        "id": card.id,
        "title": card.title,
        "task": str(card.task),
        "adapter": card.adapter,
        "bands": list(card.input.bands),
        "times": card.input.times,
        "chip": card.input.chip,
        "licence": card.licence,
        "area_dependent": card.area_dependent,
        **_state(card, home),
    }


def _state(card: ModelCard, home: ModelHome) -> dict[str, Any]:
    """Whether the weights are here, without reading them."""
    if card.adapter == "formula":
        return {"needs_weights": False, "weights_path": None, "verified": None, "origin": str(card.origin)}
    from models.artefact import beside, source
    from models.weights import present

    path = present(source(card), home, beside(card))
    verified = bool(source(card).sha256)
    return {"needs_weights": True, "weights_path": str(path) if path else None, "verified": verified,
            "origin": str(card.origin)}  # fmt: skip


def _registration(card: ModelCard, home: ModelHome) -> dict[str, Any]:
    """The record of the engine that would run here."""
    if card.adapter == "formula":
        return {"registered": None}
    from models.artefact import find
    from models.load import device_of

    try:
        found = find(card, home, device_of(card))
    except ModelError as error:
        return {"registered": {"engine": None, "reason": error.detail}}
    if found is None:
        return {"registered": None}
    record = found.artefact.model_dump(mode="json") if found.artefact else None
    return {"registered": {"engine": found.engine, "artefact": record}}


def _said_of(row: dict[str, Any]) -> str:
    if not row["needs_weights"]:
        return "none needed"
    where = "here" if row["weights_path"] else "to fetch"
    return where if row["verified"] else f"{where}, unverified"


def _print_card(card: ModelCard, said: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column()
    facts = {
        "id": card.id,
        "title": card.title,
        "summary": card.summary,
        "task": str(card.task),
        "bands": ", ".join(card.input.bands),
        "dates": str(card.input.times),
        "tile": f"{card.input.chip} px, overlap {card.input.overlap}",
        "classes": ", ".join(f"{c.value} {c.name}" for c in card.output.classes),
        "weights": f"{_said_of(said)} ({card.weights.uri})" if card.weights else _said_of(said),
        "licence": card.licence,
        "citation": card.citation,
        "card": said["origin"],
    }
    for name, fact in facts.items():
        if fact:
            table.add_row(name, escape(fact))
    console.print(table)
    registered = said["registered"] or {}
    if registered.get("artefact"):
        console.print(_verdicts(registered["artefact"]))


def _verdicts(artefact: dict[str, Any]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    columns = ("engine", "ms per tile", "times faster", "largest difference", "flips ppm", "")
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for engine, verdict in artefact["verdicts"].items():
        parity = verdict["parity"] or {}
        figures = [verdict["ms_per_tile"], verdict["times_faster"], parity.get("max_abs_diff"), parity.get("flips_ppm")]
        shown = [f"{f:.3g}" if f is not None else "" for f in figures]
        table.add_row(engine, *shown, "" if verdict["passed"] else escape(f"refused: {verdict['reason']}"))
    return table
