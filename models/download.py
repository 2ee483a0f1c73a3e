"""Bytes from https and s3, in chunks and within bounds; every way in which they may not come becomes one exception."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from models.metered import Broken, Check, Meter, Unavailable, metered

CHUNK = 1 << 20
ATTEMPTS = 3
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Chunks = Generator[tuple[bytes, int | None], None, None]
"""Bytes as they come, each time with how many there are in all (None: unknown)."""
Watch = Callable[[int, int | None], None]
"""Called with the bytes so far and the bytes in all (None: unknown)."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a source may want to know of us."""

    token: str = ""
    """Bearer token; not sent on to another host."""
    s3_endpoint: str = ""
    """Empty: AWS."""
    s3_anonymous: bool = False
    """Ask without credentials."""
    timeout_s: float = 30.0
    """Of a connection and of each read; a transfer that brings less than 1 kB/s for so long counts as broken."""
    max_mb: float | None = None
    """That are taken; None: however many there are."""
    seconds: float | None = None
    """Within which all has to be here, however often it was begun; None: as long as bytes come."""
    public_only: bool = False
    """Whether hosts must be of the public network, whatever their names say: for addresses that strangers give."""


def trusted(url: str) -> bool:
    """Whether a URL is encrypted or stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def _here(url: str) -> bool:
    return urlsplit(url).hostname in LOOPBACK


class _SafeRedirects(HTTPRedirectHandler):
    """Follows redirects, but never to something anyone could read or change, nor from elsewhere to this machine."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if not trusted(newurl):
            raise Unavailable(f"{req.full_url} redirects to {newurl}, which is not https")
        if _here(newurl) and not _here(req.full_url):
            raise Unavailable(f"{req.full_url} redirects to {newurl}, which is this machine")
        fp.close()  # what it says beside would be read whole, into memory
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _PublicConnection(HTTPSConnection):
    """The name is resolved once, its numbers are looked at, and one of those is connected to."""

    def connect(self) -> None:
        """See ``HTTPConnection``; a proxy (``_tunnel_host``) is our own choice, and resolves names itself."""
        if not self._tunnel_host:  # pyright: ignore[reportAttributeAccessIssue]  of http.client, for its subclasses
            self._create_connection = _public_socket
        super().connect()


def _public_socket(place: tuple[str, int], *timing: Any) -> socket.socket:
    host, port = place
    numbers = [info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not all(ipaddress.ip_address(str(number).partition("%")[0]).is_global for number in numbers):
        raise Unavailable(f"{host} is no host of the public network")
    return socket.create_connection((str(numbers[0]), port), *timing)


class _Http(HTTPHandler):
    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self._meter = meter

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(metered(HTTPConnection, self._meter), req)  # pyright: ignore[reportReturnType]


class _Https(HTTPSHandler):
    def __init__(self, meter: Meter, *, public_only: bool) -> None:
        super().__init__()
        self._meter, self._kind = meter, _PublicConnection if public_only else HTTPSConnection

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(metered(self._kind, self._meter), req)  # pyright: ignore[reportReturnType]


def save(url: str, target: IO[bytes], access: Access, watch: Watch | None = None, check: Check | None = None) -> None:
    """Write what lies at ``url`` (https, http on this machine, s3) into ``target``; a broken transfer is begun again.

    Raises ``Unavailable`` with the reason (``TooLarge``), and what ``check`` raises, which is asked while bytes come.
    """
    meter = Meter(access.timeout_s, access.max_mb, access.seconds, check)
    for attempt in range(ATTEMPTS):
        try:
            target.seek(0)
            target.truncate()
            meter.begin()
            _pour(url, target, access, meter, watch)
        except Broken as broken:
            if attempt + 1 == ATTEMPTS:
                raise Unavailable(str(broken)) from broken
            time.sleep(0.5 * 2**attempt)
        else:
            return


def _pour(url: str, target: IO[bytes], access: Access, meter: Meter, watch: Watch | None) -> None:
    done = 0
    with closing(_s3(url, access, meter) if url.startswith("s3://") else _http(url, access, meter)) as chunks:
        for chunk, total in chunks:
            done += len(chunk)
            meter.expect(max(done, total or 0))
            target.write(chunk)
            if watch:
                watch(done, total)


def _http(url: str, access: Access, meter: Meter) -> Chunks:
    if not trusted(url):
        raise Unavailable(f"{url} is not https")
    if access.public_only and _here(url):
        raise Unavailable(f"{url} is this machine")
    request = Request(url, headers={"User-Agent": "swathe"})  # noqa: S310  trusted() has looked at the scheme
    if access.token:
        request.add_unredirected_header("Authorization", f"Bearer {access.token}")
    try:
        opener = build_opener(_SafeRedirects, _Http(meter), _Https(meter, public_only=access.public_only))
        with opener.open(request, timeout=access.timeout_s) as answer:
            yield from _body(url, answer)
    except HTTPError as error:
        kind = Broken if error.code in TRANSIENT else Unavailable
        raise kind(_refusal(url, error.code)) from error
    except (URLError, TimeoutError) as error:
        reason = getattr(error, "reason", None) or error
        raise Unavailable(f"{urlsplit(url).hostname} cannot be reached ({reason})") from error
    except (OSError, HTTPException) as error:
        raise Broken(f"the transfer of {url} broke ({error})") from error


def _body(url: str, answer: HTTPResponse) -> Chunks:
    """As it comes: whoever waited for a whole chunk would not see how slowly."""
    if answer.headers.get_content_type() == "text/html":
        raise Unavailable(f"{url} answers with a web page, not with a file")
    total, done = answer.length, 0
    while (total is None or done < total) and (chunk := answer.read1(CHUNK)):
        done += len(chunk)
        yield chunk, total
    # http.client ends a body that breaks off without an error.
    if total is not None and done < total:
        raise Broken(f"{url} broke off after {done} of {total} bytes")


def _refusal(url: str, status: int) -> str:
    if status in {401, 403}:
        return f"{url} wants a token, or that its licence is accepted on its page first (HTTP {status})"
    return f"{url} answers HTTP {status}"


def _s3(url: str, access: Access, meter: Meter) -> Chunks:
    import s3fs
    from botocore.exceptions import BotoCoreError, ClientError

    options = {"connect_timeout": access.timeout_s, "read_timeout": access.timeout_s, "retries": {"max_attempts": 2}}
    try:
        store = s3fs.S3FileSystem(
            anon=access.s3_anonymous,
            endpoint_url=access.s3_endpoint or None,
            config_kwargs=options,
            skip_instance_cache=True,
        )
        began = time.monotonic()
        body: Any = store.open(url, "rb", block_size=8 * CHUNK, cache_type="readahead")
        with body:
            while chunk := body.read(CHUNK):
                meter.took(len(chunk), time.monotonic() - began)
                yield chunk, body.size
                began = time.monotonic()
    except FileNotFoundError as error:
        raise Unavailable(f"there is no {url}") from error
    except (OSError, BotoCoreError, ClientError) as error:
        raise Unavailable(f"{url} cannot be read ({error})") from error
