"""Weights by uri and sha256: from the cache, a mirror or the net; checked each time, pinned where no hash is published.

The cache, below ``ModelHome.cache``::

    weights/<sha256>/<file>     downloaded, and checked
    mirror/<owner>/<repo>/...   carried here by hand: hf://owner/repo/file
    mirror/<host>/...           the same for https://host/file and s3://bucket/file
    pins/<sha256 of uri>.json   first hash seen where none is published

A folder's time of change says when it was last used (``models.sweep``).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from models.download import Access, Unavailable, Watch, save, trusted
from models.metered import Check, TooLarge
from swathe.card import Weights
from swathe.errors import WeightsError

PART = ".part-"
"""How folders of what is still being fetched begin."""
_HF = re.compile(r"^hf://(?P<owner>[\w.-]+)/(?P<repo>[\w.-]+)(@(?P<revision>[\w.-]+))?/(?P<file>.+)$")


@dataclass(frozen=True, slots=True)
class ModelHome:
    """Where weights and artefacts are kept, and how they may be fetched."""

    cache: Path
    """Everything below may be deleted at any time; it is fetched or made again."""
    offline: bool = False
    """Never touch the network."""
    mirror: Path | None = None
    """Folder of files carried here by hand; None: ``cache/mirror``."""
    hf_endpoint: str = "https://huggingface.co"
    """Hugging Face, or a mirror of it that speaks https."""
    hf_cache: Path | None = None
    """``$HF_HOME/hub``: what Hugging Face's own tools have fetched is used, never written."""
    hf_token: str = field(default="", repr=False)
    """For gated models."""
    s3_endpoint: str = ""
    """Empty: AWS."""
    s3_anonymous: bool = False
    """Ask S3 without credentials."""
    timeout_s: float = 30.0
    """Of a connection and of each read; what brings less than 1 kB/s for so long counts as broken."""
    max_mb: float | None = None
    """Of one file that is fetched; None: of any size. What was carried here by hand has no bound."""
    fetch_s: float | None = None
    """Seconds within which such a file has to be here; None: as long as bytes come."""
    public_only: bool = False
    """Whether addresses in cards must lead to the public network: where cards come from strangers."""

    @property
    def by_hand(self) -> Path:
        """The mirror folder."""
        return self.mirror or self.cache / "mirror"

    @property
    def artefacts(self) -> Path:
        """Folder of exported models."""
        return self.cache / "artefacts"


@dataclass(frozen=True, slots=True)
class FetchedWeights:
    """Weights on this machine."""

    path: Path
    """Where they lie; not to be written to."""
    sha256: str
    """What they are."""
    verified: bool
    """Whether that is a published hash; False: seen here first, and pinned."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a uri means."""

    key: str
    """The uri, or the absolute path: what a pin is filed under."""
    name: str
    """File name."""
    local: Path | None = None
    """The file itself, where the uri is a path."""
    url: str = ""
    """What to download, where it is not."""
    below: str = ""
    """Path in the mirror."""
    also: tuple[Path, ...] = ()
    """Other paths where it may lie."""


def fetch(
    weights: Weights, home: ModelHome, beside: Path | None = None, watch: Watch | None = None,
    check: Check | None = None,
) -> FetchedWeights:  # fmt: skip
    """Have the weights on this machine, checked.

    ``beside`` is the folder of the card, for relative paths; ``check`` is asked while bytes come, and raises where they
    are no longer wanted. Raises ``WeightsError``: ``weights.missing`` (not here and cannot be fetched; says what to
    fetch and where to put it), ``weights.size`` (the same, as there is too much of it), ``weights.corrupt`` (not the
    published hash), ``weights.changed`` (not the hash of the first load), ``weights.uri``, ``weights.cache``; and what
    ``check`` raises.
    """
    place = locate(weights.uri, home, beside)
    expected = weights.sha256 or pinned(place, home)
    path, digest = _cached(place, home, expected), expected
    if path is None or digest is None:
        path = _lying(place) or _download(place, home, weights, watch, check)
        digest = sha256_of(path)
    if not expected:
        try:
            _pin(place, home, digest)
        except OSError as error:
            raise unwritable(error, home) from error
    _check(place, home, weights, digest)
    if path.parent.parent == home.cache / "weights":
        used(path.parent)
    return FetchedWeights(path, digest, verified=bool(weights.sha256))


def used(folder: Path) -> None:
    """Note that a folder of the cache was used just now, for ``models.sweep``; a cache may be read-only."""
    with suppress(OSError):
        os.utime(folder)


