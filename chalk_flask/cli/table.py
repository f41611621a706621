"""Tables of commands: rendered by rich on a terminal, and one plain line for each row elsewhere."""

from __future__ import annotations

import io
import re
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

__all__ = ["format_table"]

_NUMBER = re.compile(r"[0-9,]+|-")
"""Cell of a column of numbers. A hyphen stands for a missing number."""

_GAP: Final = (0, 2, 0, 0)
"""Padding of a cell: two blanks after it."""

_STATE_STYLES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("active", "committed", "delivered"), "green"),
    **dict.fromkeys(("held", "paused", "pending"), "yellow"),
    **dict.fromkeys(("disabled", "expired", "failed", "refused", "rejected", "revoked"), "red"),
}
"""Colors of words that are a whole cell."""


def format_table(head: Sequence[str], rows: Iterable[Sequence[str]], width: int | None = None) -> str:
    """Return a table. Each column is as wide as its widest cell, and numbers are aligned at their end.

    If a line would be longer than `width`, the result has a line for each cell, and a blank line between rows. The
    default is the width of the terminal. On a terminal, the head is bold and states have colors, unless NO_COLOR is
    set. If stdout is no terminal and there is no `width`, scripts get one line of text for each row.
    """
    cells = [*rows]
    if not cells or (width is None and not sys.stdout.isatty()):
        return _plain_table(head, cells)
    from rich.console import Console  # its modules take time to import

    console = Console(
        file=io.StringIO(),
        width=width or shutil.get_terminal_size().columns,
        force_terminal=sys.stdout.isatty(),
        highlight=False,
    )
    table = _table(head, cells)
    if console.measure(table, options=console.options.update_width(sys.maxsize)).maximum > console.width:
        return "\n\n".join(_render(console, _block(head, row)) for row in cells)
    return _render(console, table)


def _plain_table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    align = [str.rjust if is_numeric else str.ljust for is_numeric in _numeric_columns(head, cells)]
    return "\n".join(
        "  ".join(pad(cell, size) for pad, cell, size in zip(align, line, widths, strict=True)).rstrip()
        for line in (head, *cells)
    )


def _table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=_GAP, pad_edge=False, header_style="bold")
    for name, is_numeric in zip(head, _numeric_columns(head, cells), strict=True):
        table.add_column(Text(name), justify="right" if is_numeric else "left", no_wrap=True)
    for row in cells:
        table.add_row(*(Text(cell, _STATE_STYLES.get(cell, "")) for cell in row))
    return table


def _block(head: Sequence[str], row: Sequence[str]) -> Table:
    """Return a row as a line for each cell that is not empty. Long cells go on in the next line."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=_GAP)
    grid.add_column(style="bold", no_wrap=True, min_width=max(map(len, head)))
    grid.add_column(overflow="fold")
    for name, cell in zip(head, row, strict=True):
        if name or cell:
            grid.add_row(Text(name), Text(cell, _STATE_STYLES.get(cell, "")))
    return grid


def _render(console: Console, renderable: RenderableType) -> str:
    with console.capture() as capture:
        console.print(renderable)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def _numeric_columns(head: Sequence[str], cells: Sequence[Sequence[str]]) -> Sequence[bool]:
    """Return True for each column that has numbers only."""
    columns = [*zip(*cells, strict=True)] or [()] * len(head)
    return [all(map(_NUMBER.fullmatch, column)) and any(cell != "-" for cell in column) for column in columns]
