"""The environment variables of Ray's processes: Ray has no other way to be told these things."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

AuthMode = Literal["disabled", "token"]

ALWAYS = {
    # Workers are the environment that is installed; Ray would have each of them build its own by `uv run`.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # A dataset's plan and progress go to its log file; a terminal shows our bar.
    "RAY_DATA_LOG_LEVEL": "ERROR",
    # 3 s are not enough to finish the chunk in hand and its receipt.
    "RAY_JOB_STOP_WAIT_TIME_S": "30",
    # Ray's own threads take all sixteen of glibc's arenas. The threads of a chunk end with it and those of the next
    # take others, so that a worker grew by some 20 MB a chunk; with two arenas it does not. It is read at the start.
    "MALLOC_ARENA_MAX": "2",
}
LOOPBACK_ONLY = {
    # Ray's switch for macOS and Windows, of use everywhere: the node's address is 127.0.0.1 and every port listens
    # there alone. Without it Ray on Linux listens on all interfaces, and whoever reaches it can run code.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
_READ_AT_IMPORT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "ENABLE_RAY_CLUSTER",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "RAY_ENABLE_UV_RUN_RUNTIME_ENV",
}
"""Variable -> Ray's constant."""


def variables(
    more: Mapping[str, str], *, loopback: bool, auth: AuthMode | None = None, token_file: Path | None = None
) -> dict[str, str]:
    """What Ray's processes, and this one before it imports Ray, must have set; ``more`` wins over our defaults."""
    found = ALWAYS | dict(more) | (LOOPBACK_ONLY if loopback else {})
    if auth is not None:
        found["RAY_AUTH_MODE"] = auth
    if auth == "token" and token_file is not None:
        found["RAY_AUTH_TOKEN_PATH"] = str(token_file)
    return found


@contextmanager
def applied(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables for a while; on leaving, each is what it was."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        with _told_a_loaded_ray(values):
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def hushed(log: Path) -> Iterator[None]:
    """Keep Ray's native code from writing to the terminal while it starts, and quiet this process's share later.

    Its start-up lines go to ``log``; Python's own ``sys.stderr`` still reaches the terminal. ``putenv`` behind
    Python's back is on purpose: this process's native code reads it, and the children, who are given
    ``os.environ``, keep their full logs.
    """
    if sys.stderr is None or not _has_descriptor():
        yield
        return
    shown, kept = sys.stderr, os.dup(2)
    ours = "RAY_BACKEND_LOG_LEVEL" not in os.environ
    if ours:
        os.putenv("RAY_BACKEND_LOG_LEVEL", "fatal")
    with log.open("ab") as sink, os.fdopen(os.dup(2), "w", buffering=1) as terminal:
        os.dup2(sink.fileno(), 2)
        if shown.fileno() == 2:  # noqa: PLR2004  descriptor 2 is standard error
            sys.stderr = terminal
        try:
            yield
        finally:
            sys.stderr = shown
            os.dup2(kept, 2)
            os.close(kept)
            if ours:
                os.unsetenv("RAY_BACKEND_LOG_LEVEL")


def _has_descriptor() -> bool:
    with suppress(OSError, ValueError, AttributeError):
        return sys.stderr.fileno() >= 0
    return False


@contextmanager
def _told_a_loaded_ray(values: Mapping[str, str]) -> Iterator[None]:
    """Ray reads some variables when it is imported; where it is already, its constants must follow."""
    constants: Any = sys.modules.get("ray._private.ray_constants")
    wanted = {c for name, c in _READ_AT_IMPORT.items() if values.get(name) == "0"} if constants else set()
    before = {c: getattr(constants, c) for c in wanted}
    for constant in wanted:
        setattr(constants, constant, False)
    try:
        yield
    finally:
        for constant, value in before.items():
            setattr(constants, constant, value)