def expected_sha256(weights: Weights, home: ModelHome, beside: Path | None = None) -> str | None:
    """Hash under which the cache keeps them: published, or pinned; None: not known yet, or a file that lies elsewhere.

    Raises ``WeightsError`` (``weights.uri``, ``weights.pin``).
    """
    place = locate(weights.uri, home, beside)
    return None if place.local else weights.sha256 or pinned(place, home)


def present(weights: Weights, home: ModelHome, beside: Path | None = None) -> Path | None:
    """Where the weights lie on this machine, unchecked and at no cost; None: they would have to be fetched."""
    place = locate(weights.uri, home, beside)
    expected = weights.sha256 or pinned(place, home)
    cached = home.cache / "weights" / (expected or "-") / place.name
    return cached if cached.is_file() else _lying(place)


def known_sha256(weights: Weights, home: ModelHome, beside: Path | None = None) -> str | None:
    """Hash that the weights have or must have: published, pinned, or of the file here; None: not known yet."""
    if weights.sha256:
        return weights.sha256
    place = locate(weights.uri, home, beside)
    if place.local is None:
        return pinned(place, home)
    # A file of the user's own may be trained again: what counts is what lies there now.
    return sha256_of(place.local) if place.local.is_file() else None


def locate(uri: str, home: ModelHome, beside: Path | None = None) -> Place:
    """Read a uri. Raises ``WeightsError`` (``weights.uri``)."""
    scheme = urlsplit(uri).scheme if "://" in uri else ""
    if scheme == "hf":
        return _hugging_face(uri, home)
    if scheme in {"https", "http", "s3"}:
        return _remote(uri, home)
    if scheme == "file":
        return _file(Path(unquote(urlsplit(uri).path)))
    if not scheme:
        path = Path(uri).expanduser()
        return _file(path) if path.is_absolute() else _file((beside or Path()) / path, home.by_hand / path)
    raise WeightsError(
        f"no way to fetch {uri!r}", hint="use hf://, https://, s3://, file:// or a path", code="weights.uri"
    )


def looks_like_weights(head: bytes) -> bool:
    """Whether a file may be a checkpoint, by its first bytes: PyTorch's zip or its older pickle, or safetensors."""
    return head.startswith((b"PK\3\4", b"\x80")) or head[8:9] == b"{"


def sha256_of(path: Path) -> str:
    """Hash of a file. Raises ``WeightsError`` where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}", code="weights.unreadable") from error


def pinned(place: Place, home: ModelHome) -> str | None:
    """Hash recorded at the first load of a uri without a published one."""
    try:
        return json.loads(_pin_file(place, home).read_text())["sha256"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        path = _pin_file(place, home)
        raise WeightsError(f"the pin {path} cannot be read", hint=f"delete {path}", code="weights.pin") from error


def _file(path: Path, carried: Path | None = None) -> Place:
    """A path of the user's own; a relative one may also lie in the mirror, as the cards' folder may be read-only."""
    path = path.resolve()
    if carried and not path.is_file() and carried.is_file():
        path = carried.resolve()
    return Place(key=str(path), name=path.name, local=path)


def _remote(uri: str, home: ModelHome) -> Place:
    parts = urlsplit(uri)
    if parts.scheme != "s3" and not trusted(uri):
        raise WeightsError(f"{uri} is not https", hint="use https://", code="weights.uri")
    below = _inside(PurePosixPath(parts.netloc.replace(":", "_")) / unquote(parts.path).lstrip("/"), uri)
    return Place(key=uri, name=below.name, url=uri, below=str(below), also=(home.by_hand / below,))


def _hugging_face(uri: str, home: ModelHome) -> Place:
    match = _HF.match(uri)
    if not match:
        raise WeightsError(f"{uri} is not hf://owner/repository[@revision]/file", code="weights.uri")
    owner, repo, file = match["owner"], match["repo"], match["file"]
    below = _inside(PurePosixPath(owner, repo, file), uri)
    url = f"{home.hf_endpoint.rstrip('/')}/{owner}/{repo}/resolve/{match['revision'] or 'main'}/{file}"
    also = [home.by_hand / below]
    if home.hf_cache:
        folder = home.hf_cache / f"models--{owner}--{repo}"
        also.append(folder / "snapshots" / (match["revision"] or _head(folder)) / file)
    return Place(key=uri, name=below.name, url=url, below=str(below), also=tuple(also))


def _head(folder: Path) -> str:
    try:
        return (folder / "refs" / "main").read_text().strip()
    except OSError:
        return "main"


def _inside(path: PurePosixPath, uri: str) -> PurePosixPath:
    """Refuse a uri whose path would leave the mirror."""
    if path.is_absolute() or ".." in path.parts or len(path.parts) < 2:  # noqa: PLR2004  a host and a file
        raise WeightsError(f"{uri} does not name a file", code="weights.uri")
    return path


def _lying(place: Place) -> Path | None:
    candidates = (place.local,) if place.local else place.also
    return next((p for p in candidates if p.is_file()), None)


def _cached(place: Place, home: ModelHome, expected: str | None) -> Path | None:
    """The cache's copy, unless it has rotted: then it goes, and is fetched again."""
    if not expected or place.local:
        return None
    path = home.cache / "weights" / expected / place.name
    if not path.is_file():
        return None
    if sha256_of(path) == expected:
        return path
    path.unlink(missing_ok=True)
    return None


