"""Whether something answers at an address, asked in the cheapest way: one TCP connection, one HTTP GET."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from typing import Any

LOOPBACK = "127.0.0.1"
_LOOPBACK_NAMES = frozenset({LOOPBACK, "localhost", "::1", "[::1]"})


def split(address: str) -> tuple[str, int] | None:
    """``host:port`` as (host, port); None where it is not of that form."""
    host, colon, port = address.rpartition(":")
    return (host, int(port)) if colon and host and port.isdigit() and int(port) < 1 << 16 else None


def same(a: str, b: str) -> bool:
    """Whether two ``host:port`` are one; all names of the loopback interface are the same host."""
    return _canonical(a) == _canonical(b)


def answers(address: str, timeout: float = 3) -> bool:
    """Whether a TCP connection to ``host:port`` is accepted within ``timeout`` seconds."""
    target = split(address)
    if target is None:
        return False
    try:
        with socket.create_connection((target[0].strip("[]"), target[1]), timeout=timeout):
            return True
    except OSError:
        return False


def free_port(host: str = LOOPBACK, preferred: int = 0) -> int:
    """A port nobody listens on: ``preferred`` where it is free, else one that the kernel picks."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    msg = f"no free port on {host}"
    raise OSError(msg)


def is_loopback(address: str) -> bool:
    """Whether ``host:port`` names this machine's loopback interface."""
    parts = split(address)
    return parts is not None and parts[0] in _LOOPBACK_NAMES


def outward_host() -> str:
    """This machine's address on the network, as Ray finds it; the loopback's where there is no network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("8.8.8.8", 53))  # no packet is sent: this only asks the routing table
        except OSError:
            return LOOPBACK
        return str(probe.getsockname()[0])


def get_json(url: str, token: str | None = None, timeout: float = 5) -> tuple[int, Any]:
    """HTTP status and decoded body of a GET; (0, None) where nothing answers, None where the body is no JSON."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as answer:  # noqa: S310  http(s) only: checked by Dashboard
            return answer.status, _decoded(answer.read())
    except urllib.error.HTTPError as refused:
        return refused.code, None
    except (OSError, ValueError):
        return 0, None


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _canonical(address: str) -> tuple[str, int] | str:
    parts = split(address)
    return address if parts is None else (LOOPBACK if parts[0] in _LOOPBACK_NAMES else parts[0], parts[1])
