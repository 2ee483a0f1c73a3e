"""APIs in other services' words: every package below ``serve/dialects`` that the settings do not switch off.

A dialect is a package with a module ``app`` and in it ``mount(app, service)``; nothing else is known of it here. It
speaks to the desk and to this room's machinery (callers, rates, streams), never to another dialect.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from serve import dialects

if TYPE_CHECKING:
    from fastapi import FastAPI

    from serve.api.service import Service


def names() -> tuple[str, ...]:
    """Names of all dialects that there are."""
    return tuple(sorted(found.name for found in iter_modules(dialects.__path__) if found.ispkg))


def mount_dialects(app: FastAPI, service: Service) -> None:
    """Mount the dialects that the settings want into the application."""
    wanted = service.desk.settings.limits.dialects
    for name in names():
        if any(fnmatchcase(name, pattern) for pattern in wanted):
            import_module(f"{dialects.__name__}.{name}.app").mount(app, service)
