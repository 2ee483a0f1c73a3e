"""Which addresses may be read: decided on the text here, and on the number a name stands for in ``gate.py``."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote, urlsplit

from pipelines.remote.network import Network
from swathe.errors import ImageryError
from swathe.imagery import is_remote, shown

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address
Origin = tuple[str, str, int]
PORTS = {"http": 80, "https": 443}
_LONGEST = 16_384
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+._-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\\]")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_NUMBER = re.compile(r"(?:\d+|0x[0-9a-f]*)\.?")
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
_VSI = re.compile(r"/*vsi", re.IGNORECASE)
_ALLOWED = "!#$%&'()*+,/:;=?@[]~-._"


@dataclass(frozen=True, slots=True)
class Web:
    """Something that is asked for by HTTP."""

    url: str
    """Ready to be sent; without a fragment."""
    origin: Origin
    """(scheme, host, port): what credentials are good for."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An object in S3."""

    bucket: str
    key: str
    """As it is, not percent-encoded."""
    query: str = ""
    """Of a list of objects below ``key``, percent-encoded; empty: the object is meant."""


@dataclass(frozen=True, slots=True)
class Local:
    """A file of this machine."""

    path: Path
    """Absolute, with all links followed."""


def look_at(href: str, network: Network) -> Web | Stored | Local:
    """What an address means, if it may be read.

    Raises ImageryError: ``url.scheme``, ``.host``, ``.private``, ``.userinfo``, ``.local``, ``.malformed``.
    """
    if not href or len(href) > _LONGEST or _CONTROL.search(href) or href != href.strip():
        why = "is empty, too long, or holds control characters, backslashes or blanks at its ends"
        _refuse("malformed", href, why, "give it as it was published")
    scheme = _SCHEME.match(href)
    if scheme is None:
        return _local(href, network.local_root)
    if not is_remote(href):
        hint = "http://, https://, s3:// and paths of files are read"
        raise ImageryError(f"an address of the kind {scheme[1]}: is not read", code="url.scheme", hint=hint)
    if scheme[1].lower() == "s3":
        if network.buckets is not None and scheme[1] != "s3":  # whoever compares addresses compares them as they stand
            _refuse("scheme", href, "is not written as others are", "write s3:// in small letters")
        expect_open(href, network)
        return _stored(href)
    return web(href, allow_private=network.allow_private)


def web(href: str, *, allow_private: bool) -> Web:
    """The same for http and https alone, as for redirects."""
    if _CONTROL.search(href) or len(href) > _LONGEST or not href.lower().startswith(("http://", "https://")):
        _refuse("scheme", href, "is no address of http or https", "ask the provider for a plain link")
    try:
        parts = urlsplit(href)
        scheme, host, port = parts.scheme.lower(), (parts.hostname or "").lower(), parts.port
    except ValueError:
        _refuse("malformed", href, "is no address", "give it as it was published")
    if "@" in parts.netloc:
        hint = "remove user and password; credentials belong into the environment and a source's auth block"
        _refuse("userinfo", href, "carries a user or a password", hint)
    literal = _number_of(host, href)
    if literal is not None:
        check_ip(literal, host, allow_private=allow_private)
    if port == 0:
        _refuse("host", href, "names port 0", "give a port from 1 to 65535")
    place = f"[{host}]" if ":" in host else host
    path = parts.path if parts.path.startswith("/") else f"/{parts.path}"
    rest = quote(f"{path}?{parts.query}" if parts.query else path, safe=_ALLOWED)
    url = f"{scheme}://{place}{f':{port}' if port and port != PORTS[scheme] else ''}{rest}"
    return Web(url, (scheme, host, port or PORTS[scheme]))


def _number_of(host: str, href: str) -> Ip | None:
    """The IP address that a host is; None for a name. Other spellings of numbers than the usual one are refused."""
    try:
        return ipaddress.ip_address(host) if "%" not in host else _odd(href)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2]
        if len(host) > 253 or not _NAME.fullmatch(host) or _NUMBER.fullmatch(last):  # noqa: PLR2004  RFC 1035
            _odd(href)
        return None


def _odd(href: str) -> NoReturn:
    _refuse("host", href, "has no usual name of a host", "give the host's plain name (xn--… for other alphabets)")


