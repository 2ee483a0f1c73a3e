"""``swathe catalog``: what is registered here, adding and removing, and serving it to any STAC client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import typer

from swathe.errors import InputError

# Cards are pydantic, tables are rich, geometry is shapely: `swathe --help` wants none of them.
if TYPE_CHECKING:
    from fastapi import FastAPI

    from pipelines.catalogue.store import Catalogue
    from pipelines.remote.network import Network
    from swathe.card import ModelCard

app = typer.Typer(help="The catalogue: results and registered imagery, for any STAC client.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Collection = Annotated[str | None, typer.Option("--collection", "-c", help="Id of a collection.")]
_PORTS = 65535


class Settings(Protocol):
    """What this sub-app wants of ``Context.obj``."""

    @property
    def data_dir(self) -> Path:
        """Where the catalogue lies."""
        ...

    @property
    def network(self) -> Network:
        """How STAC documents at an address are fetched."""
        ...

    @property
    def card_folders(self) -> tuple[Path, ...]:
        """Where model cards lie."""
        ...


@app.command()
def add(
    context: typer.Context,
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Result, STAC file, image, folder, address.")],
    collection: Collection = None,
    when: Annotated[str | None, typer.Option("--datetime", help="Time of images that have no STAC Item.")] = None,
    as_json: Json = False,
) -> None:
    """Register results, STAC Items and images; nothing is copied. Adding something again renews it."""
    from pipelines.catalogue.register import Wish, register
    from pipelines.imagery.remote_files import RemoteFiles

    settings: Settings = context.obj
    items: list[tuple[str, str]] = []
    collections: list[str] = []
    with _opened(context) as catalogue, RemoteFiles(settings.network, settings.network.retry) as remote:
        wish = Wish(collection, when, _cards(settings), remote)
        for path in paths:
            done = register(catalogue, path, wish)
            items += done.items
            collections += done.collections
    if as_json:
        typer.echo(json.dumps({"items": [{"collection": c, "id": i} for c, i in items], "collections": collections}))
        return
    for collection_id, item_id in items:
        typer.echo(f"{collection_id}/{item_id}")
    for collection_id in collections:
        typer.echo(f"collection {collection_id}")


@app.command("list")
def list_items(
    context: typer.Context,
    collection: Annotated[
        str | None, typer.Argument(metavar="[COLLECTION]", help="Its items; else collections.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Items at most, newest first.")] = 100,
    as_json: Json = False,
) -> None:
    """List the collections, or the items of one."""
    with _opened(context) as catalogue:
        if collection is None:
            rows = [_collection_row(c, catalogue.count(c["id"])) for c in catalogue.collections()]
            _show_table(rows, ("id", "items", "first", "last", "title"), as_json)
        else:
            catalogue.check_collection(collection)
            _show_table(_item_rows(catalogue, collection, limit), ("id", "datetime", "bbox", "title"), as_json)


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="COLLECTION[/ITEM]", help="As `swathe catalog add` printed it.")],
    as_json: Json = False,
) -> None:
    """Print one collection or item, as JSON in either case."""
    collection, _, item = name.partition("/")
    with _opened(context) as catalogue:
        found = catalogue.item(collection, item) if item else catalogue.collection(collection)
    typer.echo(json.dumps(found, indent=None if as_json else 2, ensure_ascii=False))


@app.command()
def remove(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(metavar="COLLECTION[/ITEM]", help="What to forget.")],
    items_too: Annotated[bool, typer.Option("--all", help="Also a collection that has items, with them.")] = False,
    as_json: Json = False,
) -> None:
    """Forget items or collections. The files themselves stay."""
    with _opened(context) as catalogue, catalogue.together() as one:
        for name in names:
            collection, _, item = name.partition("/")
            if item:
                one.delete_item(collection, item)
                continue
            if (count := one.count(collection)) and not items_too:
                hint = "say --all to forget them, too"
                raise InputError(f"collection {collection} has {count} items", code="catalogue.not_empty", hint=hint)
            one.delete_collection(collection)
    typer.echo(json.dumps({"removed": names}) if as_json else f"forgotten: {', '.join(names)}")


@app.command()
def serve(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=_PORTS, help="Port; 0: any free one.")] = 8088,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than loopback have no protection.")
    ] = "127.0.0.1",
    root_path: Annotated[str, typer.Option(help="Path under which a proxy shows it.")] = "",
    files: Annotated[bool, typer.Option(help="Also serve the local files of items, with byte ranges.")] = True,
) -> None:
    """Serve the catalogue as a STAC API until Ctrl-C."""
    import socket

    import uvicorn

    from serve.catalogue.app import catalogue_app

    with _opened(context) as catalogue, socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
            bound.listen()  # so that the address works from the moment it is printed
        except OSError as error:
            hint = "choose another with --port, or 0 for any"
            raise InputError(
                f"{host}:{port} cannot be had: {error.strerror}", code="catalogue.port", hint=hint
            ) from None
        typer.echo(f"http://{host}:{bound.getsockname()[1]}{root_path}/")
        app = _app(catalogue, context.obj.data_dir, root_path) if files else catalogue_app(catalogue)
        config = uvicorn.Config(app, log_level="warning", root_path=root_path, timeout_graceful_shutdown=3)
        uvicorn.Server(config).run([bound])


def _app(catalogue: Catalogue, data_dir: Path, root_path: str) -> FastAPI:
    """The catalogue's API, with the files that its items name."""
    from serve.catalogue.app import catalogue_app
    from serve.catalogue.files import Signs, key_in, serve_files

    signs = Signs(key_in(data_dir / "catalogue.key"), root_path)
    app = catalogue_app(catalogue, signs.publish)
    serve_files(app, signs)
    return app


@contextmanager
def _opened(context: typer.Context) -> Iterator[Catalogue]:
    from pipelines.catalogue.store import Catalogue

    settings: Settings = context.obj
    with Catalogue(settings.data_dir / "catalogue.sqlite") as catalogue:
        yield catalogue


def _cards(settings: Settings) -> Mapping[str, ModelCard]:
    from models.registry import load_cards

    return load_cards(settings.card_folders)


def _collection_row(collection: dict[str, Any], items: int) -> dict[str, Any]:
    first, last = collection["extent"]["temporal"]["interval"][0] if items else (None, None)
    title = collection.get("title") or ""
    return {"id": collection["id"], "items": items, "first": first, "last": last, "title": title}


def _item_rows(catalogue: Catalogue, collection: str, limit: int) -> list[dict[str, Any]]:
    from pipelines.catalogue.search import Search

    rows: list[dict[str, Any]] = []
    token = None
    while len(rows) < limit:
        page = catalogue.search(Search((collection,), limit=min(limit - len(rows), 1000), token=token))
        rows += [_item_row(item) for item in page.items]
        token = page.token
        if token is None:
            break
    return rows


def _item_row(item: dict[str, Any]) -> dict[str, Any]:
    said = item["properties"]
    when = said.get("datetime") or said.get("start_datetime")
    return {"id": item["id"], "datetime": when, "bbox": item.get("bbox"), "title": said.get("title") or ""}


def _show_table(rows: list[dict[str, Any]], names: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, no_wrap=name == "id", overflow="fold")
    for row in rows:
        table.add_row(*(escape(_text(row[name], day=name in ("first", "last"))) for name in names))
    Console().print(table)


def _text(value: Any, *, day: bool) -> str:
    if isinstance(value, list):
        return ", ".join(f"{n:.4g}" for n in value)
    return "" if value is None else str(value)[: 10 if day else None]
