"""Which service is meant, from the environment: the only place of the client that reads it."""

from __future__ import annotations

import os


def address_and_key() -> tuple[str | None, str | None]:
    """``SWATHE_URL`` and ``SWATHE_KEY``; None where they are not set."""
    return os.environ.get("SWATHE_URL") or None, os.environ.get("SWATHE_KEY") or None
