"""What is wrong with a NetCDF file, as the program in the sandbox says it."""

from __future__ import annotations


class Fault(Exception):  # noqa: N818  no error of ours yet
    """One thing that is wrong; whoever started the program knows the code, its error and its hint."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


def named(name: str) -> str:
    """A name of a stranger, for a message."""
    return repr(name if len(name) < 60 else f"{name[:57]}…")  # noqa: PLR2004  fits on a line
