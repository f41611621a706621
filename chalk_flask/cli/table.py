"""Tables of text for a terminal."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterable, Sequence

__all__ = ["format_table"]

_NUMBER = re.compile(r"[0-9,]+|-")
"""Cell of a column of numbers. A hyphen stands for a missing number."""


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """Return a table. Each column is as wide as its widest cell, and numbers are aligned at their end.

    If a line would be longer than `width` characters, the result has a line for each cell, and a blank line between
    rows. The default is the width of the terminal. If stdout is no terminal, there is no limit, so that scripts get one
    line for each row.
    """
    cells = [*rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    if sum(widths) + 2 * (len(widths) - 1) > (width or _terminal_width()) and cells:
        return "\n\n".join(_format_block(head, row) for row in cells)
    align = [str.rjust if _is_numeric(column) else str.ljust for column in zip(*cells, strict=True)]
    align = align or [str.ljust] * len(head)
    return "\n".join(
        "  ".join(pad(cell, size) for pad, cell, size in zip(align, line, widths, strict=True)).rstrip()
        for line in (head, *cells)
    )


def _is_numeric(column: Sequence[str]) -> bool:
    return all(map(_NUMBER.fullmatch, column)) and any(cell != "-" for cell in column)


def _format_block(head: Sequence[str], row: Sequence[str]) -> str:
    width = max(map(len, head))
    return "\n".join(f"{name:{width}}  {cell}".rstrip() for name, cell in zip(head, row, strict=True) if name or cell)


def _terminal_width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
