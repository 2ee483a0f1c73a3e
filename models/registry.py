"""Cards of models, read from folders of YAML; loud about every mistake, silent about nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from swathe.card import ModelCard
from swathe.errors import CardError, UnknownModelError

SUFFIXES = (".yaml", ".yml")
LARGEST_CARD = 1 << 20
"""Bytes; the longest card that makes sense has a few kB."""


@dataclass(frozen=True, slots=True)
class Registry(Mapping[str, ModelCard]):
    """Every known card by id, in alphabetical order."""

    cards: Mapping[str, ModelCard]
    """Not to be changed."""
    folders: tuple[Path, ...]
    """Where they were read."""

    def __getitem__(self, model_id: str) -> ModelCard:
        """Card of an id. Raises ``UnknownModelError`` with the ids that look like it."""
        try:
            return self.cards[model_id]
        except KeyError:
            raise UnknownModelError(f"no model {model_id!r}", hint=self._advice(model_id), field="model") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.cards)

    def __len__(self) -> int:
        return len(self.cards)

    def __contains__(self, model_id: object) -> bool:
        return model_id in self.cards

    def _advice(self, model_id: str) -> str:
        near = get_close_matches(model_id.lower(), self.cards, n=3, cutoff=0.5)
        if near:
            return f"did you mean {', '.join(near)}? `swathe models` lists all"
        looked = ", ".join(f"{f}" if f.is_dir() else f"{f} (does not exist)" for f in self.folders)
        return f"`swathe models` lists all {len(self)}; cards were read from {looked or 'nowhere'}"


class _Loader(yaml.SafeLoader):
    """The safe loader, which does not let a key be said twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(k, deep=True) for k, _ in node.value if k.tag != "tag:yaml.org,2002:merge"]
        twice = next((k for i, k in enumerate(keys) if k in keys[:i]), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"{twice!r} is said twice", node.start_mark)
        return super().construct_mapping(node, deep)


def default_folders(user: Path | None = None) -> tuple[Path, ...]:
    """Folders of cards: ours, and the user's own where one is given (it need not exist yet)."""
    ours = Path(__file__).resolve().parent.parent / "configs" / "models"
    return (ours, user) if user else (ours,)


def load_cards(folders: Sequence[Path]) -> Registry:
    """Read every card; a folder that does not exist holds none.

    Raises ``CardError`` that names file and field: bad YAML, unknown fields, an id that is not the file's name
    (``card.name``), an id given twice (``card.duplicate``, naming both files).
    """
    cards: dict[str, ModelCard] = {}
    for path in (p for folder in folders for p in _files(folder)):
        card = read_card(path)
        if card.id in cards:
            raise CardError(
                f"the id {card.id!r} is used twice: by {cards[card.id].origin} and by {path}",
                hint="rename one of them, file and id",
                field="id",
                code="card.duplicate",
            )
        cards[card.id] = card
    return Registry(dict(sorted(cards.items())), tuple(folders))


def read_card(path: Path) -> ModelCard:
    """Read one card; ``origin`` is set. Raises ``CardError`` (see ``load_cards``)."""
    card = _validated(_document(path), path)
    if card.id != path.stem:
        raise CardError(
            f"{path} holds the card {card.id!r}",
            hint=f"name the file {card.id}.yaml, or the card {path.stem!r}",
            field="id",
            code="card.name",
        )
    return card.model_copy(update={"origin": path.resolve()})


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES) if folder.is_dir() else []


def _document(path: Path) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise CardError(f"{path} cannot be read: {error.strerror}", code="card.unreadable") from error
    if len(text) > LARGEST_CARD:
        raise CardError(f"{path} has more than {LARGEST_CARD} bytes", code="card.yaml")
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506  _Loader is a SafeLoader
    except (yaml.YAMLError, RecursionError, TypeError) as error:  # TypeError: a key that is a list
        raise CardError(f"{path} is no YAML: {' '.join(str(error).split())}", code="card.yaml") from error
    if not isinstance(document, dict):
        raise CardError(f"{path} is no mapping of fields", hint="a card begins with `id: …`", code="card.yaml")
    return document


def _validated(document: dict[str, Any], path: Path) -> ModelCard:
    if "origin" in document:  # a field of the value, not of the file
        raise CardError(f"{path}: origin: no such field", field="origin", code="card.invalid")
    try:
        return ModelCard.model_validate(document)
    except ValidationError as error:
        faults = [(".".join(map(str, e["loc"])), e) for e in error.errors(include_url=False)]
        said = "; ".join(f"{where}: {_said(fault)}" if where else _said(fault) for where, fault in faults)
        raise CardError(f"{path}: {said}", field=faults[0][0], hint=_hint(faults), code="card.invalid") from error


def _said(fault: Any) -> str:
    if fault["type"] == "extra_forbidden":
        return "no such field"
    if fault["type"] == "missing":
        return "is missing"
    return str(fault["msg"]).removeprefix("Value error, ")


def _hint(faults: list[tuple[str, Any]]) -> str:
    where, fault = faults[0]
    if where.endswith("colour") and fault["input"] is None:
        return "quote colours: '#rrggbb'; YAML reads # as a comment"
    if fault["type"] == "extra_forbidden":
        name = str(fault["loc"][-1])
        near = get_close_matches(name, _field_names(), n=1)
        return f"did you mean {near[0]}?" if near else "remove it"
    return ""


def _field_names() -> list[str]:
    schema = ModelCard.model_json_schema()
    blocks = [schema, *schema["$defs"].values()]
    return sorted({name for block in blocks for name in block.get("properties", {})} - {"origin"})
