"""Tables of text for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["format_table"]


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. Each column is as wide as its widest cell; the last column is not padded."""
    lines = [head, *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(line[:-1], widths, strict=False)), line[-1]])
        for line in lines
    )
