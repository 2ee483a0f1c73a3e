"""CORS outside of everything else, so that a page of another site reads refusals and faults as well."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp


class CorsFastAPI(FastAPI):
    """An application that pages of other sites may use.

    Faults are answered outside of all middleware that an application is given; a browser would keep that answer from
    the page, which could not even tell its status.
    """

    def __init__(self, cors: Mapping[str, Any], **more: Any) -> None:
        """``cors``: as for ``CORSMiddleware``; without ``allow_origins`` no site may. ``more``: as for FastAPI."""
        super().__init__(**more)
        self._cors = cors

    def build_middleware_stack(self) -> ASGIApp:
        """That of any application, inside of CORS."""
        stack = super().build_middleware_stack()
        return CORSMiddleware(stack, **self._cors) if self._cors["allow_origins"] else stack
