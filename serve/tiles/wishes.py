"""Requests in the manner of OGC's older services: parameters whose names know no case, and what is wrong with them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

_COLOUR = re.compile(r"(?:0x|#)?([0-9a-fA-F]{6})")


class Refused(Exception):  # noqa: N818  an answer in these services' own form
    """A request that cannot be met, in the words of the service."""

    def __init__(self, code: str, text: str, locator: str = "") -> None:
        """``code``: of the standard; may be empty. ``locator``: the parameter at fault."""
        super().__init__(text)
        self.code, self.text, self.locator = code, text, locator


class Wish:
    """The parameters of one request; of those that come twice the last one counts."""

    def __init__(self, asked: Iterable[tuple[str, str]]) -> None:
        """Name and value, as they were sent."""
        self._said = {name.upper(): value for name, value in asked}

    def text(self, name: str, otherwise: str | None = None) -> str:
        """One of them. Raises Refused where it is missing and there is no other way."""
        found = self._said.get(name)
        if not found and otherwise is None:
            raise Refused("MissingParameterValue", f"{name} is missing", name)
        return found or otherwise or ""

    def listed(self, name: str, otherwise: str | None = None) -> list[str]:
        """Divided by commas."""
        return [part.strip() for part in self.text(name, otherwise).split(",")]

    def whole(self, name: str, least: int, most: int) -> int:
        """A whole number. Raises Refused beyond its bounds."""
        text = self.text(name)
        if not (text.isascii() and text.lstrip("-").isdigit() and len(text) < 12):  # noqa: PLR2004  digits
            raise Refused("InvalidParameterValue", f"{name} is no whole number: {text[:40]!r}", name)
        if not least <= int(text) <= most:
            raise Refused("InvalidParameterValue", f"{name} is {text}; it may be {least} to {most}", name)
        return int(text)

    def numbers(self, name: str, count: int) -> list[float]:
        """So many finite numbers, divided by commas."""
        parts = self.listed(name)
        try:
            found = [float(part) for part in parts]
        except ValueError:
            found = []
        if len(found) != count or not all(math.isfinite(n) and abs(n) < 1e9 for n in found):  # noqa: PLR2004  metres
            raise Refused("InvalidParameterValue", f"{name} is not {count} numbers with commas between them", name)
        return found

    def colour(self, name: str, otherwise: str) -> tuple[int, int, int]:
        """0xRRGGBB."""
        match = _COLOUR.fullmatch(self.text(name, otherwise))
        if match is None:
            raise Refused("InvalidParameterValue", f"{name} is no colour; write it as 0xRRGGBB", name)
        red, green, blue = bytes.fromhex(match[1])
        return red, green, blue

    def truth(self, name: str) -> bool:
        """TRUE, or anything else."""
        return self.text(name, "FALSE").upper() == "TRUE"
