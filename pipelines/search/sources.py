"""Source cards, read from folders of YAML; loud about mistakes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from pydantic import ValidationError

from pipelines.imagery.sensors import StrictLoader
from pipelines.search.radiometry import PROVIDERS
from swathe.errors import InputError
from swathe.imagery import is_remote
from swathe.source import AMAZON, Auth, AuthKind, MaskRule, RadiometryRule, SourceCard, SourceKind, SourceMask

_FIELD = "--source"
_NEEDS_NO_ASSET = (MaskRule.OMNICLOUDMASK,)
_LOOKS = 3
_SECRET = (AuthKind.BEARER, AuthKind.BASIC, AuthKind.HEADER, AuthKind.QUERY)
_LOCAL = (SourceKind.STATIC, SourceKind.FOLDER)


def load_sources(folders: Iterable[Path]) -> dict[str, SourceCard]:
    """Cards by id, in alphabetical order; a later folder's card replaces one of the same id.

    Folders that do not exist are passed over. Raises InputError (``source.invalid``) that names the file at fault.
    """
    found: dict[str, SourceCard] = {}
    for folder in folders:
        files = sorted(p for p in folder.iterdir() if p.suffix in (".yaml", ".yml")) if folder.is_dir() else []
        here: dict[str, SourceCard] = {}
        for file in files:
            card = read_source(file)
            if card.id in here:
                raise _invalid(file, f"the id {card.id!r} is taken by another file")
            here[card.id] = card
        found |= here
    return dict(sorted(found.items()))


def read_source(file: Path) -> SourceCard:
    """One card; its id is the file's name. Local addresses count from the card's own folder.

    Raises InputError (``source.invalid``).
    """
    try:
        raw = yaml.load(file.read_text(encoding="utf-8"), Loader=StrictLoader)  # noqa: S506  a SafeLoader
        card = SourceCard.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "source"
        raise _invalid(file, f"{where}: {first['msg']}") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise _invalid(file, " ".join(str(error).split())) from None
    if card.id != file.stem:
        raise _invalid(file, f"its id is {card.id!r}, not the file's name")
    if wrong := mistake(card):
        raise _invalid(file, wrong)
    own = {"auth": _homed(card.auth, card.url), "search_auth": _homed(card.search_auth, card.url)}
    card = card.model_copy(update={"mask": _beside(card.mask, file), **own})
    if card.kind in _LOCAL and not is_remote(card.url):
        home = (file.parent / Path(card.url).expanduser()).resolve()
        return card.model_copy(update={"url": str(home)})
    return card


def _homed(auth: Auth, url: str) -> Auth:
    """With the host of the card's own address among those that the secret is for, or its bucket."""
    host, bucket = _host(url), _bucket(url)
    if bucket and bucket not in auth.buckets:
        return auth.model_copy(update={"buckets": (*auth.buckets, bucket)})
    if auth.kind not in _SECRET or not host or host in auth.hosts:
        return auth
    return auth.model_copy(update={"hosts": (*auth.hosts, host)})


def _host(url: str) -> str:
    """Of a web address; of a tile service whose servers take turns, what they lie below."""
    try:
        parts = urlsplit(url)
        return (parts.hostname or "").removeprefix("{s}.") if parts.scheme.lower() in ("http", "https") else ""
    except ValueError:
        return ""


def _bucket(url: str) -> str:
    return url[len("s3://") :].partition("/")[0] if url.lower().startswith("s3://") else ""


def _beside(mask: SourceMask | None, file: Path) -> SourceMask | None:
    """The mask with its networks where they are meant to lie."""
    if mask is None or not mask.networks:
        return mask
    paths = [str((file.parent / Path(network.uri).expanduser()).resolve()) for network in mask.networks]
    networks = tuple(n.model_copy(update={"uri": path}) for n, path in zip(mask.networks, paths, strict=True))
    return mask.model_copy(update={"networks": networks})


def mistake(card: SourceCard) -> str:
    """What is wrong with a card beyond its form; empty where nothing is."""
    return next((wrong for wrong in _mistakes(card) if wrong), "")


def _mistakes(card: SourceCard) -> Iterator[str]:
    rule, mask = card.radiometry, card.mask
    if rule.rule is RadiometryRule.SENTINEL2 and rule.provider not in PROVIDERS:
        yield f"radiometry.provider {rule.provider!r} is none of {', '.join(PROVIDERS)}"
    if rule.scale == 0 or any(band.scale == 0 for band in card.bands.values()):
        yield "a scale of 0 makes every pixel the same"
    if mask and bool(mask.asset) == (mask.rule in _NEEDS_NO_ASSET):
        yield f"mask.asset: the rule {mask.rule.value} " + ("needs none" if mask.asset else "needs one")
    if mask and mask.rule in _NEEDS_NO_ASSET and len(card.looks) < _LOOKS:
        yield f"mask: the rule {mask.rule.value} looks at red, green and nir (or nir08): name them under bands"
    if mask and mask.networks and mask.rule not in _NEEDS_NO_ASSET:
        yield f"mask.networks: the rule {mask.rule.value} needs none"
    for name, auth in (("auth", card.auth), ("search_auth", card.search_auth)):
        yield from (f"{name}: {wrong}" for wrong in _mistakes_of(auth))
    if card.kind is SourceKind.STAC and not is_remote(card.url):
        yield f"url: {card.url} is no http(s) address"
    if not card.licence or not card.documentation:
        yield "licence and documentation must be given, in words at least"


def _mistakes_of(auth: Auth) -> Iterator[str]:
    if auth.kind in _SECRET and not auth.secret:
        yield f"{auth.kind.value} needs 'secret': the name of an environment variable"
    if auth.kind in (AuthKind.HEADER, AuthKind.QUERY) and not auth.name:
        yield f"{auth.kind.value} needs 'name'"
    if auth.kind is AuthKind.PLANETARY_COMPUTER and not auth.sas_url:
        yield "planetary-computer needs 'sas_url'"
    if auth.endpoint not in ("", AMAZON) and not auth.endpoint.startswith(("https://", "http://")):
        yield f"endpoint {auth.endpoint!r} is no http(s) address, nor {AMAZON!r}"


def named(cards: Mapping[str, SourceCard], name: str) -> SourceCard:
    """The card of this id. Raises InputError (``source.unknown``) that names the nearest."""
    if name in cards:
        return cards[name]
    near = difflib.get_close_matches(name, cards, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(cards)}"
    raise InputError(
        f"there is no source {name!r}",
        code="source.unknown",
        hint=f"{hint} A STAC API's address, a catalogue file or a folder will do as well",
        field=_FIELD,
    )


def in_collection(card: SourceCard, collection: str | None) -> SourceCard:
    """The card, searching another collection. Raises InputError (``source.collection``) where none is named at all."""
    chosen = card.model_copy(update={"collection": collection}) if collection else card
    if chosen.kind is SourceKind.STAC and not chosen.collection:
        raise InputError(
            f"the source {card.id} has many collections",
            code="source.collection",
            hint="say which one: --collection NAME",
            field="--collection",
        )
    return chosen


def _invalid(path: Path, why: str) -> InputError:
    return InputError(
        f"source card {path}: {why}",
        code="source.invalid",
        hint="correct the file; docs/sources.md describes its fields",
        field=_FIELD,
    )
