"""A rectangle of pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """Rows ``row .. row + height`` and columns ``col .. col + width`` of some grid; may lie outside it."""

    row: int
    """First row."""
    col: int
    """First column."""
    height: int
    """Rows."""
    width: int
    """Columns."""

    def __post_init__(self) -> None:
        """Refuse rectangles without pixels."""
        if self.height <= 0 or self.width <= 0:
            msg = f"a window has pixels: {self}"
            raise ValueError(msg)

    @property
    def bottom(self) -> int:
        """One past the last row."""
        return self.row + self.height

    @property
    def right(self) -> int:
        """One past the last column."""
        return self.col + self.width

    @property
    def area(self) -> int:
        """Pixels."""
        return self.height * self.width

    def intersection(self, other: Window) -> Window | None:
        """The shared rectangle, or None."""
        row, col = max(self.row, other.row), max(self.col, other.col)
        bottom, right = min(self.bottom, other.bottom), min(self.right, other.right)
        if bottom <= row or right <= col:
            return None
        return Window(row, col, bottom - row, right - col)

    def shifted(self, rows: int, cols: int) -> Window:
        """The same rectangle, seen from an origin that lies ``-rows, -cols`` away."""
        return Window(self.row + rows, self.col + cols, self.height, self.width)

    def within(self, outer: Window) -> tuple[slice, slice]:
        """Slices that cut this window out of an array that holds ``outer``."""
        row, col = self.row - outer.row, self.col - outer.col
        return slice(row, row + self.height), slice(col, col + self.width)

    def split(self, side: int) -> Iterator[Window]:
        """Cut into squares of ``side`` (smaller at the far edges), row by row, counted from this window's corner."""
        for row in range(self.row, self.bottom, side):
            for col in range(self.col, self.right, side):
                yield Window(row, col, min(side, self.bottom - row), min(side, self.right - col))
