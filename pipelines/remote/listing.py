"""The objects below a prefix of S3, page by page: ListObjectsV2, signed like every other request."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote_plus
from xml.etree import ElementTree as ET

from pipelines.remote.address import Stored, look_at
from pipelines.remote.network import Network
from swathe.errors import ImageryError, ReadError

MOST = 10_000
"""Objects of a folder that are taken; more are no folder of imagery for one run."""
_DOCTYPE = re.compile(rb"<!DOCTYPE", re.IGNORECASE)
"""S3 sends none."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One page."""

    keys: tuple[str, ...]
    """Of the objects right below the prefix."""
    token: str
    """Where the next page begins; empty: there is none."""


def first_page(href: str, network: Network) -> Stored:
    """What is asked for first; ``href`` is ``s3://bucket/``, or ``s3://bucket/prefix/``.

    Raises ImageryError (``url.*``), as for an object that lay there.
    """
    place = look_at(f"{href.rstrip('/')}/_", network)
    if not isinstance(place, Stored):  # callers looked at the scheme
        raise ImageryError("this is no place of S3", code="url.scheme", hint="s3://bucket/prefix/")
    prefix = place.key[:-1]
    return replace(place, key=prefix, query=f"delimiter=%2F&encoding-type=url&list-type=2&prefix={_quoted(prefix)}")


def page_after(place: Stored, token: str) -> Stored:
    """The page that a token leads to."""
    query = re.sub(r"continuation-token=[^&]*&", "", place.query)
    return replace(place, query=f"continuation-token={_quoted(token)}&{query}")


def parsed(document: bytes, href: str) -> Listed:
    """Raises ReadError (``read.malformed``)."""
    try:
        # A DOCTYPE, the place of entities, is refused by being no document at all.
        root = ET.fromstring(b"" if _DOCTYPE.search(document) else document)  # noqa: S314
    except ET.ParseError:
        hint = "check the address, and AWS_ENDPOINT_URL"
        raise ReadError(f"what {href} holds was not told as S3 does", code="read.malformed", hint=hint) from None
    space = root.tag.rpartition("}")[0] + "}" if "}" in root.tag else ""
    keys = (unquote_plus(e.text or "") for e in root.iterfind(f"{space}Contents/{space}Key"))
    more = root.findtext(f"{space}IsTruncated") == "true"
    return Listed(tuple(keys), root.findtext(f"{space}NextContinuationToken", "") if more else "")


def _quoted(text: str) -> str:
    return quote(text, safe="-._~")
