"""Routes that know who asks before they read a body, and read JSON more strictly than Python does.

What no database stores is refused at the door.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, ClassVar, NoReturn

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from serve.api.callers import presented, recognised
from serve.api.service import here

DEEPEST = 64
"""Levels of lists and objects in one another."""


class StrictRequest(Request):
    """With another ``json``."""

    async def json(self) -> Any:
        """Raises JSONDecodeError."""
        if not hasattr(self, "_json"):
            self._json = parsed(await self.body())
        return self._json


class StrictRoute(APIRoute):
    """For callers alone; gives its endpoint such requests."""

    counted: ClassVar[str] = "request"
    """Kind of request, for the limit of its rate."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI's own."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            request.state.caller = await recognised(request, here(request), presented(request), self.counted)
            return await handle(StrictRequest(request.scope, request.receive))

        return strictly


class TileRoute(StrictRoute):
    """For what maps ask for by the dozen."""

    counted = "tile"


def parsed(body: bytes) -> Any:
    """Standard JSON in UTF-8: no NaN, no Infinity, no NUL in texts, no half of a character, and not too deep.

    Raises JSONDecodeError.
    """
    try:
        found = json.loads(body, parse_constant=_constant, parse_float=_number)
        _expect_shallow(found)
        if b"\\u" in body:
            _expect_text(json.dumps(found, ensure_ascii=False))
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise _no_json("it is nested too deeply") from None
    except ValueError as error:  # numbers of thousands of digits, bytes that are no UTF-8
        raise _no_json(str(error)[:200]) from None
    return found


def _expect_shallow(found: Any) -> None:
    """What is answered is written by another library, which goes 255 levels deep; GeoJSON has eight."""
    level = [found]
    for _ in range(DEEPEST):
        level = [inner for one in level for inner in _inside(one) if isinstance(inner, dict | list)]
        if not level:
            return
    raise _no_json(f"it is nested more than {DEEPEST} levels deep")


def _inside(one: Any) -> Iterable[Any]:
    if isinstance(one, dict):
        return one.values()
    return one if isinstance(one, list) else ()


def _number(text: str) -> float:
    found = float(text)
    if math.isinf(found):
        raise _no_json(f"{text[:40]} is too large a number")
    return found


def _expect_text(text: str) -> None:
    text.encode()
    if "\\u0000" in text or "\0" in text:
        raise _no_json("texts cannot contain NUL")


def _constant(name: str) -> NoReturn:
    raise _no_json(f"{name} is no JSON number")


def _no_json(why: str) -> json.JSONDecodeError:
    return json.JSONDecodeError(why, "", 0)