# --- numbers --------------------------------------------------------------------------------------------------------

_NEVER = [
    ipaddress.ip_network(text)
    for text in (
        "168.63.129.16/32",  # Azure's own services, on a public number
        "169.254.0.0/16", "fe80::/10",  # link-local: the clouds' metadata
        "100.100.100.200/32", "192.0.0.0/24", "fd00:ec2::/32",  # more of those
        "192.88.99.0/24", "2002::/16", "2001::/32", "64:ff9b:1::/48",  # tunnels: they end where one cannot see
        "::/96", "fec0::/10", "0.0.0.0/8", "240.0.0.0/4",
    )
]  # fmt: skip
_HERE = [ipaddress.ip_address(text) for text in ("0.0.0.0", "::", "::1")]  # noqa: S104  to be recognised
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_GLOBAL = ipaddress.ip_network("2000::/3")


def check_ip(ip: Ip, host: str, *, allow_private: bool) -> None:
    """Raises ImageryError (``url.private``) for a number that is not to be talked to."""
    kind = reach_of(ip)
    if kind == "public" or (kind == "private" and allow_private):
        return
    if kind == "private":
        hint = "imagery is read from public addresses; SWATHE_ALLOW_PRIVATE_URLS=true opens one's own network"
        raise ImageryError(f"{host} is on a private network", code="url.private", hint=hint)
    hint = "give the address of a server of imagery"
    raise ImageryError(f"{host} is an address that is never read from", code="url.private", hint=hint)


def reach_of(ip: Ip) -> str:
    """``public``, ``private`` (one's own machine or network), or ``never`` (link-local, metadata, tunnels, groups)."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return reach_of(ip.ipv4_mapped)
        if ip in _NAT64:
            return reach_of(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    if ip in _HERE:
        return "private"
    if ip.is_multicast or any(ip.version == net.version and ip in net for net in _NEVER):
        return "never"
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL:
        return "private" if ip.is_private else "never"
    return "public" if ip.is_global else "private"


# --- objects and files ----------------------------------------------------------------------------------------------


def expect_open(href: str, network: Network) -> None:
    """Raises ImageryError (``url.private``) for what lies in a closed place, however scheme and bucket are written."""
    if network.closed and _plain(f"{href}/").startswith(f"{_plain(network.closed.rstrip('/'))}/"):
        hint = "name what lies there as an upload or an item"
        raise ImageryError("this address belongs to the service", code="url.private", hint=hint)


def _plain(address: str) -> str:
    """With what servers read alike written alike: the scheme and the bucket, which may be part of a host's name."""
    scheme, mark, rest = address.partition("://")
    bucket, slash, key = rest.partition("/")
    return f"{scheme.lower()}{mark}{bucket.lower()}{slash}{key}" if mark else address


def _stored(href: str) -> Stored:
    bucket, _, key = href[len("s3://") :].partition("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket:
        _refuse("host", href, "names no bucket", "s3://bucket/key")
    if not key or {".", "..", ""} & set(key.split("/")) or "?" in key or "#" in key:
        _refuse("malformed", href, "names no object that is read", "s3://bucket/key, without ?, #, .. and //")
    return Stored(bucket, key)


def _local(href: str, root: Path | None) -> Local:
    """``root`` is compared after all links were followed, so that none leads out of it."""
    if _VSI.match(os.path.normpath(href)):
        _refuse("scheme", href, "is a path of GDAL's own", "give the address itself, without /vsi…")
    try:
        path = Path(href).resolve()
    except (OSError, RuntimeError, ValueError):
        _refuse("malformed", href, "is no path", "check the name")
    if root is not None and not path.is_relative_to(root.resolve()):
        raise ImageryError("files of this machine are not read", code="url.local", hint="give an address, or upload it")
    return Local(path)


def _refuse(code: str, href: str, why: str, hint: str) -> NoReturn:
    """Shows no more of a strange address than is safe: a secret may be anywhere in it."""
    plain = len(href) <= 400 and href.isprintable() and "@" not in href  # noqa: PLR2004  a line or two
    raise ImageryError(f"{shown(href) if plain and href else 'the address'} {why}", code=f"url.{code}", hint=hint)