def _download(place: Place, home: ModelHome, weights: Weights, watch: Watch | None, check: Check | None) -> Path:
    if place.local:
        raise WeightsError(
            f"there is no file {place.local}", hint=f"put the weights at {place.local}", code="weights.missing"
        )
    if home.offline:
        raise _missing(place, home, weights, "this is offline mode")
    access = Access(
        token=home.hf_token if place.key.startswith("hf://") else "",
        s3_endpoint=home.s3_endpoint,
        s3_anonymous=home.s3_anonymous,
        timeout_s=home.timeout_s,
        max_mb=home.max_mb,
        seconds=home.fetch_s,
        public_only=home.public_only and place.key.startswith("http"),
    )
    try:
        return _into_cache(place, home, weights, lambda target: save(place.url, target, access, watch, check))
    except TooLarge as error:
        raise _missing(place, home, weights, str(error), "weights.size") from error
    except Unavailable as error:
        raise _missing(place, home, weights, str(error)) from error
    except OSError as error:
        raise unwritable(error, home) from error


def _into_cache(place: Place, home: ModelHome, weights: Weights, save_to: Callable[[IO[bytes]], None]) -> Path:
    folder = home.cache / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=PART) as scratch:
        part = Path(scratch) / "part"
        with part.open("w+b") as target:
            save_to(target)
        digest = sha256_of(part)
        _check(place, home, weights, digest)
        final = folder / digest / place.name
        final.parent.mkdir(exist_ok=True)
        os.replace(part, final)  # noqa: PTH105  the name says that it replaces
    return final


def unwritable(error: OSError, home: ModelHome) -> WeightsError:
    """To be raised where the cache cannot be written to (``weights.cache``)."""
    return WeightsError(
        f"models cannot be kept below {home.cache}: {error.strerror or error}",
        hint="make room there, or let SWATHE_DATA_DIR name another folder",
        code="weights.cache",
    )


def _missing(place: Place, home: ModelHome, weights: Weights, why: str, code: str = "weights.missing") -> WeightsError:
    size = f" ({weights.size_mb:g} MB)" if weights.size_mb else ""
    return WeightsError(
        f"the weights {place.key}{size} are not on this machine and cannot be fetched: {why}",
        hint=f"fetch {place.url} and put it at {home.by_hand / place.below}",
        code=code,
    )


def _check(place: Place, home: ModelHome, weights: Weights, digest: str) -> None:
    if weights.sha256 and digest != weights.sha256:
        raise WeightsError(
            f"{place.key} is not what was published: sha256 {digest}, expected {weights.sha256}",
            hint="fetch it again; if the publisher has replaced it, update sha256 in the card",
            field="weights.sha256",
            code="weights.corrupt",
        )
    pin = None if weights.sha256 else pinned(place, home)
    if pin and digest != pin:
        raise WeightsError(
            f"{place.key} has changed since it was first used here: sha256 {digest}, was {pin}",
            hint=f"if that is meant, delete {_pin_file(place, home)}, or write the sha256 into the card",
            field="weights.sha256",
            code="weights.changed",
        )


def _pin_file(place: Place, home: ModelHome) -> Path:
    return home.cache / "pins" / f"{hashlib.sha256(place.key.encode()).hexdigest()}.json"


def _pin(place: Place, home: ModelHome, digest: str) -> None:
    """Record a first sight. Whoever comes second finds the pin of the first, and is checked against it."""
    path = _pin_file(place, home)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"uri": place.key, "sha256": digest, "seen": datetime.now(UTC).isoformat(timespec="seconds")})
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".pin-") as scratch:
        whole = Path(scratch) / "pin"
        whole.write_text(text + "\n")
        try:
            path.hardlink_to(whole)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links
            shutil.move(whole, path)
